//! The command line, as people and scripts use it: the real binary, its output and its exit codes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use streamgate::config::settings::WebhookSecret;
use streamgate::routing_queue::signature::Signer;

use crate::lifecycle::Receiver;
use crate::support::gateway::{KEY, ORGANIZATION, Setup, TestGateway, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{Connection, exchange, request};
use crate::support::records::{INCIDENT, ORGANIZATION_ID, WORK_STREAM_ID, nth_incident};

pub(crate) fn streamgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
    for name in [
        "STREAMGATE_CONFIG",
        "STREAMGATE_DATA_DIR",
        "STREAMGATE_URL",
        "STREAMGATE_ADMIN_URL",
        "STREAMGATE_API_KEY",
        "STREAMGATE_CA",
    ] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{fault}: {output:?}"))
}

/// A command against a running gateway.
pub(crate) fn against(gateway: &TestGateway, arguments: &[&str]) -> Output {
    against_with(&[gateway.public, gateway.admin].map(|address| format!("http://{address}")), &[], arguments)
}

/// A command against the public and the second listener at these addresses, with these variables.
pub(crate) fn against_with(
    [url, admin_url]: &[String; 2],
    variables: &[(&str, &std::path::Path)],
    arguments: &[&str],
) -> Output {
    let (command, rest) = arguments.split_first().expect("a command");
    streamgate()
        .envs(variables.iter().copied())
        .arg(command)
        .args(["--url", url, "--admin-url", admin_url])
        .args(["--key", KEY])
        .args(rest)
        .output()
        .expect("ran")
}

#[test]
fn help_teaches_and_versions_are_told() {
    let help = streamgate().arg("--help").output().expect("ran");
    assert_eq!(help.status.code(), Some(0));
    for word in ["serve", "check", "test-connection", "listen", "records", "keys", "completions", "Exit codes"] {
        assert!(text(&help.stdout).contains(word), "{word} is not in the help");
    }
    let version = streamgate().arg("--version").output().expect("ran");
    assert_eq!(text(&version.stdout), format!("streamgate {}\n", env!("CARGO_PKG_VERSION")));
    let wrong = streamgate().arg("no-such-command").output().expect("ran");
    assert_eq!(wrong.status.code(), Some(2));
    let completions = streamgate().args(["completions", "bash"]).output().expect("ran");
    assert!(text(&completions.stdout).contains("_streamgate"));
}

#[test]
fn check_tells_all_faults_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("streamgate.toml");
    let check = |more: &[&str]| streamgate().args(["check", "--config"]).arg(&file).args(more).output().expect("ran");
    write_configuration(folder.path(), &Setup::default());
    let good = check(&[]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(text(&good.stdout).contains("2 organizations"), "{good:?}");

    let mut faulty = Setup::with("listne = \"127.0.0.1:0\"");
    faulty.organizations[0].1 = ORGANIZATION.replacen("priority = 1", "priority = -1", 1);
    faulty.organizations[1].1.push_str("\nnonsense = 1\n");
    write_configuration(folder.path(), &faulty);
    let bad = check(&[]);
    assert_eq!(bad.status.code(), Some(3));
    let told = text(&bad.stdout);
    for part in ["streamgate.toml:1:1", "listen", "contoso.toml:", "fabrikam.toml:", "hint:", "3 faults in 3 files"] {
        assert!(told.contains(part), "`{part}` is not in\n{told}");
    }
    let machine = json(&check(&["--json"]));
    assert_eq!((&machine["ok"], machine["faults"].as_array().map(Vec::len)), (&false.into(), Some(3)));
}

#[test]
fn the_sample_configuration_has_no_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked =
        streamgate().args(["check", "--config"]).arg(root.join("config/streamgate.toml")).output().expect("ran");
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[test]
fn a_new_key_works_as_printed() {
    let made = json(&streamgate().args(["keys", "new", "--name", "flow", "--json"]).output().expect("ran"));
    let key = made["key"].as_str().expect("a key");
    assert!(key.starts_with("sg_"));
    let mut setup = Setup::default();
    setup.process.push_str(made["configuration"].as_str().expect("lines"));
    let gateway = TestGateway::start_with(&setup);
    assert_eq!(gateway.call("POST", "/api/v1/records", key, nth_incident(1).as_bytes()).status, 202);
    let wrong = streamgate().args(["keys", "new", "--permission", "everything"]).output().expect("ran");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("records.write"), "{wrong:?}");
}

