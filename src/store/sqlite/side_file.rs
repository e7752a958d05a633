//! A small database beside the records, in a file of its own: what is configured, who wants to be told.
//!
//! Its rows are JSON texts with a checksum each, over their key and themselves. A second, empty file says that there was
//! one, so that a file that is missing shows and is not silently made afresh. After a failed write nothing is written any
//! more, and a restart decides what is there.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc32fast::Hasher;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::error::{Meaning, OpenError, meaning};
use super::schema::{open_private, sync_directory};
use crate::store::StoreError;

/// What a file is, and what is made of it where there is none.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name.
    pub(super) file: &'static str,
    /// The name of the file that says that there was one.
    pub(super) mark: &'static str,
    /// Says in the header whose file it is.
    pub(super) application_id: u32,
    /// The format that this engine reads and writes.
    pub(super) version: u32,
    /// Its tables.
    pub(super) tables: &'static str,
    /// How it is written.
    pub(super) journal: Journal,
    /// What is lost without it, with its verb.
    pub(super) lost: &'static str,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// For what is written rarely: one file when at rest, which a command that may not write can read.
    Rollback,
    /// For what is written often: one sync a commit.
    WriteAhead,
}

/// An open file.
#[derive(Debug)]
pub(super) struct SideFile {
    path: PathBuf,
    data_dir: PathBuf,
    reserve_bytes: u64,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    conn: Connection,
    /// What failed first, after which nothing is written any more.
    broken: Option<String>,
}

/// Whether nothing was ever made in it.
pub(super) fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("select count(*) from sqlite_schema", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Whose file it is, and in which format.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<(u32, u32)> {
    let pragma = |name| conn.query_row(&format!("pragma {name}"), [], |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

impl SideFile {
    /// Opens the file in this directory, made if it is not there. The directory's lock must be held.
    pub(super) fn open(kind: &Kind, data_dir: &Path, reserve_bytes: u64) -> Result<Self, OpenError> {
        let path = data_dir.join(kind.file);
        let mark = data_dir.join(kind.mark);
        let is_marked = mark.try_exists().map_err(OpenError::io("cannot look for", &mark))?;
        let is_there = std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        if is_marked && !is_there {
            return Err(OpenError::SideFileMissing { path, mark, lost: kind.lost });
        }
        open_private(&path).map_err(OpenError::io("cannot open", &path))?;
        sync_directory(data_dir)?;
        let failed = OpenError::sqlite(&path);
        let mut conn = super::schema::open(&path).map_err(&failed)?;
        // `extra` also syncs the directory when a rollback journal goes, which is the moment of the commit.
        let (journal, synchronous) = match kind.journal {
            Journal::Rollback => ("delete", "extra"),
            Journal::WriteAhead => ("wal", "full"),
        };
        conn.pragma_update(None, "journal_mode", journal).map_err(&failed)?;
        conn.pragma_update(None, "synchronous", synchronous).map_err(&failed)?;
        match version(&conn).map_err(&failed)? {
            (0, 0) if is_empty(&conn).map_err(&failed)? && !is_marked => make(kind, &mut conn).map_err(&failed)?,
            (id, version) if (id, version) == (kind.application_id, kind.version) => {}
            (id, found) if id == kind.application_id => {
                return Err(OpenError::UnknownFormat { path, found, known: kind.version });
            }
            _ => return Err(OpenError::NotAStore { path }),
        }
        open_private(&mark).map_err(OpenError::io("cannot make", &mark))?;
        sync_directory(data_dir)?;
        Ok(Self { path, data_dir: data_dir.to_owned(), reserve_bytes, held: Mutex::new(Held { conn, broken: None }) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic in the middle of a transaction leaves it open, and it is rolled back when the next one begins.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        work(&self.held().conn)
    }

    /// The disk's reserve is for what must go on when it is full; what grows this file can wait.
    pub(super) fn check_room(&self) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(&self.data_dir).map_err(|fault| StoreError::Engine(Box::new(fault)))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes > self.reserve_bytes {
            return Ok(());
        }
        Err(StoreError::Full { free_bytes, reserve_bytes: self.reserve_bytes })
    }

    /// Folds a write-ahead log into the file, which alone is all of it then.
    pub(super) fn fold_log(&self) -> Result<(), StoreError> {
        let held = self.held();
        match &held.broken {
            // After a failed write nothing may be folded in: what is there is for the next start to judge.
            Some(cause) => Err(StoreError::Broken { cause: cause.clone() }),
            None => held
                .conn
                .query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))
                .map_err(|fault| StoreError::Engine(Box::new(fault))),
        }
    }

    /// Does something in one transaction, unless an earlier one left the file in an unknown state.
    pub(super) fn transact<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut held = self.held();
        if let Some(cause) = &held.broken {
            return Err(StoreError::Broken { cause: cause.clone() });
        }
        let outcome = (|| {
            let transaction = held.conn.transaction()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })();
        outcome.map_err(|fault: rusqlite::Error| {
            let cause = format!("{}: {fault}", self.path.display());
            match meaning(&fault) {
                Meaning::Full | Meaning::Passing => StoreError::Engine(cause.into()),
                Meaning::Broken => {
                    held.broken = Some(cause.clone());
                    StoreError::Broken { cause }
                }
            }
        })
    }
}

fn make(kind: &Kind, conn: &mut Connection) -> rusqlite::Result<()> {
    let transaction = conn.transaction()?;
    transaction.execute_batch(kind.tables)?;
    transaction.pragma_update(None, "application_id", kind.application_id)?;
    transaction.pragma_update(None, "user_version", kind.version)?;
    transaction.commit()
}

/// A JSON text and the checksum that goes with it.
pub(in crate::store) struct Summed {
    pub(in crate::store) text: String,
    pub(in crate::store) crc: i64,
}

impl Summed {
    /// This value as it is kept under this key.
    pub(in crate::store) fn new(key: &[u8], value: &impl Serialize) -> rusqlite::Result<Self> {
        let text =
            serde_json::to_string(value).map_err(|fault| rusqlite::Error::ToSqlConversionFailure(fault.into()))?;
        let crc = checksum(key, &text);
        Ok(Self { text, crc })
    }
}

fn checksum(key: &[u8], text: &str) -> i64 {
    let mut hasher = Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(text.as_bytes());
    i64::from(hasher.finalize())
}

/// Reads a value that was kept under this key; `None` where it is not as it was written.
pub(in crate::store) fn verified<T: for<'de> Deserialize<'de>>(key: &[u8], text: &str, crc: i64) -> Option<T> {
    if checksum(key, text) != crc {
        return None;
    }
    serde_json::from_str(text).ok()
}
