//! The names things go by: GUIDs in every form that flows send them, logical names, queue names, receipt IDs.
//!
//! Each type has one canonical form and no public constructor but its parser, so whoever holds one need not check again.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A GUID in canonical form (lower case, hyphens).
///
/// Accepted forms (contract §1): `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` or 32 hex digits, in any case, bare or in
/// `{…}` or `%7b…%7d`, with blanks around. Nothing else, and in particular not `urn:uuid:…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(Uuid);

/// Why a text is not a GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a GUID (32 hex digits as 8-4-4-4-12, with or without hyphens or braces)")]
pub struct NotAGuid;

impl Guid {
    /// Reads any of the accepted forms.
    pub fn parse(text: &str) -> Result<Self, NotAGuid> {
        let text = text.trim_matches([' ', '\t', '\u{a0}']);
        let bare = strip_braces(text).ok_or(NotAGuid)?;
        // The length decides the form before `uuid` sees it: it would also take `urn:uuid:` and its own braces.
        match bare.len() {
            32 | 36 => Uuid::try_parse(bare).map(Self).map_err(|_| NotAGuid),
            _ => Err(NotAGuid),
        }
    }

    /// The sixteen bytes, most significant first (the order in which the text reads).
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The GUID of these sixteen bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

/// The text inside `{…}` or `%7b…%7d`, or the text itself where neither stands; `None` where they do not pair.
fn strip_braces(text: &str) -> Option<&str> {
    let opened = |open: &str| text.get(..open.len()).is_some_and(|start| start.eq_ignore_ascii_case(open));
    for (open, close) in [("{", "}"), ("%7b", "%7d")] {
        if opened(open) {
            let inner_end = text.len().checked_sub(close.len())?;
            let closes = text.get(inner_end..)?.eq_ignore_ascii_case(close);
            return if closes { text.get(open.len()..inner_end) } else { None };
        }
    }
    Some(text)
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = Uuid::encode_buffer();
        serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut buffer))
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(|fault| de::Error::custom(format_args!("`{}` {fault}", excerpt(&text))))
    }
}

