//! `streamgate doctor`, as an operator runs it: the real binary over sound and broken machines and configurations.

mod destinations;
mod nats;
mod surroundings;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::support::gateway::{Setup, sha256_hex, write_configuration};

/// A folder with a configuration, whose data directory is `data` in it.
struct Patient {
    folder: TempDir,
    /// Keeps the port of the second listener from everybody else.
    _admin: TcpSocket,
}

/// A port that is taken, and that nobody listens on.
fn silent_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bound");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

impl Patient {
    /// With these lines in front of a `streamgate.toml` that has a key with an end, and nothing else to say about.
    fn with(settings: &str, tables: &str) -> Self {
        let key = format!(
            "[[api_keys]]\nname = \"flows\"\nsha256 = \"{}\"\npermissions = [\"records.write\"]\norganizations = [\"contoso\"]\nexpires = 2099-01-01T00:00:00Z\n",
            sha256_hex("sg_some-key")
        );
        // What listens on the usual one may be anything.
        let (admin, address) = silent_port();
        let process = format!("admin_listen = \"{address}\"\n{settings}\n{key}\n{tables}");
        // Not in a temporary folder, which may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        write_configuration(folder.path(), &Setup { process, ..Setup::default() });
        Self { folder, _admin: admin }
    }

    fn sound() -> Self {
        Self::with("", "")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Makes the data directory, as a gateway would.
    fn with_data(self) -> Self {
        make_private(&self.data());
        self
    }

    fn command(&self, more: &[&str]) -> Command {
        self.command_on(&self.data(), more)
    }

    fn command_on(&self, data: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
        for name in ["STREAMGATE_CONFIG", "STREAMGATE_DATA_DIR", "STREAMGATE_ADMIN_URL", "LD_PRELOAD"] {
            command.env_remove(name);
        }
        command.arg("doctor").arg("--config").arg(self.folder.path().join("streamgate.toml"));
        command.arg("--data-dir").arg(data).args(more);
        command
    }

    /// Looks at these groups only.
    fn examined(&self, groups: &[&str], more: &[&str]) -> Told {
        let only: Vec<&str> = groups.iter().flat_map(|group| ["--only", group]).collect();
        Told::by(self.command(&["--json"]).args(only).args(more))
    }
}

fn make_private(dir: &Path) {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(dir).expect("a directory");
}

/// What doctor has told in JSON.
#[derive(Debug)]
struct Told {
    exit: Option<i32>,
    body: Value,
}

impl Told {
    fn by(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("ran");
        let body = serde_json::from_slice(&stdout).unwrap_or_else(|fault| {
            panic!("{fault}: {}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
        });
        let told = Self { exit: status.code(), body };
        told.check_invariants();
        told
    }

    fn findings(&self) -> &[Value] {
        self.body["findings"].as_array().expect("findings")
    }

    fn of(&self, check: &str) -> Vec<&Value> {
        self.findings().iter().filter(|finding| finding["check"] == check).collect()
    }

    /// The one finding of a check with this severity.
    fn the(&self, check: &str, severity: &str) -> &Value {
        let found = self.of(check);
        let of_severity = found.iter().find(|finding| finding["severity"] == severity);
        of_severity.unwrap_or_else(|| panic!("no {severity} of {check}: {found:?}"))
    }

    /// Whatever is not fine says what follows and what to do, and the exit code says whether there is a fault.
    fn check_invariants(&self) {
        for finding in self.findings() {
            let is_bad = matches!(finding["severity"].as_str(), Some("warning" | "fault"));
            assert!(!is_bad || (finding["consequence"].is_string() && finding["mend"].is_string()), "{finding}");
        }
        let has_fault = self.findings().iter().any(|finding| finding["severity"] == "fault");
        assert_eq!(
            (self.exit, &self.body["ok"]),
            (Some(i32::from(has_fault)), &(!has_fault).into()),
            "{:?}",
            self.body
        );
    }
}

fn text(finding: &Value, member: &str) -> String {
    finding[member].as_str().unwrap_or_else(|| panic!("no {member}: {finding}")).to_owned()
}

/// What is in a directory.
fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).expect("listed");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// The groups and checks of the manual's table.
fn documented() -> BTreeSet<(String, String)> {
    let manual = include_str!("../../../docs/operating.md");
    let section = manual.split("\n## 18. Doctor").nth(1).expect("a section");
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split("` | `");
        let (group, rest) = (cells.next()?, cells.next()?);
        Some((group.to_owned(), rest.split('`').next()?.to_owned()))
    });
    rows.collect()
}

