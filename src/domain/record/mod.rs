//! What a flow posts: the seven inputs of the operation, read from JSON into types that cannot be wrong.
//!
//! The names are contract §1's: camelCase, PascalCase, and `liveWorkStreamId`. A property given twice under any of its
//! names is refused, unknown properties are ignored, and the record details stay the bytes they were.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::ids::{Guid, LogicalName, OrganizationId, RecordId, WorkStreamId, excerpt};
use super::json::{self, BadShape};

/// One of the seven inputs, under its canonical name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// The tenant.
    OrganizationId,
    /// The work stream.
    WorkStreamId,
    /// Which kind of record.
    EntityLogicalName,
    /// The name of the kind's collection.
    EntitySetName,
    /// The record's primary key.
    RecordId,
    /// The relationship between the record and its work items.
    RelationshipName,
    /// The created row.
    RecordDetails,
}

impl Property {
    /// All seven, in the order of the contract.
    pub const ALL: [Self; 7] = [
        Self::OrganizationId,
        Self::WorkStreamId,
        Self::EntityLogicalName,
        Self::EntitySetName,
        Self::RecordId,
        Self::RelationshipName,
        Self::RecordDetails,
    ];

    /// The canonical name, as the contract and every answer write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrganizationId => "organizationId",
            Self::WorkStreamId => "workStreamId",
            Self::EntityLogicalName => "entityLogicalName",
            Self::EntitySetName => "entitySetName",
            Self::RecordId => "recordId",
            Self::RelationshipName => "relationshipName",
            Self::RecordDetails => "recordDetails",
        }
    }

    /// The property that goes by this name on input.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "organizationId" | "OrganizationId" => Self::OrganizationId,
            "workStreamId" | "WorkStreamId" | "liveWorkStreamId" | "LiveWorkStreamId" => Self::WorkStreamId,
            "entityLogicalName" | "EntityLogicalName" => Self::EntityLogicalName,
            "entitySetName" | "EntitySetName" => Self::EntitySetName,
            "recordId" | "RecordId" => Self::RecordId,
            "relationshipName" | "RelationshipName" => Self::RelationshipName,
            "recordDetails" | "RecordDetails" => Self::RecordDetails,
            _ => return None,
        })
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a body is not a record-created event: the 400 of contract §2, naming the property where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// The property at fault, or `None` where it is the body as a whole.
    pub property: Option<Property>,
    /// What is wrong, as a sentence that starts with the subject.
    pub message: String,
    /// What the property should have held.
    pub expected: Option<&'static str>,
}

impl Malformed {
    fn body(message: impl Into<String>) -> Self {
        Self { property: None, message: message.into(), expected: None }
    }

    fn property(property: Property, fault: impl fmt::Display, expected: &'static str) -> Self {
        Self { property: Some(property), message: format!("`{property}` {fault}."), expected: Some(expected) }
    }
}

const A_GUID: &str = "a GUID such as 5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5";
const A_NAME: &str = "a name such as incident: letters a-z, digits and underscores, starting with a letter";
const AN_OBJECT: &str = "the created record as a JSON object, or a string that holds one JSON object";

/// The created row: one JSON object, byte for byte as it came (for a string that held it: the string's content).
#[derive(Clone, PartialEq, Eq)]
pub struct RecordDetails(Bytes);

impl RecordDetails {
    /// The JSON text.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Takes back bytes that a store kept, which were details when it kept them.
    pub fn stored(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The JSON text as text. Details were text when they were read; should a store ever hand back something else,
    /// this is `None`.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    fn is_empty_object(&self) -> bool {
        matches!(self.0.as_ref(), [b'{', inner @ .., b'}'] if inner.iter().all(u8::is_ascii_whitespace))
    }
}

impl fmt::Debug for RecordDetails {
    /// Never the content: it is the customer's data and has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordDetails({} bytes)", self.0.len())
    }
}

/// A record-created event: what a flow said, well formed, but not yet checked against any configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordCreated {
    /// The tenant.
    pub organization: OrganizationId,
    /// The work stream.
    pub work_stream: WorkStreamId,
    /// Which kind of record.
    pub entity_logical_name: LogicalName,
    /// The name of the kind's collection.
    pub entity_set_name: LogicalName,
    /// The record's primary key, or the entity configuration's ID in the test operation.
    pub record_id: RecordId,
    /// The relationship between the record and its work items.
    pub relationship_name: LogicalName,
    /// The created row; absent or empty only in the test operation.
    pub details: Option<RecordDetails>,
}

