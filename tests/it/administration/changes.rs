//! Changes: effective before they are answered, whole, durable, and never in anybody's way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ENTITY, LITWARE, STREAM, empty, incidents, make_litware, record};
use crate::support::gateway::KEY;
use crate::support::raw::{Connection, request};

#[test]
fn from_an_empty_store_to_the_first_202_and_back() {
    let gateway = empty();
    assert_eq!(gateway.post(record(1)).text("code"), "organization-unknown");
    make_litware(&gateway);
    let accepted = gateway.post(record(1));
    assert_eq!(accepted.status, 202, "{:?}", String::from_utf8_lossy(&accepted.body));

    // Each change counts in the very next answer, and the refusal says what to do.
    let entity = format!("/work-streams/{STREAM}/entity-configurations/{ENTITY}");
    let steps = [
        (format!("{entity}/deactivate"), "entity-configuration-inactive"),
        (format!("{entity}/activate"), ""),
        (format!("/work-streams/{STREAM}/deactivate"), "work-stream-inactive"),
        (format!("/work-streams/{STREAM}/activate"), ""),
    ];
    for (number, (path, code)) in (2..).zip(steps) {
        let changed = gateway.change("POST", &path, &Value::Null, 200);
        let answer = gateway.post(record(number));
        assert_eq!(answer.text("code"), code, "{path}");
        assert_eq!(answer.json()["catalogGeneration"], changed["catalogGeneration"], "{path}");
    }
    gateway.change("DELETE", &entity, &Value::Null, 200);
    assert_eq!(gateway.post(record(9)).text("code"), "entity-not-configured");
    gateway.change("DELETE", &format!("/work-streams/{STREAM}"), &Value::Null, 200);
    assert_eq!(gateway.post(record(9)).text("code"), "work-stream-unknown");
    gateway.change("DELETE", &format!("/organizations/{LITWARE}"), &Value::Null, 200);
    assert_eq!(gateway.post(record(9)).text("code"), "organization-unknown");
    // What was accepted meanwhile is still there.
    let receipt = accepted.text("receiptId");
    assert_eq!(gateway.administer("GET", &format!("/admin/v1/records/{receipt}")).text("state"), "accepted");
}

#[test]
fn what_was_changed_is_there_after_a_restart_under_a_later_generation() {
    let gateway = empty();
    make_litware(&gateway);
    let key = json!({ "name": "flow", "permissions": ["records.write"], "organizations": ["litware"] });
    let made = gateway.change("POST", "/api-keys", &key, 201);
    let document = gateway.change("GET", &format!("/organizations/{LITWARE}/document"), &Value::Null, 200);
    let gateway = gateway.restart();
    let again = gateway.change("GET", &format!("/organizations/{LITWARE}/document"), &Value::Null, 200);
    assert_eq!(document, again);
    let answer = gateway.call("POST", "/api/v1/records", made["key"].as_str().expect("a key"), record(1).as_bytes());
    assert_eq!(answer.status, 202);
    assert!(answer.json()["catalogGeneration"].as_u64() > made["catalogGeneration"].as_u64());
    gateway.change("DELETE", "/api-keys/flow", &Value::Null, 200);
    let refused = gateway.call("POST", "/api/v1/records", made["key"].as_str().expect("a key"), record(2).as_bytes());
    assert_eq!(refused.status, 401);
}

#[test]
fn whoever_was_slower_learns_it() {
    let gateway = empty();
    make_litware(&gateway);
    let path = format!("/work-streams/{STREAM}");
    let read = gateway.admin_call(("GET", &path), KEY, &[], &Value::Null);
    let tag = read.header("etag").expect("a tag").to_owned();
    let patch = |capacity: u32| {
        gateway.admin_call(("PATCH", &path), KEY, &[("If-Match", &tag)], &json!({ "capacity": capacity }))
    };
    let first = patch(10);
    assert_eq!(first.status, 200);
    let second = patch(20);
    assert_eq!((second.status, second.text("code")), (412, "precondition-failed".to_owned()));
    let now = gateway.admin_call(("GET", &path), KEY, &[], &Value::Null);
    assert_eq!(now.json()["capacity"], 10);
    assert_eq!(now.header("etag"), first.header("etag"));
    let stale = gateway.admin_call(("DELETE", &path), KEY, &[("If-Match", &tag)], &Value::Null);
    assert_eq!(stale.status, 412);
}