#[test]
fn a_sound_configuration_has_no_fault_and_every_check_is_told() {
    let patient = Patient::sound().with_data();
    let told = patient.examined(&[], &[]);
    let member = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let seen: BTreeSet<_> =
        told.findings().iter().map(|finding| (member(finding, "group"), member(finding, "check"))).collect();
    assert_eq!(seen, documented());
    // What the tests' own disk is cannot be known.
    for finding in told.findings().iter().filter(|finding| finding["group"] != "disk") {
        assert_ne!(finding["severity"], "fault", "{finding}");
    }
    assert_eq!(told.body["lookedAt"]["dataDir"], patient.data().to_string_lossy().as_ref());
    let measured = &told.of("sync-latency")[0]["measured"];
    assert!(measured["medianMicroseconds"].is_u64() && measured["tries"].is_u64(), "{measured}");
    assert_eq!(patient.examined(&[], &["--skip", "disk"]).exit, Some(0));
    assert_eq!(names(&patient.data()), BTreeSet::new(), "nothing is left in the data directory");
}

#[test]
fn people_read_it_without_colours_in_a_pipe() {
    let patient = Patient::sound();
    let output = patient.command(&["--skip", "disk"]).output().expect("ran");
    let shown = String::from_utf8(output.stdout).expect("text");
    for part in ["\nconfiguration\n", "\nmachine\n", "  ok       faults: none", "No fault; "] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}') && !shown.contains("\ndisk\n"), "{shown}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn where_nothing_was_started_it_says_what_a_start_would_do_and_does_not() {
    let patient = Patient::sound();
    let told = patient.examined(&["data-directory", "disk"], &[]);
    let directory = told.the("directory", "ok");
    assert!(text(directory, "consequence").contains("a start makes it, with mode 0700"), "{directory}");
    assert!(!patient.data().exists());
    let left: BTreeSet<_> = names(patient.folder.path());
    assert_eq!(left, BTreeSet::from(["streamgate.toml".to_owned(), "organizations".to_owned()]));
}

#[test]
fn groups_are_chosen_by_name() {
    let patient = Patient::sound();
    let groups =
        |told: &Told| -> BTreeSet<String> { told.findings().iter().map(|finding| text(finding, "group")).collect() };
    let two = patient.examined(&["clock", "machine"], &[]);
    assert_eq!(groups(&two), BTreeSet::from(["clock".to_owned(), "machine".to_owned()]));
    let one = patient.examined(&["clock", "machine"], &["--skip", "machine"]);
    assert_eq!(groups(&one), BTreeSet::from(["clock".to_owned()]));
    let wrong = patient.command(&["--only", "nonsense"]).output().expect("ran");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("data-directory"), "{wrong:?}");
}

#[test]
fn faults_of_the_configuration_keep_their_place() {
    let patient = Patient::with("listne = \"127.0.0.1:0\"", "");
    let told = patient.examined(&[], &["--skip", "disk"]);
    let fault = told.the("faults", "fault");
    assert!(text(fault, "subject").contains("streamgate.toml:2:1"), "{fault}");
    assert!(text(fault, "mend").contains("listen"), "{fault}");
    let unseen = told.findings().iter().find(|finding| finding["group"] == "destinations").expect("told");
    assert!(text(unseen, "found").contains("the configuration has faults"), "{unseen}");
    // What needs no configuration is looked at all the same, and --data-dir says where that is.
    assert_eq!(told.of("directory").len(), 1);
    assert_eq!(told.of("file-descriptors").len(), 1);
}
