//! What survives: the port to the record store, and the promises every engine keeps.
//!
//! * [`Store::append`] answers with a [`Receipt`] only after the record, and the key that recognizes its repeat, are
//!   durable on disk. Nothing else can make a receipt, and only a receipt can make a 202.
//! * A record is *pending* until it is settled as *delivered* or *dead-lettered*. A consumer may also let it *wait*:
//!   then it comes back to pending by [`Store::revive`], or closes by itself, delivered, at a moment that was said.
//!   There is no other state, and no way from one to another but these, [`Store::settle`], [`Store::requeue`],
//!   [`Store::redeliver`] and [`Store::discard`].
//! * [`Store::lease`] hands a record to one holder at a time. A lease that runs out is offered again, and the late
//!   holder's token is refused.
//! * Records carry a contiguous sequence and a checksum; a gap or a flipped bit is reported, never skipped.
//! * An engine forgets by itself, as [`RetentionSettings`](crate::config::settings::RetentionSettings) say: it trims and
//!   deletes what is settled, never what is pending or waiting, and never a record whose repeat would still count. A
//!   pending record that has become too old is given up, with that reason, and never dropped. What was deleted is
//!   remembered as deleted, so that it is told apart from what was lost.
//!
//! The one test suite that all engines pass is `contract` (compiled for tests only).

#[cfg(feature = "bench-engines")]
pub mod bench;
pub mod catalog;
pub mod copying;
pub mod gateways;
mod kept_audit;
pub mod lease;
pub mod observer;
pub mod postgres;
pub mod receipt;
pub mod receipt_id;
mod record_format;
pub mod selection;
pub mod sqlite;
mod standing;
pub mod subscriptions;
pub mod verification;

#[cfg(test)]
pub mod contract;

use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};

pub use self::lease::{
    Lane, LaneBacklog, LaneId, LeaseRequest, LeaseToken, Leased, Leases, Outcome, Settled, Settlement,
};
pub use self::receipt::{
    Arrival, DeliveryState, Details, Discarded, Entry, Receipt, ReceiptStatus, RecordSummary, Repeat, StoredRecord,
    TraceContext, Waiting,
};
pub use self::selection::{
    DeadLetters, Handled, ListQuery, MAX_HANDLED, MAX_NAMED, Page, RecordFilter, Redelivered, Redelivery,
};

use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;

