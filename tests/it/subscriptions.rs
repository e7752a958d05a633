//! Flows that start from the gateway: subscribe, be told, survive a restart and a kill, unsubscribe; and what is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use streamgate::config::settings::WebhookSecret;
use streamgate::routing_queue::signature::SignedHeaders;

use crate::lifecycle::Receiver;
use crate::support::connector::check_notification;
use crate::support::eventually;
use crate::support::gateway::{FABRIKAM_KEY, KEY, Setup, TestGateway, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{Answer, exchange, request};
use crate::support::records::{ORGANIZATION_ID, WORK_STREAM_ID, nth_incident};

/// A gateway whose subscribers may be on this machine.
fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.process.push_str("\n[subscriptions]\nallow_networks = [\"127.0.0.0/8\"]\n");
    setup
}

fn wish(receiver: &Receiver, more: &Value) -> Value {
    let mut wish = json!({
        "organizationId": ORGANIZATION_ID, "callbackUrl": format!("http://{}/run?sig=s3cret", receiver.address),
    });
    let members = wish.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    wish
}

fn subscribe(gateway: &TestGateway, wish: &Value) -> Answer {
    gateway.call("POST", "/api/v1/subscriptions", KEY, wish.to_string().as_bytes())
}

fn listed(gateway: &TestGateway) -> Value {
    gateway.call("GET", "/api/v1/subscriptions", KEY, b"").json()["value"].clone()
}

/// The record that the next event is about.
fn next_title(receiver: &Receiver) -> String {
    let (_, body) = receiver.events.recv_timeout(Duration::from_secs(30)).expect("an event");
    let event: Value = serde_json::from_slice(&body).expect("JSON");
    event["data"]["recordDetails"]["title"].as_str().expect("a title").to_owned()
}

#[test]
fn a_flow_starts_from_the_gateway_over_a_restart_until_it_unsubscribes() {
    let (receiver, elsewhere) = (Receiver::start(), Receiver::start());
    let gateway = TestGateway::start_with(&setup());
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
    let made =
        subscribe(&gateway, &wish(&receiver, &json!({ "queue": "Default queue", "workStreamId": WORK_STREAM_ID })));
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    let address = made.header("Location").expect("where to unsubscribe").to_owned();
    let id = made.text("id");
    assert_eq!(address, format!("http://gateway.test/api/v1/subscriptions/{id}"));
    assert_eq!((made.text("callbackHost"), made.text("state")), ("127.0.0.1".to_owned(), "active".to_owned()));
    assert_eq!(subscribe(&gateway, &wish(&elsewhere, &json!({ "queue": "Urgent" }))).status, 201);

    let receipt = gateway.post(nth_incident(2)).text("receiptId");
    let (headers, body) = receiver.events.recv_timeout(Duration::from_secs(30)).expect("an event");
    let header = |name: &str| &*headers.iter().find(|(key, _)| key == name).expect(name).1;
    assert_eq!(header("content-type"), "application/json", "flows take other types for something binary");
    let signed = SignedHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    let secret = WebhookSecret::parse(&made.text("secret")).expect("a secret");
    assert_eq!(signed.verify(&body, &[secret], streamgate::domain::time::Timestamp::now()), Ok(()));
    let event: Value = serde_json::from_slice(&body).expect("JSON");
    check_notification(&event);
    assert_eq!(
        (event["id"].as_str(), event["data"]["route"]["queue"].as_str()),
        (Some(&*receipt), Some("Default queue"))
    );
    assert_eq!(event["data"]["recordDetails"]["title"], "Record 2", "only what arrived since");
    // Being told takes nothing away from the consumers of the queue.
    assert_eq!(gateway.wait_for_state(&receipt, "accepted").text("queue"), "Default queue");

    let gateway = gateway.restart();
    gateway.post(nth_incident(3));
    assert_eq!(next_title(&receiver), "Record 3");
    let told = eventually("both to be written down", || {
        let one = listed(&gateway).as_array()?.iter().find(|one| one["id"] == id.as_str())?.clone();
        (one["delivered"] == 2 && one["pending"] == 0).then_some(one)
    });
    assert_eq!((told["createdBy"].as_str(), told["deadLettered"].as_u64()), (Some("everything"), Some(0)));
    assert!(!told.to_string().contains("s3cret") && !told.to_string().contains("whsec_"), "{told}");

    let path = &address["http://gateway.test".len()..];
    let ended = gateway.call("DELETE", path, KEY, b"");
    assert_eq!((ended.status, ended.text("state")), (200, "ended".to_owned()));
    let again = gateway.call("DELETE", path, KEY, b"");
    assert_eq!((again.status, again.text("endedAt")), (200, ended.text("endedAt")), "the address may be used twice");
    // Whoever subscribes now is told of this one, and the one that ended is not.
    let last = Receiver::start();
    assert_eq!(subscribe(&gateway, &wish(&last, &json!({}))).status, 201);
    gateway.post(nth_incident(4));
    assert_eq!(next_title(&last), "Record 4");
    assert!(receiver.events.try_recv().is_err(), "it was told although it had unsubscribed");
    assert!(elsewhere.events.try_recv().is_err(), "nothing reached that queue");
    assert_eq!(listed(&gateway).as_array().map(Vec::len), Some(3), "the ended one is remembered");
}

