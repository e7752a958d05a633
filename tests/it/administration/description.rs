//! The description (OpenAPI 3.1) and the table of operations are the same interface. That answers are as described is
//! held wherever a test asks the second listener.

use std::collections::BTreeSet;

use serde_json::Value;
use streamgate::admin::OPERATIONS;

use crate::support::described::DESCRIBED;
use crate::support::gateway::TestGateway;

#[test]
fn every_operation_is_described_and_nothing_else() {
    let served: BTreeSet<_> =
        OPERATIONS.iter().map(|operation| (operation.path.to_owned(), operation.method.to_ascii_lowercase())).collect();
    let paths = DESCRIBED["paths"].as_object().expect("paths");
    let described: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().expect("methods").keys().map(|method| (path.clone(), method.clone())))
        .collect();
    assert_eq!(served, described);
}

#[test]
fn operation_ids_are_unique_and_every_reference_leads_somewhere() {
    let mut ids = BTreeSet::new();
    for item in DESCRIBED["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("methods").values() {
            let id = operation["operationId"].as_str().expect("an ID");
            assert!(ids.insert(id), "{id} is there twice");
            let summary = operation["summary"].as_str().expect("a summary");
            assert!(summary.len() <= 80 && !summary.ends_with('.'), "{summary}");
        }
    }
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(elements) => elements.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    references(&DESCRIBED, &mut found);
    for reference in found {
        assert!(DESCRIBED.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[test]
fn the_gateway_serves_its_description() {
    let gateway = TestGateway::start();
    assert_eq!(gateway.change("GET", "/openapi.json", &Value::Null, 200), *DESCRIBED);
}
