//! Where the stored part of the configuration is kept, as far as what is effective depends on it.
//!
//! The store is another room's; what is effective asks for no more than this of it.

use super::fault::Faults;
use super::stored::Stored;

/// Keeps what is stored, and the generations.
pub trait Keeper: Send + Sync {
    /// What is stored by now.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    fn load(&self) -> Result<Stored, String>;

    /// Takes a generation for a change of the files. Answers which one is stored then: the other one still where it could not
    /// be noted and nobody else goes by it.
    ///
    /// # Errors
    /// [`NotTaken`]: the change is not effective then.
    fn take(&self, from: u64, to: u64) -> Result<u64, NotTaken>;
}

/// Why a generation was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// Another gateway has changed what is stored.
    Overtaken,
    /// The store did not answer as it should, as this sentence says.
    Failed(String),
}

/// Why what is stored is not what is effective.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotFollowed {
    /// It cannot be read at the moment.
    #[error("what is configured through the administration cannot be read: {0}")]
    Unreadable(String),
    /// It does not go with the files of this gateway.
    #[error("what is configured through the administration does not go with the files of this gateway: {}", first(.0))]
    Faults(Faults),
    /// Other gateways change it faster than this one can look.
    #[error("other gateways change the configuration all the time")]
    Overtaken,
}

/// Whether what is stored is what is effective.
#[derive(Debug, Clone, Default)]
pub struct FollowStatus {
    /// Why not; the last good configuration stays then.
    pub fault: Option<NotFollowed>,
}

/// The first fault, and how many there are besides.
fn first(faults: &Faults) -> String {
    let rest = faults.iter().skip(1).count();
    let first = faults.iter().next().map(ToString::to_string).unwrap_or_default();
    if rest == 0 { first } else { format!("{first} (and {rest} more)") }
}
