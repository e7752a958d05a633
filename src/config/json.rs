//! JSON documents, read as if they were TOML: one set of checks for what stands in files and for what is submitted to a
//! running gateway.
//!
//! The names in JSON are those of the files in camelCase. A value's place is not a line but a pointer (RFC 6901) into
//! what was submitted; `null` is the same as leaving the member out.

use std::borrow::Cow;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys;
use crate::domain::ids::excerpt;

/// Longer than any name of a member that is known.
const LONGEST_NAME_BYTES: usize = 256;

/// What leads from a value to one of its parts.
#[derive(Debug, Clone)]
enum Segment {
    Member(Box<str>),
    Element(usize),
}

/// Every value of a document, each knowing which value it is a part of.
///
/// Pointers are put together only where there is a fault: a document without faults pays for none.
#[derive(Debug, Default)]
pub(super) struct Pointers(Vec<(usize, Segment)>);

impl Pointers {
    /// The name of the member of this number, as it is written, shortened.
    pub(super) fn member(&self, number: usize) -> Option<String> {
        match number.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some((_, Segment::Member(name))) => Some(excerpt(name)),
            Some((_, Segment::Element(_))) | None => None,
        }
    }

    /// The pointer to the value of this number; the whole document has number 0. A name that is too long to be one is
    /// shortened.
    pub(super) fn pointer(&self, mut number: usize) -> String {
        let mut segments = Vec::new();
        while let Some((parent, segment)) = number.checked_sub(1).and_then(|at| self.0.get(at)) {
            segments.push(match segment {
                Segment::Member(name) if name.len() > LONGEST_NAME_BYTES => excerpt(name),
                Segment::Member(name) => name.replace('~', "~0").replace('/', "~1"),
                Segment::Element(at) => at.to_string(),
            });
            number = *parent;
        }
        segments.iter().rev().flat_map(|segment| ["/", segment]).collect()
    }

    fn note(&mut self, parent: usize, segment: Segment) -> usize {
        self.0.push((parent, segment));
        self.0.len()
    }
}

/// The numbers of a document as text, one a line, in the order in which [`table`] comes by them: TOML's numbers borrow
/// their digits, and JSON's have none to lend.
pub(super) fn digits(document: &serde_json::Map<String, Value>) -> String {
    let mut digits = String::new();
    document.values().for_each(|value| collect_digits(value, &mut digits));
    digits
}

fn collect_digits(value: &Value, digits: &mut String) {
    match value {
        Value::Number(number) => {
            digits.push_str(&number.to_string());
            digits.push('\n');
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect_digits(element, digits)),
        Value::Object(object) => object.values().for_each(|value| collect_digits(value, digits)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// A document as a table whose places are numbers of the pointers. `digits` are [`digits`] of the same document.
pub(super) fn table<'v>(document: &'v serde_json::Map<String, Value>, digits: &'v str) -> (DeTable<'v>, Pointers) {
    let mut reading = Reading { digits: digits.lines(), pointers: Pointers::default() };
    let table = reading.table(document, 0);
    (table, reading.pointers)
}

struct Reading<'v> {
    digits: std::str::Lines<'v>,
    pointers: Pointers,
}

impl<'v> Reading<'v> {
    fn table(&mut self, object: &'v serde_json::Map<String, Value>, at: usize) -> DeTable<'v> {
        let mut table = DeTable::new();
        for (name, value) in object {
            let number = self.pointers.note(at, Segment::Member(name.as_str().into()));
            // JSON's names are in camelCase. One in snake case must not pass for the key that it looks like: whoever changes
            // the document looks for the other.
            let key = if name.contains('_') { Cow::Owned(format!("{name} (as JSON)")) } else { snake_case(name) };
            if let Some(value) = self.value(value, number) {
                table.insert(Spanned::new(number..number, key), Spanned::new(number..number, value));
            }
        }
        table
    }

    fn value(&mut self, value: &'v Value, at: usize) -> Option<DeValue<'v>> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(boolean) => DeValue::Boolean(*boolean),
            Value::String(text) => DeValue::String(Cow::Borrowed(text)),
            Value::Number(_) => scalar(self.digits.next().unwrap_or_default()),
            Value::Object(object) => DeValue::Table(self.table(object, at)),
            Value::Array(elements) => {
                let mut array = DeArray::new();
                for (index, element) in elements.iter().enumerate() {
                    let number = self.pointers.note(at, Segment::Element(index));
                    // A `null` is no element of any list here; as an empty table it is told as one.
                    let value = self.value(element, number).unwrap_or_else(|| DeValue::Table(DeTable::new()));
                    array.push(Spanned::new(number..number, value));
                }
                DeValue::Array(array)
            }
        })
    }
}

/// A JSON number is a TOML number too.
fn scalar(digits: &str) -> DeValue<'_> {
    DeValue::parse(digits).map_or_else(|_| DeValue::String(Cow::Borrowed(digits)), Spanned::into_inner)
}

/// `entitySetName` → `entity_set_name`. What is in snake case stays so.
pub fn snake_case(name: &str) -> Cow<'_, str> {
    if !name.contains(|c: char| c.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    Cow::Owned(snake)
}

/// `entity_set_name` → `entitySetName`.
pub fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        camel.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(chars.as_str());
    }
    camel
}

