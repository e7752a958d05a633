//! The index as `verify` looks at it: in both directions, with nothing removed, repaired or made.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::Seen;
use super::carry::SLACK;
use super::directory::{self, KEYS};
use super::error::KeysError;
use super::open::mark_of;
use super::run::Run;
use super::set::RunSet;
use crate::domain::time::Timestamp;
use crate::store::receipt_id::SECRET_BYTES;
use crate::store::sqlite::block::{self, Head};
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::row::DuplicateKey;
use crate::store::verification::{Finding, Findings, Kind};

/// Entries between two words about how far it is.
const TOLD_EVERY: u64 = 100_000;

/// The index as it lies there.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct Index {
    runs: RunSet,
    /// Whether look-ups say anything: in an index that will be made again they do not.
    is_usable: bool,
}

impl Index {
    /// Opens the index of the store with this secret. One that is damaged is a finding.
    pub(in crate::store::sqlite) fn open_unchanged(
        data_dir: &Path,
        secret: &[u8; SECRET_BYTES],
        findings: &mut Findings,
    ) -> Result<Self, OpenError> {
        let (dir, store) = (directory::path_in(data_dir), mark_of(secret));
        if !dir.exists() {
            findings.note(Finding::remark(Kind::Index, KEYS, "there is none; the next start makes it"));
            return Ok(Self::default());
        }
        let (mut runs, mut is_usable) = (Vec::new(), true);
        let mut note = |error: KeysError| {
            is_usable = false;
            findings.note(Finding::damage(Kind::Index, KEYS, error.to_string()));
        };
        for file in fs::read_dir(&dir).map_err(OpenError::io("cannot read", &dir))? {
            let path = file.map_err(OpenError::io("cannot read", &dir))?.path();
            if !directory::is_run(&path) {
                continue;
            }
            match Run::open(&path, &store).and_then(directory::with_its_name) {
                Ok(run) => runs.push(run),
                Err(error @ KeysError::Io { .. }) => return Err(error.into()),
                Err(error) => note(error),
            }
        }
        // The runs that can be opened say which records there were, also where others are missing between them.
        let all: Vec<_> = runs.iter().map(|run| run.range().1).collect();
        match directory::arranged(runs) {
            Ok((runs, _merged)) => return Ok(Self { runs: RunSet::of(runs), is_usable }),
            Err(error) => note(error),
        }
        if let Some(newest) = all.into_iter().max() {
            let what = format!("as far as it can be read, it has keys of records up to {newest}");
            findings.note(Finding::remark(Kind::Index, KEYS, what));
        }
        Ok(Self::default())
    }

    /// Up to which record the keys are here.
    pub(in crate::store::sqlite) fn merged_to(&self) -> i64 {
        self.runs.merged_to()
    }

    /// How many keys there are.
    pub(in crate::store::sqlite) fn entries(&self) -> u64 {
        self.runs.newest_first().iter().map(|run| run.header.entries).sum()
    }

    /// The moment, in seconds since 1970, before which entries may have been left out as too old.
    pub(in crate::store::sqlite) fn horizon(&self, window: Duration, now: Timestamp) -> i64 {
        let kept = i64::try_from(window.saturating_add(SLACK).as_secs()).unwrap_or(i64::MAX);
        now.seconds().min(self.runs.newest_accepted_at()).saturating_sub(kept)
    }

    /// What is wrong when this record's key is looked up, if anything is.
    pub(in crate::store::sqlite) fn wrong_about(&self, (seq, head): (i64, &Head), horizon: i64) -> Option<String> {
        let counts = head.accepted_at.div_euclid(1000) >= horizon;
        if !self.is_usable || seq > self.merged_to() || !counts {
            return None;
        }
        match self.runs.find(&head.key) {
            // A newer record with the same key takes the place of one that did not count any more.
            Ok(Some(seen)) if seen.seq >= seq => None,
            Ok(Some(seen)) => Some(format!("its duplicate key leads to the older record {}", seen.seq)),
            Ok(None) => Some("its duplicate key is not found".to_owned()),
            Err(error) => Some(format!("its duplicate key cannot be looked up: {error}")),
        }
    }

    /// Reads all entries, and compares each with the record that it leads to.
    pub(in crate::store::sqlite) fn check_entries(
        &self,
        records: &Connection,
        findings: &mut Findings,
        tell: &mut dyn FnMut(u64),
    ) -> rusqlite::Result<()> {
        let mut done = 0;
        for run in self.runs.newest_first() {
            if let Err(error) = check_run(run, records, findings, (&mut done, tell))? {
                findings.note(Finding::damage(Kind::Index, KEYS, error.to_string()));
            }
        }
        Ok(())
    }
}

fn check_run(
    run: &Arc<Run>,
    records: &Connection,
    findings: &mut Findings,
    (done, tell): (&mut u64, &mut dyn FnMut(u64)),
) -> rusqlite::Result<Result<(), KeysError>> {
    let mut entries = run.entries();
    let mut before: Option<DuplicateKey> = None;
    loop {
        let (key, seen) = match entries.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        if before.replace(key).is_some_and(|before| before >= key) {
            return Ok(Err(KeysError::damaged(&run.path, "is out of order")));
        }
        // A record that is not there was deleted, or is missed by those who look at records.
        let head = block::head(records, seen.seq).unwrap_or(None);
        if let Some(what) = wrong_entry(run, (&key, seen), head.as_ref()) {
            findings.note(Finding::damage(Kind::Index, KEYS, what).of(seen.seq, seen.seq));
        }
        *done += 1;
        if done.is_multiple_of(TOLD_EVERY) {
            tell(*done);
        }
    }
}

fn wrong_entry(run: &Run, (key, seen): (&DuplicateKey, Seen), head: Option<&Head>) -> Option<String> {
    let (from, to) = run.range();
    if !(from..=to).contains(&seen.seq) {
        return Some("a key leads to a record of another run".to_owned());
    }
    let is_its_own = |head: &Head| head.key == *key && head.accepted_at.div_euclid(1000) == seen.accepted_at_seconds;
    head.filter(|head| !is_its_own(head)).map(|_| "a key leads to this record, which has another".to_owned())
}
