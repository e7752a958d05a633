//! `[store] kind = "postgres"`: where the database is, how its server proves who it is, and what is said of what is wrong.

use super::*;
use crate::config::settings::{DatabaseSettings, DatabaseTrust};

/// A configuration of this `[store.postgres]`, with this URL in a file.
fn with(table: &str, url: &str) -> Files {
    let main = format!("data_dir = \"data\"\n[store]\nkind = \"postgres\"\n[store.postgres]\n{table}\n");
    let files = Files::new(&main, &[("contoso.toml", CONTOSO)]);
    files.write("database.url", url);
    std::fs::set_permissions(files.path("database.url"), std::fs::Permissions::from_mode(0o600)).expect("private");
    files
}

fn attempt(table: &str, url: &str) -> Result<Config, Faults> {
    let files = with(table, url);
    let overrides = Overrides { read_only: true, data_dir: Some(files.path("")), ..Overrides::default() };
    files.attempt(&overrides).outcome
}

fn database(table: &str, url: &str) -> (DatabaseSettings, usize) {
    let config = attempt(table, url).unwrap_or_else(|faults| panic!("{faults}"));
    (config.process.database.expect("a database"), config.warnings.len())
}

fn fault(table: &str, url: &str) -> String {
    attempt(table, url).expect_err("a fault").to_string()
}

const IN_FILE: &str = "url_file = \"database.url\"";

#[test]
fn a_server_elsewhere_must_prove_who_it_is_and_one_here_need_not() {
    let of = |url: &str| database(IN_FILE, url).0.trust;
    assert_eq!(of("postgres://sg:secret@db.example.com/streamgate\n"), DatabaseTrust::System);
    assert_eq!(of("postgres://sg:secret@127.0.0.1:5433/streamgate"), DatabaseTrust::InTheClear);
    assert_eq!(of("postgres://sg:secret@localhost/streamgate"), DatabaseTrust::InTheClear);
    assert_eq!(of("postgres:///streamgate?host=/run/postgresql&user=sg"), DatabaseTrust::InTheClear);
    assert_eq!(of("postgres://sg@localhost/streamgate?sslmode=require"), DatabaseTrust::System);
    let (settings, warnings) = database(&format!("{IN_FILE}\ntls = \"off\""), "postgres://sg:x@db.example.com/sg");
    assert_eq!((settings.trust, warnings), (DatabaseTrust::InTheClear, 1), "said, and done");
}

#[test]
fn issuers_are_read_and_watched() {
    let files = with(&format!("{IN_FILE}\nca_file = \"ca.pem\""), "postgres://sg:x@db.example.com,db2.example.com/sg");
    files.write_pair("ca.pem", "unused.pem");
    let overrides = Overrides { read_only: true, data_dir: Some(files.path("")), ..Overrides::default() };
    let config = files.attempt(&overrides).outcome.unwrap_or_else(|faults| panic!("{faults}"));
    let trust = config.process.database.expect("a database").trust;
    assert!(matches!(&trust, DatabaseTrust::Issuers(issuers) if issuers.len() == 1), "{trust:?}");
    files.write("ca.pem", "-----BEGIN NOTHING-----");
    let faults = files.attempt(&overrides).outcome.expect_err("a fault").to_string();
    assert!(faults.contains("holds no certificates in PEM"), "{faults}");
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    for (table, url, says) in [
        ("", "", "`url_file` or `url_env` is missing"),
        (IN_FILE, "", "is empty"),
        (IN_FILE, "postgres://sg:hunter2@/streamgate", "names no host"),
        (IN_FILE, "postgres://sg:hunter2@db.example.com", "names no database"),
        (IN_FILE, "mysql://sg:hunter2@db.example.com/x", "is not a connection to PostgreSQL"),
        (IN_FILE, "postgres://sg:hunter2@db.example.com/x?sslmode=verify-full", "say `tls` and `ca_file` here instead"),
        (IN_FILE, "postgres://sg:hunter2@db:nan/x", "is not a connection to PostgreSQL"),
        (IN_FILE, "postgres:///x?host=/run/postgresql&sslmode=require", "TLS is not spoken over a socket"),
        (
            "url_file = \"database.url\"\ntls = \"off\"",
            "postgres://sg@db.example.com/x?sslmode=require",
            "the URL says `sslmode=require`",
        ),
        ("url_env = \"NOT_SET\"", "", "`NOT_SET` is not set"),
        ("url = \"postgres://sg:hunter2@localhost/x\"", "", "`url` holds a password"),
        ("url = \"postgres://sg@localhost/x\"\nurl_env = \"X\"", "", "only one can be"),
        ("url_file = \"database.url\"\nmax_connections = 3", "postgres://sg@localhost/x", "max_connections"),
    ] {
        let faults = fault(table, url);
        assert!(faults.contains(says), "{table} {url}: {faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn the_password_is_in_no_debug_text_and_a_table_that_is_not_used_needs_no_secret() {
    let (settings, _) = database(IN_FILE, "postgres://sg:hunter2@localhost/x");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let main = "[store.postgres]\nurl_env = \"NOT_SET\"\n";
    let files = Files::new(main, &[("contoso.toml", CONTOSO)]);
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config = files.attempt(&overrides).outcome.unwrap_or_else(|faults| panic!("{faults}"));
    assert!(config.process.database.is_none() && config.warnings.is_empty());
    let faults = Files::new("[store]\nkind = \"postgres\"\n", &[("contoso.toml", CONTOSO)]);
    let faults = faults.attempt(&overrides).outcome.expect_err("a fault").to_string();
    assert!(faults.contains("`[store.postgres]` is missing"), "{faults}");
}
