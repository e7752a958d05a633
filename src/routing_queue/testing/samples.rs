//! Sample records and configuration. Numbers name them: organization 1, record 1.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::config::settings::{
    BatchSettings, DeliverySettings, Effective, HttpSettings, RoutingQueueKind, RoutingQueueSettings,
    SubscriptionSettings, WebhookSecret,
};
use crate::domain::catalog::{
    Catalog, DistributionMode, Organization, Queue, Queues, RateLimit, RoutingQueueName, State, StreamSource,
    WorkStream,
};
use crate::domain::ids::{Guid, LogicalName, OrganizationId, QueueName, ReceiptId, WorkStreamId};
use crate::domain::record::RecordDetails;
use crate::domain::routing::Route;
use crate::domain::rules::RuleSet;
use crate::domain::time::Timestamp;
use crate::store::{Lane, StoredRecord, TraceContext};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const ACCEPTED_AT: Timestamp = Timestamp::from_millis(1_549_964_467_000);

fn guid(number: u16) -> Guid {
    Guid::parse(&format!("00000000-0000-0000-0000-{number:012x}")).unwrap()
}

pub(crate) fn organization_id(number: u16) -> OrganizationId {
    guid(0xa00 + number).into()
}

pub(crate) fn work_stream_id() -> WorkStreamId {
    guid(0xb01).into()
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

pub(crate) fn receipt(number: u16) -> ReceiptId {
    let mut bytes = [0; 24];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ReceiptId::from_bytes(bytes)
}

pub(crate) fn work_stream() -> WorkStream {
    WorkStream {
        id: work_stream_id(),
        name: "Cases".into(),
        capacity: 30,
        stream_source: StreamSource::EntityRecords,
        auto_close_after_inactivity_minutes: 1_440,
        distribution_mode: DistributionMode::Push,
        notification: None,
        screen_pop_timeout_seconds: None,
        assign_after_decline_minutes: None,
        allowed_presences: StreamSource::EntityRecords.default_presences(),
        context_variables: Vec::new(),
        rules: RuleSet::default(),
        state: State::Active,
        routing_queue: None,
        entities: HashMap::new(),
    }
}

/// An organization with one work stream, the default queue `default`, and the routing queue of this name.
pub(crate) fn organization(number: u16, routing_queue: &str) -> Organization {
    let one = NonZeroU32::MIN;
    Organization {
        id: organization_id(number),
        unique_name: format!("organization-{number}").into(),
        name: format!("Organization {number}").into(),
        rate_limit: RateLimit { requests_per_minute: one, burst: one },
        routing_queue: RoutingQueueName::new(routing_queue),
        queues: Queues::new(
            Queue { name: queue("default"), priority: 1 },
            vec![Queue { name: queue("later"), priority: 2 }],
        ),
        work_streams: HashMap::from([(work_stream_id(), work_stream())]),
    }
}

/// Record `number` of organization 1.
pub(crate) fn record(number: u16) -> StoredRecord {
    StoredRecord {
        receipt: receipt(number),
        organization: organization_id(1),
        work_stream: work_stream_id(),
        entity_logical_name: LogicalName::parse("incident").unwrap(),
        entity_set_name: LogicalName::parse("incidents").unwrap(),
        record_id: guid(number).into(),
        relationship_name: LogicalName::parse("incident_msdyn_ocliveworkitems").unwrap(),
        details: RecordDetails::stored(format!("{{\"n\": {number}}}")),
        route: Route { queue: queue("default"), priority: 1, rule: None, trace: None },
        catalog_generation: 1,
        accepted_at: ACCEPTED_AT,
        trace: TraceContext::default(),
    }
}

/// Record `number` of this organization, routed to this queue.
pub(crate) fn record_of(number: u16, organization: u16, queue_name: &str) -> StoredRecord {
    let route = Route { queue: queue(queue_name), priority: 1, rule: None, trace: None };
    StoredRecord { organization: organization_id(organization), route, ..record(number) }
}

pub(crate) fn lane_of(record: &StoredRecord) -> Lane {
    Lane { organization: record.organization, work_stream: record.work_stream, queue: record.route.queue.clone() }
}

/// A destination on loopback with short times.
pub(crate) fn http_settings(url: &str) -> RoutingQueueSettings {
    RoutingQueueSettings {
        kind: RoutingQueueKind::Http(HttpSettings {
            url: url.parse::<Url>().unwrap(),
            secrets: vec![WebhookSecret::parse(SECRET).unwrap()],
            allow_networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        }),
        concurrency: NonZeroUsize::new(4).unwrap(),
        batch: BatchSettings::SINGLE,
        timeout: Duration::from_millis(400),
    }
}

pub(crate) fn delivery_settings() -> DeliverySettings {
    DeliverySettings {
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(60),
        max_attempts: 3,
        give_up_after: Duration::from_secs(24 * 60 * 60),
        breaker_failures: 100,
        breaker_pause: Duration::from_secs(30),
    }
}

/// Callbacks on this machine, four at a time.
pub(crate) fn subscription_settings() -> SubscriptionSettings {
    let four = NonZeroUsize::new(4).unwrap();
    SubscriptionSettings {
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        max_per_organization: four,
        concurrency: four,
        timeout: Duration::from_secs(5),
    }
}

/// These organizations and these destinations.
pub(crate) fn effective(
    organizations: Vec<Organization>,
    destinations: Vec<(&str, RoutingQueueSettings)>,
) -> Effective {
    let named = destinations.into_iter().map(|(name, settings)| (RoutingQueueName::new(name), settings));
    Effective {
        catalog: Arc::new(Catalog::new(1, organizations)),
        credentials: Arc::default(),
        routing_queues: Arc::new(named.collect()),
        delivery: delivery_settings(),
        subscriptions: subscription_settings(),
        identities: crate::config::identity::Identities::default(),
        layers: crate::config::stored::Layers::default(),
    }
}
