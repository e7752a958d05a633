//! Delivered records that are pending again: for a destination that lost what it had taken, and for people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::{Value, json};
use streamgate::domain::time::Timestamp;

use crate::command_line::{against, against_with, json as json_of, text};
use crate::crash::try_exchange;
use crate::lifecycle::Receiver;
use crate::support::eventually;
use crate::support::gateway::{FABRIKAM_KEY, KEY, ORGANIZATION, Setup, TestGateway, write_configuration};
use crate::support::process::Process;
use crate::support::raw::request;
use crate::support::records::{ORGANIZATION_ID, nth_incident};

const REDELIVER: &str = "/records/redeliver";

/// A gateway that delivers to a receiver.
fn delivering_to(receiver: &Receiver) -> TestGateway {
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    setup.organizations[0].1 =
        ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    TestGateway::start_with(&setup)
}

/// The IDs of the next events that arrive.
fn events(receiver: &Receiver, count: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let (_, body) = receiver.events.recv_timeout(std::time::Duration::from_secs(30)).expect("an event");
        let event: Value = serde_json::from_slice(&body).expect("an event");
        *seen.entry(event["id"].as_str().expect("an ID").to_owned()).or_default() += 1;
    }
    seen
}

/// Posts records and waits until each is delivered.
fn deliver(gateway: &TestGateway, receiver: &Receiver, numbers: std::ops::Range<usize>) -> BTreeSet<String> {
    let count = numbers.len();
    let receipts: BTreeSet<String> =
        numbers.map(|number| gateway.post(nth_incident(number)).text("receiptId")).collect();
    assert_eq!(events(receiver, count).into_keys().collect::<BTreeSet<_>>(), receipts);
    for receipt in &receipts {
        gateway.wait_for_state(receipt, "delivered");
    }
    receipts
}

fn now() -> String {
    Timestamp::now().to_string()
}

/// Waits until the clock shows another moment: what is delivered then was not delivered before.
fn next_moment() -> String {
    let before = now();
    eventually("the clock to go on", || Some(now()).filter(|now| *now != before))
}

/// Leases and completes whatever there is. Answers the items.
fn work_through(exchange: impl Fn(&str, &Value) -> Value) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let lease = json!({ "organizationId": ORGANIZATION_ID, "max": 50 });
        let items = exchange("/api/v1/work-items/lease", &lease)["value"].as_array().expect("a list").clone();
        if items.is_empty() {
            return all;
        }
        for item in items {
            let path = format!("/api/v1/work-items/{}/complete", item["id"].as_str().expect("a receipt"));
            exchange(&path, &json!({ "leaseToken": item["leaseToken"] }));
            all.push(item);
        }
    }
}

#[test]
fn a_destination_that_lost_records_gets_them_again() {
    let receiver = Receiver::start();
    let gateway = delivering_to(&receiver);
    let kept = deliver(&gateway, &receiver, 0..3);
    let since = next_moment();
    let lost = deliver(&gateway, &receiver, 3..9);

    let wish = json!({ "since": since, "routingQueue": "receiver" });
    let mut counted = wish.clone();
    counted["dryRun"] = true.into();
    let said = gateway.change("POST", REDELIVER, &counted, 200);
    assert_eq!((&said["count"], &said["workItems"], &said["dryRun"]), (&json!(6), &json!(0), &json!(true)));
    assert!(gateway.change("GET", "/audit", &Value::Null, 200)["value"].as_array().expect("a list").is_empty());

    next_moment();
    let done = gateway.change("POST", REDELIVER, &wish, 200);
    assert_eq!((&done["count"], &done["withoutDetails"], &done["since"]), (&json!(6), &json!(0), &json!(since)));
    assert!(done.get("next").is_none() && done.get("receiptsWithoutDetails").is_none(), "{done}");
    let again = events(&receiver, 6);
    assert!(again.keys().eq(&lost) && again.values().all(|times| *times == 1), "{again:?}");
    for receipt in &lost {
        let shown = gateway.wait_for_state(receipt, "delivered").json();
        assert!(shown["lastError"].as_str().expect("a text").starts_with("delivered on 20"), "{shown}");
        assert_eq!(shown["attempts"], 1);
    }
    let shown = gateway.wait_for_state(kept.first().expect("some"), "delivered").json();
    assert!(shown.get("lastError").is_none(), "{shown}");

    // Whoever starts anew with the same end takes nothing twice.
    let mut same = wish;
    same["until"] = done["until"].clone();
    assert_eq!(gateway.change("POST", REDELIVER, &same, 200)["count"], 0);
    let trail = gateway.change("GET", "/audit", &Value::Null, 200);
    let entries = trail["value"].as_array().expect("a list");
    assert_eq!(entries.len(), 1, "one for each call that did something: {trail}");
    assert_eq!((&entries[0]["action"], &entries[0]["resource"]), (&json!("requeue"), &json!("records")));
    let said: BTreeMap<&str, &Value> = entries[0]["differences"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|difference| (difference["path"].as_str().expect("a path"), &difference["to"]))
        .collect();
    assert_eq!((said["count"], said["since"], said["until"]), (&json!(6), &json!(since), &done["until"]));
    assert_eq!(said["routingQueue"], "receiver");
}

