//! JSON from people: as strict as TOML is.
//!
//! A member that is given twice is refused and not decided about: whoever wrote it meant one of the two, and a change of
//! configuration is no place to guess. A number that would be rounded is refused too: a rule would then compare with
//! another number than the one that stands there.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::domain::ids::excerpt;
use crate::domain::rules::literal::Literal;

/// Why a text is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotStrict {
    /// It is no JSON, or has a member twice.
    #[error("is not valid JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// It has a number that would be rounded.
    #[error("has the number `{}`, of more digits than are kept; in quotes it is text", excerpt(.0))]
    Rounded(String),
}

/// Reads a JSON text.
///
/// # Errors
/// [`NotStrict`], to be put behind a name.
pub fn parse(text: &[u8]) -> Result<Value, NotStrict> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    match inexact_number(text) {
        None => Ok(value),
        Some(number) => Err(NotStrict::Rounded(number.to_owned())),
    }
}

/// The first number in a JSON text that would be rounded.
fn inexact_number(text: &[u8]) -> Option<&str> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(&inside) = text.get(at).filter(|inside| **inside != b'"') {
                    at += if inside == b'\\' { 2 } else { 1 };
                }
            }
            b'-' | b'0'..=b'9' => {
                let rest = text.get(at..).unwrap_or_default();
                let in_numbers = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
                let length = rest.iter().take_while(|byte| in_numbers(byte)).count();
                let number = rest.get(..length).and_then(|number| std::str::from_utf8(number).ok())?;
                if let Ok(read) = serde_json::from_str::<Number>(number) {
                    // The canonical forms of what is written and of what was read.
                    let (written, kept) = (Literal::number(number), Literal::number(&read.to_string()));
                    if written.is_err() || written != kept {
                        return Some(number);
                    }
                }
                at += length;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Any JSON value, with members that stand twice refused.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(Self)? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self)?;
            if object.contains_key(&name) {
                let shown = excerpt(&name);
                return Err(de::Error::custom(format_args!("the member `{shown}` is given twice")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        parse(text.as_bytes()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_stands_once_is_read_as_it_is() {
        for text in [r#"{"a":[1,-2,98.60000000000001,null,true,"x",{"b":18446744073709551615}]}"#, "[]", "0"] {
            assert_eq!(read(text), Ok(serde_json::from_str(text).expect("JSON")));
        }
    }

    #[test]
    fn numbers_that_would_be_rounded_are_found() {
        for inexact in [
            "18446744073709551616",
            "922337203685477.5807",
            "0.1234567890123456789",
            "9007199254740993.0",
            "-9223372036854775809",
            "1e-400",
        ] {
            assert_eq!(inexact_number(format!("{{\"a\":[1,{inexact}]}}").as_bytes()), Some(inexact));
            let told = read(inexact).expect_err(inexact);
            assert!(told.contains(inexact) && told.contains("digits"), "{told}");
        }
        for exact in ["18446744073709551615", "98.60000000000001", "1e3", "-7", "0", "0.1", "1.50"] {
            assert_eq!(inexact_number(format!("[{exact}]").as_bytes()), None, "{exact}");
        }
        assert_eq!(inexact_number(br#"{"a\"18446744073709551616":"18446744073709551616"}"#), None);
        assert_eq!(inexact_number(b"\"\\"), None);
    }

    #[test]
    fn what_stands_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"\u0061":3}]}"#] {
            assert!(read(text).expect_err(text).contains("`a` is given twice"));
        }
        assert!(read(&"[".repeat(100_000)).is_err());
    }
}
