//! From what stands in the files to settings that cannot be wrong any more.
//!
//! Every check runs, whatever the others found. Where a fault would only be the echo of another one (a routing queue
//! that is unknown because its file cannot be read) it is left out. Secrets come last, so that a configuration with
//! faults leaves no file behind.

mod credentials;
mod database;
mod nats;
mod organization;
mod process;
mod routing_queue;
mod rules;
mod telemetry;
mod tls;
mod work_stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use self::routing_queue::{Around, Drafts};
use super::identity::Identities;
use super::keys;
use super::load::{Outside, Overrides};
use super::raw::{Field, Table};
use super::settings::{
    CredentialSettings, DeliverySettings, Process, PublicHost, PublicScheme, RoutingQueues, SubscriptionSettings,
};
use super::source::{Place, SourceFile};
use super::stored::{ApiKeyRequest, Document, Layers, NotRead, Stored};
use crate::domain::access::Caller;
use crate::domain::catalog::{Catalog, Organization, RateLimit, RoutingQueueName};
use crate::domain::ids::{Guid, OrganizationId, excerpt};

/// What there is to check.
pub(super) struct Input<'a> {
    /// `streamgate.toml`.
    pub(super) main: Table<'a>,
    /// Whether it could be read; if not, `main` is empty and says nothing about what is missing.
    pub(super) main_was_read: bool,
    /// The organizations' files.
    pub(super) organizations: Vec<Table<'a>>,
    /// Whether all of them could be read.
    pub(super) all_were_read: bool,
    /// What the command line says.
    pub(super) overrides: &'a Overrides,
    /// What else is asked.
    pub(super) outside: &'a Outside<'a>,
}

/// What came out. It is worth something only if the report is clean.
pub(super) struct Checked {
    pub(super) process: Process,
    pub(super) organizations: Vec<Organization>,
    pub(super) layers: Layers,
    pub(super) credentials: CredentialSettings,
    pub(super) routing_queues: RoutingQueues,
    pub(super) delivery: DeliverySettings,
    pub(super) subscriptions: SubscriptionSettings,
    pub(super) identities: Identities,
    /// Files that hold secrets, to be looked at again.
    pub(super) secret_files: Vec<PathBuf>,
}

/// Checks everything; faults and warnings go into the report of the tables.
pub(super) fn check(input: &Input<'_>) -> Checked {
    let (mut process, mut secret_files) = process_with_database(input);
    let delivery = process::delivery(&input.main);
    let subscriptions = routing_queue::subscriptions(&input.main);
    let drafts = routing_queue::routing_queues(&input.main, Around::of(&process, &delivery));
    let otlp = telemetry::otlp(&input.main, &process.data_dir);
    let surroundings = Surroundings {
        routing_queues: input.main_was_read.then(|| drafts.keys().cloned().collect()),
        rate_limit: process.limits.default_rate_limit,
        public_host: process.public_host.clone(),
    };
    let (stored, is_known) = read_stored(input, &process);
    let documents: Vec<_> = stored.organizations.iter().map(|(id, document)| (id, stored_file(id, document))).collect();
    let mut known = Organizations { complete: input.all_were_read && is_known, ..Organizations::default() };
    let mut organizations = Vec::new();
    let mut provisioned = BTreeMap::new();
    for file in &input.organizations {
        let organization = organization::organization(file, &surroundings, &mut known);
        provisioned.extend(organization.as_ref().map(|found| (found.id, file.at.file_name().into())));
        organizations.extend(organization);
    }
    let report = input.main.at.report();
    let roots: Vec<_> = documents
        .iter()
        .zip(stored.organizations.values())
        .map(|((_, file), document)| file.json_table(document))
        .collect();
    for ((id, file), root) in documents.iter().zip(&roots) {
        if let Some(first) = known.by_id.get(id) {
            let hint = "the file counts; `streamgate organizations delete … --stored-copy` removes the other";
            first.warning("this organization is in the store too", hint);
            continue;
        }
        let table = Table::open(root, file.at(0, report), keys::ORGANIZATION_FILE);
        organizations.extend(organization::organization(&table, &surroundings, &mut known));
    }
    if organizations.is_empty() && known.complete && input.main_was_read {
        let hint = "every record gets a 404 until there is one; `streamgate organizations create` makes one";
        input.main.place_of("organizations").warning("there is no organization", hint);
    }
    let mut credentials = credentials::credentials(&input.main, &known);
    credentials.stored_api_keys = stored.api_keys.values().map(|key| key.settings.clone()).collect();
    if input.main_was_read {
        refuse_open_door(&input.main, &process);
        warn_of_the_clear(&input.main, &process);
    }
    let (identities, identity_files) = tls::identities(&input.main, input.outside.environment);
    let (routing_queues, signing_secrets) = with_secrets(drafts, input);
    secret_files.extend(signing_secrets);
    secret_files.extend(identity_files);
    secret_files.extend(otlp.iter().flat_map(|draft| &draft.headers).filter_map(|(_, source)| source.place.file()));
    process.otlp = otlp.map(|draft| draft.with_secrets(input));
    let layers = Layers {
        stored: Arc::new(stored.clone()),
        provisioned: Arc::new(provisioned),
        surroundings: Arc::new(surroundings),
    };
    Checked {
        process,
        organizations,
        layers,
        credentials,
        routing_queues,
        delivery,
        subscriptions,
        identities,
        secret_files,
    }
}