#[test]
fn what_is_asked_for_is_read_strictly_and_nobody_reaches_others_records() {
    let receiver = Receiver::start();
    let gateway = delivering_to(&receiver);
    deliver(&gateway, &receiver, 0..4);
    let since = "2026-01-01T00:00:00Z";
    for (wish, field) in [
        (json!({}), Some("since")),
        (json!({ "since": "yesterday" }), Some("since")),
        (json!({ "since": "2999-01-01T00:00:00Z" }), Some("since")),
        (json!({ "since": since, "until": since }), Some("since")),
        (json!({ "since": since, "until": "now" }), Some("until")),
        (json!({ "since": since, "routingQueue": "reciever" }), Some("routingQueue")),
        (json!({ "since": since, "routingQueue": "pull" }), Some("routingQueue")),
        (json!({ "since": since, "workStreamId": "x" }), Some("workStreamId")),
        (json!({ "since": since, "dryrun": true }), None),
        (json!({ "since": since, "dryRun": "yes" }), None),
        (json!({ "since": since, "entityLogicalName": "incident" }), None),
    ] {
        let answer = gateway.admin_call(("POST", REDELIVER), KEY, &[], &wish);
        assert_eq!((answer.status, answer.text("code")), (400, "malformed".to_owned()), "{wish}");
        assert_eq!(answer.json()["field"].as_str(), field, "{wish}");
    }
    let with = |name: &str, value: Value| json!({ "since": since, name: value, "dryRun": true });
    for (wish, expected) in [
        (with("organizationId", ORGANIZATION_ID.into()), 4),
        (with("workStreamId", "7c2e9d54-41a8-ea11-a812-000d3a579c31".into()), 4),
        (with("workStreamId", "7c2e9d54-41a8-ea11-a812-000d3a579c32".into()), 0),
        (with("queue", "Default queue".into()), 4),
        (with("queue", "Another".into()), 0),
        (with("until", "2026-01-02T00:00:00Z".into()), 0),
        (with("limit", 3.into()), 3),
    ] {
        assert_eq!(gateway.change("POST", REDELIVER, &wish, 200)["count"], expected, "{wish}");
    }
    let theirs = gateway.admin_call(("POST", REDELIVER), FABRIKAM_KEY, &[], &json!({ "since": since }));
    assert_eq!((theirs.status, theirs.json()["count"].clone()), (200, json!(0)));
    let foreign = json!({ "since": since, "organizationId": ORGANIZATION_ID });
    assert_eq!(gateway.admin_call(("POST", REDELIVER), FABRIKAM_KEY, &[], &foreign).status, 404);
    let named = json!({ "since": since, "routingQueue": "receiver" });
    let theirs = gateway.admin_call(("POST", REDELIVER), FABRIKAM_KEY, &[], &named);
    assert_eq!(theirs.text("field"), "routingQueue", "what others' records go to looks like what is not there");
    assert!(gateway.change("GET", "/records?state=accepted", &Value::Null, 200)["value"] == json!([]));
}