/// The record store.
///
/// Every method may be called from any runtime; none blocks the caller's thread.
pub trait Store: Send + Sync + 'static {
    /// Makes an admitted record durable, once per idempotency key (contract §4).
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<Receipt, StoreError>>;

    /// Hands out pending records that are due, marking them taken until the lease ends.
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Leases, StoreError>>;

    /// Ends leases. The answers stand in the order of the settlements.
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<Vec<Settled>, StoreError>>;

    /// What became of a receipt; `None` when there is no such receipt, or none any more.
    fn receipt(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptStatus>, StoreError>>;

    /// The whole record behind a receipt, or what is left of it; `None` when there is no such receipt.
    fn record(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<StoredRecord<Details>>, StoreError>>;

    /// Records, newest first, a page at a time.
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Records that arrived after the one with this number (0: from the first on), in the order of their arrival, at
    /// most so many. What was deleted meanwhile is not among them.
    fn since(&self, number: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Arrival>, StoreError>>;

    /// Says which records somebody still needs whole: this one and all that came after. Their details are not let go and
    /// they are not deleted, unless the disk is full. `None`: nobody needs any. Until it is said for the first time, every
    /// record is needed.
    fn keep_from(&self, number: Option<u64>);

    /// Makes a waiting record pending again, due at once, its attempts counted on. Answers whether it waited: one that
    /// has reached the moment at which it closes does not any more.
    fn revive(&self, id: ReceiptId, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Makes dead letters pending again, due at once, with their attempts counted from zero.
    fn requeue(&self, which: DeadLetters) -> BoxFuture<'_, Result<Handled, StoreError>>;

    /// Makes delivered records pending again, due at once, with their attempts counted from zero; those that have their
    /// details still. They keep their numbers, so they come before what arrived later in their lanes. What closed while it
    /// waited is not meant: nobody took it, and closed is final (contract §10).
    fn redeliver(&self, which: Redelivery) -> BoxFuture<'_, Result<Redelivered, StoreError>>;

    /// Puts dead letters away for good: they stay dead letters, with who did it and why, lose their details, and can
    /// not be requeued any more.
    fn discard(&self, which: DeadLetters, how: Discarded) -> BoxFuture<'_, Result<Handled, StoreError>>;

    /// Every lane that ever held a record, with how much is pending in it. Cheap: answered from memory.
    fn lanes(&self) -> Vec<LaneBacklog>;

    /// Figures for metrics and health. Cheap: answered from memory.
    fn stats(&self) -> Stats;

    /// The oldest pending record of each lane that has any: untried, on lease or waiting for the next try. A few look-ups by
    /// key for each such lane, whatever is pending in it, and none of them in the writer's way.
    fn oldest_pending(&self) -> BoxFuture<'_, Result<Vec<OldestPending>, StoreError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Tells this observer what happens from now on. The first one counts.
    fn observed_by(&self, _observer: Arc<dyn observer::StoreObserver>) {}

    /// Finishes what was begun, and closes. Later calls answer [`StoreError::Unavailable`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Figures for metrics and health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records to be delivered: neither settled nor waiting.
    pub pending: u64,
    /// Records that a consumer lets wait.
    pub waiting: u64,
    /// Dead letters, without those that were discarded.
    pub dead_lettered: u64,
    /// The sequence number of the newest record; 0 before the first.
    pub high_water_mark: u64,
    /// The disk that records are on, where that is this machine's.
    pub disk: Option<DiskStats>,
    /// Records that wait for the disk.
    pub waiting_appends: usize,
    /// Records that may.
    pub max_waiting_appends: usize,
    /// Why nothing can be accepted, if so.
    pub refusing: Option<Refusing>,
}

/// How full the disk of a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes still free for records above the reserve, on the disk and inside the store.
    pub free_bytes_above_reserve: u64,
    /// Free bytes on the disk, as last looked at, without those that the store has already laid claim to.
    pub free_bytes: u64,
    /// Free bytes on the disk that records never use.
    pub reserve_bytes: u64,
}

/// The oldest pending record of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldestPending {
    /// The lane.
    pub lane: LaneId,
    /// When the record was accepted.
    pub accepted_at: Timestamp,
}

/// Why a store accepts nothing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusing {
    /// The disk is down to its reserve and nothing inside the store is free, or that of the database is full; room heals it.
    Full,
    /// A write or a sync failed: what is on disk is unknown until a restart reads it.
    Broken,
    /// The database cannot be reached, or does not answer; that heals by itself.
    Unreachable,
    /// The database says that it does not keep what it commits.
    NotDurable,
    /// The database refuses what records need: a table or a right is missing; looked at every second.
    Failing,
    /// This machine's clock and the database's are further apart than anything that goes by them bears.
    ClockApart,
    /// It is closing.
    Closing,
}

/// Why a store did not do what it was asked. Nothing of a failed call has happened, and repeating it is safe.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is down to its reserve.
    #[error("the disk is full: {free_bytes} bytes are free and {reserve_bytes} are kept in reserve")]
    Full {
        /// What is free.
        free_bytes: u64,
        /// What is kept.
        reserve_bytes: u64,
    },
    /// The database's disk is full.
    #[error("the database has no room: {0}")]
    DatabaseFull(String),
    /// More is waiting to be written than may wait.
    #[error("more records wait for the disk than may wait ({limit})")]
    Overloaded {
        /// The most that may wait.
        limit: usize,
    },
    /// A write or a sync failed, now or before; only a restart may try again.
    #[error("the store stopped writing after an error ({cause}); restart the gateway")]
    Broken {
        /// What failed first.
        cause: String,
    },
    /// It is closing or closed.
    #[error("the store is closing")]
    Unavailable,
    /// Somebody else has changed the catalog since it was looked at.
    #[error("another gateway has changed the catalog in the meantime")]
    Changed,
    /// What was read is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The record was lost to damage, and that was written down when the store was recovered.
    #[error("the record was lost to damage ({why}), as was written down on {at}")]
    Lost {
        /// When the loss was written down.
        at: Timestamp,
        /// What had become of the record.
        why: String,
    },
    /// The engine failed in a way that leaves the store usable.
    #[error("the store could not answer: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}
