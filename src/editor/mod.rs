//! Changes of what is configured, made while the gateway runs: from what somebody asks for to what is durable, effective
//! and written into the trail, in this order and as a whole.
//!
//! Every change is a change of one organization's document. The changed document passes the same checks as a file; then
//! it is committed to the store; then it is effective. Changes stand in line, so each sees all of those before it.
//! Where another gateway was faster, what it stored is made effective first and the change is made again on that: so no
//! change is lost, and `If-Match` is held to what is stored. Readers never wait for one. What a file provides is not changed here: the file is the truth of it.
//!
//! Who may ask for a change, and how it is asked for, is the administration's business.

pub mod address;
mod difference;
mod documents;
mod keeping;
mod keys;
mod locks;
mod tag;

use std::sync::Arc;

use serde_json::{Map, Value};

use self::address::{Address, Collection};
use crate::config::keeper::NotFollowed;
use crate::config::stored::{Document, Layers, Stored, StoredChange, check_document};
use crate::config::{Effective, Fault, Live, view};
use crate::domain::access::Caller;
use crate::domain::catalog::{Organization, State};
use crate::domain::ids::OrganizationId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::{Action, Advance, AuditEntry, CatalogChange, CatalogStore, Difference};

pub use self::documents::{DocumentEdit, DocumentEdited, new_guid};
pub use self::keeping::keeper;
pub use self::keys::{KeyMade, NewKey};
pub use self::tag::Tag;

/// Makes changes.
#[derive(Clone)]
pub struct Editor {
    live: Arc<Live>,
    store: Arc<dyn CatalogStore>,
}

/// Something that somebody wants changed.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    /// Who.
    pub who: &'a Caller,
    /// Whose configuration: one that the caller may know of.
    pub organization: OrganizationId,
    /// What: the resource, or for a new one the resource that it becomes a part of.
    pub address: Address,
    /// Only if the resource is still this one.
    pub if_match: Option<Tag>,
    /// How.
    pub kind: EditKind,
}

/// A kind of change.
#[derive(Debug, Clone)]
pub enum EditKind {
    /// A new resource in a list of the addressed one.
    Create {
        /// The list.
        collection: Collection,
        /// The resource.
        resource: Document,
        /// Its place in the list, from 0; at the end unless given.
        position: Option<usize>,
    },
    /// A JSON merge patch (RFC 7396).
    Patch(Document),
    /// It goes.
    Delete,
    /// It takes part, or not.
    SetState(State),
    /// Another place in its list, from 0.
    Move(usize),
    /// A whole list of the addressed resource.
    ReplaceList(Collection, Vec<Value>),
}

impl EditKind {
    const fn action(&self) -> Action {
        match self {
            Self::Create { .. } => Action::Create,
            Self::Patch(_) => Action::Change,
            Self::Delete => Action::Delete,
            Self::SetState(State::Active) => Action::Activate,
            Self::SetState(State::Inactive) => Action::Deactivate,
            Self::Move(_) => Action::Move,
            Self::ReplaceList(..) => Action::Replace,
        }
    }
}

/// A change that was made.
#[derive(Debug)]
pub struct Edited {
    /// What is effective now.
    pub effective: Arc<Effective>,
    /// The resource; of a deleted one, where it was.
    pub address: Address,
    /// What works and should be looked at.
    pub warnings: Vec<Fault>,
    /// What is other than before.
    pub differences: Vec<Difference>,
}

