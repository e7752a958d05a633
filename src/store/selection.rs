//! Which records are meant: a page of a list, dead letters to be put back or put away, or delivered records to be delivered
//! again.

use std::collections::BTreeMap;

use super::{DeliveryState, LaneId, ReceiptStatus};
use crate::domain::ids::{LogicalName, OrganizationId, QueueName, ReceiptId, WorkStreamId};
use crate::domain::time::Timestamp;

/// The most records that one call puts back or puts away.
pub const MAX_HANDLED: usize = 1_000;

/// The most records that one call names of those that it could not put back.
pub const MAX_NAMED: usize = 100;

/// What a record must be like. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Of this organization.
    pub organization: Option<OrganizationId>,
    /// Of this work stream.
    pub work_stream: Option<WorkStreamId>,
    /// Routed to this queue.
    pub queue: Option<QueueName>,
    /// Of this kind.
    pub entity_logical_name: Option<LogicalName>,
    /// Its latest error, for a dead letter the reason, contains this text; ASCII letters in any case.
    pub reason_contains: Option<String>,
    /// Accepted at this moment or later.
    pub accepted_since: Option<Timestamp>,
    /// Accepted before this moment.
    pub accepted_until: Option<Timestamp>,
}

/// Which records to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only such records.
    pub filter: RecordFilter,
    /// Only those that stand here. A list that asks for a reason, and for no state, is one of dead letters.
    pub state: Option<DeliveryState>,
    /// In a list of dead letters: those that were discarded, instead of those that were not.
    pub discarded: bool,
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

/// Which dead letters are to be handled. Those that were discarded are none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetters {
    /// This one.
    One(ReceiptId),
    /// Such records, oldest first, a page at a time.
    Matching {
        /// What they are like.
        filter: RecordFilter,
        /// Only those after this position, as the `next` of an earlier call said.
        after: Option<i64>,
        /// The most to handle, up to [`MAX_HANDLED`]; it may be fewer, although there are more.
        limit: usize,
    },
}

/// What became of a call that handles dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handled {
    /// How many were handled.
    pub count: u64,
    /// Where to go on, if there may be more.
    pub next: Option<i64>,
}

/// Which delivered records are to be pending again, oldest first, a page at a time.
///
/// It goes by when they were delivered, not by when they were accepted: a destination that lost what it took since some
/// moment lost what was acknowledged since then, however long that had waited before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redelivery {
    /// Of these lanes.
    pub lanes: Vec<LaneId>,
    /// Delivered at this moment or later.
    pub since: Timestamp,
    /// Delivered before this moment.
    pub until: Timestamp,
    /// Only those after this position, as the `next` of an earlier call said.
    pub after: Option<i64>,
    /// The most to put back, up to [`MAX_HANDLED`]; it may be fewer, although there are more.
    pub limit: usize,
    /// Only count.
    pub dry_run: bool,
}

/// What became of a call that puts delivered records back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redelivered {
    /// How many are pending again, or would be, of each lane that has any.
    pub lanes: BTreeMap<LaneId, u64>,
    /// How many were meant and stay delivered, since their details were let go.
    pub without_details: u64,
    /// The first of those, at most [`MAX_NAMED`].
    pub named: Vec<ReceiptId>,
    /// Where to go on, if there may be more.
    pub next: Option<i64>,
}

impl Redelivered {
    /// How many are pending again, or would be, in all lanes.
    pub fn count(&self) -> u64 {
        self.lanes.values().sum()
    }
}

/// What the receipt of a record that was delivered at this moment says from then on as its latest error: nothing else
/// tells that it was there before.
pub(super) fn delivered_before(at: Timestamp) -> String {
    format!("delivered on {at}, and requeued since")
}
