//! `catalog.db`: what is configured through the administration, in a file of its own.
//!
//! Apart from the records, so that a change never stands in a record's way, and so that it can be copied and restored
//! alone. It keeps a rollback journal and not a write-ahead log: it is written rarely, is one file when at rest, and can
//! be read by a command that may not write. Every row has a checksum; what is not as it was written is named and never
//! used.

mod rows;

pub(super) use self::rows::damaged_rows;

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::error::{OpenError, read_error};
use super::schema::BUSY_TIMEOUT;
use super::side_file::{Journal, Kind, SideFile, Summed, is_empty, verified, version};
use crate::config::stored::Stored;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::{Advance, AuditPage, AuditQuery, CatalogChange, CatalogStore};

/// The file.
pub const CATALOG: &str = "catalog.db";
/// Says that there was a catalog, so that one that is missing shows.
pub(super) const MARK: &str = "catalog.mark";
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

/// What the file is.
pub(super) const KIND: Kind = Kind {
    file: CATALOG,
    mark: MARK,
    application_id: APPLICATION_ID,
    version: VERSION,
    tables: TABLES,
    journal: Journal::Rollback,
    lost: "what was configured through the administration is",
};

/// The store of the configuration in a data directory.
#[derive(Debug)]
pub struct SqliteCatalog(SideFile);

/// What a data directory holds of the configuration, read without keeping it open: for the start, which needs it before
/// anything else is opened, and for commands that only look.
///
/// # Errors
/// A sentence that names the file.
pub fn read_stored(data_dir: &Path) -> Result<Stored, String> {
    let path = data_dir.join(CATALOG);
    let in_words = |fault: &dyn std::fmt::Display| {
        let (file, directory) = (path.display(), data_dir.display());
        format!(
            "{file} cannot be read: {fault}; to see all that is wrong, run: streamgate verify --data-dir {directory}"
        )
    };
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

impl SqliteCatalog {
    /// Opens the catalog in this directory, made if it is not there. The directory's lock must be held. What grows it is
    /// refused when so many bytes are left on the disk.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be used, or is no catalog of this version, or is gone although there was one.
    pub fn open(data_dir: &Path, reserve_bytes: u64) -> Result<Self, OpenError> {
        SideFile::open(&KIND, data_dir, reserve_bytes).map(Self)
    }
}

/// From one generation to the next; `false` where the stored one is another by now.
fn advanced(conn: &Connection, advance: Advance) -> rusqlite::Result<bool> {
    let rows = conn
        .prepare_cached("update meta set generation = ?2 where id = 1 and generation = ?1")?
        .execute([advance.from.cast_signed(), advance.to.cast_signed()])?;
    Ok(rows == 1)
}

const fn taken(advanced: bool) -> Result<(), StoreError> {
    if advanced { Ok(()) } else { Err(StoreError::Changed) }
}

impl CatalogStore for SqliteCatalog {
    fn load(&self) -> Result<Stored, StoreError> {
        self.0.read(rows::load)
    }

    fn generation(&self) -> Result<u64, StoreError> {
        self.0.read(rows::generation)
    }

    fn commit(&self, change: &CatalogChange) -> Result<(), StoreError> {
        let grows = change.organizations.iter().any(|(_, document)| document.is_some())
            || change.api_keys.iter().any(|(_, key)| key.is_some());
        if grows {
            self.0.check_room()?;
        }
        let done = self.0.transact(|conn| {
            if let Some(advance) = change.advance
                && !advanced(conn, advance)?
            {
                return Ok(false);
            }
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
            rows::insert_audit(conn, &change.audit).map(|()| true)
        })?;
        taken(done)
    }

    fn advance(&self, advance: Advance) -> Result<(), StoreError> {
        taken(self.0.transact(|conn| advanced(conn, advance))?)
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        self.0.read(|conn| rows::audit(conn, query, query.limit.min(MAX_PAGE)))
    }

    fn forget_audit(&self, older_than: Timestamp, at_most: usize) -> Result<usize, StoreError> {
        let limit = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.0.transact(|conn| {
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
