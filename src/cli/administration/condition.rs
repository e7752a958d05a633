//! Conditions as people write them on a command line: `prioritycode equals 1`, `label:prioritycode is-one-of
//! ["High","Urgent"]`, `variable:risk greater-than 3`.

use serde_json::{Value, json};

use super::{Exit, Failure};
use crate::config::strict;

/// The condition of a rule, from `--when` or from one or several `--if`.
pub(super) fn condition(when: Option<&str>, ifs: &[String], join: &str) -> Result<Option<Value>, Failure> {
    if let Some(when) = when {
        let parsed = strict::parse(when.as_bytes());
        return parsed.map(Some).map_err(|fault| Failure::new(Exit::Usage, format!("--when {fault}")));
    }
    let mut conditions = ifs.iter().map(|text| comparison(text)).collect::<Result<Vec<_>, _>>()?;
    match conditions.len() {
        0 => Ok(None),
        1 => Ok(conditions.pop()),
        _ => Ok(Some(json!({ join: conditions }))),
    }
}

/// A condition as a line of text, which reads back as the same where it is one comparison.
pub(super) fn words(condition: &Value) -> String {
    joined(condition, true)
}

fn joined(condition: &Value, outermost: bool) -> String {
    for (group, word) in [("all", " and "), ("any", " or ")] {
        if let Some(conditions) = condition.get(group).and_then(Value::as_array) {
            let parts: Vec<_> = conditions.iter().map(|part| joined(part, false)).collect();
            let words = parts.join(word);
            return if outermost || parts.len() < 2 { words } else { format!("({words})") };
        }
    }
    let operand = OPERANDS.iter().find_map(|kind| Some((*kind, condition.get(*kind)?.as_str()?)));
    let Some((kind, name)) = operand else { return condition.to_string() };
    let is_plain = kind == "column" && kind_of(name) == ("column", name);
    let operand = if is_plain { name.to_owned() } else { format!("{kind}:{name}") };
    let operator = condition.get("operator").and_then(Value::as_str).unwrap_or_default();
    let Some(value) = condition.get("value") else { return format!("{operand} {operator}") };
    // Text stands as it is, unless it would be read as something else.
    let as_it_is = value.as_str().filter(|text| text.trim() == *text && scalar(text).is_ok_and(|read| read == *value));
    let value = as_it_is.map_or_else(|| value.to_string(), str::to_owned);
    format!("{operand} {operator} {value}")
}

/// What an operand can be, as documents name it.
const OPERANDS: [&str; 4] = ["column", "label", "variable", "record"];

/// What an operand looks at, and its name there.
fn kind_of(operand: &str) -> (&'static str, &str) {
    let prefixed = operand.split_once(':');
    let kind = prefixed.and_then(|(prefix, name)| Some((*OPERANDS.iter().find(|kind| **kind == prefix)?, name)));
    kind.unwrap_or(("column", operand))
}

/// One comparison: operand, operator, value.
fn comparison(text: &str) -> Result<Value, Failure> {
    let usage = || {
        let message = format!(
            "`{text}` is no condition; write an operand, an operator and a value, such as `prioritycode equals 1` or \
             `label:prioritycode is-one-of [\"High\",\"Urgent\"]`"
        );
        Failure::new(Exit::Usage, message)
    };
    let (operand, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(usage)?;
    let (operator, value) = match rest.trim().split_once(char::is_whitespace) {
        Some((operator, value)) => (operator, value.trim()),
        None => (rest.trim(), ""),
    };
    let (kind, name) = kind_of(operand);
    let mut condition = json!({ kind: name, "operator": operator });
    if let Some(members) = condition.as_object_mut().filter(|_| !value.is_empty()) {
        members.insert("value".to_owned(), scalar(value)?);
    }
    Ok(condition)
}

/// A number, `true`, a list or a quoted text where it reads as one; text as it is otherwise.
fn scalar(text: &str) -> Result<Value, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Null | Value::Object(_)) | Err(_) => Ok(Value::from(text)),
        Ok(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            strict::parse(text.as_bytes()).map_err(|fault| Failure::new(Exit::Usage, format!("--if {fault}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comparisons_are_read_as_people_write_them() {
        for (text, expected) in [
            ("prioritycode equals 1", json!({ "column": "prioritycode", "operator": "equals", "value": 1 })),
            (
                "label:prioritycode equals High",
                json!({ "label": "prioritycode", "operator": "equals", "value": "High" }),
            ),
            ("title contains two words", json!({ "column": "title", "operator": "contains", "value": "two words" })),
            ("x equals \"1\"", json!({ "column": "x", "operator": "equals", "value": "1" })),
            ("variable:risk is-empty", json!({ "variable": "risk", "operator": "is-empty" })),
            ("x is-one-of [1,2]", json!({ "column": "x", "operator": "is-one-of", "value": [1, 2] })),
            ("a@b:c equals null", json!({ "column": "a@b:c", "operator": "equals", "value": "null" })),
        ] {
            assert_eq!(comparison(text).ok(), Some(expected), "{text}");
        }
        assert!(comparison("alone").is_err());
    }

    #[test]
    fn groups_are_put_into_words() {
        let when = json!({ "all": [
            { "column": "title", "operator": "contains", "value": "payment" },
            { "any": [{ "column": "a", "operator": "is-empty" }, { "label": "b", "operator": "equals", "value": "1" }] },
        ] });
        assert_eq!(words(&when), "title contains payment and (a is-empty or label:b equals \"1\")");
    }

    #[test]
    fn numbers_are_not_rounded() {
        for text in ["x equals 18446744073709551616", "x is-one-of [1, 0.12345678901234567890]"] {
            assert!(comparison(text).is_err(), "{text}");
        }
        assert!(condition(Some(r#"{"value":18446744073709551616}"#), &[], "all").is_err());
    }

    proptest! {
        #[test]
        fn words_read_back_the_same(
            kind in 0..OPERANDS.len(),
            name in "(column:|label:)?[a-z_@./]{1,12}",
            number in any::<i64>(),
            text in "\\PC{1,12}",
            choice in 0..4,
        ) {
            let value = match choice {
                0 => json!(number),
                1 => json!(text),
                2 => json!([text, number]),
                _ => json!(number % 2 == 0),
            };
            let test = json!({ (OPERANDS[kind]): name, "operator": "equals", "value": value });
            prop_assert_eq!(comparison(&words(&test)).ok(), Some(test));
        }
    }

    #[test]
    fn several_comparisons_are_joined() {
        let ifs = ["a equals 1".to_owned(), "b equals 2".to_owned()];
        let joined = condition(None, &ifs, "any").ok().flatten();
        assert_eq!(joined.and_then(|joined| joined["any"].as_array().map(Vec::len)), Some(2));
        assert_eq!(condition(None, &[], "all").ok(), Some(None));
        assert!(condition(Some("{"), &[], "all").is_err());
    }
}
