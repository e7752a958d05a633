//! Waiting records: taken up again, or closed when their time has come.

use tokio_postgres::types::ToSql;

use super::Shared;
use super::board::Changes;
use super::cluster::by_organization;
use super::error::Fault;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::LaneId;

/// Waiting records that one transaction closes.
const CLOSED_AT_ONCE: i64 = 1_000;

/// Makes a waiting record pending again. Answers whether it waited, and had not reached the moment at which it closes.
pub(super) async fn revive(shared: &Shared, id: &ReceiptId, now: Timestamp) -> Result<bool, Fault> {
    let Some((seq, random)) = shared.place_of(id) else { return Ok(false) };
    let client = shared.database.pool().get().await?;
    let revive = client
        .prepare_cached(
            "with w as (delete from waiting w using records r where w.seq = $1 and w.closes_at > $2 \
             and r.organization_id = w.organization_id and r.seq = w.seq and r.random = $3 \
             returning w.organization_id, w.lane, w.seq, w.attempts, w.last_error) \
             insert into pending (organization_id, lane, seq, due_at, attempts, last_error) \
             select organization_id, lane, seq, 0, attempts, last_error from w returning lane",
        )
        .await?;
    let parameters: [&(dyn ToSql + Sync); 3] = [&seq, &now.millis(), &random.as_slice()];
    let Some(row) = client.query_opt(&revive, &parameters).await? else { return Ok(false) };
    let mut changes = Changes { waiting: -1, ..Changes::default() };
    changes.pending(LaneId(row.try_get(0)?), 1);
    shared.board.apply(&changes);
    Ok(true)
}

/// Closes what has waited until now. Answers how many.
pub(super) async fn close(shared: &Shared, now: Timestamp) -> Result<u64, Fault> {
    let mut client = shared.database.pool().get().await?;
    let find = "select organization_id, seq from waiting where closes_at <= $1 order by closes_at limit $2";
    let find = client.prepare_cached(find).await?;
    let close = client
        .prepare_cached(
            "with w as (delete from waiting where organization_id = $1 and seq in \
             (select seq from waiting where organization_id = $1 and seq = any($2) and closes_at <= $3 \
             for update skip locked) returning *) \
             insert into delivered (organization_id, seq, lane, at, attempts, last_error, closed_after_minutes) \
             select organization_id, seq, lane, closes_at, attempts, last_error, \
             greatest(closes_at - since, 0) / 60000 from w",
        )
        .await?;
    let mut closed = 0;
    loop {
        let found = client.query(&find, &[&now.millis(), &CLOSED_AT_ONCE]).await?;
        let found =
            found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, Fault>>()?;
        let (transaction, mut count) = (client.transaction().await?, 0);
        for (organization, seqs) in by_organization::<i64>(found) {
            count += transaction.execute(&close, &[&organization, &seqs, &now.millis()]).await?;
        }
        transaction.commit().await?;
        shared.board.apply(&Changes { waiting: -i64::try_from(count).unwrap_or(0), ..Changes::default() });
        closed += count;
        if count == 0 {
            return Ok(closed);
        }
    }
}
