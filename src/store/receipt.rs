//! A record on its way in, the proof that it is kept, and what became of it.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::receipt_id::ReceiptMask;
use super::{Lane, LaneId};
use crate::domain::admission::Admitted;
use crate::domain::ids::{LogicalName, OrganizationId, ReceiptId, RecordId, WorkStreamId};
use crate::domain::record::RecordDetails;
use crate::domain::routing::Route;
use crate::domain::time::Timestamp;

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
    /// How many new records the commit held that this one went with.
    commit_records: u32,
}

/// A record that has arrived, as much of it as says whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its number: they are given in the order of arrival, from 1.
    pub number: u64,
    /// Its receipt.
    pub receipt: ReceiptId,
    /// Whose it is, and where it was routed to.
    pub lane: Lane,
}

/// How a repeated record compares with the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// Whether the details are other than the stored ones; the stored ones count.
    pub details_differ: bool,
}

/// What an append came to, before its receipt ID is made of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Appended {
    pub(in crate::store) seq: i64,
    pub(in crate::store) random: [u8; 16],
    pub(in crate::store) lane: LaneId,
    pub(in crate::store) repeat: Option<Repeat>,
    /// New records in the commit that it went with; known once that is done.
    pub(in crate::store) commit_records: u32,
}

impl Appended {
    /// The receipt.
    pub(in crate::store) fn receipt(self, mask: &ReceiptMask) -> Receipt {
        let Self { seq, random, lane, repeat, commit_records } = self;
        Receipt { id: mask.id_of(seq.cast_unsigned(), random), repeat, lane, commit_records }
    }
}

impl Receipt {
    /// For engines that keep nothing, which benchmarks compare with.
    #[cfg(feature = "bench-engines")]
    pub(in crate::store) const fn committed(id: ReceiptId, lane: LaneId, repeat: Option<Repeat>) -> Self {
        Self { id, repeat, lane, commit_records: 1 }
    }

    /// How many new records the commit held that made this receipt true.
    pub const fn commit_records(&self) -> u32 {
        self.commit_records
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

/// What is left of a record's details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Details {
    /// All of them.
    Kept(RecordDetails),
    /// Their fingerprint: the record is settled, and its details were let go.
    Trimmed {
        /// SHA-256 of the bytes that were there.
        sha256: [u8; 32],
    },
}

impl Details {
    /// Whether these are other details.
    pub fn differ_from(&self, other: &[u8]) -> bool {
        match self {
            Self::Kept(details) => details.as_bytes() != other,
            Self::Trimmed { sha256 } => *sha256 != <[u8; 32]>::from(Sha256::digest(other)),
        }
    }

    /// The details, where they are still there.
    pub const fn kept(&self) -> Option<&RecordDetails> {
        match self {
            Self::Kept(details) => Some(details),
            Self::Trimmed { .. } => None,
        }
    }
}

/// A record as the store keeps it. What is leased always has its details; what is looked up may have lost them, and
/// is a `StoredRecord<Details>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord<D = RecordDetails> {
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
    pub details: D,
    /// Where it goes.
    pub route: Route,
    /// The configuration that admitted it.
    pub catalog_generation: u64,
    /// When it arrived.
    pub accepted_at: Timestamp,
    /// What is carried along.
    pub trace: TraceContext,
}

/// Where a record stands (contract §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// On disk, waiting for its turn.
    Accepted,
    /// On lease, tried and waiting for the next try, or waiting with its consumer.
    Delivering,
    /// The consumer has it.
    Delivered,
    /// Given up, with a reason; can be requeued unless it was discarded.
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

impl StoredRecord<Details> {
    /// The record with its details, if they are still there.
    pub fn whole(self) -> Option<StoredRecord> {
        let Details::Kept(details) = self.details else { return None };
        Some(StoredRecord {
            receipt: self.receipt,
            organization: self.organization,
            work_stream: self.work_stream,
            entity_logical_name: self.entity_logical_name,
            entity_set_name: self.entity_set_name,
            record_id: self.record_id,
            relationship_name: self.relationship_name,
            details,
            route: self.route,
            catalog_generation: self.catalog_generation,
            accepted_at: self.accepted_at,
            trace: self.trace,
        })
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
    /// Since when and how long a consumer lets it wait, if one does. Its state is then *delivering*.
    pub waiting: Option<Waiting>,
    /// For a record that was delivered by closing while it waited: how many minutes it had waited by then.
    pub closed_after_minutes: Option<u64>,
    /// For a dead letter that was put away: by whom, when and why.
    pub discarded: Option<Discarded>,
}

/// A record that waits with its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Since when.
    pub since: Timestamp,
    /// When it closes by itself.
    pub closes_at: Timestamp,
}

/// How a dead letter was put away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
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