impl RecordCreated {
    /// Reads a request body.
    ///
    /// # Errors
    /// [`Malformed`] names the first property at fault, in the contract's order, and what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|fault| {
            Malformed::body(format!("The body is not UTF-8: byte {} is no part of a character.", fault.valid_up_to()))
        })?;
        let slots = Slots::read(text)?;
        json::check_shape(text, 0).map_err(|fault| Malformed::body(format!("The body {fault}.")))?;

        // In the contract's order, so that the first fault is the one that is told.
        let organization = slots.guid(Property::OrganizationId)?.into();
        let work_stream = slots.guid(Property::WorkStreamId)?.into();
        let entity_logical_name = slots.logical_name(Property::EntityLogicalName)?;
        let entity_set_name = slots.logical_name(Property::EntitySetName)?;
        let record_id = slots.guid(Property::RecordId)?.into();
        let relationship_name = match slots.optional_string(Property::RelationshipName)? {
            None => entity_logical_name.default_relationship(),
            Some(text) if text.trim().is_empty() => entity_logical_name.default_relationship(),
            Some(text) => LogicalName::parse_relationship(&text)
                .map_err(|fault| Malformed::property(Property::RelationshipName, fault, A_NAME))?,
        };
        let details = slots.details()?;
        Ok(Self {
            organization,
            work_stream,
            entity_logical_name,
            entity_set_name,
            record_id,
            relationship_name,
            details,
        })
    }

    /// The details that a real record, as opposed to the test operation, must bring: present, and of the record that
    /// `recordId` names where they say which one they are of (contract §1: `recordDetails["<logical name>id"]` or
    /// `ItemInternalId`, when those are GUIDs).
    ///
    /// # Errors
    /// [`Malformed`] names `recordDetails` where they are missing or empty, `recordId` where the two disagree.
    pub fn details_of_record(&self) -> Result<&RecordDetails, Malformed> {
        let details = self
            .details
            .as_ref()
            .filter(|details| !details.is_empty_object())
            .ok_or_else(|| Malformed::property(Property::RecordDetails, "is missing or empty", AN_OBJECT))?;
        let primary_key = format!("{}id", self.entity_logical_name);
        let mut disagreement = None;
        let looked = each_member(details.as_text().unwrap_or_default(), |key, value| {
            if key != primary_key && key != "ItemInternalId" {
                return;
            }
            let stated =
                serde_json::from_str::<Text<'_>>(value.get()).ok().and_then(|Text(text)| Guid::parse(&text).ok());
            if let Some(stated) = stated.filter(|stated| *stated != self.record_id.guid()) {
                disagreement.get_or_insert_with(|| {
                    let fault = format!("is {}, but `recordDetails.{key}` is {stated}", self.record_id);
                    Malformed::property(Property::RecordId, fault, "the ID of the record in `recordDetails`")
                });
            }
        });
        looked.map_err(|fault| {
            Malformed::property(Property::RecordDetails, format!("cannot be read: {fault}"), AN_OBJECT)
        })?;
        disagreement.map_or(Ok(details), Err)
    }
}

/// Calls `visit` with each member of the JSON object in `text`, in order, duplicates included.
///
/// # Errors
/// When `text` is not one JSON object.
pub fn each_member<'a>(text: &'a str, visit: impl FnMut(&str, &'a RawValue)) -> Result<(), serde_json::Error> {
    struct Members<F>(F);
    impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Text(key)) = map.next_key()? {
                (self.0)(&key, map.next_value()?);
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Members(visit))?;
    deserializer.end()
}

/// A string, borrowed from the input where it holds no escape.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The raw value of each property, still unread.
#[derive(Default)]
struct Slots<'a>([Option<&'a RawValue>; 7]);

impl<'a> Slots<'a> {
    /// One pass over the body: which property has which raw value.
    fn read(text: &'a str) -> Result<Self, Malformed> {
        // A derived struct would take a positional array as well; only an object names its properties.
        match text.trim_start_matches([' ', '\t', '\r', '\n']).bytes().next() {
            Some(b'{') => {}
            None => return Err(Malformed::body("The body is empty; it must be a JSON object.")),
            Some(_) if text.starts_with('\u{feff}') => {
                return Err(Malformed::body("The body starts with a byte order mark; send plain UTF-8."));
            }
            Some(_) => return Err(Malformed::body("The body must be a JSON object.")),
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut twice = None;
        let slots = deserializer
            .deserialize_map(SlotsVisitor { twice: &mut twice })
            .and_then(|slots| deserializer.end().map(|()| slots))
            .map_err(|fault| {
                Malformed::body(format!(
                    "The body is not valid JSON: {} (line {}, column {}).",
                    syntax_fault(&fault),
                    fault.line(),
                    fault.column()
                ))
            })?;
        match twice {
            None => Ok(slots),
            Some(property) => Err(Malformed::property(property, "is given more than once", "one value")),
        }
    }

    fn slot(&self, property: Property) -> Option<&'a RawValue> {
        self.0.get(property as usize).copied().flatten().filter(|raw| raw.get() != "null")
    }

