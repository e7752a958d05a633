//! What arrives in the stream, what is done while the server is away, and what is not taken.

use std::collections::BTreeSet;

use serde_json::json;

use super::consumer::Consumer;
use super::{MADE, figure, program, publishing_to, receipt, why_it_waits};
use crate::support::eventually;
use crate::support::gateway::{KEY, ORGANIZATION, TestGateway};
use crate::support::nats::NatsServer;
use crate::support::raw::{exchange, request};
use crate::support::records::{ORGANIZATION_ID, WORK_STREAM_ID, incident, nth_incident, record_id};

#[test]
fn a_record_is_a_message_of_the_stream_as_anybody_reads_it() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "");
    let gateway = TestGateway::start_with(&publishing_to(std::slice::from_ref(&server), MADE));
    let headers = [
        ("X-Api-Key", KEY),
        ("Content-Type", "application/json"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-ms-client-tracking-id", "08585CU53"),
        ("x-ms-workflow-subscription-id", "not-to-travel"),
    ];
    let details = r#"{"reading":98.60000000000001,"z":1,"a":2}"#;
    let body = incident(&record_id(1), details);
    let accepted = exchange(gateway.public, &request("POST", "/api/v1/records", &headers, body.as_bytes()));
    assert_eq!(accepted.status, 202);
    let id = accepted.text("receiptId");
    gateway.wait_for_state(&id, "delivered");

    let mut consumer = Consumer::connect(server.address);
    let made = consumer.stream("RECORDS").expect("the gateway made it");
    assert_eq!(made["config"]["subjects"], json!(["streamgate.*.*.*"]));
    assert_eq!((&made["config"]["discard"], &made["config"]["storage"]), (&"new".into(), &"file".into()));
    let messages = consumer.read_all("RECORDS");
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(message.subject, format!("streamgate.{ORGANIZATION_ID}.{WORK_STREAM_ID}.Default%20queue"));
    assert_eq!(message.status, "NATS/1.0");
    assert_eq!((message.header("Nats-Msg-Id"), message.header("Nats-Expected-Stream")), (id.as_str(), "RECORDS"));
    assert_eq!(message.header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert!(message.header("traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{message:?}");
    assert_eq!(message.header("x-ms-client-tracking-id"), "08585CU53");
    assert_eq!(message.headers.len(), 5, "and nothing else: {message:?}");
    let event = message.json();
    assert_eq!((&event["id"], &event["specversion"]), (&id.as_str().into(), &"1.0".into()));
    assert!(
        String::from_utf8_lossy(&message.body).contains(details),
        "the details are byte for byte those that were sent"
    );
    assert_eq!(figure(&gateway, "streamgate_delivery_tries_total{routing_queue=\"stream\",outcome=\"delivered\"}"), 1);
}

#[test]
fn while_the_server_is_away_records_wait_and_then_all_of_them_arrive() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = NatsServer::start(&program, folder.path(), "");
    let gateway = TestGateway::start_with(&publishing_to(std::slice::from_ref(&server), MADE));
    let mut receipts: Vec<String> = (0..5).map(|n| gateway.post(nth_incident(n)).text("receiptId")).collect();
    gateway.wait_for_state(&receipts[4], "delivered");
    server.kill();
    for n in 5..60 {
        let accepted = gateway.post(nth_incident(n));
        assert_eq!(accepted.status, 202, "the gateway goes on: {accepted:?}");
        receipts.push(accepted.text("receiptId"));
    }
    assert_ne!(why_it_waits(&gateway, &receipts[5]), "");
    // What waits is there after a restart, too.
    let gateway = gateway.restart();
    assert_ne!(receipt(&gateway, &receipts[30])["state"], "delivered");
    server.run();
    receipts.iter().for_each(|receipt| drop(gateway.wait_for_state(receipt, "delivered")));
    let ids: BTreeSet<String> = receipts.into_iter().collect();
    let messages = Consumer::connect(server.address).read_all("RECORDS");
    let seen: BTreeSet<String> = messages.iter().map(|message| message.header("Nats-Msg-Id").to_owned()).collect();
    assert_eq!((messages.len(), seen), (60, ids), "each once");
}

#[test]
fn what_the_stream_has_already_counts_as_delivered_and_shows() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "");
    let mut consumer = Consumer::connect(server.address);
    consumer.make_stream("RECORDS", json!({"subjects": ["streamgate.>"]}));
    let mut setup = publishing_to(std::slice::from_ref(&server), MADE);
    setup.organizations[0].1 = ORGANIZATION.to_owned();
    let gateway = TestGateway::start_with(&setup);
    let id = gateway.post(nth_incident(1)).text("receiptId");
    // As a gateway would that was killed before it heard the acknowledgement.
    let first = consumer.request("streamgate.a.b.c", &[("Nats-Msg-Id", &id)], b"{}").expect("an answer").json();
    assert_eq!(first["seq"], 1);
    let switched = ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"stream\"", 1);
    std::fs::write(gateway.organization_file("contoso.toml"), switched).expect("written");
    gateway.wait_for_state(&id, "delivered");
    assert_eq!(consumer.read_all("RECORDS").len(), 1);
    let known = "streamgate_delivery_tries_total{routing_queue=\"stream\",outcome=\"known\"}";
    eventually("the metric", || (figure(&gateway, known) == 1).then_some(()));
}

