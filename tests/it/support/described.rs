//! What the administration's description (OpenAPI 3.1) says of an answer. Every answer that a test gets from the second
//! listener is held to it.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};
use streamgate::admin::DESCRIPTION;

use super::raw::Answer;

/// The description.
pub(crate) static DESCRIBED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(DESCRIPTION).expect("the description is JSON"));

static VALIDATORS: LazyLock<Mutex<HashMap<String, &'static Validator>>> = LazyLock::new(Mutex::default);

/// Whether a path is of this pattern, and how many of its segments are words and not names.
fn words_in_common(pattern: &str, path: &str) -> Option<usize> {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    let fits = pattern.len() == path.len() && pattern.iter().zip(&path).all(|(p, s)| p.starts_with('{') || p == s);
    fits.then(|| pattern.iter().filter(|segment| !segment.starts_with('{')).count())
}

/// Holds an answer to the description; what is not there at all is not described.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap_or_default();
    let paths = DESCRIBED["paths"].as_object().expect("paths");
    let method = method.to_ascii_lowercase();
    let candidates = paths.iter().filter(|(_, item)| item.get(&method).is_some());
    let found = candidates.filter_map(|(pattern, _)| Some((words_in_common(pattern, path)?, pattern))).max();
    let Some((_, pattern)) = found else { return };
    let responses = &paths[pattern][&method]["responses"];
    let status = answer.status.to_string();
    let described = responses.get(&status).unwrap_or_else(|| &responses["default"]);
    let described = match described["$ref"].as_str() {
        Some(reference) => DESCRIBED.pointer(reference.trim_start_matches('#')).expect("the reference leads somewhere"),
        None => described,
    };
    assert!(answer.status >= 400 || responses.get(&status).is_some(), "{method} {pattern} does not describe {status}");
    let Some(schema) = described["content"]["application/json"].get("schema") else { return };
    let key = format!("{method} {pattern} {}", if responses.get(&status).is_some() { &status } else { "default" });
    let validator = *VALIDATORS.lock().expect("no panic").entry(key.clone()).or_insert_with(|| {
        let whole = json!({ "allOf": [schema], "components": DESCRIBED["components"] });
        Box::leak(Box::new(jsonschema::draft202012::new(&whole).expect("a schema")))
    });
    let body = answer.json();
    let faults: Vec<String> =
        validator.iter_errors(&body).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{key} is not as described: {faults:#?}\n{body:#}");
}
