//! Catalog + event → admitted, or a refusal that says why (contract §1 and §2).
//!
//! The checks run in the order of [`RefusalCode::ALL`]. [`admit`] stops at the first that fails; [`examine`] runs all
//! that can run and keeps every verdict, for the explain operation.

use strsim::damerau_levenshtein;

use super::access::Caller;
use super::catalog::{Catalog, EntityConfiguration, Organization, StreamSource, WorkStream};
use super::record::{Malformed, RecordCreated, RecordDetails};
use super::refusal::{Refusal, RefusalCode};
use super::routing::{Route, RoutingTables, decide};
use super::rules::Subject;

/// Proof that a record passed every check of one catalog generation. Only [`admit`] makes one, and a store takes
/// nothing else.
#[derive(Debug, Clone)]
pub struct Admitted {
    event: RecordCreated,
    details: RecordDetails,
    route: Route,
    catalog_generation: u64,
}

impl Admitted {
    /// What the flow said.
    pub const fn event(&self) -> &RecordCreated {
        &self.event
    }

    /// The created row.
    pub const fn details(&self) -> &RecordDetails {
        &self.details
    }

    /// Where it goes.
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// The configuration that admitted it.
    pub const fn catalog_generation(&self) -> u64 {
        self.catalog_generation
    }
}

/// What passing every check leads to.
#[derive(Debug, Clone)]
pub enum Admission {
    /// A record to be stored.
    Record(Box<Admitted>),
    /// The test operation: `recordId` is the entity configuration's own ID. Nothing is stored or forwarded.
    Test {
        /// The configuration that the test passed under.
        catalog_generation: u64,
    },
}

/// Why an event is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The configuration does not have it: 404.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The record's details are missing or of another record: 400.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Runs the checks in order and stops at the first that fails.
///
/// # Errors
/// [`NotAdmitted::Refused`] for everything about configuration; [`NotAdmitted::Malformed`] for details that only the
/// test operation may go without.
pub fn admit(catalog: &Catalog, caller: &Caller, event: RecordCreated) -> Result<Admission, NotAdmitted> {
    let organization = check_organization(catalog, caller, &event)?;
    let work_stream = check_work_stream(organization, &event)?;
    check_work_stream_active(work_stream)?;
    check_takes_records(work_stream)?;
    let entity = check_entity(work_stream, &event)?;
    check_entity_active(work_stream, entity)?;
    check_entity_set(entity, &event)?;
    check_relationship(entity, &event)?;
    let catalog_generation = catalog.generation();
    if event.record_id.guid() == entity.id.guid() {
        return Ok(Admission::Test { catalog_generation });
    }
    let details = event.details_of_record()?.clone();
    let route = decide(&RoutingTables::of(organization, work_stream, entity), &Subject::of(&event, &details));
    Ok(Admission::Record(Box::new(Admitted { event, details, route, catalog_generation })))
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed, and this is why.
    Failed(Refusal),
    /// It could not run, since what it looks at was not found.
    NotReached,
}

/// Every check's verdict, in order.
pub fn examine(catalog: &Catalog, caller: &Caller, event: &RecordCreated) -> Vec<(RefusalCode, Verdict)> {
    let organization = check_organization(catalog, caller, event);
    let work_stream = organization.as_ref().ok().map(|organization| check_work_stream(organization, event));
    let found_stream = work_stream.as_ref().and_then(|found| found.as_ref().ok().copied());
    let entity = found_stream.map(|work_stream| check_entity(work_stream, event));
    let found_entity = entity.as_ref().and_then(|found| found.as_ref().ok().copied());
    let both = found_stream.zip(found_entity);
    let verdicts = [
        verdict(Some(organization)),
        verdict(work_stream),
        verdict(found_stream.map(check_work_stream_active)),
        verdict(found_stream.map(check_takes_records)),
        verdict(entity),
        verdict(both.map(|(work_stream, entity)| check_entity_active(work_stream, entity))),
        verdict(found_entity.map(|entity| check_entity_set(entity, event))),
        verdict(found_entity.map(|entity| check_relationship(entity, event))),
    ];
    RefusalCode::ALL.into_iter().zip(verdicts).collect()
}

fn verdict<T>(outcome: Option<Result<T, Refusal>>) -> Verdict {
    match outcome {
        None => Verdict::NotReached,
        Some(Ok(_)) => Verdict::Passed,
        Some(Err(refusal)) => Verdict::Failed(refusal),
    }
}

fn check_organization<'a>(
    catalog: &'a Catalog,
    caller: &Caller,
    event: &RecordCreated,
) -> Result<&'a Organization, Refusal> {
    catalog.organization_for(caller, &event.organization).ok_or_else(|| {
        let visible = catalog.organizations_for(caller);
        let ids = visible.iter().map(|organization| organization.id.to_string());
        Refusal::organization_unknown(event.organization, nearest(&event.organization.to_string(), ids))
    })
}