/// Why a change was not made. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no such resource.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// There is one already.
    #[error("there is a {noun} `{identity}` already")]
    Exists {
        /// What it is.
        noun: &'static str,
        /// What tells it apart.
        identity: String,
    },
    /// It comes from a file.
    #[error("it is provisioned from {0}")]
    Provisioned(String),
    /// The field keeps the value that it was created with.
    #[error("`{field}` is locked: {reason}")]
    Locked {
        /// Which one.
        field: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The default queue stays.
    #[error("`{0}` is the default queue")]
    DefaultQueue(String),
    /// Something else needs it.
    #[error("{0}")]
    InUse(String),
    /// There would be too much of it.
    #[error("{0}")]
    TooLarge(String),
    /// Somebody else was faster.
    #[error("it is not what `If-Match` says it is")]
    PreconditionFailed,
    /// What was submitted has faults, each with a pointer into it; those without one concern other resources.
    #[error("{} faults", .0.len())]
    Invalid(Vec<Fault>),
    /// What another gateway has stored does not go with the files of this one, so nothing can be changed here.
    #[error(transparent)]
    Behind(#[from] NotFollowed),
    /// The change could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random bits.
    #[error("the operating system gives no random bits")]
    Random(#[from] getrandom::Error),
}

/// A document that is about to take the place of another.
struct Draft<'a> {
    before: &'a Effective,
    who: &'a Caller,
    id: OrganizationId,
    document: Document,
    submitted: Submitted,
}

/// Which part of a document somebody submitted, for the pointers of faults.
#[derive(Debug, Default)]
struct Submitted {
    /// Where it stands in the document.
    at: String,
    /// Where it stands in what was submitted.
    shown_at: &'static str,
}

/// A checked draft.
struct Checked {
    organization: Organization,
    warnings: Vec<Fault>,
    differences: Vec<Difference>,
}

/// How often a change is made again because other gateways were faster: each time one of them got its change through.
const MOST_ATTEMPTS: u32 = 50;

impl Editor {
    /// An editor of what is effective here and kept there.
    pub fn new(live: Arc<Live>, store: Arc<dyn CatalogStore>) -> Self {
        Self { live, store }
    }

    /// The store, for reading the trail.
    pub fn store(&self) -> &Arc<dyn CatalogStore> {
        &self.store
    }

    /// Makes a change. Blocks on the disk.
    ///
    /// # Errors
    /// [`EditError`]; nothing has changed then.
    pub fn edit(&self, edit: Edit<'_>) -> Result<Edited, EditError> {
        let (effective, (address, warnings, differences)) = self.change(|before, generation| {
            let Edit { who, organization: id, address, if_match, kind } = edit.clone();
            let organization = before.catalog.organization(&id).ok_or(EditError::Unknown("organization"))?;
            let stored = own_document(&before.layers, &id)?;
            let mut document = Document::clone(&stored);
            let view = view::document(organization);
            let present = address.find(&view).ok_or_else(|| EditError::Unknown(address.noun()))?;
            if if_match.is_some_and(|tag| !tag.matches(present)) {
                return Err(EditError::PreconditionFailed);
            }
            let action = kind.action();
            let (address, submitted) = apply(&mut document, address, kind)?;
            let draft = Draft { before, who, id, document, submitted };
            let Checked { organization, warnings, differences } = draft.checked()?;
            // A value that is said although it is the default is a difference too: it stays when the default changes.
            if draft.document == *stored {
                return Ok((None, (address, warnings, differences)));
            }
            let audit = entry(who, Some(id), action, (address.to_string(), generation, &differences));
            let change = self.commit(before, (id, Some((draft.document, organization))), audit)?;
            Ok((Some(change), (address, warnings, differences)))
        })?;
        Ok(Edited { effective, address, warnings, differences })
    }

    /// What a list of rules would make of the organization, without making it so.
    ///
    /// # Errors
    /// As for [`Editor::edit`] with [`EditKind::ReplaceList`].
    pub fn draft_rules(
        &self,
        before: &Effective,
        who: &Caller,
        (id, address): (OrganizationId, &Address),
        rules: Vec<Value>,
    ) -> Result<(Organization, Vec<Fault>), EditError> {
        let organization = before.catalog.organization(&id).ok_or(EditError::Unknown("organization"))?;
        // A file's organization can be drafted on too: nothing is written.
        let mut document = view::document(organization);
        let kind = EditKind::ReplaceList(Collection::Rules, rules);
        let (_, submitted) = apply(&mut document, address.clone(), kind)?;
        let submitted = Submitted { shown_at: "/rules", ..submitted };
        let Checked { organization, warnings, .. } = Draft { before, who, id, document, submitted }.checked()?;
        Ok((organization, warnings))
    }

    /// Writes something into the trail that changed no configuration.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub fn note(
        &self,
        who: &Caller,
        organization: Option<OrganizationId>,
        (action, resource): (Action, String),
        differences: &[Difference],
    ) -> Result<(), StoreError> {
        let audit = entry(who, organization, action, (resource, self.live.current().catalog.generation(), differences));
        self.store.commit(&CatalogChange { advance: None, organizations: Vec::new(), api_keys: Vec::new(), audit })
    }

    /// Makes a change effective, on what other gateways have stored where they were faster.
    fn change<T>(
        &self,
        decide: impl Fn(&Effective, u64) -> Result<(Option<StoredChange>, T), EditError>,
    ) -> Result<(Arc<Effective>, T), EditError> {
        for attempt in 0..MOST_ATTEMPTS {
            match self.live.change(&decide) {
                Err(EditError::Store(StoreError::Changed)) => {
                    keeping::give_way(attempt);
                    self.live.follow()?;
                }
                done => return done,
            }
        }
        Err(StoreError::Changed.into())
    }

    /// Makes an organization's change durable, and says what it leaves.
    fn commit(
        &self,
        before: &Effective,
        (id, after): (OrganizationId, Option<(Document, Organization)>),
        audit: AuditEntry,
    ) -> Result<StoredChange, EditError> {
        let (document, organization) =
            after.map(|(document, organization)| (Arc::new(document), Arc::new(organization))).unzip();
        let generation = audit.generation;
        self.store.commit(&CatalogChange {
            advance: Some(Advance { from: before.layers.stored.generation, to: generation }),
            organizations: vec![(id, document.clone())],
            api_keys: Vec::new(),
            audit,
        })?;
        let mut stored = Stored { generation, ..Stored::clone(&before.layers.stored) };
        match document {
            Some(document) => stored.organizations.insert(id, document),
            None => stored.organizations.remove(&id),
        };
        // What a file provides goes on as the file says.
        let effective = before.layers.provisioned_from(&id).is_none();
        let organizations = if effective { vec![(id, organization)] } else { Vec::new() };
        Ok(StoredChange { stored, organizations })
    }
}