/// What is fixed while the process runs, and the files with secrets that belong to it.
fn process_with_database(input: &Input<'_>) -> (Process, Vec<PathBuf>) {
    let store = input.main.table("store", keys::STORE);
    let mut process = process::process(&input.main, store, input.overrides);
    let mut files = Vec::new();
    let environment = input.outside.environment;
    process.database = store.and_then(|store| database::database(&store, &process.data_dir, environment, &mut files));
    (process, files)
}

/// What the store holds, and whether that is known. Without knowing where the store is, nothing: the reading has faults then
/// anyway.
fn read_stored(input: &Input<'_>, process: &Process) -> (Stored, bool) {
    if !input.main_was_read {
        return (Stored::default(), true);
    }
    let hint = "what was configured through the administration is there; ";
    match (input.outside.stored)(process) {
        Ok(stored) => return (stored, true),
        Err(NotRead::Unusable(fault)) => {
            input.main.at.hinted(fault, format!("{hint}put the file back or let it be read"));
        }
        Err(NotRead::Unreachable(fault)) => {
            input.main.place_of("store").warning(fault, format!("{hint}it was not looked at"));
        }
    }
    (Stored::default(), false)
}

fn stored_file(id: &OrganizationId, document: &Document) -> SourceFile {
    let name = document.get("organization").and_then(|own| own.get("uniqueName")).and_then(serde_json::Value::as_str);
    let name = name.map_or_else(|| id.to_string(), excerpt);
    SourceFile::of_json(format!("organization {name} in the store"), document)
}

/// Checks one organization, whatever others there are.
pub(super) fn organization_alone(table: &Table<'_>, surroundings: &Surroundings) -> Option<Organization> {
    organization::organization(table, surroundings, &mut Organizations::default())
}

/// Nobody configured and everybody can connect: the gateway does not start like that.
fn refuse_open_door(main: &Table<'_>, process: &Process) {
    if main.has("api_keys") || main.has("issuers") {
        return;
    }
    for (key, address) in [("listen", process.listen), ("admin_listen", process.admin_listen)] {
        if !address.ip().to_canonical().is_loopback() {
            let message =
                format!("`{key}` is {address}, which other machines can reach, but no credential is configured");
            let hint = "run `streamgate keys new` and put what it prints here, or listen on 127.0.0.1";
            main.place_of(key).hinted(message, hint);
        }
    }
}

/// Other machines can connect, and what they send, keys included, can be read on its way. Or callers are told the wrong
/// scheme.
fn warn_of_the_clear(main: &Table<'_>, process: &Process) {
    let is_reachable = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
    if is_reachable(process.listen) && !process.tls && process.public_scheme == PublicScheme::Http {
        let message = format!("`listen` is {}, and keys travel to it in the clear", process.listen);
        let hint = "configure [tls], or say public_scheme = \"https\" where something in front ends TLS";
        main.place_of("listen").warning(message, hint);
    }
    if process.tls && process.public_scheme == PublicScheme::Http {
        let message =
            "`public_scheme` is \"http\", but the public listener speaks TLS: the addresses in answers lead nowhere";
        main.place_of("public_scheme").warning(message, "leave it out, or say \"https\"");
    }
    if is_reachable(process.admin_listen) && !process.admin_tls {
        let message = format!("`admin_listen` is {}, and keys travel to it in the clear", process.admin_listen);
        main.place_of("admin_listen").warning(message, "configure [admin_tls], or listen on 127.0.0.1");
    }
}

/// Reads the secrets. New ones are made only when nothing at all is wrong.
fn with_secrets(drafts: Drafts<'_>, input: &Input<'_>) -> (RoutingQueues, Vec<PathBuf>) {
    let report = input.main.at.report();
    let mut routing_queues = BTreeMap::new();
    let mut files = Vec::new();
    for (name, draft) in drafts {
        let Some(draft) = draft else { continue };
        files.extend(draft.files());
        let may_write = report.is_clean() && !input.overrides.read_only;
        routing_queues
            .extend(draft.with_secrets(input.outside.environment, may_write).map(|settings| (name, settings)));
    }
    (routing_queues, files)
}

