//! Conditions as people write them on a command line: `prioritycode equals 1`, `label:prioritycode is-one-of
//! ["High","Urgent"]`, `variable:risk greater-than 3`.

use serde_json::{Value, json};

use super::{Exit, Failure};

/// The condition of a rule, from `--when` or from one or several `--if`.
pub(super) fn condition(when: Option<&str>, ifs: &[String], join: &str) -> Result<Option<Value>, Failure> {
    if let Some(when) = when {
        let parsed: Value = serde_json::from_str(when)
            .map_err(|fault| Failure::new(Exit::Usage, format!("--when is not JSON: {fault}")))?;
        return Ok(Some(parsed));
    }
    let mut conditions = ifs.iter().map(|text| comparison(text)).collect::<Result<Vec<_>, _>>()?;
    match conditions.len() {
        0 => Ok(None),
        1 => Ok(conditions.pop()),
        _ => Ok(Some(json!({ join: conditions }))),
    }
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
    let (kind, name) = match operand.split_once(':') {
        Some((kind @ ("column" | "label" | "variable" | "record"), name)) => (kind, name),
        Some(_) | None => ("column", operand),
    };
    let mut condition = json!({ kind: name, "operator": operator });
    if let Some(members) = condition.as_object_mut().filter(|_| !value.is_empty()) {
        members.insert("value".to_owned(), scalar(value));
    }
    Ok(condition)
}

/// A number, `true`, a list or a quoted text where it reads as one; text as it is otherwise.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_))) => value,
        Ok(Value::Null | Value::Object(_)) | Err(_) => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn several_comparisons_are_joined() {
        let ifs = ["a equals 1".to_owned(), "b equals 2".to_owned()];
        let joined = condition(None, &ifs, "any").ok().flatten();
        assert_eq!(joined.and_then(|joined| joined["any"].as_array().map(Vec::len)), Some(2));
        assert_eq!(condition(None, &[], "all").ok(), Some(None));
        assert!(condition(Some("{"), &[], "all").is_err());
    }
}