#[test]
fn work_items_come_back_to_people_and_the_command_says_so() {
    let gateway = TestGateway::start();
    for number in 0..5 {
        assert_eq!(gateway.post(nth_incident(number)).status, 202);
    }
    let exchange = |path: &str, body: &Value| gateway.call("POST", path, KEY, body.to_string().as_bytes()).json();
    let done = work_through(exchange);
    assert_eq!(done.len(), 5);
    let run = |arguments: &[&str]| {
        let output = against(&gateway, &[&["records", "requeue"], arguments].concat());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, told) = run(&["--since", "2026-01-01T00:00:00Z", "--organization", "contoso", "--dry-run"]);
    assert!(code == Some(0) && told.contains("5 records") && told.contains("would be pending again"), "{told}");
    assert!(told.contains("5 of them are work items of `pull`, and would come back to people."), "{told}");
    assert!(work_through(exchange).is_empty());

    let all = ["--since", "2026-01-01T00:00:00Z", "--work-stream", "Cases and leads", "--queue", "Default queue"];
    let output = against(&gateway, &[&["records", "requeue", "--routing-queue", "pull", "--json"], &all[..]].concat());
    let said = json_of(&output);
    assert_eq!((&said["count"], &said["workItems"], &said["dryRun"]), (&json!(5), &json!(5), &json!(false)), "{said}");
    let ids = |items: &[Value]| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
    let again = work_through(exchange);
    assert_eq!(ids(&again), ids(&done), "with their receipts, in the order in which they came");
    assert!(again.iter().all(|item| item["attempt"] == 1), "{again:?}");

    for (arguments, code, words) in [
        (&["--since", "yesterday"][..], 1, "RFC 3339"),
        (&["--since", "2026-01-01T00:00:00Z", "--organization", "nobody"], 1, "there is no organization `nobody`"),
        (&["--since", "2026-01-01T00:00:00Z", "--routing-queue", "nats"], 1, "names `nats`"),
        (&["--since", "2026-01-01T00:00:00Z", "--all"], 2, "cannot be used with"),
        (&["--dry-run"], 2, "--since"),
        (&[], 2, "RECEIPT_ID"),
    ] {
        let (found, told) = run(arguments);
        assert!(found == Some(code) && told.contains(words), "{arguments:?}: {found:?} {told}");
    }
}

#[test]
fn what_has_its_details_no_more_stays_delivered_and_is_named() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[retention]\ndelivered_details_days = 0\n");
    let gateway = TestGateway::start_with(&setup);
    let mut receipts: Vec<String> =
        (0..12).map(|number| gateway.post(nth_incident(number)).text("receiptId")).collect();
    let exchange = |path: &str, body: &Value| gateway.call("POST", path, KEY, body.to_string().as_bytes()).json();
    assert_eq!(work_through(exchange).len(), 12);
    let said = gateway.change("POST", REDELIVER, &json!({ "since": "2026-01-01T00:00:00Z" }), 200);
    assert_eq!((&said["count"], &said["withoutDetails"]), (&json!(0), &json!(12)));
    assert_eq!(said["receiptsWithoutDetails"], json!(receipts));
    assert!(gateway.change("GET", "/audit", &Value::Null, 200)["value"] == json!([]), "nothing was done");
    let output = against(&gateway, &["records", "requeue", "--since", "2026-01-01T00:00:00Z"]);
    let told = text(&output.stdout);
    assert!(told.contains("12 stay delivered: their details were let go"), "{told}");
    assert!(told.contains("and 2 more (--json has more of them)"), "{told}");
    receipts.truncate(10);
    assert!(receipts.iter().all(|receipt| told.contains(receipt)), "{told}");
}

