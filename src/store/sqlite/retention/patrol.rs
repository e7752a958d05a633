//! Which settled records are old enough to be trimmed or deleted, found without an index and without reading a whole
//! table each time.
//!
//! A table of settled records is in order of arrival, and only roughly in order of settling: a record can be delivered
//! months after its neighbours. So the table is seen as segments of a few thousand sequence numbers, and for each of
//! them memory holds the moment before which nothing in it can be due. It is known from the last look: what was there
//! then was settled at known moments, and what came since was settled after it. Only what is discarded comes to its
//! shelf with an older moment, that of the dead letter it was; so that shelf goes by what is known of the dead letters
//! too. A round visits every segment that has
//! rows, which takes one step in the tree for each, and reads only those that may hold something due: each of them once
//! after a start, and then about when its records come of age.
//!
//! An index over the moment of settling would make each round shorter, and each settlement, on the writer's time,
//! dearer. This costs the writer nothing, and the reader a step for every few thousand records in a minute.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::block::Heads;
use super::super::sweep::Shelf;
use crate::domain::time::Timestamp;

/// Sequence numbers in a segment.
const SEGMENT_RECORDS: i64 = if cfg!(test) { 8 } else { 4_096 };
/// Segments that one step passes by at most.
const STEP_SEGMENTS: usize = 1_000;
/// What is settled after a look may be dated before it by so much: clocks are corrected, closings can be late.
const SLACK: Duration = Duration::from_secs(60 * 60);
/// How often to look for details that should have gone with the delivery.
const LEFTOVERS: Duration = Duration::from_secs(24 * 60 * 60);
/// Never.
const NEVER: i64 = i64::MAX;

/// How long a shelf's records are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    /// The age at which they are deleted.
    pub(super) delete: Duration,
    /// The age at which their details are trimmed, where that is of any use before they are deleted.
    pub(super) trim: Option<Duration>,
    /// Repeats count so long, by their arrival; nothing is deleted before.
    pub(super) duplicate_window: Duration,
}

/// The rounds over one shelf.
#[derive(Debug)]
pub(super) struct Patrol {
    shelf: Shelf,
    ages: Ages,
    /// Before which moments nothing in a segment is due.
    segments: HashMap<i64, Due>,
    /// The segments that have been visited in this round.
    visited: HashMap<i64, Due>,
    /// Where the round goes on.
    position: i64,
}

/// When something in a segment may be due.
#[derive(Debug, Clone, Copy)]
struct Due {
    delete: i64,
    trim: i64,
}

/// What a step came to.
#[derive(Debug)]
pub(super) enum Step {
    /// This is due.
    Found(Found),
    /// Nothing yet; the round goes on.
    Passed,
    /// The round is over.
    RoundOver,
}

/// What is due in a segment.
#[derive(Debug)]
pub(super) struct Found {
    segment: i64,
    due: Due,
    /// To be deleted, in order.
    pub(super) delete: Vec<Doomed>,
    /// What is to be deleted was settled by then.
    pub(super) settled_by: Timestamp,
    /// To be trimmed, in order.
    pub(super) trim: Vec<i64>,
    /// What is to be trimmed was delivered by then.
    pub(super) delivered_by: Timestamp,
    /// The block that was looked into last.
    heads: Option<Heads>,
}

/// Which settled records stay as they are, however old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// The newest record is not deleted.
    pub(super) newest: i64,
    /// From this one on they are neither deleted nor trimmed.
    pub(super) wanted_from: i64,
}

impl Kept {
    const fn is_not_deleted(self, seq: i64) -> bool {
        seq == self.newest || seq >= self.wanted_from
    }
}

/// A record to be deleted.
#[derive(Debug)]
pub(super) struct Doomed {
    pub(super) seq: i64,
    /// How many bytes go with it.
    pub(super) bytes: u64,
}

impl Patrol {
    /// The first round is still to come.
    pub(super) fn new(shelf: Shelf, ages: Ages) -> Self {
        Self { shelf, ages, segments: HashMap::new(), visited: HashMap::new(), position: 0 }
    }

    /// The shelf.
    pub(super) const fn shelf(&self) -> Shelf {
        self.shelf
    }

    /// Before which moment nothing that stood in this segment at the end of the last round, or has come to it since, is
    /// to be deleted.
    fn nothing_before(&self, segment: i64) -> Option<i64> {
        self.segments.get(&segment).map(|due| due.delete)
    }

