//! The house rules that no compiler checks: who may import whom, that every module tells its story, and that every path
//! and every test that a document names exists.

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under a folder with this ending, by path relative to the project.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).expect("inside the project").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("readable"))
        })
        .collect()
}

/// Which room of the house a file of `src/` belongs to.
fn room(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside.split(['/', '.']).next().unwrap_or_default()
}

/// What each room may import. `main` and `lib` are the door plate.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("connector", &["domain"]),
    ("store", &["domain", "config"]),
    ("routing_queue", &["domain", "config", "store"]),
    ("intake", &["domain", "store"]),
    ("forward", &["domain", "config", "store", "routing_queue"]),
    ("subscriptions", &["domain", "config", "store", "routing_queue", "forward"]),
    ("telemetry", &["config", "store", "intake"]),
    ("http", &["domain", "config", "connector", "store", "routing_queue", "intake", "subscriptions", "telemetry"]),
    ("editor", &["domain", "config", "store"]),
    ("gateways", &["config", "store"]),
    ("admin", &["domain", "config", "store", "subscriptions", "editor", "gateways", "http", "telemetry"]),
    (
        "app",
        &[
            "domain",
            "config",
            "store",
            "routing_queue",
            "intake",
            "forward",
            "subscriptions",
            "telemetry",
            "editor",
            "gateways",
            "http",
            "admin",
        ],
    ),
    ("fuzzing", &["domain", "config", "store", "routing_queue", "http"]),
    ("cli", &["domain", "config", "connector", "routing_queue", "app", "http", "telemetry"]),
];

/// A file that is compiled for tests only.
fn is_test(file: &str) -> bool {
    file.contains("/tests")
        || file.contains("/testing")
        || file.ends_with("fixtures.rs")
        || file == "src/store/contract.rs"
}

#[test]
fn nothing_points_back() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", "rs") {
        let room = room(&file);
        if matches!(room, "main" | "lib") || is_test(&file) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{file}: the room `{room}` is not in the table"));
            continue;
        };
        for (number, line) in text.lines().enumerate().take_while(|(_, line)| !line.contains("#[cfg(test)]")) {
            for named in line.split("crate::").skip(1).filter(|_| !line.trim_start().starts_with("//")) {
                let named: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if named != room && !allowed.contains(&named.as_str()) {
                    wrong.push(format!("{file}:{}: `{room}` may not import `{named}`", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Crates that only some rooms may name.
const KEPT_APART: &[(&str, &[&str])] = &[
    ("actix_web", &["src/http/", "src/admin/", "src/app/", "src/cli/serve.rs", "src/cli/listen.rs"]),
    ("actix_http", &["src/http/"]),
    (
        "reqwest",
        &[
            "src/routing_queue/",
            "src/subscriptions/",
            "src/telemetry/spans/",
            "src/http/keys/",
            "src/cli/",
            "src/config/",
        ],
    ),
    ("rusqlite", &["src/store/sqlite/"]),
    ("tokio_postgres", &["src/store/postgres/", "src/config/"]),
    ("deadpool_postgres", &["src/store/postgres/"]),
    ("tokio_postgres_rustls", &["src/store/postgres/"]),
    (
        "tokio",
        &[
            "src/store/",
            "src/routing_queue/",
            "src/forward/",
            "src/subscriptions/",
            "src/http/",
            "src/app/",
            "src/cli/",
            "src/config/",
            "src/telemetry/spans/",
        ],
    ),
    ("tokio_rustls", &["src/http/"]),
    ("clap", &["src/cli/"]),
    ("notify", &["src/config/"]),
];

#[test]
fn crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", "rs") {
        for (name, rooms) in KEPT_APART {
            let path = format!("{name}::");
            let names_it = text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.match_indices(&path)
                    .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
            });
            if names_it && !is_test(&file) && !rooms.iter().any(|room| file.starts_with(room)) {
                wrong.push(format!("{file} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_opens_with_its_story() {
    let without: Vec<_> =
        files("src", "rs").into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(file, _)| file).collect();
    assert!(without.is_empty(), "no `//!` header: {without:?}");
}

#[test]
fn files_and_names_stay_readable() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", "rs") {
        if text.lines().count() > 600 {
            wrong.push(format!("{file} has more than 600 lines: does it hold two rooms?"));
        }
        if file.contains("util") || file.contains("helper") {
            wrong.push(format!("{file}: name it after what it does"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every path in backticks that looks like one of ours.
fn named_paths(text: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: &[&str] =
        &["src/", "tests/", "docs/", "config/", "openapi/", "benches/", "examples/", "deploy/", "fuzz/", ".ci/"];
    text.split('`').skip(1).step_by(2).filter(|word| {
        FOLDERS.iter().any(|folder| word.starts_with(folder))
            && !word.contains(|c: char| c.is_whitespace() || "*<>{}…$=".contains(c))
    })
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut documents = files("docs", "md");
    for name in ["README.md", "CHANGELOG.md", "SECURITY.md"] {
        documents.insert(name.to_owned(), fs::read_to_string(root().join(name)).expect("readable"));
    }
    documents.extend(files("src", "rs"));
    let mut missing = Vec::new();
    for (document, text) in &documents {
        for path in named_paths(text) {
            let plain = path.split(['#', ':']).next().unwrap_or_default();
            if !root().join(plain).exists() {
                missing.push(format!("{document} names {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Every function that is a test, whatever else there is of that name.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in files("src", "rs").into_values().chain(files("tests", "rs").into_values()) {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "));
            if let Some((name, _)) = name.filter(|_| is_test).and_then(|rest| rest.split_once('(')) {
                found.insert(name.to_owned());
            }
            is_test = line == "#[test]" || line.starts_with("#[tokio::test") || (is_test && line.starts_with("#["));
        }
    }
    found
}

#[test]
fn every_test_that_the_security_review_names_exists() {
    let text = fs::read_to_string(root().join("docs/security.md")).expect("readable");
    let tests = tests();
    // Words joined by underscores: only metrics and the names below look like that, too.
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('_') && !word.starts_with("streamgate_"))
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| !NO_TESTS.contains(word))
        .collect();
    assert!(named.len() >= 40, "the review names the tests that hold it: {}", named.len());
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/security.md names tests that are not there: {missing:?}");
}

/// What the review names besides, and what looks like tests: settings and a function.
const NO_TESTS: &[&str] = &[
    "allow_networks",
    "max_connections_per_peer",
    "max_lifetime_hours",
    "organization_for",
    "public_scheme",
    "sg_",
    "wrong_credentials_per_second",
];

#[test]
fn every_error_code_has_a_section() {
    let text = fs::read_to_string(root().join("docs/errors.md")).expect("readable");
    let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    let codes: Vec<&str> = streamgate::http::problem::Code::all().into_iter().map(|code| code.name()).collect();
    assert_eq!(sections, codes, "docs/errors.md has one section per code, in the same order");
}
