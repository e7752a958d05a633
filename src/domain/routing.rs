//! Which queue an admitted record goes to, and why.
//!
//! The routing rules decide ([`super::rules`]): those of the entity configuration first, then those of the work stream,
//! and the organization's default queue takes what none of them does (Microsoft: "no rules or no queues: the default
//! queue"). The decision is made under the same catalog generation that admitted the record, so the generation in the
//! answer explains both; what the rules saw is kept with the record.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catalog::{EntityConfiguration, Organization, Queue, WorkStream};
use super::ids::QueueName;
use super::rules::trace::StoredTrace;
use super::rules::{RouteTrace, RuleSet, Subject, evaluate};

/// Where a record goes, as decided when it was admitted. As JSON it is what consumers are told, without the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The queue.
    pub queue: QueueName,
    /// The queue's priority at that moment.
    pub priority: u32,
    /// The rule that matched; `None` means that none did and the default queue takes it.
    pub rule: Option<Box<str>>,
    /// Which rules were tried and what they saw; `None` when there was no active rule. For whoever configures the
    /// rules, not for consumers: it may hold what the consumer's copy of the record does not show.
    #[serde(skip)]
    pub trace: Option<Arc<RouteTrace>>,
}

impl Route {
    /// The route to this queue that no rule decided.
    pub fn by_default(queue: &Queue) -> Self {
        Self { queue: queue.name.clone(), priority: queue.priority, rule: None, trace: None }
    }

    /// The route as a store keeps it.
    pub fn to_stored(&self) -> String {
        let stored = StoredRoute {
            queue: self.queue.as_str().into(),
            priority: self.priority,
            rule: self.rule.clone(),
            trace: self.trace.as_deref().map(StoredTrace::from),
        };
        // Plain text and numbers always serialize; should they ever not, the store refuses to read the record back.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads what [`Route::to_stored`] wrote; `None` when it is not that. Routes stored before there were traces have
    /// none.
    pub fn from_stored(text: &str) -> Option<Self> {
        let stored: StoredRoute = serde_json::from_str(text).ok()?;
        let trace = stored.trace.map(|trace| Arc::new(trace.into_trace(stored.rule.is_some())));
        Some(Self { queue: QueueName::parse(&stored.queue).ok()?, priority: stored.priority, rule: stored.rule, trace })
    }

    /// The same route without the values that the rules saw: they are parts of the record's details, and go with them.
    #[must_use]
    pub fn without_values(self) -> Self {
        Self { trace: self.trace.map(|trace| Arc::new(trace.without_values())), ..self }
    }

    /// Why this queue, in a sentence.
    pub fn reason(&self) -> String {
        let matched = self.trace.as_deref().and_then(|trace| trace.tried().last()).filter(|tried| tried.matched);
        match (&self.rule, matched, &self.trace) {
            (Some(rule), Some(tried), _) => {
                format!("Routing rule `{rule}` of the {} matched.", tried.on.in_words())
            }
            (Some(rule), None, _) => format!("Routing rule `{rule}` matched."),
            (None, _, Some(_)) => "No routing rule matched, so the default queue takes it.".to_owned(),
            (None, _, None) => "There is no active routing rule, so the default queue takes it.".to_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredRoute {
    queue: Box<str>,
    priority: u32,
    rule: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<StoredTrace>,
}

/// Everything that decides where the records of one entity configuration go.
#[derive(Debug, Clone, Copy)]
pub struct RoutingTables<'a> {
    /// The entity configuration's rules, which are tried first.
    pub entity_rules: &'a RuleSet,
    /// The work stream's rules.
    pub work_stream_rules: &'a RuleSet,
    /// Where the rest goes.
    pub default_queue: &'a Queue,
}

impl<'a> RoutingTables<'a> {
    /// The tables that count for records of this entity in this work stream.
    pub const fn of(
        organization: &'a Organization,
        work_stream: &'a WorkStream,
        entity: &'a EntityConfiguration,
    ) -> Self {
        Self {
            entity_rules: &entity.rules,
            work_stream_rules: &work_stream.rules,
            default_queue: organization.queues.default_queue(),
        }
    }
}

/// Decides where a record goes. Drafts of rules can be tried over stored records with it: nothing is looked up
/// elsewhere, and nothing happens.
pub fn decide(tables: &RoutingTables<'_>, subject: &Subject<'_>) -> Route {
    let outcome = evaluate(tables.entity_rules, tables.work_stream_rules, subject);
    let queue = outcome.matched.map_or(tables.default_queue, |rule| &rule.queue);
    let rule = outcome.matched.map(|rule| Box::from(&*rule.name));
    Route { rule, trace: outcome.trace, ..Route::by_default(queue) }
}
