//! A file in the form of `organizations/*.toml`, to be submitted to a running gateway: as the JSON document that its
//! administration takes, with the place of every value, so that what the gateway says about a pointer can be said about
//! a line.
//!
//! Here a file is only read. Whether it is sound is the gateway's to say, against its own settings. What JSON could not
//! carry exactly is a fault already here: otherwise another value would arrive than the one that stands in the file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Faults, Report};
use super::json::{camel_case, hint_in_file_words, in_file_words, snake_case};
use super::source::{Place, SourceFile};
use super::stored::Document;
use crate::domain::ids::excerpt;
use crate::domain::rules::literal::Literal;

/// A file, and what it says.
#[derive(Debug)]
pub struct Submission {
    file: SourceFile,
    document: Document,
    /// Where in the file the value of each pointer (RFC 6901) stands.
    places: BTreeMap<String, usize>,
}

impl Submission {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that keeps it from being a document, with its place.
    pub fn read(path: &Path) -> Result<Self, Faults> {
        let report = Report::default();
        match SourceFile::read(path, &report) {
            Some(file) => Self::of(file, report),
            None => Err(faults_of(report, &path.display().to_string())),
        }
    }

    /// Takes these bytes for the content of a file of this name.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Faults> {
        let report = Report::default();
        match SourceFile::from_bytes(name.to_owned(), bytes, &report) {
            Some(file) => Self::of(file, report),
            None => Err(faults_of(report, name)),
        }
    }

    fn of(file: SourceFile, report: Report) -> Result<Self, Faults> {
        let mut places = BTreeMap::new();
        let document = file.parse(&report).map(|root| {
            let mut reading = Reading { places: &mut places, at: file.at(0, &report) };
            reading.table(root.get_ref(), "")
        });
        match (report.outcome(), document) {
            (Ok(_), Some(document)) => Ok(Self { file, document, places }),
            (Ok(_), None) => Err(Fault::of_file(file.name, "cannot be read", "").into()),
            (Err(faults), _) => Err(faults),
        }
    }

    /// The file, as it was named.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// What the file says, in JSON.
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// What a gateway found at a pointer into [`Self::document`], as a fault of the file. A pointer to what is not there
    /// becomes the place of what it is not in.
    pub fn fault(&self, pointer: Option<&str>, message: &str, hint: Option<&str>) -> Fault {
        // There `entityLogicalName` is a value, and no key.
        let speaks_of_keys = !pointer.is_some_and(|pointer| pointer.ends_with("/record"));
        let fault = Fault {
            message: if speaks_of_keys { in_file_words(message) } else { message.to_owned() },
            hint: hint.map(|hint| if speaks_of_keys { hint_in_file_words(hint) } else { hint.to_owned() }),
            ..Fault::of_file(self.name(), "", "")
        };
        let Some(mut pointer) = pointer else { return fault };
        loop {
            if let Some(offset) = self.places.get(pointer) {
                let (line, column) = self.file.position(*offset);
                return Fault { line, column, ..fault };
            }
            match pointer.rfind('/') {
                Some(at) => pointer = &pointer[..at],
                None => return Fault { line: 1, column: 1, ..fault },
            }
        }
    }
}

/// The faults of a reading that failed.
fn faults_of(report: Report, name: &str) -> Faults {
    report.outcome().err().unwrap_or_else(|| Fault::of_file(name, "cannot be read", "").into())
}

struct Reading<'r> {
    places: &'r mut BTreeMap<String, usize>,
    at: Place<'r>,
}

impl Reading<'_> {
    fn table(&mut self, table: &DeTable<'_>, pointer: &str) -> Document {
        let mut object = Map::new();
        for (key, value) in table {
            let word = key.get_ref().as_ref();
            let member = camel_case(word);
            if snake_case(&member) != word {
                let place = self.at.moved_to(key.span().start);
                place.hinted(
                    format!("unknown key `{}`", excerpt(word)),
                    format!("did you mean `{}`?", excerpt(&snake_case(word))),
                );
                continue;
            }
            let pointer = format!("{pointer}/{}", member.replace('~', "~0").replace('/', "~1"));
            self.places.insert(pointer.clone(), value.span().start);
            let place = self.at.moved_to(value.span().start);
            if let Some(value) = self.value(value.get_ref(), &pointer, place) {
                object.insert(member, value);
            }
        }
        object
    }

    /// The value in JSON; `None` after a fault.
    fn value(&mut self, value: &DeValue<'_>, pointer: &str, place: Place<'_>) -> Option<Value> {
        Some(match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(boolean) => Value::Bool(*boolean),
            DeValue::Integer(integer) => {
                let read = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
                let signed = read.and_then(|read| i64::try_from(read).ok()).map(Number::from);
                let whole = signed.or_else(|| read.and_then(|read| u64::try_from(read).ok()).map(Number::from));
                number(whole, &integer.to_string(), place)?
            }
            DeValue::Float(float) => {
                let text = float.as_str();
                let exact = Literal::number(text).ok().and_then(|_| text.parse().ok()).and_then(Number::from_f64);
                number(exact, text, place)?
            }
            DeValue::Datetime(moment) if moment.date.is_none() => {
                place.fault("a time of day cannot stand here");
                return None;
            }
            DeValue::Datetime(moment) => Value::String(moment.to_string()),
            DeValue::Table(table) => Value::Object(self.table(table, pointer)),
            DeValue::Array(array) => {
                let elements = array.iter().enumerate().filter_map(|(at, element)| {
                    let pointer = format!("{pointer}/{at}");
                    self.places.insert(pointer.clone(), element.span().start);
                    let place = place.moved_to(element.span().start);
                    self.value(element.get_ref(), &pointer, place)
                });
                Value::Array(elements.collect())
            }
        })
    }
}

