//! Looking things up: a receipt, a record.
//!
//! Every answer is one statement, and so one snapshot; every record in it was checked against its checksum. A record must
//! be in exactly one state; one that is in none, or in two, is reported as damage and not passed over. One that was deleted
//! is not there any more, and nobody can tell whose receipt it had.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Shared;
use super::cluster::is_in_doubt;
use super::error::Fault;
use super::record::{COLUMNS, FROM, WIDTH, read};
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::receipt_id::{ReceiptMask, same};
use crate::store::record_format::{Damage, ReadRecord};
use crate::store::standing::{Standing, Standings};
use crate::store::{Details, Discarded, ReceiptStatus, StoredRecord};

/// Where a record stands: what is selected behind [`COLUMNS`].
pub(super) const STATE: &str = "p.due_at, p.attempts, p.last_error, w.closes_at, w.attempts, w.last_error, \
     d.at, d.attempts, d.last_error, x.at, x.attempts, x.reason, g.at, g.attempts, g.reason, \
     w.since, d.closed_after_minutes, g.discarded_at, g.discarded_by, g.discarded_for";
const PENDING: usize = WIDTH;
const WAITING: usize = PENDING + 3;
const DELIVERED: usize = WAITING + 3;
const DEAD: usize = DELIVERED + 3;
const DISCARDED: usize = DEAD + 3;
const WAITING_SINCE: usize = DISCARDED + 3;
const CLOSED_AFTER: usize = WAITING_SINCE + 1;
const DISCARDED_AT: usize = CLOSED_AFTER + 1;

/// The tables of states.
pub(super) const STATES: &str = "left join pending p on p.organization_id = r.organization_id and p.lane = r.lane and p.seq = r.seq \
     left join waiting w on w.organization_id = r.organization_id and w.seq = r.seq \
     left join delivered d on d.organization_id = r.organization_id and d.seq = r.seq \
     left join dead_letters x on x.organization_id = r.organization_id and x.seq = r.seq \
     left join discarded g on g.organization_id = r.organization_id and g.seq = r.seq";

/// What became of a receipt.
pub(super) async fn status(shared: &Shared, id: &ReceiptId) -> Result<Option<ReceiptStatus>, Fault> {
    let Some((seq, random)) = shared.place_of(id) else { return Ok(None) };
    let client = shared.database.pool().get().await?;
    let select =
        client.prepare_cached(&format!("select {COLUMNS}, {STATE} from {FROM} {STATES} where r.seq = $1")).await?;
    let Some(row) = client.query_opt(&select, &[&seq]).await? else { return missing(shared, seq).await };
    let (found, status) = status_in(&row, &shared.mask)?;
    Ok(same(&found, &random).then_some(status))
}

/// The record behind a receipt.
pub(super) async fn record(shared: &Shared, id: &ReceiptId) -> Result<Option<StoredRecord<Details>>, Fault> {
    let Some((seq, random)) = shared.place_of(id) else { return Ok(None) };
    let client = shared.database.pool().get().await?;
    let select = client.prepare_cached(&format!("select {COLUMNS} from {FROM} where r.seq = $1")).await?;
    let Some(row) = client.query_opt(&select, &[&seq]).await? else { return missing(shared, seq).await };
    let found = read(&row, 0, seq, &shared.mask)?;
    Ok(same(&found.random, &random).then_some(found.record))
}

/// A record that is not there: deleted, never there, or lost.
async fn missing<T>(shared: &Shared, seq: i64) -> Result<Option<T>, Fault> {
    let client = shared.database.pool().get().await?;
    let select = client
        .prepare_cached(
            "select high_water, exists (select from deleted where first <= $1 and last >= $1), l.at, l.why \
             from counter left join lost l on l.first <= $1 and l.last >= $1",
        )
        .await?;
    let row = client.query_one(&select, &[&seq]).await?;
    if let (Some(at), Some(why)) = (row.try_get::<_, Option<i64>>(2)?, row.try_get(3)?) {
        return Err(Fault::Lost { at: Timestamp::from_millis(at), why });
    }
    let (newest, deleted): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    if seq <= newest && !deleted && shared.is_distributed && is_in_doubt(&client, false).await? {
        return Err(Fault::NotYet(seq));
    }
    // A made-up ID leads to some number among 2^64: next to never to one that was given out.
    if seq > newest || deleted { Ok(None) } else { Err(Damage::missing(seq).into()) }
}

/// What became of records, newest first.
pub(super) async fn statuses(
    shared: &Shared,
    client: &deadpool_postgres::Client,
    seqs: &[i64],
) -> Result<Vec<ReceiptStatus>, Fault> {
    let select = client
        .prepare_cached(&format!(
            "select {COLUMNS}, {STATE} from {FROM} {STATES} where r.seq = any($1) order by r.seq desc"
        ))
        .await?;
    let parameters: [&(dyn ToSql + Sync); 1] = [&seqs];
    let rows = client.query(&select, &parameters).await?;
    rows.iter().map(|row| Ok(status_in(row, &shared.mask).map(|(_, status)| status)?)).collect()
}

fn status_in(row: &Row, mask: &ReceiptMask) -> Result<([u8; 16], ReceiptStatus), Damage> {
    let seq: i64 = row.try_get(0).unwrap_or(0);
    let found = read(row, 0, seq, mask)?;
    let random = found.random;
    standing_in(row, found).map(|status| (random, status))
}

pub(super) fn standing_in(row: &Row, found: ReadRecord) -> Result<ReceiptStatus, Damage> {
    let unreadable = |_| Damage { seq: found.seq, what: "its state cannot be read" };
    standings_in(row).map_err(unreadable)?.status(found)
}

fn standings_in(row: &Row) -> Result<Standings, tokio_postgres::Error> {
    let waiting = match standing_at(row, WAITING)? {
        Some(standing) => Some((standing, Timestamp::from_millis(row.try_get(WAITING_SINCE)?))),
        None => None,
    };
    let delivered = match standing_at(row, DELIVERED)? {
        Some(standing) => Some((standing, row.try_get::<_, Option<i64>>(CLOSED_AFTER)?.map(i64::cast_unsigned))),
        None => None,
    };
    let discarded = match standing_at(row, DISCARDED)? {
        Some(standing) => Some((standing, discarded_in(row)?)),
        None => None,
    };
    let (pending, dead_letter) = (standing_at(row, PENDING)?, standing_at(row, DEAD)?);
    Ok(Standings { pending, waiting, delivered, dead_letter, discarded })
}

fn discarded_in(row: &Row) -> Result<Discarded, tokio_postgres::Error> {
    Ok(Discarded {
        at: Timestamp::from_millis(row.try_get(DISCARDED_AT)?),
        by: row.try_get(DISCARDED_AT + 1)?,
        reason: row.try_get(DISCARDED_AT + 2)?,
    })
}

/// The row of one of the tables of states, where it has one.
fn standing_at(row: &Row, first: usize) -> Result<Option<Standing>, tokio_postgres::Error> {
    let Some(at) = row.try_get::<_, Option<i64>>(first)? else { return Ok(None) };
    let attempts: i64 = row.try_get(first + 1)?;
    let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    Ok(Some(Standing { at: Timestamp::from_millis(at), attempts, text: row.try_get(first + 2)? }))
}
