//! Reading a closed store from its beginning to its end, for whoever copies it: not one byte of it is changed. What says
//! afterwards where it is now is a file of its own.
//!
//! What is read is a store that was verified. Where something is not as `verify` found it, reading ends with that, and
//! nothing is guessed.

mod newest;
mod records;
mod side;

use std::cell::Cell;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub(in crate::store) use self::newest::Known;
use super::error::OpenError;
use super::keys::Index;
use super::lock::{DirectoryLock, LOCK};
use super::schema::{self, RECORDS, with_suffix};
use super::survey::ground::{self, Ground};
use super::survey::unchanged::Unchanged;
use super::verify;
use super::{catalog, moved, subscriptions};
use crate::store::copying::CopyError;
use crate::store::copying::rows::{Rows, Value};
use crate::store::receipt_id::SECRET_BYTES;
use crate::store::verification::{Findings, Options, Progress, Report};

/// Which store it is, and as of which moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Identity {
    /// The same for one store for ever; does not tell its secret.
    pub(in crate::store) store: [u8; 32],
    /// Another one whenever something has opened the store to write.
    pub(in crate::store) moment: [u8; 32],
    /// What makes its receipts.
    pub(in crate::store) secret: Secret,
    /// Where it lies, for people.
    pub(in crate::store) directory: PathBuf,
}

/// What makes a store's receipts. It does not print.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Secret(pub(in crate::store) [u8; SECRET_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What does not go in pieces.
pub(in crate::store) struct Beginning {
    /// The generation of the catalog.
    pub(in crate::store) generation: i64,
    /// Up to which record notices were put down.
    pub(in crate::store) position: i64,
    /// The tables that have few rows.
    pub(in crate::store) rows: Rows,
}

/// Some records, with all that is to be known of them.
pub(in crate::store) struct Piece {
    /// The last number that it says something of.
    pub(in crate::store) to: i64,
    /// Their rows.
    pub(in crate::store) rows: Rows,
}

/// A closed store.
pub(in crate::store) struct Source {
    directory: PathBuf,
    _lock: DirectoryLock,
    records: Unchanged,
    ground: Ground,
    secret: Secret,
    moment: [u8; 32],
    texts_changed: Cell<u64>,
}

impl Source {
    /// Opens the store in a directory, which no gateway can open then.
    pub(in crate::store) fn open(directory: &Path) -> Result<Self, OpenError> {
        let shared = DirectoryLock::share(directory)?;
        schema::check_records(directory)?;
        // Without a lock file nobody has ever opened the store, as where a backup was restored. To hold it, one is made.
        let lock = match shared {
            Some(lock) => lock,
            None => DirectoryLock::take(directory)?,
        };
        let file = directory.join(RECORDS);
        let records = Unchanged::open(&file)?;
        schema::check_version(records.conn(), &file)?;
        let secret = ground::secret(records.conn()).map_err(OpenError::sqlite(&file))?;
        let why = "the secret that makes receipt IDs is missing or not the one that was written";
        let secret = secret.ok_or_else(|| OpenError::inconsistent(&file, why))?;
        // What is found is told by verifying.
        let mut unheard = Findings::keeping(0);
        let merged_to = Index::open_unchanged(directory, &secret, &mut unheard)?.merged_to();
        let ground = Ground::read(records.conn(), directory, merged_to, &mut unheard)?;
        let moment = moment(directory, ground.newest)?;
        let directory = directory.canonicalize().map_err(OpenError::io("cannot find", directory))?;
        let secret = Secret(secret);
        Ok(Self { directory, _lock: lock, records, ground, secret, moment, texts_changed: Cell::new(0) })
    }

    /// Which store it is.
    pub(in crate::store) fn identity(&self) -> Identity {
        let store = Sha256::new().chain_update(b"streamgate copy of ").chain_update(self.secret.0).finalize().into();
        Identity { store, moment: self.moment, secret: self.secret, directory: self.directory.clone() }
    }

    /// Verifies all of it.
    pub(in crate::store) fn verify(
        &self,
        options: &Options,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Report, OpenError> {
        verify::look(&self.directory, options, tell)
    }

    /// Says in the directory that the store is in this database now, durably. Answers the file that says so.
    pub(in crate::store) fn mark_moved(&self, place: &str) -> Result<PathBuf, OpenError> {
        moved::say(&self.directory, place)
    }

    /// The newest record's number.
    pub(in crate::store) const fn newest(&self) -> i64 {
        self.ground.newest
    }

    /// Numbers without a record.
    pub(in crate::store) fn gone(&self) -> u64 {
        self.ground.deleted.tally().count.cast_unsigned()
    }

    /// Of these: written down as lost.
    pub(in crate::store) fn lost(&self) -> u64 {
        self.ground.lost.count()
    }

    /// Texts that could not be read out as they are.
    pub(in crate::store) const fn texts_changed(&self) -> u64 {
        self.texts_changed.get()
    }

    /// What does not go in pieces.
    pub(in crate::store) fn beginning(&self) -> Result<Beginning, CopyError> {
        let mut rows = self.ground_rows()?;
        let generation = self.catalog(&mut rows)?;
        let position = self.subscriptions(&mut rows)?;
        Ok(Beginning { generation, position, rows })
    }

    /// A text that somebody wrote, for people: a NUL in it is nothing that matters.
    fn text(&self, text: &str) -> Value {
        if !text.contains('\0') {
            return Value::Text(text.to_owned());
        }
        self.texts_changed.set(self.texts_changed.get() + 1);
        Value::Text(text.replace('\0', "\u{fffd}"))
    }

    fn failed(&self, file: &str) -> impl Fn(rusqlite::Error) -> CopyError + use<> {
        let failed = OpenError::sqlite(&self.directory.join(file));
        move |fault| failed(fault).into()
    }
}

/// A text that a checksum covers, or that something goes by.
fn exact(text: String, what: impl FnOnce() -> String) -> Result<Value, CopyError> {
    if text.contains('\0') { Err(CopyError::Unfit(what())) } else { Ok(Value::Text(text)) }
}

/// Stands for what the store is at this moment: whoever opens it to write leaves its name in the lock file. What changes
/// the files without that is found when the copy is compared.
fn moment(directory: &Path, newest: i64) -> Result<[u8; 32], OpenError> {
    const LONGEST_BYTES: u64 = 4_096;
    let lock = directory.join(LOCK);
    let mut holder = Vec::new();
    fs::File::open(&lock)
        .and_then(|file| file.take(LONGEST_BYTES).read_to_end(&mut holder))
        .map_err(OpenError::io("cannot read", &lock))?;
    let mut hash = Sha256::new().chain_update(&holder).chain_update(newest.to_le_bytes());
    for name in [RECORDS, catalog::CATALOG, subscriptions::SUBSCRIPTIONS] {
        let file = directory.join(name);
        for file in [with_suffix(&file, "-wal"), file] {
            let bytes = fs::metadata(&file).map_or(0, |file| file.len());
            hash.update(bytes.to_le_bytes());
        }
    }
    Ok(hash.finalize().into())
}
