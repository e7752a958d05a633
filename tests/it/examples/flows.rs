//! The flows of n8n and Node-RED: what leads where, and what is asked of the gateway.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{PROPERTIES, files, is_an_operation, json};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A flow asks for operations that exist.
fn check_operation(name: &str, method: &str, path: &str) {
    assert!(is_an_operation(method, path), "{name}: {method} {path}");
}

fn check_record(name: &str, record: &str) {
    let record: Value = serde_json::from_str(record).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    let members: BTreeSet<&str> = record.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(PROPERTIES), "{name}");
}

/// The names of the nodes that a node of n8n leads to.
fn led_to(connections: &Value) -> Vec<&str> {
    array(&connections["main"]).iter().flat_map(array).map(|end| text(&end["node"])).collect()
}

/// The texts in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

#[test]
fn the_workflows_of_n8n_lead_to_nodes_that_exist() {
    let names = files("n8n", ".json");
    assert_eq!(names.len(), 3, "{names:?}");
    for file in names {
        let workflow = json(&file);
        let nodes: BTreeMap<&str, &Value> =
            array(&workflow["nodes"]).iter().map(|node| (text(&node["name"]), node)).collect();
        let ids: BTreeSet<&str> = nodes.values().map(|node| text(&node["id"])).collect();
        assert_eq!((nodes.len(), ids.len()), (array(&workflow["nodes"]).len(), nodes.len()), "{file}: names and IDs");
        let connections = workflow["connections"].as_object().expect("connections");
        let reached: BTreeSet<&str> = connections.values().flat_map(led_to).collect();
        for name in connections.keys().map(String::as_str).chain(reached.iter().copied()) {
            assert!(nodes.contains_key(name), "{file}: there is no node {name}");
        }
        for (name, node) in &nodes {
            let kind = text(&node["type"]);
            let starts = ["manualTrigger", "webhook", "stickyNote"].iter().any(|start| kind.ends_with(start));
            assert!(starts || reached.contains(name), "{file}: nothing leads to {name}");
            for expression in texts(&node["parameters"]) {
                for named in expression.split("$('").skip(1).filter_map(|rest| rest.split("')").next()) {
                    assert!(nodes.contains_key(named), "{file}: {name} names {named}");
                }
            }
        }
        assert_eq!(workflow["active"], false, "{file} starts nothing by being imported");
    }
}

#[test]
fn the_workflows_of_n8n_ask_for_operations_and_say_what_to_do() {
    let mut asked = BTreeSet::new();
    for file in files("n8n", ".json") {
        let workflow = json(&file);
        let of_kind = |kind: &'static str| {
            array(&workflow["nodes"]).iter().filter(move |node| text(&node["type"]).ends_with(kind))
        };
        for node in of_kind(".httpRequest") {
            let (name, parameters) = (text(&node["name"]), &node["parameters"]);
            let url = text(&parameters["url"]).trim_start_matches('=');
            let path = url.strip_prefix("http://127.0.0.1:8080").unwrap_or_else(|| panic!("{file}: {url}"));
            check_operation(&file, text(&parameters["method"]), path);
            assert_eq!(text(&parameters["genericAuthType"]), "httpHeaderAuth", "{file}: {name} sends the key");
            assert_eq!(
                parameters["options"]["response"]["response"]["neverError"], true,
                "{file}: {name} shows refusals"
            );
            asked.insert(name.to_owned());
        }
        if file.ends_with("route-record.json") {
            let sample = of_kind(".set").find(|node| node["name"] == "The sample case").expect("the sample");
            check_record(&file, text(&sample["parameters"]["jsonOutput"]));
            let switch = of_kind(".switch").next().expect("a branch");
            let branches = array(&switch["parameters"]["rules"]["values"]);
            let at = branches.iter().position(|rule| rule["conditions"]["conditions"][0]["rightValue"] == 404);
            let ends = array(&workflow["connections"][text(&switch["name"])]["main"]);
            let end = text(&ends[at.expect("a branch on 404")][0]["node"]).to_owned();
            let says = of_kind(".stopAndError").find(|node| node["name"] == end.as_str()).expect("an end");
            let message = text(&says["parameters"]["errorMessage"]);
            assert!(message.contains("$json.body.detail") && message.contains("$json.body.action"), "{message}");
            assert_eq!(ends.len(), branches.len() + 1, "and one end for everything else");
        }
    }
    assert_eq!(asked, ["EndSubscription", "RouteRecord", "SubscribeToQueue"].map(str::to_owned).into());
}

