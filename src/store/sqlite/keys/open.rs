//! Opening the index: what is on disk, and the keys of newer records, which are read from the records themselves.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::carry::write_run;
use super::directory::{self, OLD_INDEX};
use super::layout::StoreMark;
use super::set::Runs;
use crate::store::receipt_id::SECRET_BYTES;
use crate::store::sqlite::Tuning;
use crate::store::sqlite::check::{self, Meta};
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::key_tail::{Tail, read_tail};
use crate::store::sqlite::schema;

/// The index, as it was found and brought up to date.
pub(in crate::store::sqlite) struct Opened {
    pub(super) data_dir: PathBuf,
    pub(super) store: StoreMark,
    pub(super) runs: Runs,
    /// The keys that are in no run.
    pub(super) tail: Tail,
}

/// What tells this store from every other, without telling its secret.
pub(super) fn mark_of(secret: &[u8; SECRET_BYTES]) -> StoreMark {
    Sha256::new().chain_update(b"streamgate index of ").chain_update(secret).finalize().into()
}

/// Opens the index of this store, and adds what it does not have: what would be too much for memory to runs, the rest
/// to memory.
///
/// # Errors
/// When the index knows of records that are not there any more, when it cannot be made, and when the records cannot be
/// read.
pub(in crate::store::sqlite) fn open(
    data_dir: &Path,
    records: &Connection,
    meta: &Meta,
    tuning: Tuning,
) -> Result<Opened, OpenError> {
    let old = data_dir.join(OLD_INDEX);
    schema::remove_database(&old).map_err(OpenError::io("cannot remove", &old))?;
    let file = data_dir.join(schema::RECORDS);
    let (dir, store) = (directory::path_in(data_dir), mark_of(&meta.secret));
    let runs = Runs::new(directory::open(&dir, &store)?);
    loop {
        let merged_to = runs.now().merged_to();
        if merged_to > meta.high_water {
            return Err(check::lost(&file, meta.high_water + 1, merged_to));
        }
        let mut tail = read_tail(records, merged_to, tuning.keys_at_start).map_err(OpenError::sqlite(&file))?;
        if tail.newest >= meta.newest && tail.keys.len() < tuning.merge_at_keys {
            return Ok(Opened { data_dir: data_dir.to_owned(), store, runs, tail });
        }
        if tail.newest == merged_to {
            // The newest record is never deleted.
            return Err(check::lost(&file, merged_to + 1, meta.high_water));
        }
        tracing::info!(from = merged_to, to = tail.newest, "adding duplicate keys to the index");
        runs.add(write_run(&dir, &store, (merged_to + 1, tail.newest), tail.keys.drain().collect())?);
    }
}