impl Draft<'_> {
    /// Runs every check on the draft.
    fn checked(&self) -> Result<Checked, EditError> {
        let name = format!("organization {}", self.id);
        let present = self.before.catalog.organization(&self.id);
        locks::check_document(self.who, present.map(Arc::as_ref), &self.document)?;
        let (organization, warnings) = check_document(self.before, &name, &self.document)
            .map_err(|faults| EditError::Invalid(self.relative(faults.into_vec())))?;
        locks::check(self.who, present.map(Arc::as_ref), &organization)?;
        locks::check_bound(self.before, present.map(Arc::as_ref), &organization)?;
        locks::check_size(&self.document)?;
        let before = present.map(|organization| view::document(organization));
        let differences = difference::between(before.as_ref(), Some(&view::document(&organization)));
        Ok(Checked { organization, warnings: self.relative(warnings), differences })
    }

    /// Faults with pointers into what was submitted. A fault elsewhere in the document says where in words.
    fn relative(&self, faults: Vec<Fault>) -> Vec<Fault> {
        let Submitted { at, shown_at } = &self.submitted;
        let inside = |pointer: &str| {
            let rest = pointer.strip_prefix(at.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{shown_at}{rest}"))
        };
        let relative =
            faults.into_iter().map(|fault| match fault.pointer.as_deref().map(|pointer| (pointer, inside(pointer))) {
                None => fault,
                Some((_, Some(pointer))) => Fault { pointer: Some(pointer), ..fault },
                Some((elsewhere, None)) => {
                    let message = format!("at {elsewhere} of the organization's document: {}", fault.message);
                    Fault { pointer: None, message, ..fault }
                }
            });
        relative.collect()
    }
}

