//! Why a call failed, as the port says it.
//!
//! A connection that breaks while a commit is under way leaves it open whether that took effect. The caller is told to
//! try again, which is safe: a repeat finds the first record by its key, and a settlement finds its lease gone.

use deadpool_postgres::PoolError;

use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::record_format::Damage;

/// Why a transaction did not take effect, or may not have.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The database said no, or was not there.
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("no connection to the database: {0}")]
    Pool(#[from] PoolError),
    /// What is stored is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The record was lost before the store was copied here, and that was written down.
    #[error("the record was lost to damage ({why}), as was written down on {at}")]
    Lost {
        /// When that was written down.
        at: Timestamp,
        /// What had become of the record.
        why: String,
    },
    /// What is stored does not fit together.
    #[error("{0}")]
    Inconsistent(String),
    /// The system has no random bits.
    #[error("no random bits: {0}")]
    Random(getrandom::Error),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(damage) => damage.into(),
            Fault::Inconsistent(what) => Self::Damaged(what),
            Fault::Lost { at, why } => Self::Lost { at, why },
            fault @ (Fault::Database(_) | Fault::Pool(_) | Fault::Random(_)) => Self::Engine(Box::new(fault)),
        }
    }
}
