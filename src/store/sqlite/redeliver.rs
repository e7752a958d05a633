//! Delivered records that are pending again: their destination lost what it had taken.
//!
//! A reader finds them; the writer gets their numbers and looks again, since retention may have let their details go in
//! between. `delivered` is in order of arrival, so a range of moments is looked for from the first row on: a bounded number
//! of rows a call, which takes a reader some milliseconds and the writer nothing.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{OptionalExtension, params};

use super::batch::Batch;
use super::block::Heads;
use super::error::{Fault, read_error};
use super::reader::Reader;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::selection::delivered_before;
use crate::store::{LaneId, MAX_HANDLED, MAX_NAMED, Redelivered, Redelivery, StoreError};

/// The most delivered records that one call looks at.
const MAX_LOOKED_AT: usize = if cfg!(test) { 128 } else { 20_000 };

/// What the writer is to make pending again.
#[derive(Debug)]
pub(super) struct Again {
    /// The records' numbers, in order.
    pub(super) seqs: Vec<i64>,
    /// Only if they were delivered at this moment or later,
    pub(super) since: Timestamp,
    /// and before this one.
    pub(super) until: Timestamp,
}

/// Finds a page of records that are meant: the numbers of those that can be delivered again, and what is to be said of the
/// page, as if they were.
pub(super) fn find(reader: &Reader, which: &Redelivery) -> Result<(Vec<i64>, Redelivered), StoreError> {
    // One snapshot: a record that retention deletes meanwhile has its receipt still.
    let snapshot = reader.conn.unchecked_transaction().map_err(read_error)?;
    let found = look(reader, which).map_err(read_error)?;
    snapshot.commit().map_err(read_error)?;
    Ok(found)
}

fn look(reader: &Reader, which: &Redelivery) -> rusqlite::Result<(Vec<i64>, Redelivered)> {
    let lanes: HashSet<LaneId> = which.lanes.iter().copied().collect();
    let limit = which.limit.clamp(1, MAX_HANDLED);
    let (mut seqs, mut found, mut heads) = (Vec::new(), Redelivered::default(), None);
    if lanes.is_empty() {
        return Ok((seqs, found));
    }
    let mut select = reader.conn.prepare_cached(
        "select seq, lane, at, trimmed, closed_after_minutes from delivered where seq > ?1 order by seq",
    )?;
    let mut rows = select.query([which.after.unwrap_or(0)])?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let (seq, lane, at) = (row.get(0)?, LaneId(row.get(1)?), Timestamp::from_millis(row.get(2)?));
        looked_at += 1;
        let closed = row.get::<_, Option<i64>>(4)?.is_some();
        if !closed && lanes.contains(&lane) && which.since <= at && at < which.until {
            if row.get::<_, Option<i64>>(3)?.is_none() {
                seqs.push(seq);
                *found.lanes.entry(lane).or_default() += 1;
            } else {
                found.without_details += 1;
                if found.named.len() < MAX_NAMED {
                    found.named.extend(receipt_of(reader, seq, &mut heads)?);
                }
            }
        }
        if seqs.len() == limit || looked_at == MAX_LOOKED_AT {
            found.next = Some(seq);
            break;
        }
    }
    Ok((seqs, found))
}

/// The receipt of this record; `heads` are those that were read last. `None` where damage took the record, which whoever
/// looks at it is told.
fn receipt_of(reader: &Reader, seq: i64, heads: &mut Option<Heads>) -> rusqlite::Result<Option<ReceiptId>> {
    if !heads.as_ref().is_some_and(|heads| heads.span(seq)) {
        *heads = Heads::around(&reader.conn, seq)?;
    }
    let head = heads.as_ref().and_then(|heads| heads.get(seq));
    Ok(head.map(|head| reader.mask.id_of(seq.cast_unsigned(), head.random)))
}

impl Batch<'_> {
    /// Makes delivered records pending again, those that still are what was found. Answers how many of each lane.
    pub(super) fn redeliver(&mut self, again: &Again) -> Result<BTreeMap<LaneId, u64>, Fault> {
        let mut lanes: BTreeMap<LaneId, u64> = BTreeMap::new();
        let mut take = self.conn.prepare_cached(
            "delete from delivered where seq = ?1 and trimmed is null and closed_after_minutes is null \
             and at >= ?2 and at < ?3 returning lane, at",
        )?;
        for seq in &again.seqs {
            let taken = take
                .query_row(params![seq, again.since.millis(), again.until.millis()], |row| {
                    Ok((LaneId(row.get(0)?), Timestamp::from_millis(row.get(1)?)))
                })
                .optional()?;
            if let Some((lane, at)) = taken {
                self.note_delivered_gone(*seq);
                self.insert_pending(lane, *seq, Some(&delivered_before(at)))?;
                *lanes.entry(lane).or_default() += 1;
            }
        }
        Ok(lanes)
    }
}