    fn optional_string(&self, property: Property) -> Result<Option<Cow<'a, str>>, Malformed> {
        let Some(raw) = self.slot(property) else { return Ok(None) };
        match serde_json::from_str::<Text<'a>>(raw.get()) {
            Ok(Text(text)) => Ok(Some(text)),
            Err(_) => {
                let fault = format!("must be a string, not {}", json::type_name(raw.get()));
                Err(Malformed::property(property, fault, "a string"))
            }
        }
    }

    fn string(&self, property: Property, expected: &'static str) -> Result<Cow<'a, str>, Malformed> {
        self.optional_string(property)?.ok_or_else(|| Malformed::property(property, "is missing", expected))
    }

    fn guid(&self, property: Property) -> Result<Guid, Malformed> {
        let text = self.string(property, A_GUID)?;
        Guid::parse(&text)
            .map_err(|fault| Malformed::property(property, format!("`{}` {fault}", excerpt(&text)), A_GUID))
    }

    fn logical_name(&self, property: Property) -> Result<LogicalName, Malformed> {
        let text = self.string(property, A_NAME)?;
        LogicalName::parse(&text)
            .map_err(|fault| Malformed::property(property, format!("`{}` {fault}", excerpt(&text)), A_NAME))
    }

    /// An object as it stands, or the object inside a string, read once and never twice (contract §1).
    fn details(&self) -> Result<Option<RecordDetails>, Malformed> {
        const PROPERTY: Property = Property::RecordDetails;
        let Some(raw) = self.slot(PROPERTY) else { return Ok(None) };
        match raw.get().as_bytes().first() {
            Some(b'{') => Ok(Some(RecordDetails(Bytes::copy_from_slice(raw.get().as_bytes())))),
            Some(b'"') => {
                let text = self.string(PROPERTY, AN_OBJECT)?;
                if text.trim().is_empty() {
                    return Ok(None);
                }
                details_in_string(&text).map(Some)
            }
            Some(_) | None => {
                let fault = format!("must be an object, not {}", json::type_name(raw.get()));
                Err(Malformed::property(PROPERTY, fault, AN_OBJECT))
            }
        }
    }
}

/// The one JSON object that a string holds.
fn details_in_string(text: &str) -> Result<RecordDetails, Malformed> {
    let malformed = |fault: String| Malformed::property(Property::RecordDetails, fault, AN_OBJECT);
    let inner: &RawValue = serde_json::from_str(text)
        .map_err(|fault| malformed(format!("is a string that does not hold valid JSON: {}", syntax_fault(&fault))))?;
    if !inner.get().starts_with('{') {
        return Err(malformed(format!("is a string that holds {}, not an object", json::type_name(inner.get()))));
    }
    // The string stands where the object would have stood: one level inside the body.
    json::check_shape(inner.get(), 1).map_err(|fault: BadShape| malformed(fault.to_string()))?;
    Ok(RecordDetails(Bytes::copy_from_slice(inner.get().as_bytes())))
}

/// A parser's complaint without its own position suffix, which would name a line of a text that the caller cannot see.
fn syntax_fault(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

struct SlotsVisitor<'t> {
    /// The first property that came twice.
    twice: &'t mut Option<Property>,
}

impl<'de> Visitor<'de> for SlotsVisitor<'_> {
    type Value = Slots<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Slots<'de>, A::Error> {
        let mut slots = Slots::default();
        while let Some(Text(key)) = map.next_key()? {
            let Some(property) = Property::named(&key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw = map.next_value::<&'de RawValue>()?;
            if let Some(slot) = slots.0.get_mut(property as usize) {
                if slot.is_some() {
                    self.twice.get_or_insert(property);
                }
                *slot = Some(raw);
            }
        }
        Ok(slots)
    }
}

#[cfg(test)]
mod tests;
