//! Destinations of kind `nats`: servers that are there or away, streams that fit or do not, and when what was acknowledged is
//! on disk.

use serde_json::json;

use super::{Patient, Told, silent_port, text};
use crate::nats::consumer::Consumer;
use crate::nats::program;
use crate::support::nats::NatsServer;

/// A routing queue `stream` into `RECORDS`, to which contoso routes.
fn routing_to(lines: &str) -> Patient {
    let queue = format!("[routing_queues.stream]\nkind = \"nats\"\nstream = \"RECORDS\"\n{lines}\n");
    let patient = Patient::with("", &queue).with_data();
    let file = patient.folder.path().join("organizations/contoso.toml");
    let organization = std::fs::read_to_string(&file).expect("read");
    let routed = organization.replacen("[organization]", "[organization]\nrouting_queue = \"stream\"", 1);
    std::fs::write(&file, routed).expect("written");
    patient
}

fn examined(lines: &str, more: &[&str]) -> Told {
    routing_to(lines).examined(&["destinations"], more)
}

#[test]
fn a_stream_that_fits_is_found_and_when_it_is_on_disk_is_told() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "");
    let mut consumer = Consumer::connect(server.address);
    consumer.make_stream("RECORDS", json!({"subjects": ["streamgate.>"]}));
    let lines = format!("servers = [\"nats://{}\"]\nreplicas = 1\n", server.address);
    let told = examined(&format!("{lines}monitoring_url = \"http://{}\"\n", server.monitoring), &[]);
    assert!(text(told.the("connection", "ok"), "found").contains("2.15"), "{told:?}");
    assert!(!told.of("stream").iter().any(|finding| finding["severity"] == "fault"), "{told:?}");
    let sync = told.the("stream-sync", "warning");
    assert_eq!(sync["measured"]["syncIntervalSeconds"], 120.0);
    assert!(text(sync, "consequence").contains("loses its power"), "{sync}");
    assert!(text(sync, "mend").contains("sync_interval: always"), "{sync}");
    assert_eq!(consumer.stream("RECORDS").expect("there")["state"]["messages"], 0, "looking publishes nothing");
    // Its window is shorter than the longest pause, and its server takes no more than 1 MiB with all around it.
    assert!(told.of("stream").iter().any(|finding| text(finding, "found").contains("recognizes repeats")));
    assert!(told.of("stream").iter().any(|finding| text(finding, "found").contains("1048576 bytes")));

    let unknown = examined(&lines, &[]);
    assert!(text(unknown.the("stream-sync", "note"), "found").contains("`monitoring_url` is not set"));
    let (_held, nobody) = silent_port();
    let wrong = examined(&format!("{lines}monitoring_url = \"http://{nobody}\"\n"), &[]);
    assert!(text(wrong.the("stream-sync", "warning"), "found").contains("could not be asked"));

    let sent = examined(&lines, &["--send-test-event"]);
    sent.the("test-event", "ok");
    let messages = consumer.read_all("RECORDS");
    assert_eq!((messages.len(), messages[0].subject.as_str()), (1, "streamgate.test.test.test"));
    assert_eq!(messages[0].json()["type"], "streamgate.test.v1");
}

#[test]
fn a_server_that_syncs_always_is_as_it_should_be() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "jetstream { store_dir: STORE, sync_interval: always }");
    let lines = format!(
        "servers = [\"nats://{}\"]\nreplicas = 1\ncreate_stream = true\nmonitoring_url = \"http://{}/\"\n",
        server.address, server.monitoring
    );
    let told = examined(&lines, &[]);
    told.the("stream-sync", "ok");
    assert!(text(told.the("stream", "note"), "found").contains("there is no `RECORDS` yet"), "{told:?}");
    assert!(Consumer::connect(server.address).stream("RECORDS").is_none(), "looking makes no stream");
}

#[test]
fn servers_that_are_away_and_streams_that_lose_records_are_told() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "");
    let (_held, nobody) = silent_port();
    let away = examined(&format!("servers = [\"nats://{nobody}\"]\n"), &[]);
    let fault = away.the("connection", "fault");
    assert!(text(fault, "consequence").contains("dead letters"), "{fault}");

    let some = examined(&format!("servers = [\"nats://{nobody}\", \"nats://{}\"]\n", server.address), &[]);
    assert!(text(some.the("connection", "warning"), "found").contains("not all servers"));
    assert!(text(some.the("stream", "fault"), "found").contains("there is no `RECORDS`"));

    let mut consumer = Consumer::connect(server.address);
    consumer.make_stream("RECORDS", json!({"subjects": ["streamgate.>"], "storage": "memory"}));
    let told = examined(&format!("servers = [\"nats://{}\"]\n", server.address), &[]);
    let faults: Vec<String> = told
        .of("stream")
        .into_iter()
        .filter(|finding| finding["severity"] == "fault")
        .map(|finding| text(finding, "found"))
        .collect();
    assert!(faults.iter().any(|found| found.contains("kept in memory")), "{faults:?}");
}

#[test]
fn servers_without_jetstream_are_told() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "jetstream: disabled");
    let told = examined(&format!("servers = [\"nats://{}\"]\n", server.address), &[]);
    assert!(text(told.the("connection", "warning"), "found").contains("no JetStream"), "{told:?}");
    told.the("stream", "fault");
}
