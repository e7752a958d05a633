//! What is under `deploy/compose` and `deploy/kubernetes` is what it says: it passes the published schemas, its parts go
//! together, and the gateway and haproxy take their configurations. Nothing is pulled and nothing is deployed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::command_line::{streamgate, text};
use crate::independent::{python, run};
use crate::support::skipped;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// A copy of `deploy/compose` and `deploy/kubernetes`, as they are in version control, with what they name beside them.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for part in ["deploy/compose", "deploy/kubernetes", "config/organizations"] {
        std::fs::create_dir_all(folder.path().join(part)).expect("a folder");
        for entry in std::fs::read_dir(project().join(part)).expect("a folder").map(|entry| entry.expect("an entry")) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), folder.path().join(part).join(entry.file_name())).expect("copied");
            }
        }
    }
    folder
}

fn judge(python: &Path, deploy: &Path, out: &Path) -> Output {
    let script = project().join("tests/connector/deployment.py");
    Command::new(python).arg(script).args([deploy, out]).output().expect("Python runs")
}

fn check(configuration: &Path, variables: &[(String, String)]) -> Output {
    let mut command = streamgate();
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.arg("check").arg("--config").arg(configuration).output().expect("ran")
}

#[test]
fn the_manifests_pass_the_schemas_and_go_together() {
    let Some(python) = python() else { return };
    let (out, copy) = (tempfile::tempdir().expect("a folder"), copy());
    let said = run(&python, "deployment.py", &[&copy.path().join("deploy"), out.path()]);
    assert_eq!(said.trim(), "faults: 0");

    // The configuration, with the folders that Kubernetes mounts in another place.
    let configuration = out.path().join("streamgate.toml");
    let at = |folder: &str| format!("{}/{folder}/", out.path().display());
    let here = read(&configuration)
        .replace("/etc/streamgate-secrets/", &at("secrets"))
        .replace("/etc/streamgate-organizations/", &at("organizations"));
    std::fs::create_dir(out.path().join("secrets")).expect("a folder");
    std::fs::create_dir(out.path().join("organizations")).expect("a folder");
    let url = out.path().join("secrets/database.url");
    std::fs::write(&url, "postgres://streamgate:p@db-1.example.com,db-2.example.com/streamgate\n").expect("written");
    std::fs::set_permissions(&url, Permissions::from_mode(0o600)).expect("closed");
    std::fs::write(&configuration, &here).expect("written");
    let refused = check(&configuration, &[]);
    assert_eq!(refused.status.code(), Some(3), "without a credential it must not start: {refused:?}");
    assert!(text(&refused.stdout).contains("no credential is configured"), "{refused:?}");
    let key = format!(
        "[[api_keys]]\nname = \"administrator\"\nsha256 = \"{}\"\npermissions = [\"admin\"]\norganizations = \"*\"\n",
        "5e".repeat(32)
    );
    std::fs::write(&configuration, here + &key).expect("written");
    let taken = check(&configuration, &[]);
    assert_eq!(taken.status.code(), Some(0), "{}{}", text(&taken.stdout), text(&taken.stderr));
}

