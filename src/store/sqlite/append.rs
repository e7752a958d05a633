//! Append: the record with its lane and its key, in one row with those that are committed with it; or the first receipt,
//! for a repeat. That it is pending needs no row of its own ([`untried`](super::untried)).

use rusqlite::params;

use super::batch::Batch;
use super::block::Block;
use super::deleted;
use super::error::Fault;
use super::keys::Seen;
use super::row::NewRecord;
use crate::store::lease::DUE_AT_ONCE;
use crate::store::receipt::Appended;
use crate::store::{Lane, LaneId, Repeat};

impl Batch<'_> {
    /// Appends a record, or finds the one that was there before.
    pub(super) fn append(&mut self, new: &NewRecord) -> Result<Appended, Fault> {
        if let Some(first) = self.first_of(new)? {
            return Ok(first);
        }
        let lane = self.lane_id(&new.lane)?;
        let seq = self.ledger.high_water + self.changes.appended + 1;
        let block = self.changes.open.get_or_insert_with(|| Block::starting_at(seq));
        block.push(&new.head(seq, lane), &new.body);
        if block.is_full() {
            self.close_block()?;
        }
        self.changes.untried.new.push((lane, seq));
        self.note_pending(lane, 1);
        self.changes.appended += 1;
        self.changes.new_keys.insert(new.key, Seen { seq, accepted_at_seconds: new.accepted_at.seconds() });
        Ok(Appended { seq, random: new.random, lane, repeat: None, commit_records: 0 })
    }

    /// The record that this one repeats, if it does.
    fn first_of(&mut self, new: &NewRecord) -> Result<Option<Appended>, Fault> {
        let seen = match self.changes.new_keys.get(&new.key) {
            Some(seen) => Some(*seen),
            None => self.duplicates.find(&new.key)?,
        };
        let Some(seen) = seen.filter(|seen| seen.counts(new.accepted_at, self.ledger.duplicate_window)) else {
            return Ok(None);
        };
        let first = match self.record(seen.seq)? {
            Ok(first) => first,
            // A clock that went far back can make a record seem younger than when it was deleted.
            Err(_) if deleted::covers(self.conn, seen.seq)? => return Ok(None),
            Err(damage) => return Err(Fault::Command(damage.into())),
        };
        if first.key != new.key {
            return Err(Fault::IndexWrong(format!("a key leads to record {}, which has another", seen.seq)));
        }
        let details_differ = first.record.details.differ_from(new.details());
        let repeat = Some(Repeat { details_differ });
        Ok(Some(Appended { seq: first.seq, random: first.random, lane: first.lane, repeat, commit_records: 0 }))
    }

    /// The lane's number, given now if it has none.
    fn lane_id(&mut self, lane: &Lane) -> rusqlite::Result<LaneId> {
        if let Some(id) = self.ledger.lanes.get(lane).or_else(|| self.changes.new_lanes.get(lane)) {
            return Ok(*id);
        }
        let known = self.ledger.lanes.len() + self.changes.new_lanes.len();
        let id = LaneId(i64::try_from(known).unwrap_or(i64::MAX).saturating_add(1));
        let [organization, work_stream] = [lane.organization.guid(), lane.work_stream.guid()];
        self.conn
            .prepare_cached(
                "insert into lanes (id, organization, work_stream, queue, untried_from) values (?1, ?2, ?3, ?4, 1)",
            )?
            .execute(params![id.0, organization.as_bytes(), work_stream.as_bytes(), lane.queue.as_str()])?;
        self.changes.new_lanes.insert(lane.clone(), id);
        Ok(id)
    }

    /// Makes a record pending, untried and due at once.
    pub(super) fn insert_pending(&mut self, lane: LaneId, seq: i64, last_error: Option<&str>) -> rusqlite::Result<()> {
        self.insert_pending_after((lane, seq), 0, last_error)
    }

    /// Makes a record pending and due at once, after so many attempts.
    pub(super) fn insert_pending_after(
        &mut self,
        (lane, seq): (LaneId, i64),
        attempts: u32,
        last_error: Option<&str>,
    ) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached(
                "insert into pending (lane, seq, due_at, attempts, last_error) values (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![lane.0, seq, DUE_AT_ONCE, attempts, last_error])?;
        self.note_pending(lane, 1);
        self.note_due(lane, DUE_AT_ONCE);
        Ok(())
    }
}
