//! Which records were here before: the index of duplicate keys.
//!
//! A key is durable as a column of its record; everything here only makes it quick to find, and can be made again from
//! `records.db`. An index over random keys in the committing transaction would cost the writer four fifths of its speed,
//! and a tree over them, wherever it is, is written anew with nearly every batch. So it is a log-structured index:
//!
//! ```text
//! writer ──> active keys ──(56,320)──> frozen keys ──merge thread──> runs of 56,320 ─(8)─> runs of 450,560 ─(8)─> …
//!            memory                    memory                        files in `keys/`, never changed (`layout`)
//! ```
//!
//! A look-up goes that way until it finds the key: the newest record with a key is the one that counts. Of a run it asks
//! the filter, in memory (`bloom`), and in nearly every case nothing else; if the filter does not say no, it reads one
//! block of 4 KiB (`run`). What was found is looked at in the records before it is believed.
//!
//! Guaranteed: the writer waits for nobody. It owns what is in memory, and takes the runs as one pointer, which the merge
//! thread moves on (`set`) when a new run is durable. The writer lets go of frozen keys only when the runs that it has just
//! taken cover them, so a key is always somewhere. Runs cover the records from the first to the newest merged one without
//! a gap, and a file counts only if every byte that is read of it checks. A key is written once for each tier (`tiers`):
//! about 100 bytes in its life with ten million keys, 140 with two hundred million.
//!
//! An entry that is too old to make a repeat is left out when its run is merged; a run in which none counts any more is
//! emptied once it is the oldest. So nobody takes the keys of deleted records out: a record is deleted only when its key
//! is too old.
//!
//! Not guaranteed: that a file which is damaged is noticed before it is read. Then the store breaks, and the next start
//! makes the index again, as it does when the index is missing, another store's, or of another version (`open`).

mod bloom;
mod build;
mod carry;
mod directory;
mod error;
mod hash;
mod layout;
mod merge;
mod open;
mod run;
mod set;
mod tiers;
mod verify;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::Guard;

use self::carry::Carrier;
pub(super) use self::directory::{KEYS, OLD_INDEX, discard};
pub(super) use self::error::KeysError;
use self::hash::KeyHash;
pub(super) use self::open::{Opened, open};
use self::set::RunSet;
pub(super) use self::set::Runs;
pub(super) use self::verify::Index;
use super::board::Board;
use super::retention::Clock;
use super::row::DuplicateKey;
use crate::domain::time::Timestamp;

/// Keys in memory at which they are frozen: with one more batch, as many as fit into 65,536 places of a table.
pub(super) const FREEZE_AT_KEYS: usize = 56_320;
/// Room for one more batch.
const BATCH_KEYS: usize = 1_024;

/// The record that a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its sequence number.
    pub(super) seq: i64,
    /// When it was accepted, in seconds since 1970.
    pub(super) accepted_at_seconds: i64,
}

impl Seen {
    /// Whether a record accepted at `now` still is a repeat of this one. A clock that went back makes none older.
    pub(super) fn counts(self, now: Timestamp, window: Duration) -> bool {
        let age_seconds = now.seconds().saturating_sub(self.accepted_at_seconds);
        u64::try_from(age_seconds).unwrap_or(0) < window.as_secs()
    }
}

/// Keys in memory, each with the newest record that has it.
pub(super) type KeyMap = HashMap<DuplicateKey, Seen, KeyHash>;

/// The keys of a range of records, on their way into a run.
#[derive(Debug)]
struct Frozen {
    from: i64,
    to: i64,
    keys: KeyMap,
}

/// The index, as the writer has it.
#[derive(Debug)]
pub(super) struct Keys {
    active: KeyMap,
    /// Keys that no run had when the writer last looked, oldest first.
    frozen: VecDeque<Arc<Frozen>>,
    /// The last record whose key is frozen or in a run.
    frozen_to: i64,
    runs: Arc<Runs>,
    carrier: Sender<Arc<Frozen>>,
    thread: JoinHandle<()>,
    freeze_at_keys: usize,
}

