//! Judges from outside: two validators and a client that know nothing of this project, in Python.
//!
//! `.ci/run` makes the environment in `target/connector-venv`; `STREAMGATE_PYTHON` names another one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::examples::sample_gateway;
use crate::support::skipped;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Python that has the packages of `tests/connector/requirements.txt`. On CI there must be one.
pub(crate) fn python() -> Option<PathBuf> {
    let named = std::env::var_os("STREAMGATE_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| project().join("target/connector-venv/bin/python"));
    let imports = "import bravado, check_jsonschema, kubernetes_validate, openapi_spec_validator, prometheus_client, \
                   swagger_spec_validator";
    let tried = Command::new(&python).args(["-c", imports]).output();
    if tried.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "{} has not what it takes: {tried:?}", python.display());
    skipped(
        "independent validators and client. To run them: python3 -m venv target/connector-venv && \
         target/connector-venv/bin/pip install -r tests/connector/requirements.txt",
    );
    None
}

/// Runs one of the scripts, which must succeed; its output.
pub(crate) fn run(python: &Path, script: &str, arguments: &[&Path]) -> String {
    let mut command = Command::new(python);
    command.arg(project().join("tests/connector").join(script)).args(arguments);
    let output = command.output().expect("Python runs");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {said}{complained}");
    said.into_owned()
}

#[test]
fn validators_accept_the_descriptions() {
    let Some(python) = python() else { return };
    let openapi = project().join("openapi");
    let said =
        run(&python, "validate.py", &[&openapi, &openapi.join("openapi.json"), &openapi.join("administration.json")]);
    assert_eq!(said.matches("no fault").count(), 3, "{said}");
}

#[test]
fn a_client_that_knows_nothing_but_the_exported_file_gets_typed_answers() {
    let Some(python) = python() else { return };
    let (gateway, key) = sample_gateway();
    let package = gateway.folder().join("connector");
    let exported = Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .args(["connector", "export", "--organization", "contoso", "--host", &gateway.public.to_string()])
        .arg("--out")
        .arg(&package)
        .arg("--config")
        .arg(gateway.folder().join("streamgate.toml"))
        .output()
        .expect("the command runs");
    assert!(exported.status.success(), "{exported:?}");
    assert!(run(&python, "validate.py", &[&package]).contains("OpenAPI 2.0"), "the exported file is valid too");

    let file = package.join("apiDefinition.swagger.json");
    let url = format!("http://{}", gateway.public);
    let said = run(&python, "generic_client.py", &[&file, Path::new(&url), Path::new(&key)]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("202 ") && lines[1].starts_with("404 "), "{said}");
}