#[test]
fn test_connection_tries_until_it_gets_a_202_and_says_why_not() {
    let gateway = TestGateway::start();
    let all = against(&gateway, &["test-connection"]);
    assert_eq!(all.status.code(), Some(0), "{all:?}");
    for entity in ["incident: 202 after 1 try", "lead: 202", "new_inspection: 202"] {
        assert!(text(&all.stdout).contains(entity), "{all:?}");
    }

    // The inactive one is named, refused with the reason, and accepted once it has been activated.
    let mut waiting = streamgate()
        .arg("test-connection")
        .args(["--url", &format!("http://{}", gateway.public), "--key", KEY, "--interval", "0"])
        .args(["--organization-id", ORGANIZATION_ID, "--work-stream-id", WORK_STREAM_ID])
        .args(["--entity", "task", "--entity-set", "tasks"])
        .args(["--entity-configuration-id", "11c0ffee-0000-4000-8000-000000000004"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(waiting.stdout.take().expect("its output")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("404 entity-configuration-inactive") && first.contains("Activate"), "{first}");
    let activated =
        ORGANIZATION.replacen("entity_set_name = \"tasks\"\nstate = \"inactive\"", "entity_set_name = \"tasks\"", 1);
    std::fs::write(gateway.organization_file("contoso.toml"), activated).expect("written");
    gateway.administer("POST", "/admin/v1/reload");
    let last = lines.map(|line| line.expect("text")).last().expect("a line");
    assert!(last.starts_with("task: 202 after"), "{last}");
    assert_eq!(waiting.wait().expect("ended").code(), Some(0));

    let nobody =
        streamgate().args(["test-connection", "--url", "http://127.0.0.1:1", "--key", KEY]).output().expect("ran");
    assert_eq!(nobody.status.code(), Some(4));
    let no_key = streamgate().args(["test-connection", "--key-file", "/nonexistent"]).output().expect("ran");
    assert_eq!(no_key.status.code(), Some(2));
    assert!(text(&no_key.stderr).contains("--key-file"), "{no_key:?}");
}

#[test]
fn records_are_listed_shown_and_explained() {
    let gateway = TestGateway::start();
    let receipt = gateway.post(INCIDENT).text("receiptId");
    let list = against(&gateway, &["records", "list"]);
    assert_eq!(list.status.code(), Some(0), "{list:?}");
    assert!(text(&list.stdout).contains(&receipt), "{list:?}");
    let show = against(&gateway, &["records", "show", &receipt]);
    assert!(text(&show.stdout).contains("accepted") && text(&show.stdout).contains("Default queue"), "{show:?}");
    let details = json(&against(&gateway, &["records", "show", &receipt, "--details", "--json"]));
    assert_eq!(details["recordDetails"]["ticketnumber"], "CAS-04711-K2M9Q7");
    let none = against(&gateway, &["records", "show", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]);
    assert_eq!(none.status.code(), Some(1));
    let requeued = json(&against(&gateway, &["records", "requeue", "--all", "--json"]));
    assert_eq!(requeued["requeued"], 0);

    let file = gateway.folder().join("record.json");
    std::fs::write(&file, INCIDENT).expect("written");
    let good = against(&gateway, &["records", "explain", &file.to_string_lossy()]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(text(&good.stdout).contains("queue `Default queue`"), "{good:?}");
    std::fs::write(&file, INCIDENT.replace("\"incidents\"", "\"cases\"")).expect("written");
    let bad = against(&gateway, &["records", "explain", &file.to_string_lossy()]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).contains("FAIL entity-set-mismatch"), "{bad:?}");
}

#[test]
fn listen_prints_verified_events_and_refuses_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
    let mut listening = streamgate()
        .args(["listen", "--listen", "127.0.0.1:0", "--count", "1", "--json", "--secret-file"])
        .arg(&secret)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut notes = BufReader::new(listening.stderr.take().expect("its notes")).lines();
    let first = notes.next().expect("a line").expect("text");
    let address = first.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let address = address.parse().expect("an address");
    let body = br#"{"specversion":"1.0","data":{}}"#;
    let forged = [("webhook-id", "x"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,AAAA")];
    assert_eq!(exchange(address, &request("POST", "/", &forged, body)).status, 401);

    let key = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
    let now = streamgate::domain::time::Timestamp::now().seconds();
    let signature = Signer::new(&[key]).sign("x", &now.to_string(), body);
    let now = now.to_string();
    let signed = [("webhook-id", "x"), ("webhook-timestamp", now.as_str()), ("webhook-signature", signature.as_str())];
    assert_eq!(exchange(address, &request("POST", "/", &signed, body)).status, 204);
    let output = listening.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, [&body[..], b"\n"].concat());
}

#[test]
fn listen_prints_each_event_of_a_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
    let mut listening = streamgate()
        .args(["listen", "--listen", "127.0.0.1:0", "--count", "2", "--secret-file"])
        .arg(&secret)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut notes = BufReader::new(listening.stderr.take().expect("its notes")).lines();
    let first = notes.next().expect("a line").expect("text");
    let address = first.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let address = address.parse().expect("an address");
    let event = |id: &str| {
        format!(
            r#"{{"id":"{id}","type":"t","source":"s","subject":"u","time":"n","data":{{"route":{{}},"recordDetails":{{"a":1e400}}}}}}"#
        )
    };
    let body = format!("[{},{}]", event("one"), event("two"));
    let key = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
    let now = streamgate::domain::time::Timestamp::now().seconds().to_string();
    let signature = Signer::new(&[key]).sign("batch_x", &now, body.as_bytes());
    let headers = [
        ("content-type", "application/cloudevents-batch+json; charset=utf-8"),
        ("webhook-id", "batch_x"),
        ("webhook-timestamp", now.as_str()),
        ("webhook-signature", signature.as_str()),
    ];
    assert_eq!(exchange(address, &request("POST", "/", &headers, b"[]")).status, 401);
    assert_eq!(exchange(address, &request("POST", "/", &headers, body.as_bytes())).status, 204);
    let output = listening.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0), "two events are two");
    let printed = text(&output.stdout);
    for line in ["n t 1 of 2 in batch_x (signature verified)", "  id       two", "  details  {\"a\":1e400}"] {
        assert!(printed.contains(line), "{line} is not in\n{printed}");
    }
}

