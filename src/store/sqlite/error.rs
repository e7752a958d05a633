//! What can go wrong, sorted by what it means: the store cannot be opened, this call failed, or writing is over.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::keys::KeysError;
use crate::store::StoreError;

/// Why a store could not be opened. Nothing was changed, except that a first start may have made files.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data directory {} is in use by another gateway: {holder}", directory.display())]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// Who has it, as the lock file says.
        holder: String,
    },
    /// A file or directory cannot be used.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The file is no record store.
    #[error("{} is not a Streamgate record store", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The store was written by another version, or its header is damaged.
    #[error("{} has format {found}, and this version knows format {known}; nothing was changed", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The format in its header.
        found: u32,
        /// The format that this version reads and writes.
        known: u32,
    },
    /// The store is of an earlier version, which only a start of the gateway can change.
    #[error(
        "{} has format {found}, and this version looks at format {known}; start the gateway once, which brings it up to \
         date, or take the version that wrote it",
        path.display()
    )]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that this version writes.
        known: u32,
    },
    /// A recovery was cut short after it had been decided.
    #[error(
        "a recovery was cut short, as {} says; start the gateway or run `streamgate recover`, which finish it",
        note.display()
    )]
    RecoveryCutShort {
        /// The note that says so.
        note: PathBuf,
    },
    /// There is too little left to go on with.
    #[error("{} cannot be recovered: {why}", file.display())]
    NotRecoverable {
        /// The file.
        file: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// A recovery makes a new database beside the old one.
    #[error(
        "a recovery needs {needed} bytes on the disk of {}, and {free} are free; nothing was changed",
        directory.display()
    )]
    NoRoom {
        /// The data directory.
        directory: PathBuf,
        /// What it needs.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// It was copied into a database, which is the store since then.
    #[error(
        "the store in {} has moved, as {} says: \"{says}\". Set `[store] kind = \"postgres\"`, with the database in \
         [store.postgres]. To go back to the files on purpose, stop the gateways on the database and delete {}: records \
         that were taken since then are in the database only, and what was delivered since then is delivered again",
        file.parent().unwrap_or(file).display(), file.display(), file.display()
    )]
    Moved {
        /// The file that says so.
        file: PathBuf,
        /// What it says: which database, and since when.
        says: String,
    },
    /// There is nothing to look at.
    #[error("there is no record store in {}", directory.display())]
    NoStore {
        /// The directory.
        directory: PathBuf,
    },
    /// The records are gone, but something of the store is still there.
    #[error(
        "{} is missing although {} is there: records were lost; restore the file, or move the whole directory away",
        path.display(), trace.display()
    )]
    RecordsMissing {
        /// The file that should be there.
        path: PathBuf,
        /// The file that shows that it was.
        trace: PathBuf,
    },
    /// A file beside the records is gone.
    #[error(
        "{} is missing or empty although {} says that there was one: {lost} lost; restore the file from a backup, or \
         delete {} to go on without it",
        path.display(), mark.display(), mark.display()
    )]
    SideFileMissing {
        /// The file that should be there.
        path: PathBuf,
        /// The file that shows that it was.
        mark: PathBuf,
        /// What was in it, with its verb.
        lost: &'static str,
    },
    /// Records that were there are not there any more.
    #[error("{} has lost records {from} to {to}; restore it from a backup", file.display())]
    Damaged {
        /// The first lost record's sequence number.
        from: u64,
        /// The last lost record's.
        to: u64,
        /// The file.
        file: PathBuf,
    },
    /// Something in the store contradicts something else in it.
    #[error("{} is damaged: {detail}", file.display())]
    Inconsistent {
        /// The file.
        file: PathBuf,
        /// What contradicts what.
        detail: String,
    },
    /// SQLite refused.
    #[error("cannot open {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The operating system gave no random bits.
    #[error("the operating system gives no random bits")]
    Random(#[from] getrandom::Error),
}

impl OpenError {
    /// Whether what is in the directory is the matter, and not who may use it.
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::NotAStore { .. }
            | Self::RecordsMissing { .. }
            | Self::SideFileMissing { .. }
            | Self::Damaged { .. }
            | Self::Inconsistent { .. }
            | Self::Sqlite { .. } => true,
            Self::Locked { .. }
            | Self::Io { .. }
            | Self::UnknownFormat { .. }
            | Self::OlderFormat { .. }
            | Self::RecoveryCutShort { .. }
            | Self::NotRecoverable { .. }
            | Self::NoRoom { .. }
            | Self::Moved { .. }
            | Self::NoStore { .. }
            | Self::Random(_) => false,
        }
    }

    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    pub(super) fn sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Sqlite { path: path.clone(), source }
    }

    pub(super) fn inconsistent(file: &Path, detail: impl Into<String>) -> Self {
        Self::Inconsistent { file: file.to_owned(), detail: detail.into() }
    }
}

/// Why one command of a batch, or the whole batch, did not happen.
#[derive(Debug)]
pub(super) enum Fault {
    /// This command alone failed, before it changed anything.
    Command(StoreError),
    /// `records.db` failed.
    Records(rusqlite::Error),
    /// The index of duplicate keys failed.
    Index(KeysError),
    /// The index of duplicate keys says what `records.db` does not.
    IndexWrong(String),
    /// The operating system gave no random bits.
    Random(getrandom::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Records(error)
    }
}

impl From<KeysError> for Fault {
    fn from(error: KeysError) -> Self {
        Self::Index(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Command(error)
    }
}

/// What an error means for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// No room. Nothing was written; it goes on once there is room.
    Full,
    /// Nothing was written, and another try may succeed: another process has the file, memory is short.
    Passing,
    /// What is on disk is unknown, or not what it should be.
    Broken,
}

/// What an error of SQLite means.
///
/// Whatever is not known to be harmless is taken for the worst: after a failed fsync the kernel has dropped the dirty
/// pages and calls them clean, so a second fsync would succeed and prove nothing.
pub(super) fn meaning(error: &rusqlite::Error) -> Meaning {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Meaning::Full,
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::TooBig,
        ) => Meaning::Passing,
        Some(_) | None => Meaning::Broken,
    }
}

/// The error of a failed read.
pub(super) fn read_error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(error.to_string()),
        Some(_) | None => StoreError::Engine(Box::new(error)),
    }
}
