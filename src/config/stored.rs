//! What the store holds of the configuration: organizations as documents, and API keys.
//!
//! A document is an organization's file in JSON. It is kept as it was submitted, without the defaults, so that a default
//! which comes from the process's settings goes on to follow them. It passes the same checks as the files, under the
//! settings of the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::check::{self, Surroundings};
use super::fault::{Fault, Faults, Report};
use super::keys;
use super::raw::Table;
use super::settings::{ApiKeySettings, CredentialSettings, Effective, Process};
use super::source::SourceFile;
use crate::domain::access::{Caller, OrganizationScope, Permission};
use crate::domain::catalog::Organization;
use crate::domain::ids::{Guid, OrganizationId};
use crate::domain::time::Timestamp;

/// An organization's file, in JSON: `organization`, `queues`, `workStreams`.
pub type Document = Map<String, Value>;

/// The name that rules use for a context variable whose document gives none; empty where none can be made.
pub fn generated_name(display_name: &str) -> String {
    check::generated_name(display_name)
}

/// What the store holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// The organizations that were made or taken in through the administration.
    pub organizations: BTreeMap<OrganizationId, Arc<Document>>,
    /// The API keys that were made through the administration, by name.
    pub api_keys: BTreeMap<Arc<str>, StoredApiKey>,
    /// The last generation that a change made effective.
    pub generation: u64,
}

/// An API key that was made through the administration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredApiKey {
    /// What it is worth.
    pub settings: ApiKeySettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// The credential that made it.
    pub created_by: Arc<str>,
}

impl StoredApiKey {
    /// As it is kept: everything but the name.
    pub fn to_json(&self) -> Value {
        let Self { settings, created_at, created_by } = self;
        let sha256: String = settings.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let organizations = match &settings.organizations {
            OrganizationScope::All => Value::from("*"),
            OrganizationScope::Only(ids) => ids.iter().map(|id| Value::from(id.to_string())).collect(),
        };
        let permissions: Vec<_> = settings.permissions.iter().map(|permission| permission.name()).collect();
        serde_json::json!({
            "sha256": sha256,
            "permissions": permissions,
            "organizations": organizations,
            "expires": settings.expires.map(Timestamp::millis),
            "createdAt": created_at.millis(),
            "createdBy": **created_by,
        })
    }

    /// Reads what [`StoredApiKey::to_json`] wrote; `None` when it is not that.
    pub fn from_json(name: &str, kept: &Value) -> Option<Self> {
        let organizations = match kept.get("organizations")? {
            Value::String(all) if all == "*" => OrganizationScope::All,
            Value::Array(ids) => {
                let ids = ids.iter().map(|id| Some(Guid::parse(id.as_str()?).ok()?.into()));
                OrganizationScope::Only(ids.collect::<Option<_>>()?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return None,
        };
        let permissions = kept.get("permissions")?.as_array()?.iter();
        let settings = ApiKeySettings {
            name: name.into(),
            sha256: check::sha256_from_hex(kept.get("sha256")?.as_str()?)?,
            permissions: permissions.map(|word| Permission::named(word.as_str()?)).collect::<Option<_>>()?,
            organizations,
            expires: kept.get("expires").and_then(Value::as_i64).map(Timestamp::from_millis),
        };
        let created_at = Timestamp::from_millis(kept.get("createdAt")?.as_i64()?);
        Some(Self { settings, created_at, created_by: kept.get("createdBy")?.as_str()?.into() })
    }
}

/// Reads what the store of these settings holds.
pub type ReadStored<'a> = &'a dyn Fn(&Process) -> Result<Stored, NotRead>;

/// Why what is stored could not be read, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRead {
    /// What is there is of no use: a fault.
    Unusable(String),
    /// Nobody answers at the moment: whoever only looks at the configuration is warned.
    Unreachable(String),
}

/// Where each part of the configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// What the store holds.
    pub stored: Arc<Stored>,
    /// The file that each organization comes from, where it comes from one. It counts before the store's.
    pub provisioned: Arc<BTreeMap<OrganizationId, Box<str>>>,
    /// What organizations are checked against.
    pub(super) surroundings: Arc<Surroundings>,
}

