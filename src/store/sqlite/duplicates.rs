//! Which records were here before: the recent keys in memory, the older ones in `index.db`.
//!
//! A key is durable as a column of its record; both places here only make it quick to find, and can be made again from
//! `records.db`. An index over random keys in the committing transaction would cost the writer four fifths of its
//! speed, so keys go to memory first, and the [`merge`](super::merge) thread carries them over, sorted.
//!
//! A key leaves memory only after the merge that carried it has committed, and a [`Lookup`] holds the memory's lock
//! from before its first look into the index to its last: it cannot miss a key that is on its way from one to the
//! other. The key of a deleted record leaves memory with the commit, and the index with the next merge; until then it is
//! too old to count.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::board::lock;
use super::row::DuplicateKey;
use crate::domain::time::Timestamp;

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

/// The keys that are not in the index yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Key to the newest record that has it.
    pub(super) keys: HashMap<DuplicateKey, Seen>,
    /// Every key of the records up to this one is here or in the index.
    pub(super) newest: i64,
    /// The keys of deleted records, which the index may still have.
    pub(super) forgotten: Vec<(DuplicateKey, i64)>,
}

/// A forgotten key counts as so many when it is time for a merge: those that a stop finds in memory stay in the index,
/// so there should be few.
const FORGOTTEN_WEIGHT: usize = 16;

/// What a commit changed about keys.
#[derive(Debug, Default)]
pub(super) struct KeyChanges {
    /// The keys of new records.
    pub(super) new: HashMap<DuplicateKey, Seen>,
    /// The keys of deleted records.
    pub(super) forgotten: Vec<(DuplicateKey, i64)>,
}

/// The keys that the writer adds and the merge takes away.
#[derive(Debug, Default)]
pub(super) struct Duplicates(Mutex<Recent>);

impl Duplicates {
    /// Starts with these keys.
    pub(super) fn new(recent: Recent) -> Self {
        Self(Mutex::new(recent))
    }

    /// The recent keys.
    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        lock(&self.0)
    }

    /// Starts looking keys up, here and in the index.
    pub(super) fn look_up<'a>(&'a self, index: &'a Connection) -> Lookup<'a> {
        Lookup { recent: self.recent(), index, snapshot: None }
    }

    /// Follows a commit. Answers how many keys wait for a merge.
    pub(super) fn apply(&self, changes: KeyChanges, newest: i64) -> usize {
        let mut recent = self.recent();
        recent.keys.extend(changes.new);
        recent.newest = newest;
        for (key, seq) in changes.forgotten {
            if recent.keys.get(&key).is_some_and(|seen| seen.seq == seq) {
                recent.keys.remove(&key);
            }
            // A merge may just be carrying it over, so it also counts as one that the index has.
            recent.forgotten.push((key, seq));
        }
        recent.keys.len() + FORGOTTEN_WEIGHT * recent.forgotten.len()
    }
}

/// A run of look-ups under one lock and, in the index, in one snapshot.
pub(super) struct Lookup<'a> {
    recent: MutexGuard<'a, Recent>,
    index: &'a Connection,
    snapshot: Option<Transaction<'a>>,
}

impl Lookup<'_> {
    /// The newest record with this key, as far as committed.
    pub(super) fn find(&mut self, key: &DuplicateKey) -> rusqlite::Result<Option<Seen>> {
        if let Some(seen) = self.recent.keys.get(key) {
            return Ok(Some(*seen));
        }
        if self.snapshot.is_none() {
            self.snapshot = Some(self.index.unchecked_transaction()?);
        }
        self.index
            .prepare_cached("select seq, accepted_at from keys where key = ?1")?
            .query_row([key], |row| Ok(Seen { seq: row.get(0)?, accepted_at_seconds: row.get(1)? }))
            .optional()
    }
}
