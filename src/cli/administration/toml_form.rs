//! An organization's document as the TOML that people keep in `organizations/*.toml`. A pure function.
//!
//! Within a table, single values and lists come first, in the order of the manual; then the tables in it. A `when` is an
//! inline table, broken at its lists where it would be too long for a line. What is read back is the same document; only
//! a `null` and an empty list of tables are left out, which say nothing.

use serde_json::{Map, Value};

use crate::config::snake_case;

/// Longest line before a list is broken into several.
const LONGEST_LINE: usize = 110;

/// The order of keys within a table; others follow by name.
const ORDER: &[&str] = &[
    "id",
    "unique_name",
    "entity_logical_name",
    "entity_set_name",
    "relationship_name",
    "display_name",
    "name",
    "kind",
    "column",
    "label",
    "record",
    "variable",
    "operator",
    "value",
    "queue",
    "priority",
    "default",
    "stream_source",
    "state",
    "capacity",
    "distribution_mode",
    "allowed_presences",
    "auto_close_after_inactivity_minutes",
    "notification",
    "screen_pop_timeout_seconds",
    "assign_after_decline_minutes",
    "routing_queue",
    "requests_per_minute",
    "burst",
    "when",
    // Tables, after everything that stands in the table itself.
    "organization",
    "queues",
    "work_streams",
    "context_variables",
    "rules",
    "entities",
];

/// Lists that are written as `[[tables]]`, so that an empty one need not be written.
const TABLES: [&str; 5] = ["queues", "work_streams", "context_variables", "rules", "entities"];

/// The document as TOML.
pub(super) fn write(document: &Map<String, Value>) -> String {
    let mut toml = String::new();
    table(document, "", &mut toml);
    toml
}

