//! What is counted of the store: commits, what they cost, and what retention did.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::seconds_histogram;
use crate::store::observer::{Commit, CommitFailure, Swept};

/// Why a commit did not happen.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

/// What retention did to records.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

/// The meters.
#[derive(Debug)]
pub(super) struct StoreMeters {
    commit_seconds: Histogram,
    sync_seconds: Histogram,
    commit_records: Histogram,
    commit_bytes: Histogram,
    commit_failures: Family<CauseLabel, Counter>,
    retention: Family<ActionLabel, Counter>,
    last_round: Gauge,
}

impl StoreMeters {
    /// Nothing counted yet.
    pub(super) fn new() -> Self {
        let meters = Self {
            commit_seconds: seconds_histogram(),
            sync_seconds: seconds_histogram(),
            commit_records: Histogram::new((0..=10).map(|power| f64::from(1 << power))),
            commit_bytes: Histogram::new((5..=12).map(|power| f64::from(1 << (2 * power)))),
            commit_failures: Family::default(),
            retention: Family::default(),
            last_round: Gauge::default(),
        };
        // What never happened shows as 0, so that its first time shows as an increase.
        for cause in CommitFailure::ALL {
            let _made = meters.commit_failures.get_or_create(&CauseLabel { cause: cause.name() });
        }
        meters.swept(&Swept::default());
        meters
    }

    /// Names them.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store_commit",
            "Time of one commit of the store, its sync included",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register_with_unit(
            "store_sync",
            "Time that one commit took to be written and synced",
            Unit::Seconds,
            self.sync_seconds.clone(),
        );
        registry.register(
            "store_commit_records",
            "New records of one commit, of those that had any",
            self.commit_records.clone(),
        );
        registry.register_with_unit(
            "store_commit",
            "About how much one commit wrote",
            Unit::Bytes,
            self.commit_bytes.clone(),
        );
        registry.register("store_commit_failures", "Commits that did not happen", self.commit_failures.clone());
        registry.register("retention_records", "What retention did to records", self.retention.clone());
        registry.register_with_unit(
            "retention_last_round_timestamp",
            "When retention last came to the end of a round",
            Unit::Seconds,
            self.last_round.clone(),
        );
    }

    /// A commit is on disk.
    pub(super) fn committed(&self, commit: &Commit) {
        self.commit_seconds.observe(commit.took.as_secs_f64());
        self.sync_seconds.observe(commit.sync.as_secs_f64());
        self.commit_bytes.observe(commit.bytes as f64);
        if commit.records > 0 {
            self.commit_records.observe(f64::from(commit.records));
        }
    }

    /// A commit did not happen.
    pub(super) fn not_committed(&self, cause: CommitFailure) {
        self.commit_failures.get_or_create(&CauseLabel { cause: cause.name() }).inc();
    }

    /// Retention came to the end of a round.
    pub(super) fn round_ended(&self, swept: &Swept) {
        self.swept(swept);
        self.last_round.set(super::moment::now_seconds());
    }

    fn swept(&self, swept: &Swept) {
        let Swept { closed, given_up, trimmed, deleted } = *swept;
        for (action, count) in [("closed", closed), ("given-up", given_up), ("trimmed", trimmed), ("deleted", deleted)]
        {
            self.retention.get_or_create(&ActionLabel { action }).inc_by(count);
        }
    }
}
