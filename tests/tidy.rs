//! The house rules that no compiler checks: who may import whom, that every module tells its story, that every path a
//! document names exists, and that the versions which mend known faults are really in the lock file.

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::collections::BTreeMap;
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
    ("admin", &["domain", "config", "store", "subscriptions", "editor", "http", "telemetry"]),
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
            "http",
            "admin",
        ],
    ),
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
        &["src/", "tests/", "docs/", "config/", "openapi/", "benches/", "examples/", "deploy/", ".ci/"];
    text.split('`').skip(1).step_by(2).filter(|word| {
        FOLDERS.iter().any(|folder| word.starts_with(folder))
            && !word.contains(|c: char| c.is_whitespace() || "*<>{}…$=".contains(c))
    })
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut documents = files("docs", "md");
    for name in ["README.md", "CHANGELOG.md"] {
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

#[test]
fn every_error_code_has_a_section() {
    let text = fs::read_to_string(root().join("docs/errors.md")).expect("readable");
    let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    let codes: Vec<&str> = streamgate::http::problem::Code::all().into_iter().map(|code| code.name()).collect();
    assert_eq!(sections, codes, "docs/errors.md has one section per code, in the same order");
}

/// The version of a package in the lock file, as numbers; several where there are several.
fn locked(name: &str) -> Vec<Vec<u64>> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("readable");
    let mut found = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if line == format!("name = \"{name}\"") {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \"")).expect("a version");
            found.push(
                version.trim_end_matches('"').split(['.', '+', '-']).filter_map(|part| part.parse().ok()).collect(),
            );
        }
    }
    found
}

#[test]
fn known_faults_are_mended_in_the_lock_file() {
    // The first version in which each known fault is mended; docs/architecture.md says which faults.
    let floors: &[(&str, &[u64])] = &[
        ("actix-http", &[3, 18, 11]),
        ("jsonwebtoken", &[10, 3, 0]),
        ("bytes", &[1, 11, 1]),
        ("rustls-webpki", &[0, 103, 13]),
        ("tracing-subscriber", &[0, 3, 20]),
        ("h2", &[0, 4, 16]),
    ];
    for (name, floor) in floors {
        for version in locked(name) {
            assert!(version.as_slice() >= *floor, "{name} {version:?} is older than {floor:?}");
        }
    }
    // A copyleft licence, and a timing fault without a mend.
    for unwanted in ["actix-governor", "rsa"] {
        assert!(locked(unwanted).is_empty(), "{unwanted} must not be in the tree");
    }
}