/// What is made wrong: the file, what stands there, what is put in its place, and what has to be told.
type Wrong = [&'static str; 4];

/// What the schemas have to find.
const AGAINST_SCHEMAS: [Wrong; 3] = [
    ["kubernetes/deployment.yaml", "readinessProbe", "readynessProbe", "deployment.yaml, Kubernetes 1.30: "],
    ["kubernetes/pod-disruption-budget.yaml", "policy/v1", "policy/v2", "no PodDisruptionBudget of policy/v2"],
    ["compose/compose.yaml", "restart: on-failure", "restarts: on-failure", "'restarts' was unexpected"],
];

/// What only somebody can find who knows how the parts belong together.
const BETWEEN_PARTS: [Wrong; 12] = [
    ["kubernetes/deployment.yaml", "/health/ready", "/health/live", "readinessProbe asks"],
    ["kubernetes/deployment.yaml", "secretName: streamgate", "secretName: other", "mounts the Secret other"],
    ["kubernetes/deployment.yaml", "defaultMode: 0440", "defaultMode: 0444", "others may read its secrets"],
    ["kubernetes/deployment.yaml", "Seconds: 40", "Seconds: 20", "is ended before a stop is over"],
    ["kubernetes/deployment.yaml", "maxUnavailable: 0", "maxUnavailable: 1", "there may be fewer than two gateways"],
    ["kubernetes/service.yaml", "component: gateway", "component: gate", "selects something else"],
    ["kubernetes/secret.example.yaml", "url: \"\"", "url: \"postgres://a:b@c/d\"", "holds a value"],
    ["compose/compose.yaml", "nats:2.15.1", "nats:latest", "nats:latest is not pinned"],
    ["compose/compose.yaml", "127.0.0.1:8080:8080", "8080:8080", "publishes 8080:8080"],
    ["compose/compose.yaml", "POSTGRES_USER:", "POSTGRES_PASSWORD:", "has POSTGRES_PASSWORD in the file"],
    ["compose/haproxy.cfg", "gateway-2:8080", "gateway-1:8080", "haproxy.cfg: goes to"],
    ["compose/nats.conf", "nats-3:6222", "nats-2:6222", "nats.conf: routes go to"],
];

#[test]
fn what_is_wrong_with_a_manifest_is_found() {
    let Some(python) = python() else { return };
    for cases in [&AGAINST_SCHEMAS[..], &BETWEEN_PARTS[..]] {
        let copy = copy();
        for [file, right, wrong, _] in cases {
            let path = copy.path().join("deploy").join(file);
            let before = read(&path);
            assert!(before.contains(right), "{file} has no `{right}`");
            std::fs::write(&path, before.replacen(right, wrong, 1)).expect("written");
        }
        let judged = judge(&python, &copy.path().join("deploy"), &copy.path().join("out"));
        let said = text(&judged.stdout);
        assert_eq!(judged.status.code(), Some(1), "{said}{}", text(&judged.stderr));
        for [file, _, wrong, told] in cases {
            assert!(said.contains(told), "{file}, `{wrong}`, is not told as `{told}`:\n{said}");
        }
    }
}

#[test]
fn the_images_are_of_this_version() {
    let wanted = format!("image: streamgate:{}", env!("CARGO_PKG_VERSION"));
    for (file, times) in
        [("compose/compose.yaml", 1), ("kubernetes/deployment.yaml", 1), ("kubernetes/migrate-job.yaml", 1)]
    {
        let manifest = read(&project().join("deploy").join(file));
        let images = manifest.lines().map(str::trim).filter(|line| line.starts_with("image: streamgate"));
        assert_eq!(images.filter(|image| *image == wanted).count(), times, "{file} has another version than {wanted}");
    }
}

#[test]
fn haproxy_takes_its_configuration() {
    let haproxy = [PathBuf::from("haproxy"), PathBuf::from("/usr/sbin/haproxy")];
    let judged = haproxy.iter().find_map(|haproxy| {
        Command::new(haproxy).args(["-c", "-f"]).arg(project().join("deploy/compose/haproxy.cfg")).output().ok()
    });
    let Some(judged) = judged else {
        assert!(std::env::var_os("CI").is_none(), "haproxy is missing");
        return skipped("haproxy is not installed, so the load balancer's configuration was not judged");
    };
    let said = text(&judged.stdout) + &text(&judged.stderr);
    assert!(judged.status.success() && !said.contains("WARNING"), "{said}");
}

#[test]
fn what_is_prepared_for_compose_is_a_configuration_with_secrets_of_its_own() {
    let copy = copy();
    let compose = copy.path().join("deploy/compose");
    let prepare = || Command::new("sh").arg(compose.join("prepare.sh")).output().expect("a shell");
    let made = prepare();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let generated = compose.join("generated");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&generated), 0o700);
    let variables = |file: &str| -> Vec<(String, String)> {
        assert_eq!(mode(&generated.join(file)), 0o600, "{file}");
        let lines = read(&generated.join(file));
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        lines.lines().map(|line| pair(line).expect("a variable")).collect()
    };
    let (gateway, database, nats) = (variables("gateway.env"), variables("database.env"), variables("nats.env"));
    assert!(gateway[0].1.contains(&format!(":{}@database:", database[0].1)), "the database's password is the same");
    assert!(gateway[1] == nats[0] && database[0].1 != nats[0].1 && nats[0].1.len() >= 40, "so is that of NATS");
    assert!(read(&generated.join("config/organizations/contoso.toml")).contains("\nrouting_queue = \"stream\"\n"));
    // The gateways are another user.
    let configuration = generated.join("config/streamgate.toml");
    assert_eq!((mode(&configuration), mode(&generated.join("config"))), (0o644, 0o755));

    let taken = check(&configuration, &gateway);
    assert_eq!(taken.status.code(), Some(0), "{}{}", text(&taken.stdout), text(&taken.stderr));

    let again = prepare();
    assert!(!again.status.success() && text(&again.stderr).contains("already"), "what is there stays: {again:?}");
    assert_eq!(variables("gateway.env"), gateway);
}
