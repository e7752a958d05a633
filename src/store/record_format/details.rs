//! A record's details, or what is left of them, where they lie.

use crate::domain::record::RecordDetails;
use crate::store::Details;

/// A record's details, or what is left of them, where they lie.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Body<'a> {
    /// All of them.
    Kept(&'a [u8]),
    /// Their SHA-256.
    Trimmed([u8; 32]),
}

impl Body<'_> {
    /// A copy to keep.
    pub(in crate::store) fn to_owned(self) -> Details {
        match self {
            Self::Kept(details) => Details::Kept(RecordDetails::stored(details.to_vec())),
            Self::Trimmed(sha256) => Details::Trimmed { sha256 },
        }
    }
}