#[test]
fn a_message_that_is_too_large_is_a_dead_letter_and_holds_nothing_up() {
    let Some(program) = program() else { return };
    for (limit_of, more, stream) in
        [("server", "max_payload: 8192\n", json!({})), ("stream", "", json!({"max_msg_size": 8_192}))]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let server = NatsServer::start(&program, folder.path(), more);
        let mut settings = json!({"subjects": ["streamgate.>"]});
        settings.as_object_mut().expect("an object").extend(stream.as_object().expect("an object").clone());
        Consumer::connect(server.address).make_stream("RECORDS", settings);
        let gateway = TestGateway::start_with(&publishing_to(std::slice::from_ref(&server), "replicas = 1"));
        let large = incident(&record_id(1), &format!(r#"{{"text":"{}"}}"#, "x".repeat(10_000)));
        let large = gateway.post(large).text("receiptId");
        let small = gateway.post(nth_incident(2)).text("receiptId");
        gateway.wait_for_state(&small, "delivered");
        let given_up = gateway.wait_for_state(&large, "dead-lettered").json();
        let reason = given_up["lastError"].as_str().expect("a reason");
        assert!(reason.contains("larger than the 8192 bytes") || reason.contains("message size exceeds"), "{reason}");
        assert_eq!(given_up["attempts"], 1, "{limit_of}: another try would end the same");
    }
}

#[test]
fn a_stream_that_would_lose_records_is_explained_and_nothing_is_published() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "");
    let mut consumer = Consumer::connect(server.address);
    let subjects = json!(["streamgate.>"]);
    for (stream, part) in [
        (None, "there is no stream `RECORDS` (make it, or say create_stream = true)"),
        (Some(json!({"subjects": subjects, "storage": "memory"})), "kept in memory"),
        (Some(json!({"subjects": ["other.>"]})), "leaves out `streamgate.*.*.*`"),
        (Some(json!({"subjects": subjects, "retention": "interest"})), "keeps by interest"),
        (Some(json!({"subjects": subjects, "discard": "old", "max_msgs": 10})), "forgetting the oldest"),
        (Some(json!({"subjects": subjects, "no_ack": true})), "acknowledges nothing"),
        (
            Some(json!({"subjects": subjects, "discard": "new", "max_msgs_per_subject": 1})),
            "so many messages of a subject",
        ),
    ] {
        if let Some(settings) = stream {
            consumer.make_stream("RECORDS", settings);
        }
        let before = consumer.stream("RECORDS");
        let gateway = TestGateway::start_with(&publishing_to(std::slice::from_ref(&server), "replicas = 1"));
        let id = gateway.post(nth_incident(1)).text("receiptId");
        let why = why_it_waits(&gateway, &id);
        assert!(why.contains(part), "{part}: {why}");
        let after = consumer.stream("RECORDS");
        let config = |stream: &Option<serde_json::Value>| stream.as_ref().map(|stream| stream["config"].clone());
        assert_eq!(config(&before), config(&after), "it is never changed");
        assert!(after.is_none_or(|stream| stream["state"]["messages"] == 0), "{part}");
        // Mended by whoever runs it, it is taken at once, without a restart.
        consumer.ask("STREAM.DELETE.RECORDS", &json!({}));
        consumer.make_stream("RECORDS", json!({"subjects": subjects}));
        gateway.wait_for_state(&id, "delivered");
        consumer.ask("STREAM.DELETE.RECORDS", &json!({})).expect("deleted");
    }
}

#[test]
fn a_stream_that_is_made_anew_while_a_gateway_is_connected_is_looked_at_first() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "");
    let mut consumer = Consumer::connect(server.address);
    let subjects = json!(["streamgate.>"]);
    consumer.make_stream("RECORDS", json!({"subjects": subjects}));
    let gateway = TestGateway::start_with(&publishing_to(std::slice::from_ref(&server), "replicas = 1"));
    let first = gateway.post(nth_incident(1)).text("receiptId");
    gateway.wait_for_state(&first, "delivered");
    consumer.ask("STREAM.DELETE.RECORDS", &json!({})).expect("deleted");
    let second = gateway.post(nth_incident(2)).text("receiptId");
    assert!(why_it_waits(&gateway, &second).contains("no stream"));
    consumer.make_stream("RECORDS", json!({"subjects": subjects, "storage": "memory"}));
    eventually("the new stream to be looked at", || {
        receipt(&gateway, &second)["lastError"].as_str().filter(|why| why.contains("kept in memory")).map(|_| ())
    });
    assert_eq!(consumer.stream("RECORDS").expect("a stream")["state"]["messages"], 0);
    consumer.ask("STREAM.DELETE.RECORDS", &json!({})).expect("deleted");
    consumer.make_stream("RECORDS", json!({"subjects": subjects}));
    gateway.wait_for_state(&second, "delivered");
}

#[test]
fn a_full_stream_refuses_and_its_records_wait_until_there_is_room() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = NatsServer::start(&program, folder.path(), "");
    let mut consumer = Consumer::connect(server.address);
    consumer.make_stream("RECORDS", json!({"subjects": ["streamgate.>"], "max_msgs": 3}));
    let gateway = TestGateway::start_with(&publishing_to(std::slice::from_ref(&server), "replicas = 1"));
    let receipts: Vec<String> = (0..10).map(|n| gateway.post(nth_incident(n)).text("receiptId")).collect();
    let reasons = || receipts.iter().filter_map(|id| receipt(&gateway, id)["lastError"].as_str().map(str::to_owned));
    let why = eventually("a full stream", || reasons().next());
    assert!(why.contains("maximum messages"), "{why}");
    assert_eq!(consumer.read_all("RECORDS").len(), 3);
    // A consumer has taken them; in small steps, so that it fills again and again.
    eventually("all to be delivered", || {
        consumer.ask("STREAM.PURGE.RECORDS", &json!({})).expect("purged");
        receipts.iter().all(|id| receipt(&gateway, id)["state"] == "delivered").then_some(())
    });
}