#[test]
fn what_is_refused_says_why() {
    let receiver = Receiver::start();
    let gateway = TestGateway::start();
    let good = wish(&receiver, &json!({}));
    let refused = subscribe(&gateway, &good);
    assert_eq!((refused.status, refused.text("code")), (400, "callback-refused".to_owned()));
    assert!(refused.text("action").contains("allow_networks"), "{}", refused.text("action"));
    let changed = |member: &str, value: Value| {
        let mut wish = json!({ "organizationId": ORGANIZATION_ID, "callbackUrl": "https://8.8.8.8/run" });
        wish[member] = value;
        let answer = subscribe(&gateway, &wish);
        (answer.status, answer.text("code"), answer.text("field"))
    };
    for (member, value, status, code) in [
        ("callbackUrl", json!("http://8.8.8.8/run"), 400, "callback-refused"),
        ("callbackUrl", json!("https://169.254.169.254/latest"), 400, "callback-refused"),
        ("callbackUrl", json!("https://[::ffff:127.0.0.1]/"), 400, "callback-refused"),
        ("callbackUrl", json!("https://localhost/"), 400, "callback-refused"),
        ("callbackUrl", json!("https://nowhere.invalid/"), 503, "callback-unresolved"),
        ("callbackUrl", json!("run"), 400, "malformed"),
        ("callbackUrl", json!("https://me:pw@8.8.8.8/"), 400, "malformed"),
        ("organizationId", json!("contoso"), 400, "malformed"),
        ("organizationId", json!("00000000-0000-4000-8000-00000000dead"), 404, "organization-unknown"),
        ("workStreamId", json!("00000000-0000-4000-8000-00000000dead"), 404, "work-stream-unknown"),
        ("queue", json!("Nowhere"), 404, "queue-unknown"),
        ("secret", json!("whsec_short"), 400, "malformed"),
    ] {
        assert_eq!(changed(member, value.clone()), (status, code.to_owned(), member.to_owned()), "{member} {value}");
    }
    assert_eq!(changed("callbackURL", json!("https://8.8.8.8/")).1, "malformed", "a typing error is no wish");
    let missing = subscribe(&gateway, &json!({ "organizationId": ORGANIZATION_ID }));
    assert_eq!(
        (missing.text("field"), missing.text("detail")),
        ("callbackUrl".into(), "`callbackUrl` is missing.".into())
    );
    let foreign = gateway.call("POST", "/api/v1/subscriptions", FABRIKAM_KEY, good.to_string().as_bytes());
    assert_eq!(foreign.text("code"), "organization-unknown");
    for path in ["/api/v1/subscriptions/none", "/api/v1/subscriptions/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(gateway.call("DELETE", path, KEY, b"").text("code"), "subscription-unknown", "{path}");
    }
    let foreign = format!("/api/v1/subscriptions?organizationId={ORGANIZATION_ID}");
    assert_eq!(gateway.call("GET", &foreign, FABRIKAM_KEY, b"").text("code"), "organization-unknown");
    assert_eq!(listed(&gateway), json!([]));
}