/// A message about a file as one about JSON: the keys and tables that it names become their JSON names. What it quotes
/// from the document stays, unless it is spelt exactly as a key.
pub(super) fn in_json_words(message: &str) -> String {
    let parts = message.split('`').enumerate().map(|(at, part)| {
        let quoted = at % 2 == 1;
        if quoted && keys::is_key(part) { camel_case(part) } else { part.to_owned() }
    });
    let text = parts.collect::<Vec<_>>().join("`");
    let mut words = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, name, after)) = next_table(rest) {
        words.push_str(before);
        words.push('`');
        words.push_str(&name.split('.').map(camel_case).collect::<Vec<_>>().join("."));
        words.push('`');
        rest = after;
    }
    words + rest
}

/// As [`in_json_words`], for hints, which list keys without quotes.
pub(super) fn hint_in_json_words(hint: &str) -> String {
    let words = hint.split(' ').map(|word| {
        let bare = word.trim_end_matches([',', ';', '.', ':']);
        if keys::is_key(bare) { word.replacen(bare, &camel_case(bare), 1) } else { word.to_owned() }
    });
    in_json_words(&words.collect::<Vec<_>>().join(" "))
}

/// The way back: a message about JSON as one about a file. What it quotes from the document stays, unless it is spelt
/// exactly as a member.
pub(super) fn in_file_words(message: &str) -> String {
    let parts = message.split('`').enumerate().map(|(at, part)| {
        let names_members = at % 2 == 1 && part.split('.').all(|word| keys::is_key(&snake_case(word)));
        if names_members { snake_case(part).into_owned() } else { part.to_owned() }
    });
    parts.collect::<Vec<_>>().join("`")
}

/// As [`in_file_words`], for hints.
pub(super) fn hint_in_file_words(hint: &str) -> String {
    let words = hint.split(' ').map(|word| {
        let bare = word.trim_end_matches([',', ';', '.', ':']);
        let snake = snake_case(bare);
        if keys::is_key(&snake) { word.replacen(bare, &snake, 1) } else { word.to_owned() }
    });
    in_file_words(&words.collect::<Vec<_>>().join(" "))
}

/// The next `[[table]]` or `[table]` of the files that a message names.
fn next_table(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find('[')?;
    let (before, opened) = text.split_at(start);
    let (inner, after) = opened.split_once(']')?;
    let name = inner.trim_start_matches('[');
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'));
    is_name.then(|| (before, name, after.strip_prefix(']').unwrap_or(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_their_case_and_back() {
        for (snake, camel) in [
            ("id", "id"),
            ("entity_set_name", "entitySetName"),
            ("auto_close_after_inactivity_minutes", "autoCloseAfterInactivityMinutes"),
        ] {
            assert_eq!(camel_case(snake), camel);
            assert_eq!(snake_case(camel), snake);
            assert_eq!(snake_case(snake), snake);
        }
    }

    #[test]
    fn every_value_has_its_pointer() {
        let document = serde_json::json!({ "a/b": [ {}, { "c~d": 1 } ], "n": null });
        let (table, pointers) = table(document.as_object().expect("an object"), "1");
        assert!(table.get("n").is_none());
        let array = table.get("a/b").expect("there").get_ref().as_array().expect("an array");
        let inner = array[1].get_ref().as_table().expect("a table").get("c~d").expect("there");
        assert_eq!(pointers.pointer(inner.span().start), "/a~1b/1/c~0d");
        assert_eq!(pointers.pointer(0), "");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let document = serde_json::json!({ "a": 98.60000000000001, "b": u64::MAX, "c": 1e300, "d": -7 });
        let object = document.as_object().expect("an object");
        let digits = digits(object);
        let (table, _) = table(object, &digits);
        let text = |key: &str| {
            let value = table.get(key).expect("there").get_ref();
            let integer = value.as_integer().map(ToString::to_string);
            integer.or_else(|| value.as_float().map(ToString::to_string)).expect("a number")
        };
        assert_eq!(text("a"), "98.60000000000001");
        assert_eq!(text("b"), "18446744073709551615");
        assert_eq!(text("c"), "1e+300");
        assert_eq!(text("d"), "-7");
    }

    #[test]
    fn hints_list_members() {
        assert_eq!(hint_in_json_words("possible: id, stream_source, entities"), "possible: id, streamSource, entities");
        assert_eq!(hint_in_json_words("did you mean `entity_set_name`?"), "did you mean `entitySetName`?");
    }

    #[test]
    fn messages_speak_of_members() {
        assert_eq!(
            in_json_words("`entity_set_name` is missing in [[work_streams.entities]]: `new_inspection`"),
            "`entitySetName` is missing in `workStreams.entities`: `new_inspection`"
        );
        assert_eq!(in_json_words("write it in brackets: [\"contoso\"]"), "write it in brackets: [\"contoso\"]");
        assert_eq!(
            in_file_words("`entitySetName` is missing in `workStreams.entities`: `newInspection`"),
            "`entity_set_name` is missing in `work_streams.entities`: `newInspection`"
        );
        assert_eq!(hint_in_file_words("possible: id, streamSource, entities"), "possible: id, stream_source, entities");
    }
}
