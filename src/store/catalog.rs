//! The port to what is configured through the administration: organizations and API keys, and the trail of who changed
//! what.
//!
//! It is small and rarely written, and never on a record's way: every method blocks on the disk, and async callers use
//! a thread that may. A change is durable when [`CatalogStore::commit`] returns, all of it or nothing.
//!
//! Several gateways may write. Each change says which generation it was made of, and is refused
//! ([`StoreError::Changed`]) where that is not the stored one any more: whoever made it looks at what is stored by now
//! and makes it again. So no change is lost, and a generation means the same stored state to every gateway.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;
use super::gateways::Gateways;
use crate::config::stored::{Document, Stored, StoredApiKey};
use crate::domain::ids::OrganizationId;
use crate::domain::time::Timestamp;

/// The store of what is configured through the administration.
pub trait CatalogStore: Send + Sync + 'static {
    /// Everything that is configured.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names what is not as it was written.
    fn load(&self) -> Result<Stored, StoreError>;

    /// The stored generation: as cheap as a question can be, for whoever asks every second.
    ///
    /// # Errors
    /// When it cannot be read.
    fn generation(&self) -> Result<u64, StoreError>;

    /// Makes a change durable, together with its entry in the trail.
    ///
    /// # Errors
    /// Nothing has changed then. [`StoreError::Changed`] when the stored generation is not the one that the change was
    /// made of. [`StoreError::Broken`] after a failed write: only a restart may try again. [`StoreError::Engine`] of an
    /// engine across a network may come of an answer that was lost; what is stored then, [`CatalogStore::load`] says.
    fn commit(&self, change: &CatalogChange) -> Result<(), StoreError>;

    /// Takes the next generation for a change of the files.
    ///
    /// # Errors
    /// As [`CatalogStore::commit`].
    fn advance(&self, advance: Advance) -> Result<(), StoreError>;

    /// The gateways that share the catalog; `None` where there is one gateway only, as its engine makes sure.
    fn gateways(&self) -> Option<&dyn Gateways> {
        None
    }

    /// Entries of the trail, newest first, a page at a time.
    ///
    /// # Errors
    /// When it cannot be read.
    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError>;

    /// Forgets entries of the trail that are older, at most so many at once. Answers how many.
    ///
    /// # Errors
    /// As [`CatalogStore::commit`].
    fn forget_audit(&self, older_than: Timestamp, at_most: usize) -> Result<usize, StoreError>;
}

/// From one generation to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The stored one that was looked at.
    pub from: u64,
    /// The one that becomes effective; it is greater.
    pub to: u64,
}

/// One change: what is other than before, and what the trail says of it.
#[derive(Debug)]
pub struct CatalogChange {
    /// The generation that it was made of, and the one that it makes effective; `None` for what only goes into the trail.
    pub advance: Option<Advance>,
    /// Organizations; `None` means gone.
    pub organizations: Vec<(OrganizationId, Option<Arc<Document>>)>,
    /// API keys by name; `None` means gone.
    pub api_keys: Vec<(Arc<str>, Option<StoredApiKey>)>,
    /// The trail's entry.
    pub audit: AuditEntry,
}

/// Something that somebody did.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: the name of the credential.
    pub credential: Arc<str>,
    /// To whose configuration; `None` where it concerns no single organization.
    pub organization: Option<OrganizationId>,
    /// What kind of thing.
    pub action: Action,
    /// To what, as its path in the administration.
    pub resource: String,
    /// The configuration that it made effective.
    pub generation: u64,
    /// From what to what.
    pub differences: Vec<Difference>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Something new.
    Create,
    /// Other values.
    Change,
    /// It is gone.
    Delete,
    /// It takes part.
    Activate,
    /// It stays and takes no part.
    Deactivate,
    /// Another place in its list.
    Move,
    /// As a whole by another.
    Replace,
    /// A key that counts no more.
    Revoke,
    /// Dead letters, or records that were delivered, that are pending again.
    Requeue,
    /// Dead letters that were given up for good.
    Discard,
}

/// One value that is other than before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Where: members and identities, joined by slashes.
    pub path: String,
    /// What was there; absent when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is there; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// Which entries of the trail to show.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only those of these organizations; `None` means all, and those that concern no single one.
    pub organizations: Option<Vec<OrganizationId>>,
    /// Only those whose resource has this in its path.
    pub resource: Option<String>,
    /// Only those before this one, as an earlier page's `next` said.
    pub before: Option<i64>,
    /// The most to show.
    pub limit: usize,
}

/// One page of the trail.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditPage {
    /// The entries with their numbers, newest first.
    pub entries: Vec<(i64, AuditEntry)>,
    /// Where the next page starts, if there may be one.
    pub next: Option<i64>,
}
