//! The thread that carries duplicate keys from memory into runs, and merges runs.
//!
//! Nobody waits for it, so it makes way: it has a lower priority than the rest of the process, works in pieces of a few
//! milliseconds, and rests behind each while appends wait. What comes out of memory goes before a merge that is under way,
//! so that memory does not grow while a large merge takes its time.
//!
//! A stop or a crash in between costs nothing: a run that was not finished is a draft, and the keys in it are still where
//! they were, or in the records.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::build::RunBuilder;
use super::directory::{discard, path_in};
use super::error::KeysError;
use super::layout::{ENTRY_BYTES, StoreMark};
use super::merge::{self, Merge};
use super::run::Run;
use super::set::Runs;
use super::tiers::{self, Shape};
use super::{Frozen, Seen};
use crate::store::sqlite::board::{Board, BreakOnPanic};
use crate::store::sqlite::error::Meaning;
use crate::store::sqlite::retention::Clock;
use crate::store::sqlite::row::DuplicateKey;

/// An entry stays so much longer than it counts: a clock in a wrong time zone is set right within it.
pub(super) const SLACK: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest rest between two pieces while appends wait.
const LONGEST_REST: Duration = Duration::from_millis(50);
/// When to try again what could not be done.
const RETRY: Duration = Duration::from_secs(10);
/// Keys that are always written as one run, however few are to make one.
const FEW_KEYS: usize = 4_096;
/// What an entry takes of the disk at most, with its share of filter, fences and blocks.
const BYTES_ON_DISK: u64 = ENTRY_BYTES as u64 + 4;

/// Everything that the thread owns.
pub(super) struct Carrier {
    pub(super) data_dir: PathBuf,
    pub(super) store: StoreMark,
    pub(super) board: Arc<Board>,
    pub(super) runs: Arc<Runs>,
    pub(super) arriving: Receiver<Arc<Frozen>>,
    /// Not in a run yet, oldest first.
    pub(super) waiting: VecDeque<Arc<Frozen>>,
    /// Runs that were merged and may still be read. They are closed here and by nobody else: the file system lets go of
    /// a large file only then, and takes its time.
    pub(super) retired: Vec<Arc<Run>>,
    /// Keys of a run of the lowest tier.
    pub(super) base: usize,
    /// How long an entry counts.
    pub(super) window: Duration,
    pub(super) clock: Clock,
}

/// Why the work stops for now.
#[derive(Debug)]
pub(super) enum Halt {
    /// The store is closing, or broken.
    Stop,
    /// Something could not be read or written.
    Failed(KeysError),
}

impl From<KeysError> for Halt {
    fn from(error: KeysError) -> Self {
        Self::Failed(error)
    }
}

impl Carrier {
    pub(super) fn run(mut self) {
        let _guard = BreakOnPanic(Arc::clone(&self.board), "duplicate key");
        make_way();
        loop {
            match self.carry() {
                Ok(()) => {}
                Err(Halt::Stop) => return,
                Err(Halt::Failed(error)) => match error.meaning() {
                    Meaning::Broken => {
                        discard(&self.data_dir);
                        self.board.break_for_good(error.to_string());
                        return;
                    }
                    Meaning::Full | Meaning::Passing => {
                        tracing::warn!(%error, "the index of duplicate keys could not be written; it will be tried again");
                    }
                },
            }
            if self.wait().is_err() {
                return;
            }
        }
    }

