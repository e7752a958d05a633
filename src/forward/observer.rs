//! What the forwarder tells whoever counts: a port for metrics, so that this room needs to know no metric.

use super::breaker::BreakerState;

/// How one try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TryOutcome {
    /// The destination has the record.
    Delivered,
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
            Self::Temporary => "temporary",
            Self::Permanent => "permanent",
        }
    }
}

/// Learns what happens. Called from the forwarder's loop: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// One try ended, after this many seconds.
    fn tried(&self, _routing_queue: &str, _outcome: TryOutcome, _seconds: f64) {}

    /// The destination has so many more records.
    fn delivered(&self, _routing_queue: &str, _records: usize) {}

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
