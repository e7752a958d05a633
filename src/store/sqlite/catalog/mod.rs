//! `catalog.db`: what is configured through the administration, in a file of its own.
//!
//! Apart from the records, so that a change never stands in a record's way, and so that it can be copied and restored
//! alone. It keeps a rollback journal and not a write-ahead log: it is written rarely, is one file when at rest, and can
//! be read by a command that may not write. Every row has a checksum; what is not as it was written is named and never
//! used.

mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, params};

use self::rows::Summed;
use super::error::{Meaning, OpenError, meaning, read_error};
use super::schema::{BUSY_TIMEOUT, open_private, sync_directory};
use crate::config::stored::Stored;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::{AuditPage, AuditQuery, CatalogChange, CatalogStore};

/// The file.
pub const CATALOG: &str = "catalog.db";
/// Says that there was a catalog, so that one that is missing shows.
const MARK: &str = "catalog.mark";
/// "SGCT": says in the header whose file it is.
const APPLICATION_ID: u32 = 0x5347_4354;
/// The format that this engine writes.
const VERSION: u32 = 1;
/// The most entries of the trail on one page.
const MAX_PAGE: usize = 1_000;

const TABLES: &str = "
create table meta (id integer primary key check (id = 1), generation integer not null);
insert into meta values (1, 0);
create table organizations (id blob primary key, document text not null, crc integer not null) without rowid;
create table api_keys (name text primary key, document text not null, crc integer not null) without rowid;
create table audit (
    seq integer primary key autoincrement,
    at integer not null,
    organization blob,
    resource text not null,
    entry text not null,
    crc integer not null
);
";

/// The store of the configuration in a data directory.
#[derive(Debug)]
pub struct SqliteCatalog {
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

/// What a data directory holds of the configuration, read without keeping it open: for the start, which needs it before
/// anything else is opened, and for commands that only look.
///
/// # Errors
/// A sentence that names the file.
pub fn read_stored(data_dir: &Path) -> Result<Stored, String> {
    let path = data_dir.join(CATALOG);
    let in_words = |fault: &dyn std::fmt::Display| format!("{} cannot be read: {fault}", path.display());
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) if data_dir.join(MARK).exists() => {
            let advice = "it is missing, although there was one; restore it from a backup";
            return Err(in_words(&advice));
        }
        Ok(false) => return Ok(Stored::default()),
        Err(fault) => return Err(in_words(&fault)),
    }
    // Writing, if that may be: a change that a crash cut in two is taken back then.
    let flags = |access| access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
        .or_else(|_| Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY)))
        .map_err(|fault| in_words(&fault))?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(|fault| in_words(&fault))?;
    match version(&conn).map_err(|fault| in_words(&fault))? {
        (0, 0) if is_empty(&conn).map_err(|fault| in_words(&fault))? => match data_dir.join(MARK).exists() {
            true => {
                Err(in_words(&"it is empty, although there was one with something in it; restore it from a backup"))
            }
            false => Ok(Stored::default()),
        },
        (APPLICATION_ID, VERSION) => rows::load(&conn).map_err(|fault| in_words(&fault)),
        (APPLICATION_ID, newer) => Err(in_words(&format!("it has format {newer}, and this version knows {VERSION}"))),
        _ => Err(in_words(&"it is not a Streamgate catalog")),
    }
}

