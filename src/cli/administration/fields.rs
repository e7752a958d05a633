//! Flags for the fields of each kind of resource, and the JSON that they make. A field that no flag sets is not sent.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{Failure, printable, read_object};
use crate::config::{camel_case, snake_case};

/// What every creation and change can have instead of flags, or besides.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Source {
    /// A file with the resource as JSON, as the API takes it; `-` for standard input. Flags count more.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// What every change can have besides.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Unset {
    /// A field that goes back to its default, by the name of its flag (`routing-queue`) or as the API names it
    /// (`routingQueue`). May be given more than once.
    #[arg(long, value_name = "FIELD")]
    unset: Vec<String>,
}

impl Source {
    /// The resource of the file, with these members in it.
    pub(super) fn object(&self, members: Members) -> Result<Value, Failure> {
        let mut object = self.from.as_deref().map(read_object).transpose()?.unwrap_or_default();
        object.extend(members.0);
        Ok(Value::Object(object))
    }

    /// The patch of the file, with these members in it, and those that go. Only these fields have a default to go to; to
    /// the gateway, another one would be gone already.
    pub(super) fn patch(&self, members: Members, unset: &Unset, fields: &[&str]) -> Result<Value, Failure> {
        let mut patch = self.object(members)?;
        for given in &unset.unset {
            let field = camel_case(&given.replace('-', "_"));
            if !fields.contains(&field.as_str()) {
                let known =
                    fields.iter().map(|field| snake_case(field).replace('_', "-")).collect::<Vec<_>>().join(", ");
                let message = format!("`{}` has no default to go back to; --unset takes {known}", printable(given));
                return Err(Failure::new(super::Exit::Usage, message));
            }
            if let Some(object) = patch.as_object_mut() {
                object.insert(field, Value::Null);
            }
        }
        if patch.as_object().is_none_or(Map::is_empty) {
            let message = "nothing to change: give a flag, --unset or --from; --help shows them";
            return Err(Failure::new(super::Exit::Usage, message));
        }
        Ok(patch)
    }
}

/// Members of a resource that were given.
#[derive(Debug, Default)]
pub(super) struct Members(Map<String, Value>);

impl Members {
    /// Sets a member where there is a value for it.
    #[must_use]
    pub(super) fn with<T: Into<Value>>(mut self, name: &str, value: Option<T>) -> Self {
        self.0.extend(value.map(|value| (name.to_owned(), value.into())));
        self
    }
}

/// Whether it takes part.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StateArg {
    Active,
    Inactive,
}

impl StateArg {
    const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

/// Fields of an organization.
#[derive(Debug, Default, clap::Args)]
pub(super) struct OrganizationFields {
    /// The name shown to people.
    #[arg(long)]
    name: Option<String>,
    /// Where its records go: a routing queue of streamgate.toml, or `pull`.
    #[arg(long)]
    routing_queue: Option<String>,
    /// How many records it may send in a minute.
    #[arg(long)]
    requests_per_minute: Option<u32>,
    /// How many at once, after a pause.
    #[arg(long)]
    burst: Option<u32>,
}

impl OrganizationFields {
    /// What has a default.
    pub(super) const DEFAULTED: &[&str] = &["name", "routingQueue", "requestsPerMinute", "burst"];

    pub(super) fn members(&self) -> Members {
        Members::default()
            .with("name", self.name.clone())
            .with("routingQueue", self.routing_queue.clone())
            .with("requestsPerMinute", self.requests_per_minute)
            .with("burst", self.burst)
    }
}

/// Fields of a work stream. Those that are locked after creation are flags of `create`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct WorkStreamFields {
    /// `active` or `inactive`.
    #[arg(long)]
    state: Option<StateArg>,
    /// Units of an agent's capacity that one work item takes (30 unless set).
    #[arg(long)]
    capacity: Option<u32>,
    /// A presence in which agents may get its work: available, busy, busy-do-not-disturb, away, offline. May be given more
    /// than once.
    #[arg(long = "allowed-presence", value_name = "PRESENCE")]
    allowed_presences: Vec<String>,
    /// Minutes after which a waiting work item closes.
    #[arg(long, value_name = "MINUTES")]
    auto_close_after_inactivity_minutes: Option<u32>,
    /// How an agent learns of an offer: directly-open-session, screen-pop-with-timeout, screen-pop-with-decline.
    #[arg(long)]
    notification: Option<String>,
    /// Seconds that an offer stays on the screen: 30 to 300 in steps of 30.
    #[arg(long, value_name = "SECONDS")]
    screen_pop_timeout_seconds: Option<u32>,
    /// Minutes after which an agent who declined may get the offer again.
    #[arg(long, value_name = "MINUTES")]
    assign_after_decline_minutes: Option<u32>,
    /// Where its records go; where the organization's go unless set.
    #[arg(long)]
    routing_queue: Option<String>,
}

