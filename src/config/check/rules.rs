//! Routing rules: lists of them, their conditions, and what their conditions speak of.

use std::collections::HashMap;

use super::{STATES, unique, visible_text};
use crate::config::fault::meant;
use crate::config::keys::{self, Keys};
use crate::config::raw::{Field, Scalar, Table};
use crate::config::source::Place;
use crate::domain::catalog::{ContextVariable, ContextVariableKind, Queue, Queues, State};
use crate::domain::ids::{QueueName, excerpt};
use crate::domain::rules::condition::{Comparand, Condition, Operand, Operator, RecordProperty, Test, Wants};
use crate::domain::rules::literal::{Literal, TextLiteral};
use crate::domain::rules::{ColumnPath, Mapping, Rule, RuleSet};

/// What rules are checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'k> {
    /// The organization's queues; `None` where they have faults of their own.
    pub(super) queues: Option<&'k Queues>,
    /// The work stream's context variables.
    pub(super) variables: &'k [ContextVariable],
    /// Whether these are all, so that another one does not exist.
    pub(super) all_variables: bool,
}

/// Checks the list of rules in a work stream or an entity configuration.
pub(super) fn rules(table: &Table<'_>, keys: Keys, known: &Known<'_>) -> RuleSet {
    const KEY: &str = "rules";
    let tables = table.tables(KEY, keys);
    if tables.len() > RuleSet::MOST_RULES {
        let message = format!("`{KEY}` has {} rules, more than {}", tables.len(), RuleSet::MOST_RULES);
        table.place_of(KEY).fault(message);
    }
    let mut names = HashMap::new();
    let mut rules = Vec::new();
    let mut all_tests = 0;
    // The name of the first rule that leaves nothing to those after it.
    let mut catch_all: Option<String> = None;
    for table in tables.iter().take(RuleSet::MOST_RULES) {
        let rule = rule(table, known, &mut names);
        all_tests += rule.as_ref().and_then(|rule| rule.when.as_ref()).map_or(0, Condition::tests);
        let state = table.choice("state", &STATES).unwrap_or(State::Active);
        if state.is_active() {
            let shown = table.string("name").map(|name| excerpt(name.value)).unwrap_or_default();
            if let Some(before) = &catch_all {
                let hint = format!("`{before}` before it matches every record: move it down, or give it a `when`");
                table.at.warning(format!("rule `{shown}` is never reached"), hint);
            } else if !table.has("when") {
                catch_all = Some(shown);
            }
        }
        rules.extend(rule.map(|rule| Rule { state, ..rule }));
    }
    if all_tests > RuleSet::MOST_TESTS {
        let message = format!("`{KEY}` have {all_tests} comparisons together, more than {}", RuleSet::MOST_TESTS);
        table.place_of(KEY).hinted(message, "`is-one-of` compares with up to 500 values at once");
    }
    RuleSet::new(rules, known.variables)
}

/// A rule; `None` after a fault.
fn rule<'a>(table: &Table<'a>, known: &Known<'_>, names: &mut HashMap<Box<str>, Place<'a>>) -> Option<Rule> {
    let name = table.required_string("name").and_then(|field| {
        let name = visible_text("name", field, Rule::NAME_LIMIT_CHARS)?;
        unique("rule", name.clone(), field.at, names, &name);
        Some(name)
    });
    let queue = queue(table, known.queues);
    let when = match table.table("when", keys::CONDITION) {
        Some(when) => {
            let mut tests = 0;
            let condition = condition(&when, known, 0, &mut tests);
            if tests > Rule::MOST_TESTS {
                when.at.fault(format!("`when` has {tests} comparisons, more than {}", Rule::MOST_TESTS));
            }
            Some(condition?)
        }
        // A faulty one is not the same as none, which would match every record.
        None if table.has("when") => return None,
        None => None,
    };
    Some(Rule { name: name?.into(), queue: queue?, state: State::Active, when })
}

/// The queue that a rule names.
fn queue(table: &Table<'_>, queues: Option<&Queues>) -> Option<Queue> {
    let field = table.required_string("queue")?;
    let name = field.parsed("queue", QueueName::parse)?;
    let queue = queues?.named(&name);
    if queue.is_none() {
        let names: Vec<_> = queues?.by_priority().into_iter().map(|queue| queue.name.as_str()).collect();
        field.at.hinted(format!("there is no queue `{}`", excerpt(field.value)), meant(field.value, &names));
    }
    queue.cloned()
}

