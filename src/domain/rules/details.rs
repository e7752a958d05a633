//! The values that rules ask for, picked out of the record details in one pass and still unread.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::path::ColumnPath;
use crate::domain::record::each_member;

/// Which values a list of rules asks for, each with a numbered slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    top: Level,
    slots: usize,
}

/// The names that are wanted in one object.
type Level = BTreeMap<Box<str>, Node>;

#[derive(Debug, Clone)]
struct Node {
    slot: usize,
    /// What is wanted inside, where the value is an object.
    below: Level,
}

/// What was found, by slot.
pub(super) type Found<'a> = Vec<Option<&'a RawValue>>;

impl Wanted {
    /// The slot of a path's value.
    pub(super) fn slot(&mut self, path: &ColumnPath) -> usize {
        let mut level = &mut self.top;
        let mut slot = 0;
        for part in path.parts() {
            let node = level.entry(part.into()).or_insert_with(|| {
                self.slots += 1;
                Node { slot: self.slots - 1, below: Level::new() }
            });
            slot = node.slot;
            level = &mut node.below;
        }
        slot
    }

    const fn is_empty(&self) -> bool {
        self.slots == 0
    }
}

/// Picks the wanted values out of the details, for two lists of rules at once. Of a key that stands twice the last
/// counts, on every level. In a text that is not one JSON object nothing is found.
pub(super) fn extract<'a>(details: &'a str, wanted: [&Wanted; 2]) -> [Found<'a>; 2] {
    let mut found = wanted.map(|wanted| vec![None; wanted.slots]);
    if wanted.iter().all(|wanted| wanted.is_empty()) {
        return found;
    }
    let read = each_member(details, |key, value| {
        for (wanted, found) in wanted.iter().zip(&mut found) {
            keep(&wanted.top, found, key, value);
        }
    });
    if read.is_err() {
        return wanted.map(|wanted| vec![None; wanted.slots]);
    }
    for (wanted, found) in wanted.iter().zip(&mut found) {
        descend(&wanted.top, found);
    }
    found
}

fn keep<'a>(level: &Level, found: &mut Found<'a>, key: &str, value: &'a RawValue) {
    if let Some(slot) = level.get(key).and_then(|node| found.get_mut(node.slot)) {
        *slot = Some(value);
    }
}

/// Goes on inside the objects that lie on a wanted path. Only now: before the end of a level nobody knows which of two
/// values of a key is the last.
fn descend(level: &Level, found: &mut Found<'_>) {
    for node in level.values().filter(|node| !node.below.is_empty()) {
        let value = found.get(node.slot).copied().flatten().filter(|value| value.get().starts_with('{'));
        // A part of a text that parsed parses; were it otherwise, nothing would be found in it.
        let read = value.map(|value| each_member(value.get(), |key, value| keep(&node.below, found, key, value)));
        if matches!(read, Some(Ok(()))) {
            descend(&node.below, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(details: &str, paths: &[&str]) -> Vec<Option<String>> {
        let mut wanted = Wanted::default();
        let slots: Vec<usize> =
            paths.iter().map(|path| wanted.slot(&ColumnPath::parse(path).expect("a path"))).collect();
        let [found, nothing] = extract(details, [&wanted, &Wanted::default()]);
        assert!(nothing.is_empty());
        slots.into_iter().map(|slot| found[slot].map(|value| value.get().to_owned())).collect()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn values_come_as_they_were_written() {
        let details = r#"{"a": 98.60000000000001 ,"b":{"c":"\u00d8st","d":[1, 2]},"huge":1E400,"\u0065":true}"#;
        let found = picked(details, &["a", "b/c", "b/d", "b", "huge", "e", "x", "a/x", "b/d/0"]);
        let expected = [
            some("98.60000000000001"),
            some(r#""\u00d8st""#),
            some("[1, 2]"),
            some(r#"{"c":"\u00d8st","d":[1, 2]}"#),
            some("1E400"),
            some("true"),
            None,
            None,
            None,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn of_two_the_last_counts_on_every_level() {
        assert_eq!(picked(r#"{"a":1,"a":2}"#, &["a"]), [some("2")]);
        assert_eq!(picked(r#"{"a":{"b":1},"a":{"c":2}}"#, &["a/b", "a/c"]), [None, some("2")]);
        assert_eq!(picked(r#"{"a":{"b":1,"b":3},"a":7}"#, &["a/b", "a"]), [None, some("7")]);
        assert_eq!(picked(r#"{"a":7,"a":{"b":1,"b":3}}"#, &["a/b"]), [some("3")]);
    }

    #[test]
    fn nothing_is_found_in_what_is_no_object() {
        for text in ["", "[]", "null", r#"{"a":1"#, r#"{"a":1} {"a":2}"#, r#""a""#] {
            assert_eq!(picked(text, &["a"]), [None], "{text}");
        }
    }
}
