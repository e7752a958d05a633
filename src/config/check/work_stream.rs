//! One work stream: how it distributes, which values its rules may use, and which entities' records may enter it.

use std::collections::{BTreeSet, HashMap};

use super::rules::{Known, mapping, rules};
use super::{STATES, Surroundings, unique, visible_text};
use crate::config::keys;
use crate::config::raw::{Table, chosen};
use crate::config::source::Place;
use crate::domain::catalog::{
    ContextVariable, ContextVariableKind, DistributionMode, EntityConfiguration, Notification, Presence, Queues, State,
    StreamSource, WorkStream,
};
use crate::domain::ids::{EntityConfigurationId, Guid, LogicalName, WorkStreamId, excerpt};

const PRESENCES: [(&str, Presence); 5] = [
    ("available", Presence::Available),
    ("busy", Presence::Busy),
    ("busy-do-not-disturb", Presence::BusyDoNotDisturb),
    ("away", Presence::Away),
    ("offline", Presence::Offline),
];

/// Checks a work stream; `None` when it has no usable ID or name.
pub(super) fn work_stream<'a>(
    table: &Table<'a>,
    surroundings: &Surroundings,
    queues: Option<&Queues>,
    seen: &mut HashMap<WorkStreamId, Place<'a>>,
) -> Option<WorkStream> {
    let id = table.required_string("id").and_then(|field| {
        let id = WorkStreamId::from(field.parsed("id", Guid::parse)?);
        unique("work stream", id, field.at, seen, &id.to_string());
        Some(id)
    });
    let name = table.required_string("name").and_then(|field| visible_text("name", field, 100));
    let sources = [("entity-records", StreamSource::EntityRecords), ("live-chat", StreamSource::LiveChat)];
    let stream_source = table.choice("stream_source", &sources).unwrap_or(StreamSource::EntityRecords);
    let modes = [("push", DistributionMode::Push), ("pick", DistributionMode::Pick)];
    let notifications = [
        ("directly-open-session", Notification::DirectlyOpenSession),
        ("screen-pop-with-timeout", Notification::ScreenPopWithTimeout),
        ("screen-pop-with-decline", Notification::ScreenPopWithDecline),
    ];
    let (context_variables, all_variables) = context_variables(table);
    let known = Known { queues, variables: &context_variables, all_variables };
    let entities = entities(table, stream_source, &known);
    let rules = rules(table, keys::RULE, &known);
    Some(WorkStream {
        // Microsoft's form default for every channel.
        capacity: table.integer("capacity", 1..=1_000_000).unwrap_or(30),
        stream_source,
        auto_close_after_inactivity_minutes: table
            .integer("auto_close_after_inactivity_minutes", 1..=5_256_000)
            .unwrap_or_else(|| stream_source.default_auto_close_minutes()),
        distribution_mode: table.choice("distribution_mode", &modes).unwrap_or(DistributionMode::Push),
        notification: table.choice("notification", &notifications),
        screen_pop_timeout_seconds: screen_pop_timeout(table),
        assign_after_decline_minutes: table.integer("assign_after_decline_minutes", 0..=525_600),
        allowed_presences: allowed_presences(table, stream_source),
        context_variables,
        rules,
        state: table.choice("state", &STATES).unwrap_or(State::Active),
        routing_queue: surroundings.routing_queue(table),
        entities,
        // Last, after everything else has been looked at.
        id: id?,
        name: name?,
    })
}

/// Seconds: 30 to 300 in steps of 30, as in Microsoft's option set.
fn screen_pop_timeout(table: &Table<'_>) -> Option<u32> {
    const KEY: &str = "screen_pop_timeout_seconds";
    let seconds: u32 = table.integer(KEY, 30..=300)?;
    if !seconds.is_multiple_of(30) {
        let message = format!("`{KEY}` goes in steps of 30, from 30 to 300, and {seconds} is none of them");
        table.place_of(KEY).fault(message);
    }
    Some(seconds)
}

fn allowed_presences(table: &Table<'_>, stream_source: StreamSource) -> BTreeSet<Presence> {
    const KEY: &str = "allowed_presences";
    let Some(words) = table.strings(KEY) else { return stream_source.default_presences() };
    if table.is_empty_list(KEY) {
        // Microsoft's troubleshooting page: shipped work streams had none, and nobody ever got their work.
        let hint = "leave it out for the default, or name the presences in which agents may get work";
        table.place_of(KEY).hinted(format!("`{KEY}` is empty, so no agent could ever get the work"), hint);
    }
    let mut allowed = BTreeSet::new();
    for word in words {
        let Some(presence) = chosen(KEY, word, &PRESENCES) else { continue };
        if !stream_source.offers(presence) {
            let hint = "only a work stream for entity records may allow it";
            word.at.hinted(format!("`{KEY}` cannot hold `{}` here", word.value), hint);
        }
        allowed.insert(presence);
    }
    allowed
}

