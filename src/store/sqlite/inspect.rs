//! A look at a data directory from outside, for `doctor`: who has it, and whether a start would take its files.
//!
//! Nothing is opened for writing and nothing is made; a running gateway is not disturbed. Whether the records are whole
//! is found out by a start, which reads more than this does.

use std::io;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::format::VERSION;
pub use super::moved::Moved;
use super::schema::{self, Header};
use super::{catalog, lock, moved, subscriptions};

/// What a data directory looks like from outside.
#[derive(Debug)]
pub struct Inspection {
    /// Who has the directory, in the words of the lock file; `None` where nobody has it.
    pub holder: io::Result<Option<String>>,
    /// `records.db`, where there is one; or why a start would be refused.
    pub records: Result<Option<RecordsFile>, OpenError>,
    /// Files that must be there, since there is a mark of them, and are not.
    pub missing: Vec<PathBuf>,
    /// What says that the store is in a database now, where something does.
    pub moved: Result<Option<Moved>, OpenError>,
}

/// `records.db`, as it looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsFile {
    /// Its size, with the log.
    pub bytes: u64,
    /// About how much of it is free for other records.
    pub free_bytes: u64,
    /// Whether it is of an older format, which the next start writes again.
    pub is_old: bool,
}

/// Looks at a data directory, which may be missing.
pub fn inspect(dir: &Path) -> Inspection {
    let marked = [(catalog::CATALOG, catalog::MARK), (subscriptions::SUBSCRIPTIONS, subscriptions::MARK)];
    let missing = marked
        .iter()
        .filter(|(file, mark)| dir.join(mark).exists() && !dir.join(file).exists())
        .map(|(file, _)| dir.join(file));
    Inspection { holder: lock::holder(dir), records: records(dir), missing: missing.collect(), moved: moved::look(dir) }
}

fn records(dir: &Path) -> Result<Option<RecordsFile>, OpenError> {
    let path = dir.join(schema::RECORDS);
    if !path.exists() {
        return match schema::trace_of_records(dir) {
            Some(trace) => Err(OpenError::RecordsMissing { path, trace }),
            None => Ok(None),
        };
    }
    let header = Header::read(&path)?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let bytes = size(&path) + size(&schema::with_suffix(&path, "-wal"));
    Ok(Some(RecordsFile { bytes, free_bytes: header.free_bytes, is_old: header.format < VERSION }))
}