impl Layers {
    /// The file that provides this organization, if one does.
    pub fn provisioned_from(&self, organization: &OrganizationId) -> Option<&str> {
        self.provisioned.get(organization).map(|file| &**file)
    }
}

/// What a change leaves of what the store holds.
#[derive(Debug)]
pub struct StoredChange {
    /// What the store holds now.
    pub stored: Stored,
    /// The organizations that are other than before: `None` means gone. One that a file provides is not among them.
    pub organizations: Vec<(OrganizationId, Option<Arc<Organization>>)>,
}

impl StoredChange {
    /// The whole configuration after the change.
    pub(super) fn applied_to(self, before: &Effective, generation: u64) -> Effective {
        let catalog = if self.organizations.is_empty() {
            before.catalog.at_generation(generation)
        } else {
            before.catalog.with(generation, self.organizations)
        };
        let keys_differ = self.stored.api_keys != before.layers.stored.api_keys;
        let credentials = if keys_differ {
            let stored_api_keys = self.stored.api_keys.values().map(|key| key.settings.clone()).collect();
            Arc::new(CredentialSettings { stored_api_keys, ..CredentialSettings::clone(&before.credentials) })
        } else {
            // The same one: whoever has proved itself under it need not do so again.
            Arc::clone(&before.credentials)
        };
        Effective {
            catalog: Arc::new(catalog),
            credentials,
            layers: Layers { stored: Arc::new(self.stored), ..before.layers.clone() },
            ..before.clone()
        }
    }
}

/// What becomes of what is effective when this is stored: every document that is other than before is checked as at a
/// start.
///
/// # Errors
/// What is stored does not go with the files, as the faults say.
pub(super) fn following(before: &Effective, stored: Stored) -> Result<StoredChange, Faults> {
    let known = &before.layers.stored.organizations;
    let counts = |id: &OrganizationId| before.layers.provisioned_from(id).is_none();
    let mut organizations = Vec::new();
    let mut faults: Vec<Fault> = Vec::new();
    for (id, document) in stored.organizations.iter().filter(|(id, _)| counts(id)) {
        if known.get(id) == Some(document) {
            continue;
        }
        match checked_alone(before, id, document) {
            Ok(organization) => organizations.push((*id, Some(Arc::new(organization)))),
            Err(found) => faults.extend(found.into_vec()),
        }
    }
    let gone = known.keys().filter(|id| counts(id) && !stored.organizations.contains_key(*id));
    organizations.extend(gone.map(|id| (*id, None)));
    faults.extend(of_names(before, &organizations));
    faults.extend(organizations.iter().filter(|(_, after)| after.is_none()).filter_map(|(id, _)| bound(before, id)));
    match Faults::of(faults) {
        Some(faults) => Err(faults),
        None => Ok(StoredChange { stored, organizations }),
    }
}

/// An organization that another gateway has stored.
fn checked_alone(before: &Effective, id: &OrganizationId, document: &Document) -> Result<Organization, Faults> {
    let report = Report::default();
    let name = format!("organization {id} in the store");
    let file = SourceFile::of_json(&name, document);
    let root = file.json_table(document);
    let table = Table::open(&root, file.at(0, &report), keys::ORGANIZATION_FILE);
    let organization = check::organization_alone(&table, &before.layers.surroundings);
    report.outcome()?;
    organization.filter(|organization| organization.id == *id).ok_or_else(|| incomplete(&name).into())
}

/// Unique names that two organizations would share, one of them maybe of a file.
fn of_names(before: &Effective, changes: &[(OrganizationId, Option<Arc<Organization>>)]) -> Vec<Fault> {
    let after = before.catalog.with(before.catalog.generation(), changes.iter().cloned());
    let stored = changes.iter().filter_map(|(_, organization)| organization.as_ref());
    let taken = stored.filter(|organization| {
        let mut same =
            after.organizations().filter(|one| one.unique_name.eq_ignore_ascii_case(&organization.unique_name));
        same.nth(1).is_some()
    });
    let fault = |organization: &Arc<Organization>| {
        let message = format!("the unique name `{}` is taken: another organization has it", organization.unique_name);
        let hint = "give the organization of this gateway's files another unique name, or take the file away";
        Fault::of_file(format!("organization {} in the store", organization.id), message, hint)
    };
    taken.map(fault).collect()
}

