//! The contract, and what is this engine's own: its files, its index, its refusals.

mod broken;
mod corruption;
mod damage;
mod files;
mod format;
mod keys;
mod recover;
mod retention;
pub(in crate::store) mod verify;

use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tempfile::TempDir;

use super::block::{Block, Head};
use super::retention::{Call, Moment, Pace};
use super::{SqliteStore, Tuning};
use crate::config::settings::{RetentionSettings, StoreSettings};
use crate::domain::time::Timestamp;
use crate::store::Store;
use crate::store::contract::{DUPLICATE_WINDOW, Engine, RETENTION, Swept, store_contract};

/// A store in a directory of its own, whose retention thread works when a test says so.
pub(in crate::store) struct InDirectory {
    dir: TempDir,
    tuning: Tuning,
    settings: StoreSettings,
    retention: RetentionSettings,
    /// The one that was opened last.
    open: Mutex<Weak<SqliteStore>>,
}

impl InDirectory {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            tuning: Tuning { pace: Pace::ByHand, ..Tuning::default() },
            settings: settings(),
            retention: RETENTION,
            open: Mutex::default(),
        }
    }

    /// Merges keys and reads them back in small numbers.
    pub(in crate::store) fn merging_at(keys: usize) -> Self {
        let usual = Self::new();
        Self { tuning: Tuning { merge_at_keys: keys, keys_at_start: keys, ..usual.tuning }, ..usual }
    }

    pub(in crate::store) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub(in crate::store) fn start(&self) -> Arc<SqliteStore> {
        let store = self.start_untold();
        store.keep_from(None);
        store
    }

    /// Nobody has said yet which records are needed.
    fn start_untold(&self) -> Arc<SqliteStore> {
        let store = super::open::open(&self.path(), &self.settings, &self.retention, self.tuning).unwrap();
        *self.open.lock().unwrap() = Arc::downgrade(&store);
        store
    }
}

impl Engine for InDirectory {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { self.start() as Arc<dyn Store> })
    }

    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Swept> {
        Box::pin(async move {
            let store = self.open.lock().unwrap().upgrade().expect("it is open");
            let (reply, swept) = tokio::sync::oneshot::channel();
            assert!(store.sweeps.send(Call::Sweep(Moment::of(now, now), reply)).is_ok());
            let super::retention::Swept { closed, given_up, trimmed, deleted } = swept.await.unwrap();
            Swept { closed, given_up, trimmed, deleted }
        })
    }
}

fn settings() -> StoreSettings {
    StoreSettings { disk_reserve_bytes: 0, duplicate_window: DUPLICATE_WINDOW, max_waiting_appends: 1_024 }
}

/// For stores whose retention thread goes by the clock, whatever the date of their records is: nothing is ever old.
fn for_ever() -> RetentionSettings {
    let ever = Duration::MAX;
    RetentionSettings { delivered: ever, delivered_details: ever, dead_letters: ever, accepted: None, ..RETENTION }
}

/// The error of a store that does not open.
fn refusal(dir: &Path) -> super::OpenError {
    SqliteStore::open(dir, &settings(), &for_ever()).err().expect("it opens")
}

/// Changes a closed store behind its back.
pub(in crate::store) fn tamper(dir: &Path, sql: &str) {
    let conn = Connection::open(dir.join("records.db")).unwrap();
    conn.execute_batch(sql).unwrap();
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
}

/// Every block of a store.
fn blocks(conn: &Connection) -> Vec<Block> {
    let mut select = conn.prepare("select first, heads, bodies from blocks order by first").unwrap();
    select.query_map([], Block::of).unwrap().map(Result::unwrap).collect()
}

/// Writes the records of a closed store again: each as it is changed, or not at all.
fn rewrite(dir: &Path, mut change: impl FnMut(i64, &mut Head, &mut Vec<u8>) -> bool) {
    let conn = Connection::open(dir.join("records.db")).unwrap();
    for block in blocks(&conn) {
        conn.execute("delete from blocks where first = ?1", [block.heads.first()]).unwrap();
        let mut written = Block::starting_at(block.heads.first());
        for (seq, mut head, body) in block.iter() {
            let mut body = body.unwrap().to_vec();
            if change(seq, &mut head, &mut body) {
                while written.next() < seq {
                    written.push_deleted();
                }
                written.push(&head, &body);
            }
        }
        if !written.is_empty() {
            written.insert(&conn).unwrap();
        }
    }
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
}

/// Takes records out of a closed store, as if they had been lost.
pub(in crate::store) fn lose(dir: &Path, records: impl std::ops::RangeBounds<i64>) {
    rewrite(dir, |seq, _, _| !records.contains(&seq));
}

/// Replaces a text in the body of a record, by one that is as long.
fn replace(dir: &Path, record: i64, from: &str, to: &str) {
    rewrite(dir, |seq, _, body| {
        if seq == record {
            let at = body.windows(from.len()).position(|part| part == from.as_bytes()).expect("it is there");
            body.splice(at..at + from.len(), to.bytes());
        }
        true
    });
}

mod contract {
    use super::*;
    store_contract!(Some(InDirectory::new()));
}

/// The same with an index that is used from the first record on.
mod contract_with_merges {
    use super::*;
    store_contract!(Some(InDirectory::merging_at(1)));
}
