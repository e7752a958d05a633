//! Documents as wholes, and the small changes inside them: creating and patching resources, filling in what nobody has
//! to say.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::address::{Address, Collection, Identity};
use super::{Checked, Draft, EditError, Editor, Submitted, Tag, difference, entry, without_added};
use crate::config::stored::{Document, generated_name};
use crate::config::{Effective, Fault, view};
use crate::domain::access::{Caller, OrganizationScope};
use crate::domain::ids::{Guid, OrganizationId};
use crate::store::catalog::{Action, Difference};

/// An organization's whole document that somebody wants to be effective.
#[derive(Debug, Clone)]
pub struct DocumentEdit<'a> {
    /// Who.
    pub who: &'a Caller,
    /// Whose.
    pub organization: OrganizationId,
    /// The document.
    pub document: Document,
    /// Only if the organization is still this one.
    pub if_match: Option<Tag>,
    /// Refuse where there is one already.
    pub only_create: bool,
    /// Only say what would change.
    pub dry_run: bool,
}

/// What a document did, or would do.
#[derive(Debug)]
pub struct DocumentEdited {
    /// What is effective now.
    pub effective: Arc<Effective>,
    /// Whether the organization is new.
    pub created: bool,
    /// Whether it was taken in behind a file that says the same.
    pub shadowed: bool,
    /// What works and should be looked at.
    pub warnings: Vec<Fault>,
    /// What is other than before.
    pub differences: Vec<Difference>,
}

impl Editor {
    /// Makes an organization be exactly what a document says, or creates it. Blocks on the disk.
    ///
    /// # Errors
    /// [`EditError`]; nothing has changed then.
    pub fn put_document(&self, edit: DocumentEdit<'_>) -> Result<DocumentEdited, EditError> {
        let (effective, done) = self.change(|before, generation| {
            let DocumentEdit { who, organization: id, mut document, if_match, only_create, dry_run } = edit.clone();
            let present = before.catalog.organization(&id);
            let view = present.map(|organization| Value::Object(view::document(organization)));
            if only_create && present.is_some() {
                return Err(EditError::Exists { noun: "organization", identity: id.to_string() });
            }
            if if_match.is_some_and(|tag| !view.as_ref().is_some_and(|view| tag.matches(view))) {
                return Err(EditError::PreconditionFailed);
            }
            let own = document.entry("organization").or_insert_with(|| json!({}));
            if let Some(own) = own.as_object_mut() {
                own.entry("id").or_insert_with(|| id.to_string().into());
            }
            let named = own.get("id").and_then(Value::as_str).and_then(|id| Guid::parse(id).ok());
            if named.is_some_and(|named| OrganizationId::from(named) != id) {
                let reason = "the document is of another organization than the path says";
                return Err(EditError::Locked { field: "id", reason });
            }
            complete(&mut document)?;
            let draft = Draft { before, who, id, document, submitted: Submitted::default() };
            let Checked { organization, warnings, differences } = draft.checked()?;
            if organization.id != id {
                let reason = "the document is of another organization than the path says";
                return Err(EditError::Locked { field: "id", reason });
            }
            let file = before.layers.provisioned_from(&id);
            // Taking an organization into the store is making one there, which is not for its own administrators.
            let is_other = !differences.is_empty() || who.organizations != OrganizationScope::All;
            if let Some(file) = file.filter(|_| is_other) {
                return Err(EditError::Provisioned(file.to_owned()));
            }
            let done = (present.is_none(), file.is_some(), warnings, differences);
            let stored = before.layers.stored.organizations.get(&id);
            let nothing_new = stored.is_some_and(|stored| **stored == draft.document);
            if dry_run || nothing_new {
                return Ok((None, done));
            }
            let action = if present.is_some() { Action::Replace } else { Action::Create };
            let audit = entry(who, Some(id), action, ("document".to_owned(), generation, &done.3));
            let change = self.commit(before, (id, Some((draft.document, organization))), audit)?;
            Ok((Some(change), done))
        })?;
        let (created, shadowed, warnings, differences) = done;
        Ok(DocumentEdited { effective, created, shadowed, warnings, differences })
    }