/// Whether nothing was ever made in it.
fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("select count(*) from sqlite_schema", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

fn version(conn: &Connection) -> rusqlite::Result<(u32, u32)> {
    let pragma = |name| conn.query_row(&format!("pragma {name}"), [], |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

impl SqliteCatalog {
    /// Opens the catalog in this directory, made if it is not there. The directory's lock must be held. What grows it is
    /// refused when so many bytes are left on the disk.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be used, or is no catalog of this version, or is gone although there was one.
    pub fn open(data_dir: &Path, reserve_bytes: u64) -> Result<Self, OpenError> {
        let path = data_dir.join(CATALOG);
        let mark = data_dir.join(MARK);
        let is_marked = mark.try_exists().map_err(OpenError::io("cannot look for", &mark))?;
        let is_there = std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        // Whoever lost this file lost organizations; starting afresh in silence would mean 404s.
        if is_marked && !is_there {
            return Err(OpenError::CatalogMissing { path, mark });
        }
        open_private(&path).map_err(OpenError::io("cannot open", &path))?;
        sync_directory(data_dir)?;
        let failed = OpenError::sqlite(&path);
        let mut conn = super::schema::open(&path).map_err(&failed)?;
        conn.pragma_update(None, "journal_mode", "delete").map_err(&failed)?;
        // `extra` also syncs the directory when the journal goes, which is the moment of the commit.
        conn.pragma_update(None, "synchronous", "extra").map_err(&failed)?;
        match version(&conn).map_err(&failed)? {
            (0, 0) if is_empty(&conn).map_err(&failed)? && !is_marked => make(&mut conn).map_err(&failed)?,
            (APPLICATION_ID, VERSION) => {}
            (APPLICATION_ID, found) => return Err(OpenError::UnknownFormat { path, found, known: VERSION }),
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

    /// The disk's reserve is for what must go on when it is full; changes of the configuration can wait.
    fn check_room(&self) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(&self.data_dir).map_err(|fault| StoreError::Engine(Box::new(fault)))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes > self.reserve_bytes {
            return Ok(());
        }
        Err(StoreError::Full { free_bytes, reserve_bytes: self.reserve_bytes })
    }

    /// Does something in one transaction, unless an earlier one left the file in an unknown state.
    fn transact<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
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

fn make(conn: &mut Connection) -> rusqlite::Result<()> {
    let transaction = conn.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// A generation only ever grows.
fn keep_generation(conn: &Connection, generation: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("update meta set generation = max(generation, ?1) where id = 1")?
        .execute([generation.cast_signed()])?;
    Ok(())
}

impl CatalogStore for SqliteCatalog {
    fn load(&self) -> Result<Stored, StoreError> {
        rows::load(&self.held().conn)
    }

    fn commit(&self, change: &CatalogChange) -> Result<(), StoreError> {
        let grows = change.organizations.iter().any(|(_, document)| document.is_some())
            || change.api_keys.iter().any(|(_, key)| key.is_some());
        if grows {
            self.check_room()?;
        }
        self.transact(|conn| {
            for (id, document) in &change.organizations {
                let key = id.guid();
                match document {
                    None => {
                        conn.prepare_cached("delete from organizations where id = ?1")?.execute([key.as_bytes()])?
                    }
                    Some(document) => {
                        let Summed { text, crc } = Summed::new(key.as_bytes(), &**document)?;
                        conn.prepare_cached(
                            "insert or replace into organizations (id, document, crc) values (?1, ?2, ?3)",
                        )?
                        .execute(params![key.as_bytes(), text, crc])?
                    }
                };
            }
            for (name, api_key) in &change.api_keys {
                match api_key {
                    None => conn.prepare_cached("delete from api_keys where name = ?1")?.execute([name])?,
                    Some(api_key) => {
                        let Summed { text, crc } = Summed::new(name.as_bytes(), &api_key.to_json())?;
                        conn.prepare_cached(
                            "insert or replace into api_keys (name, document, crc) values (?1, ?2, ?3)",
                        )?
                        .execute(params![name, text, crc])?
                    }
                };
            }
            keep_generation(conn, change.generation)?;
            rows::insert_audit(conn, &change.audit)
        })
    }

    fn remember_generation(&self, generation: u64) -> Result<(), StoreError> {
        self.transact(|conn| keep_generation(conn, generation))
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        rows::audit(&self.held().conn, query, query.limit.min(MAX_PAGE))
    }

    fn forget_audit(&self, older_than: Timestamp, at_most: usize) -> Result<usize, StoreError> {
        let limit = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.transact(|conn| {
            // The trail is in the order of time but for a clock that was put back, whose entries wait for their turn.
            conn.prepare_cached(
                "delete from audit where at < ?1 and seq in (select seq from audit order by seq limit ?2)",
            )?
            .execute(params![older_than.millis(), limit])
        })
    }
}

#[cfg(test)]
mod tests;
