//! What the retention thread asks of the writer: small slices, each of them an ordinary command.
//!
//! What is to be done was found by a reader, so the writer looks again before it does it: a record that is not where it
//! was found any more is left alone.

use rusqlite::{OptionalExtension, params};

use super::batch::Batch;
use super::error::Fault;
use super::row::{Damage, Trimmed};
use super::trim::Rewritten;
use crate::domain::time::Timestamp;
use crate::store::LaneId;

/// Records that one slice gives up, trims or deletes at most.
pub(super) const SLICE_RECORDS: usize = 256;

/// One slice.
#[derive(Debug)]
pub(super) enum Slice {
    /// Close what has waited until now.
    Close {
        /// The present moment.
        now: Timestamp,
    },
    /// Make pending records dead letters, but for those on lease: those are in somebody's hands.
    GiveUp {
        /// Which.
        records: Vec<(LaneId, i64)>,
        /// The present moment.
        now: Timestamp,
        /// Why.
        reason: String,
    },
    /// Make records of one lane that were never handed out dead letters, as far as they were accepted by then.
    GiveUpUntried {
        /// Whose.
        lane: LaneId,
        /// Accepted by then.
        accepted_by: Timestamp,
        /// The present moment.
        now: Timestamp,
        /// Why.
        reason: String,
    },
    /// Trim delivered records.
    Trim {
        /// Which, and what becomes of their rows. Those whose rows are damaged come without and stay as they are.
        records: Vec<(i64, Option<Trimmed>)>,
        /// Only if they were delivered by then: what was requeued may have been delivered anew.
        delivered_by: Timestamp,
    },
    /// Delete settled records, in order.
    Delete {
        /// Where they stand.
        shelf: Shelf,
        /// Which. Their duplicate keys are too old to count, and leave the index by themselves.
        records: Vec<i64>,
        /// Only if they were settled by then.
        settled_by: Timestamp,
    },
}

/// A table of settled records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    Delivered,
    DeadLetters,
    Discarded,
}

impl Shelf {
    /// The table's name.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::DeadLetters => "dead_letters",
            Self::Discarded => "discarded",
        }
    }

    /// The shelf from which records come to this one with the moment they were settled at.
    pub(super) const fn source(self) -> Option<Self> {
        match self {
            Self::Discarded => Some(Self::DeadLetters),
            Self::Delivered | Self::DeadLetters => None,
        }
    }
}

impl Slice {
    /// How many records it is about, at most.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Close { .. } => super::waiting::CLOSED_AT_ONCE.unsigned_abs() as usize,
            Self::GiveUp { records, .. } => records.len(),
            Self::GiveUpUntried { .. } => SLICE_RECORDS,
            Self::Trim { records, .. } => records.len(),
            Self::Delete { records, .. } => records.len(),
        }
    }
}

impl Batch<'_> {
    /// Does a slice. Answers for how many records.
    pub(super) fn sweep(&mut self, slice: &Slice) -> Result<u64, Fault> {
        match slice {
            Slice::Close { now } => self.close_waiting(*now),
            Slice::GiveUp { records, now, reason } => Ok(self.give_up(records, *now, reason)?),
            Slice::GiveUpUntried { lane, accepted_by, now, reason } => {
                Ok(self.give_up_untried(*lane, *accepted_by, (*now, reason))?)
            }
            Slice::Trim { records, delivered_by } => Ok(self.trim_delivered(records, *delivered_by)?),
            Slice::Delete { shelf, records, settled_by } => Ok(self.delete_settled(*shelf, records, *settled_by)?),
        }
    }

    fn give_up(&mut self, records: &[(LaneId, i64)], now: Timestamp, reason: &str) -> rusqlite::Result<u64> {
        let mut count = 0;
        for (lane, seq) in records {
            let attempts = self
                .conn
                .prepare_cached(
                    "select attempts from pending where lane = ?1 and seq = ?2 \
                     and (lease_token is null or due_at <= ?3)",
                )?
                .query_row(params![lane.0, seq, now.millis()], |row| row.get(0))
                .optional()?;
            if let Some(attempts) = attempts {
                self.remove_pending(*lane, *seq)?;
                self.insert_dead_letter((*lane, *seq), now, attempts, reason)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn give_up_untried(
        &mut self,
        lane: LaneId,
        accepted_by: Timestamp,
        (now, reason): (Timestamp, &str),
    ) -> rusqlite::Result<u64> {
        let taken = self.changes.untried.taken_from(lane);
        let oldest = self.ledger.untried.borrow_mut().next(self.conn, lane, taken, (SLICE_RECORDS, i64::MAX))?;
        let mut count = 0;
        for seq in oldest {
            let missing = match self.block(seq)?.heads.get(seq) {
                Some(head) if head.accepted_at > accepted_by.millis() => break,
                Some(_) => None,
                // It would be in the way of those behind it for ever.
                None => Some(format!("the store is damaged: {}", Damage::missing(seq))),
            };
            self.remove_untried(lane, seq);
            self.insert_dead_letter((lane, seq), now, 0, missing.as_deref().unwrap_or(reason))?;
            count += 1;
        }
        Ok(count)
    }

    fn delete_settled(&mut self, shelf: Shelf, records: &[i64], settled_by: Timestamp) -> rusqlite::Result<u64> {
        let table = shelf.table();
        let mut gone = Vec::with_capacity(records.len());
        let mut settled = self.conn.prepare_cached(&format!("delete from {table} where seq = ?1 and at <= ?2"))?;
        for seq in records {
            // The newest record is what tells, at a start, that none is missing behind it.
            if *seq < self.ledger.high_water && settled.execute(params![seq, settled_by.millis()])? == 1 {
                gone.push(*seq);
            }
        }
        for seq in &gone {
            match shelf {
                Shelf::Delivered => self.note_delivered_gone(*seq),
                Shelf::DeadLetters => self.note_dead_letter(-1),
                Shelf::Discarded => {}
            }
        }
        drop(settled);
        self.rewrite(gone.iter().map(|seq| (*seq, Rewritten::Deleted)).collect())?;
        self.note_deleted(&gone)?;
        Ok(gone.len() as u64)
    }
}
