//! The contract, and what is this engine's own: its files, its index, its refusals.

mod broken;
mod damage;
mod files;
mod keys;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{SqliteStore, Tuning};
use crate::config::settings::StoreSettings;
use crate::store::Store;
use crate::store::contract::{DUPLICATE_WINDOW, Engine, store_contract};

/// A store in a directory of its own.
struct InDirectory {
    dir: TempDir,
    tuning: Tuning,
}

impl InDirectory {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), tuning: Tuning::default() }
    }

    /// Merges keys and reads them back in small numbers.
    fn merging_at(keys: usize) -> Self {
        Self { tuning: Tuning { merge_at_keys: keys, keys_at_start: keys, ..Tuning::default() }, ..Self::new() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn start(&self) -> Arc<SqliteStore> {
        super::open::open(&self.path(), &settings(), self.tuning).unwrap()
    }
}

impl Engine for InDirectory {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { self.start() as Arc<dyn Store> })
    }
}

fn settings() -> StoreSettings {
    StoreSettings { disk_reserve_bytes: 0, duplicate_window: DUPLICATE_WINDOW, max_waiting_appends: 1_024 }
}

/// Changes a closed store behind its back.
fn tamper(dir: &Path, sql: &str) {
    let conn = Connection::open(dir.join("records.db")).unwrap();
    conn.execute_batch(sql).unwrap();
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
}

mod contract {
    use super::*;
    store_contract!(InDirectory::new());
}

/// The same with an index that is used from the first record on.
mod contract_with_merges {
    use super::*;
    store_contract!(InDirectory::merging_at(1));
}
