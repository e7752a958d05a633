//! What the forwarder tells whoever counts and follows: a port for metrics and spans, so that this room needs to know
//! neither.

use std::time::Duration;

use super::breaker::BreakerState;
use crate::domain::time::Timestamp;
use crate::store::StoredRecord;

/// How one try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TryOutcome {
    /// The destination has the record.
    Delivered,
    /// The destination has the record, and says that it had it before this try.
    Known,
    /// Not now; it may be tried again.
    Temporary,
    /// The destination will never take it.
    Permanent,
}

impl TryOutcome {
    /// The text of the outcome in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Known => "known",
            Self::Temporary => "temporary",
            Self::Permanent => "permanent",
        }
    }
}

/// A try that is about to begin.
pub struct Beginning<'a> {
    /// Where to.
    pub routing_queue: &'a str,
    /// Which try it is of the first record, from 1.
    pub attempt: u32,
    /// The present moment.
    pub now: Timestamp,
    /// What goes out.
    pub records: &'a mut dyn Iterator<Item = &'a StoredRecord>,
}

/// Somebody who follows one try.
pub trait Followed: std::fmt::Debug + Send + 'static {
    /// The `traceparent` that goes out with it.
    fn traceparent(&self) -> String;

    /// It ended; why, where it did not deliver.
    fn ended(self: Box<Self>, outcome: TryOutcome, reason: Option<&str>);
}

/// Learns what happens. Called from the forwarder's loop: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// A try is about to begin. Answers whoever wants to follow it.
    fn begins(&self, _beginning: Beginning<'_>) -> Option<Box<dyn Followed>> {
        None
    }

    /// One try ended, after this many seconds.
    fn tried(&self, _routing_queue: &str, _outcome: TryOutcome, _seconds: f64) {}

    /// The destination has more records, which were accepted so long ago.
    fn delivered(&self, _routing_queue: &str, _ages: &mut dyn Iterator<Item = Duration>) {}

    /// A record was given up.
    fn dead_lettered(&self, _routing_queue: &str) {}

    /// A destination's circuit breaker is in another state.
    fn breaker(&self, _routing_queue: &str, _state: BreakerState) {}

    /// So many pending records belong to a work stream or a routing queue that is not configured (any more). They wait.
    fn unconfigured(&self, _records: u64) {}
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