fn check_work_stream<'a>(organization: &'a Organization, event: &RecordCreated) -> Result<&'a WorkStream, Refusal> {
    organization.work_streams.get(&event.work_stream).ok_or_else(|| Refusal {
        code: RefusalCode::WorkStreamUnknown,
        detail: format!("Organization `{}` has no work stream {}.", organization.unique_name, event.work_stream),
        expected: nearest(&event.work_stream.to_string(), organization.work_streams.keys().map(ToString::to_string)),
        action:
            "Check the work stream ID (the `id` that `GET /api/v1/work-streams` lists), or configure the work stream."
                .to_owned(),
    })
}

fn check_work_stream_active(work_stream: &WorkStream) -> Result<(), Refusal> {
    if work_stream.state.is_active() {
        return Ok(());
    }
    Err(Refusal {
        code: RefusalCode::WorkStreamInactive,
        detail: format!("Work stream {} (`{}`) is inactive.", work_stream.id, work_stream.name),
        expected: None,
        action: format!("Activate work stream {}: set its `state` to \"active\".", work_stream.id),
    })
}

fn check_takes_records(work_stream: &WorkStream) -> Result<(), Refusal> {
    match work_stream.stream_source {
        StreamSource::EntityRecords => Ok(()),
        StreamSource::LiveChat => Err(Refusal {
            code: RefusalCode::WorkStreamNotForRecords,
            detail: format!(
                "Work stream {} (`{}`) is for live chat; no records enter.",
                work_stream.id, work_stream.name
            ),
            expected: None,
            action: "Use a work stream whose `stream_source` is \"entity-records\".".to_owned(),
        }),
    }
}

fn check_entity<'a>(work_stream: &'a WorkStream, event: &RecordCreated) -> Result<&'a EntityConfiguration, Refusal> {
    work_stream.entities.get(&event.entity_logical_name).ok_or_else(|| Refusal {
        code: RefusalCode::EntityNotConfigured,
        detail: format!(
            "Work stream {} (`{}`) has no entity configuration for `{}`.",
            work_stream.id, work_stream.name, event.entity_logical_name
        ),
        expected: nearest(event.entity_logical_name.as_str(), work_stream.entities.keys().map(ToString::to_string)),
        action: format!(
            "Add an entity configuration for `{}` to the work stream, or correct the name.",
            event.entity_logical_name
        ),
    })
}

fn check_entity_active(work_stream: &WorkStream, entity: &EntityConfiguration) -> Result<(), Refusal> {
    if entity.state.is_active() {
        return Ok(());
    }
    Err(Refusal {
        code: RefusalCode::EntityConfigurationInactive,
        detail: format!(
            "The entity configuration {} for `{}` in work stream `{}` is inactive.",
            entity.id, entity.entity_logical_name, work_stream.name
        ),
        expected: None,
        action: format!("Activate entity configuration {}: set its `state` to \"active\".", entity.id),
    })
}

fn check_entity_set(entity: &EntityConfiguration, event: &RecordCreated) -> Result<(), Refusal> {
    if entity.entity_set_name == event.entity_set_name {
        return Ok(());
    }
    Err(Refusal {
        code: RefusalCode::EntitySetMismatch,
        detail: format!(
            "The entity set name of `{}` is configured as `{}`, not `{}`.",
            entity.entity_logical_name, entity.entity_set_name, event.entity_set_name
        ),
        expected: Some(entity.entity_set_name.to_string()),
        action: format!(
            "Send `{}` as entitySetName, or correct the entity configuration {}.",
            entity.entity_set_name, entity.id
        ),
    })
}

fn check_relationship(entity: &EntityConfiguration, event: &RecordCreated) -> Result<(), Refusal> {
    if entity.relationship_name == event.relationship_name {
        return Ok(());
    }
    Err(Refusal {
        code: RefusalCode::RelationshipMismatch,
        detail: format!(
            "The relationship of `{}` is configured as `{}`, not `{}`.",
            entity.entity_logical_name, entity.relationship_name, event.relationship_name
        ),
        expected: Some(entity.relationship_name.to_string()),
        action: format!(
            "Send `{}` as relationshipName, or correct the entity configuration {}.",
            entity.relationship_name, entity.id
        ),
    })
}

/// The configured value that the caller most likely meant: within a third of its length in edits. Only so many are
/// looked at: a refusal must not cost more the more is configured.
fn nearest(given: &str, configured: impl Iterator<Item = String>) -> Option<String> {
    const LOOKED_AT: usize = 256;
    let tolerated_edits = (given.len() / 3).max(1);
    configured
        .take(LOOKED_AT)
        .map(|candidate| (damerau_levenshtein(given, &candidate), candidate))
        .filter(|(edits, _)| *edits <= tolerated_edits)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests;
