//! The examples under `openapi/examples`, held to what the gateway does: requests and scripts are run against the sample
//! configuration, flows are checked for what their tools would only say at run time.

mod curl;
mod flows;
mod http_files;
mod logic_app;
mod postman;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use streamgate::http::OPERATIONS;

use crate::support::gateway::{Setup, TestGateway};
use crate::support::raw::{Answer, exchange, request};
use crate::support::records::{ORGANIZATION_ID, PROPERTIES, WORK_STREAM_ID, record_id};

/// The sample case.
const RECORD_ID: &str = "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/examples")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// The names of a folder's files with this ending, in order.
fn files(inside: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder().join(inside)).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let mut found: Vec<String> =
        names.filter(|name| name.ends_with(ending)).map(|name| format!("{inside}/{name}")).collect();
    found.sort();
    found
}

/// A gateway with exactly the sample configuration, as `cargo run --release` starts it, and its development key.
pub(crate) fn sample_gateway() -> (TestGateway, String) {
    let gateway = TestGateway::start_with(&Setup {
        process: include_str!("../../../config/streamgate.toml").to_owned(),
        organizations: vec![("contoso.toml", include_str!("../../../config/organizations/contoso.toml").to_owned())],
        tls: false,
    });
    let key = std::fs::read_to_string(gateway.folder().join("data/development.key")).expect("a development key");
    (gateway, key.trim().to_owned())
}

/// Whether the gateway has this operation; parts of the path in double braces may be anything.
fn is_an_operation(method: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    OPERATIONS.iter().any(|operation| {
        let pattern: Vec<&str> = operation.path.split('/').collect();
        let parts: Vec<&str> = path.split('/').collect();
        operation.method == method
            && pattern.len() == parts.len()
            && pattern.iter().zip(parts).all(|(pattern, part)| pattern.starts_with('{') || *pattern == part)
    })
}

/// One request of an example.
#[derive(Debug)]
struct Step {
    name: String,
    method: String,
    /// With the query; variables in double braces.
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
    /// Members that the answer must have.
    expected: Vec<(String, Value)>,
    /// Which member of the answer becomes which variable.
    captured: Vec<(String, String)>,
}

/// Puts the variables in.
fn fill(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or_else(|| panic!("no end of a variable in {text}"));
        let value = variables.get(name).unwrap_or_else(|| panic!("the variable `{name}` is not defined"));
        filled.push_str(value);
        filled.push_str(rest);
    }
    filled
}

/// The names of the variables in a text.
fn variables_of(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|part| part.split("}}").next())
}

/// A member by a path as scripts write it: `value[0].id`.
fn member<'a>(body: &'a Value, path: &str) -> &'a Value {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    body.pointer(&pointer).unwrap_or(&Value::Null)
}

/// Runs an example's requests in their order.
fn run((gateway, key): &(TestGateway, String), steps: &[Step], mut variables: BTreeMap<String, String>) {
    variables.insert("key".to_owned(), key.clone());
    variables.insert("$guid".to_owned(), record_id(0x0e5a_3b1e));
    for step in steps {
        let name = &step.name;
        assert!(is_an_operation(&step.method, &step.path), "{name}: {} {} is no operation", step.method, step.path);
        let answer = send(gateway, step, &variables);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, step.status, "{name}: {text}");
        let body = answer.json();
        for (path, expected) in &step.expected {
            assert_eq!(member(&body, path), expected, "{name}: {path} in {text}");
        }
        for (path, variable) in &step.captured {
            let value = member(&body, path).as_str().unwrap_or_else(|| panic!("{name}: there is no {path} in {text}"));
            variables.insert(variable.clone(), value.to_owned());
        }
    }
}

fn send(gateway: &TestGateway, step: &Step, variables: &BTreeMap<String, String>) -> Answer {
    let headers: Vec<(&str, String)> =
        step.headers.iter().map(|(name, value)| (name.as_str(), fill(value, variables))).collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (path, body) = (fill(&step.path, variables), fill(&step.body, variables));
    exchange(gateway.public, &request(&step.method, &path, &headers, body.as_bytes()))
}

/// Every ID that an example gives these properties, whether in JSON, in JSON in a text, or in a query.
fn ids<'a>(text: &'a str, property: &'a str) -> impl Iterator<Item = String> + 'a {
    text.match_indices(property).filter_map(|(at, found)| {
        let after = text[at + found.len()..].trim_start_matches(|c: char| c.is_whitespace() || "\\\":=".contains(c));
        let id: String = after.chars().take(36).collect();
        (id.len() == 36 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-')).then_some(id)
    })
}

#[test]
fn all_examples_are_of_the_sample_organization() {
    let sample = include_str!("../../../config/organizations/contoso.toml");
    let mut seen = 0;
    for (inside, ending) in [
        ("logic-app", ".json"),
        ("n8n", ".json"),
        ("node-red", ".json"),
        ("postman", ".json"),
        ("http", ".http"),
        ("curl", ""),
    ] {
        for name in files(inside, ending) {
            let text = read(&name);
            for id in ids(&text, "organizationId") {
                assert_eq!(id, ORGANIZATION_ID, "{name}");
                seen += 1;
            }
            for property in ["workStreamId", "recordId"] {
                for id in ids(&text, property) {
                    let known = sample.contains(&id) || id == RECORD_ID || id.starts_with("00000000-");
                    assert!(known, "{name}: {property} {id} is not in the sample");
                }
            }
        }
    }
    assert!(seen > 20, "IDs are found: {seen}");
    assert!(sample.contains(ORGANIZATION_ID) && sample.contains(WORK_STREAM_ID), "the samples agree");
}

#[test]
fn the_page_about_the_examples_names_files_that_exist_and_no_folder_is_missing() {
    let page = read("README.md");
    for word in page.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains([' ', ':', '<']))
    {
        let known = folder().join(word).exists() || Path::new(env!("CARGO_MANIFEST_DIR")).join(word).exists();
        assert!(known || word.starts_with('/') || word.starts_with("streamgate-data/"), "there is no {word}");
    }
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(name == "README.md" || page.contains(&format!("`{name}/")), "the page says nothing about {name}");
    }
}

#[test]
fn the_page_about_power_automate_knows_every_404_and_names_codes_that_exist() {
    let page = include_str!("../../../docs/power-automate.md");
    let codes: Vec<&str> = streamgate::http::problem::Code::all().into_iter().map(|code| code.name()).collect();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).collect();
    for row in &rows {
        if let Some(named) =
            row.split('`').nth(1).filter(|named| named.contains('-') && row.find('`') < row[1..].find('|'))
        {
            assert!(codes.contains(&named), "{named} is no code");
        }
    }
    for refusal in [
        "organization-unknown",
        "work-stream-unknown",
        "work-stream-inactive",
        "work-stream-not-for-records",
        "entity-not-configured",
        "entity-configuration-inactive",
        "entity-set-mismatch",
        "relationship-mismatch",
    ] {
        assert!(rows.iter().any(|row| row.starts_with(&format!("| 404 `{refusal}`"))), "no row for {refusal}");
    }
}
