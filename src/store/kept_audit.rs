//! An entry of the audit trail as every engine keeps it: what is looked for in columns of its own, the rest as a JSON text,
//! with a checksum over all of it.

use serde::{Deserialize, Serialize};

use super::catalog::{Action, AuditEntry, Difference};
use crate::domain::ids::OrganizationId;
use crate::domain::time::Timestamp;

/// What has no column of its own.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptEntry {
    credential: Box<str>,
    action: Action,
    generation: u64,
    differences: Vec<Difference>,
}

/// What the checksum of an entry covers besides its text.
pub(super) fn key(at: i64, organization: Option<&[u8]>, resource: &str) -> Vec<u8> {
    let mut key = at.to_le_bytes().to_vec();
    key.extend_from_slice(organization.unwrap_or_default());
    key.extend_from_slice(resource.as_bytes());
    key
}

impl KeptEntry {
    /// What is kept of this entry.
    pub(super) fn of(entry: &AuditEntry) -> Self {
        Self {
            credential: (*entry.credential).into(),
            action: entry.action,
            generation: entry.generation,
            differences: entry.differences.clone(),
        }
    }

    /// The entry, with what stands in columns.
    pub(super) fn into_entry(
        self,
        at: Timestamp,
        organization: Option<OrganizationId>,
        resource: String,
    ) -> AuditEntry {
        AuditEntry {
            at,
            credential: self.credential.into(),
            organization,
            action: self.action,
            resource,
            generation: self.generation,
            differences: self.differences,
        }
    }
}
