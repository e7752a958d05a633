//! Why a well-formed record is not routed: the 404 of contract §2.
//!
//! Every refusal is about configuration, says what was expected, and says what to do. A code is a product: stable, with
//! a section of its own in `docs/errors.md`.

use std::fmt;

use super::ids::OrganizationId;

/// The codes of the 404, in the order in which the checks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// No such organization, or not one of the caller's.
    OrganizationUnknown,
    /// The organization has no such work stream.
    WorkStreamUnknown,
    /// The work stream is switched off.
    WorkStreamInactive,
    /// The work stream takes chats, not records.
    WorkStreamNotForRecords,
    /// The work stream has no configuration for this entity.
    EntityNotConfigured,
    /// The entity configuration is switched off.
    EntityConfigurationInactive,
    /// The entity set name is not the configured one.
    EntitySetMismatch,
    /// The relationship name is not the configured one.
    RelationshipMismatch,
}

impl RefusalCode {
    /// Every code, in the order in which the checks run.
    pub const ALL: [Self; 8] = [
        Self::OrganizationUnknown,
        Self::WorkStreamUnknown,
        Self::WorkStreamInactive,
        Self::WorkStreamNotForRecords,
        Self::EntityNotConfigured,
        Self::EntityConfigurationInactive,
        Self::EntitySetMismatch,
        Self::RelationshipMismatch,
    ];

    /// The stable text of the code.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrganizationUnknown => "organization-unknown",
            Self::WorkStreamUnknown => "work-stream-unknown",
            Self::WorkStreamInactive => "work-stream-inactive",
            Self::WorkStreamNotForRecords => "work-stream-not-for-records",
            Self::EntityNotConfigured => "entity-not-configured",
            Self::EntityConfigurationInactive => "entity-configuration-inactive",
            Self::EntitySetMismatch => "entity-set-mismatch",
            Self::RelationshipMismatch => "relationship-mismatch",
        }
    }

    /// One line for people, the same for every refusal of this code.
    pub const fn title(self) -> &'static str {
        match self {
            Self::OrganizationUnknown => "The organization is not known",
            Self::WorkStreamUnknown => "The work stream is not known",
            Self::WorkStreamInactive => "The work stream is inactive",
            Self::WorkStreamNotForRecords => "The work stream does not take records",
            Self::EntityNotConfigured => "The entity is not configured for this work stream",
            Self::EntityConfigurationInactive => "The entity configuration is inactive",
            Self::EntitySetMismatch => "The entity set name is not the configured one",
            Self::RelationshipMismatch => "The relationship name is not the configured one",
        }
    }

    /// The property that the check looks at.
    pub const fn field(self) -> &'static str {
        match self {
            Self::OrganizationUnknown => "organizationId",
            Self::WorkStreamUnknown | Self::WorkStreamInactive | Self::WorkStreamNotForRecords => "workStreamId",
            Self::EntityNotConfigured | Self::EntityConfigurationInactive => "entityLogicalName",
            Self::EntitySetMismatch => "entitySetName",
            Self::RelationshipMismatch => "relationshipName",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One refusal, ready to be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// Which check failed.
    pub code: RefusalCode,
    /// What it found, with the values involved.
    pub detail: String,
    /// The value that would have passed, where there is one (or the nearest configured one).
    pub expected: Option<String>,
    /// What to do about it.
    pub action: String,
}

impl Refusal {
    /// No such organization, or not one of the caller's: the two must read the same wherever they are told. `nearest` is
    /// one that the caller may know of.
    pub fn organization_unknown(organization: OrganizationId, nearest: Option<String>) -> Self {
        Self {
            code: RefusalCode::OrganizationUnknown,
            detail: format!("Organization {organization} is not configured for this credential."),
            expected: nearest,
            action: "Check the Organization ID, or configure the organization and bind this credential to it."
                .to_owned(),
        }
    }
}
