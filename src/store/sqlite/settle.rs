//! Settle: the only way out of *pending*. And requeue: the way back.

use rusqlite::{OptionalExtension, params};

use super::append::DUE_AT_ONCE;
use super::batch::Batch;
use super::error::Fault;
use crate::domain::ids::{OrganizationId, ReceiptId};
use crate::domain::time::Timestamp;
use crate::store::receipt_id::same;
use crate::store::{LaneId, LeaseToken, Outcome, Settled, Settlement};

/// Dead letters that one transaction requeues at most; more of them take several, so that appends are not held up.
pub(super) const REQUEUED_AT_ONCE: usize = if cfg!(test) { 2 } else { 4_096 };

/// A record on a lease that still holds.
struct Held {
    seq: i64,
    lane: LaneId,
    attempts: u32,
    last_error: Option<String>,
}

/// What one transaction requeued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Requeued {
    /// How many.
    pub(super) count: u64,
    /// Where to go on, if there may be more.
    pub(super) after: Option<i64>,
}

impl Batch<'_> {
    /// Settles each lease that still holds.
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>, Fault> {
        settlements.iter().map(|settlement| Ok(self.settle_one(settlement)?)).collect()
    }

    fn settle_one(&mut self, settlement: &Settlement) -> rusqlite::Result<Settled> {
        let Settlement { receipt, token, at, outcome } = settlement;
        let Some(held) = self.held(receipt, token, *at)? else { return Ok(Settled::LeaseLost) };
        let Held { seq, lane, attempts, last_error } = held;
        match outcome {
            Outcome::Delivered => {
                self.remove_pending(lane, seq)?;
                self.conn
                    .prepare_cached(
                        "insert into delivered (seq, lane, at, attempts, last_error) values (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![seq, lane.0, at.millis(), attempts, last_error])?;
                self.note_delivered(seq);
            }
            Outcome::Retry { due, error } => {
                self.give_back((lane, seq), due.millis(), attempts, Some(error))?;
            }
            Outcome::Released => {
                self.give_back((lane, seq), DUE_AT_ONCE, attempts.saturating_sub(1), last_error.as_deref())?;
            }
            Outcome::DeadLettered { reason } => {
                self.remove_pending(lane, seq)?;
                self.insert_dead_letter((lane, seq), *at, attempts, reason)?;
            }
        }
        Ok(Settled::Done)
    }

    /// The record, if this token's lease on it still holds.
    fn held(&self, receipt: &ReceiptId, token: &LeaseToken, at: Timestamp) -> rusqlite::Result<Option<Held>> {
        let Ok(seq) = i64::try_from(self.ledger.mask.open(receipt).seq) else { return Ok(None) };
        let found = self
            .conn
            .prepare_cached(
                "select lane, attempts, last_error, lease_token from pending \
                 where lane = (select lane from records where seq = ?1) and seq = ?1 \
                 and lease_token is not null and due_at > ?2",
            )?
            .query_row(params![seq, at.millis()], |row| {
                let held = Held { seq, lane: LaneId(row.get(0)?), attempts: row.get(1)?, last_error: row.get(2)? };
                Ok((held, row.get::<_, [u8; 16]>(3)?))
            })
            .optional()?;
        Ok(found.and_then(|(held, stored)| same(&stored, &token.0).then_some(held)))
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

    /// Takes a record out of the pending ones, where it must be.
    pub(super) fn remove_pending(&mut self, lane: LaneId, seq: i64) -> rusqlite::Result<()> {
        self.conn.prepare_cached("delete from pending where lane = ?1 and seq = ?2")?.execute(params![lane.0, seq])?;
        self.note_settled(lane);
        Ok(())
    }

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

    /// Makes one dead letter pending again.
    pub(super) fn requeue_one(&mut self, receipt: &ReceiptId) -> Result<Requeued, Fault> {
        let none = Requeued { count: 0, after: None };
        let unmasked = self.ledger.mask.open(receipt);
        let Ok(seq) = i64::try_from(unmasked.seq) else { return Ok(none) };
        let dead = self
            .conn
            .prepare_cached(
                "select d.lane, d.reason, r.receipt from dead_letters d join records r on r.seq = d.seq where d.seq = ?1",
            )?
            .query_row([seq], |row| Ok((LaneId(row.get(0)?), row.get(1)?, row.get::<_, [u8; 16]>(2)?)))
            .optional()?;
        match dead {
            Some((lane, reason, random)) if same(&random, &unmasked.random) => {
                self.revive(lane, seq, reason)?;
                Ok(Requeued { count: 1, after: None })
            }
            Some(_) | None => Ok(none),
        }
    }

    /// Makes an organization's dead letters after `after` pending again, oldest first, as many as go into one
    /// transaction.
    pub(super) fn requeue_all(&mut self, organization: Option<&OrganizationId>, after: i64) -> Result<Requeued, Fault> {
        let limit = i64::try_from(REQUEUED_AT_ONCE).unwrap_or(i64::MAX);
        let blob = organization.map(|organization| *organization.guid().as_bytes());
        let dead = self
            .conn
            .prepare_cached(
                "select seq, lane, reason from dead_letters where seq > ?1 and (?2 is null or lane in \
                 (select id from lanes where organization = ?2)) order by seq limit ?3",
            )?
            .query_map(params![after, blob, limit], |row| Ok((row.get(0)?, LaneId(row.get(1)?), row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(i64, LaneId, String)>>>()?;
        let full = dead.len() == REQUEUED_AT_ONCE;
        let last = dead.last().map(|(seq, ..)| *seq);
        let count = dead.len() as u64;
        for (seq, lane, reason) in dead {
            self.revive(lane, seq, reason)?;
        }
        Ok(Requeued { count, after: last.filter(|_| full) })
    }

    fn revive(&mut self, lane: LaneId, seq: i64, reason: String) -> rusqlite::Result<()> {
        self.conn.prepare_cached("delete from dead_letters where seq = ?1")?.execute([seq])?;
        self.note_dead_letter(-1);
        self.insert_pending(lane, seq, Some(&reason))
    }
}
