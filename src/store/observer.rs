//! What an engine tells whoever counts: a port for metrics, so that this room needs to know no metric.

use std::time::Duration;

/// One commit that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// New records in it.
    pub records: u32,
    /// About how much was written.
    pub bytes: usize,
    /// How long all of it took.
    pub took: Duration,
    /// How much of that it took to be written and synced.
    pub sync: Duration,
}

/// Why a commit did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFailure {
    /// The disk is full.
    Full,
    /// It may work the next time.
    Passing,
    /// The store writes nothing any more.
    Broken,
}

impl CommitFailure {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Full, Self::Passing, Self::Broken];

    /// The text of the cause in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Passing => "passing",
            Self::Broken => "broken",
        }
    }
}

/// How many records retention did something to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Closed while they waited.
    pub closed: u64,
    /// Given up since they were pending for too long.
    pub given_up: u64,
    /// Without their details from now on.
    pub trimmed: u64,
    /// Deleted.
    pub deleted: u64,
}

impl Swept {
    /// Says it in the log, where it is something.
    pub(in crate::store) fn log(self) {
        let Self { closed, given_up, trimmed, deleted } = self;
        if closed + given_up + trimmed + deleted > 0 {
            tracing::info!(
                closed,
                given_up,
                trimmed,
                deleted,
                "retention: records were closed, given up, trimmed or deleted"
            );
        }
    }
}

/// Learns what happens. Called from the engine's threads, after everybody who waited was answered: it must not block.
pub trait StoreObserver: Send + Sync + 'static {
    /// A commit is on disk.
    fn committed(&self, _commit: &Commit) {}

    /// A commit did not happen.
    fn not_committed(&self, _cause: CommitFailure) {}

    /// Retention came to the end of a round.
    fn retention_round_ended(&self, _swept: &Swept) {}
}