/// What the store holds of an organization, which is what can be changed.
fn own_document(layers: &Layers, id: &OrganizationId) -> Result<Arc<Document>, EditError> {
    if let Some(file) = layers.provisioned_from(id) {
        return Err(EditError::Provisioned(file.to_owned()));
    }
    layers.stored.organizations.get(id).cloned().ok_or(EditError::Unknown("organization"))
}

/// The trail's entry.
fn entry(
    who: &Caller,
    organization: Option<OrganizationId>,
    action: Action,
    (resource, generation, differences): (String, u64, &[Difference]),
) -> AuditEntry {
    AuditEntry {
        at: Timestamp::now(),
        credential: Arc::clone(&who.credential),
        organization,
        action,
        resource,
        generation,
        differences: difference::shortened(differences),
    }
}

/// Makes the change in the document, which is checked afterwards. Answers where the resource is then, and which part of
/// the document was submitted.
fn apply(document: &mut Document, address: Address, kind: EditKind) -> Result<(Address, Submitted), EditError> {
    let unknown = || EditError::Unknown(address.noun());
    match kind {
        EditKind::Create { collection, resource, position } => {
            return documents::create(document, &address, (collection, resource), position);
        }
        EditKind::ReplaceList(collection, elements) => {
            let at = address.list_pointer(collection, document).ok_or_else(unknown)?;
            // What is no resource stays as it is, and the checks will say so.
            let elements = elements.into_iter().map(|mut element| {
                if let Some(members) = element.as_object_mut() {
                    ADDED_MEMBERS.iter().for_each(|added| drop(members.remove(*added)));
                }
                element
            });
            *address.list_mut(collection, document).ok_or_else(unknown)? = elements.collect();
            documents::complete(document)?;
            return Ok((address, Submitted { at, shown_at: "/value" }));
        }
        EditKind::Patch(patch) => {
            let at = address.pointer(document).ok_or_else(unknown)?;
            let address = documents::patch(document, address, patch)?;
            return Ok((address, Submitted { at, shown_at: "" }));
        }
        EditKind::SetState(state) => {
            let resource = address.find_mut(document).and_then(Value::as_object_mut).ok_or_else(unknown)?;
            resource.insert("state".to_owned(), if state.is_active() { "active" } else { "inactive" }.into());
        }
        EditKind::Delete => {
            let (list, at) = address.place_mut(document).ok_or_else(unknown)?;
            let gone = list.remove(at);
            if let Some((Collection::Queues, identity)) = address.last()
                && gone.get("default") == Some(&Value::Bool(true))
            {
                return Err(EditError::DefaultQueue(identity.to_string()));
            }
        }
        EditKind::Move(position) => {
            let (list, at) = address.place_mut(document).ok_or_else(unknown)?;
            let moved = list.remove(at);
            list.insert(position.min(list.len()), moved);
        }
    }
    // Nothing that could be at fault was submitted: every fault is told with its place in the document.
    Ok((address, Submitted { at: "/-".to_owned(), shown_at: "" }))
}

/// Members that answers add to a resource, and that are no part of it when they come back.
const ADDED_MEMBERS: [&str; 6] =
    ["organizationId", "workStreamId", "entityConfigurationId", "provisionedFrom", "catalogGeneration", "warnings"];

/// A submitted resource without what answers add.
fn without_added(mut resource: Map<String, Value>) -> Map<String, Value> {
    ADDED_MEMBERS.iter().for_each(|added| drop(resource.remove(*added)));
    resource
}

#[cfg(test)]
mod tests;