    /// Takes an organization out of the store. Its records stay. Blocks on the disk.
    ///
    /// # Errors
    /// [`EditError`]; nothing has changed then.
    pub fn delete_organization(
        &self,
        who: &Caller,
        id: OrganizationId,
        if_match: Option<Tag>,
        stored_copy: bool,
    ) -> Result<Arc<Effective>, EditError> {
        let (effective, ()) = self.change(|before, generation| {
            let present = before.catalog.organization(&id).ok_or(EditError::Unknown("organization"))?;
            let view = view::document(present);
            let own = Address::organization().find(&view).cloned().unwrap_or_default();
            if if_match.as_ref().is_some_and(|tag| !tag.matches(&own)) {
                return Err(EditError::PreconditionFailed);
            }
            match before.layers.provisioned_from(&id) {
                Some(file) if !stored_copy => return Err(EditError::Provisioned(file.to_owned())),
                None if stored_copy => {
                    let detail = "No file provides the organization: this would delete it, and not a copy of it.";
                    return Err(EditError::InUse(detail.to_owned()));
                }
                Some(_) | None => {}
            }
            if !before.layers.stored.organizations.contains_key(&id) {
                return Err(EditError::Unknown("organization in the store"));
            }
            let goes = before.layers.provisioned_from(&id).is_none();
            if let Some(credential) = bound_to(before, &id).filter(|_| goes) {
                let detail =
                    format!("The credential `{credential}` in the configuration files is bound to the organization.");
                return Err(EditError::InUse(detail));
            }
            let differences = if goes { difference::between(Some(&view), None) } else { Vec::new() };
            let audit = entry(who, Some(id), Action::Delete, ("organization".to_owned(), generation, &differences));
            let change = self.commit(before, (id, None), audit)?;
            Ok((Some(change), ()))
        })?;
        Ok(effective)
    }
}

/// A credential of the files that names this organization: without it, the files would have a fault.
pub(super) fn bound_to(effective: &Effective, id: &OrganizationId) -> Option<Arc<str>> {
    let credentials = &effective.credentials;
    let keys = credentials.api_keys.iter().map(|key| (&key.name, &key.organizations));
    let issuers = credentials.issuers.iter().map(|issuer| (&issuer.name, &issuer.organizations));
    let mut bound =
        keys.chain(issuers).filter(|(_, scope)| matches!(scope, OrganizationScope::Only(ids) if ids.contains(id)));
    bound.next().map(|(name, _)| Arc::clone(name))
}

/// Puts a new resource into a list. Answers as [`super::apply`].
pub(super) fn create(
    document: &mut Document,
    parent: &Address,
    (collection, resource): (Collection, Document),
    position: Option<usize>,
) -> Result<(Address, Submitted), EditError> {
    let mut resource = without_added(resource);
    let identity = identity(collection, &mut resource)?;
    let address = parent.clone().then(collection, identity.clone());
    let exists = |identity: String| EditError::Exists { noun: collection.noun(), identity };
    if address.find(document).is_some() {
        return Err(exists(identity.to_string()));
    }
    let pointer = parent.list_pointer(collection, document).ok_or_else(|| EditError::Unknown(parent.noun()))?;
    let is_default = collection == Collection::Queues && resource.get("default") == Some(&Value::Bool(true));
    let list = parent.list_mut(collection, document).ok_or_else(|| EditError::Unknown(parent.noun()))?;
    let entity = resource.get("entityLogicalName").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let same_entity = |other: &&Value| {
        let name = other.get("entityLogicalName").and_then(Value::as_str).map(str::to_ascii_lowercase);
        name.is_some() && name == entity
    };
    if let (Collection::Entities, Some(other)) = (collection, list.iter().find(same_entity)) {
        let id = other.get("id").and_then(Value::as_str).unwrap_or_default();
        return Err(exists(format!("{} ({id})", entity.unwrap_or_default())));
    }
    let at = position.unwrap_or(list.len()).min(list.len());
    list.insert(at, Value::Object(resource));
    if is_default {
        make_default(list, at);
    }
    complete(document)?;
    Ok((address, Submitted { at: format!("{pointer}/{at}"), shown_at: "" }))
}

