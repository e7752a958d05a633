//! Who asks, and what they may do: a caller is a credential bound to permissions and organizations (contract §5).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::ids::OrganizationId;

/// Something a credential may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Hand over records, explain them, list what can be handed over.
    RecordsWrite,
    /// Read receipts.
    RecordsRead,
    /// Lease, complete and release work items, let them wait and revive them.
    WorkHandle,
    /// Administer the gateway.
    Admin,
}

impl Permission {
    /// Every permission, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::RecordsWrite, Self::RecordsRead, Self::WorkHandle, Self::Admin];

    /// The name that configuration, keys and tokens use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecordsWrite => "records.write",
            Self::RecordsRead => "records.read",
            Self::WorkHandle => "work.handle",
            Self::Admin => "admin",
        }
    }

    /// The permission of this exact name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The organizations that a credential is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrganizationScope {
    /// Every configured one, now and later (written `"*"`).
    All,
    /// These and no other.
    Only(BTreeSet<OrganizationId>),
}

impl OrganizationScope {
    /// Whether this organization is in the scope.
    pub fn contains(&self, organization: &OrganizationId) -> bool {
        match self {
            Self::All => true,
            Self::Only(organizations) => organizations.contains(organization),
        }
    }
}

/// An authenticated caller. To anyone outside its scope, an organization does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the credential, for logs; never the credential itself.
    pub credential: Arc<str>,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// For whom.
    pub organizations: OrganizationScope,
}

impl Caller {
    /// Whether the caller may do this.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether everything that this scope reaches is the caller's.
    pub fn covers(&self, scope: &OrganizationScope) -> bool {
        match (&self.organizations, scope) {
            (OrganizationScope::All, _) => true,
            (OrganizationScope::Only(_), OrganizationScope::All) => false,
            (OrganizationScope::Only(own), OrganizationScope::Only(others)) => others.is_subset(own),
        }
    }

    /// Whether the caller may know of this organization.
    pub fn sees(&self, organization: &OrganizationId) -> bool {
        self.organizations.contains(organization)
    }
}