/// The rule of a change node that sets this.
fn rule<'a>(node: &'a Value, sets: &str) -> Option<&'a Value> {
    array(&node["rules"]).iter().find(|rule| rule["p"] == sets && rule["pt"] == "msg")
}

#[test]
fn the_flows_of_node_red_are_wired_to_nodes_that_exist() {
    let flows = json("node-red/flows.json");
    let nodes: BTreeMap<&str, &Value> = array(&flows).iter().map(|node| (text(&node["id"]), node)).collect();
    assert_eq!(nodes.len(), array(&flows).len(), "IDs are unique");
    let tab = array(&flows).iter().find(|node| node["type"] == "tab").expect("a tab");
    let reached: BTreeSet<&str> =
        nodes.values().flat_map(|node| array(&node["wires"]).iter().flat_map(array)).map(text).collect();
    for end in &reached {
        assert!(nodes.contains_key(end), "there is no node {end}");
    }
    let environment: Vec<&str> = array(&tab["env"]).iter().map(|variable| text(&variable["name"])).collect();
    for (id, node) in &nodes {
        let kind = text(&node["type"]);
        if kind == "tab" {
            continue;
        }
        assert_eq!(node["z"], tab["id"], "{id} is on the tab");
        let starts = ["inject", "http in", "comment"].contains(&kind);
        assert!(starts || reached.contains(id), "nothing leads to {id}");
        if kind == "switch" {
            assert_eq!(array(&node["rules"]).len(), array(&node["wires"]).len(), "{id}: a wire for each case");
        }
        for named in texts(node).into_iter().flat_map(|text| text.split("$env(\"").skip(1)) {
            let named = named.split('"').next().unwrap_or_default();
            assert!(environment.contains(&named), "{id}: {named} is not set on the tab");
        }
    }
    let key = array(&tab["env"]).iter().find(|variable| variable["name"] == "STREAMGATE_API_KEY").expect("a key");
    assert_eq!((&key["type"], key.get("value")), (&"cred".into(), None), "the key is a secret and not in the file");
}

#[test]
fn the_flows_of_node_red_ask_for_operations_and_are_started_by_events() {
    let flows = json("node-red/flows.json");
    let find = |id: &str| array(&flows).iter().find(|node| node["id"] == id).expect("the node");
    let mut asked = BTreeSet::new();
    for node in array(&flows).iter().filter(|node| node["type"] == "change") {
        if let Some(record) = rule(node, "record") {
            check_record(text(&node["id"]), text(&record["to"]));
        }
        let Some(url) = rule(node, "url") else { continue };
        let request = find(text(&node["wires"][0][0]));
        assert_eq!(request["type"], "http request");
        assert!(text(&rule(node, "headers").expect("header fields")["to"]).contains("\"X-Api-Key\": $env("));
        asked.insert(text(&request["name"]));
        if let Some(path) = text(&url["to"]).strip_prefix("$env(\"STREAMGATE_URL\") & ") {
            check_operation("node-red", text(&request["method"]), path.trim_matches('"'));
        } else {
            // The address that the gateway gave when it was subscribed to.
            assert_eq!((&url["to"], &url["tot"]), (&"subscription".into(), &"flow".into()));
        }
    }
    assert_eq!(asked, BTreeSet::from(["EndSubscription", "RouteRecord", "SubscribeToQueue"]));
    let cases: Vec<&Value> = array(&find("which-answer")["rules"]).iter().map(|rule| &rule["v"]).collect();
    assert!(cases.contains(&&"202".into()) && cases.contains(&&"404".into()), "{cases:?}");
    let callback = array(&flows).iter().find(|node| node["type"] == "http in").expect("an address for events");
    let tab = array(&flows).iter().find(|node| node["type"] == "tab").expect("a tab");
    let address = array(&tab["env"]).iter().find(|variable| variable["name"] == "STREAMGATE_CALLBACK");
    assert!(text(&address.expect("an address")["value"]).ends_with(text(&callback["url"])), "it is the one subscribed");
    assert_eq!((&callback["method"], &callback["skipBodyParsing"]), (&"post".into(), &true.into()));
}
