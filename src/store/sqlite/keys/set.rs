//! The runs that count at a moment, and the pointer that the merge thread moves on from one set to the next. Whoever looks
//! a key up takes one set and keeps it: what is in it stays as it is and stays readable, also when it was merged since.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::Seen;
use super::error::KeysError;
use super::run::Run;
use crate::store::sqlite::row::DuplicateKey;

/// Runs that cover the records from the first on, newest first.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct RunSet(Vec<Arc<Run>>);

impl RunSet {
    /// A set of these, newest first, each beginning where the next one ends.
    pub(super) const fn of(newest_first: Vec<Arc<Run>>) -> Self {
        Self(newest_first)
    }

    /// The runs, newest first.
    pub(super) fn newest_first(&self) -> &[Arc<Run>] {
        &self.0
    }

    /// Up to which record the keys are here; 0 where there are none.
    pub(in crate::store::sqlite) fn merged_to(&self) -> i64 {
        self.0.first().map_or(0, |run| run.header.to)
    }

    /// When the newest record was accepted, in seconds since 1970; the smallest number where there is none.
    pub(super) fn newest_accepted_at(&self) -> i64 {
        self.0.iter().map(|run| run.header.newest_accepted_at).max().unwrap_or(i64::MIN)
    }

    /// The newest record with this key.
    pub(super) fn find(&self, key: &DuplicateKey) -> Result<Option<Seen>, KeysError> {
        for run in &self.0 {
            if let Some(seen) = run.find(key)? {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// The set with one more run, of newer records.
    fn with(&self, run: Run) -> Self {
        Self(std::iter::once(Arc::new(run)).chain(self.0.iter().cloned()).collect())
    }

    /// The set with a run in the place of those that were merged into it.
    fn with_merged(&self, inputs: &[Arc<Run>], run: Run) -> Self {
        let is_input = |run: &Arc<Run>| inputs.iter().any(|input| Arc::ptr_eq(input, run));
        let mut output = Some(Arc::new(run));
        let runs = self.0.iter().filter_map(|run| if is_input(run) { output.take() } else { Some(Arc::clone(run)) });
        Self(runs.collect())
    }

    /// How many keys there are, those that are in several runs several times.
    #[cfg(test)]
    pub(in crate::store::sqlite) fn entries(&self) -> u64 {
        self.0.iter().map(|run| run.header.entries).sum()
    }

    /// What it takes in memory, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.iter().map(|run| run.memory_bytes()).sum()
    }
}

/// The set that counts. One thread moves it on, anybody reads it, nobody waits.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Runs(ArcSwap<RunSet>);

impl Runs {
    /// Starts with this set.
    pub(super) fn new(set: RunSet) -> Self {
        Self(ArcSwap::from_pointee(set))
    }

    /// The set that counts now.
    pub(in crate::store::sqlite) fn now(&self) -> Guard<Arc<RunSet>> {
        self.0.load()
    }

    /// Runs of the set, by their places.
    pub(super) fn pick(&self, places: Range<usize>) -> Vec<Arc<Run>> {
        self.now().newest_first().get(places).unwrap_or_default().to_vec()
    }

    /// Adds a durable run of newer records. The merge thread alone calls this.
    pub(super) fn add(&self, run: Run) {
        let next = self.now().with(run);
        self.0.store(Arc::new(next));
    }

    /// Puts a durable run in the place of those that were merged into it. The merge thread alone calls this.
    pub(super) fn put_merged(&self, inputs: &[Arc<Run>], run: Run) {
        let next = self.now().with_merged(inputs, run);
        self.0.store(Arc::new(next));
    }
}
