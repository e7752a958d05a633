//! The configuration while the gateway runs, delivery to a receiver, health, and a stop in order.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};

use streamgate::config::settings::WebhookSecret;
use streamgate::domain::time::Timestamp;
use streamgate::routing_queue::signature::SignedHeaders;

use crate::catalogue::check_invariants;
use crate::support::eventually;
use crate::support::gateway::{KEY, ORGANIZATION, Setup, TestGateway};
use crate::support::raw::{Connection, exchange, request};
use crate::support::records::{incident, nth_incident, record_id};

/// A receiver that answers every request and passes it on to the test.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) events: mpsc::Receiver<Event>,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn start() -> Self {
        Self::answering(|_| "204 No Content")
    }

    /// One that answers a request with the status line that this says.
    pub(crate) fn answering(decide: impl Fn(&Event) -> &'static str + Send + Sync + 'static) -> Self {
        let decide = Arc::new(decide);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (sender, decide) = (sender.clone(), Arc::clone(&decide));
                std::thread::spawn(move || {
                    let mut bytes = Vec::new();
                    let mut buffer = [0; 8_192];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        bytes.extend_from_slice(&buffer[..read]);
                        while let Some((event, rest)) = whole_request(&bytes) {
                            let status = decide(&event);
                            if sender.send(event).is_err() {
                                return;
                            }
                            bytes = rest;
                            let length = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
                            let _answered = stream.write_all(format!("HTTP/1.1 {status}\r\n{length}\r\n").as_bytes());
                        }
                    }
                });
            }
        });
        Self { address, events }
    }

    /// The configuration of a routing queue `receiver` that leads here, whose secret is kept in the data directory.
    pub(crate) fn routing_queue(&self) -> String {
        format!(
            "\n[routing_queues.receiver]\nkind = \"http\"\nurl = \"http://{}/\"\nsecret_file = \"receiver.secret\"\ncreate_secret = true\nallow_networks = [\"127.0.0.0/8\"]\n",
            self.address
        )
    }
}

/// The header fields, with names in lower case, and the body.
pub(crate) type Event = (Vec<(String, String)>, Vec<u8>);

/// The first whole request in the bytes, and what is left.
fn whole_request(bytes: &[u8]) -> Option<(Event, Vec<u8>)> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let headers: Vec<(String, String)> = head
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let body = bytes.get(head_end + 4..head_end + 4 + length)?.to_vec();
    Some(((headers, body), bytes[head_end + 4 + length..].to_vec()))
}