/// A credential of the files that names an organization which is gone from the store.
fn bound(before: &Effective, id: &OrganizationId) -> Option<Fault> {
    let credentials = &before.credentials;
    let of_keys = credentials.api_keys.iter().map(|key| (&key.name, &key.organizations));
    let of_issuers = credentials.issuers.iter().map(|issuer| (&issuer.name, &issuer.organizations));
    let names_it = |scope: &OrganizationScope| matches!(scope, OrganizationScope::Only(ids) if ids.contains(id));
    let (name, _) = of_keys.chain(of_issuers).find(|(_, scope)| names_it(scope))?;
    let message = format!("the credential `{name}` of the files is bound to this organization, which has been deleted");
    let hint = "take the organization out of the credential";
    Some(Fault::of_file(format!("organization {id} in the store"), message, hint))
}

/// Checks a document as if it stood in a file: with every check, and all faults at once, each with its pointer. `name` is
/// what messages call it.
///
/// # Errors
/// The faults.
pub fn check_document(
    effective: &Effective,
    name: &str,
    document: &Document,
) -> Result<(Organization, Vec<Fault>), Faults> {
    let report = Report::default();
    let file = SourceFile::of_json(name, document);
    let root = file.json_table(document);
    let table = Table::open(&root, file.at(0, &report), keys::ORGANIZATION_FILE);
    let organization = check::organization_alone(&table, &effective.layers.surroundings);
    if let Some(organization) = &organization {
        check_unique_name(effective, organization, &table);
    }
    let warnings = report.outcome()?;
    organization.map(|organization| (organization, warnings)).ok_or_else(|| incomplete(name).into())
}

/// It has faults that were told nowhere, which must not happen and must not be taken for none.
fn incomplete(name: &str) -> Fault {
    Fault::of_file(name, "is not complete", "")
}

/// Two organizations cannot share a unique name: it names them in host names and in credentials.
fn check_unique_name(effective: &Effective, organization: &Organization, table: &Table<'_>) {
    // Also those that stand behind a file under another name, and would come forward with this one.
    let in_store = |(id, document): (&OrganizationId, &Arc<Document>)| {
        let own = document.get("organization").and_then(|own| own.get("uniqueName")).and_then(Value::as_str);
        *id != organization.id && own.is_some_and(|own| own.eq_ignore_ascii_case(&organization.unique_name))
    };
    let named = effective.catalog.organization_named(&organization.unique_name);
    let is_taken = named.is_some_and(|other| other.id != organization.id)
        || effective.layers.stored.organizations.iter().any(in_store);
    if !is_taken {
        return;
    }
    if let Some(own) = table.table("organization", keys::ORGANIZATION) {
        own.place_of("unique_name").fault("`unique_name` is taken: another organization has it");
    }
}

/// What `POST /admin/v1/api-keys` asks for.
#[derive(Debug, Clone)]
pub struct ApiKeyRequest {
    /// What it is to be called.
    pub name: Arc<str>,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// For whom.
    pub organizations: OrganizationScope,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// Checks a request for an API key as if it stood in a file.
///
/// # Errors
/// The faults.
pub fn check_api_key(effective: &Effective, caller: &Caller, document: &Document) -> Result<ApiKeyRequest, Faults> {
    let report = Report::default();
    let file = SourceFile::of_json("the request", document);
    let root = file.json_table(document);
    let table = Table::open(&root, file.at(0, &report), keys::NEW_API_KEY);
    let request = check::api_key_request(&table, &effective.catalog, caller);
    report.outcome()?;
    request.ok_or_else(|| incomplete("the request").into())
}
