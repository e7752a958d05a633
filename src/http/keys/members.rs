//! A JSON object read strictly: a member that stands twice is a fault, not "the last one counts".
//!
//! Two readers that pick different ones of two `aud` members disagree about whom a token is for, so no token and no key
//! may hold any. The values stay raw until somebody asks for one with its type.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of one JSON object. Nested objects are not looked into.
#[derive(Debug)]
pub(super) struct Members<'a>(BTreeMap<String, &'a RawValue>);

/// A member is there, but not of the type asked for. An explicit `null` has no type that anything here wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongType;

impl<'a> Members<'a> {
    /// Reads a whole JSON text, which must be one object.
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(Distinct)?;
        reader.end()?;
        Ok(Self(members))
    }

    /// Whether the member is there, with whatever value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The member's value, if the member is there.
    pub(super) fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, WrongType> {
        let Some(raw) = self.0.get(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| WrongType)
    }

    /// The member's value; that it is missing is the same fault as a wrong type.
    pub(super) fn require<T: DeserializeOwned>(&self, name: &str) -> Result<T, WrongType> {
        self.get(name)?.ok_or(WrongType)
    }
}

/// The text behind base64url without padding, in its one canonical spelling.
pub(super) fn decode_text(encoded: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}

struct Distinct;

impl<'de> Visitor<'de> for Distinct {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with distinct members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value()?;
            match members.entry(name) {
                Entry::Vacant(free) => free.insert(value),
                Entry::Occupied(_) => return Err(A::Error::custom("a member stands twice")),
            };
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused_however_it_is_spelled() {
        for text in [r#"{"aud":1,"aud":1}"#, r#"{"aud":1,"\u0061ud":2}"#, r#"{"x":null,"y":1,"x":null}"#] {
            assert!(Members::parse(text).is_err(), "{text}");
        }
        assert!(Members::parse(r#"{"aud":1,"Aud":2}"#).is_ok());
    }

    #[test]
    fn only_one_whole_object_is_one() {
        for text in ["", "[]", "null", "\"x\"", "{}{}", "{} x", "{\"a\":}", "{\"a\":1,}", "\u{feff}{}"] {
            assert!(Members::parse(text).is_err(), "{text}");
        }
        assert!(Members::parse(" { \"a\" : [1, {\"b\": 2, \"b\": 3}] } ").is_ok());
    }

    #[test]
    fn values_have_the_type_that_is_asked_for() {
        let members = Members::parse(r#"{"n":5,"f":5.0,"e":1e3,"big":9223372036854775808,"s":"5","null":null}"#);
        let members = members.expect("is an object");
        assert_eq!(members.get::<i64>("n"), Ok(Some(5)));
        assert_eq!(members.get::<i64>("absent"), Ok(None));
        for name in ["f", "e", "big", "s", "null"] {
            assert_eq!(members.get::<i64>(name), Err(WrongType), "{name}");
        }
        assert_eq!(members.require::<String>("absent"), Err(WrongType));
        assert!(members.has("null") && !members.has("absent"));
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(decode_text("e30").as_deref(), Some("{}"));
        for other in ["e30=", "e31", " e30", "e30\n", "e3+", "/w"] {
            assert_eq!(decode_text(other), None, "{other:?}");
        }
    }
}
