//! Runs two lists of rules over one record.

use std::borrow::Cow;
use std::sync::Arc;

use super::condition::{Condition, RecordProperty, Test};
use super::details::{Found, extract};
use super::trace::{RouteTrace, RuleList, TraceWriter};
use super::value::{Value, shortened};
use super::{Rule, RuleSet, Source};
use crate::domain::catalog::ContextVariableKind;
use crate::domain::ids::{LogicalName, RecordId};
use crate::domain::record::{RecordCreated, RecordDetails};

/// What rules look at: a record's identity and its details.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Which kind of record.
    pub entity_logical_name: &'a LogicalName,
    /// The name of the kind's collection.
    pub entity_set_name: &'a LogicalName,
    /// The record's primary key.
    pub record_id: RecordId,
    /// The relationship between the record and its work items.
    pub relationship_name: &'a LogicalName,
    /// The created row.
    pub details: &'a RecordDetails,
}

impl<'a> Subject<'a> {
    /// The record of an event, with these details.
    pub const fn of(event: &'a RecordCreated, details: &'a RecordDetails) -> Self {
        Self {
            entity_logical_name: &event.entity_logical_name,
            entity_set_name: &event.entity_set_name,
            record_id: event.record_id,
            relationship_name: &event.relationship_name,
            details,
        }
    }

    fn property(&self, property: RecordProperty) -> Cow<'a, str> {
        match property {
            RecordProperty::EntityLogicalName => Cow::Borrowed(self.entity_logical_name.as_str()),
            RecordProperty::EntitySetName => Cow::Borrowed(self.entity_set_name.as_str()),
            RecordProperty::RecordId => Cow::Owned(self.record_id.to_string()),
            RecordProperty::RelationshipName => Cow::Borrowed(self.relationship_name.as_str()),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The rule that matched.
    pub matched: Option<&'a Rule>,
    /// What was tried and seen; `None` when there was no active rule to try.
    pub trace: Option<Arc<RouteTrace>>,
}

/// Tries the active rules in their order, those of the entity configuration first, and stops at the first that matches.
pub fn evaluate<'a>(entity: &'a RuleSet, work_stream: &'a RuleSet, subject: &Subject<'a>) -> Outcome<'a> {
    if entity.is_idle() && work_stream.is_idle() {
        return Outcome { matched: None, trace: None };
    }
    let mut trace = TraceWriter::default();
    let mut reading =
        Reading { subject: *subject, entity: List::new(entity), work_stream: List::new(work_stream), was_read: false };
    let mut matched = None;
    let in_order = [(RuleList::EntityConfiguration, entity), (RuleList::WorkStream, work_stream)];
    'lists: for (on, set) in in_order {
        for rule in set.rules().iter().filter(|rule| rule.state.is_active()) {
            let matches = rule.when.as_ref().is_none_or(|when| reading.holds(on, when));
            trace.tried(&rule.name, on, matches);
            if matches {
                matched = Some(rule);
                break 'lists;
            }
        }
    }
    for list in [&reading.entity, &reading.work_stream] {
        list.tell(&mut trace);
    }
    Outcome { matched, trace: Some(Arc::new(trace.finish())) }
}

/// A record while its rules are tried: each value is read when it is first asked for, and kept.
struct Reading<'a> {
    subject: Subject<'a>,
    entity: List<'a>,
    work_stream: List<'a>,
    /// Whether the pass over the details was made.
    was_read: bool,
}

/// One list of rules, and what it has seen.
struct List<'a> {
    set: &'a RuleSet,
    /// What its rules ask for, by slot.
    found: Found<'a>,
    /// What its comparisons have seen, by seat.
    seen: Vec<Option<Seen<'a>>>,
    /// The seats in the order in which they were first looked at.
    order: Vec<usize>,
}

/// A value that was looked at.
struct Seen<'a> {
    value: Value<'a>,
    /// Why the value is empty, where the record alone does not explain it.
    note: Option<Note<'a>>,
}

