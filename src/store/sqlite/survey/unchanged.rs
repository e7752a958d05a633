//! Reading a database with not one byte of its directory changed, whatever state a crash left it in.
//!
//! SQLite's own read-only mode is not enough for that: beside a write-ahead log it makes or fills the `-shm` file, a
//! missing log it makes, and a rollback journal that a crash left it would have to roll back. So there are three ways:
//!
//! * **Nothing to fold in** (the log is missing, empty, only zeros or begins with what SQLite does not read, and so is the journal): the file alone is all of
//!   the database, and is read as one that nobody changes (`immutable`).
//! * **A log with something in it**, as `kill -9` leaves it: read-only, with the `-shm` file read-only too. Since nobody
//!   else has the database, SQLite then reads the log itself and keeps its index of it in memory.
//! * **A log without its `-shm` file, or a journal** that is to be rolled back: the database is copied, with what lies
//!   beside it, into a private directory for temporary files, and opened there. Only copies of a store look like that,
//!   and `catalog.db` where a crash met one of its rare changes.
//!
//! That nobody else changes the files meanwhile is for the directory's lock to see to.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::log;
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::random;
use crate::store::sqlite::schema::{check_regular, with_suffix};

/// How a rollback journal begins that is to be rolled back.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// A database that is read and not changed.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Unchanged {
    conn: Connection,
    /// Deleted when it is not read any more.
    _copy: Option<Private>,
}

impl Unchanged {
    /// Opens the database in this file.
    pub(in crate::store::sqlite) fn open(path: &Path) -> Result<Self, OpenError> {
        let [log_file, shm, journal] = ["-wal", "-shm", "-journal"].map(|suffix| with_suffix(path, suffix));
        for file in [path, log_file.as_path(), shm.as_path(), journal.as_path()] {
            check_regular(file)?;
        }
        let has_log = log::begins(&beginning(&log_file)?);
        let has_journal = beginning(&journal)? == JOURNAL_MAGIC;
        if has_journal || (has_log && !shm.exists()) {
            let copy = Private::of(path, &[log_file, journal])?;
            let conn = Connection::open_with_flags(&copy.file, flags(OpenFlags::SQLITE_OPEN_READ_WRITE));
            let conn = conn.and_then(careful).map_err(OpenError::sqlite(path))?;
            return Ok(Self { conn, _copy: Some(copy) });
        }
        let how = if has_log { "mode=ro&readonly_shm=1" } else { "mode=ro&immutable=1" };
        let conn = Connection::open_with_flags(uri(path, how), flags(OpenFlags::SQLITE_OPEN_READ_ONLY));
        let conn = conn.and_then(careful).map_err(OpenError::sqlite(path))?;
        Ok(Self { conn, _copy: None })
    }

    /// To read with.
    pub(in crate::store::sqlite) const fn conn(&self) -> &Connection {
        &self.conn
    }
}

fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// A connection that reads what is damaged as far as that goes, and is wary of each page.
fn careful(conn: Connection) -> rusqlite::Result<Connection> {
    conn.set_prepared_statement_cache_capacity(64);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Without it a file that was cut short, or a damaged line of the schema, would keep all the rest from being read.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    // What is sorted beside memory must not go into the directory either, and may be large.
    conn.pragma_update(None, "temp_store", "file")?;
    Ok(conn)
}

/// The first bytes of a file; zeros where there are none.
fn beginning<const N: usize>(path: &Path) -> Result<[u8; N], OpenError> {
    let mut bytes = [0; N];
    match File::open(path).and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => Ok(bytes),
        Err(fault) if matches!(fault.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok([0; N]),
        Err(fault) => Err(OpenError::io("cannot read", path)(fault)),
    }
}

/// The path as SQLite wants it for one that is opened in a special way.
fn uri(path: &Path, how: &str) -> String {
    // An absolute one: `file:` and a relative path with two slashes at its beginning would name a host.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            _ => {
                // Writing into a string does not fail.
                let _written = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri.push('?');
    uri.push_str(how);
    uri
}

/// A copy in a directory of its own, which goes with it.
#[derive(Debug)]
struct Private {
    dir: PathBuf,
    file: PathBuf,
}

impl Private {
    /// Copies this file, and those of the others that are there.
    fn of(path: &Path, beside: &[PathBuf]) -> Result<Self, OpenError> {
        let number = u128::from_le_bytes(random::sixteen()?);
        let dir = std::env::temp_dir().join(format!("streamgate-{number:032x}"));
        DirBuilder::new().mode(0o700).create(&dir).map_err(OpenError::io("cannot make", &dir))?;
        let private = Self { file: dir.join(path.file_name().unwrap_or_default()), dir };
        for from in std::iter::once(path).chain(beside.iter().map(PathBuf::as_path)).filter(|from| from.exists()) {
            let to = private.dir.join(from.file_name().unwrap_or_default());
            fs::copy(from, &to)
                .map_err(OpenError::io("cannot copy for reading (TMPDIR says where to) the file", from))?;
        }
        Ok(private)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(fault) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %fault, "a private copy could not be deleted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_anything_in_it_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b?c#d%20e=&.db");
        Connection::open(&path).unwrap().execute_batch("create table here (n integer)").unwrap();
        let opened = Unchanged::open(&path).unwrap();
        let there: i64 = opened.conn().query_row("select count(*) from here", [], |row| row.get(0)).unwrap();
        assert_eq!(there, 0);
        assert!(opened.conn().execute_batch("create table there (n integer)").is_err(), "it can be changed");
    }
}
