//! One organization's file: the organization, its queues, its work streams.

use std::collections::HashMap;

use super::work_stream::work_stream;
use super::{Organizations, Surroundings, process, unique, visible_text};
use crate::config::keys;
use crate::config::raw::Table;
use crate::config::settings::PublicHost;
use crate::domain::catalog::{Organization, Queue, Queues, RoutingQueueName};
use crate::domain::ids::{Guid, OrganizationId, QueueName, excerpt};

/// Longest label of a host name (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;

/// Checks an organization's file. `None` when it is not even clear which organization it is.
pub(super) fn organization<'a>(
    file: &Table<'a>,
    surroundings: &Surroundings,
    known: &mut Organizations<'a>,
) -> Option<Organization> {
    file.require("organization");
    let table = file.table("organization", keys::ORGANIZATION);
    let id = table.and_then(|table| id(&table, known));
    let unique_name = table.and_then(|table| unique_name(&table, surroundings.public_host.as_ref(), known));
    if let (Some(id), Some(name)) = (id, unique_name) {
        known.by_name.entry(name.to_ascii_lowercase()).or_insert((id, name));
    } else {
        // Whoever names this organization may be right.
        known.complete = false;
    }
    let queues = queues(file);
    let mut seen = HashMap::new();
    let mut work_streams = HashMap::new();
    for table in file.tables("work_streams", keys::WORK_STREAM) {
        if let Some(work_stream) = work_stream(&table, surroundings, queues.as_ref(), &mut seen) {
            work_streams.insert(work_stream.id, work_stream);
        }
    }
    let table = table?;
    let name = table.string("name").and_then(|field| visible_text("name", field, 160));
    let routing_queue = surroundings.routing_queue(&table).unwrap_or_else(RoutingQueueName::pull);
    let rate_limit = process::rate_limit(&table, surroundings.rate_limit);
    let unique_name = unique_name?;
    Some(Organization {
        id: id?,
        unique_name: unique_name.into(),
        name: name.unwrap_or_else(|| unique_name.into()),
        rate_limit,
        routing_queue,
        queues: queues?,
        work_streams,
    })
}

fn id<'a>(table: &Table<'a>, known: &mut Organizations<'a>) -> Option<OrganizationId> {
    let field = table.required_string("id")?;
    let id = OrganizationId::from(field.parsed("id", Guid::parse)?);
    unique("organization", id, field.at, &mut known.by_id, &id.to_string());
    Some(id)
}

/// The unique name: a host name's label, since it can name the organization in host names.
fn unique_name<'a>(
    table: &Table<'a>,
    public_host: Option<&PublicHost>,
    known: &mut Organizations<'a>,
) -> Option<&'a str> {
    let field = table.required_string("unique_name")?;
    let name = field.value;
    let in_names = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_label = !name.is_empty() && name.len() <= LONGEST_LABEL && name.chars().all(in_names);
    if !is_label || name.starts_with('-') || name.ends_with('-') {
        let message = format!("`unique_name`: `{}` is not a unique name", excerpt(name));
        field.at.hinted(message, "use 1 to 63 letters, digits and hyphens, with no hyphen at either end");
        return None;
    }
    if Guid::parse(name).is_ok() {
        field.at.fault("`unique_name` must not be a GUID: nobody could tell it from an ID");
        return None;
    }
    unique("organization", name.to_ascii_lowercase(), field.at, &mut known.name_places, name);
    let host = public_host.map(|pattern| pattern.host_of(name)).unwrap_or_default();
    if host.split('.').any(|label| label.len() > LONGEST_LABEL) {
        let hint = format!("a host name has at most {LONGEST_LABEL} characters between its dots");
        field.at.hinted(format!("`unique_name` makes the host name {} impossible", excerpt(&host)), hint);
    }
    Some(name)
}

/// The queues, of which exactly one is the default; without any there is one. `None` after a fault.
fn queues(file: &Table<'_>) -> Option<Queues> {
    let tables = file.tables("queues", keys::QUEUE);
    if tables.is_empty() {
        let default = Queue { name: QueueName::parse("Default queue").ok()?, priority: 1 };
        return Some(Queues::new(default, Vec::new()));
    }
    let mut seen = HashMap::new();
    let mut defaults = Vec::new();
    let mut others = Vec::new();
    // Whether a faulty `default` may have been meant to be true.
    let mut unclear = false;
    for table in &tables {
        let priority = table.integer("priority", 1..=1_000_000).unwrap_or(1);
        let default = table.boolean("default");
        unclear |= default.is_none() && table.has("default");
        let is_default = default.unwrap_or(false);
        let name = table.required_string("name").and_then(|field| {
            let name = field.parsed("name", QueueName::parse)?;
            unique("queue", name.clone(), field.at, &mut seen, &excerpt(field.value));
            Some(name)
        });
        if is_default && !defaults.is_empty() {
            table.place_of("default").fault("a second default queue; exactly one queue can be the default");
        }
        let queue = name.map(|name| Queue { name, priority });
        if is_default { defaults.push(queue) } else { others.extend(queue) }
    }
    if defaults.is_empty() && !unclear {
        let said_no = tables.iter().find(|table| table.has("default")).map(|table| table.place_of("default"));
        if let Some(at) = said_no.or_else(|| tables.first().map(|first| first.at)) {
            let hint = "give `default = true` to the queue that takes what no rule sends elsewhere";
            at.hinted("no queue is the default; exactly one must be", hint);
        }
    }
    defaults.into_iter().next().flatten().map(|default| Queues::new(default, others))
}
