//! `keys/`: the files of the index. There is no list of them: their names and headers say everything.
//!
//! The runs cover the records from the first on, without a gap. A crash in the middle of a merge leaves a draft, or what
//! was merged beside what came of it; the next start removes both. Anything else that does not fit means that the index
//! is not to be trusted: it is cleared, and made again from the records.

use std::cmp::Reverse;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::KeysError;
use super::layout::StoreMark;
use super::run::Run;
use super::set::RunSet;
use crate::store::sqlite::schema::with_suffix;

/// The directory, in the data directory.
pub(in crate::store::sqlite) const KEYS: &str = "keys";
/// The index of earlier versions, a database.
pub(in crate::store::sqlite) const OLD_INDEX: &str = "index.db";
/// What a file's name ends with while it is not complete.
pub(super) const DRAFT_SUFFIX: &str = ".new";
const RUN_SUFFIX: &str = ".run";
const DISCARDED_SUFFIX: &str = ".discarded";

/// The name of the run of these records.
pub(super) fn file_name(from: i64, to: i64) -> String {
    // As long as the largest number, so that a listing is in order.
    format!("{from:019}-{to:019}{RUN_SUFFIX}")
}

/// Opens the index in this directory, `keys` itself, which is made if it is not there; clears one that is damaged, another
/// store's or of an unknown version.
pub(super) fn open(dir: &Path, store: &StoreMark) -> Result<RunSet, KeysError> {
    remove(&with_suffix(dir, DISCARDED_SUFFIX))?;
    if dir.exists() {
        match open_existing(dir, store) {
            Ok(runs) => return Ok(runs),
            Err(error) => tracing::warn!(%error, "the index of duplicate keys cannot be used; making it again"),
        }
        remove(dir)?;
    }
    DirBuilder::new().mode(0o700).create(dir).map_err(KeysError::io("cannot make", dir))?;
    Ok(RunSet::default())
}

fn open_existing(dir: &Path, store: &StoreMark) -> Result<RunSet, KeysError> {
    let mut runs = Vec::new();
    for file in fs::read_dir(dir).map_err(KeysError::io("cannot read", dir))? {
        let path = file.map_err(KeysError::io("cannot read", dir))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(DRAFT_SUFFIX) {
            fs::remove_file(&path).map_err(KeysError::io("cannot remove", &path))?;
        } else if name.ends_with(RUN_SUFFIX) {
            runs.push(Run::open(&path, store).and_then(with_its_name)?);
        }
    }
    in_order(runs)
}

/// Puts runs in order, and removes those that were merged into others.
fn in_order(runs: Vec<Run>) -> Result<RunSet, KeysError> {
    let (kept, merged) = arranged(runs)?;
    for run in merged {
        fs::remove_file(&run.path).map_err(KeysError::io("cannot remove", &run.path))?;
    }
    Ok(RunSet::of(kept))
}

/// Whether a file is a run by its name.
pub(super) fn is_run(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(RUN_SUFFIX))
}

/// The run, if its file is called as it should be.
pub(super) fn with_its_name(run: Run) -> Result<Run, KeysError> {
    let wanted = file_name(run.header.from, run.header.to);
    if run.path.file_name().is_some_and(|name| *name == *wanted) {
        return Ok(run);
    }
    Err(KeysError::damaged(&run.path, "has the name of another run"))
}

/// Runs in order, newest first, and those that were merged into them.
pub(super) fn arranged(mut runs: Vec<Run>) -> Result<(Vec<Arc<Run>>, Vec<Run>), KeysError> {
    runs.sort_by_key(|run| (run.header.from, Reverse(run.header.to)));
    let (mut kept, mut merged) = (Vec::with_capacity(runs.len()), Vec::new());
    let mut covered_to = 0;
    for run in runs {
        let (from, to) = run.range();
        if from == covered_to + 1 {
            covered_to = to;
            kept.push(Arc::new(run));
        } else if to <= covered_to {
            merged.push(run);
        } else {
            let what = format!("begins at record {from}, and the one before it ends at {covered_to}");
            return Err(KeysError::damaged(&run.path, what));
        }
    }
    kept.reverse();
    Ok((kept, merged))
}

/// Takes an index that turned out wrong away, so that the next start makes it again. What is open of it stays open, and
/// nothing new can be put into it.
pub(in crate::store::sqlite) fn discard(data_dir: &Path) {
    let dir = data_dir.join(KEYS);
    let discarded = with_suffix(&dir, DISCARDED_SUFFIX);
    let taken_away = remove(&discarded).and_then(|()| match fs::rename(&dir, &discarded) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KeysError::io("cannot move away", &dir)(error)),
        Ok(()) | Err(_) => remove(&discarded),
    });
    if let Err(error) = taken_away {
        tracing::error!(%error, "cannot delete the damaged index of duplicate keys; delete {KEYS} before the restart");
    }
}

/// Where the index of a store is.
pub(in crate::store::sqlite) fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(KEYS)
}

/// Removes a directory with all that is in it, or a file in its place; there may be neither.
fn remove(path: &Path) -> Result<(), KeysError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KeysError::io("cannot remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