/// kill -9 while pages of records are put back: what was answered is pending, each record once, and another run goes on.
#[test]
fn a_kill_in_the_middle_of_putting_records_back_loses_and_doubles_nothing() {
    const RECORDS: usize = 240;
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &Setup::default());
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let call = |address, path: &str, body: &Value| {
        try_exchange(address, &request("POST", path, &headers, body.to_string().as_bytes()))
    };
    let gateway = Process::start(folder.path(), None);
    for number in 0..RECORDS {
        let body = nth_incident(number);
        try_exchange(gateway.public, &request("POST", "/api/v1/records", &headers, body.as_bytes()))
            .expect("a receipt");
    }
    let done = work_through(|path, body| call(gateway.public, path, body).expect("an answer"));
    assert_eq!(done.len(), RECORDS);
    let until = next_moment();
    gateway.kill();

    let answered = AtomicU64::new(0);
    let page = json!({ "since": "2026-01-01T00:00:00Z", "until": until, "limit": 3 });
    for round in 0..6 {
        let gateway = Process::start(folder.path(), None);
        let (admin, pages) = (gateway.admin, AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Each time from the beginning, with the same end.
                while let Some(said) = call(admin, "/admin/v1/records/redeliver", &page) {
                    answered.fetch_add(said["count"].as_u64().expect("a count"), Ordering::Relaxed);
                    pages.fetch_add(1, Ordering::Relaxed);
                    if said["count"] == 0 {
                        return;
                    }
                }
            });
            // Each round strikes after another number of pages.
            let enough = 2 + 3 * round;
            eventually("enough pages", || (pages.load(Ordering::Relaxed) >= enough).then_some(()));
            gateway.kill();
        });
    }
    let gateway = Process::start(folder.path(), None);
    let before = answered.load(Ordering::Relaxed);
    assert!(before > 100 && before < RECORDS as u64, "{before} were put back before the last kill");
    let urls = [gateway.public, gateway.admin].map(|address| format!("http://{address}"));
    let rest = ["records", "requeue", "--since", "2026-01-01T00:00:00Z", "--until", &until, "--json"];
    let said = json_of(&against_with(&urls, &[], &rest));
    let rest = said["count"].as_u64().expect("a count");
    // A page whose answer the kill took is not counted twice: it was done, or not.
    assert!(rest > 0 && before + rest <= RECORDS as u64 && before + rest + 6 * 3 >= RECORDS as u64, "{before} {said}");
    let again = work_through(|path, body| call(gateway.public, path, body).expect("an answer"));
    let ids = |items: &[Value]| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&done), "each of them once, in order");
    gateway.kill();
}

/// A command that is cut short says how another one goes on.
#[test]
fn a_command_that_is_cut_short_says_how_to_go_on() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // A gateway that answers the first page and is gone at the second.
    let answering = std::thread::spawn(move || {
        let page = r#"{"count":1000,"workItems":0,"withoutDetails":0,"since":"2026-01-01T00:00:00.000Z","until":"2026-01-02T03:04:05.678Z","dryRun":false,"next":1000}"#;
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut asked = Vec::new();
        let mut buffer = [0; 4_096];
        for answer in [Some(page), None] {
            asked.clear();
            while !asked.ends_with(b"}") {
                let read = stream.read(&mut buffer).expect("a request");
                assert!(read > 0, "the client went away");
                asked.extend_from_slice(&buffer[..read]);
            }
            if let Some(page) = answer {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    page.len()
                );
                stream.write_all((head + page).as_bytes()).expect("answered");
            }
        }
        String::from_utf8(asked).expect("text")
    });
    let output = against_with(&[url.clone(), url], &[], &["records", "requeue", "--since", "2026-01-01T00:00:00Z"]);
    let second = answering.join().expect("no panic");
    assert!(second.contains(r#""until":"2026-01-02T03:04:05.678Z""#) && second.contains(r#""after":1000"#), "{second}");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("1000 records were pending again before that"), "{told}");
    assert!(told.contains("--until 2026-01-02T03:04:05.678Z goes on with the rest"), "{told}");
}
