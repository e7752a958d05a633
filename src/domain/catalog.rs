//! Everything configured, as one immutable snapshot with a generation number.
//!
//! Look-ups are hash look-ups, so what a request costs does not depend on how much is configured. What holds by
//! construction is not checked again: an organization has exactly one default queue, a work stream has at most one
//! entity configuration per logical name, every routing queue that is named exists.
//!
//! The fields of a work stream follow Microsoft's table `msdyn_liveworkstream`; `docs/contract.md` says how and why.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::access::Caller;
use super::ids::{EntityConfigurationId, LogicalName, OrganizationId, QueueName, WorkStreamId};
use super::rules::{Mapping, RuleSet};

/// One whole configuration.
///
/// Organizations are shared: the catalog of a change holds the same ones but for those that changed, so a change costs
/// as much as there are organizations, and not as much as is configured for them.
#[derive(Debug, Clone)]
pub struct Catalog {
    generation: u64,
    organizations: HashMap<OrganizationId, Arc<Organization>>,
    by_unique_name: HashMap<Box<str>, OrganizationId>,
}

impl Catalog {
    /// The catalog of these organizations. Their IDs and unique names must differ; of two alike, the later counts.
    pub fn new<O: Into<Arc<Organization>>>(generation: u64, organizations: impl IntoIterator<Item = O>) -> Self {
        let organizations: HashMap<_, Arc<Organization>> = organizations
            .into_iter()
            .map(|organization| {
                let organization = organization.into();
                (organization.id, organization)
            })
            .collect();
        let by_unique_name = organizations
            .values()
            .map(|organization| (organization.unique_name.to_ascii_lowercase().into_boxed_str(), organization.id))
            .collect();
        Self { generation, organizations, by_unique_name }
    }

    /// The same catalog under another number.
    #[must_use]
    pub fn at_generation(&self, generation: u64) -> Self {
        Self { generation, ..self.clone() }
    }

    /// The catalog after these organizations took the place of those with their IDs; `None` means gone.
    #[must_use]
    pub fn with(
        &self,
        generation: u64,
        changes: impl IntoIterator<Item = (OrganizationId, Option<Arc<Organization>>)>,
    ) -> Self {
        let mut organizations = self.organizations.clone();
        for (id, changed) in changes {
            match changed {
                Some(changed) => organizations.insert(id, changed),
                None => organizations.remove(&id),
            };
        }
        Self::new(generation, organizations.into_values())
    }

    /// Which configuration this is. It grows with every change, over restarts too.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The organization, if the caller may know of it: a foreign one looks exactly like an unknown one (contract §2).
    pub fn organization_for(&self, caller: &Caller, id: &OrganizationId) -> Option<&Organization> {
        self.organizations.get(id).filter(|_| caller.sees(id)).map(Arc::as_ref)
    }

    /// The organization of this ID, whoever asks.
    pub fn organization(&self, id: &OrganizationId) -> Option<&Arc<Organization>> {
        self.organizations.get(id)
    }

    /// The organization of this unique name, without regard to case.
    pub fn organization_named(&self, unique_name: &str) -> Option<&Organization> {
        self.by_unique_name
            .get(unique_name.to_ascii_lowercase().as_str())
            .and_then(|id| self.organizations.get(id))
            .map(Arc::as_ref)
    }

    /// Every organization that the caller may know of, by unique name.
    pub fn organizations_for(&self, caller: &Caller) -> Vec<&Organization> {
        let mut visible: Vec<_> =
            self.organizations.values().map(Arc::as_ref).filter(|organization| caller.sees(&organization.id)).collect();
        visible.sort_by(|a, b| a.unique_name.cmp(&b.unique_name));
        visible
    }

    /// Every organization, in no particular order.
    pub fn organizations(&self) -> impl Iterator<Item = &Arc<Organization>> {
        self.organizations.values()
    }

