//! What may come into the binary: licences, sources, and crates or versions that must not. `deny.toml` says what; this
//! holds the dependency tree to it with nothing but cargo, without a network.
//!
//! Known faults that were published since are not found by this: `cargo deny check advisories` looks them up, where there
//! is a network (docs/security.md).

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("readable")
}

fn rules() -> toml::Table {
    toml::from_str(&file("deny.toml")).expect("TOML")
}

/// One crate of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: Vec<u64>,
    /// What stands behind the version: nothing for crates.io, else a folder or a repository.
    from: String,
    licence: String,
}

/// Numbers of a version, without what follows `-` or `+`.
fn version(text: &str) -> Vec<u64> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    core.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("{text} is no version"))).collect()
}

/// The tree that is really built here, with what tests and builds use, exactly as Cargo.lock has it.
fn tree(edges: &str) -> BTreeSet<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--all-features", "--prefix", "none", "--no-dedupe"])
        .args(["--edges", edges, "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let packages = text.lines().filter(|line| !line.is_empty()).map(|line| {
        let (package, licence) = line.split_once('|').expect("a package and its licence");
        let mut words = package.split(' ');
        let (name, version_of) = (words.next().expect("a name"), words.next().expect("a version"));
        // `(proc-macro)` says what it is, not where it is from.
        let from = words.filter(|word| *word != "(proc-macro)").collect::<Vec<_>>().join(" ");
        let version = version(version_of.trim_start_matches('v'));
        Package { name: name.to_owned(), version, from, licence: licence.to_owned() }
    });
    packages.collect()
}

#[test]
fn the_lock_file_says_everything_and_only_crates_io() {
    let lock: toml::Table = toml::from_str(&file("Cargo.lock")).expect("TOML");
    let allowed = &rules()["sources"]["allow-registry"];
    let allowed = format!("registry+{}", allowed[0].as_str().expect("an address"));
    for package in lock["package"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let source = package.get("source").and_then(toml::Value::as_str);
        if name == env!("CARGO_PKG_NAME") {
            assert_eq!(source, None);
        } else {
            assert_eq!(source, Some(&*allowed), "{name}");
            assert!(package.get("checksum").is_some(), "{name} has no checksum");
        }
    }
    let elsewhere: Vec<_> = tree("normal,build,dev").into_iter().filter(|package| !package.from.is_empty()).collect();
    assert!(elsewhere.iter().all(|package| package.name == env!("CARGO_PKG_NAME")), "{elsewhere:#?}");
}

/// Whether an SPDX expression can be met with these licences. `/` is how `OR` was written before.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any_of(&words, allowed);
    assert!(rest.is_empty(), "{expression}: {rest:?} is left");
    met
}

fn any_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = all_of(words, allowed);
    while let Some((&"OR", behind)) = rest.split_first() {
        let (other, after) = all_of(behind, allowed);
        (met, rest) = (met | other, after);
    }
    (met, rest)
}

fn all_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words, allowed);
    while let Some((&"AND", behind)) = rest.split_first() {
        let (other, after) = one(behind, allowed);
        (met, rest) = (met & other, after);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (met, rest) = any_of(inner, allowed);
            assert_eq!(rest.first(), Some(&")"), "a parenthesis is not closed");
            (met, &rest[1..])
        }
        [licence, "WITH", exception, rest @ ..] => (allowed.contains(&format!("{licence} WITH {exception}")), rest),
        [licence, rest @ ..] => (allowed.contains(*licence), rest),
        [] => panic!("a licence is missing"),
    }
}

fn allowed_licences() -> BTreeSet<String> {
    let rules = rules();
    let allowed = rules["licenses"]["allow"].as_array().expect("a list");
    allowed.iter().map(|licence| licence.as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_licence_is_permissive() {
    let allowed = allowed_licences();
    for package in tree("normal,build,dev") {
        assert!(is_met(&package.licence, &allowed), "{} {:?}: {}", package.name, package.version, package.licence);
    }
}

#[test]
fn licences_are_read_as_they_are_meant() {
    let allowed = allowed_licences();
    for good in
        ["MIT", "MIT/Apache-2.0", "MIT OR GPL-3.0", "(MIT OR GPL-3.0) AND ISC", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "ISC AND (GPL-3.0 OR AGPL-3.0)", "GPL-2.0 WITH LLVM-exception", "MPL-2.0"]
    {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}

/// The crates that must not be there, with the version from which on they may, and why.
fn unwanted() -> Vec<(String, Option<Vec<u64>>, String)> {
    let rules = rules();
    let denied = rules["bans"]["deny"].as_array().expect("a list").iter().map(|entry| {
        let text = |key: &str| entry[key].as_str().expect("text").to_owned();
        let named = text("crate");
        let (name, floor) = match named.split_once("@<") {
            Some((name, floor)) => (name.to_owned(), Some(version(floor))),
            None => (named, None),
        };
        (name, floor, text("reason"))
    });
    denied.collect()
}

#[test]
fn what_must_not_come_in_is_not_there() {
    let unwanted = unwanted();
    for package in tree("normal,build,dev") {
        for (name, floor, reason) in unwanted.iter().filter(|(name, ..)| *name == package.name) {
            let is_old_enough = floor.as_ref().is_some_and(|floor| package.version >= *floor);
            assert!(is_old_enough, "{name} {:?}: {reason}", package.version);
        }
    }
}

#[test]
fn the_rules_are_about_crates_that_are_there() {
    // A floor for a crate with another name would hold nothing.
    let unwanted = unwanted();
    let names: BTreeSet<String> = tree("normal,build,dev").into_iter().map(|package| package.name).collect();
    let floors = unwanted.iter().filter(|(_, floor, _)| floor.is_some()).map(|(name, ..)| name.as_str());
    let missing: Vec<&str> = floors.filter(|name| !names.contains(*name)).collect();
    assert_eq!(missing, [""; 0]);
    assert!(tree("normal").iter().all(|package| package.name != "h2"), "HTTP/2 is for tests only");
    let text = file("docs/architecture.md");
    for (name, floor, _) in &unwanted {
        assert!(text.contains(&format!("| {name} |")), "docs/architecture.md does not say why {name} {floor:?}");
    }
}
