//! Test data for every room: a small catalog, and records that it admits.
//!
//! Everything is made from small numbers, so that a test says `admitted(7)` and gets the same record every time. The
//! only way to an [`Admitted`] is through [`admit`], here as everywhere.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::access::{Caller, OrganizationScope, Permission};
use super::admission::{Admission, Admitted, admit};
use super::catalog::{
    Catalog, DistributionMode, EntityConfiguration, Organization, Queue, Queues, RateLimit, RoutingQueueName, State,
    StreamSource, WorkStream,
};
use super::ids::{EntityConfigurationId, Guid, LogicalName, OrganizationId, QueueName, RecordId, WorkStreamId};
use super::record::RecordCreated;
use super::rules::RuleSet;

/// The generation of [`catalog`].
pub(crate) const GENERATION: u64 = 7;
/// How many organizations [`catalog`] has: 1 to this.
pub(crate) const ORGANIZATIONS: u32 = 2;
/// How many work streams each organization has: 1 to this.
pub(crate) const WORK_STREAMS: u32 = 2;

/// Two organizations with two work streams each, which take records of the entity `incident`.
pub(crate) fn catalog() -> Catalog {
    Catalog::new(GENERATION, (1..=ORGANIZATIONS).map(organization))
}

/// A caller who may do everything for every organization.
pub(crate) fn caller() -> Caller {
    Caller {
        credential: "test".into(),
        permissions: Permission::ALL.into_iter().collect(),
        organizations: OrganizationScope::All,
    }
}

/// Record `record` of organization 1, work stream 1.
pub(crate) fn admitted(record: u32) -> Box<Admitted> {
    admitted_in(1, 1, record)
}

/// Record `record` of an organization's work stream.
pub(crate) fn admitted_in(organization: u32, work_stream: u32, record: u32) -> Box<Admitted> {
    admitted_with(organization, work_stream, record, &details(record))
}

/// Record `record` of an organization's work stream, with these details.
pub(crate) fn admitted_with(organization: u32, work_stream: u32, record: u32, details: &str) -> Box<Admitted> {
    let event = RecordCreated::parse(&body(organization, work_stream, record, details)).unwrap();
    match admit(&catalog(), &caller(), event).unwrap() {
        Admission::Record(admitted) => admitted,
        Admission::Test { .. } => panic!("record {record} is the test operation"),
    }
}

/// The body that a flow posts for a record.
pub(crate) fn body(organization: u32, work_stream: u32, record: u32, details: &str) -> Vec<u8> {
    format!(
        r#"{{"organizationId":"{}","workStreamId":"{}","entityLogicalName":"incident","entitySetName":"incidents","recordId":"{}","recordDetails":{details}}}"#,
        organization_id(organization),
        work_stream_id(organization, work_stream),
        record_id(record),
    )
    .into_bytes()
}

/// The details of record `record` where a test gives none.
pub(crate) fn details(record: u32) -> String {
    format!(r#"{{"incidentid":"{}","title":"Case {record}","versionnumber":98.60000000000001}}"#, record_id(record))
}

/// The ID of an organization.
pub(crate) fn organization_id(organization: u32) -> OrganizationId {
    numbered(0xa, organization, 0).into()
}

/// The ID of an organization's work stream.
pub(crate) fn work_stream_id(organization: u32, work_stream: u32) -> WorkStreamId {
    numbered(0xb, organization, work_stream).into()
}

/// The ID of a work stream's entity configuration for `incident`.
pub(crate) fn entity_configuration_id(organization: u32, work_stream: u32) -> EntityConfigurationId {
    numbered(0xc, organization, work_stream).into()
}

/// The ID of a record.
pub(crate) fn record_id(record: u32) -> RecordId {
    numbered(0xd, 0, record).into()
}

fn numbered(kind: u8, upper: u32, lower: u32) -> Guid {
    Guid::from_bytes(((u128::from(kind) << 120) | (u128::from(upper) << 32) | u128::from(lower)).to_be_bytes())
}

fn organization(number: u32) -> Organization {
    let plenty = NonZeroU32::MAX;
    let queue = Queue { name: QueueName::parse("Default").unwrap(), priority: 1 };
    Organization {
        id: organization_id(number),
        unique_name: format!("organization-{number}").into(),
        name: format!("Organization {number}").into(),
        rate_limit: RateLimit { requests_per_minute: plenty, burst: plenty },
        routing_queue: RoutingQueueName::pull(),
        queues: Queues::new(queue, Vec::new()),
        work_streams: (1..=WORK_STREAMS)
            .map(|stream| (work_stream_id(number, stream), work_stream(number, stream)))
            .collect(),
    }
}

fn work_stream(organization: u32, number: u32) -> WorkStream {
    let source = StreamSource::EntityRecords;
    let logical_name = LogicalName::parse("incident").unwrap();
    let entity = EntityConfiguration {
        id: entity_configuration_id(organization, number),
        entity_logical_name: logical_name.clone(),
        entity_set_name: LogicalName::parse("incidents").unwrap(),
        relationship_name: logical_name.default_relationship(),
        state: State::Active,
        rules: RuleSet::default(),
    };
    WorkStream {
        id: work_stream_id(organization, number),
        name: format!("Cases {number}").into(),
        capacity: 30,
        stream_source: source,
        auto_close_after_inactivity_minutes: source.default_auto_close_minutes(),
        distribution_mode: DistributionMode::Push,
        notification: None,
        screen_pop_timeout_seconds: None,
        assign_after_decline_minutes: None,
        allowed_presences: source.default_presences(),
        context_variables: Vec::new(),
        rules: RuleSet::default(),
        state: State::Active,
        routing_queue: None,
        entities: HashMap::from([(logical_name, entity)]),
    }
}
