//! The thread that carries duplicate keys from memory into `index.db`.
//!
//! It wakes when enough keys have gathered, takes all that are there, sorts them, and commits them in slices. A slice's
//! keys leave memory once it has committed; `merged_to` moves with the last slice. Then the keys of deleted records are
//! taken out, in slices too. A stop or a crash in between costs nothing: keys that are in the index already are merged
//! again without effect, and keys of deleted records that stay in it are too old to count.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::board::{Board, BreakOnPanic};
use super::duplicates::{Duplicates, Seen};
use super::error::{Meaning, meaning};
use super::index::{self, Index};
use super::row::DuplicateKey;

/// Keys per transaction: a writer's look-up never waits for it, but a stop does.
const SLICE_KEYS: usize = 8_192;

/// The memory that stays reserved for keys, about 5 MB.
const KEPT_CAPACITY_KEYS: usize = 100_000;

/// The running thread.
pub(super) struct Merger {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
    at_keys: usize,
}

impl Merger {
    /// Starts the thread; it merges whenever `at_keys` keys have gathered.
    pub(super) fn start(index: Index, work: Work, at_keys: usize) -> std::io::Result<Self> {
        // One waiting call is enough: it makes the thread look at everything there is.
        let (wake, woken) = sync_channel(1);
        let thread =
            std::thread::Builder::new().name("store-merge".to_owned()).spawn(move || work.run(&index, &woken))?;
        Ok(Self { wake, thread, at_keys })
    }

    /// Says how many keys have gathered.
    pub(super) fn gathered(&self, keys: usize) {
        if keys >= self.at_keys {
            // Full: it is awake and will look again. Disconnected: it stopped, and has broken the store.
            let _already_awake = self.wake.try_send(());
        }
    }

    /// Stops the thread, between two slices at the latest.
    pub(super) fn stop(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            tracing::error!("the thread that merges duplicate keys panicked");
        }
    }
}

/// What the thread works on.
pub(super) struct Work {
    pub(super) dir: PathBuf,
    pub(super) board: Arc<Board>,
    pub(super) duplicates: Arc<Duplicates>,
}

impl Work {
    fn run(self, index: &Index, woken: &Receiver<()>) {
        let _guard = BreakOnPanic(Arc::clone(&self.board), "duplicate key");
        while woken.recv().is_ok() {
            match self.merge_all(index) {
                Ok(()) => {}
                Err(error) if meaning(&error) == Meaning::Broken => {
                    index::discard(&self.dir);
                    self.board.break_for_good(format!("{}: {error}", index.path().display()));
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "duplicate keys could not be merged; they stay in memory until the next try");
                }
            }
        }
    }

    fn merge_all(&self, index: &Index) -> rusqlite::Result<()> {
        let (mut keys, newest): (Vec<(DuplicateKey, Seen)>, i64) = {
            let recent = self.duplicates.recent();
            (recent.keys.iter().map(|(key, seen)| (*key, *seen)).collect(), recent.newest)
        };
        // The order of the index, so that each of its pages is visited once.
        keys.sort_unstable_by_key(|(key, _)| *key);
        let slices = keys.len().div_ceil(SLICE_KEYS);
        for (at, slice) in keys.chunks(SLICE_KEYS).enumerate() {
            if self.board.is_closing() || self.board.is_broken() {
                return Ok(());
            }
            index.merge(slice, (at + 1 == slices).then_some(newest))?;
            let mut recent = self.duplicates.recent();
            for (key, seen) in slice {
                // Unless a newer record has taken the key in the meantime.
                if recent.keys.get(key) == Some(seen) {
                    recent.keys.remove(key);
                }
            }
        }
        self.forget_all(index)?;
        // A flood that has passed gives its memory back.
        let mut recent = self.duplicates.recent();
        recent.keys.shrink_to(KEPT_CAPACITY_KEYS);
        recent.forgotten.shrink_to(KEPT_CAPACITY_KEYS);
        Ok(())
    }

    fn forget_all(&self, index: &Index) -> rusqlite::Result<()> {
        let mut forgotten = std::mem::take(&mut self.duplicates.recent().forgotten);
        forgotten.sort_unstable();
        while !forgotten.is_empty() {
            let slice = forgotten.split_off(forgotten.len().saturating_sub(SLICE_KEYS));
            let stopped = self.board.is_closing() || self.board.is_broken();
            if stopped {
                return Ok(());
            }
            if let Err(error) = index.forget(&slice) {
                let mut recent = self.duplicates.recent();
                recent.forgotten.extend(forgotten);
                recent.forgotten.extend(slice);
                return Err(error);
            }
        }
        Ok(())
    }
}
