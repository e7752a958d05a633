//! The files of the store, and how each connection to them behaves.
//!
//! `records.db` is made under another name, filled, checkpointed, synced and only then given its name: a process that
//! dies during its first start leaves nothing that the next start would have to repair. Its format version stands in
//! the file's header, where it can be read without opening the database: a newer format is refused with no byte
//! changed.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use super::error::OpenError;
use super::format::{self, VERSION};
use super::keys;
use super::recover::swap::PENDING;
use crate::store::receipt_id::SECRET_BYTES;

/// The records.
pub(super) const RECORDS: &str = "records.db";
/// "SGRS": says in the header of `records.db` whose file it is.
pub(super) const APPLICATION_ID: u32 = 0x5347_5253;
/// The size of a new store's pages. A commit writes its last page whole, however little of it is new, and two others
/// besides: measured, pages of twice this size made commits a tenth faster, and wrote an eighth more.
pub(super) const PAGE_BYTES: u32 = 4_096;
/// How long the log is from the beginning on. Tests start hundreds of stores.
pub(super) const LOG_BYTES: u64 = if cfg!(debug_assertions) { 1 << 20 } else { 32 << 20 };
/// How long a connection waits for another process that holds a lock, such as a backup.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the data directory, readable by nobody else, if it is not there; what is made is durable on return.
pub(super) fn make_directory(dir: &Path) -> Result<(), OpenError> {
    let mut missing: Vec<&Path> =
        dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    missing.reverse();
    for dir in missing {
        fs::create_dir(dir).map_err(OpenError::io("cannot make the directory", dir))?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(OpenError::io("cannot protect", dir))?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        sync_directory(parent)?;
    }
    Ok(())
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(OpenError::io("cannot sync the directory", dir))
}

/// Opens a file for reading and writing, made for its owner alone if it is not there, whatever the umask.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let fresh = !path.exists();
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if fresh {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Deletes a database with its side files, those that are there.
pub(super) fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(with_suffix(path, suffix)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The path with something behind its last name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Makes `records.db` if it is not there, and checks in its header that it is one of ours in a format we know.
pub(super) fn make_or_check_records(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(RECORDS);
    if path.exists() {
        return check_header(&path);
    }
    // Whoever lost this file lost records; starting afresh in silence would hide it.
    match trace_of_records(dir) {
        Some(trace) => Err(OpenError::RecordsMissing { path, trace }),
        None => make_records(dir, &path),
    }
}

/// Something that shows that there were records.
pub(super) fn trace_of_records(dir: &Path) -> Option<PathBuf> {
    let log = with_suffix(&dir.join(RECORDS), "-wal");
    let traces = [log, dir.join(keys::KEYS), dir.join(keys::OLD_INDEX), dir.join(super::mark::MARK)];
    traces.into_iter().find(|trace| trace.exists())
}

/// Checks that there is a `records.db` of ours in a format we know. Makes and changes nothing.
pub(super) fn check_records(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(RECORDS);
    let pending = dir.join(PENDING);
    if pending.exists() {
        return Err(OpenError::RecoveryCutShort { note: pending });
    }
    check_regular(&path)?;
    match path.try_exists().map_err(OpenError::io("cannot look for", &path))? {
        true => check_header(&path),
        false => Err(match trace_of_records(dir) {
            Some(trace) => OpenError::RecordsMissing { path, trace },
            None => OpenError::NoStore { directory: dir.to_owned() },
        }),
    }
}

/// Refuses what is there and is no file: to open a named pipe would wait for a writer, for ever.
pub(super) fn check_regular(path: &Path) -> Result<(), OpenError> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(OpenError::io("cannot read", path)(std::io::Error::other("it is not a regular file"))),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(fault) => Err(OpenError::io("cannot look for", path)(fault)),
    }
}

/// Checks that what is read is in the present format. What stands in the file's header may be older than that, while the
/// log has not been folded in.
pub(super) fn check_version(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    match conn.pragma_query_value(None, "user_version", |row| row.get(0)) {
        Ok(VERSION) => Ok(()),
        Ok(found @ 1..VERSION) => Err(OpenError::OlderFormat { path: path.to_owned(), found, known: VERSION }),
        Ok(found) => Err(OpenError::UnknownFormat { path: path.to_owned(), found, known: VERSION }),
        Err(fault) => Err(OpenError::sqlite(path)(fault)),
    }
}