enum Note<'a> {
    Nowhere(&'static str),
    WrongType(&'a str),
}

impl<'a> Reading<'a> {
    fn holds(&mut self, on: RuleList, condition: &Condition) -> bool {
        match condition {
            Condition::All(conditions) => conditions.iter().all(|condition| self.holds(on, condition)),
            Condition::Any(conditions) => conditions.iter().any(|condition| self.holds(on, condition)),
            Condition::Test(test) => self.test(on, test),
        }
    }

    fn test(&mut self, on: RuleList, test: &Test) -> bool {
        if !self.list(on).seen.get(test.seat).is_some_and(Option::is_some) {
            self.look(on, test.seat);
        }
        let seen = self.list(on).seen.get(test.seat).and_then(Option::as_ref);
        seen.map_or(&Value::Empty, |seen| &seen.value).satisfies(test.operator, test.value.literals())
    }

    fn list(&mut self, on: RuleList) -> &mut List<'a> {
        match on {
            RuleList::EntityConfiguration => &mut self.entity,
            RuleList::WorkStream => &mut self.work_stream,
        }
    }

    /// Looks at a seat's value for the first time.
    fn look(&mut self, on: RuleList, seat: usize) {
        let set = self.list(on).set;
        let Some(source) = set.seats.get(seat).map(|seat| &seat.source) else { return };
        let seen = match source {
            Source::Nowhere(reason) => Seen { value: Value::Empty, note: Some(Note::Nowhere(reason)) },
            Source::Identity(property) => Seen { value: Value::text(self.subject.property(*property)), note: None },
            Source::Details { slots, kind } => {
                self.read_details();
                let found = &self.list(on).found;
                let raws = slots.iter().filter_map(|slot| found.get(*slot).copied().flatten());
                let mut values = raws.map(|raw| (raw.get(), Value::of_json(raw.get())));
                let first = values.find(|(_, value)| !matches!(value, Value::Empty));
                first.map_or(Seen { value: Value::Empty, note: None }, |(raw, value)| of_kind(*kind, raw, value))
            }
        };
        let list = self.list(on);
        if let Some(place) = list.seen.get_mut(seat) {
            *place = Some(seen);
            list.order.push(seat);
        }
    }

    /// The one pass over the details, for both lists.
    fn read_details(&mut self) {
        if !self.was_read {
            let text = self.subject.details.as_text().unwrap_or_default();
            let wanted = [&self.entity.set.wanted, &self.work_stream.set.wanted];
            [self.entity.found, self.work_stream.found] = extract(text, wanted);
            self.was_read = true;
        }
    }
}

/// The value, or nothing where a context variable holds another type.
fn of_kind<'a>(kind: Option<ContextVariableKind>, raw: &'a str, value: Value<'a>) -> Seen<'a> {
    let fits = match kind {
        None => true,
        Some(ContextVariableKind::Text) => matches!(value, Value::Text(_)),
        Some(ContextVariableKind::Number) => matches!(value, Value::Number(..)),
    };
    if fits { Seen { value, note: None } } else { Seen { value: Value::Empty, note: Some(Note::WrongType(raw)) } }
}

impl<'a> List<'a> {
    fn new(set: &'a RuleSet) -> Self {
        let seen = std::iter::repeat_with(|| None).take(set.seats.len()).collect();
        Self { set, found: Found::new(), seen, order: Vec::new() }
    }

    /// Tells the trace what was seen.
    fn tell(&self, trace: &mut TraceWriter) {
        for seat in &self.order {
            let operand = self.set.seats.get(*seat).map(|seat| &seat.operand);
            let seen = self.seen.get(*seat).and_then(Option::as_ref);
            if let Some((operand, seen)) = operand.zip(seen) {
                trace.value(operand, || seen.in_words());
            }
        }
    }
}

impl Seen<'_> {
    fn in_words(&self) -> String {
        match &self.note {
            None => self.value.shown().unwrap_or_else(|| "missing".to_owned()),
            Some(Note::Nowhere(reason)) => format!("missing: {reason}"),
            Some(Note::WrongType(raw)) => format!("wrong type: {}", shortened(raw)),
        }
    }
}