/// What will tell the resource apart, made where it is not given. Where it is given and of no use, the checks say so.
fn identity(collection: Collection, resource: &mut Document) -> Result<Identity, EditError> {
    if collection.has_ids() {
        give_id(resource)?;
        let id = resource.get("id").and_then(Value::as_str).map(Guid::parse);
        // Where it is no GUID the checks will say so; until then it is the same as no other.
        return Ok(id.and_then(Result::ok).map_or_else(|| Identity::Name(String::new()), Identity::Guid));
    }
    if collection == Collection::ContextVariables {
        name_variable(resource);
    }
    let name = resource.get("name").and_then(Value::as_str).unwrap_or_default();
    Ok(Identity::Name(name.trim().to_owned()))
}

fn name_variable(variable: &mut Map<String, Value>) {
    if variable.get("name").is_none_or(Value::is_null)
        && let Some(display_name) = variable.get("displayName").and_then(Value::as_str)
    {
        let name = generated_name(display_name);
        if !name.is_empty() {
            variable.insert("name".to_owned(), name.into());
        }
    }
}

/// A random GUID (RFC 9562, version 4).
pub fn new_guid() -> Result<Guid, EditError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(Guid::from_bytes(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes()))
}

/// Fills in what nobody has to say: IDs, the names of context variables, the default queue.
pub(super) fn complete(document: &mut Document) -> Result<(), EditError> {
    let queues = document.entry("queues").or_insert(Value::Null);
    if queues.is_null() || queues.as_array().is_some_and(Vec::is_empty) {
        // As in a file without queues: there is always one that takes what no rule sends elsewhere.
        *queues = json!([{ "name": DEFAULT_QUEUE, "default": true }]);
    }
    for work_stream in members(document.get_mut("workStreams")) {
        give_id(work_stream)?;
        for entity in members(work_stream.get_mut("entities")) {
            give_id(entity)?;
        }
        members(work_stream.get_mut("contextVariables")).for_each(name_variable);
    }
    Ok(())
}

/// What the queue is called that is there where nobody configured one.
const DEFAULT_QUEUE: &str = "Default queue";

fn give_id(resource: &mut Map<String, Value>) -> Result<(), EditError> {
    if resource.get("id").is_none_or(Value::is_null) {
        resource.insert("id".to_owned(), new_guid()?.to_string().into());
    }
    Ok(())
}

/// The objects in a list, if it is one.
fn members(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    list.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn make_default(queues: &mut [Value], default: usize) {
    for (at, queue) in queues.iter_mut().enumerate() {
        if let Some(queue) = queue.as_object_mut().filter(|_| at != default) {
            queue.remove("default");
        }
    }
}

/// Applies a merge patch to a resource. Answers where it is then: a rule may get another name.
pub(super) fn patch(document: &mut Document, address: Address, patch: Document) -> Result<Address, EditError> {
    let patch = without_added(patch);
    let becomes_default = patch.get("default") == Some(&Value::Bool(true));
    let resource = address.find_mut(document).ok_or_else(|| EditError::Unknown(address.noun()))?;
    let is_rule = address.last().is_some_and(|(collection, _)| *collection == Collection::Rules);
    let new_name = patch.get("name").and_then(Value::as_str).filter(|_| is_rule).map(|name| name.trim().to_owned());
    if !is_rule {
        keep_identity(resource, &patch)?;
    }
    if let Some(members) = resource.as_object_mut().filter(|_| patch.contains_key("when")) {
        // A condition is one value: half of one and half of another would be none.
        members.remove("when");
    }
    merge(resource, Value::Object(patch));
    if becomes_default && let Some((list, at)) = address.place_mut(document) {
        make_default(list, at);
    }
    complete(document)?;
    Ok(new_name.into_iter().fold(address, Address::renamed))
}

/// A patch may repeat what tells the resource apart, and not change it. What has an ID may change its name.
fn keep_identity(resource: &Value, patch: &Document) -> Result<(), EditError> {
    let field = if resource.get("id").is_some() { "id" } else { "name" };
    let guid = |value: &Value| value.as_str().and_then(|text| Guid::parse(text).ok());
    let same = match (patch.get(field), resource.get(field)) {
        (None, _) => true,
        (Some(given), Some(present)) => given == present || (guid(given).is_some() && guid(given) == guid(present)),
        (Some(_), None) => false,
    };
    if same {
        return Ok(());
    }
    let reason = "what tells a resource apart stays, since records and other resources refer to it";
    Err(EditError::Locked { field, reason })
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}
