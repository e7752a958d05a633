//! Why a call failed, as the port says it.
//!
//! A connection that breaks while a commit is under way leaves it open whether that took effect. The caller is told to
//! try again, which is safe: a repeat finds the first record by its key, and a settlement finds its lease gone.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use super::reach;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::record_format::Damage;

/// Why a transaction did not take effect, or may not have.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The database said no, or was not there.
    #[error("{}", said(.0))]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("no connection to the database: {}", said(.0))]
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
    /// The connection is one on which a commit promises nothing.
    #[error("the server has {0} = off on this connection, so a commit would not be kept")]
    NotKept(&'static str),
    /// It cannot be seen yet, or is not there.
    #[error("record {0} cannot be seen: a worker of the cluster has not heard yet how a commit was decided; ask again")]
    NotYet(i64),
    /// It is not the store that was opened: made anew, restored, or another one behind the same name.
    #[error("the database is not the one that was opened: it was made anew or restored; restart the gateway")]
    AnotherStore,
    /// The clocks differ.
    #[error("this machine's clock and the database's are more than {} s apart; nothing is done that goes by them", reach::CLOCKS_APART.as_secs())]
    ClockApart,
    /// A repeat whose first could not be seen when it was looked for.
    #[error("a record with the same key was stored at the same moment; try again")]
    Overtaken,
    /// Nobody answered in time.
    #[error("the database did not answer within {0:?}")]
    TooLong(Duration),
    /// The system has no random bits.
    #[error("no random bits: {0}")]
    Random(getrandom::Error),
}

/// All that an error says: what the server said stands behind the kind of the error.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut behind = error.source();
    while let Some(source) = behind {
        let more = source.to_string();
        if !said.ends_with(&more) {
            said.push_str(": ");
            said.push_str(&more);
        }
        behind = source.source();
    }
    said
}

impl Fault {
    /// Whether it was about this connection or this moment only, so that another try at once may well succeed: the server
    /// ended the connection, or had to choose whom to give up.
    pub(super) fn is_of_the_moment(&self) -> bool {
        if matches!(self, Self::Overtaken) {
            return true;
        }
        let Self::Database(error) = self else { return false };
        let ended = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            // A key was put down by a commit that could not be seen yet, on a cluster: now it can be.
            SqlState::UNIQUE_VIOLATION,
        ];
        error.is_closed()
            || error.source().is_some_and(|source| source.is::<std::io::Error>())
            || error.code().is_some_and(|code| ended.contains(code))
    }
}

impl Fault {
    /// Whether the server understood, and said no.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Database(error) if error.code().is_some()) && !self.is_of_the_moment()
    }

    /// Whether the server's disk is full.
    pub(super) fn is_of_no_room(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::DISK_FULL))
    }

    /// The same for each of those who waited for it.
    pub(super) fn for_each(&self) -> StoreError {
        if self.is_of_no_room() {
            StoreError::DatabaseFull(self.to_string())
        } else {
            StoreError::Engine(self.to_string().into())
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        if fault.is_of_no_room() {
            return Self::DatabaseFull(fault.to_string());
        }
        match fault {
            Fault::Damaged(damage) => damage.into(),
            Fault::Inconsistent(what) => Self::Damaged(what),
            Fault::Lost { at, why } => Self::Lost { at, why },
            fault @ (Fault::Database(_)
            | Fault::Pool(_)
            | Fault::NotKept(_)
            | Fault::AnotherStore
            | Fault::ClockApart
            | Fault::TooLong(_)
            | Fault::NotYet(_)
            | Fault::Overtaken
            | Fault::Random(_)) => Self::Engine(Box::new(fault)),
        }
    }
}
