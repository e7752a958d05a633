//! Lanes, leases, and how a lease ends.

use std::time::Duration;

use super::StoredRecord;
use crate::domain::ids::{OrganizationId, QueueName, ReceiptId, WorkStreamId};
use crate::domain::time::Timestamp;

/// A fresh record is due from the beginning of time, so that a clock that was set back cannot hold it up.
pub(in crate::store) const DUE_AT_ONCE: i64 = 0;

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
    /// Records to be delivered, leased ones included, waiting ones not.
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
    /// The consumer has set it aside: it is not offered, and closes as delivered unless it is revived before.
    Waiting {
        /// When it closes.
        closes_at: Timestamp,
    },
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