/// What the index goes by.
pub(super) struct Rules {
    /// Keys in memory at which they are frozen.
    pub(super) freeze_at_keys: usize,
    /// How long a record's key makes others its repeats.
    pub(super) duplicate_window: Duration,
}

impl Keys {
    /// Starts the thread that merges.
    pub(super) fn start(opened: Opened, rules: &Rules, board: &Arc<Board>) -> std::io::Result<Self> {
        let (carrier, arriving) = channel();
        let runs = Arc::new(opened.runs);
        let work = Carrier {
            data_dir: opened.data_dir,
            store: opened.store,
            board: Arc::clone(board),
            runs: Arc::clone(&runs),
            arriving,
            waiting: VecDeque::new(),
            retired: Vec::new(),
            base: rules.freeze_at_keys,
            window: rules.duplicate_window,
            clock: Clock::start(),
        };
        let thread = std::thread::Builder::new().name("store-merge".to_owned()).spawn(move || work.run())?;
        let mut active = fresh(rules.freeze_at_keys);
        active.extend(opened.tail.keys);
        let frozen_to = runs.now().merged_to();
        Ok(Self {
            active,
            frozen: VecDeque::new(),
            frozen_to,
            runs,
            carrier,
            thread,
            freeze_at_keys: rules.freeze_at_keys,
        })
    }

    /// Starts looking keys up.
    pub(super) fn look_up(&self) -> Lookup<'_> {
        Lookup { active: &self.active, frozen: &self.frozen, runs: self.runs.now() }
    }

    /// Follows a commit: these are the keys of the records up to the newest one, from the commit before on.
    pub(super) fn committed(&mut self, new: KeyMap, newest: i64) {
        self.active.extend(new);
        // The runs only ever cover more: whoever looks from now on finds these keys there.
        let merged_to = self.runs.now().merged_to();
        while self.frozen.front().is_some_and(|frozen| frozen.to <= merged_to) {
            self.frozen.pop_front();
        }
        if self.active.len() >= self.freeze_at_keys {
            let keys = std::mem::replace(&mut self.active, fresh(self.freeze_at_keys));
            let frozen = Arc::new(Frozen { from: self.frozen_to + 1, to: newest, keys });
            self.frozen_to = newest;
            self.frozen.push_back(Arc::clone(&frozen));
            // It fails only if the thread has ended, which it does when the store closes or is broken.
            let _ended = self.carrier.send(frozen);
        }
    }

    /// How many keys are in memory.
    pub(super) fn in_memory(&self) -> usize {
        self.active.len() + self.frozen.iter().map(|frozen| frozen.keys.len()).sum::<usize>()
    }

    /// Stops the thread, between two pieces of its work at the latest.
    pub(super) fn stop(self) {
        drop(self.carrier);
        if self.thread.join().is_err() {
            tracing::error!("the thread that merges duplicate keys panicked");
        }
    }

    /// The runs, for tests that wait for a merge.
    #[cfg(test)]
    pub(super) fn runs(&self) -> Arc<Runs> {
        Arc::clone(&self.runs)
    }
}

/// A table that takes what is frozen at once without growing meanwhile.
fn fresh(freeze_at_keys: usize) -> KeyMap {
    KeyMap::with_capacity_and_hasher(freeze_at_keys + BATCH_KEYS, KeyHash::default())
}

/// A run of look-ups, in one state of the index.
pub(super) struct Lookup<'a> {
    active: &'a KeyMap,
    frozen: &'a VecDeque<Arc<Frozen>>,
    runs: Guard<Arc<RunSet>>,
}

impl Lookup<'_> {
    /// The newest record with this key, as far as committed.
    pub(super) fn find(&self, key: &DuplicateKey) -> Result<Option<Seen>, KeysError> {
        let in_memory = || self.frozen.iter().rev().find_map(|frozen| frozen.keys.get(key));
        match self.active.get(key).or_else(in_memory) {
            Some(seen) => Ok(Some(*seen)),
            None => self.runs.find(key),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
