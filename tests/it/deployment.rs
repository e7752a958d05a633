//! What is under `deploy/` does what it says, as far as that can be seen without a machine to deploy to; and the command
//! that probes ask with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::command_line::{streamgate, text};
use crate::support::gateway::{Setup, TestGateway};
use crate::support::skipped;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("readable")
}

/// The unit, with the binary of this build in the place of the installed one.
fn unit() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("streamgate.service");
    let installed = "/usr/local/bin/streamgate";
    let unit = file("deploy/streamgate.service");
    assert!(unit.contains(installed));
    std::fs::write(&path, unit.replace(installed, env!("CARGO_BIN_EXE_streamgate"))).expect("written");
    (folder, path)
}

/// What `systemd-analyze` says, where it is installed.
fn analyzed(arguments: &[&str], unit: &Path) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).arg(unit).output() {
        Ok(output) => Some(output),
        Err(fault) => {
            assert!(std::env::var_os("CI").is_none(), "systemd-analyze is missing: {fault}");
            skipped("systemd-analyze is not installed, so the unit was not judged");
            None
        }
    }
}

#[test]
fn systemd_takes_the_unit_without_a_word() {
    let (_folder, unit) = unit();
    let Some(output) = analyzed(&["verify", "--man=no"], &unit) else { return };
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn the_unit_exposes_little() {
    // In tenths; systemd calls what is below 50 "OK" and what is below 20 the best that it has a word for.
    const MOST: &str = "--threshold=20";
    let (_folder, unit) = unit();
    let Some(output) = analyzed(&["security", "--offline=true", "--no-pager", MOST], &unit) else { return };
    let judged = text(&output.stdout);
    assert!(output.status.success(), "{judged}{}", text(&output.stderr));
    assert!(judged.contains("Overall exposure level"), "{judged}");
}

#[test]
fn the_unit_fits_the_gateway() {
    let unit = file("deploy/streamgate.service");
    let value = |key: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{key} is missing"))
    };
    // Both listeners at their most, and something for files and deliveries.
    assert!(value("LimitNOFILE").parse::<usize>().expect("a number") >= 3 * 4_096);
    assert!(value("TimeoutStopSec").parse::<u64>().expect("seconds") > 8 + 2 + 1);
    assert_eq!((value("UMask"), value("StateDirectoryMode"), value("LimitCORE")), ("0077", "0700", "0"));
    assert_eq!(value("Environment"), "STREAMGATE_DATA_DIR=/var/lib/streamgate");
}

#[test]
fn the_image_is_built_from_pinned_parts_and_runs_as_nobody_in_particular() {
    let text = file("deploy/Containerfile").replace("\\\n", " ");
    let instructions: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("an instruction and its words"))
        .collect();
    let all = |name: &str| instructions.iter().filter(|(found, _)| *found == name).map(|(_, words)| *words).collect();
    let bases: Vec<&str> = all("FROM");
    assert_eq!(bases.len(), 2, "one to build, one to run");
    for base in &bases {
        let image = base.split(' ').next().expect("an image");
        let tag = image.split_once(':').expect("a tag").1;
        let version = tag.split('-').next().unwrap_or_default();
        assert!(
            version.contains('.') && version.chars().all(|c| c.is_ascii_digit() || c == '.'),
            "{image} is not pinned"
        );
    }
    let known = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "ENV",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ];
    for (name, words) in &instructions {
        assert!(known.contains(name), "{name}: no ADD, which fetches, and nothing that nobody looked at");
        assert!(
            !words.contains("curl ") && !words.contains("wget ") && !words.contains("http"),
            "{name} {words} fetches"
        );
    }
    let users: Vec<&str> = all("USER");
    let (user, group) = users.last().expect("a user").split_once(':').expect("a group");
    assert!([user, group].iter().all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{users:?}");
    let last_copy = instructions.iter().rposition(|(name, _)| *name == "COPY" || *name == "RUN").expect("there");
    let became = instructions.iter().position(|(name, _)| *name == "USER").expect("there");
    assert!(became > last_copy, "what runs in the image cannot write what is in it");
    let runs: Vec<&str> = all("RUN");
    assert!(runs.iter().any(|run| run.contains("cargo build --release --locked")), "{runs:?}");
    assert!(
        runs.iter().filter(|run| run.contains("apt-get install")).all(|run| run.contains("--no-install-recommends"))
    );
    assert_eq!(all("VOLUME"), ["/var/lib/streamgate"]);
    // What it starts and what it asks are commands that there are.
    for (name, flag) in [("serve", "--listen"), ("health", "--live")] {
        let help = Command::new(env!("CARGO_BIN_EXE_streamgate")).args([name, "--help"]).output().expect("ran");
        assert!(self::text(&help.stdout).contains(flag), "{name}");
    }
    let probe: Vec<&str> = all("HEALTHCHECK");
    assert!(probe[0].ends_with(r#"CMD ["/usr/local/bin/streamgate", "health"]"#), "{probe:?}");
}

#[test]
fn a_probe_asks_without_a_key_and_learns_yes_or_no() {
    for setup in [Setup::default(), Setup::over_tls()] {
        let gateway = TestGateway::start_with(&setup);
        let scheme = if setup.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", gateway.admin);
        let ca = gateway.folder().join("tls/authority.pem");
        let variables: &[_] = if setup.tls { &[("STREAMGATE_CA", &*ca)] } else { &[] };
        let asked = |arguments: &[&str]| {
            let mut command = streamgate();
            command.envs(variables.iter().copied()).args(arguments).args([
                "--admin-url",
                &url,
                "--key-file",
                "nowhere",
            ]);
            command.output().expect("ran")
        };
        let ready = asked(&["health"]);
        assert_eq!((ready.status.code(), &*text(&ready.stdout)), (Some(0), "ready\n"), "{ready:?}");
        assert_eq!(text(&asked(&["health", "--live"]).stdout), "live\n");
        let json = asked(&["health", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(json["configuration"], "good");
        let _folder = gateway.stop();
        assert_eq!(asked(&["health"]).status.code(), Some(4), "nobody is there");
    }
}