#[test]
fn nothing_new_is_no_change() {
    let gateway = empty();
    make_litware(&gateway);
    let path = format!("/work-streams/{STREAM}");
    let before = gateway.change("GET", &path, &Value::Null, 200);
    let same = gateway.change("PATCH", &path, &json!({ "name": "Cases" }), 200);
    assert_eq!(before["catalogGeneration"], same["catalogGeneration"]);
    // What an answer shows can be sent back as it is. Saying a default is a change: it stays when the default does not.
    let said = gateway.change("PATCH", &path, &before, 200);
    assert!(said["catalogGeneration"].as_u64() > before["catalogGeneration"].as_u64());
    assert_eq!(gateway.change("PATCH", &path, &before, 200)["catalogGeneration"], said["catalogGeneration"]);
}

#[test]
fn a_value_that_is_said_stays_when_the_default_changes() {
    let gateway = empty();
    make_litware(&gateway);
    let path = format!("/organizations/{LITWARE}");
    gateway.change("PATCH", &path, &json!({ "requestsPerMinute": 10_000 }), 200);
    let file = gateway.folder().join("streamgate.toml");
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, text + "\n[limits]\nrequests_per_minute = 77\nburst = 7\n").expect("written");
    gateway.change("POST", "/reload", &Value::Null, 200);
    let shown = gateway.change("GET", &path, &Value::Null, 200);
    assert_eq!((&shown["requestsPerMinute"], &shown["burst"]), (&json!(10_000), &json!(7)));
    gateway.change("PATCH", &path, &json!({ "requestsPerMinute": null }), 200);
    assert_eq!(gateway.change("GET", &path, &Value::Null, 200)["requestsPerMinute"], 77);
}

#[test]
fn generations_grow_over_restarts_whatever_made_them() {
    let gateway = empty();
    make_litware(&gateway);
    let mut newest = 0;
    for capacity in 1..40 {
        let changed =
            gateway.change("PATCH", &format!("/work-streams/{STREAM}"), &json!({ "capacity": capacity }), 200);
        newest = changed["catalogGeneration"].as_u64().expect("a generation");
    }
    let file = gateway.folder().join("streamgate.toml");
    let text = std::fs::read_to_string(&file).expect("readable");
    for burst in 1..9 {
        std::fs::write(&file, format!("{text}\n[limits]\nburst = {burst}\n")).expect("written");
        gateway.change("POST", "/reload", &Value::Null, 200);
        let shown = gateway.change("GET", &format!("/organizations/{LITWARE}"), &Value::Null, 200);
        newest = newest.max(shown["catalogGeneration"].as_u64().expect("a generation"));
    }
    let gateway = gateway.restart();
    let shown = gateway.change("GET", &format!("/organizations/{LITWARE}"), &Value::Null, 200);
    assert!(shown["catalogGeneration"].as_u64().expect("a generation") > newest);
}

#[test]
fn the_order_of_lists_is_theirs() {
    let gateway = empty();
    make_litware(&gateway);
    for name in ["A", "B"] {
        gateway.change("POST", &format!("/organizations/{LITWARE}/queues"), &json!({ "name": name }), 201);
        let variable = json!({ "displayName": name });
        gateway.change("POST", &format!("/work-streams/{STREAM}/context-variables"), &variable, 201);
    }
    let path = format!("/organizations/{LITWARE}/document");
    let mut document = gateway.change("GET", &path, &Value::Null, 200);
    document["queues"].as_array_mut().expect("queues")[1..].reverse();
    document["workStreams"][0]["contextVariables"].as_array_mut().expect("variables").reverse();
    let applied = gateway.change("PUT", &path, &document, 200);
    let paths: Vec<_> =
        applied["differences"].as_array().expect("differences").iter().map(|d| d["path"].clone()).collect();
    assert_eq!(paths, [json!("queues/order"), json!(format!("workStreams/{STREAM}/contextVariables/order"))]);
    assert_eq!(gateway.change("GET", &path, &Value::Null, 200), document);
}