#[test]
fn the_first_run_needs_nothing_and_its_curls_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = streamgate()
        .current_dir(folder.path())
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut curls = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("its output")).lines() {
        let line = line.expect("text");
        if line.starts_with("curl ") {
            curls.push(line);
        }
        if curls.len() == 2 {
            break;
        }
    }
    let run = |curl: &str| {
        let output = Command::new("sh").args(["-c", &format!("{curl} -s")]).output().expect("ran");
        text(&output.stdout)
    };
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is missing");
        eprintln!("SKIPPED: curl is not installed, so the printed commands were not run");
    } else {
        let (accepted, refused) = (run(&curls[0]), run(&curls[1]));
        assert!(accepted.starts_with("HTTP/1.1 202"), "{}\n{accepted}", curls[0]);
        assert!(refused.starts_with("HTTP/1.1 404") && refused.contains("entity-set-mismatch"), "{refused}");
    }
    assert!(folder.path().join("streamgate-data/development.key").exists());
    child.kill().expect("killed");
    child.wait().expect("gone");
}

#[test]
fn r4_sigterm_ends_well_even_with_a_stalled_body_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nshutdown_grace_seconds = 1\n");
    write_configuration(folder.path(), &setup);
    let gateway = Process::start(folder.path(), None);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let post = |n: usize| request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes());
    let receipts: Vec<String> = (0..10).map(|n| exchange(gateway.public, &post(n)).text("receiptId")).collect();
    let mut stalled = Connection::open(gateway.public);
    stalled.send(&post(99)[..200]);
    assert_eq!(gateway.terminate(), Some(0));

    let again = Process::start(folder.path(), None);
    for receipt in receipts {
        let path = format!("/api/v1/receipts/{receipt}");
        assert_eq!(exchange(again.public, &request("GET", &path, &headers[..1], b"")).text("state"), "accepted");
    }
    assert_eq!(again.terminate(), Some(0));
}

#[test]
fn starting_with_faults_or_a_taken_port_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &Setup::with("colour = \"blue\""));
    let start = |more: &[&str]| {
        streamgate()
            .arg("serve")
            .arg("--config")
            .arg(folder.path().join("streamgate.toml"))
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(more)
            .output()
            .expect("ran")
    };
    let faulty = start(&[]);
    assert_eq!(faulty.status.code(), Some(3));
    assert!(text(&faulty.stderr).contains("streamgate.toml:1:1"), "{faulty:?}");

    write_configuration(folder.path(), &Setup::default());
    let receiver = Receiver::start();
    let taken = start(&["--listen", &receiver.address.to_string(), "--admin-listen", "127.0.0.1:0"]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(text(&taken.stderr).contains(&receiver.address.to_string()), "{taken:?}");
    std::io::stderr().flush().expect("flushed");
}

#[test]
fn only_receipt_ids_get_into_paths() {
    let gateway = TestGateway::start();
    for (arguments, odd) in [
        (["records", "requeue"], "requeue#"),
        (["records", "requeue"], "requeue?"),
        (["records", "show"], "../records"),
    ] {
        let output = against(&gateway, &[arguments[0], arguments[1], odd]);
        assert_eq!(output.status.code(), Some(2), "{odd}: {output:?}");
        assert!(text(&output.stderr).contains("is not a receipt ID"), "{odd}: {output:?}");
    }
}

#[test]
fn closed_pipes_and_huge_numbers_end_without_a_panic() {
    let mut child = streamgate().args(["completions", "bash"]).stdout(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    let huge = streamgate()
        .args(["test-connection", "--key", KEY, "--timeout", "18446744073709551615"])
        .output()
        .expect("ran");
    assert_eq!(huge.status.code(), Some(2), "{huge:?}");
    let nameless = streamgate().args(["keys", "new", "--name", " "]).output().expect("ran");
    assert_eq!(nameless.status.code(), Some(2));
}