/// A number that is kept exactly; otherwise a fault.
fn number(kept: Option<Number>, written: &str, place: Place<'_>) -> Option<Value> {
    if kept.is_none() {
        let hint = "whole numbers from -9223372036854775808 to 18446744073709551615 and numbers of up to 15 digits are \
                    kept exactly";
        place.hinted(format!("`{}` has more digits than can be kept, or is no number", excerpt(written)), hint);
    }
    kept.map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Submission {
        Submission::from_bytes("f.toml", text.as_bytes().to_vec()).expect("a document")
    }

    fn refused(text: &str) -> Vec<String> {
        let faults = Submission::from_bytes("f.toml", text.as_bytes().to_vec()).expect_err("faults");
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_says_the_same_in_json() {
        let text = "[organization]\nunique_name = \"x\"\nburst = 1_000\n\n[[work_streams]]\nallowed_presences = [\"busy\"]\n\n\
                    [[work_streams.rules]]\nwhen = { column = \"a\", operator = \"is-one-of\", value = [2022-05-01, 1.5, 0x10, \
                    18446744073709551615, true] }\n";
        let expected = json!({
            "organization": { "uniqueName": "x", "burst": 1_000 },
            "workStreams": [{
                "allowedPresences": ["busy"],
                "rules": [{ "when": { "column": "a", "operator": "is-one-of",
                    "value": ["2022-05-01", 1.5, 16, u64::MAX, true] } }],
            }],
        });
        assert_eq!(Value::Object(read(text).document().clone()), expected);
    }

    #[test]
    fn pointers_become_lines() {
        let file = read(
            "[organization]\nunique_name = \"x\"\n\n[[work_streams]]\nname = \"a\"\n\n[[work_streams.rules]]\n\
                         when = { all = [\n  { column = \"a\" },\n] }\n",
        );
        let place = |pointer: &str| {
            let fault = file.fault(Some(pointer), "m", None);
            (fault.line, fault.column)
        };
        assert_eq!(place("/organization/uniqueName"), (2, 15));
        assert_eq!(place("/workStreams/0/rules/0/when/all/0/column"), (9, 14));
        // What is missing is missing in what is there.
        assert_eq!(place("/workStreams/0/rules/0/queue"), (7, 1));
        assert_eq!(place("/organization/id"), (1, 1));
        assert_eq!(place(""), (1, 1));
        assert_eq!(place("/nothing/1/here"), (1, 1));
        assert_eq!(file.fault(None, "m", None).line, 0);
    }

    #[test]
    fn faults_speak_as_the_file_does() {
        let file = read("a = 1\n");
        let fault = file.fault(Some("/a"), "`entitySetName` is missing", Some("did you mean `uniqueName`?"));
        assert_eq!(fault.to_string(), "f.toml:1:5: `entity_set_name` is missing\n  hint: did you mean `unique_name`?");
        let record = file.fault(Some("/a/record"), "`record` cannot be `x`", Some("possible: entityLogicalName"));
        assert_eq!(record.hint.as_deref(), Some("possible: entityLogicalName"));
    }

    #[test]
    fn what_json_could_not_carry_is_refused_at_its_place() {
        let told =
            refused("a = 18446744073709551616\nb = [inf, 0.12345678901234567890]\nc = 07:30:00\nuniqueName = 1\n");
        let places: Vec<_> = told.iter().map(|fault| fault.split(": ").next().expect("a place")).collect();
        assert_eq!(places, ["f.toml:1:5", "f.toml:2:6", "f.toml:2:11", "f.toml:3:5", "f.toml:4:1"], "{told:?}");
        assert!(told[4].contains("did you mean `unique_name`?"), "{told:?}");
        assert!(refused("a = \n")[0].starts_with("f.toml:1:"));
    }
}
