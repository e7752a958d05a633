//! What survives: the port to the record store, and the promises every engine keeps.
//!
//! * [`Store::append`] answers with a [`Receipt`] only after the record, and the key that recognizes its repeat, are
//!   durable on disk. Nothing else can make a receipt, and only a receipt can make a 202.
//! * A record is *pending* until it is settled as *delivered* or *dead-lettered*; there is no fourth state, and no way
//!   out but through [`Store::settle`].
//! * [`Store::lease`] hands a record to one holder at a time. A lease that runs out is offered again, and the late
//!   holder's token is refused.
//! * Records carry a contiguous sequence and a checksum; a gap or a flipped bit is reported, never skipped.
//!
//! The one test suite that all engines pass is `contract` (compiled for tests only).

pub mod catalog;
pub mod receipt_id;
pub mod sqlite;

#[cfg(test)]
pub mod contract;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::domain::admission::Admitted;
use crate::domain::ids::{LogicalName, OrganizationId, QueueName, ReceiptId, RecordId, WorkStreamId};
use crate::domain::record::RecordDetails;
use crate::domain::routing::Route;
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

    /// What became of a receipt; `None` when there is no such receipt.
    fn receipt(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptStatus>, StoreError>>;

    /// The whole record behind a receipt; `None` when there is no such receipt.
    fn record(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<StoredRecord>, StoreError>>;

    /// Records, newest first, a page at a time.
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Makes dead letters pending again, due at once, with their attempts counted from zero. Answers how many.
    fn requeue(&self, query: RequeueQuery) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Every lane that ever held a record, with how much is pending in it. Cheap: answered from memory.
    fn lanes(&self) -> Vec<LaneBacklog>;

    /// Figures for metrics and health. Cheap: answered from memory.
    fn stats(&self) -> Stats;

    /// Finishes what was begun, and closes. Later calls answer [`StoreError::Unavailable`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A record to be stored, with what it brings along besides its own content.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The proof that it passed admission.
    pub admitted: Box<Admitted>,
    /// When it arrived.
    pub accepted_at: Timestamp,
    /// What is carried along to the consumer.
    pub trace: TraceContext,
}

/// The two inbound headers that travel with a record (contract §6), already checked and bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TraceContext {
    /// W3C `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// `x-ms-client-tracking-id`, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tracking_id: Option<String>,
}

/// Proof that a record is on disk. Only an engine makes one, after its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    id: ReceiptId,
    repeat: Option<Repeat>,
    lane: LaneId,
}

/// How a repeated record compares with the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// Whether the details are other than the stored ones; the stored ones count.
    pub details_differ: bool,
}

impl Receipt {
    /// For engines, after their commit.
    pub(in crate::store) const fn committed(id: ReceiptId, lane: LaneId, repeat: Option<Repeat>) -> Self {
        Self { id, repeat, lane }
    }

    /// What the caller gets.
    pub const fn id(&self) -> ReceiptId {
        self.id
    }

    /// `Some` when the record had been stored before and this is its first receipt.
    pub const fn repeat(&self) -> Option<Repeat> {
        self.repeat
    }

    /// The lane it waits in.
    pub const fn lane(&self) -> LaneId {
        self.lane
    }
}

/// A small number for one (organization, work stream, queue): records of one lane go to one place, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub i64);

/// What a lane stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The tenant.
    pub organization: OrganizationId,
    /// The work stream.
    pub work_stream: WorkStreamId,
    /// The queue that the records were routed to.
    pub queue: QueueName,
}

/// A lane and how much is pending in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneBacklog {
    /// Its number.
    pub id: LaneId,
    /// What it stands for.
    pub lane: Lane,
    /// Records neither delivered nor dead-lettered, leased ones included.
    pub pending: u64,
}

/// Which records to lease.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Lanes in groups: an earlier group is emptied before a later one; within a group the records go by arrival.
    pub groups: Vec<Vec<LaneId>>,
    /// The most records to hand out.
    pub max: usize,
    /// The present moment: what is due by then is handed out.
    pub now: Timestamp,
    /// How long the holder may keep them.
    pub duration: Duration,
}

/// What a lease request got.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    /// The records, in the order asked for.
    pub leased: Vec<Leased>,
    /// Where fewer were due than asked for: no other record of these lanes becomes due before this moment, which lies
    /// in the future unless there is more to be had at once. Asking again then may still find nothing.
    pub next_due: Option<Timestamp>,
}

/// One record on lease.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The record.
    pub record: StoredRecord,
    /// The lane it waits in.
    pub lane: LaneId,
    /// What the holder shows to settle it.
    pub token: LeaseToken,
    /// When the lease ends.
    pub until: Timestamp,
    /// Which try this is, from 1.
    pub attempt: u32,
}

/// Proof of a lease: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub [u8; 16]);

