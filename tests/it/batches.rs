//! Batches over HTTP, seen from the receiver: what is in them, what an answer means, and that nothing is lost in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use streamgate::config::settings::WebhookSecret;
use streamgate::domain::time::Timestamp;
use streamgate::routing_queue::signature::SignedHeaders;

use crate::lifecycle::{Event, Receiver};
use crate::support::eventually;
use crate::support::gateway::{KEY, ORGANIZATION, OTHER_ORGANIZATION, Setup, TestGateway};
use crate::support::records::{incident, nth_incident, record_id};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway whose organizations lead to this receiver, in batches of so many.
fn delivering_to(receiver: &Receiver, max_events: usize) -> Setup {
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    setup.process.push_str(&format!(
        "batch_max_events = {max_events}\n[delivery]\nfirst_pause_seconds = 0.01\nlongest_pause_seconds = 0.01\n"
    ));
    for (_, organization) in &mut setup.organizations {
        *organization = led(organization);
    }
    setup
}

fn led(organization: &str) -> String {
    organization.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1)
}

/// An event, as much of it as the tests look at.
#[derive(serde::Deserialize)]
struct Seen<'a> {
    id: String,
    source: String,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    record_id: String,
    #[serde(borrow)]
    record_details: &'a RawValue,
}

fn events(body: &[u8]) -> Vec<Seen<'_>> {
    serde_json::from_slice(body).expect("an array of events")
}

fn header<'a>((headers, _): &'a Event, name: &str) -> &'a str {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
}

/// Receives until so many different records are in; every message in the order in which it came.
fn receive(receiver: &Receiver, records: usize) -> Vec<Event> {
    let (mut messages, mut ids) = (Vec::new(), BTreeSet::new());
    while ids.len() < records {
        let message = receiver.events.recv_timeout(PATIENCE).expect("another message");
        ids.extend(events(&message.1).into_iter().map(|event| event.id));
        messages.push(message);
    }
    messages
}

#[test]
fn a_backlog_comes_in_signed_batches_of_one_organization_in_order_and_byte_for_byte() {
    let receiver = Receiver::start();
    let mut setup = delivering_to(&receiver, 8);
    // First it only gathers.
    setup.organizations[0].1 = ORGANIZATION.to_owned();
    setup.organizations[1].1 = OTHER_ORGANIZATION.to_owned();
    let gateway = TestGateway::start_with(&setup);
    let details = |n: usize| format!("{{\"n\" : {n}, \"reading\":98.60000000000001,\"z\":1E+2,\"a\":2}}");
    let mut posted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for n in 0..40 {
        let (organization, body) = if n % 4 == 3 {
            let body = incident(&record_id(n), &details(n))
                .replace("0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10", "b7a5c9d0-2222-4b6f-8f7a-9c0de1f2a3b4")
                .replace("7c2e9d54-41a8-ea11-a812-000d3a579c31", "8d3fae65-52b9-4b22-b923-111e4b68ad42");
            ("b7a5c9d0-2222-4b6f-8f7a-9c0de1f2a3b4", body)
        } else {
            ("0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10", incident(&record_id(n), &details(n)))
        };
        let answer = gateway.post(body);
        assert_eq!(answer.status, 202, "{answer:?}");
        posted.entry(organization).or_default().push(answer.text("receiptId"));
    }
    for (file, organization) in [("contoso.toml", ORGANIZATION), ("fabrikam.toml", OTHER_ORGANIZATION)] {
        std::fs::write(gateway.organization_file(file), led(organization)).expect("written");
    }
    assert_eq!(gateway.administer("POST", "/admin/v1/reload").status, 200);
    let secret = std::fs::read_to_string(gateway.folder().join("data/receiver.secret")).expect("the secret was made");
    let secret = [WebhookSecret::parse(&secret).expect("a secret")];
    let messages = receive(&receiver, 40);
    assert_eq!(messages.iter().map(|(_, body)| events(body).len()).max(), Some(8));
    for (organization, receipts) in &posted {
        let mut came = BTreeSet::new();
        for message in &messages {
            let events = events(&message.1);
            if events.iter().any(|event| event.source.contains(organization)) {
                assert!(events.iter().all(|event| event.source.contains(organization)), "one organization each");
                let order: Vec<_> =
                    events.iter().map(|event| receipts.iter().position(|receipt| *receipt == event.id)).collect();
                assert!(order.iter().all(Option::is_some) && order.is_sorted(), "by arrival: {order:?}");
                came.extend(order);
            }
        }
        assert_eq!(came.len(), receipts.len());
    }
    for message in &messages {
        assert_eq!(header(message, "content-type"), "application/cloudevents-batch+json; charset=utf-8");
        let (id, timestamp) = (header(message, "webhook-id"), header(message, "webhook-timestamp"));
        let signed = SignedHeaders { id, timestamp, signature: header(message, "webhook-signature") };
        assert_eq!(signed.verify(&message.1, &secret, Timestamp::now()), Ok(()));
        let of_ids: String = events(&message.1).iter().map(|event| format!("{}\n", event.id)).collect();
        assert_eq!(id, format!("batch_{}", URL_SAFE_NO_PAD.encode(Sha256::digest(of_ids))));
        for event in events(&message.1) {
            let n = usize::from_str_radix(&event.data.record_id[24..], 16).expect("a number");
            assert_eq!(event.data.record_details.get(), details(n));
        }
    }
    for receipt in posted.values().flatten() {
        gateway.wait_for_state(receipt, "delivered");
    }
}