/// What an organization's file is checked against.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// The routing queues that are configured, besides the built-in one; `None` when that is not known.
    routing_queues: Option<BTreeSet<RoutingQueueName>>,
    /// The rate of an organization that sets none.
    rate_limit: RateLimit,
    /// How host names are made of unique names.
    public_host: Option<PublicHost>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { routing_queues: None, rate_limit: process::default_rate_limit(), public_host: None }
    }
}

impl Surroundings {
    /// The routing queue that a key names, if it names one.
    fn routing_queue(&self, table: &Table<'_>) -> Option<RoutingQueueName> {
        let field = table.string("routing_queue")?;
        let name = RoutingQueueName::new(field.value);
        let pull = RoutingQueueName::pull();
        if let Some(configured) = self.routing_queues.as_ref().filter(|names| name != pull && !names.contains(&name)) {
            let names: Vec<_> = std::iter::once(&pull).chain(configured).map(RoutingQueueName::as_str).collect();
            let message = format!("there is no routing queue `{}`", excerpt(field.value));
            field.at.hinted(message, super::fault::meant(field.value, &names));
        }
        Some(name)
    }
}

/// The organizations seen so far, over all files.
#[derive(Default)]
struct Organizations<'a> {
    by_id: HashMap<OrganizationId, Place<'a>>,
    by_name: HashMap<String, (OrganizationId, &'a str)>,
    name_places: HashMap<String, Place<'a>>,
    /// Whether these are all, so that another one does not exist.
    complete: bool,
}

/// Where names of organizations are looked up.
trait KnownOrganizations {
    /// The organization of this GUID or unique name.
    fn find(&self, text: &str) -> Option<OrganizationId>;
    /// Whether one that is not found does not exist.
    fn is_complete(&self) -> bool;
    /// The unique name that somebody who wrote this most likely meant.
    fn nearest(&self, text: &str) -> Option<String>;
}

impl KnownOrganizations for Organizations<'_> {
    fn find(&self, text: &str) -> Option<OrganizationId> {
        if let Ok(guid) = Guid::parse(text) {
            return Some(OrganizationId::from(guid)).filter(|id| self.by_id.contains_key(id));
        }
        self.by_name.get(&text.to_ascii_lowercase()).map(|(id, _)| *id)
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn nearest(&self, text: &str) -> Option<String> {
        super::fault::nearest(text, self.by_name.values().map(|(_, name)| *name)).map(str::to_owned)
    }
}

/// The organizations that a caller may know of.
struct Visible<'c> {
    catalog: &'c Catalog,
    caller: &'c Caller,
}

impl KnownOrganizations for Visible<'_> {
    fn find(&self, text: &str) -> Option<OrganizationId> {
        let found = match Guid::parse(text) {
            Ok(guid) => self.catalog.organization_for(self.caller, &guid.into()),
            Err(_) => self.catalog.organization_named(text),
        };
        found.map(|organization| organization.id).filter(|id| self.caller.sees(id))
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn nearest(&self, text: &str) -> Option<String> {
        let visible = self.catalog.organizations_for(self.caller);
        super::fault::nearest(text, visible.iter().map(|found| &*found.unique_name)).map(str::to_owned)
    }
}

pub(super) use self::credentials::from_hex as sha256_from_hex;
pub use self::database::database_at;
pub(super) use self::work_stream::generated_name;

/// Checks a request for an API key.
pub(super) fn api_key_request(table: &Table<'_>, catalog: &Catalog, caller: &Caller) -> Option<ApiKeyRequest> {
    credentials::api_key_request(table, &Visible { catalog, caller })
}

/// Notes the first place of a value, and a fault at every further one.
fn unique<'a, K: Eq + Hash>(what: &str, value: K, at: Place<'a>, seen: &mut HashMap<K, Place<'a>>, shown: &str) {
    match seen.entry(value) {
        std::collections::hash_map::Entry::Occupied(first) => {
            let hint = format!("the first one is at {}", first.get().as_reference());
            at.hinted(format!("{what}: `{shown}` is there twice"), hint);
        }
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(at);
        }
    }
}

/// A text for people: not blank, bounded, without control characters; blanks around it are dropped.
fn visible_text(key: &str, field: Field<'_, &str>, most_chars: usize) -> Option<Box<str>> {
    let text = field.value.trim();
    let fault = if text.is_empty() {
        "is empty".to_owned()
    } else if text.chars().count() > most_chars {
        format!("is longer than {most_chars} characters")
    } else if text.chars().any(char::is_control) {
        "holds control characters".to_owned()
    } else {
        return Some(text.into());
    };
    field.at.fault(format!("`{key}` {fault}"));
    None
}

/// The choices for a `state`.
const STATES: [(&str, crate::domain::catalog::State); 2] =
    [("active", crate::domain::catalog::State::Active), ("inactive", crate::domain::catalog::State::Inactive)];