impl LeaseToken {
    /// Reads 32 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        u128::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+')).map(|bits| Self(bits.to_be_bytes()))
    }
}

impl std::fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl std::fmt::Debug for LeaseToken {
    /// Never the bits: whoever reads them in a log could settle the lease.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseToken(…)")
    }
}

/// A record as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its receipt.
    pub receipt: ReceiptId,
    /// The tenant.
    pub organization: OrganizationId,
    /// The work stream.
    pub work_stream: WorkStreamId,
    /// Which kind of record.
    pub entity_logical_name: LogicalName,
    /// The name of the kind's collection.
    pub entity_set_name: LogicalName,
    /// The record's primary key.
    pub record_id: RecordId,
    /// The relationship between the record and its work items.
    pub relationship_name: LogicalName,
    /// The created row, byte for byte.
    pub details: RecordDetails,
    /// Where it goes.
    pub route: Route,
    /// The configuration that admitted it.
    pub catalog_generation: u64,
    /// When it arrived.
    pub accepted_at: Timestamp,
    /// What is carried along.
    pub trace: TraceContext,
}

/// The end of one lease.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The record.
    pub receipt: ReceiptId,
    /// Proof of the lease.
    pub token: LeaseToken,
    /// The present moment.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a lease ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The consumer has it.
    Delivered,
    /// Not now: due again at `due`, with the reason kept for whoever asks.
    Retry {
        /// When to try again.
        due: Timestamp,
        /// Why this try failed.
        error: String,
    },
    /// Given back untried: due at once, and the attempt does not count.
    Released,
    /// Given up, with the reason.
    DeadLettered {
        /// Why.
        reason: String,
    },
}

/// What a settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Done,
    /// The lease had ended, or the record was settled, requeued or never there: nothing changed.
    LeaseLost,
}

/// Where a record stands (contract §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// On disk, waiting for its turn.
    Accepted,
    /// On lease, or tried and waiting for the next try.
    Delivering,
    /// The consumer has it.
    Delivered,
    /// Given up, with a reason; can be requeued.
    DeadLettered,
}

impl DeliveryState {
    /// Every state, in the order of a record's life.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Delivering, Self::Delivered, Self::DeadLettered];

    /// The text of the state in answers, flags and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::DeadLettered => "dead-lettered",
        }
    }
}

/// What became of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptStatus {
    /// The record without its details.
    pub summary: RecordSummary,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried or leased.
    pub attempts: u32,
    /// Why the latest try failed, or why it was given up.
    pub last_error: Option<String>,
    /// When it is due next, while it is pending.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was delivered or given up.
    pub settled_at: Option<Timestamp>,
}

/// A record without its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSummary {
    /// Its receipt.
    pub receipt: ReceiptId,
    /// The tenant.
    pub organization: OrganizationId,
    /// The work stream.
    pub work_stream: WorkStreamId,
    /// Which kind of record.
    pub entity_logical_name: LogicalName,
    /// The record's primary key.
    pub record_id: RecordId,
    /// Where it goes.
    pub route: Route,
    /// The configuration that admitted it.
    pub catalog_generation: u64,
    /// When it arrived.
    pub accepted_at: Timestamp,
    /// What is carried along.
    pub trace: TraceContext,
}

/// Which records to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only this organization's.
    pub organization: Option<OrganizationId>,
    /// Only this work stream's.
    pub work_stream: Option<WorkStreamId>,
    /// Only those that stand here.
    pub state: Option<DeliveryState>,
    /// Only those before this position, as an earlier page's `next` said.
    pub before: Option<i64>,
    /// The most to list.
    pub limit: usize,
}

/// One page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The records, newest first.
    pub records: Vec<ReceiptStatus>,
    /// Where the next page starts, if there may be one.
    pub next: Option<i64>,
}

/// Which dead letters to make pending again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequeueQuery {
    /// This one.
    One(ReceiptId),
    /// All of an organization (`None`: of every organization).
    All {
        /// The tenant.
        organization: Option<OrganizationId>,
    },
}

/// Figures for metrics and health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records neither delivered nor dead-lettered.
    pub pending: u64,
    /// Dead letters.
    pub dead_lettered: u64,
    /// The sequence number of the newest record; 0 before the first.
    pub high_water_mark: u64,
    /// Bytes still free for records above the reserve.
    pub free_bytes_above_reserve: u64,
    /// Why nothing can be accepted, if so.
    pub refusing: Option<Refusing>,
}

/// Why a store accepts nothing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusing {
    /// The disk is down to its reserve; room heals it.
    Full,
    /// A write or a sync failed: what is on disk is unknown until a restart reads it.
    Broken,
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
    /// What was read is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The engine failed in a way that leaves the store usable.
    #[error("the store could not answer: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}
