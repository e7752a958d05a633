//! What can go wrong with the index of duplicate keys, and what it means for the store.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::store::sqlite::error::{Meaning, OpenError};

/// The index cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(in crate::store::sqlite) enum KeysError {
    /// The file system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// What is there is not what was written, or not for this store.
    #[error("{} {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl KeysError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    /// What it means for the store. Whatever is not known to be harmless is taken for the worst.
    pub(in crate::store::sqlite) fn meaning(&self) -> Meaning {
        match self {
            Self::Io { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOSPC | Errno::DQUOT) => Meaning::Full,
                // Too little memory, too many open files: nothing was touched.
                Some(Errno::NOMEM | Errno::MFILE | Errno::NFILE) => Meaning::Passing,
                Some(_) | None => Meaning::Broken,
            },
            Self::Damaged { .. } => Meaning::Broken,
        }
    }
}

impl From<KeysError> for OpenError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Io { what, path, source } => Self::Io { what, path, source },
            KeysError::Damaged { path, what } => Self::Inconsistent { file: path, detail: what },
        }
    }
}