#[test]
fn a_thousand_changes_beside_64_clients_tear_nothing() {
    const CLIENTS: usize = 64;
    const CHANGES: u32 = 1_000;
    let gateway = empty();
    make_litware(&gateway);
    let limits = json!({ "requestsPerMinute": 50_000_000, "burst": 50_000_000 });
    gateway.change("PATCH", &format!("/organizations/{LITWARE}"), &limits, 200);
    let done = AtomicBool::new(false);
    let posted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (gateway, done, posted) = (&gateway, &done, &posted);
            scope.spawn(move || {
                let mut connection = Connection::open(gateway.public);
                let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
                let mut generation = 0;
                while !done.load(Ordering::Relaxed) {
                    let body = record(u32::try_from(client).expect("few clients"));
                    connection.send(&request("POST", "/api/v1/records", &headers, body.as_bytes()));
                    let answer = connection.answer().expect("an answer");
                    // The configuration of this stream never stops admitting, whatever is changed about it.
                    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
                    let seen = answer.json()["catalogGeneration"].as_u64().expect("a generation");
                    assert!(seen >= generation, "one connection went back from {generation} to {seen}");
                    generation = seen;
                    posted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut own = Connection::open(gateway.public);
        let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
        let started = Instant::now();
        for change in 0..CHANGES {
            let patch = json!({ "capacity": change + 1, "name": format!("Cases {change}") });
            let changed = gateway.change("PATCH", &format!("/work-streams/{STREAM}"), &patch, 200);
            // The next request on a connection that was open before sees it.
            own.send(&request("POST", "/api/v1/records", &headers, record(999).as_bytes()));
            let answer = own.answer().expect("an answer").json();
            assert_eq!(answer["catalogGeneration"], changed["catalogGeneration"]);
            assert!(started.elapsed() < Duration::from_secs(300), "a change takes far too long");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(posted.load(Ordering::Relaxed) > CLIENTS, "the clients did post meanwhile");
    assert_eq!(gateway.change("GET", &format!("/work-streams/{STREAM}"), &Value::Null, 200)["capacity"], CHANGES);
}

#[test]
fn lists_go_a_page_at_a_time_and_are_filtered() {
    let gateway = empty();
    make_litware(&gateway);
    for number in 0..7 {
        let state = if number % 2 == 0 { "active" } else { "inactive" };
        let entity = json!({
            "entityLogicalName": format!("new_kind{number}"),
            "entitySetName": format!("new_kinds{number}"),
            "state": state,
        });
        gateway.change("POST", &format!("/work-streams/{STREAM}/entity-configurations"), &entity, 201);
    }
    let base = format!("/work-streams/{STREAM}/entity-configurations");
    let page = |query: &str| gateway.change("GET", &format!("{base}?{query}"), &Value::Null, 200);
    let names = |page: &Value| -> Vec<String> {
        let value = page["value"].as_array().expect("a list").iter();
        value.map(|entity| entity["entityLogicalName"].as_str().expect("a name").to_owned()).collect()
    };
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = page(&format!("limit=3{after}"));
        all.extend(names(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(all.len(), 8);
    assert_eq!(names(&page("state=inactive")), ["new_kind1", "new_kind3", "new_kind5"]);
    assert_eq!(names(&page("name=KIND4")), ["new_kind4"]);
    let gone = gateway.admin_call(("GET", &format!("{base}?after=nothing")), KEY, &[], &Value::Null);
    assert_eq!(gone.status, 400);
    assert_eq!(incidents()["entityLogicalName"], "incident");
}