impl WorkStreamFields {
    /// What has a default.
    pub(super) const DEFAULTED: &[&str] = &[
        "state",
        "capacity",
        "allowedPresences",
        "autoCloseAfterInactivityMinutes",
        "notification",
        "screenPopTimeoutSeconds",
        "assignAfterDeclineMinutes",
        "routingQueue",
    ];

    pub(super) fn members(&self) -> Members {
        let presences = (!self.allowed_presences.is_empty()).then(|| json!(self.allowed_presences));
        Members::default()
            .with("state", self.state.map(StateArg::name))
            .with("capacity", self.capacity)
            .with("allowedPresences", presences)
            .with("autoCloseAfterInactivityMinutes", self.auto_close_after_inactivity_minutes)
            .with("notification", self.notification.clone())
            .with("screenPopTimeoutSeconds", self.screen_pop_timeout_seconds)
            .with("assignAfterDeclineMinutes", self.assign_after_decline_minutes)
            .with("routingQueue", self.routing_queue.clone())
    }
}

/// Fields of an entity configuration.
#[derive(Debug, Default, clap::Args)]
pub(super) struct EntityFields {
    /// The entity's collection, such as `incidents`.
    #[arg(long = "set", value_name = "ENTITY_SET_NAME")]
    entity_set_name: Option<String>,
    /// The relationship between a record and its work items; `<entity>_msdyn_ocliveworkitems` unless set.
    #[arg(long = "relationship", value_name = "NAME")]
    relationship_name: Option<String>,
    /// `active` or `inactive`.
    #[arg(long)]
    state: Option<StateArg>,
}

impl EntityFields {
    /// What has a default.
    pub(super) const DEFAULTED: &[&str] = &["relationshipName", "state"];

    pub(super) fn members(&self) -> Members {
        Members::default()
            .with("entitySetName", self.entity_set_name.clone())
            .with("relationshipName", self.relationship_name.clone())
            .with("state", self.state.map(StateArg::name))
    }
}

/// Fields of a queue.
#[derive(Debug, Default, clap::Args)]
pub(super) struct QueueFields {
    /// 1 is handed out before 2.
    #[arg(long)]
    priority: Option<u32>,
    /// It takes what no rule sends elsewhere, instead of the queue that did.
    #[arg(long)]
    default: bool,
}

impl QueueFields {
    /// What has a default.
    pub(super) const DEFAULTED: &[&str] = &["priority"];

    pub(super) fn members(&self) -> Members {
        Members::default().with("priority", self.priority).with("default", self.default.then_some(true))
    }
}

/// Fields of a context variable.
#[derive(Debug, Default, clap::Args)]
pub(super) struct VariableFields {
    /// What it holds: text or number.
    #[arg(long)]
    kind: Option<String>,
    /// The column of the record that it takes its value from.
    #[arg(long, conflicts_with = "label")]
    column: Option<String>,
    /// The column whose formatted label it takes.
    #[arg(long)]
    label: Option<String>,
    /// `active` or `inactive`.
    #[arg(long)]
    state: Option<StateArg>,
}

impl VariableFields {
    /// What has a default.
    pub(super) const DEFAULTED: &[&str] = &["kind", "column", "label", "state"];

    /// As [`Self::members`], for a change: a column takes the place of a label, and a label that of a column.
    pub(super) fn changed_members(&self) -> Members {
        self.members()
            .with("label", self.column.as_ref().map(|_| Value::Null))
            .with("column", self.label.as_ref().map(|_| Value::Null))
            .with("column", self.column.clone())
            .with("label", self.label.clone())
    }

    pub(super) fn members(&self) -> Members {
        Members::default()
            .with("kind", self.kind.clone())
            .with("column", self.column.clone())
            .with("label", self.label.clone())
            .with("state", self.state.map(StateArg::name))
    }
}

/// Fields of a rule but for its condition.
#[derive(Debug, Default, clap::Args)]
pub(super) struct RuleFields {
    /// The queue that takes what matches.
    #[arg(long)]
    queue: Option<String>,
    /// `active` or `inactive`.
    #[arg(long)]
    state: Option<StateArg>,
}

impl RuleFields {
    /// What has a default.
    pub(super) const DEFAULTED: &[&str] = &["state", "when"];

    pub(super) fn members(&self) -> Members {
        Members::default().with("queue", self.queue.clone()).with("state", self.state.map(StateArg::name))
    }
}
