//! One gateway at a time: the lock on the data directory.
//!
//! The lock is the kernel's (`flock`), not the file: it ends with its holder, however that ends, so a file that was
//! left behind blocks nobody. The file's text only serves whoever is refused.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use super::error::OpenError;
use super::schema::{check_regular, open_private};
use crate::domain::time::Timestamp;

/// The file that is locked.
pub(super) const LOCK: &str = "gateway.lock";

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _held: File,
}

impl DirectoryLock {
    /// Takes the lock, or says who has it. Does not wait.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(LOCK);
        let mut file = open_private(&path).map_err(OpenError::io("cannot open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { directory: dir.to_owned(), holder: holder_in(file) });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io("cannot lock", &path)(error)),
        }
        let holder = format!("process {}, since {}\n", std::process::id(), Timestamp::now());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(OpenError::io("cannot write", &path))?;
        Ok(Self { _held: file })
    }
}

impl DirectoryLock {
    /// Holds the lock together with others who only read, and changes nothing, not even the file's text. `None`: there is
    /// no lock file, so nobody has ever opened the store.
    pub(super) fn share(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(LOCK);
        check_regular(&path)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io("cannot open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { _held: file })),
            Err(TryLockError::WouldBlock) => {
                Err(OpenError::Locked { directory: dir.to_owned(), holder: holder_in(file) })
            }
            Err(TryLockError::Error(error)) => Err(OpenError::io("cannot lock", &path)(error)),
        }
    }
}

/// Who has the lock of a directory at this moment, as the lock file says; `None` where nobody has it. The file is neither
/// made nor changed. A gateway that starts in the microsecond in which this looks is refused, as by another gateway.
pub(super) fn holder(dir: &Path) -> io::Result<Option<String>> {
    let path = dir.join(LOCK);
    // Asked first: opening a named pipe would wait for a writer.
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(io::Error::other(format!("{} is not a regular file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = File::open(&path)?;
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| None),
        Err(TryLockError::WouldBlock) => Ok(Some(holder_in(file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What the lock file says about its holder; whatever keeps it from being read is no reason for another error.
fn holder_in(file: File) -> String {
    const LONGEST_BYTES: u64 = 200;
    // Those who share it leave no text, and what is there is of the gateway before.
    if file.try_lock_shared().is_ok() {
        return "one that reads it, `streamgate verify`".to_owned();
    }
    let mut text = String::new();
    match file.take(LONGEST_BYTES).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) => "one that is just starting".to_owned(),
        Err(error) => format!("the lock file cannot be read ({error})"),
    }
}