    /// Waits for keys, or until it is time to try again.
    fn wait(&mut self) -> Result<(), Halt> {
        let idle = self.waiting.is_empty() && self.retired.is_empty();
        let arrived = match idle {
            true => self.arriving.recv().map_err(|_gone| RecvTimeoutError::Disconnected),
            false => self.arriving.recv_timeout(RETRY),
        };
        match arrived {
            Ok(frozen) => self.waiting.push_back(frozen),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Halt::Stop),
        }
        Ok(())
    }

    /// Writes what has arrived, and merges until there is nothing to merge.
    pub(super) fn carry(&mut self) -> Result<(), Halt> {
        self.take_arrived()?;
        self.write_waiting()?;
        loop {
            let horizon = self.horizon();
            let shapes: Vec<Shape> = self
                .runs
                .now()
                .newest_first()
                .iter()
                .map(|run| Shape { entries: run.header.entries, is_too_old: run.is_older_than(horizon) })
                .collect();
            let Some(places) = tiers::next(&shapes, self.base as u64) else { break };
            let inputs = self.runs.pick(places);
            let entries = merge::at_most_entries(&inputs, horizon);
            if self.board.space().free_above_reserve() < entries.saturating_mul(BYTES_ON_DISK) {
                tracing::debug!(entries, "no room to merge duplicate keys");
                break;
            }
            self.merge(inputs, (entries, horizon))?;
        }
        self.close_retired();
        Ok(())
    }

    /// The moment, in seconds since 1970, before which nothing counts any more: neither by the clock, as retention reads
    /// it, nor by the newest record.
    fn horizon(&self) -> i64 {
        let newest = self.runs.now().newest_accepted_at();
        let now = self.clock.now().steady.seconds().min(newest);
        let kept = self.window.saturating_add(SLACK).as_secs();
        now.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX))
    }

    fn take_arrived(&mut self) -> Result<(), Halt> {
        loop {
            match self.arriving.try_recv() {
                Ok(frozen) => self.waiting.push_back(frozen),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Halt::Stop),
            }
        }
    }

    pub(super) fn write_waiting(&mut self) -> Result<(), Halt> {
        while !self.waiting.is_empty() {
            if self.board.is_closing() || self.board.is_broken() {
                return Err(Halt::Stop);
            }
            let mut entries = Vec::new();
            let (mut count, mut range) = (0, None);
            for frozen in &self.waiting {
                if count > 0 && entries.len() + frozen.keys.len() > FEW_KEYS.max(2 * self.base) {
                    break;
                }
                entries.extend(frozen.keys.iter().map(|(key, seen)| (*key, *seen)));
                range = Some((range.map_or(frozen.from, |(from, _)| from), frozen.to));
                count += 1;
            }
            if let Some(range) = range {
                self.runs.add(write_run(&path_in(&self.data_dir), &self.store, range, entries)?);
            }
            self.waiting.drain(..count);
        }
        Ok(())
    }

    fn merge(&mut self, inputs: Vec<Arc<Run>>, (entries, horizon): (u64, i64)) -> Result<(), Halt> {
        let (Some(newest), Some(oldest)) = (inputs.first(), inputs.last()) else { return Ok(()) };
        let began = Instant::now();
        let range = (oldest.header.from, newest.header.to);
        let mut output = RunBuilder::create(&path_in(&self.data_dir), &self.store, range, entries)?;
        let mut merge = Merge::start(&inputs, horizon)?;
        let mut piece = Instant::now();
        while merge.step(&mut output)? {
            self.breathe(piece.elapsed())?;
            piece = Instant::now();
        }
        let run = output.finish()?;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(runs = inputs.len(), entries = run.header.entries, millis, "duplicate keys were merged");
        // The run of the same records has taken the place, and the name, of one of them.
        let replaced = run.path.clone();
        self.runs.put_merged(&inputs, run);
        for input in inputs {
            if input.path != replaced {
                fs::remove_file(&input.path).map_err(KeysError::io("cannot remove", &input.path))?;
            }
            self.retired.push(input);
        }
        self.close_retired();
        Ok(())
    }

    /// Between two pieces of a merge: whatever is more urgent.
    fn breathe(&mut self, worked: Duration) -> Result<(), Halt> {
        if self.board.is_closing() || self.board.is_broken() {
            return Err(Halt::Stop);
        }
        self.take_arrived()?;
        self.write_waiting()?;
        if self.board.is_busy() {
            match self.arriving.recv_timeout((worked * 4).min(LONGEST_REST)) {
                Ok(frozen) => self.waiting.push_back(frozen),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Halt::Stop),
            }
        }
        Ok(())
    }

    /// Closes those that nobody else has.
    fn close_retired(&mut self) {
        self.retired.retain(|run| Arc::strong_count(run) > 1);
    }
}

/// Writes a run of these entries, in whatever order they are. Of those with the same key the newest is kept.
pub(super) fn write_run(
    dir: &Path,
    store: &StoreMark,
    range: (i64, i64),
    mut entries: Vec<(DuplicateKey, Seen)>,
) -> Result<Run, KeysError> {
    entries.sort_unstable_by_key(|(key, seen)| (u128::from_be_bytes(*key), Reverse(seen.seq)));
    entries.dedup_by_key(|(key, _)| *key);
    let mut run = RunBuilder::create(dir, store, range, entries.len() as u64)?;
    for (key, seen) in &entries {
        run.add(key, *seen)?;
    }
    run.finish()
}

/// Lowers the priority of this thread. On other systems than Linux it would be the whole process.
fn make_way() {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(10)
    {
        tracing::debug!(%error, "the thread that merges duplicate keys keeps its priority");
    }
}
