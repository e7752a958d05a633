//! What the connector's description (OpenAPI 2.0) says of a request and its answer. Every exchange of a test with the public
//! listener is held to it: the status must be declared, the answer must be of the declared schema, and so must a body that
//! was taken.
//!
//! The description is held more strictly than its readers do: an object with members has these and no others, so that what
//! the gateway says besides shows here, too.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use streamgate::http::{OPERATIONS, Operation};

use super::raw::Answer;
use super::records::PROPERTIES;

/// The description.
pub(crate) static CONNECTOR: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../openapi/apiDefinition.swagger.json")).expect("the description is JSON")
});

/// The definitions, held strictly.
static DEFINITIONS: LazyLock<Value> = LazyLock::new(|| strictly(&CONNECTOR["definitions"]));

static VALIDATORS: LazyLock<Mutex<HashMap<String, &'static Validator>>> = LazyLock::new(Mutex::default);

/// The same schema, in which objects have no other members than those that it names, and `x-nullable` counts.
fn strictly(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut strict: Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), strictly(value))).collect();
            let is_schema = strict.get("type").is_some_and(Value::is_string);
            if is_schema && strict.get("properties").is_some_and(Value::is_object) {
                strict.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            if is_schema && strict.get("x-nullable") == Some(&Value::Bool(true)) {
                let either = json!([strict["type"], "null"]);
                strict.insert("type".to_owned(), either);
            }
            Value::Object(strict)
        }
        Value::Array(elements) => Value::Array(elements.iter().map(strictly).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}

/// The operation that a request is for, if the table has one.
pub(crate) fn operation(method: &str, path: &str) -> Option<&'static Operation> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len() && pattern.iter().zip(&path).all(|(part, it)| part.starts_with('{') || part == it)
    };
    // Words before parameters: `/records/explain` is no receipt.
    OPERATIONS.iter().find(|operation| operation.method == method && fits(operation.path))
}

/// The description of an operation.
pub(crate) fn described(operation: &Operation) -> &'static Value {
    &CONNECTOR["paths"][operation.path][operation.method.to_ascii_lowercase()]
}

/// The schema of an operation's body.
fn body_of(operation: &Operation) -> Option<&'static Value> {
    let parameters = described(operation)["parameters"].as_array()?;
    Some(&parameters.iter().find(|parameter| parameter["in"] == "body")?["schema"])
}

fn hold(what: &str, schema: &Value, body: &Value) {
    let validator = *VALIDATORS.lock().expect("no panic").entry(what.to_owned()).or_insert_with(|| {
        let whole = json!({ "allOf": [strictly(schema)], "definitions": *DEFINITIONS });
        Box::leak(Box::new(jsonschema::draft4::new(&whole).expect("a schema")))
    });
    let faults: Vec<String> =
        validator.iter_errors(body).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{what} is not as described: {faults:#?}\n{body:#}");
}

/// Holds an exchange to the description. What is no operation of the table is not described.
pub(crate) fn check(method: &str, path: &str, body: &[u8], answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    let status = answer.status.to_string();
    let response = &described(operation)["responses"][&status];
    assert!(response.is_object(), "{} does not declare {status}", operation.id);
    assert!(operation.statuses().contains(&answer.status), "{} does not have {status} in the table", operation.id);
    hold(&format!("{} {status}", operation.id), &response["schema"], &answer.json());
    if answer.status < 300 && operation.takes_a_body {
        let body: Value = serde_json::from_slice(body).expect("what was taken is JSON");
        let schema = body_of(operation).unwrap_or_else(|| panic!("{} does not describe its body", operation.id));
        hold(&format!("{} body", operation.id), schema, &as_described(operation, body));
    }
}

/// Holds what a subscriber was told to the description of the trigger.
pub(crate) fn check_notification(event: &Value) {
    let schema = &CONNECTOR["paths"]["/api/v1/subscriptions"]["x-ms-notification-content"]["schema"];
    assert!(schema.is_object(), "the trigger describes what it gives");
    hold("the trigger's content", schema, event);
}

/// A body that was taken, in the spelling that the description has: what is taken besides (docs/contract.md, section 1) is
/// not described, so that people are not offered two ways.
fn as_described(operation: &Operation, body: Value) -> Value {
    let Value::Object(members) = body else { return body };
    let of_a_record = matches!(operation.id, "RouteRecord" | "ExplainRecord");
    let renamed = members.into_iter().filter_map(|(name, value)| {
        if !of_a_record {
            return Some((name, value));
        }
        let camel = name[..1].to_ascii_lowercase() + &name[1..];
        let name = if camel == "liveWorkStreamId" { "workStreamId".to_owned() } else { camel };
        // Unknown properties are ignored, null counts as absent, and a string may hold the details.
        if !PROPERTIES.contains(&&*name) || value.is_null() {
            return None;
        }
        match value.as_str().filter(|_| name == "recordDetails") {
            Some(text) => serde_json::from_str(text).ok().map(|details| (name, details)),
            None => Some((name, value)),
        }
    });
    Value::Object(renamed.collect())
}