#[test]
fn a_record_is_delivered_signed_to_a_receiver_that_was_configured_while_running() {
    let receiver = Receiver::start();
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    let gateway = TestGateway::start_with(&setup);
    let before = gateway.post(nth_incident(1)).text("receiptId");
    assert_eq!(gateway.wait_for_state(&before, "accepted").text("state"), "accepted", "pull waits for its consumers");

    let switched = ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    std::fs::write(gateway.organization_file("contoso.toml"), switched).expect("written");
    assert_eq!(gateway.administer("POST", "/admin/v1/reload").status, 200);

    let details = r#"{"incidentid":"5e1f0c9a-7b2d-ea11-a810-000000000002","reading":98.60000000000001,"z":1,"a":2}"#;
    let headers = [
        ("X-Api-Key", KEY),
        ("Content-Type", "application/json"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-ms-client-tracking-id", "08585CU53"),
        ("x-ms-workflow-subscription-id", "not-to-travel"),
    ];
    let answer = exchange(
        gateway.public,
        &request("POST", "/api/v1/records", &headers, incident(&record_id(2), details).as_bytes()),
    );
    assert_eq!(answer.status, 202);
    let expected = [before, answer.text("receiptId")];
    let secret = std::fs::read_to_string(gateway.folder().join("data/receiver.secret")).expect("the secret was made");
    let secret = WebhookSecret::parse(&secret).expect("a secret");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let (headers, body) = receiver.events.recv().expect("an event");
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let signed = SignedHeaders {
            id: header("webhook-id").expect("an ID"),
            timestamp: header("webhook-timestamp").expect("a time"),
            signature: header("webhook-signature").expect("a signature"),
        };
        signed.verify(&body, std::slice::from_ref(&secret), Timestamp::now()).expect("a right signature");
        assert_eq!(header("x-ms-workflow-subscription-id"), None);
        assert_eq!(header("x-api-key"), None);
        let event: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(event["type"], "streamgate.record.created.v1");
        if signed.id == expected[1] {
            assert_eq!(header("x-ms-client-tracking-id"), Some("08585CU53"));
            assert!(header("traceparent").is_some());
            let text = String::from_utf8(body).expect("text");
            assert!(text.contains(&format!(r#""recordDetails":{details}"#)), "{text}");
        }
        seen.push(signed.id.to_owned());
    }
    seen.sort();
    let mut expected_ids = expected.to_vec();
    expected_ids.sort();
    assert_eq!(seen, expected_ids, "the backlog of before follows the new destination");
    for receipt in &expected {
        gateway.wait_for_state(receipt, "delivered");
    }
}

#[test]
fn an_edited_file_counts_without_being_asked_for() {
    let gateway = TestGateway::start();
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
    let inactive = ORGANIZATION.replacen(
        "entity_set_name = \"incidents\"",
        "entity_set_name = \"incidents\"\nstate = \"inactive\"",
        1,
    );
    let generation = gateway.post(nth_incident(1)).json()["catalogGeneration"].as_u64();
    std::fs::write(gateway.organization_file("contoso.toml"), inactive).expect("written");
    let refused = eventually("the deactivation to count", || {
        Some(gateway.post(nth_incident(2))).filter(|answer| answer.status == 404)
    });
    assert_eq!(refused.text("code"), "entity-configuration-inactive");
    assert!(refused.json()["catalogGeneration"].as_u64() > generation);
}

#[test]
fn g1_a_bad_change_keeps_the_last_good_configuration_and_says_where() {
    let gateway = TestGateway::start();
    let file = gateway.organization_file("contoso.toml");
    let bad: &[(&str, String)] = &[
        ("syntax", ORGANIZATION.replacen("name = ", "name ", 1)),
        ("unknown key", ORGANIZATION.replacen("name = ", "nmae = \"x\"\nname = ", 1)),
        (
            "twice the same ID",
            format!(
                "{ORGANIZATION}\n[[work_streams]]\nid = \"7c2e9d54-41a8-ea11-a812-000d3a579c31\"\nname = \"Again\"\nstream_source = \"entity-records\"\n"
            ),
        ),
        ("wrong type", ORGANIZATION.replacen("priority = 1", "priority = \"first\"", 1)),
        (
            "unknown routing queue",
            ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"nowhere\"", 1),
        ),
        ("empty", String::new()),
        ("cut short", ORGANIZATION[..ORGANIZATION.len() / 2 - 7].to_owned()),
    ];
    for (what, content) in bad {
        std::fs::write(&file, content).expect("written");
        let answer = gateway.administer("POST", "/admin/v1/reload");
        assert_eq!((answer.status, answer.text("code").as_str()), (422, "configuration-invalid"), "{what}: {answer:?}");
        assert!(answer.text("detail").contains("contoso.toml:"), "{what}: {}", answer.text("detail"));
        assert_eq!(gateway.post(nth_incident(1)).status, 202, "{what}: the last good one stays");
        let metrics = exchange(gateway.admin, &request("GET", "/metrics", &[], b""));
        assert!(String::from_utf8_lossy(&metrics.body).contains("streamgate_config_reload_ok 0"), "{what}");
    }
    std::fs::write(&file, ORGANIZATION).expect("written");
    assert_eq!(gateway.administer("POST", "/admin/v1/reload").status, 200);
    let metrics = exchange(gateway.admin, &request("GET", "/metrics", &[], b""));
    assert!(String::from_utf8_lossy(&metrics.body).contains("streamgate_config_reload_ok 1"));
}

#[test]
fn g2_reloads_under_load_never_tear_a_request() {
    // Four posters that wait for nobody are not to meet the organization's rate.
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nrequests_per_minute = 50_000_000\nburst = 50_000_000\n");
    let gateway = TestGateway::start_with(&setup);
    let file = gateway.organization_file("contoso.toml");
    // Set name and relationship change together: a request that saw one of each would be refused for a mismatch that
    // neither configuration has.
    let renamed = ORGANIZATION.replacen(
        "entity_set_name = \"incidents\"",
        "entity_set_name = \"cases\"\nrelationship_name = \"case_msdyn_ocliveworkitems\"",
        1,
    );
    let (old, new) = (
        nth_incident(1),
        nth_incident(1).replace("\"incidents\"", "\"cases\"").replace("\"incident_msdyn", "\"case_msdyn"),
    );
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let posts: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        for body in [&old, &new] {
                            let answer = gateway.post(body);
                            match answer.status {
                                202 => {}
                                404 => assert_eq!(answer.text("code"), "entity-set-mismatch", "{answer:?}"),
                                _ => panic!("{answer:?}"),
                            }
                        }
                    }
                })
            })
            .collect();
        for round in 0..40 {
            std::fs::write(&file, if round % 2 == 0 { renamed.as_str() } else { ORGANIZATION }).expect("written");
            let answer = gateway.administer("POST", "/admin/v1/reload");
            assert!(matches!(answer.status, 200 | 422), "{answer:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for post in posts {
            post.join().expect("no torn answer");
        }
    });
}