    /// The work stream, whoever asks.
    pub fn work_stream(&self, organization: &OrganizationId, work_stream: &WorkStreamId) -> Option<&WorkStream> {
        self.organizations.get(organization)?.work_streams.get(work_stream)
    }
}

/// Whether something takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It takes part.
    Active,
    /// It stays configured but receives nothing.
    Inactive,
}

impl State {
    /// Whether it takes part.
    pub fn is_active(self) -> bool {
        self == Self::Active
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its GUID.
    pub id: OrganizationId,
    /// Its unique name, as in host names: letters, digits and hyphens.
    pub unique_name: Box<str>,
    /// The name shown to people.
    pub name: Box<str>,
    /// How much it may send.
    pub rate_limit: RateLimit,
    /// Where its records go unless their work stream says otherwise.
    pub routing_queue: RoutingQueueName,
    /// Its queues.
    pub queues: Queues,
    /// Its work streams.
    pub work_streams: HashMap<WorkStreamId, WorkStream>,
}

impl Organization {
    /// Its work streams, by name.
    pub fn work_streams_by_name(&self) -> Vec<&WorkStream> {
        let mut work_streams: Vec<_> = self.work_streams.values().collect();
        work_streams.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        work_streams
    }

    /// Where the records of this work stream go.
    pub fn routing_queue_of<'a>(&'a self, work_stream: &'a WorkStream) -> &'a RoutingQueueName {
        work_stream.routing_queue.as_ref().unwrap_or(&self.routing_queue)
    }
}

/// How many records an organization may send (contract §2: 429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Requests a minute, sustained.
    pub requests_per_minute: NonZeroU32,
    /// Requests at once, on top of nothing sent for a while.
    pub burst: NonZeroU32,
}

/// An organization's queues: any number, of which exactly one is the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    default: Queue,
    others: Vec<Queue>,
}

impl Queues {
    /// The default queue and the others.
    pub fn new(default: Queue, others: Vec<Queue>) -> Self {
        Self { default, others }
    }

    /// Where a record goes when no rule sends it elsewhere.
    pub const fn default_queue(&self) -> &Queue {
        &self.default
    }

    /// The queue of this name.
    pub fn named(&self, name: &QueueName) -> Option<&Queue> {
        self.iter().find(|queue| queue.name == *name)
    }

    /// All queues, in the order in which work is handed out: by priority, then by name.
    pub fn by_priority(&self) -> Vec<&Queue> {
        let mut queues: Vec<_> = self.iter().collect();
        queues.sort_by(|a, b| a.priority.cmp(&b.priority).then_with(|| a.name.cmp(&b.name)));
        queues
    }

    /// All queues, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        std::iter::once(&self.default).chain(&self.others)
    }
}

/// A named queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name within the organization.
    pub name: QueueName,
    /// Priority 1 is handed out before priority 2.
    pub priority: u32,
}

/// The name of a routing queue: a destination that the process's configuration describes. `pull` always exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingQueueName(Arc<str>);

