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
use crate::store::{DeliveryState, Details, Discarded, ReceiptStatus, StoreError, StoredRecord, Waiting};

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
    let seq = found.seq;
    let damage = |what| Damage { seq, what };
    let unreadable = |_: rusqlite::Error| damage("its state cannot be read");
    let standings = [PENDING, WAITING, DELIVERED, DEAD, DISCARDED].map(|first| Standing::at(row, first));
    let [Ok(pending), Ok(waiting), Ok(delivered), Ok(dead), Ok(discarded)] = standings else {
        return Err(damage("its state cannot be read"));
    };
    let accepted_at = found.record.accepted_at;
    let mut status = ReceiptStatus {
        summary: row::summary(found.record),
        state: DeliveryState::Accepted,
        attempts: 0,
        last_error: None,
        next_attempt_at: None,
        settled_at: None,
        waiting: None,
        closed_after_minutes: None,
        discarded: None,
    };
    let standing = match (pending, waiting, delivered, dead, discarded) {
        (Some(standing), None, None, None, None) => {
            if standing.attempts > 0 {
                status.state = DeliveryState::Delivering;
            }
            // What is due at once is due since it arrived.
            status.next_attempt_at = Some(standing.at.max(accepted_at));
            standing
        }
        (None, Some(standing), None, None, None) => {
            status.state = DeliveryState::Delivering;
            let since = Timestamp::from_millis(row.get(WAITING_SINCE).map_err(unreadable)?);
            status.waiting = Some(Waiting { since, closes_at: standing.at });
            standing
        }
        (None, None, Some(standing), None, None) => {
            status.state = DeliveryState::Delivered;
            status.settled_at = Some(standing.at);
            let minutes: Option<i64> = row.get(CLOSED_AFTER).map_err(unreadable)?;
            status.closed_after_minutes = minutes.map(i64::cast_unsigned);
            standing
        }
        (None, None, None, Some(standing), None) => {
            status.state = DeliveryState::DeadLettered;
            status.settled_at = Some(standing.at);
            standing
        }
        (None, None, None, None, Some(standing)) => {
            status.state = DeliveryState::DeadLettered;
            status.settled_at = Some(standing.at);
            status.discarded = Some(discarded_in(row).map_err(unreadable)?);
            standing
        }
        (None, None, None, None, None) if row.get(UNTRIED).is_ok_and(|untried: Option<bool>| untried == Some(true)) => {
            status.next_attempt_at = Some(accepted_at);
            Standing { at: accepted_at, attempts: 0, text: None }
        }
        (None, None, None, None, None) => {
            return Err(damage("it is neither pending nor waiting nor delivered nor a dead letter"));
        }
        (_, _, _, _, _) => return Err(damage("it is in two states at once")),
    };
    status.attempts = standing.attempts;
    status.last_error = standing.text;
    Ok(status)
}

fn discarded_in(row: &Row<'_>) -> rusqlite::Result<Discarded> {
    Ok(Discarded {
        at: Timestamp::from_millis(row.get(DISCARDED_AT)?),
        by: row.get(DISCARDED_AT + 1)?,
        reason: row.get(DISCARDED_AT + 2)?,
    })
}

/// A record's row in one of the tables of states.
struct Standing {
    at: Timestamp,
    attempts: u32,
    text: Option<String>,
}

impl Standing {
    fn at(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Self>> {
        if row.get_ref(first)? == ValueRef::Null {
            return Ok(None);
        }
        let at = Timestamp::from_millis(row.get(first)?);
        Ok(Some(Self { at, attempts: row.get(first + 1)?, text: row.get(first + 2)? }))
    }
}
