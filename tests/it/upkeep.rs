//! `verify` and `recover`, as whoever runs the gateway uses them: the real binary on a data directory that a real gateway
//! wrote, was killed over, and had damaged (promise P2, fault D11).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::command_line::{json, text};
use crate::crash::try_exchange;
use crate::support::eventually;
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::process::Process;
use crate::support::raw::request;
use crate::support::records::nth_incident;

/// A command on a data directory.
fn command(name: &str, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
    command.arg(name).arg("--data-dir").arg(data).env_remove("STREAMGATE_DATA_DIR");
    command
}

fn run(name: &str, data: &Path, more: &[&str]) -> Output {
    command(name, data).args(more).output().expect("ran")
}

/// The content of every file below a directory.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            let bytes = fs::read(&path).expect("readable");
            found.insert(path, bytes);
        }
    }
    found
}

/// A folder with a configuration, and a gateway's data in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_configuration(folder.path(), &Setup::default());
        Self(folder)
    }

    fn start(&self) -> Process {
        Process::start(self.0.path(), None)
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Starts a gateway that must refuse.
    fn refusal(&self) -> String {
        let refused = Command::new(env!("CARGO_BIN_EXE_streamgate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(self.0.path().join("streamgate.toml"))
            .arg("--data-dir")
            .arg(self.data())
            .output()
            .expect("ran");
        assert_eq!(refused.status.code(), Some(5), "{refused:?}");
        text(&refused.stderr)
    }

    /// A store with so many records that was closed, and their receipts.
    fn filled(&self, records: usize) -> Vec<String> {
        let gateway = self.start();
        let receipts = (1..=records).map(|n| post(&gateway, n)).collect();
        assert_eq!(gateway.terminate(), Some(0));
        receipts
    }

    /// Changes a letter of this record's title on disk.
    fn damage(&self, record: usize) {
        let path = self.data().join("records.db");
        let mut bytes = fs::read(&path).expect("readable");
        let title = format!("\"Record {record}\"");
        let at = bytes.windows(title.len()).position(|part| part == title.as_bytes()).expect("it is there");
        bytes[at + 1] = b'W';
        fs::write(&path, bytes).expect("written");
    }
}

fn post(gateway: &Process, n: usize) -> String {
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let asked = request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes());
    let answer = try_exchange(gateway.public, &asked).expect("an answer");
    answer["receiptId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn receipt(gateway: &Process, id: &str) -> Value {
    let asked = request("GET", &format!("/api/v1/receipts/{id}"), &[("X-Api-Key", KEY)], b"");
    try_exchange(gateway.public, &asked).expect("an answer")
}

#[test]
fn a_store_is_verified_after_kill_9_and_not_while_it_is_in_use() {
    let folder = Folder::new();
    let gateway = folder.start();
    for n in 1..=30 {
        post(&gateway, n);
    }
    let refused = run("verify", &folder.data(), &[]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    assert!(text(&refused.stderr).contains(&format!("process {}", gateway.id())), "{refused:?}");
    assert_eq!(run("recover", &folder.data(), &["--yes"]).status.code(), Some(5));
    gateway.kill();

    let before = content(&folder.data());
    let verified = run("verify", &folder.data(), &["--json"]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let report = json(&verified);
    assert_eq!((&report["sound"], &report["counts"]["verified"]), (&true.into(), &30.into()));
    assert_eq!(report["counts"]["pending"], 30);
    let told = run("verify", &folder.data(), &[]);
    assert!(text(&told.stdout).contains("sound") && told.stderr.is_empty(), "{told:?}");
    let planned = run("recover", &folder.data(), &[]);
    assert_eq!(planned.status.code(), Some(0), "{planned:?}");
    assert_eq!(content(&folder.data()), before, "something was changed");

    let nothing = run("verify", &folder.0.path().join("nowhere"), &["--json"]);
    assert_eq!(nothing.status.code(), Some(5), "{nothing:?}");
    assert!(!folder.0.path().join("nowhere").exists());
}

#[test]
fn damage_is_named_refused_and_recovered_from() {
    let folder = Folder::new();
    let receipts = folder.filled(20);
    folder.damage(7);
    let refused = folder.refusal();
    let advice = format!("streamgate verify --data-dir {}", folder.data().display());
    assert!(refused.contains("record 7") && refused.contains(&advice), "{refused}");

    let before = content(&folder.data());
    let verified = run("verify", &folder.data(), &["--json"]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let finding = &json(&verified)["findings"][0];
    assert_eq!((&finding["kind"], &finding["from"], &finding["to"]), (&"damaged-record".into(), &7.into(), &7.into()));
    assert_eq!(finding["receipts"][0], *receipts[6]);
    assert!(finding["meaning"].is_string() && finding["action"].as_str().is_some_and(|text| text.contains("recover")));
    let told = text(&run("verify", &folder.data(), &[]).stdout);
    assert!(told.contains("NOT SOUND") && told.contains(&receipts[6]), "{told}");
    let planned = run("recover", &folder.data(), &[]);
    assert_eq!(planned.status.code(), Some(1), "{planned:?}");
    assert!(text(&planned.stdout).contains("--yes"), "{planned:?}");
    assert_eq!(content(&folder.data()), before, "something was changed");
    assert_eq!(run("recover", &folder.data(), &["--yes", "--dry-run"]).status.code(), Some(2));

    let recovered = run("recover", &folder.data(), &["--yes", "--json"]);
    assert_eq!(recovered.status.code(), Some(0), "{recovered:?}");
    let done = json(&recovered);
    assert_eq!(
        (&done["losses"]["lost"], &done["losses"]["kept"], &done["done"]),
        (&1.into(), &19.into(), &true.into())
    );
    let kept = Path::new(done["folder"].as_str().expect("a folder"));
    assert_eq!(fs::read(kept.join("original/records.db")).expect("kept"), before[&folder.data().join("records.db")]);
    assert_eq!(run("verify", &folder.data(), &[]).status.code(), Some(0));
    assert_eq!(run("recover", &folder.data(), &["--yes"]).status.code(), Some(0));

    let gateway = folder.start();
    let lost = receipt(&gateway, &receipts[6]);
    assert_eq!(lost["code"], "receipt-lost", "{lost}");
    assert!(lost["detail"].as_str().is_some_and(|detail| detail.contains("checksum")), "{lost}");
    for (n, id) in receipts.iter().enumerate().filter(|(n, _)| *n != 6) {
        assert_eq!(receipt(&gateway, id)["state"], "accepted", "record {}", n + 1);
        assert_eq!(post(&gateway, n + 1), *id, "its repeat");
    }
    let again = post(&gateway, 7);
    assert!(!receipts.contains(&again));
    assert_eq!(receipt(&gateway, &again)["state"], "accepted");
    assert_eq!(gateway.terminate(), Some(0));
    assert_eq!(run("verify", &folder.data(), &[]).status.code(), Some(0));
}

/// kill -9 at each of its steps: what is found then is the old store or the new one, and the second recovery ends it.
#[test]
fn a_recovery_that_is_killed_leaves_the_old_store_or_the_new_one() {
    let sample = Folder::new();
    let receipts = sample.filled(60);
    sample.damage(33);
    for milestone in ["", "new", "new/records.db", "manifest.jsonl", "report.json", "original/records.db"] {
        let folder = Folder::new();
        fs::create_dir(folder.data()).expect("made");
        for (path, bytes) in content(&sample.data()) {
            let to = folder.data().join(path.strip_prefix(sample.data()).expect("inside"));
            fs::create_dir_all(to.parent().expect("a parent")).expect("made");
            fs::write(to, bytes).expect("written");
        }
        let mut recovery = command("recover", &folder.data())
            .arg("--yes")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        eventually("the milestone, or the end", || {
            let reached = fs::read_dir(folder.data()).expect("readable").flatten().any(|entry| {
                entry.file_name().to_string_lossy().starts_with("recovery-2") && entry.path().join(milestone).exists()
            });
            (reached || recovery.try_wait().expect("asked").is_some()).then_some(())
        });
        recovery.kill().expect("killed");
        recovery.wait().expect("gone");
        let found = json(&run("recover", &folder.data(), &["--yes", "--json"]));
        let before = if found["needed"] == true {
            &found["losses"]["lost"]
        } else {
            &found["found"]["counts"]["lostAndWrittenDown"]
        };
        assert_eq!(*before, 1, "after {milestone:?}: {found}");
        assert_eq!(run("verify", &folder.data(), &[]).status.code(), Some(0), "after {milestone:?}");
        let gateway = folder.start();
        for (n, id) in receipts.iter().enumerate() {
            let answer = receipt(&gateway, id);
            let expected = if n == 32 { &answer["code"] == "receipt-lost" } else { &answer["state"] == "accepted" };
            assert!(expected, "after {milestone:?}, record {}: {answer}", n + 1);
        }
        gateway.kill();
    }
}

/// What a refusal says, and how it comes about.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

/// What is configured, and what has been put beside it: every refusal of a start names the command to run.
#[test]
fn every_refusal_names_the_command_to_run() {
    let damages: [Damage<'_>; 7] = [
        ("is not a Streamgate record store", &|data| fs::write(data.join("records.db"), [0; 8_192]).expect("written")),
        ("is missing although", &|data| fs::remove_file(data.join("records.db")).expect("removed")),
        ("has lost records", &|data| {
            let (number, mut mark) = (1_000_i64.to_le_bytes(), Vec::new());
            mark.extend(number);
            mark.extend(crc32fast::hash(&number).to_le_bytes());
            mark.extend([0; 4]);
            fs::write(data.join("high-water.mark"), mark).expect("written");
        }),
        ("malformed", &|data| {
            let mut bytes = fs::read(data.join("records.db")).expect("readable");
            bytes[4_096..].fill(0xff);
            fs::write(data.join("records.db"), bytes).expect("written");
        }),
        ("subscriptions.db", &|data| fs::remove_file(data.join("subscriptions.db")).expect("removed")),
        ("catalog.db", &|data| fs::remove_file(data.join("catalog.db")).expect("removed")),
        ("catalog.db", &|data| fs::write(data.join("catalog.db"), [7; 8_192]).expect("written")),
    ];
    let sample = Folder::new();
    sample.filled(3);
    let whole = content(&sample.data());
    for (what, damage) in damages {
        for (path, bytes) in &whole {
            fs::write(path, bytes).expect("written");
        }
        damage(&sample.data());
        let refused = Command::new(env!("CARGO_BIN_EXE_streamgate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(sample.0.path().join("streamgate.toml"))
            .arg("--data-dir")
            .arg(sample.data())
            .output()
            .expect("ran");
        let told = text(&refused.stderr);
        assert!(matches!(refused.status.code(), Some(3 | 5)), "{what}: {refused:?}");
        assert!(told.contains(what) && told.contains("streamgate verify --data-dir"), "{what}: {told}");
        let verified = run("verify", &sample.data(), &[]);
        assert!(matches!(verified.status.code(), Some(1 | 5)), "{what}: {verified:?}");
    }
}