#[test]
fn another_organizations_subscription_does_not_exist() {
    let receiver = Receiver::start();
    let mut setup = setup();
    setup.process.push_str("max_per_organization = 1\n");
    let gateway = TestGateway::start_with(&setup);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let made = subscribe(&gateway, &wish(&receiver, &json!({ "secret": secret, "queue": "", "workStreamId": null })));
    assert_eq!((made.status, made.text("secret")), (201, secret.to_owned()));
    let path = format!("/api/v1/subscriptions/{}", made.text("id"));
    assert_eq!(gateway.call("DELETE", &path, FABRIKAM_KEY, b"").text("code"), "subscription-unknown");
    assert_eq!(gateway.call("GET", "/api/v1/subscriptions", FABRIKAM_KEY, b"").json()["value"], json!([]));
    assert_eq!(subscribe(&gateway, &wish(&receiver, &json!({}))).text("id"), made.text("id"), "the same wish");
    let other = json!({ "secret": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0" });
    assert_eq!(subscribe(&gateway, &wish(&receiver, &other)).text("code"), "resource-exists");
    let second = subscribe(&gateway, &wish(&Receiver::start(), &json!({})));
    assert_eq!((second.status, second.text("code")), (409, "subscription-limit".to_owned()));
}

#[test]
fn the_operator_sees_what_could_not_be_told_and_has_it_told_again() {
    // Nobody listens at a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port");
    let mut setup = setup();
    setup.process.push_str("[delivery]\nmax_attempts = 1\n");
    let gateway = TestGateway::start_with(&setup);
    let wish = json!({ "organizationId": ORGANIZATION_ID, "callbackUrl": format!("http://{port}/run") });
    let id = subscribe(&gateway, &wish).text("id");
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let path = format!("/subscriptions/{id}");
    let shown = eventually("it to be given up", || {
        let shown = gateway.change("GET", &path, &Value::Null, 200);
        (shown["deadLettered"] == 1).then_some(shown)
    });
    assert!(shown["lastError"].as_str().expect("a reason").contains("no connection"), "{shown}");
    let dead = gateway.change("GET", &format!("{path}/dead-letters"), &Value::Null, 200);
    assert_eq!((&dead["value"][0]["receiptId"], &dead["value"][0]["attempts"]), (&json!(receipt), &json!(1)));
    assert_eq!(gateway.wait_for_state(&receipt, "accepted").status, 200, "the record is not touched by it");

    let listener = std::net::TcpListener::bind(port).expect("somebody listens now");
    let told = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("called");
        let mut head = [0; 64];
        let read = std::io::Read::read(&mut stream, &mut head).expect("a request");
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("answered");
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let requeued = gateway.change("POST", &format!("{path}/dead-letters/requeue"), &Value::Null, 200);
    assert_eq!(requeued, json!({ "requeued": 1 }));
    assert!(told.join().expect("no panic").starts_with("POST /run HTTP/1.1"));
    eventually("it to be told", || (gateway.change("GET", &path, &Value::Null, 200)["delivered"] == 1).then_some(()));
    let discard = gateway.change("POST", &format!("{path}/dead-letters/discard"), &json!({ "reason": "test" }), 200);
    assert_eq!(discard, json!({ "discarded": 0 }));
    assert_eq!(gateway.change("GET", "/subscriptions", &Value::Null, 200)["value"].as_array().map(Vec::len), Some(1));
    gateway.change("DELETE", &path, &Value::Null, 200);
    gateway.change("DELETE", &path, &Value::Null, 200);
    let trail = gateway.change("GET", &format!("/audit?resource={id}"), &Value::Null, 200);
    let actions: Vec<_> = trail["value"].as_array().expect("entries").iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["delete", "requeue"]);
}

#[test]
fn with_the_development_key_this_machine_may_be_called_back() {
    let receiver = Receiver::start();
    let gateway = TestGateway::start_with(&Setup { process: String::new(), ..Setup::default() });
    let key = std::fs::read_to_string(gateway.folder().join("data/development.key")).expect("a key");
    let body = wish(&receiver, &json!({})).to_string();
    let made = gateway.call("POST", "/api/v1/subscriptions", key.trim(), body.as_bytes());
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
}

#[test]
fn kill_9_in_the_middle_and_everything_accepted_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &setup());
    let receiver = Receiver::start();
    let fields = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let mut gateway = Process::start(folder.path(), None);
    let subscribed = wish(&receiver, &json!({})).to_string();
    let made = exchange(gateway.public, &request("POST", "/api/v1/subscriptions", &fields, subscribed.as_bytes()));
    assert_eq!(made.status, 201);
    let (mut accepted, mut told) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..4 {
        for n in 0..60 {
            let record = nth_incident(round * 100 + n);
            let answer = exchange(gateway.public, &request("POST", "/api/v1/records", &fields, record.as_bytes()));
            assert_eq!(answer.status, 202);
            accepted.insert(answer.text("receiptId"));
        }
        // In the middle of telling: some are told and not written down, some are neither.
        gateway.kill();
        gateway = Process::start(folder.path(), None);
    }
    eventually("everything that was accepted to be told", || {
        while let Ok((headers, _)) = receiver.events.recv_timeout(Duration::from_millis(20)) {
            told.extend(headers.into_iter().filter(|(name, _)| name == "webhook-id").map(|(_, id)| id));
        }
        (told.len() >= accepted.len()).then_some(())
    });
    assert_eq!(told, accepted);
}

#[test]
fn a_start_without_its_subscriptions_says_so() {
    if crate::support::store::is_postgres() {
        // It is about a file.
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &setup());
    let gateway = Process::start(folder.path(), None);
    assert_eq!(gateway.terminate(), Some(0));
    let file = folder.path().join("data/subscriptions.db");
    std::fs::remove_file(&file).expect("it was there");
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
        .arg(folder.path().join("streamgate.toml"))
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .output()
        .expect("ran");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{told}");
    assert!(told.contains("subscriptions.db is missing") && !told.contains("panicked"), "{told}");
}
