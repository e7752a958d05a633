//! Dead letters: another chance for them, or none any more.
//!
//! Which ones a filter means is found by a reader; the writer gets their numbers and looks again.

use rusqlite::{OptionalExtension, params};

use super::batch::Batch;
use super::block;
use super::error::Fault;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::receipt_id::same;
use crate::store::{Discarded, LaneId};

/// Which dead letters the writer is to handle.
#[derive(Debug)]
pub(super) enum Chosen {
    /// The one with this receipt, if it is one.
    One(ReceiptId),
    /// Those of these numbers that are.
    These(Vec<i64>),
}

impl Chosen {
    /// How many at most.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::These(seqs) => seqs.len(),
        }
    }
}

/// One of them.
struct DeadLetter {
    seq: i64,
    lane: LaneId,
    at: i64,
    attempts: u32,
    reason: String,
}

impl Batch<'_> {
    /// Gives a record up, with the reason.
    pub(super) fn insert_dead_letter(
        &mut self,
        (lane, seq): (LaneId, i64),
        at: Timestamp,
        attempts: u32,
        reason: &str,
    ) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("insert into dead_letters (seq, lane, at, attempts, reason) values (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![seq, lane.0, at.millis(), attempts, reason])?;
        self.note_dead_letter(1);
        Ok(())
    }

    /// Makes dead letters pending again. Answers how many.
    pub(super) fn requeue(&mut self, chosen: &Chosen) -> Result<u64, Fault> {
        let taken = self.take_dead_letters(chosen)?;
        for letter in &taken {
            self.insert_pending(letter.lane, letter.seq, Some(&letter.reason))?;
        }
        Ok(taken.len() as u64)
    }

    /// Puts dead letters away. Answers how many.
    pub(super) fn discard(&mut self, chosen: &Chosen, how: &Discarded) -> Result<u64, Fault> {
        let taken = self.take_dead_letters(chosen)?;
        for DeadLetter { seq, lane, at, attempts, reason } in &taken {
            self.changes.to_trim.push(*seq);
            self.conn
                .prepare_cached(
                    "insert into discarded (seq, lane, at, attempts, reason, discarded_at, discarded_by, discarded_for) \
                     values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![seq, lane.0, at, attempts, reason, how.at.millis(), how.by, how.reason])?;
        }
        Ok(taken.len() as u64)
    }

    /// Takes those that are still there out of the dead letters.
    fn take_dead_letters(&mut self, chosen: &Chosen) -> rusqlite::Result<Vec<DeadLetter>> {
        let one: Vec<i64>;
        let seqs = match chosen {
            Chosen::One(receipt) => {
                one = self.number_of(receipt)?.into_iter().collect();
                &one
            }
            Chosen::These(seqs) => seqs,
        };
        let mut taken = Vec::with_capacity(seqs.len());
        let mut delete = self
            .conn
            .prepare_cached("delete from dead_letters where seq = ?1 returning seq, lane, at, attempts, reason")?;
        for seq in seqs {
            let letter = delete.query_row([seq], |row| {
                Ok(DeadLetter {
                    seq: row.get(0)?,
                    lane: LaneId(row.get(1)?),
                    at: row.get(2)?,
                    attempts: row.get(3)?,
                    reason: row.get(4)?,
                })
            });
            taken.extend(letter.optional()?);
        }
        self.note_dead_letter(-i64::try_from(taken.len()).unwrap_or(i64::MAX));
        Ok(taken)
    }

    /// The number of the record that this is the receipt of.
    fn number_of(&self, receipt: &ReceiptId) -> rusqlite::Result<Option<i64>> {
        let unmasked = self.ledger.mask.open(receipt);
        let Ok(seq) = i64::try_from(unmasked.seq) else { return Ok(None) };
        let random = block::head(self.conn, seq)?.map(|head| head.random);
        Ok(random.filter(|random| same(random, &unmasked.random)).map(|_| seq))
    }
}
