//! Looking things up: a receipt, a record.
//!
//! Every answer is one snapshot, and every record in it was checked against its checksum. A record must be in exactly
//! one state; one that is in none, or in two, is reported as damage and not passed over. One that was deleted is not
//! there any more, and nobody can tell whose receipt it had. One that was lost, where that was written down, is said to be.

use rusqlite::types::ValueRef;
use rusqlite::{Row, params};

use super::deleted;
use super::error::read_error;
use super::reader::Reader;
use super::row::{self, Damage, ReadRecord};
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::receipt_id::same;
use crate::store::standing::{Standing, Standings};
use crate::store::{Details, Discarded, ReceiptStatus, StoreError, StoredRecord};

/// Where the record of this number and lane stands.
const STATUS: &str = "select \
         p.due_at, p.attempts, p.last_error, \
         w.closes_at, w.attempts, w.last_error, w.since, \
         d.at, d.attempts, d.last_error, d.closed_after_minutes, \
         x.at, x.attempts, x.reason, \
         g.at, g.attempts, g.reason, g.discarded_at, g.discarded_by, g.discarded_for, \
         l.untried_from <= r.seq \
         from (select ?1 as seq, ?2 as lane) r \
         left join lanes l on l.id = r.lane left join pending p on p.lane = r.lane and p.seq = r.seq \
         left join waiting w on w.seq = r.seq left join delivered d on d.seq = r.seq \
         left join dead_letters x on x.seq = r.seq left join discarded g on g.seq = r.seq";
/// Where each table's columns begin in [`STATUS`], and those that only it has.
const PENDING: usize = 0;
const WAITING: usize = PENDING + 3;
const WAITING_SINCE: usize = WAITING + 3;
const DELIVERED: usize = WAITING + 4;
const CLOSED_AFTER: usize = DELIVERED + 3;
const DEAD: usize = DELIVERED + 4;
const DISCARDED: usize = DEAD + 3;
const DISCARDED_AT: usize = DISCARDED + 3;
const UNTRIED: usize = DISCARDED_AT + 3;

/// What became of a receipt.
pub(super) fn status(reader: &Reader, id: &ReceiptId) -> Result<Option<ReceiptStatus>, StoreError> {
    // One snapshot: a record that is handed out between two looks must not seem to be in no state.
    let snapshot = reader.conn.unchecked_transaction().map_err(read_error)?;
    let found = find(reader, id, |seq| status_at(reader, seq))?;
    snapshot.commit().map_err(read_error)?;
    Ok(found.map(|(_, status)| status))
}

/// The record behind a receipt.
pub(super) fn record(reader: &Reader, id: &ReceiptId) -> Result<Option<StoredRecord<Details>>, StoreError> {
    let found = find(reader, id, |seq| {
        let found = row::read(&reader.conn, &reader.mask, seq).map_err(read_error)?;
        Ok(found.map(|found| (found.random, found.record))?)
    })?;
    Ok(found.map(|(_, record)| record))
}

/// Reads what a receipt leads to, if it leads anywhere and is the receipt of what is there.
fn find<T>(
    reader: &Reader,
    id: &ReceiptId,
    read: impl FnOnce(i64) -> Result<([u8; 16], T), StoreError>,
) -> Result<Option<([u8; 16], T)>, StoreError> {
    let unmasked = reader.mask.open(id);
    let newest = reader.board.figures().high_water;
    let seq = match i64::try_from(unmasked.seq) {
        // A made-up ID leads to some number among 2^64: next to never to one that was given out.
        Ok(seq) if (1..=newest).contains(&seq) => seq,
        Ok(_) | Err(_) => return Ok(None),
    };
    if let Some(lost) = reader.lost.of(seq) {
        return Err(StoreError::Lost { at: lost.at, why: lost.why.clone() });
    }
    match read(seq) {
        Ok(found) => Ok(same(&found.0, &unmasked.random).then_some(found)),
        // Asked after it was found missing: a deletion in between is not taken for a loss.
        Err(StoreError::Damaged(_)) if deleted::covers(&reader.conn, seq).map_err(read_error)? => Ok(None),
        Err(error) => Err(error),
    }
}

/// What became of the record at this place. The reader is in a transaction.
pub(super) fn status_at(reader: &Reader, seq: i64) -> Result<([u8; 16], ReceiptStatus), StoreError> {
    let found = row::read(&reader.conn, &reader.mask, seq).map_err(read_error)??;
    let (random, lane) = (found.random, found.lane.0);
    let status = reader
        .conn
        .prepare_cached(STATUS)
        .and_then(|mut select| select.query_row(params![seq, lane], |row| Ok(status_in(row, found))))
        .map_err(read_error)?;
    Ok((random, status?))
}

/// The status in a row of [`STATUS`].
fn status_in(row: &Row<'_>, found: ReadRecord) -> Result<ReceiptStatus, Damage> {
    let unreadable = |_| Damage { seq: found.seq, what: "its state cannot be read" };
    let mut standings = standings_in(row).map_err(unreadable)?;
    // One that was never handed out has no row of its own.
    if standings.are_none() && row.get(UNTRIED).is_ok_and(|untried: Option<bool>| untried == Some(true)) {
        standings.pending = Some(Standing { at: found.record.accepted_at, attempts: 0, text: None });
    }
    standings.status(found)
}

fn standings_in(row: &Row<'_>) -> rusqlite::Result<Standings> {
    let waiting = match standing_at(row, WAITING)? {
        Some(standing) => Some((standing, Timestamp::from_millis(row.get(WAITING_SINCE)?))),
        None => None,
    };
    let delivered = match standing_at(row, DELIVERED)? {
        Some(standing) => Some((standing, row.get::<_, Option<i64>>(CLOSED_AFTER)?.map(i64::cast_unsigned))),
        None => None,
    };
    let discarded = match standing_at(row, DISCARDED)? {
        Some(standing) => Some((standing, discarded_in(row)?)),
        None => None,
    };
    let (pending, dead_letter) = (standing_at(row, PENDING)?, standing_at(row, DEAD)?);
    Ok(Standings { pending, waiting, delivered, dead_letter, discarded })
}

fn discarded_in(row: &Row<'_>) -> rusqlite::Result<Discarded> {
    Ok(Discarded {
        at: Timestamp::from_millis(row.get(DISCARDED_AT)?),
        by: row.get(DISCARDED_AT + 1)?,
        reason: row.get(DISCARDED_AT + 2)?,
    })
}

/// The row of one of the tables of states, where it has one.
fn standing_at(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Standing>> {
    if row.get_ref(first)? == ValueRef::Null {
        return Ok(None);
    }
    let at = Timestamp::from_millis(row.get(first)?);
    Ok(Some(Standing { at, attempts: row.get(first + 1)?, text: row.get(first + 2)? }))
}
