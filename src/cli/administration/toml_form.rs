//! An organization's document as TOML and back: what `export` writes is what a file under `organizations/` holds, and what
//! `apply` reads.

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Exit, Failure};
use crate::config::{camel_case, snake_case};

/// Lists whose elements are tables of their own, in the order in which a file has them.
const TABLES: [&str; 5] = ["queues", "workStreams", "contextVariables", "entities", "rules"];

/// The document as TOML.
pub(super) fn write(document: &Map<String, Value>) -> String {
    let mut text = String::new();
    if let Some(Value::Object(organization)) = document.get("organization") {
        text.push_str("[organization]\n");
        members(organization, &mut text);
    }
    tables(document, "", &mut text);
    text
}

/// The lists of tables in an object, each element under its heading.
fn tables(object: &Map<String, Value>, path: &str, text: &mut String) {
    for name in TABLES {
        for element in object.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            let path =
                if path.is_empty() { snake_case(name).into_owned() } else { format!("{path}.{}", snake_case(name)) };
            text.push_str(&format!("\n[[{path}]]\n"));
            members(element, text);
            tables(element, &path, text);
        }
    }
}

/// Members that fit on a line each; what tells a resource apart comes first.
fn members(object: &Map<String, Value>, text: &mut String) {
    let rank = |name: &str| match name {
        "id" => 0,
        "uniqueName" | "name" | "displayName" | "entityLogicalName" => 1,
        _ => 2,
    };
    let mut shown: Vec<_> =
        object.iter().filter(|(name, value)| !TABLES.contains(&name.as_str()) && !value.is_null()).collect();
    shown.sort_by_key(|(name, _)| rank(name));
    for (name, value) in shown {
        text.push_str(&format!("{} = {}\n", snake_case(name), inline(value)));
    }
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(elements) => format!("[{}]", elements.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            // Operands before operators before values, as people say it.
            let rank = |name: &str| match name {
                "operator" => 1,
                "value" => 2,
                _ => 0,
            };
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| rank(name));
            let members = members.into_iter().map(|(name, value)| format!("{} = {}", snake_case(name), inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A TOML file as the JSON that the API takes.
pub(super) fn parse(name: &str, text: &str) -> Result<Value, Failure> {
    let root = DeTable::parse(text)
        .map_err(|fault| Failure::new(Exit::Configuration, format!("{name} is not valid TOML: {fault}")))?;
    Ok(table(root.get_ref()))
}

fn table(table: &DeTable<'_>) -> Value {
    let members = table.iter().map(|(name, value)| (camel_case(name.get_ref()), json(value.get_ref())));
    Value::Object(members.collect())
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(boolean) => Value::from(*boolean),
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(elements) => elements.iter().map(|element| json(element.get_ref())).collect(),
        DeValue::Table(inner) => table(inner),
        DeValue::Integer(number) => {
            let read = i128::from_str_radix(number.as_str(), number.radix()).ok();
            let small = read.and_then(|read| i64::try_from(read).ok()).map(Value::from);
            let large = || read.and_then(|read| u64::try_from(read).ok()).map(Value::from);
            // What is too large for JSON goes as text, which the gateway refuses with the place.
            small.or_else(large).unwrap_or_else(|| Value::from(number.to_string()))
        }
        DeValue::Float(number) => {
            let read = number.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            read.map_or_else(|| Value::from(number.to_string()), Value::Number)
        }
    }
}

/// Line and column (from 1) of what a JSON pointer of the document leads to in the TOML text, or of what is nearest above.
pub(super) fn place(text: &str, pointer: &str) -> Option<(usize, usize)> {
    let root = DeTable::parse(text).ok()?;
    let mut offset = root.span().start;
    let mut at: Option<&Spanned<DeValue<'_>>> = None;
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let next = match at.map(Spanned::get_ref) {
            None => root.get_ref().get(&*snake_case(&segment)),
            Some(DeValue::Table(table)) => table.get(&*snake_case(&segment)),
            Some(DeValue::Array(elements)) => segment.parse::<usize>().ok().and_then(|index| elements.get(index)),
            Some(_) => None,
        };
        let Some(next) = next else { break };
        offset = next.span().start;
        at = Some(next);
    }
    let before = text.get(..offset)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Some((before.matches('\n').count() + 1, before.get(line_start..)?.chars().count() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn example() -> Value {
        json!({
            "organization": { "id": "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10", "uniqueName": "contoso", "name": "Contoso \"&\" Søn\n" },
            "queues": [{ "name": "Default queue", "priority": 2, "default": true }],
            "workStreams": [{
                "id": "7c2e9d54-41a8-ea11-a812-000d3a579c31",
                "name": "Cases",
                "allowedPresences": ["available", "busy-do-not-disturb"],
                "contextVariables": [{ "displayName": "Risk", "column": "new_risk" }],
                "entities": [{
                    "id": "c6d0a4f2-8b1e-4f3c-a5d7-2e9b0c1f4a61",
                    "entityLogicalName": "incident",
                    "entitySetName": "incidents",
                    "rules": [{ "name": "First", "queue": "Default queue" }],
                }],
                "rules": [{
                    "name": "Hot",
                    "queue": "Default queue",
                    "when": { "any": [
                        { "column": "new_reading", "operator": "greater-than", "value": 98.60000000000001 },
                        { "label": "prioritycode", "operator": "is-one-of", "value": ["High", "Urgent"] },
                        { "all": [{ "variable": "risk", "operator": "equals", "value": u64::MAX }] },
                    ] },
                }],
            }],
        })
    }

    #[test]
    fn what_is_written_reads_as_the_same_document() {
        let text = write(example().as_object().expect("an object"));
        assert_eq!(parse("f", &text).ok(), Some(example()), "{text}");
        assert!(text.contains("\n[[work_streams.entities.rules]]\nname = \"First\"\n"), "{text}");
        assert!(
            text.contains(
                "when = { any = [{ column = \"new_reading\", operator = \"greater-than\", value = 98.60000000000001 }"
            ),
            "{text}"
        );
    }

    #[test]
    fn pointers_lead_to_lines() {
        let text = "[organization]\nunique_name = \"x\"\n[[work_streams]]\nname = \"a\"\n[[work_streams.entities]]\nentity_set_name = 5\n";
        assert_eq!(place(text, "/workStreams/0/entities/0/entitySetName"), Some((6, 19)));
        assert_eq!(place(text, "/workStreams/0/entities/0/nothing"), Some((5, 1)));
        assert_eq!(place(text, "/organization/uniqueName"), Some((2, 15)));
    }

    proptest! {
        #[test]
        fn any_text_survives(text in "\\PC{0,40}", control in proptest::char::range('\u{0}', '\u{9f}')) {
            let name = format!("{text}{control}");
            let document = json!({ "organization": { "name": name }, "queues": [{ "name": name }] });
            let written = write(document.as_object().expect("an object"));
            prop_assert_eq!(parse("f", &written).ok(), Some(document));
        }
    }
}
