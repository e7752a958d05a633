//! What keeps one organization's rules from keeping a worker busy.

use super::super::condition::Operator;
use super::super::literal::Literal;
use super::super::value::{LOOKED_INTO_BYTES, Value};

#[test]
fn contains_looks_only_so_far() {
    let part = [Literal::text("needle").expect("text")];
    let holds = |padding: usize| {
        // Of two bytes each, so that the bound falls into the middle of one.
        let text = format!("x{}needle", "ø".repeat(padding));
        Value::text(text.into()).satisfies(Operator::Contains, &part)
    };
    assert!(holds(LOOKED_INTO_BYTES / 2 - 8));
    assert!(!holds(LOOKED_INTO_BYTES / 2));
    let long = format!("x{}needle", "ø".repeat(LOOKED_INTO_BYTES));
    assert!(Value::text(long.into()).satisfies(Operator::EndsWith, &part));
}

#[test]
fn a_long_list_compares_with_nothing_but_is_not_empty() {
    let list = |length: usize| format!("[\"needle\"{}]", ",1".repeat(length));
    let (short, long) = (list(8), list(LOOKED_INTO_BYTES));
    let part = [Literal::text("needle").expect("text")];
    assert!(Value::of_json(&short).satisfies(Operator::Contains, &part));
    assert!(!Value::of_json(&long).satisfies(Operator::Contains, &part));
    assert!(Value::of_json(&long).satisfies(Operator::IsNotEmpty, &[]));
}