/// A group of conditions or a comparison, so many groups deep; `None` after a fault.
fn condition(table: &Table<'_>, known: &Known<'_>, level: usize, tests: &mut usize) -> Option<Condition> {
    const GROUPS: [&str; 2] = ["all", "any"];
    const OPERANDS: [&str; 4] = ["column", "label", "record", "variable"];
    let groups: Vec<_> = GROUPS.into_iter().filter(|key| table.has(key)).collect();
    let operands: Vec<_> = OPERANDS.into_iter().filter(|key| table.has(key)).collect();
    match (groups.as_slice(), operands.as_slice()) {
        ([group], []) => {
            for key in ["operator", "value"].into_iter().filter(|key| table.has(key)) {
                table.place_of(key).fault(format!("`{key}` cannot stand beside `{group}`"));
            }
            let conditions = self::group(table, group, known, level, tests)?;
            Some(if *group == "all" { Condition::All(conditions) } else { Condition::Any(conditions) })
        }
        ([], [operand]) => {
            *tests += 1;
            test(table, operand, known)
        }
        ([], []) => {
            // Where a key is mistyped, that is what is wrong.
            if table.is_known_throughout() {
                let hint = format!("it has one of {}, or is a group: {}", OPERANDS.join(", "), GROUPS.join(", "));
                table.at.hinted("the condition does not say what it looks at", hint);
            }
            None
        }
        _ => {
            let both: Vec<_> = groups.iter().chain(&operands).map(|key| format!("`{key}`")).collect();
            let message = format!("a condition cannot have {} at once", both.join(" and "));
            table.at.hinted(message, "join several conditions with `all` or `any`");
            None
        }
    }
}

fn group(
    table: &Table<'_>,
    key: &'static str,
    known: &Known<'_>,
    level: usize,
    tests: &mut usize,
) -> Option<Vec<Condition>> {
    if level >= Condition::MOST_LEVELS {
        table.place_of(key).fault(format!("the groups are nested deeper than {} levels", Condition::MOST_LEVELS));
        return None;
    }
    if table.is_empty_list(key) {
        table.place_of(key).hinted(format!("`{key}` is empty"), "a rule without `when` matches every record");
    }
    let conditions: Vec<_> =
        table.tables(key, keys::CONDITION).iter().map(|table| condition(table, known, level + 1, tests)).collect();
    conditions.into_iter().collect()
}

/// One comparison; `None` after a fault.
fn test(table: &Table<'_>, key: &'static str, known: &Known<'_>) -> Option<Condition> {
    let operand = operand(table, key, known);
    table.require("operator");
    let operator = table.choice("operator", &Operator::ALL.map(|operator| (operator.name(), operator)))?;
    let value = comparand(table, operator, operand.as_ref().and_then(|(_, holds)| *holds));
    Some(Condition::Test(Test::new(operand?.0, operator, value?)))
}

/// What is compared, and what it always holds, where that is known.
fn operand(table: &Table<'_>, key: &'static str, known: &Known<'_>) -> Option<(Operand, Option<ContextVariableKind>)> {
    const TEXT: Option<ContextVariableKind> = Some(ContextVariableKind::Text);
    match key {
        "column" => Some((Operand::Column(table.parsed(key, ColumnPath::parse)?), None)),
        "label" => Some((Operand::Label(table.parsed(key, ColumnPath::parse)?), TEXT)),
        "record" => {
            let properties = RecordProperty::ALL.map(|property| (property.name(), property));
            Some((Operand::Record(table.choice(key, &properties)?), TEXT))
        }
        _ => {
            let variable = variable(table.string(key)?, known)?;
            Some((Operand::Variable(variable.name.clone()), Some(variable.kind)))
        }
    }
}