#[test]
fn one_poison_record_becomes_a_dead_letter_and_all_others_are_delivered() {
    let poison = record_id(13);
    let refused = poison.clone();
    let receiver = Receiver::answering(move |(_, body)| {
        let has_it = String::from_utf8_lossy(body).contains(&refused);
        if has_it { "422 Unprocessable Content" } else { "204 No Content" }
    });
    let gateway = TestGateway::start_with(&delivering_to(&receiver, 50));
    let receipts: Vec<String> = (0..40).map(|n| gateway.post(nth_incident(n)).text("receiptId")).collect();
    for (n, receipt) in receipts.iter().enumerate() {
        let state = if n == 13 { "dead-lettered" } else { "delivered" };
        let status = gateway.wait_for_state(receipt, state);
        assert_eq!(status.json()["attempts"], 1, "{n}: being halved is no further attempt");
    }
    let taken: Vec<String> = receiver
        .events
        .try_iter()
        .filter(|(_, body)| !String::from_utf8_lossy(body).contains(&poison))
        .flat_map(|(_, body)| events(&body).into_iter().map(|event| event.id).collect::<Vec<_>>())
        .collect();
    assert_eq!((taken.len(), taken.iter().collect::<BTreeSet<_>>().len()), (39, 39), "each is taken once");
}

#[test]
fn a_failed_batch_is_tried_again_under_the_same_id_with_the_same_content() {
    let requests = AtomicUsize::new(0);
    let receiver = Receiver::answering(move |_| {
        if requests.fetch_add(1, Ordering::Relaxed) < 2 { "500 Internal Server Error" } else { "204 No Content" }
    });
    let mut setup = delivering_to(&receiver, 20);
    setup.organizations[0].1 = ORGANIZATION.to_owned();
    let gateway = TestGateway::start_with(&setup);
    let receipts: Vec<String> = (0..10).map(|n| gateway.post(nth_incident(n)).text("receiptId")).collect();
    std::fs::write(gateway.organization_file("contoso.toml"), led(ORGANIZATION)).expect("written");
    assert_eq!(gateway.administer("POST", "/admin/v1/reload").status, 200);
    for receipt in &receipts {
        let status = gateway.wait_for_state(receipt, "delivered");
        assert_eq!(status.json()["attempts"], 3);
    }
    let messages: Vec<Event> = receiver.events.try_iter().collect();
    assert_eq!(messages.len(), 3);
    for message in &messages {
        assert_eq!(header(message, "webhook-id"), header(&messages[0], "webhook-id"));
        assert_eq!(message.1, messages[0].1);
        assert_eq!(events(&message.1).len(), 10);
    }
}

#[test]
fn a_stop_in_the_middle_of_batches_loses_nothing() {
    let receiver = Receiver::start();
    let mut setup = delivering_to(&receiver, 7);
    setup.organizations[0].1 = ORGANIZATION.to_owned();
    let gateway = TestGateway::start_with(&setup);
    let receipts: Vec<String> = (0..300).map(|n| gateway.post(nth_incident(n)).text("receiptId")).collect();
    std::fs::write(gateway.organization_file("contoso.toml"), led(ORGANIZATION)).expect("written");
    assert_eq!(gateway.administer("POST", "/admin/v1/reload").status, 200);
    let first = receiver.events.recv_timeout(PATIENCE).expect("it has begun");
    let gateway = gateway.restart();
    for receipt in &receipts {
        gateway.wait_for_state(receipt, "delivered");
    }
    let mut seen: Vec<String> = Vec::new();
    for (_, body) in std::iter::once(first).chain(receiver.events.try_iter()) {
        seen.extend(events(&body).into_iter().map(|event| event.id));
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), receipts.iter().collect());
    assert_eq!(seen.len(), receipts.len(), "a stop in order repeats nothing");
    let metrics = eventually("the metrics", || {
        let answer = gateway.call("GET", "/api/v1/receipts/x", KEY, b"");
        (answer.status == 404).then(|| gateway.administer("GET", "/metrics"))
    });
    assert!(String::from_utf8_lossy(&metrics.body).contains("streamgate_records_delivered_total"), "{metrics:?}");
}