#[test]
fn health_is_open_and_metrics_count() {
    let gateway = TestGateway::start();
    let get = |path: &str| exchange(gateway.admin, &request("GET", path, &[], b""));
    assert_eq!(get("/health/live").status, 200);
    let ready = get("/health/ready");
    assert_eq!((ready.status, ready.text("status").as_str()), (200, "ready"));
    gateway.post(nth_incident(1));
    gateway.post(nth_incident(1));
    let text = String::from_utf8(get("/metrics").body).expect("text");
    for line in [
        "streamgate_records_accepted_total{kind=\"new\"} 1",
        "streamgate_records_accepted_total{kind=\"repeat\"} 1",
        "streamgate_store_pending_records 1",
        "streamgate_ready 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let unknown = get("/nowhere");
    check_invariants("404", &unknown);
    assert_eq!(unknown.status, 404);
}

#[test]
fn r4_a_stop_answers_what_is_under_way_and_loses_nothing() {
    let gateway = TestGateway::start();
    let receipts: Vec<String> = (0..20).map(|n| gateway.post(nth_incident(n)).text("receiptId")).collect();
    // A client that has begun a body and never ends it must not hold the gateway.
    let mut stalled = Connection::open(gateway.public);
    stalled.send(format!("POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{{").as_bytes());
    let gateway = gateway.restart();
    for receipt in receipts {
        gateway.wait_for_state(&receipt, "accepted");
    }
}

#[test]
fn dead_letters_can_be_requeued() {
    // A receiver that refuses the record for good.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 65_536];
            let _read = stream.read(&mut buffer);
            let _answered = stream
                .write_all(b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let mut setup = Setup::default();
    setup.process.push_str(&format!(
        "\n[routing_queues.receiver]\nkind = \"http\"\nurl = \"http://{address}/\"\nsecret_file = \"receiver.secret\"\ncreate_secret = true\nallow_networks = [\"127.0.0.0/8\"]\n"
    ));
    setup.organizations[0].1 =
        ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    let gateway = TestGateway::start_with(&setup);
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let dead = gateway.wait_for_state(&receipt, "dead-lettered");
    assert!(dead.text("lastError").contains("422"), "{dead:?}");
    let requeued = gateway.administer("POST", &format!("/admin/v1/records/{receipt}/requeue"));
    assert_eq!(requeued.json()["requeued"], 1);
    gateway.wait_for_state(&receipt, "dead-lettered");
    let listed = gateway.administer("GET", "/admin/v1/records?state=dead-lettered");
    assert_eq!(listed.json()["value"].as_array().map(Vec::len), Some(1));
}