fn variable<'k>(field: Field<'_, &str>, known: &Known<'k>) -> Option<&'k ContextVariable> {
    let variable = known.variables.iter().find(|variable| *variable.name == *field.value);
    let shown = excerpt(field.value);
    match variable {
        None if !known.all_variables => {}
        None if known.variables.is_empty() => {
            let hint = "give it some: `context_variables`";
            field.at.hinted(format!("there is no context variable `{shown}`: the work stream has none"), hint);
        }
        None => {
            let names: Vec<_> = known.variables.iter().map(|variable| &*variable.name).collect();
            field.at.hinted(format!("there is no context variable `{shown}`"), meant(field.value, &names));
        }
        Some(variable) if !variable.state.is_active() => {
            let hint = "it counts as absent; set its `state` to \"active\", or leave it out of the rule";
            field.at.warning(format!("the context variable `{shown}` is inactive"), hint);
        }
        Some(ContextVariable { mapping: None, .. }) => {
            let hint = "it counts as absent; say with its `column` or `label` where a record has its value";
            field.at.warning(format!("the context variable `{shown}` has no value"), hint);
        }
        Some(_) => {}
    }
    variable
}

/// The `value` that this operator wants; `None` after a fault.
fn comparand(table: &Table<'_>, operator: Operator, holds: Option<ContextVariableKind>) -> Option<Comparand> {
    const KEY: &str = "value";
    let name = operator.name();
    match operator.wants() {
        Wants::Nothing => {
            if table.has(KEY) {
                table.place_of(KEY).hinted(format!("`{name}` takes no `{KEY}`"), format!("leave the `{KEY}` out"));
            }
            Some(Comparand::Nothing)
        }
        Wants::One => {
            table.require(KEY);
            if table.is_list(KEY) {
                let hint = "give one value, or use `is-one-of`, or join several conditions with `any`";
                table.place_of(KEY).hinted(format!("`{name}` takes one `{KEY}`, not a list"), hint);
                return None;
            }
            literal(table.scalar(KEY)?, operator, holds).map(Comparand::One)
        }
        Wants::List => {
            table.require(KEY);
            if table.has(KEY) && !table.is_list(KEY) {
                let hint = "write it in brackets, or use `equals`";
                table.place_of(KEY).hinted(format!("`{name}` takes a list of values"), hint);
                return None;
            }
            let values = table.scalars(KEY)?;
            if table.is_empty_list(KEY) || values.len() > Comparand::MOST_VALUES {
                let message = format!("`{KEY}` must be a list of 1 to {} values", Comparand::MOST_VALUES);
                table.place_of(KEY).fault(message);
            }
            let literals: Vec<_> = values.into_iter().map(|value| literal(value, operator, holds)).collect();
            literals.into_iter().collect::<Option<_>>().map(Comparand::List)
        }
    }
}

/// A value that its operator and its operand can be compared with; `None` after a fault.
fn literal(field: Field<'_, Scalar<'_>>, operator: Operator, holds: Option<ContextVariableKind>) -> Option<Literal> {
    let literal = match &field.value {
        Scalar::Text("") => {
            field.at.hinted("`value` is an empty text", "use `is-empty` or `is-not-empty`");
            return None;
        }
        Scalar::Text(text) => text_literal(text, field.at)?,
        Scalar::Date(text) => text_literal(text, field.at)?,
        Scalar::Number(text) => match Literal::number(text) {
            Ok(number) => number,
            Err(fault) => {
                let hint = "whole numbers from -9223372036854775808 to 18446744073709551615 and numbers of up to 15 \
                            digits are kept exactly";
                field.at.hinted(format!("`value`: `{}` {fault}", excerpt(text)), hint);
                return None;
            }
        },
        Scalar::Boolean(boolean) => Literal::Boolean(*boolean),
    };
    if let Err(clash) = operator.check(&literal, holds) {
        field.at.fault(format!("`value` {clash} (`{}`)", operator.name()));
        return None;
    }
    Some(literal)
}

fn text_literal(text: &str, at: Place<'_>) -> Option<Literal> {
    let literal = Literal::text(text);
    if literal.is_none() {
        at.fault(format!("`value` is longer than {} characters", TextLiteral::LIMIT_CHARS));
    }
    literal
}

/// Where a context variable of this kind takes its value from.
pub(super) fn mapping(table: &Table<'_>, kind: ContextVariableKind) -> Option<Mapping> {
    let column = table.parsed("column", ColumnPath::parse).map(Mapping::Column);
    let label = table.parsed("label", ColumnPath::parse).map(Mapping::Label);
    if table.has("column") && table.has("label") {
        table.place_of("label").fault("`column` and `label` are both set; a context variable has one value");
    }
    if table.has("label") && kind == ContextVariableKind::Number {
        let hint = "take the `column`, or set `kind` to \"text\"";
        table.place_of("label").hinted("a label is text, and the context variable is a number", hint);
    }
    column.or(label)
}
