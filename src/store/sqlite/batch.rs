//! One transaction: what its commands do to the tables, and what that will mean for memory once it has committed.
//!
//! Nothing in memory changes before the commit. A [`Batch`] reads the [`Ledger`] and keeps its own [`Changes`] on top;
//! they are applied as a whole when the disk has them, and dropped as a whole when it has not.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::block::{Block, Cache};
use super::board::{Figures, Wanted};
use super::keys::{KeyMap, Lookup};
use super::row::{self, Damage, ReadRecord};
use super::settle::Held;
use super::untried::{LIST_AT_RECORDS, Untried, UntriedChanges};
use crate::store::receipt_id::ReceiptMask;
use crate::store::{Lane, LaneBacklog, LaneId};

/// Leases that are remembered at most; what there is of others is read from the disk when they end.
const REMEMBERED_LEASES: usize = 65_536;

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
    /// The same, by number: the lane with the ID `n` stands at `n - 1`.
    pub(super) lanes_in_order: Vec<Lane>,
    pub(super) high_water: i64,
    pub(super) delivered: Tally,
    /// What is pending and has no row that says so. What is read back for it is no change.
    pub(super) untried: RefCell<Untried>,
    /// Blocks as they are on disk.
    pub(super) blocks: RefCell<Cache>,
    /// Leases that were given since the start, by record, as far as they are remembered.
    pub(super) leases: HashMap<i64, Held>,
    /// For a lane that was looked through and had nothing due: no record of it is due before this moment. A lane that
    /// is not here must be looked through.
    pub(super) quiet_until: HashMap<LaneId, i64>,
}

/// What a batch adds to the ledger and the board.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) appended: i64,
    /// The block that new records go into; it is no row yet.
    pub(super) open: Option<Block>,
    /// Blocks that became rows.
    pub(super) written: Vec<Block>,
    /// Rows were written over.
    pub(super) rewrote: bool,
    /// Records to be trimmed when everything else is done: those of one block at once.
    pub(super) to_trim: Vec<i64>,
    pub(super) untried: UntriedChanges,
    pub(super) leased: HashMap<i64, Held>,
    /// Records whose lease ended, or that are not pending any more.
    pub(super) unleased: HashSet<i64>,
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

    /// Writes what was put off and the figures that go with the batch, and gives out what is to be applied after the
    /// commit. `list_untried`: whether to list all untried records, however few.
    pub(super) fn finish(mut self, list_untried: bool) -> rusqlite::Result<Changes> {
        self.close_block()?;
        self.trim_all()?;
        let Self { conn, ledger, mut changes, .. } = self;
        let untried = ledger.untried.borrow();
        changes.untried.write_taken(conn, &untried)?;
        let unlisted = untried.unlisted() + changes.untried.new.len();
        let list = unlisted >= LIST_AT_RECORDS || (list_untried && unlisted > 0);
        if list {
            changes.untried.list(conn, &untried)?;
            conn.prepare_cached("update meta set listed_to = ?1 where id = 1")?
                .execute([ledger.high_water + changes.appended])?;
        }
        // What was only appended says by itself how far it goes; a page less to write for each commit.
        if list || changes.delivered != Tally::default() {
            let delivered = ledger.delivered.plus(changes.delivered);
            conn.prepare_cached(
                "update meta set high_water = ?1, delivered_count = ?2, delivered_sum = ?3 where id = 1",
            )?
            .execute(params![ledger.high_water + changes.appended, delivered.count, delivered.sum])?;
        }
        Ok(changes)
    }

    /// What this lane stands for.
    pub(super) fn lane(&self, id: LaneId) -> Option<&Lane> {
        let known = usize::try_from(id.0).ok()?.checked_sub(1)?;
        self.ledger
            .lanes_in_order
            .get(known)
            .or_else(|| self.changes.new_lanes.iter().find(|(_, new)| **new == id).map(|(lane, _)| lane))
    }

    /// The record at this place. `Ok(Err(_))` is a record that is damaged or missing.
    pub(super) fn record(&mut self, seq: i64) -> rusqlite::Result<Result<ReadRecord, Damage>> {
        let block = self.block(seq)?;
        let lane = block.heads.get(seq).and_then(|head| self.lane(head.lane));
        Ok(row::decode(&block, seq, lane, &self.ledger.mask))
    }

    /// The block that this record is in; one without it where it is in none.
    pub(super) fn block(&mut self, seq: i64) -> rusqlite::Result<Arc<Block>> {
        if !self.changes.rewrote
            && let Some(block) = self.ledger.blocks.borrow().get(seq)
        {
            return Ok(block);
        }
        if seq > self.ledger.high_water {
            // So that what this batch has put in is found too.
            self.close_block()?;
        }
        let block = Arc::new(Block::around(self.conn, seq)?.unwrap_or_else(|| Block::starting_at(seq)));
        if seq <= self.ledger.high_water && !self.changes.rewrote {
            self.ledger.blocks.borrow_mut().put(Arc::clone(&block));
        }
        Ok(block)
    }

    /// Makes a row of the block that new records went into.
    pub(super) fn close_block(&mut self) -> rusqlite::Result<()> {
        if let Some(block) = self.changes.open.take() {
            block.insert(self.conn)?;
            self.changes.written.push(block);
        }
        Ok(())
    }

    /// Pending records of this lane came (1) or went (-1).
    pub(super) fn note_pending(&mut self, lane: LaneId, change: i64) {
        *self.changes.pending.entry(lane).or_default() += change;
    }

    /// A record was delivered.
    pub(super) const fn note_delivered(&mut self, seq: i64) {
        self.changes.delivered.add(seq);
    }

    /// A delivered record was deleted, or is pending again.
    pub(super) const fn note_delivered_gone(&mut self, seq: i64) {
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
        let cache = ledger.blocks.get_mut();
        if self.rewrote {
            cache.clear();
        }
        self.written.into_iter().for_each(|block| cache.put(Arc::new(block)));
        figures.waiting = figures.waiting.saturating_add_signed(self.waiting);
        figures.dead_lettered = figures.dead_lettered.saturating_add_signed(self.dead_lettered);
        let mut new_lanes: Vec<_> = self.new_lanes.into_iter().collect();
        new_lanes.sort_unstable_by_key(|(_, id)| *id);
        for (lane, id) in new_lanes {
            figures.lanes.push(LaneBacklog { id, lane: lane.clone(), pending: 0 });
            ledger.lanes_in_order.push(lane.clone());
            ledger.lanes.insert(lane, id);
        }
        let moved: Vec<LaneId> = self.untried.taken.keys().copied().collect();
        for (lane, seq) in &self.untried.new {
            figures.came_in(*lane, *seq);
        }
        let untried = ledger.untried.get_mut();
        untried.apply(self.untried);
        for lane in moved {
            figures.set_front(lane, untried.front(lane));
        }
        for seq in self.unleased {
            ledger.leases.remove(&seq);
        }
        for (seq, held) in self.leased {
            if ledger.leases.len() < REMEMBERED_LEASES || ledger.leases.contains_key(&seq) {
                ledger.leases.insert(seq, held);
            }
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
