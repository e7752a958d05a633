//! Settle: how a lease ends, and with it, mostly, a record's time as *pending*.

use rusqlite::{OptionalExtension, params};

use super::batch::Batch;
use super::block::{self, Head};
use super::error::Fault;
use super::waiting::Waiter;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::lease::DUE_AT_ONCE;
use crate::store::receipt_id::same;
use crate::store::{LaneId, LeaseToken, Outcome, Settled, Settlement};

/// A record that is delivered now.
pub(super) struct Delivered {
    pub(super) seq: i64,
    pub(super) lane: LaneId,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
    pub(super) closed_after_minutes: Option<i64>,
}

/// A record on lease.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) lane: LaneId,
    pub(super) token: [u8; 16],
    /// When the lease ends, in milliseconds since 1970.
    pub(super) until: i64,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
}

impl Batch<'_> {
    /// Settles each lease that still holds.
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>, Fault> {
        settlements.iter().map(|settlement| Ok(self.settle_one(settlement)?)).collect()
    }

    fn settle_one(&mut self, settlement: &Settlement) -> rusqlite::Result<Settled> {
        let Settlement { receipt, token, at, outcome } = settlement;
        let Some((seq, held)) = self.held(receipt, token, *at)? else { return Ok(Settled::LeaseLost) };
        let Held { lane, attempts, last_error, .. } = held;
        self.changes.unleased.insert(seq);
        match outcome {
            Outcome::Delivered => {
                self.remove_pending(lane, seq)?;
                self.insert_delivered(&Delivered {
                    seq,
                    lane,
                    at: *at,
                    attempts,
                    last_error,
                    closed_after_minutes: None,
                })?;
            }
            Outcome::Retry { due, error } => {
                self.give_back((lane, seq), due.millis(), attempts, Some(error))?;
            }
            Outcome::Released => {
                self.give_back((lane, seq), DUE_AT_ONCE, attempts.saturating_sub(1), last_error.as_deref())?;
            }
            Outcome::Waiting { closes_at } => {
                self.remove_pending(lane, seq)?;
                self.insert_waiting(&Waiter { seq, lane, since: *at, closes_at: *closes_at, attempts, last_error })?;
            }
            Outcome::DeadLettered { reason } => {
                self.remove_pending(lane, seq)?;
                self.insert_dead_letter((lane, seq), *at, attempts, reason)?;
            }
        }
        Ok(Settled::Done)
    }

    /// The record, if this token's lease on it still holds.
    fn held(&self, receipt: &ReceiptId, token: &LeaseToken, at: Timestamp) -> rusqlite::Result<Option<(i64, Held)>> {
        let Ok(seq) = i64::try_from(self.ledger.mask.open(receipt).seq) else { return Ok(None) };
        let remembered = self.ledger.leases.get(&seq).filter(|_| !self.changes.unleased.contains(&seq)).cloned();
        let held = match remembered {
            Some(held) => Some(held),
            None => self.held_on_disk(seq)?,
        };
        Ok(held.filter(|held| held.until > at.millis() && same(&held.token, &token.0)).map(|held| (seq, held)))
    }

    /// The lease that this record is on, as its row says.
    fn held_on_disk(&self, seq: i64) -> rusqlite::Result<Option<Held>> {
        let Some(Head { lane, .. }) = block::head(self.conn, seq)? else { return Ok(None) };
        self.conn
            .prepare_cached(
                "select lease_token, due_at, attempts, last_error from pending \
                 where lane = ?1 and seq = ?2 and lease_token is not null",
            )?
            .query_row(params![lane.0, seq], |row| {
                let (token, until) = (row.get(0)?, row.get(1)?);
                Ok(Held { lane, token, until, attempts: row.get(2)?, last_error: row.get(3)? })
            })
            .optional()
    }

    /// Ends the lease; the record stays pending.
    fn give_back(
        &mut self,
        (lane, seq): (LaneId, i64),
        due_at: i64,
        attempts: u32,
        last_error: Option<&str>,
    ) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached(
                "update pending set due_at = ?3, attempts = ?4, last_error = ?5, lease_token = null \
                 where lane = ?1 and seq = ?2",
            )?
            .execute(params![lane.0, seq, due_at, attempts, last_error])?;
        self.note_due(lane, due_at);
        Ok(())
    }

    /// Makes a record delivered. Its details go with it, where that is wanted.
    pub(super) fn insert_delivered(&mut self, delivered: &Delivered) -> rusqlite::Result<()> {
        let Delivered { seq, lane, at, attempts, last_error, closed_after_minutes } = delivered;
        let trim = self.ledger.trim_at_delivery && !self.ledger.wanted.has(*seq);
        if trim {
            self.changes.to_trim.push(*seq);
        }
        self.conn
            .prepare_cached(
                "insert into delivered (seq, lane, at, attempts, last_error, trimmed, closed_after_minutes) \
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                seq,
                lane.0,
                at.millis(),
                attempts,
                last_error,
                trim.then_some(1),
                closed_after_minutes
            ])?;
        self.note_delivered(*seq);
        Ok(())
    }

    /// Takes a record out of the pending ones, where it must be.
    pub(super) fn remove_pending(&mut self, lane: LaneId, seq: i64) -> rusqlite::Result<()> {
        self.conn.prepare_cached("delete from pending where lane = ?1 and seq = ?2")?.execute(params![lane.0, seq])?;
        self.note_pending(lane, -1);
        self.changes.unleased.insert(seq);
        Ok(())
    }

    /// Takes a record that was never handed out, the next of its lane, out of the pending ones.
    pub(super) fn remove_untried(&mut self, lane: LaneId, seq: i64) {
        self.changes.untried.take(lane, seq);
        self.note_pending(lane, -1);
    }
}
