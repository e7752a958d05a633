//! A round: what is too old is given up, trimmed or deleted, in pieces between which something more urgent may come.

use std::time::Duration;

use rusqlite::params;

use super::patrol::{Found, Kept, Step};
use super::{Halt, Keeper};
use crate::domain::time::Timestamp;
use crate::store::LaneId;
use crate::store::sqlite::block::{self, Block};
use crate::store::sqlite::row;
use crate::store::sqlite::sweep::{SLICE_RECORDS, Shelf, Slice};

/// Bytes of details that one slice lets go at most: the writer has to walk through the pages that they lie on.
const SLICE_BYTES: u64 = 8 << 20;
/// How far to look behind a pending record that is too young: a clock that was changed can put some out of order.
const LOOK_AHEAD: usize = 16;

impl Keeper {
    /// Goes on with the round. Answers whether it is over.
    pub(super) fn piece_of_round(&mut self, now: Timestamp) -> Result<bool, Halt> {
        if let Some(age) = self.accepted
            && !self.piece_of_giving_up(age, now)?
        {
            return Ok(false);
        }
        let board = &self.reader.board;
        let kept = Kept { newest: board.figures().high_water, wanted_from: board.wanted().from() };
        let Some((through, to_come)) = self.patrols.split_at_mut_checked(self.patrol) else { return Ok(true) };
        let Some(patrol) = to_come.first_mut() else {
            (self.lane, self.patrol) = (0, 0);
            return Ok(true);
        };
        let shelf = patrol.shelf();
        let source = through.iter().find(|patrol| Some(patrol.shelf()) == shelf.source());
        match patrol.step(&self.reader.conn, source, (kept, now))? {
            Step::Found(found) => {
                let found = self.let_go(shelf, found)?;
                if let Some(patrol) = self.patrols.get_mut(self.patrol) {
                    patrol.done(&found);
                }
            }
            Step::Passed => {}
            Step::RoundOver => self.patrol += 1,
        }
        Ok(false)
    }

    /// Gives up what is too old in the next lane that has such. Answers whether there is none left.
    fn piece_of_giving_up(&mut self, age: Duration, now: Timestamp) -> Result<bool, Halt> {
        loop {
            let lane = self.reader.board.figures().lanes.get(self.lane).map(|backlog| (backlog.id, backlog.pending));
            let Some((lane, pending)) = lane else { return Ok(true) };
            if pending == 0 {
                self.lane += 1;
                continue;
            }
            let days = age.as_secs() / (24 * 60 * 60);
            let reason = format!("not delivered within {days} {}", if days == 1 { "day" } else { "days" });
            let old = self.too_old(lane, age, now)?;
            let mut given_up = 0;
            let more_tried = old.len() == SLICE_RECORDS;
            if !old.is_empty() {
                given_up += self.write(Slice::GiveUp { records: old, now, reason: reason.clone() })?;
            }
            if !more_tried {
                let untried = self.write(Slice::GiveUpUntried { lane, accepted_by: now.before(age), now, reason })?;
                given_up += untried;
                if untried < SLICE_RECORDS as u64 {
                    self.lane += 1;
                }
            }
            self.swept.given_up += given_up;
            if given_up > 0 {
                return Ok(false);
            }
        }
    }

    /// Records of this lane that were tried and have been pending for too long, oldest first, at most a slice. What is on
    /// lease is in somebody's hands and comes up again.
    fn too_old(&self, lane: LaneId, age: Duration, now: Timestamp) -> rusqlite::Result<Vec<(LaneId, i64)>> {
        let mut select = self.reader.conn.prepare_cached(
            "select seq from pending where lane = ?1 and (lease_token is null or due_at <= ?2) order by seq",
        )?;
        let mut rows = select.query(params![lane.0, now.millis()])?;
        let (mut old, mut young) = (Vec::new(), 0);
        while let Some(row) = rows.next()?
            && old.len() < SLICE_RECORDS
            && young < LOOK_AHEAD
        {
            let seq = row.get(0)?;
            // One that is missing is named when it is handed out.
            let Some(head) = block::head(&self.reader.conn, seq)? else { continue };
            if Timestamp::from_millis(head.accepted_at) <= now.before(age) {
                old.push((lane, seq));
            } else {
                young += 1;
            }
        }
        Ok(old)
    }

    /// Trims and deletes what was found.
    fn let_go(&mut self, shelf: Shelf, mut found: Found) -> Result<Found, Halt> {
        self.trim(std::mem::take(&mut found.trim), found.delivered_by)?;
        for slice in slices(std::mem::take(&mut found.delete), |doomed| doomed.bytes) {
            let records = slice.into_iter().map(|doomed| doomed.seq).collect();
            self.swept.deleted += self.write(Slice::Delete { shelf, records, settled_by: found.settled_by })?;
        }
        Ok(found)
    }

    /// Trims delivered records, as far as they were delivered by then.
    pub(super) fn trim(&mut self, seqs: Vec<i64>, delivered_by: Timestamp) -> Result<(), Halt> {
        for seqs in seqs.chunks(SLICE_RECORDS) {
            let mut records = Vec::with_capacity(seqs.len());
            let conn = &self.reader.conn;
            let mut around: Option<Block> = None;
            for seq in seqs {
                let fits = |block: &Block| block.heads.span(*seq);
                if !around.as_ref().is_some_and(fits) {
                    around = Block::around(conn, *seq)?;
                }
                let block = around.get_or_insert_with(|| Block::starting_at(*seq));
                let lane = block.heads.get(*seq).map(|head| row::lane(conn, head.lane)).transpose()?.flatten();
                let trimmed = row::trimmed(block.get(*seq), *seq, lane.as_ref()).unwrap_or_else(|damage| {
                    // A fresh checksum would call it sound.
                    tracing::error!(%damage, "the details of a damaged record are not trimmed");
                    None
                });
                records.push((*seq, trimmed));
            }
            for records in slices(records, |(_, trimmed)| trimmed.as_ref().map_or(0, |trimmed| trimmed.bytes)) {
                self.swept.trimmed += self.write(Slice::Trim { records, delivered_by })?;
            }
        }
        Ok(())
    }
}

/// Cuts a list into slices of at most [`SLICE_RECORDS`] and about [`SLICE_BYTES`].
fn slices<T>(list: Vec<T>, bytes_of: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut slices: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in list {
        bytes += bytes_of(&item);
        match slices.last_mut() {
            Some(slice) if slice.len() < SLICE_RECORDS && bytes <= SLICE_BYTES => slice.push(item),
            Some(_) | None => {
                bytes = bytes_of(&item);
                slices.push(vec![item]);
            }
        }
    }
    slices
}