impl RoutingQueueName {
    /// The routing queue of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The built-in one, from which consumers lease work items.
    pub fn pull() -> Self {
        Self::new("pull")
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoutingQueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How one kind of work is captured and distributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkStream {
    /// Its GUID.
    pub id: WorkStreamId,
    /// The name shown to people.
    pub name: Box<str>,
    /// Units of an agent's capacity that one work item takes (`msdyn_capacityrequired`; default 30).
    pub capacity: u32,
    /// What it captures.
    pub stream_source: StreamSource,
    /// Minutes after which a waiting work item closes (`msdyn_autocloseafterinactivity`).
    pub auto_close_after_inactivity_minutes: u32,
    /// Whether work is handed out or picked up.
    pub distribution_mode: DistributionMode,
    /// How an agent learns of an offer, where it is configured.
    pub notification: Option<Notification>,
    /// Seconds that an offer stays on the screen: 30 to 300 in steps of 30.
    pub screen_pop_timeout_seconds: Option<u32>,
    /// Minutes after which the agent who declined or missed an offer may get it again.
    pub assign_after_decline_minutes: Option<u32>,
    /// Presences in which an agent may get its work.
    pub allowed_presences: BTreeSet<Presence>,
    /// Values that routing rules may use.
    pub context_variables: Vec<ContextVariable>,
    /// Where its records go within the organization, where their entity configuration does not say it.
    pub rules: RuleSet,
    /// Whether it takes records.
    pub state: State,
    /// Where its records go; `None` means where the organization's go.
    pub routing_queue: Option<RoutingQueueName>,
    /// Which entities' records may enter, by logical name.
    pub entities: HashMap<LogicalName, EntityConfiguration>,
}

impl WorkStream {
    /// Its entity configurations, by logical name.
    pub fn entities_by_name(&self) -> Vec<&EntityConfiguration> {
        let mut entities: Vec<_> = self.entities.values().collect();
        entities.sort_by(|a, b| a.entity_logical_name.cmp(&b.entity_logical_name));
        entities
    }
}

/// What a work stream captures (`msdyn_streamsource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamSource {
    /// Records of configured entities.
    EntityRecords,
    /// Chats: configured here, but no records enter.
    LiveChat,
}

impl StreamSource {
    /// Minutes after which a waiting work item closes where nobody set it (Microsoft's form default: 1440 for entity
    /// records, 5 for live chat).
    pub const fn default_auto_close_minutes(self) -> u32 {
        match self {
            Self::EntityRecords => 1_440,
            Self::LiveChat => 5,
        }
    }

    /// The presences allowed where nobody set them (Microsoft's form default).
    pub fn default_presences(self) -> BTreeSet<Presence> {
        match self {
            Self::EntityRecords => {
                [Presence::Available, Presence::Busy, Presence::BusyDoNotDisturb, Presence::Away].into()
            }
            Self::LiveChat => [Presence::Available, Presence::Busy].into(),
        }
    }

    /// Whether this presence may be allowed: offline only for entity records.
    pub fn offers(self, presence: Presence) -> bool {
        presence != Presence::Offline || self == Self::EntityRecords
    }
}

/// Whether work is handed out or picked up (`msdyn_workdistributionmode`; default push).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistributionMode {
    /// Work is offered to the agent who fits best.
    Push,
    /// Agents pick from the open work items.
    Pick,
}

/// How an agent learns of an offer (`msdyn_notification`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notification {
    /// The session opens by itself.
    DirectlyOpenSession,
    /// A notice that goes away.
    ScreenPopWithTimeout,
    /// A notice that can be declined.
    ScreenPopWithDecline,
}

/// An agent's base presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Free for work.
    Available,
    /// At work, may get more.
    Busy,
    /// At work and not to be disturbed.
    BusyDoNotDisturb,
    /// Not at the desk.
    Away,
    /// Not signed in.
    Offline,
}

/// A value that routing rules may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextVariable {
    /// The name that rules use, made from the display name where none is given.
    pub name: Box<str>,
    /// The name shown to people.
    pub display_name: Box<str>,
    /// What it holds. A value of another type counts as absent.
    pub kind: ContextVariableKind,
    /// Where a record has its value; without it no record has one.
    pub mapping: Option<Mapping>,
    /// Whether rules may use it.
    pub state: State,
}

/// What a context variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContextVariableKind {
    /// Text.
    Text,
    /// A number.
    Number,
}

/// "Records of this entity may enter this work stream."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityConfiguration {
    /// Its GUID, which as a `recordId` makes a call the test operation.
    pub id: EntityConfigurationId,
    /// The entity.
    pub entity_logical_name: LogicalName,
    /// The entity's collection; configured, since it cannot be derived from the logical name.
    pub entity_set_name: LogicalName,
    /// The relationship between a record and its work items.
    pub relationship_name: LogicalName,
    /// Whether its records may enter now.
    pub state: State,
    /// Where its records go, before the work stream's own rules are asked.
    pub rules: RuleSet,
}
