//! Waiting: a consumer has set a record aside. It comes back, or it closes.
//!
//! Closing is final and makes a record delivered. The moment that was said when it began to wait decides, not the one
//! at which the retention thread gets to it: from then on it cannot be revived any more.

use rusqlite::{OptionalExtension, Row, params};

use super::batch::Batch;
use super::block;
use super::error::Fault;
use super::settle::Delivered;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::LaneId;
use crate::store::receipt_id::same;

/// Waiting records that one transaction closes at most.
pub(super) const CLOSED_AT_ONCE: i64 = 256;

/// A record that waits.
pub(super) struct Waiter {
    pub(super) seq: i64,
    pub(super) lane: LaneId,
    pub(super) since: Timestamp,
    pub(super) closes_at: Timestamp,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
}

/// The columns of a [`Waiter`].
const COLUMNS: &str = "w.seq, w.lane, w.since, w.closes_at, w.attempts, w.last_error";

impl Waiter {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            lane: LaneId(row.get(1)?),
            since: Timestamp::from_millis(row.get(2)?),
            closes_at: Timestamp::from_millis(row.get(3)?),
            attempts: row.get(4)?,
            last_error: row.get(5)?,
        })
    }
}

impl Batch<'_> {
    /// Makes a record wait.
    pub(super) fn insert_waiting(&mut self, waiter: &Waiter) -> rusqlite::Result<()> {
        let Waiter { seq, lane, since, closes_at, attempts, last_error } = waiter;
        self.conn
            .prepare_cached(
                "insert into waiting (seq, lane, since, closes_at, attempts, last_error) values (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![seq, lane.0, since.millis(), closes_at.millis(), attempts, last_error])?;
        self.note_waiting(1);
        Ok(())
    }

    /// Makes a waiting record pending again, if it still waits.
    pub(super) fn revive(&mut self, receipt: &ReceiptId, now: Timestamp) -> Result<bool, Fault> {
        let unmasked = self.ledger.mask.open(receipt);
        let Ok(seq) = i64::try_from(unmasked.seq) else { return Ok(false) };
        let found = self
            .conn
            .prepare_cached(&format!("select {COLUMNS} from waiting w where w.seq = ?1"))?
            .query_row([seq], Waiter::of)
            .optional()?;
        let Some(head) = block::head(self.conn, seq)? else { return Ok(false) };
        match found {
            Some(waiter) if same(&head.random, &unmasked.random) && waiter.closes_at > now => {
                self.remove_waiting(seq)?;
                self.insert_pending_after((waiter.lane, seq), waiter.attempts, waiter.last_error.as_deref())?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Closes what has waited until now, oldest moment first, as much as goes into one transaction. Answers how many.
    pub(super) fn close_waiting(&mut self, now: Timestamp) -> Result<u64, Fault> {
        let over = self
            .conn
            .prepare_cached(&format!(
                "select {COLUMNS} from waiting w where w.closes_at <= ?1 order by w.closes_at, w.seq limit {CLOSED_AT_ONCE}"
            ))?
            .query_map([now.millis()], Waiter::of)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let count = over.len() as u64;
        for Waiter { seq, lane, since, closes_at, attempts, last_error } in over {
            let minutes = closes_at.since(since).as_secs() / 60;
            self.remove_waiting(seq)?;
            self.insert_delivered(&Delivered {
                seq,
                lane,
                // When it closed by what was said, however late this is.
                at: closes_at,
                attempts,
                last_error,
                closed_after_minutes: Some(minutes.cast_signed()),
            })?;
        }
        Ok(count)
    }

    fn remove_waiting(&mut self, seq: i64) -> rusqlite::Result<()> {
        self.conn.prepare_cached("delete from waiting where seq = ?1")?.execute([seq])?;
        self.note_waiting(-1);
        Ok(())
    }
}