/// The context variables, and whether these are all that were meant.
fn context_variables(table: &Table<'_>) -> (Vec<ContextVariable>, bool) {
    let kinds = [("text", ContextVariableKind::Text), ("number", ContextVariableKind::Number)];
    let mut seen = HashMap::new();
    let mut variables = Vec::new();
    let tables = table.tables("context_variables", keys::CONTEXT_VARIABLE);
    let meant = tables.len();
    for table in tables {
        let display_name = table.required_string("display_name").and_then(|field| {
            let text = visible_text("display_name", field, 100)?;
            Some((text, field.at))
        });
        let kind = table.choice("kind", &kinds).unwrap_or(ContextVariableKind::Text);
        let mapping = mapping(&table, kind);
        let state = table.choice("state", &STATES).unwrap_or(State::Active);
        let given = table.string("name").map(|field| (field.parsed("name", LogicalName::parse), field.at));
        let Some((display_name, display_name_at)) = display_name else { continue };
        let (name, at) =
            given.unwrap_or_else(|| (LogicalName::parse(&generated_name(&display_name)).ok(), display_name_at));
        let Some(name) = name else {
            if !table.has("name") {
                display_name_at.hinted(
                    "no name can be made from this `display_name`",
                    "give a `name` of letters, digits and underscores",
                );
            }
            continue;
        };
        unique("context variable", name.clone(), at, &mut seen, name.as_str());
        variables.push(ContextVariable { name: name.as_str().into(), display_name, kind, mapping, state });
    }
    let said_none = !table.has("context_variables") || table.is_empty_list("context_variables");
    let all = variables.len() == meant && (meant > 0 || said_none);
    (variables, all)
}

/// The name that rules use: what the display name says in lower-case letters and digits, joined by underscores.
pub(in crate::config) fn generated_name(display_name: &str) -> String {
    let words = display_name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

fn entities(
    table: &Table<'_>,
    stream_source: StreamSource,
    known: &Known<'_>,
) -> HashMap<LogicalName, EntityConfiguration> {
    let mut ids = HashMap::new();
    let mut names = HashMap::new();
    let mut entities = HashMap::new();
    let tables = table.tables("entities", keys::ENTITY);
    if let Some(first) = tables.first().filter(|_| stream_source == StreamSource::LiveChat) {
        let hint = "make it an entity-records work stream, or take the entities out";
        first.at.warning("a live-chat work stream takes no records, so its entities are never used", hint);
    }
    for table in tables {
        if let Some(entity) = entity(&table, known, &mut ids, &mut names) {
            entities.insert(entity.entity_logical_name.clone(), entity);
        }
    }
    entities
}

fn entity<'a>(
    table: &Table<'a>,
    known: &Known<'_>,
    ids: &mut HashMap<EntityConfigurationId, Place<'a>>,
    names: &mut HashMap<LogicalName, Place<'a>>,
) -> Option<EntityConfiguration> {
    let id = table.required_string("id").and_then(|field| {
        let id = EntityConfigurationId::from(field.parsed("id", Guid::parse)?);
        unique("entity configuration", id, field.at, ids, &id.to_string());
        Some(id)
    });
    let logical_name = table.required_string("entity_logical_name").and_then(|field| {
        let name = field.parsed("entity_logical_name", LogicalName::parse)?;
        unique("entity", name.clone(), field.at, names, &excerpt(field.value));
        Some(name)
    });
    table.require("entity_set_name");
    let entity_set_name = table.parsed("entity_set_name", LogicalName::parse);
    let relationship = table.parsed("relationship_name", LogicalName::parse_relationship);
    let state = table.choice("state", &STATES).unwrap_or(State::Active);
    let rules = rules(table, keys::ENTITY_RULE, known);
    let entity_logical_name = logical_name?;
    Some(EntityConfiguration {
        id: id?,
        relationship_name: relationship.unwrap_or_else(|| entity_logical_name.default_relationship()),
        entity_logical_name,
        entity_set_name: entity_set_name?,
        state,
        rules,
    })
}
