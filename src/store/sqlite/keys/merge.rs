//! Runs become one: read side by side, in the order of their keys, with one block of each in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Seen;
use super::build::RunBuilder;
use super::error::KeysError;
use super::run::{Entries, Run};
use crate::store::sqlite::row::DuplicateKey;

/// Entries after which there is a moment for something else.
const STEP_ENTRIES: usize = 8_192;

/// A merge under way.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    /// The runs, newest first, each with the value of its key that is in the heap.
    inputs: Vec<(Entries<'a>, Option<Seen>)>,
    /// The next key of each run. Of equal keys, the newest run's comes first.
    heads: BinaryHeap<Reverse<(DuplicateKey, usize)>>,
    last: Option<DuplicateKey>,
    horizon: i64,
}

impl<'a> Merge<'a> {
    /// Starts with these runs, newest first. Entries of records accepted before the horizon, in seconds, are left out.
    pub(super) fn start(newest_first: &'a [Arc<Run>], horizon: i64) -> Result<Self, KeysError> {
        let counts = newest_first.iter().filter(|run| !run.is_older_than(horizon));
        let inputs = counts.map(|run| (run.entries(), None)).collect();
        let mut merge = Self { inputs, heads: BinaryHeap::new(), last: None, horizon };
        for rank in 0..merge.inputs.len() {
            if let Some(key) = merge.advance(rank)? {
                merge.heads.push(Reverse((key, rank)));
            }
        }
        Ok(merge)
    }

    /// Goes on for a while. Answers whether there is more to do.
    pub(super) fn step(&mut self, output: &mut RunBuilder) -> Result<bool, KeysError> {
        for _ in 0..STEP_ENTRIES {
            let Some(Reverse((key, rank))) = self.heads.peek().copied() else { return Ok(false) };
            let seen = self.inputs.get(rank).and_then(|(_, seen)| *seen);
            let next = self.advance(rank)?;
            match (self.heads.peek_mut(), next) {
                (Some(mut head), Some(next)) => *head = Reverse((next, rank)),
                (Some(head), None) => drop(std::collections::binary_heap::PeekMut::pop(head)),
                (None, _) => {}
            }
            if self.last.replace(key) == Some(key) {
                // An older record with the same key.
                continue;
            }
            if let Some(seen) = seen.filter(|seen| seen.accepted_at_seconds >= self.horizon)
                && output.add(&key, seen)?
            {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Moves a run on to its next entry, and answers its key.
    fn advance(&mut self, rank: usize) -> Result<Option<DuplicateKey>, KeysError> {
        let Some((entries, head)) = self.inputs.get_mut(rank) else { return Ok(None) };
        let next = entries.next()?;
        *head = next.map(|(_, seen)| seen);
        Ok(next.map(|(key, _)| key))
    }
}

/// How many entries come of these runs at most.
pub(super) fn at_most_entries(runs: &[Arc<Run>], horizon: i64) -> u64 {
    runs.iter().filter(|run| !run.is_older_than(horizon)).map(|run| run.header.entries).sum()
}
