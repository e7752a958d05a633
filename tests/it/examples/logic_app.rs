//! The Logic Apps workflow, held to what the designer would only say at import or in a run.

use serde_json::Value;

use super::{PROPERTIES, is_an_operation, json};
use crate::support::records::{ORGANIZATION_ID, WORK_STREAM_ID};

const WORKFLOW: &str = "logic-app/workflow.json";

/// All actions, with those inside conditions, by name; each with the names of its siblings.
fn actions(of: &Value) -> Vec<(&str, &Value, Vec<&str>)> {
    let Some(actions) = of["actions"].as_object() else { return Vec::new() };
    let siblings: Vec<&str> = actions.keys().map(String::as_str).collect();
    let mut found = Vec::new();
    for (name, action) in actions {
        found.push((name.as_str(), action, siblings.clone()));
        found.extend(self::actions(action));
        found.extend(self::actions(&action["else"]));
    }
    found
}

/// The texts that are expressions, wherever they stand.
fn expressions(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) if text.contains('@') => vec![text],
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        Value::Object(members) => members.values().flat_map(expressions).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The names that a function is called with: `body('RouteRecord')`.
fn arguments<'a>(expression: &'a str, function: &'a str) -> impl Iterator<Item = &'a str> {
    expression
        .split(function)
        .skip(1)
        .filter_map(|rest| rest.strip_prefix("('")?.split_once("')"))
        .map(|(name, _)| name)
}

#[test]
fn it_is_a_definition_whose_expressions_lead_somewhere() {
    let workflow = json(WORKFLOW);
    let definition = &workflow["definition"];
    let schema = definition["$schema"].as_str().expect("a schema");
    assert!(schema.ends_with("/schemas/2016-06-01/workflowdefinition.json#"), "{schema}");
    assert_eq!(definition["contentVersion"], "1.0.0.0");
    let actions = actions(definition);
    let names: Vec<&str> = actions.iter().map(|(name, ..)| *name).collect();
    for (name, action, siblings) in &actions {
        for before in action["runAfter"].as_object().expect("runAfter").keys() {
            assert!(siblings.contains(&before.as_str()) && before != name, "{name} runs after {before}");
        }
    }
    for expression in expressions(definition) {
        for function in ["body", "outputs", "actions"] {
            for name in arguments(expression, function) {
                assert!(names.contains(&name), "{expression}: there is no action {name}");
            }
        }
        for parameter in arguments(expression, "parameters") {
            assert!(definition["parameters"].get(parameter).is_some(), "{expression}: no parameter {parameter}");
        }
        let depth = |open, close| expression.matches(open).count() == expression.matches(close).count();
        assert!(depth('(', ')') && depth('[', ']') && depth('{', '}'), "{expression} is not balanced");
    }
    for parameter in workflow["parameters"].as_object().expect("values").keys() {
        assert!(definition["parameters"].get(parameter).is_some(), "a value of {parameter}, which is not there");
    }
}

#[test]
fn the_trigger_is_the_one_of_added_rows() {
    let workflow = json(WORKFLOW);
    let triggers = workflow["definition"]["triggers"].as_object().expect("triggers");
    assert_eq!(triggers.len(), 1);
    let trigger = &triggers["When_a_row_is_added"];
    assert_eq!(trigger["type"], "ApiConnectionWebhook");
    assert_eq!(trigger["inputs"]["path"], "/api/data/v9.1/callbackregistrations");
    assert_eq!(trigger["inputs"]["body"]["entityname"], "incident");
    assert_eq!(trigger["inputs"]["body"]["url"], "@listCallbackUrl()");
    for field in ["organization", "Consistency", "catalog", "category"] {
        assert!(trigger["inputs"]["headers"][field].is_string(), "{field}");
    }
}

#[test]
fn the_record_goes_out_whole_and_nothing_is_polled() {
    let workflow = json(WORKFLOW);
    let (definition, route) = (&workflow["definition"], &workflow["definition"]["actions"]["RouteRecord"]);
    assert_eq!((&route["type"], &route["operationOptions"]), (&"Http".into(), &"DisableAsyncPattern".into()));
    let inputs = &route["inputs"];
    let path = inputs["uri"].as_str().and_then(|uri| uri.strip_prefix("@{parameters('gatewayAddress')}"));
    assert!(is_an_operation(inputs["method"].as_str().expect("a method"), path.expect("at the gateway")));
    let body = inputs["body"].as_object().expect("a body");
    let mut properties: Vec<&str> = body.keys().map(String::as_str).collect();
    let mut expected = PROPERTIES.to_vec();
    properties.sort_unstable();
    expected.sort_unstable();
    assert_eq!(properties, expected);
    // As an object: text ends at 131,072 characters.
    assert_eq!(body["recordDetails"], "@triggerBody()");
    assert_eq!(definition["parameters"]["organizationId"]["defaultValue"], ORGANIZATION_ID);
    assert_eq!(definition["parameters"]["workStreamId"]["defaultValue"], WORK_STREAM_ID);
    assert_eq!(inputs["retryPolicy"]["type"], "exponential");
    assert!(inputs["retryPolicy"]["count"].as_u64().is_some_and(|count| (1..=90).contains(&count)), "Azure allows 90");
    // The key is a secret: of that type, without a default, and not in the history of runs.
    assert_eq!(inputs["headers"]["X-Api-Key"], "@parameters('gatewayKey')");
    assert_eq!(definition["parameters"]["gatewayKey"]["type"], "SecureString");
    assert!(definition["parameters"]["gatewayKey"].get("defaultValue").is_none());
    assert_eq!(route["runtimeConfiguration"]["secureData"]["properties"][0], "inputs");
}

#[test]
fn a_404_ends_the_run_with_what_is_to_be_done() {
    let workflow = json(WORKFLOW);
    let refused = &workflow["definition"]["actions"]["Refused"];
    let after = refused["runAfter"]["RouteRecord"].as_array().expect("after the call");
    assert!(after.contains(&"Failed".into()), "a 404 fails the action");
    let compared = &refused["expression"]["and"][0]["equals"];
    assert_eq!(compared, &serde_json::json!(["@outputs('RouteRecord')?['statusCode']", 404]));
    let (problem, end) = (&refused["actions"]["Problem"], &refused["actions"]["End_with_what_is_to_be_done"]);
    assert_eq!(problem["type"], "ParseJson");
    assert_eq!(end["type"], "Terminate");
    assert_eq!(end["inputs"]["runStatus"], "Failed");
    let message = end["inputs"]["runError"]["message"].as_str().expect("a message");
    for member in ["detail", "action"] {
        assert!(message.contains(&format!("body('Problem')?['{member}']")), "{message}");
        assert_eq!(problem["inputs"]["schema"]["properties"][member]["type"], "string");
    }
    assert!(refused["else"]["actions"].as_object().is_some_and(|actions| !actions.is_empty()), "and other failures");
}
