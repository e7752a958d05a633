//! `migrate-store`, as whoever runs the gateway uses it: a store that real gateways wrote on files goes on in a database.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::command_line::{json, text};
use crate::crash::try_exchange;
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::postgres::{self as servers, Server, USER};
use crate::support::process::Process;
use crate::support::raw::request;
use crate::support::records::nth_incident;
use crate::support::store;

/// A folder with a configuration and a gateway's data, and an empty database.
struct Move {
    folder: tempfile::TempDir,
    server: &'static Server,
    database: String,
}

impl Move {
    fn new() -> Option<Self> {
        let server = servers::shared()?;
        let folder = tempfile::tempdir().expect("a folder");
        write_configuration(folder.path(), &Setup::default());
        Some(Self { folder, server, database: store::fresh(server) })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Process {
        Process::start(self.folder.path(), None)
    }

    fn url(&self) -> String {
        let (database, port) = (&self.database, self.server.port);
        format!("postgres:///{database}?host={}&port={port}&user={USER}", self.server.folder().display())
    }

    /// Configures the database instead of files.
    fn configure(&self) {
        let store = format!("[store]\nkind = \"postgres\"\n[store.postgres]\nurl = \"{}\"\n", self.url());
        let path = self.folder.path().join("streamgate.toml");
        let others = fs::read_to_string(&path).expect("readable");
        // Tables of their own may stand behind arrays of tables.
        fs::write(&path, format!("{others}\n{store}")).expect("written");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
        command.args(["migrate-store", "--from"]).arg(format!("sqlite:{}", self.data().display()));
        command.env_remove("STREAMGATE_DATABASE_URL").env_remove("STREAMGATE_CONFIG");
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command()
            .args(["--to", "postgres"])
            .args(more)
            .env("STREAMGATE_DATABASE_URL", self.url())
            .output()
            .expect("ran")
    }

    /// What a gateway says that must not start.
    fn refusal(&self) -> String {
        let refused = Command::new(env!("CARGO_BIN_EXE_streamgate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(self.folder.path().join("streamgate.toml"))
            .arg("--data-dir")
            .arg(self.data())
            .output()
            .expect("ran");
        assert_eq!(refused.status.code(), Some(5), "{refused:?}");
        text(&refused.stderr)
    }

    /// What `doctor` finds in one check, and its exit code.
    fn doctor(&self, group: &str, check: &str) -> (Value, Option<i32>) {
        let found = Command::new(env!("CARGO_BIN_EXE_streamgate"))
            .args(["doctor", "--json", "--only", group, "--config"])
            .arg(self.folder.path().join("streamgate.toml"))
            .arg("--data-dir")
            .arg(self.data())
            .output()
            .expect("ran");
        let report = json(&found);
        let findings = report["findings"].as_array().unwrap_or_else(|| panic!("{report}"));
        let finding = findings.iter().find(|finding| finding["check"] == check);
        (finding.unwrap_or_else(|| panic!("{report}")).clone(), found.status.code())
    }
}

fn post(gateway: &Process, n: usize) -> Value {
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let asked = request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes());
    try_exchange(gateway.public, &asked).expect("an answer")
}

fn receipt(gateway: &Process, id: &str) -> Value {
    let asked = request("GET", &format!("/api/v1/receipts/{id}"), &[("X-Api-Key", KEY)], b"");
    try_exchange(gateway.public, &asked).expect("an answer")
}

fn id(accepted: &Value) -> String {
    accepted["receiptId"].as_str().unwrap_or_else(|| panic!("{accepted}")).to_owned()
}

#[test]
fn a_store_on_files_goes_on_in_a_database() {
    let Some(moving) = Move::new() else { return };
    let gateway = moving.start();
    let receipts: Vec<String> = (1..=30).map(|n| id(&post(&gateway, n))).collect();
    let refused = moving.run(&[]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let told = text(&refused.stderr);
    assert!(told.contains(&format!("process {}", gateway.id())) && told.contains("stop it first"), "{told}");
    assert_eq!(moving.server.psql(&moving.database, "select count(*) from pg_tables where schemaname = 'public'"), "0");
    let before: Vec<Value> = receipts.iter().map(|id| receipt(&gateway, id)).collect();
    assert_eq!(gateway.terminate(), Some(0));

    let copied = moving.run(&["--json"]);
    assert_eq!(copied.status.code(), Some(0), "{copied:?}");
    let report = json(&copied);
    assert_eq!((&report["done"], &report["newest"], &report["duplicateKeys"]), (&true.into(), &30.into(), &30.into()));
    let again = moving.run(&[]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(text(&again.stderr).contains("holds this store already"), "{again:?}");

    // The unit still has the old configuration.
    let marked = report["marked"].as_str().unwrap_or_else(|| panic!("{report}"));
    assert!(fs::read_to_string(marked).expect("readable").contains(&moving.database), "{marked}");
    let told = moving.refusal();
    assert!(told.contains(&moving.database) && told.contains(marked) && told.contains("kind = \"postgres\""), "{told}");
    let (finding, code) = moving.doctor("data-directory", "store");
    assert_eq!((&finding["severity"], code), (&"fault".into(), Some(1)), "{finding}");
    assert!(finding["found"].as_str().is_some_and(|found| found.contains(&moving.database)), "{finding}");

    moving.configure();
    let (finding, _) = moving.doctor("data-directory", "store");
    assert_eq!(finding["severity"], "ok", "{finding}");
    let gateway = moving.start();
    for (id, before) in receipts.iter().zip(&before) {
        assert_eq!(receipt(&gateway, id), *before);
    }
    let repeat = post(&gateway, 7);
    assert_eq!((id(&repeat), &repeat["duplicate"]), (receipts[6].clone(), &true.into()), "{repeat}");
    let new = post(&gateway, 31);
    assert_eq!(new["duplicate"], false, "{new}");
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn the_configuration_says_where_and_no_gateway_starts_on_half_a_copy() {
    let Some(moving) = Move::new() else { return };
    let gateway = moving.start();
    let accepted = id(&post(&gateway, 1));
    assert_eq!(gateway.terminate(), Some(0));
    moving.configure();
    let config = moving.folder.path().join("streamgate.toml");
    let run = || moving.command().arg("--config").arg(&config).output().expect("ran");
    let copied = run();
    assert_eq!(copied.status.code(), Some(0), "{copied:?}");
    let told = text(&copied.stdout);
    assert!(told.contains("read back and compared") && told.contains("kind = \"postgres\""), "{told}");
    assert!(told.contains("moved-to-postgres was put beside them: no gateway starts on them"), "{told}");

    // As a copy leaves it that was cut short.
    let note = "insert into copying (store, moment, directory) values ('', '', '/somewhere')";
    moving.server.psql(&moving.database, note);
    let told = moving.refusal();
    assert!(told.contains("not finished") && told.contains("sqlite:/somewhere"), "{told}");
    let (finding, code) = moving.doctor("database", "format");
    assert_eq!((&finding["severity"], code), (&"fault".into(), Some(1)), "{finding}");
    let found = finding["found"].as_str().unwrap_or_default();
    assert!(found.contains("not finished") && found.contains("sqlite:/somewhere"), "{finding}");
    moving.server.psql(&moving.database, "delete from copying");
    let gateway = moving.start();
    assert_eq!(receipt(&gateway, &accepted)["receiptId"], *accepted);
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn records_that_the_files_took_after_the_copy_are_not_forgotten() {
    let Some(moving) = Move::new() else { return };
    let gateway = moving.start();
    post(&gateway, 1);
    assert_eq!(gateway.terminate(), Some(0));
    let report = json(&moving.run(&["--json"]));
    // Somebody goes back to the files, and takes records there.
    fs::remove_file(report["marked"].as_str().unwrap_or_else(|| panic!("{report}"))).expect("removed");
    let gateway = moving.start();
    for n in 2..=4 {
        post(&gateway, n);
    }
    assert_eq!(gateway.terminate(), Some(0));
    let refused = moving.run(&[]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = text(&refused.stderr);
    assert!(told.contains("at least 3 records are only in the files"), "{told}");
    let gateway = moving.start();
    assert_eq!(gateway.terminate(), Some(0), "they are the store still");
}

#[test]
fn wrong_usage_says_what_is_right_and_never_the_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
        command.arg("migrate-store").args(args).env_remove("STREAMGATE_DATABASE_URL");
        command.current_dir(folder.path()).output().expect("ran")
    };
    let url = "postgres://sg:s3cret@127.0.0.1:1/streamgate";
    for (args, says) in [
        (&["--from", "elsewhere", "--to", url][..], "--from takes `sqlite:`"),
        (&["--from", "sqlite:", "--to", url], "--from takes `sqlite:`"),
        (&["--from", "sqlite:.", "--to", "mysql://sg:s3cret@db/sg"], "--to takes `postgres:`"),
        (&["--from", "sqlite:.", "--to", "postgres:nothing s3cret"], "is not a connection to PostgreSQL"),
        (&["--from", "sqlite:.", "--to", "postgres://sg:s3cret@db.example.com"], "names no database"),
        (&["--from", "sqlite:.", "--to", "postgres"], "STREAMGATE_DATABASE_URL, which is not set"),
        (&["--from", "sqlite:.", "--to", "postgres", "--config", "x"], "cannot be used with"),
        (&["--from", "sqlite:."], "--to <postgres:URL>"),
    ] {
        let refused = run(args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {refused:?}");
        let told = text(&refused.stderr);
        assert!(told.contains(says) && !told.contains("s3cret"), "{args:?}: {told}");
    }
    let nothing = run(&["--from", "sqlite:nowhere", "--to", url]);
    assert_eq!(nothing.status.code(), Some(5), "{nothing:?}");
    let told = text(&nothing.stderr);
    assert!(told.contains("there is no record store in nowhere"), "{told}");
    assert!(told.contains("others on this machine can see a command line") && !told.contains("s3cret"), "{told}");
}
