//! The way back: an organization as a document, in the form that [`super::stored::check_document`] reads.
//!
//! Everything is said, also where it is the default. Work streams and entity configurations come by name, so that two
//! views of the same organization are equal; rules, variables and queues keep their order.

use serde_json::{Map, Value, json};

use super::stored::Document;
use crate::domain::catalog::{ContextVariable, EntityConfiguration, Organization, Queue, WorkStream};
use crate::domain::ids::WorkStreamId;
use crate::domain::rules::Mapping;

/// The whole organization.
pub fn document(organization: &Organization) -> Document {
    part(organization, None)
}

/// The organization with one of its work streams only, where one is named: what a look at a part of it needs.
pub fn part(organization: &Organization, only: Option<&WorkStreamId>) -> Document {
    let default = organization.queues.default_queue();
    let queues = organization.queues.iter().map(|queue| view_of_queue(queue, queue.name == default.name));
    let work_streams = match only {
        Some(id) => organization.work_streams.get(id).into_iter().collect(),
        None => organization.work_streams_by_name(),
    };
    let work_streams = work_streams.into_iter().map(work_stream);
    object(json!({
        "organization": self::organization(organization),
        "queues": queues.collect::<Vec<_>>(),
        "workStreams": work_streams.collect::<Vec<_>>(),
    }))
}

/// The organization alone.
pub fn organization(organization: &Organization) -> Value {
    json!({
        "id": organization.id,
        "uniqueName": organization.unique_name,
        "name": organization.name,
        "routingQueue": organization.routing_queue.as_str(),
        "requestsPerMinute": organization.rate_limit.requests_per_minute,
        "burst": organization.rate_limit.burst,
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

fn view_of_queue(queue: &Queue, is_default: bool) -> Value {
    json!({ "name": queue.name, "priority": queue.priority, "default": is_default })
}

/// A work stream with everything that belongs to it.
pub fn work_stream(work_stream: &WorkStream) -> Value {
    let variables = work_stream.context_variables.iter().map(context_variable);
    let entities = work_stream.entities_by_name().into_iter().map(entity_configuration);
    let mut view = object(json!({
        "id": work_stream.id,
        "name": work_stream.name,
        "streamSource": work_stream.stream_source,
        "state": work_stream.state,
        "capacity": work_stream.capacity,
        "distributionMode": work_stream.distribution_mode,
        "allowedPresences": work_stream.allowed_presences,
        "autoCloseAfterInactivityMinutes": work_stream.auto_close_after_inactivity_minutes,
        "contextVariables": variables.collect::<Vec<_>>(),
        "rules": work_stream.rules,
        "entities": entities.collect::<Vec<_>>(),
    }));
    let optional = [
        ("notification", work_stream.notification.map(|notification| json!(notification))),
        ("screenPopTimeoutSeconds", work_stream.screen_pop_timeout_seconds.map(Value::from)),
        ("assignAfterDeclineMinutes", work_stream.assign_after_decline_minutes.map(Value::from)),
        ("routingQueue", work_stream.routing_queue.as_ref().map(|name| Value::from(name.as_str()))),
    ];
    for (member, value) in optional {
        view.extend(value.map(|value| (member.to_owned(), value)));
    }
    Value::Object(view)
}

fn context_variable(variable: &ContextVariable) -> Value {
    let mut view = object(json!({
        "name": variable.name,
        "displayName": variable.display_name,
        "kind": variable.kind,
        "state": variable.state,
    }));
    let mapping = variable.mapping.as_ref().map(|mapping| match mapping {
        Mapping::Column(path) => ("column".to_owned(), Value::from(path.as_str())),
        Mapping::Label(path) => ("label".to_owned(), Value::from(path.as_str())),
    });
    view.extend(mapping);
    Value::Object(view)
}

fn entity_configuration(entity: &EntityConfiguration) -> Value {
    json!({
        "id": entity.id,
        "entityLogicalName": entity.entity_logical_name,
        "entitySetName": entity.entity_set_name,
        "relationshipName": entity.relationship_name,
        "rules": entity.rules,
        "state": entity.state,
    })
}