/// The keys and values of a table, then the tables in it.
fn table(members: &Map<String, Value>, path: &str, toml: &mut String) {
    let members = in_order(members);
    let (tables, values): (Vec<_>, Vec<_>) = members.iter().partition(|(name, value)| is_table(name, value));
    for (name, value) in values {
        let key = key(name);
        let value = fitting(value, key.chars().count() + " = ".len());
        toml.push_str(&format!("{key} = {value}\n"));
    }
    for (name, value) in tables {
        let path = if path.is_empty() { key(name) } else { format!("{path}.{}", key(name)) };
        match value {
            Value::Array(elements) => {
                for element in elements.iter().filter_map(Value::as_object) {
                    header(&format!("[[{path}]]"), toml);
                    table(element, &path, toml);
                }
            }
            Value::Object(members) => {
                header(&format!("[{path}]"), toml);
                table(members, &path, toml);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn header(header: &str, toml: &mut String) {
    if !toml.is_empty() {
        toml.push('\n');
    }
    toml.push_str(header);
    toml.push('\n');
}

/// The members that say something, by the names and in the order of the files.
fn in_order(members: &Map<String, Value>) -> Vec<(String, &Value)> {
    let said = members.iter().map(|(name, value)| (snake_case(name).into_owned(), value));
    let says = |(name, value): &(String, &Value)| {
        let is_empty_list = value.as_array().is_some_and(Vec::is_empty) && TABLES.contains(&name.as_str());
        !value.is_null() && !is_empty_list
    };
    let mut said: Vec<_> = said.filter(says).collect();
    said.sort_by_key(|(name, _)| {
        let place = ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len());
        (place, name.clone())
    });
    said
}

/// Whether a member gets a header of its own. Conditions stay where their rule is.
fn is_table(name: &str, value: &Value) -> bool {
    match value {
        Value::Object(_) => name != "when",
        Value::Array(elements) => !elements.is_empty() && elements.iter().all(Value::is_object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A value that follows so many characters: on one line where it fits, else with its outermost list broken up.
fn fitting(value: &Value, before: usize) -> String {
    let line = inline(value);
    if before + line.chars().count() <= LONGEST_LINE { line } else { broken(value, 0) }
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        // JSON's numbers are TOML's too, also `1e+300`.
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text),
        Value::Array(elements) => {
            let elements: Vec<_> = elements.iter().filter(|element| !element.is_null()).map(inline).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<_> =
                in_order(members).iter().map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
        }
    }
}

/// A value over several lines, each of its lists with an element a line. Line breaks stand in lists only, where every
/// version of TOML allows them.
fn broken(value: &Value, level: usize) -> String {
    let indented = |text: String| format!("{}{text}", "  ".repeat(level + 1));
    match value {
        Value::Array(elements) if !elements.is_empty() => {
            let lines = elements.iter().filter(|element| !element.is_null()).map(|element| {
                let line = inline(element);
                let fits = 2 * (level + 1) + line.chars().count() < LONGEST_LINE;
                indented(if fits { line } else { broken(element, level + 1) }) + ",\n"
            });
            format!("[\n{}{}]", lines.collect::<String>(), "  ".repeat(level))
        }
        Value::Object(members) => {
            let members: Vec<_> = in_order(members)
                .iter()
                .map(|(name, value)| {
                    let value = if value.is_array() { broken(value, level) } else { inline(value) };
                    format!("{} = {value}", key(name))
                })
                .collect();
            if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => inline(value),
    }
}

/// A key, in quotes where it needs them.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { name.to_owned() } else { string(name) }
}

/// A text as a basic string on one line.
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // What an editor would not show, or would show elsewhere.
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::submission::Submission;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(toml: &str) -> Value {
        let read = Submission::from_bytes("exported.toml", toml.as_bytes().to_vec());
        Value::Object(read.unwrap_or_else(|faults| panic!("{faults}\n{toml}")).document().clone())
    }

    fn written(document: &Value) -> String {
        write(document.as_object().expect("a document"))
    }

    #[test]
    fn a_document_is_nice_to_read() {
        let document = json!({
            "organization": { "uniqueName": "contoso", "id": "0f3b", "name": "Contoso \"Ltd\"." },
            "queues": [{ "name": "Default queue", "default": true, "priority": 2 }],
            "workStreams": [{
                "id": "7c2e", "name": "Cases", "capacity": 20, "allowedPresences": ["available", "busy"], "notification": null,
                "contextVariables": [],
                "entities": [{ "id": "c6d0", "entityLogicalName": "incident", "entitySetName": "incidents", "rules": [
                    { "name": "Escalated", "queue": "Default queue", "when": { "value": true, "operator": "equals", "column": "isescalated" } },
                ] }],
                "rules": [{ "name": "Failed payments", "queue": "Default queue", "when": { "all": [
                    { "column": "title", "operator": "contains", "value": "payment" },
                    { "any": [
                        { "column": "title", "operator": "contains", "value": "declined" },
                        { "column": "statuscode", "operator": "is-one-of", "value": [3, 4.5] },
                    ] },
                ] } }],
            }],
        });
        let expected = r#"[organization]
id = "0f3b"
unique_name = "contoso"
name = "Contoso \"Ltd\"."

[[queues]]
name = "Default queue"
priority = 2
default = true

[[work_streams]]
id = "7c2e"
name = "Cases"
capacity = 20
allowed_presences = ["available", "busy"]

[[work_streams.rules]]
name = "Failed payments"
queue = "Default queue"
when = { all = [
  { column = "title", operator = "contains", value = "payment" },
  { any = [
    { column = "title", operator = "contains", value = "declined" },
    { column = "statuscode", operator = "is-one-of", value = [3, 4.5] },
  ] },
] }

[[work_streams.entities]]
id = "c6d0"
entity_logical_name = "incident"
entity_set_name = "incidents"

[[work_streams.entities.rules]]
name = "Escalated"
queue = "Default queue"
when = { column = "isescalated", operator = "equals", value = true }
"#;
        assert_eq!(written(&document), expected);
    }

    #[test]
    fn the_samples_come_back_the_same() {
        for text in [
            include_str!("../../../config/organizations/contoso.toml"),
            include_str!("../../../tests/fixtures/organizations/contoso.toml"),
            include_str!("../../../tests/fixtures/organizations/fabrikam.toml"),
        ] {
            let document = read(text);
            let toml = written(&document);
            assert_eq!(read(&toml), document, "{toml}");
            // And once more: what is written is written the same again.
            assert_eq!(written(&read(&toml)), toml);
        }
    }

    /// Any value that can stand in a list or a condition.
    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1_000_000_i32..1_000_000).prop_map(|n| json!(f64::from(n) / 64.0)),
            "\\PC{0,12}|[\u{0}-\u{1f}\u{7f}\"\\\\é日]{0,8}".prop_map(Value::from),
        ]
    }

    fn condition() -> impl Strategy<Value = Value> {
        let test =
            ("[a-z_/@. \"]{1,20}", leaf(), prop::collection::vec(leaf(), 0..4)).prop_map(|(column, value, list)| {
                if list.is_empty() {
                    json!({ "column": column, "operator": "equals", "value": value })
                } else {
                    json!({ "label": column, "operator": "is-one-of", "value": list })
                }
            });
        test.prop_recursive(4, 24, 4, |inner| {
            ("all|any", prop::collection::vec(inner, 1..4)).prop_map(|(group, parts)| json!({ (group): parts }))
        })
    }

    proptest! {
        #[test]
        fn any_document_comes_back_the_same(
            names in prop::collection::vec("\\PC{1,20}", 1..4),
            conditions in prop::collection::vec(condition(), 1..4),
            odd_key in "[a-z][a-z /\"~\u{e9}.-]{0,6}",
            odd in leaf(),
        ) {
            let rules: Vec<_> =
                conditions.iter().map(|when| json!({ "name": names[0], "queue": "q", "when": when })).collect();
            let document = json!({
                "organization": { "id": "i", "uniqueName": "u", "name": names[0], (odd_key): odd },
                "queues": names.iter().map(|name| json!({ "name": name, "default": true })).collect::<Vec<_>>(),
                "workStreams": [{ "id": "a", "rules": rules, "entities": [{ "id": "b", "rules": rules }] }, { "id": "c" }],
            });
            let toml = written(&document);
            prop_assert_eq!(read(&toml), document, "{}", toml);
        }
    }
}
