//! Where a resource stands in an organization's document, and how to find it there.

use serde_json::Value;

use crate::config::stored::Document;
use crate::domain::ids::{EntityConfigurationId, Guid, WorkStreamId};

/// What tells the elements of a list apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Their `id`.
    Guid(Guid),
    /// Their `name`.
    Name(String),
}

impl Identity {
    fn is_of(&self, element: &Value) -> bool {
        match self {
            Self::Guid(guid) => {
                element.get("id").and_then(Value::as_str).and_then(|id| Guid::parse(id).ok()) == Some(*guid)
            }
            Self::Name(name) => element.get("name").and_then(Value::as_str).map(str::trim) == Some(name),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Guid(guid) => guid.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A list of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// The queues of an organization.
    Queues,
    /// Its work streams.
    WorkStreams,
    /// The context variables of a work stream.
    ContextVariables,
    /// Its entity configurations.
    Entities,
    /// The routing rules of a work stream or an entity configuration.
    Rules,
}

impl Collection {
    /// Its member in a document.
    pub const fn member(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::WorkStreams => "workStreams",
            Self::ContextVariables => "contextVariables",
            Self::Entities => "entities",
            Self::Rules => "rules",
        }
    }

    /// One of its resources, for people.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Queues => "queue",
            Self::WorkStreams => "work stream",
            Self::ContextVariables => "context variable",
            Self::Entities => "entity configuration",
            Self::Rules => "routing rule",
        }
    }

    /// Whether a resource is known by its `id`; otherwise by its `name`.
    pub const fn has_ids(self) -> bool {
        matches!(self, Self::WorkStreams | Self::Entities)
    }
}

/// Where a resource stands in its organization's document. The organization's own resource has no steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address(Vec<(Collection, Identity)>);

impl Address {
    /// The organization's own resource.
    pub const fn organization() -> Self {
        Self(Vec::new())
    }

    /// A work stream.
    pub fn work_stream(id: WorkStreamId) -> Self {
        Self::organization().then(Collection::WorkStreams, Identity::Guid(id.guid()))
    }

    /// An entity configuration of this work stream.
    pub fn entity(self, id: EntityConfigurationId) -> Self {
        self.then(Collection::Entities, Identity::Guid(id.guid()))
    }

    /// Something in a list of this resource.
    #[must_use]
    pub fn then(mut self, collection: Collection, identity: Identity) -> Self {
        self.0.push((collection, identity));
        self
    }

    /// The last step: which list, and what in it.
    pub fn last(&self) -> Option<&(Collection, Identity)> {
        self.0.last()
    }

    /// The work stream that it is, or is a part of.
    pub fn in_work_stream(&self) -> Option<WorkStreamId> {
        match self.0.first() {
            Some((Collection::WorkStreams, Identity::Guid(id))) => Some((*id).into()),
            Some(_) | None => None,
        }
    }

    /// What it is a part of, besides the organization.
    pub fn parents(&self) -> &[(Collection, Identity)] {
        self.0.split_last().map_or(&[], |(_, parents)| parents)
    }

    /// What people call it.
    pub fn noun(&self) -> &'static str {
        self.last().map_or("organization", |(collection, _)| collection.noun())
    }

    /// The resource in a document.
    pub fn find<'d>(&self, document: &'d Document) -> Option<&'d Value> {
        let Some(((first, identity), rest)) = self.0.split_first() else { return document.get("organization") };
        let mut found = element(document.get(first.member())?, identity)?;
        for (collection, identity) in rest {
            found = element(found.get(collection.member())?, identity)?;
        }
        Some(found)
    }

    /// The resource in a document, to be changed.
    pub fn find_mut<'d>(&self, document: &'d mut Document) -> Option<&'d mut Value> {
        let Some(((first, identity), rest)) = self.0.split_first() else { return document.get_mut("organization") };
        let mut found = element_mut(document.get_mut(first.member())?, identity)?;
        for (collection, identity) in rest {
            found = element_mut(found.get_mut(collection.member())?, identity)?;
        }
        Some(found)
    }

    /// A list of this resource, made if it is not there.
    pub fn list_mut<'d>(&self, collection: Collection, document: &'d mut Document) -> Option<&'d mut Vec<Value>> {
        let members = if self.0.is_empty() { document } else { self.find_mut(document)?.as_object_mut()? };
        let list = members.entry(collection.member()).or_insert_with(|| Value::Array(Vec::new()));
        if list.is_null() {
            *list = Value::Array(Vec::new());
        }
        list.as_array_mut()
    }

    /// The list that this resource is in, and its place there.
    pub fn place_mut<'d>(&self, document: &'d mut Document) -> Option<(&'d mut Vec<Value>, usize)> {
        let ((collection, identity), parents) = self.0.split_last()?;
        let list = Self(parents.to_vec()).list_mut(*collection, document)?;
        let at = list.iter().position(|element| identity.is_of(element))?;
        Some((list, at))
    }

    /// The pointer (RFC 6901) to a list of this resource, in a document that has the resource.
    pub fn list_pointer(&self, collection: Collection, document: &Document) -> Option<String> {
        let parent = if self.0.is_empty() { String::new() } else { self.pointer(document)? };
        Some(format!("{parent}/{}", collection.member()))
    }

    /// The same place under another name.
    #[must_use]
    pub fn renamed(mut self, name: String) -> Self {
        if let Some((_, identity)) = self.0.last_mut() {
            *identity = Identity::Name(name);
        }
        self
    }

    /// The pointer (RFC 6901) to this resource in a document that has it.
    pub fn pointer(&self, document: &Document) -> Option<String> {
        let Some(((first, identity), rest)) = self.0.split_first() else { return Some("/organization".to_owned()) };
        let mut list = document.get(first.member())?.as_array()?;
        let mut at = list.iter().position(|element| identity.is_of(element))?;
        let mut pointer = format!("/{}/{at}", first.member());
        for (collection, identity) in rest {
            list = list.get(at)?.get(collection.member())?.as_array()?;
            at = list.iter().position(|element| identity.is_of(element))?;
            pointer.push_str(&format!("/{}/{at}", collection.member()));
        }
        Some(pointer)
    }
}

impl std::fmt::Display for Address {
    /// As differences write it: members and identities, joined by slashes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("organization");
        }
        for (at, (collection, identity)) in self.0.iter().enumerate() {
            let slash = if at == 0 { "" } else { "/" };
            write!(f, "{slash}{}/{identity}", collection.member())?;
        }
        Ok(())
    }
}

fn element<'d>(list: &'d Value, identity: &Identity) -> Option<&'d Value> {
    list.as_array()?.iter().find(|element| identity.is_of(element))
}

fn element_mut<'d>(list: &'d mut Value, identity: &Identity) -> Option<&'d mut Value> {
    list.as_array_mut()?.iter_mut().find(|element| identity.is_of(element))
}
