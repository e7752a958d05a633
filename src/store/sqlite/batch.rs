//! One transaction: what its commands do to the tables, and what that will mean for memory once it has committed.
//!
//! Nothing in memory changes before the commit. A [`Batch`] reads the [`Ledger`] and keeps its own [`Changes`] on top;
//! they are applied as a whole when the disk has them, and dropped as a whole when it has not.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::board::{Figures, Wanted};
use super::keys::{KeyMap, Lookup};
use crate::store::receipt_id::ReceiptMask;
use crate::store::{Lane, LaneBacklog, LaneId};

/// How many records are in a state, and their sequence numbers added up (wrapping): a cheap proof, at the next start,
/// that none has vanished from its table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: i64,
    pub(super) sum: i64,
}

impl Tally {
    /// Counts one more record.
    pub(super) const fn add(&mut self, seq: i64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(seq);
    }

    /// Counts one record less.
    pub(super) const fn remove(&mut self, seq: i64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(seq);
    }

    /// This one without the other.
    pub(super) const fn minus(self, other: Self) -> Self {
        Self { count: self.count.wrapping_sub(other.count), sum: self.sum.wrapping_sub(other.sum) }
    }

    /// Both together.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self { count: self.count.wrapping_add(other.count), sum: self.sum.wrapping_add(other.sum) }
    }

    /// The tally of all records from 1 to this one.
    pub(super) fn of_all_up_to(newest: i64) -> Self {
        let newest_wide = i128::from(newest);
        let sum = newest_wide * (newest_wide + 1) / 2;
        // The low 64 bits: the sum wraps.
        Self { count: newest, sum: i64::from_le_bytes(sum.to_le_bytes().first_chunk().copied().unwrap_or_default()) }
    }
}

/// What the writer remembers between batches: always what is committed.
pub(super) struct Ledger {
    pub(super) mask: ReceiptMask,
    pub(super) duplicate_window: Duration,
    /// Whether the details of a record go with its delivery.
    pub(super) trim_at_delivery: bool,
    /// Records whose details stay nevertheless.
    pub(super) wanted: Wanted,
    pub(super) lanes: HashMap<Lane, LaneId>,
    pub(super) high_water: i64,
    pub(super) delivered: Tally,
    /// For a lane that was looked through and had nothing due: no record of it is due before this moment. A lane that
    /// is not here must be looked through.
    pub(super) quiet_until: HashMap<LaneId, i64>,
}

/// What a batch adds to the ledger and the board.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) appended: i64,
    pub(super) new_lanes: HashMap<Lane, LaneId>,
    pub(super) new_keys: KeyMap,
    /// By how much each lane's pending records change.
    pending: HashMap<LaneId, i64>,
    waiting: i64,
    dead_lettered: i64,
    delivered: Tally,
    /// `None`: the lane must be looked through again.
    quiet_until: HashMap<LaneId, Option<i64>>,
}

/// A transaction under way.
pub(super) struct Batch<'a> {
    pub(super) conn: &'a Connection,
    pub(super) ledger: &'a Ledger,
    pub(super) duplicates: Lookup<'a>,
    pub(super) changes: Changes,
}

impl<'a> Batch<'a> {
    /// Starts; the connection is in a transaction.
    pub(super) fn new(conn: &'a Connection, ledger: &'a Ledger, duplicates: Lookup<'a>) -> Self {
        Self { conn, ledger, duplicates, changes: Changes::default() }
    }

    /// Writes the figures that go with the batch, and gives out what is to be applied after the commit.
    pub(super) fn finish(self) -> rusqlite::Result<Changes> {
        let changes = self.changes;
        let delivered = self.ledger.delivered.plus(changes.delivered);
        if changes.appended != 0 || changes.delivered != Tally::default() {
            self.conn
                .prepare_cached(
                    "update meta set high_water = ?1, delivered_count = ?2, delivered_sum = ?3 where id = 1",
                )?
                .execute(params![self.ledger.high_water + changes.appended, delivered.count, delivered.sum])?;
        }
        Ok(changes)
    }

    /// A record of this lane became pending, due at this moment.
    pub(super) fn note_pending(&mut self, lane: LaneId, due: i64) {
        *self.changes.pending.entry(lane).or_default() += 1;
        self.note_due(lane, due);
    }

    /// A pending record of this lane is not pending any more.
    pub(super) fn note_not_pending(&mut self, lane: LaneId) {
        *self.changes.pending.entry(lane).or_default() -= 1;
    }

    /// A record was delivered.
    pub(super) const fn note_delivered(&mut self, seq: i64) {
        self.changes.delivered.add(seq);
    }

    /// A delivered record was deleted.
    pub(super) const fn note_delivered_deleted(&mut self, seq: i64) {
        self.changes.delivered.remove(seq);
    }

    /// Waiting records came (1) or went (-1).
    pub(super) const fn note_waiting(&mut self, change: i64) {
        self.changes.waiting += change;
    }

    /// Dead letters came (1) or went (-1).
    pub(super) const fn note_dead_letter(&mut self, change: i64) {
        self.changes.dead_lettered += change;
    }

    /// A record of this lane is due at this moment.
    pub(super) fn note_due(&mut self, lane: LaneId, due: i64) {
        if let Some(quiet) = self.quiet_until(lane) {
            self.changes.quiet_until.insert(lane, Some(quiet.min(due)));
        }
    }

    /// The lane was looked through: no record of it is due before this moment. `None`: it must be looked through again.
    pub(super) fn set_quiet_until(&mut self, lane: LaneId, due: Option<i64>) {
        self.changes.quiet_until.insert(lane, due);
    }

    /// Before which moment no record of this lane is due, where that is known.
    pub(super) fn quiet_until(&self, lane: LaneId) -> Option<i64> {
        match self.changes.quiet_until.get(&lane) {
            Some(known) => *known,
            None => self.ledger.quiet_until.get(&lane).copied(),
        }
    }
}

impl Changes {
    /// Makes the ledger and the figures true again, after the commit. Answers the keys that are to be remembered.
    pub(super) fn apply(self, ledger: &mut Ledger, figures: &mut Figures) -> KeyMap {
        ledger.high_water += self.appended;
        ledger.delivered = ledger.delivered.plus(self.delivered);
        figures.high_water = ledger.high_water;
        figures.waiting = figures.waiting.saturating_add_signed(self.waiting);
        figures.dead_lettered = figures.dead_lettered.saturating_add_signed(self.dead_lettered);
        let mut new_lanes: Vec<_> = self.new_lanes.into_iter().collect();
        new_lanes.sort_unstable_by_key(|(_, id)| *id);
        for (lane, id) in new_lanes {
            figures.lanes.push(LaneBacklog { id, lane: lane.clone(), pending: 0 });
            ledger.lanes.insert(lane, id);
        }
        for (id, change) in self.pending {
            figures.pending = figures.pending.saturating_add_signed(change);
            if let Some(lane) = figures.lane_mut(id) {
                lane.pending = lane.pending.saturating_add_signed(change);
            }
        }
        for (lane, quiet) in self.quiet_until {
            match quiet {
                Some(due) => ledger.quiet_until.insert(lane, due),
                None => ledger.quiet_until.remove(&lane),
            };
        }
        self.new_keys
    }
}
