//! The Postman collection, run without its scripts: what they check and keep is read from their lines.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Step, is_an_operation, json, read, run, sample_gateway, variables_of};

const COLLECTION: &str = "postman/streamgate.postman_collection.json";
const ENVIRONMENT: &str = "postman/local.postman_environment.json";

/// Every request, folder by folder.
fn requests(item: &Value) -> Vec<&Value> {
    match item["item"].as_array() {
        Some(items) => items.iter().flat_map(requests).collect(),
        None => vec![item],
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The lines of the test script.
fn script(item: &Value) -> impl Iterator<Item = &str> {
    item["event"][0]["script"]["exec"].as_array().expect("a script").iter().map(|line| text(line).trim())
}

fn step(item: &Value, keyed: bool) -> Step {
    let request = &item["request"];
    let fields = request["header"].as_array().expect("header fields").iter();
    let mut headers: Vec<(String, String)> =
        fields.map(|field| (text(&field["key"]).to_owned(), text(&field["value"]).to_owned())).collect();
    if keyed && request["auth"]["type"] != "noauth" {
        headers.push(("X-Api-Key".to_owned(), "{{key}}".to_owned()));
    }
    let between = |line: &str, before: &str, after: &str| -> Option<String> {
        Some(line.strip_prefix(before)?.strip_suffix(after)?.to_owned())
    };
    let status = script(item).find_map(|line| between(line, "pm.response.to.have.status(", ");"));
    let expected = script(item).filter_map(|line| {
        let check = between(line, "pm.expect(answer.", ");")?;
        let (path, value) = check.split_once(").to.equal(")?;
        Some((path.to_owned(), serde_json::from_str(value).ok()?))
    });
    let captured = script(item).filter_map(|line| {
        let kept = between(line, "pm.environment.set(\"", ");")?;
        let (variable, path) = kept.split_once("\", answer.")?;
        Some((path.to_owned(), variable.to_owned()))
    });
    Step {
        name: text(&item["name"]).to_owned(),
        method: text(&request["method"]).to_owned(),
        path: text(&request["url"]["raw"]).strip_prefix("{{gateway}}").expect("at the gateway").to_owned(),
        headers,
        body: text(&request["body"]["raw"]).to_owned(),
        status: status.expect("a status").parse().expect("a number"),
        expected: expected.collect(),
        captured: captured.collect(),
    }
}

fn environment() -> BTreeMap<String, String> {
    let environment = json(ENVIRONMENT);
    let values = environment["values"].as_array().expect("values").iter();
    values.map(|value| (text(&value["key"]).to_owned(), text(&value["value"]).to_owned())).collect()
}

fn steps() -> Vec<Step> {
    let collection = json(COLLECTION);
    assert_eq!(collection["auth"]["apikey"][0]["value"], "X-Api-Key", "the key goes where the gateway looks");
    requests(&collection).into_iter().map(|item| step(item, true)).collect()
}

#[test]
fn the_collection_runs_from_top_to_bottom() {
    let steps = steps();
    assert!(steps.iter().filter(|step| !step.expected.is_empty()).count() > 15, "the checks are read");
    let gateway = sample_gateway();
    run(&gateway, &steps, environment());
    // Everything but what belongs to a new record may be run again.
    let again: Vec<Step> = steps.into_iter().take_while(|step| step.name != "Route a new case").collect();
    run(&gateway, &again, environment());
}

#[test]
fn it_is_a_collection_of_version_2_1_of_operations_that_exist() {
    let collection = json(COLLECTION);
    let schema = text(&collection["info"]["schema"]);
    assert_eq!(schema, "https://schema.getpostman.com/json/collection/v2.1.0/collection.json");
    let mut used = BTreeSet::new();
    for item in requests(&collection) {
        let (name, request) = (&item["name"], &item["request"]);
        let url = &request["url"];
        let parts: Vec<&str> = url["path"].as_array().expect("a path").iter().map(text).collect();
        let query = url["query"].as_array().into_iter().flatten();
        let query: Vec<String> = query.map(|pair| format!("{}={}", text(&pair["key"]), text(&pair["value"]))).collect();
        let question = if query.is_empty() { "" } else { "?" };
        let path = format!("/{}{question}{}", parts.join("/"), query.join("&"));
        assert_eq!(text(&url["raw"]), format!("{{{{gateway}}}}{path}"), "{name}: the address is written twice alike");
        let method = text(&request["method"]);
        assert!(is_an_operation(method, &path), "{name}: {method} {path}");
        assert!(!text(&request["description"]).is_empty(), "{name} says what it is for");
        used.insert((method.to_owned(), parts.join("/")));
    }
    for operation in streamgate::http::OPERATIONS {
        let pattern = operation.path.trim_start_matches('/');
        let known = used.iter().any(|(method, path)| {
            let same =
                |(pattern, part): (&str, &str)| pattern == part || (pattern.starts_with('{') && part.contains("{{"));
            method == operation.method
                && path.split('/').count() == pattern.split('/').count()
                && pattern.split('/').zip(path.split('/')).all(same)
        });
        assert!(known, "the collection leaves out {}", operation.id);
    }
}

#[test]
fn every_variable_is_in_the_environment() {
    let (collection, environment) = (read(COLLECTION), environment());
    let in_scripts = collection.split("pm.environment.").skip(1).filter_map(|part| part.split("\\\"").nth(1));
    for variable in variables_of(&collection).chain(in_scripts) {
        assert!(
            variable.starts_with('$') || environment.contains_key(variable),
            "`{variable}` is not in the environment"
        );
    }
    assert_eq!(environment["gateway"], "http://127.0.0.1:8080");
    assert_eq!(environment["key"], "", "a key is nothing to publish");
}