fn make_records(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let draft = with_suffix(path, ".new");
    remove_database(&draft).map_err(OpenError::io("cannot clear", &draft))?;
    open_private(&draft).map_err(OpenError::io("cannot make", &draft))?;
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    fill_records(&draft, &secret).map_err(OpenError::sqlite(&draft))?;
    let file = File::open(&draft).map_err(OpenError::io("cannot open", &draft))?;
    file.sync_all().map_err(OpenError::io("cannot sync", &draft))?;
    fs::rename(&draft, path).map_err(OpenError::io("cannot put in place", path))?;
    remove_database(&draft).map_err(OpenError::io("cannot clear", &draft))?;
    sync_directory(dir)
}

fn fill_records(path: &Path, secret: &[u8; SECRET_BYTES]) -> rusqlite::Result<()> {
    let mut conn = open(path)?;
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    let transaction = conn.transaction()?;
    format::upgrade(&transaction, 0)?;
    transaction.execute("insert into meta values (1, ?1, ?2, 0, 0, 0, 0)", params![secret, crc32fast::hash(secret)])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))
}

fn check_header(path: &Path) -> Result<(), OpenError> {
    Header::read(path).map(|_| ())
}

/// What the header of `records.db` says, which can be read whoever has the database open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// The format, one that this version knows.
    pub(super) format: u32,
    /// What is free inside the file, as of the last time that the log was carried over.
    pub(super) free_bytes: u64,
}

impl Header {
    /// Reads the header of a store of a known format.
    pub(super) fn read(path: &Path) -> Result<Self, OpenError> {
        // https://www.sqlite.org/fileformat2.html#the_database_header: the size of a page at 16 (1 stands for 65,536),
        // the number of free pages at 36, the user version at 60, the application ID at 68.
        let mut header = [0; 100];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
        match read {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(OpenError::NotAStore { path: path.to_owned() });
            }
            Err(error) => return Err(OpenError::io("cannot read", path)(error)),
        }
        let number_at =
            |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        if !header.starts_with(b"SQLite format 3\0") || number_at(68) != APPLICATION_ID {
            return Err(OpenError::NotAStore { path: path.to_owned() });
        }
        let page_bytes = match number_at(16) >> 16 {
            1 => 65_536,
            bytes => u64::from(bytes),
        };
        match number_at(60) {
            format @ 1..=VERSION => Ok(Self { format, free_bytes: u64::from(number_at(36)) * page_bytes }),
            found => Err(OpenError::UnknownFormat { path: path.to_owned(), found, known: VERSION }),
        }
    }
}

/// Fills the log with zeros beforehand, where there is none from before: a sync of what lies in the middle of a file is
/// one write to the disk; of what makes the file longer, it is a commit of the file system's journal, four times as slow.
/// SQLite takes zeros for an empty log, and overwrites them.
pub(super) fn fill_log(dir: &Path) -> io::Result<()> {
    let path = with_suffix(&dir.join(RECORDS), "-wal");
    let mut file = open_private(&path)?;
    if file.metadata()?.len() > 0 {
        return Ok(());
    }
    // By the page: what is written in larger pieces is kept, and written again, in larger pieces.
    let zeros = [0; 4_096];
    let filled = (0..LOG_BYTES / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros));
    match filled.and_then(|()| file.sync_all()) {
        // A full disk goes without.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => file.set_len(0),
        filled => filled,
    }
}

/// A connection that writes to `records.db`.
pub(super) fn connect_writer(dir: &Path) -> rusqlite::Result<Connection> {
    let conn = open(&dir.join(RECORDS))?;
    conn.pragma_update(None, "synchronous", "full")?;
    #[cfg(debug_assertions)]
    super::fault_point::weaken(&conn)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Negative: kibibytes. The tail of the records, the pending rows and the tail of the delivered ones stay in it.
    conn.pragma_update(None, "cache_size", -16_384)?;
    Ok(conn)
}

/// The size of the pages of this store.
pub(super) fn page_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let bytes: u32 = conn.prepare_cached("pragma page_size")?.query_row([], |row| row.get(0))?;
    Ok(u64::from(bytes))
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    configure(Connection::open_with_flags(path, flags)?)
}

/// A connection to an existing file, read and write.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    configure(Connection::open_with_flags(path, flags)?)
}

fn configure(conn: Connection) -> rusqlite::Result<Connection> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(64);
    // After a failed write nothing may be checkpointed, and a close must not do it unasked.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}