    /// Goes on with the round, up to the next segment in which something may be due, or a bounded number of them.
    ///
    /// `source` is the patrol, already through with this round, of the shelf that records come to this one from.
    pub(super) fn step(
        &mut self,
        conn: &Connection,
        source: Option<&Self>,
        (kept, now): (Kept, Timestamp),
    ) -> rusqlite::Result<Step> {
        let table = self.shelf.table();
        let mut next = conn.prepare_cached(&format!("select seq from {table} where seq >= ?1 order by seq limit 1"))?;
        for _ in 0..STEP_SEGMENTS {
            let seq: Option<i64> = next.query_row([self.position], |row| row.get(0)).optional()?;
            let Some(segment) = seq.map(|seq| seq / SEGMENT_RECORDS) else {
                // What was not visited is empty, and will be looked at if that changes.
                self.segments = std::mem::take(&mut self.visited);
                self.position = 0;
                return Ok(Step::RoundOver);
            };
            self.position = (segment + 1) * SEGMENT_RECORDS;
            match self.segments.get(&segment) {
                Some(due) if due.delete.min(due.trim) > now.millis() => {
                    self.visited.insert(segment, *due);
                }
                Some(_) | None => {
                    let mut found = self.look(conn, segment, (kept, now))?;
                    if let Some(due) = source.and_then(|source| source.nothing_before(segment)) {
                        found.due.delete = found.due.delete.min(due);
                    }
                    return Ok(Step::Found(found));
                }
            }
        }
        Ok(Step::Passed)
    }

    /// What was found has been done.
    pub(super) fn done(&mut self, found: &Found) {
        self.visited.insert(found.segment, found.due);
    }

    /// Looks through a segment.
    fn look(&self, conn: &Connection, segment: i64, (kept, now): (Kept, Timestamp)) -> rusqlite::Result<Found> {
        let Ages { delete, trim, .. } = self.ages;
        let trimmed = if self.shelf == Shelf::Delivered { "trimmed" } else { "1" };
        let mut select = conn.prepare_cached(&format!(
            "select seq, at, {trimmed} from {} where seq >= ?1 and seq < ?2 order by seq",
            self.shelf.table()
        ))?;
        let first = segment * SEGMENT_RECORDS;
        let mut rows = select.query(params![first, first + SEGMENT_RECORDS])?;
        let unseen = Timestamp::from_millis(now.millis().saturating_sub(millis(SLACK)));
        let mut found = Found {
            segment,
            due: Due {
                delete: unseen.after(delete).millis(),
                // At once means with the delivery. What was wanted whole then is left for here, and looked for daily.
                trim: trim.map_or(NEVER, |trim| unseen.after(trim.max(LEFTOVERS)).millis()),
            },
            delete: Vec::new(),
            settled_by: Timestamp::from_millis(now.millis().saturating_sub(millis(delete))),
            trim: Vec::new(),
            delivered_by: now.before(trim.unwrap_or(delete)),
            heads: None,
        };
        while let Some(row) = rows.next()? {
            let (seq, at) = (row.get(0)?, Timestamp::from_millis(row.get(1)?));
            let details_are_there = row.get::<_, Option<i64>>(2)?.is_none();
            if at > found.settled_by {
                found.due.delete = found.due.delete.min(at.after(delete).millis());
            } else if kept.is_not_deleted(seq) {
                // The newest record stays, and what is wanted. It is due as soon as it is that no more: from its own
                // moment on, not from now, which a clock that is put back may not reach for a while.
                found.due.delete = found.due.delete.min(at.after(delete).millis());
            } else if let Some(due) = self.examine(conn, seq, now, &mut found)? {
                found.due.delete = found.due.delete.min(due);
            } else {
                continue;
            }
            if let Some(trim) = trim.filter(|_| details_are_there) {
                let due = at.after(trim).millis();
                if due <= now.millis() && seq < kept.wanted_from {
                    found.trim.push(seq);
                } else {
                    found.due.trim = found.due.trim.min(due);
                }
            }
        }
        Ok(found)
    }

    /// Whether a record that was settled long enough ago can be deleted: then it is put down for it. Otherwise, when it
    /// can.
    fn examine(&self, conn: &Connection, seq: i64, now: Timestamp, found: &mut Found) -> rusqlite::Result<Option<i64>> {
        if !found.heads.as_ref().is_some_and(|heads| heads.span(seq)) {
            found.heads = Heads::around(conn, seq)?;
        }
        let head = found.heads.as_ref().and_then(|heads| heads.get(seq));
        let record = head.map(|head| {
            let doomed = Doomed { seq, bytes: u64::from(head.body_bytes) };
            (doomed, Timestamp::from_millis(head.accepted_at))
        });
        let Some((doomed, accepted_at)) = record else {
            tracing::error!(record = seq, "a settled record is missing; it is not taken for a deleted one");
            return Ok(Some(NEVER));
        };
        // To the second, as repeats are judged.
        let counts_until = accepted_at.after(self.ages.duplicate_window + Duration::from_secs(1)).millis();
        if counts_until > now.millis() {
            return Ok(Some(counts_until));
        }
        found.delete.push(doomed);
        Ok(None)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
