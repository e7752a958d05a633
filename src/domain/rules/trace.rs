//! Why a record went where it went: which rules were tried, and what they saw. Kept with the record, so it is short.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use super::condition::Operand;
use super::value::shortened;

/// The decision's trace: at most [`RouteTrace::MOST_BYTES`] as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct RouteTrace {
    tried: Vec<TriedRule>,
    values: Vec<(Box<str>, Box<str>)>,
    shortened: bool,
}

impl fmt::Debug for RouteTrace {
    /// Never the values: they are the customer's data and have no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteTrace({} rules, {} values)", self.tried.len(), self.values.len())
    }
}

/// A rule that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TriedRule {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub rule: Arc<str>,
    /// Whose rule it is.
    pub on: RuleList,
    /// Whether it matched. At most the last one did.
    pub matched: bool,
}

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// Whose rules a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleList {
    /// An entity configuration's, which are tried first.
    EntityConfiguration,
    /// The work stream's.
    WorkStream,
}

impl RuleList {
    /// The owner of the list, as the middle of a sentence.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::EntityConfiguration => "entity configuration",
            Self::WorkStream => "work stream",
        }
    }
}

impl RouteTrace {
    /// The most that a trace takes when it is stored, in bytes.
    pub const MOST_BYTES: usize = 4_096;

    /// The rules that were tried, in order. The one that matched is always among them.
    pub fn tried(&self) -> &[TriedRule] {
        &self.tried
    }

    /// What was seen, in the order in which it was first looked at: the operand as `column title`, and its value as
    /// JSON text of at most 100 characters, or `missing`, or `wrong type: …`.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(operand, value)| (&**operand, &**value))
    }

    /// The same trace without the values.
    pub(in crate::domain) fn without_values(&self) -> Self {
        Self { values: Vec::new(), shortened: self.shortened || !self.values.is_empty(), ..self.clone() }
    }

    /// Whether rules or values were left out: there were too many, or they went with the record's details.
    pub const fn is_shortened(&self) -> bool {
        self.shortened
    }
}

impl Serialize for RouteTrace {
    /// As answers show it: `rulesTried`, `values`, and `shortened` where it is.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Values<'a>(&'a RouteTrace);
        impl Serialize for Values<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.values())
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rulesTried", &self.tried)?;
        map.serialize_entry("values", &Values(self))?;
        if self.shortened {
            map.serialize_entry("shortened", &true)?;
        }
        map.end()
    }
}

/// Writes a trace and keeps it short: what comes first stays.
pub(super) struct TraceWriter {
    trace: RouteTrace,
    /// What is left, in bytes as stored.
    left_for_rules: usize,
    left_for_values: usize,
}

impl Default for TraceWriter {
    fn default() -> Self {
        // With the rule that matched, which always goes in and takes at most 700, and a hundred for what is around them,
        // the two stay below the limit.
        let trace = RouteTrace { tried: Vec::new(), values: Vec::new(), shortened: false };
        Self { trace, left_for_rules: 1_800, left_for_values: 1_400 }
    }
}

impl TraceWriter {
    /// A rule was tried.
    pub(super) fn tried(&mut self, name: &Arc<str>, on: RuleList, matched: bool) {
        let rule = match shortened(name) {
            std::borrow::Cow::Borrowed(_) => Arc::clone(name),
            std::borrow::Cow::Owned(shortened) => shortened.into(),
        };
        let bytes = stored_bytes(&rule);
        let fits = take(&mut self.left_for_rules, bytes);
        if fits || matched {
            self.trace.tried.push(TriedRule { rule, on, matched });
        }
        self.trace.shortened |= !fits && !matched;
    }

    /// An operand was looked at. What both lists of rules looked at is told once.
    pub(super) fn value(&mut self, operand: &Operand, in_words: impl FnOnce() -> String) {
        if self.left_for_values == 0 {
            self.trace.shortened = true;
            return;
        }
        let operand = format!("{} {}", operand.key(), operand.name()).into_boxed_str();
        if self.trace.values.iter().any(|(told, _)| *told == operand) {
            return;
        }
        let value = in_words().into_boxed_str();
        if take(&mut self.left_for_values, stored_bytes(&operand) + stored_bytes(&value) + 2) {
            self.trace.values.push((operand, value));
        } else {
            self.trace.shortened = true;
        }
    }

    pub(super) fn finish(self) -> RouteTrace {
        self.trace
    }
}

/// Takes this many bytes from what is left; once something did not fit, nothing does.
fn take(left: &mut usize, bytes: usize) -> bool {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or(0);
    rest.is_some()
}

/// How many bytes a text takes as a JSON string, with the comma that follows.
fn stored_bytes(text: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 3
}

/// A trace as a store keeps it. Which rule matched is known from the route: the last one tried, if any did.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::domain) struct StoredTrace {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entity: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    work_stream: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<(Box<str>, Box<str>)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shortened: bool,
}

impl From<&RouteTrace> for StoredTrace {
    fn from(trace: &RouteTrace) -> Self {
        let on = |list| {
            let tried = trace.tried.iter().filter(move |tried| tried.on == list);
            tried.map(|tried| Box::from(&*tried.rule)).collect()
        };
        Self {
            entity: on(RuleList::EntityConfiguration),
            work_stream: on(RuleList::WorkStream),
            values: trace.values.clone(),
            shortened: trace.shortened,
        }
    }
}

impl StoredTrace {
    /// The trace of a route that was stored, by a rule that matched or without one.
    pub(in crate::domain) fn into_trace(self, a_rule_matched: bool) -> RouteTrace {
        let entity = self.entity.into_iter().map(|rule| (RuleList::EntityConfiguration, rule));
        let work_stream = self.work_stream.into_iter().map(|rule| (RuleList::WorkStream, rule));
        let mut tried: Vec<_> = entity
            .chain(work_stream)
            .map(|(on, rule)| TriedRule { rule: Arc::from(rule), on, matched: false })
            .collect();
        if let Some(last) = tried.last_mut() {
            last.matched = a_rule_matched;
        }
        RouteTrace { tried, values: self.values, shortened: self.shortened }
    }
}