/// The start of a text, short enough to stand in a message and without control characters.
pub fn excerpt(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let mut shown: String =
        text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

macro_rules! guid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Guid);

        impl $name {
            /// The GUID behind the name.
            pub const fn guid(&self) -> Guid {
                self.0
            }
        }

        impl From<Guid> for $name {
            fn from(guid: Guid) -> Self {
                Self(guid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

guid_newtype!(
    /// The tenant a record belongs to.
    OrganizationId
);
guid_newtype!(
    /// The work stream that captures and distributes a kind of work.
    WorkStreamId
);
guid_newtype!(
    /// "Records of this entity may enter this work stream": the entity configuration's own ID, which as a `recordId`
    /// makes a call the test operation (contract §1).
    EntityConfigurationId
);
guid_newtype!(
    /// The created record's primary key.
    RecordId
);

/// The logical name of an entity, an entity set or a relationship: `[a-z][a-z0-9_]*`, bounded in length.
///
/// Compared without regard to case, so it is kept in lower case; blanks around it are dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalName(Box<str>);

/// Why a text is not a logical name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotALogicalName {
    /// Nothing but blanks.
    #[error("is empty")]
    Empty,
    /// Longer than the limit.
    #[error("is longer than {limit_chars} characters")]
    TooLong {
        /// The most characters that this kind of name may have.
        limit_chars: usize,
    },
    /// A character outside the set.
    #[error("may hold only letters a-z, digits and underscores, and starts with a letter")]
    BadCharacter,
}

impl LogicalName {
    /// Longest entity logical name or entity set name (contract §1: `[a-z][a-z0-9_]{0,127}`).
    pub const LIMIT_CHARS: usize = 128;
    /// What a relationship's name ends with where nobody renamed it.
    pub const RELATIONSHIP_SUFFIX: &'static str = "_msdyn_ocliveworkitems";
    /// Longest relationship name: the longest logical name with the usual suffix.
    pub const RELATIONSHIP_LIMIT_CHARS: usize = Self::LIMIT_CHARS + Self::RELATIONSHIP_SUFFIX.len();

    /// Reads an entity's logical name or entity set name.
    pub fn parse(text: &str) -> Result<Self, NotALogicalName> {
        Self::parse_up_to(text, Self::LIMIT_CHARS)
    }

    /// Reads a relationship's name, which may be longer by the usual suffix.
    pub fn parse_relationship(text: &str) -> Result<Self, NotALogicalName> {
        Self::parse_up_to(text, Self::RELATIONSHIP_LIMIT_CHARS)
    }

    fn parse_up_to(text: &str, limit_chars: usize) -> Result<Self, NotALogicalName> {
        let text = text.trim_matches([' ', '\t', '\u{a0}']);
        let Some(first) = text.bytes().next() else { return Err(NotALogicalName::Empty) };
        if text.len() > limit_chars {
            return Err(NotALogicalName::TooLong { limit_chars });
        }
        // ASCII only, byte by byte: the Kelvin sign and the dotless i must not fold into k and i.
        let all_allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !first.is_ascii_alphabetic() || !all_allowed {
            return Err(NotALogicalName::BadCharacter);
        }
        Ok(Self(text.to_ascii_lowercase().into_boxed_str()))
    }

    /// The relationship between this entity and its work items where nobody named another (Microsoft's schema name
    /// rule: `<logical name>_msdyn_ocliveworkitems`).
    pub fn default_relationship(&self) -> Self {
        Self(format!("{}{}", self.0, Self::RELATIONSHIP_SUFFIX).into_boxed_str())
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogicalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LogicalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for LogicalName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The name of an organization's queue: 1 to 64 visible characters, compared exactly.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(std::sync::Arc<str>);

/// Why a text is not a queue name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters without control characters")]
pub struct NotAQueueName;

impl QueueName {
    /// Longest queue name, in characters.
    pub const LIMIT_CHARS: usize = 64;

    /// Reads a queue's name; blanks around it are dropped.
    pub fn parse(text: &str) -> Result<Self, NotAQueueName> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars == 0 || chars > Self::LIMIT_CHARS || text.chars().any(char::is_control) {
            return Err(NotAQueueName);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for QueueName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $fault:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 24]);

        #[doc = concat!("Why a text is not ", $noun, ".")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error("is not {} (32 letters, digits, hyphens and underscores)", $noun)]
        pub struct $fault;

        impl $name {
            /// The ID of these bytes.
            pub const fn from_bytes(bytes: [u8; 24]) -> Self {
                Self(bytes)
            }

            /// The bytes behind the text.
            pub const fn as_bytes(&self) -> &[u8; 24] {
                &self.0
            }

            /// Reads the text of an ID.
            pub fn parse(text: &str) -> Result<Self, $fault> {
                let mut bytes = [0; 24];
                match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                    Ok(24) if text.len() == 32 => Ok(Self(bytes)),
                    Ok(_) | Err(_) => Err($fault),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

opaque_id!(
    /// What a 202 hands out: 24 bytes, written as 32 URL-safe base64 characters.
    ///
    /// It is unguessable (128 random bits) and still leads a store straight to its record; how is the store's own affair
    /// (`store::receipt_id`).
    ReceiptId, "a receipt ID", NotAReceiptId
);
opaque_id!(
    /// A subscription: somebody who is told of the records that reach a queue. 24 random bytes, so that it cannot be
    /// guessed.
    SubscriptionId, "a subscription ID", NotASubscriptionId
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CANONICAL: &str = "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5";

    #[test]
    fn every_form_that_flows_send_becomes_the_canonical_one() {
        for form in [
            CANONICAL,
            "5E1F0C9A-7B2D-EA11-A810-000D3A3BE0A5",
            "{5E1F0C9A-7B2D-EA11-A810-000D3A3BE0A5}",
            "%7b5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5%7d",
            "%7B5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5%7D",
            "5e1f0c9a7b2dea11a810000d3a3be0a5",
            "{5e1f0c9a7b2dea11a810000d3a3be0a5}",
            "  5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5\t",
        ] {
            assert_eq!(Guid::parse(form).map(|guid| guid.to_string()), Ok(CANONICAL.to_owned()), "{form}");
        }
    }

    #[test]
    fn nothing_else_is_a_guid() {
        for form in [
            "",
            "{}",
            "%7b%7d",
            "urn:uuid:5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5",
            "{5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5",
            "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5}",
            "%7b5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5}",
            "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a",
            "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a55",
            "5e1f0c9a-7b2d-ea11-a810-000d3a3be0ag",
            "5e1f0c9a-7b2dea11-a810-000d3a3be0a5-",
            "\u{ff10}e1f0c9a-7b2d-ea11-a810-000d3a3be0a5",
            "5e1f0c9a-7b2d-ea11-\u{200b}a810-000d3a3be0a5",
            "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5\n",
            "{{5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5}}",
        ] {
            assert_eq!(Guid::parse(form), Err(NotAGuid), "{form:?}");
        }
    }

    #[test]
    fn logical_names_are_trimmed_and_lowered() {
        assert_eq!(LogicalName::parse(" Incident ").map(|name| name.to_string()), Ok("incident".to_owned()));
        assert_eq!(LogicalName::parse("\u{212a}elvin"), Err(NotALogicalName::BadCharacter));
        assert_eq!(LogicalName::parse("1a"), Err(NotALogicalName::BadCharacter));
        assert_eq!(LogicalName::parse("  "), Err(NotALogicalName::Empty));
        assert!(LogicalName::parse(&"a".repeat(128)).is_ok());
        assert_eq!(LogicalName::parse(&"a".repeat(129)), Err(NotALogicalName::TooLong { limit_chars: 128 }));
    }

    proptest! {
        #[test]
        fn guid_parsing_never_panics_and_is_idempotent(text in "\\PC{0,48}") {
            if let Ok(guid) = Guid::parse(&text) {
                prop_assert_eq!(Guid::parse(&guid.to_string()), Ok(guid));
            }
        }

        #[test]
        fn receipt_ids_round_trip(bytes in proptest::array::uniform24(any::<u8>())) {
            let id = ReceiptId::from_bytes(bytes);
            prop_assert_eq!(ReceiptId::parse(&id.to_string()), Ok(id));
        }

        #[test]
        fn logical_name_parsing_never_panics(text in "\\PC{0,200}") {
            if let Ok(name) = LogicalName::parse(&text) {
                prop_assert_eq!(LogicalName::parse(name.as_str()), Ok(name));
            }
        }
    }
}
