//! Routing rules: a condition over a record, and the queue for records that meet it.
//!
//! Rules are tried from top to bottom, first those of the entity configuration, then those of the work stream. The
//! first that matches decides, the rest is not looked at; when none does, the default queue takes the record
//! (Microsoft: "rules are evaluated in the order they are defined"; `docs/contract.md` has the section for people).
//!
//! What holds, whatever the record details are:
//!
//! * **Evaluation always ends in a verdict.** There is no error and no panic: a value that cannot be compared is not
//!   equal, and neither less nor greater.
//! * **Empty is one thing.** An absent column, `null`, `""` and `[]` are empty. Of the positive operators only
//!   `is-empty` holds for them; each negative one (`not-equals`, `does-not-contain`, `is-not-one-of`, `is-not-empty`)
//!   is the exact negation of its positive twin.
//! * **Types are kept apart.** The text `"5"` is not the number `5`. Text compares without regard to case, and as GUIDs
//!   where both sides are GUIDs in any form, and as dates where both are dates (`moment`). Numbers compare exactly
//!   (`decimal`). A list contains a text when one of its elements equals it; a list equals nothing.
//! * **Of a key that stands twice, the last counts**, as for nearly everyone who will read the event. (The details keep
//!   both, and [`super::record`] checks the record's ID in both.)
//! * **What is not asked for is not read.** One pass over the details picks out the columns that active rules name;
//!   nested objects on a named path are read once more per level. Without active rules, or before the first condition
//!   on a column, nothing is read at all.
//!
//! [`RuleSet`] prepares a list of rules once, when they are configured; [`evaluate()`] runs prepared lists over a record
//! and leaves a [`RouteTrace`] of what it saw.

pub mod condition;
mod decimal;
mod details;
mod document;
mod evaluate;
pub mod literal;
mod moment;
mod path;
pub mod trace;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::condition::{Condition, Operand, RecordProperty};
use self::details::Wanted;
pub use self::evaluate::{Outcome, Subject, evaluate};
pub use self::path::{ColumnPath, NotAColumn};
pub use self::trace::{RouteTrace, RuleList, TriedRule};
use super::catalog::{ContextVariable, ContextVariableKind, Queue, State};

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in its list.
    pub name: Arc<str>,
    /// Where matching records go, with the queue's priority.
    pub queue: Queue,
    /// Whether it is tried.
    pub state: State,
    /// What it asks of a record; `None` matches every record.
    pub when: Option<Condition>,
}

impl Rule {
    /// Most comparisons in one rule.
    pub const MOST_TESTS: usize = 100;
    /// Longest name, in characters.
    pub const NAME_LIMIT_CHARS: usize = 100;
}

/// From which part of the record details a context variable takes its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// From a column's value.
    Column(ColumnPath),
    /// From a column's label.
    Label(ColumnPath),
}

/// A list of rules in their order, prepared: it knows which parts of a record its active rules look at.
///
/// Two lists are equal when their rules are; the context variables that they were prepared with do not count.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    seats: Vec<Seat>,
    wanted: Wanted,
}

impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for RuleSet {}

/// An operand of this list, kept once however many comparisons name it, and how to get at its value.
#[derive(Debug, Clone)]
struct Seat {
    operand: Operand,
    source: Source,
}

/// How to get at an operand's value.
#[derive(Debug, Clone)]
enum Source {
    /// There is none, for this reason.
    Nowhere(&'static str),
    /// It is part of the record's identity.
    Identity(RecordProperty),
    /// It stands in the details: in the first of these slots that is not empty.
    Details {
        slots: Vec<usize>,
        /// What it must be, for context variables.
        kind: Option<ContextVariableKind>,
    },
}

impl RuleSet {
    /// Most rules in one list.
    pub const MOST_RULES: usize = 200;

    /// Most comparisons in one list, all rules together.
    pub const MOST_TESTS: usize = 1_000;

    /// Prepares a list of rules for a work stream with these context variables.
    pub fn new(mut rules: Vec<Rule>, variables: &[ContextVariable]) -> Self {
        let mut wanted = Wanted::default();
        let mut seats: Vec<Seat> = Vec::new();
        let mut taken: BTreeMap<Operand, usize> = BTreeMap::new();
        for when in rules.iter_mut().filter(|rule| rule.state.is_active()).filter_map(|rule| rule.when.as_mut()) {
            when.each_test_mut(&mut |test| {
                test.seat = *taken.entry(test.operand.clone()).or_insert_with(|| {
                    let source = source(&test.operand, variables, &mut wanted);
                    seats.push(Seat { operand: test.operand.clone(), source });
                    seats.len() - 1
                });
            });
        }
        Self { rules, seats, wanted }
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether there is no rule that could match.
    pub fn is_idle(&self) -> bool {
        !self.rules.iter().any(|rule| rule.state.is_active())
    }
}

fn source(operand: &Operand, variables: &[ContextVariable], wanted: &mut Wanted) -> Source {
    match operand {
        Operand::Column(path) => in_details(&Mapping::Column(path.clone()), None, wanted),
        Operand::Label(path) => in_details(&Mapping::Label(path.clone()), None, wanted),
        Operand::Record(property) => Source::Identity(*property),
        Operand::Variable(name) => match variables.iter().find(|variable| variable.name == *name) {
            None => Source::Nowhere("there is no such context variable"),
            Some(variable) if !variable.state.is_active() => Source::Nowhere("the context variable is inactive"),
            Some(ContextVariable { mapping: None, .. }) => Source::Nowhere("the context variable has no column"),
            Some(ContextVariable { mapping: Some(mapping), kind, .. }) => in_details(mapping, Some(*kind), wanted),
        },
    }
}

fn in_details(mapping: &Mapping, kind: Option<ContextVariableKind>, wanted: &mut Wanted) -> Source {
    let slots = match mapping {
        Mapping::Column(path) => vec![wanted.slot(path)],
        Mapping::Label(path) => path.labels().iter().map(|path| wanted.slot(path)).collect(),
    };
    Source::Details { slots, kind }
}

#[cfg(test)]
mod tests;
