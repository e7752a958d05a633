//! What is wrong with a change is told whole, with pointers into what was sent, and nothing of it happens.

use serde_json::{Value, json};

use super::{ENTITY, LITWARE, STREAM, empty, incidents, make_litware};
use crate::support::gateway::{KEY, TestGateway};
use crate::support::raw::Answer;

fn refused(gateway: &TestGateway, method: &str, path: &str, body: &Value) -> Answer {
    let before = gateway.change("GET", &format!("/organizations/{LITWARE}/document"), &Value::Null, 200);
    let answer = gateway.admin_call((method, path), KEY, &[], body);
    assert!(answer.status >= 400, "{method} {path}: {}", answer.status);
    let after = gateway.change("GET", &format!("/organizations/{LITWARE}/document"), &Value::Null, 200);
    assert_eq!(before, after, "{method} {path} changed something");
    answer
}

fn pointers(answer: &Answer) -> Vec<String> {
    let faults = answer.json()["faults"].as_array().cloned().unwrap_or_default();
    faults.iter().map(|fault| fault["pointer"].as_str().unwrap_or("elsewhere").to_owned()).collect()
}

#[test]
fn every_fault_of_a_submission_is_told_with_its_place() {
    let gateway = empty();
    make_litware(&gateway);
    let stream = json!({
        "organizationId": LITWARE,
        "name": "",
        "capacity": 0,
        "streamSource": "entity-record",
        "fooBar": 1,
        "allowedPresences": ["available", "asleep"],
        "entities": [{ "entityLogicalName": "1x", "entitySetName": 5 }],
    });
    let answer = refused(&gateway, "POST", "/work-streams", &stream);
    assert_eq!((answer.status, answer.text("code")), (422, "resource-invalid".to_owned()));
    let mut found = pointers(&answer);
    found.sort();
    assert_eq!(
        found,
        [
            "/allowedPresences/1",
            "/capacity",
            "/entities/0/entityLogicalName",
            "/entities/0/entitySetName",
            "/fooBar",
            "/name",
            "/streamSource"
        ]
    );
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("`fooBar`") && text.contains("`entity-records`"), "{text}");
    assert!(!text.contains("stream_source"), "JSON is told in JSON's names: {text}");
}

#[test]
fn a_change_that_breaks_another_part_says_where() {
    let gateway = empty();
    make_litware(&gateway);
    let other = json!({ "id": "33333333-aaaa-4bbb-8ccc-000000000009", "uniqueName": "litware", "name": "x" });
    let answer = refused(&gateway, "POST", "/organizations", &other);
    assert_eq!((answer.status, pointers(&answer)), (422, vec!["/uniqueName".to_owned()]));
    let pull = refused(&gateway, "PATCH", &format!("/work-streams/{STREAM}"), &json!({ "routingQueue": "nowhere" }));
    assert_eq!((pull.status, pointers(&pull)), (422, vec!["/routingQueue".to_owned()]));
}

#[test]
fn what_is_locked_says_why() {
    let gateway = empty();
    make_litware(&gateway);
    let stream = format!("/work-streams/{STREAM}");
    let entity = format!("{stream}/entity-configurations/{ENTITY}");
    for (path, body, field) in [
        (&stream, json!({ "streamSource": "live-chat" }), "streamSource"),
        (&stream, json!({ "distributionMode": "pick" }), "distributionMode"),
        (&stream, json!({ "id": LITWARE }), "id"),
        (&entity, json!({ "id": LITWARE }), "id"),
        (&format!("/organizations/{LITWARE}"), json!({ "id": STREAM }), "id"),
        (&format!("/organizations/{LITWARE}/queues/Default%20queue"), json!({ "name": "Other" }), "name"),
    ] {
        let answer = refused(&gateway, "PATCH", path, &body);
        let told = (answer.status, answer.text("code"), answer.text("field"));
        assert_eq!(told, (409, "field-locked".to_owned(), field.to_owned()), "{path} {body}");
    }
}

#[test]
fn there_is_always_exactly_one_default_queue() {
    let gateway = empty();
    make_litware(&gateway);
    let queues = format!("/organizations/{LITWARE}/queues");
    let refusal = refused(&gateway, "DELETE", &format!("{queues}/Default%20queue"), &Value::Null);
    assert_eq!((refusal.status, refusal.text("code")), (409, "default-queue".to_owned()));
    gateway.change("POST", &queues, &json!({ "name": "A/B & Ü", "priority": 1 }), 201);
    let path = format!("{queues}/A%2FB%20%26%20%C3%9C");
    assert_eq!(gateway.change("PATCH", &path, &json!({ "default": true }), 200)["default"], true);
    gateway.change("DELETE", &format!("{queues}/Default%20queue"), &Value::Null, 200);
    let no_default = refused(&gateway, "PATCH", &path, &json!({ "default": false }));
    assert_eq!(no_default.status, 422);
    assert_eq!(gateway.change("GET", &queues, &Value::Null, 200)["value"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_exists_is_not_made_again() {
    let gateway = empty();
    make_litware(&gateway);
    let entities = format!("/work-streams/{STREAM}/entity-configurations");
    let same_entity = json!({ "entityLogicalName": "Incident", "entitySetName": "incidents" });
    for (path, body) in [
        ("/organizations", json!({ "id": LITWARE, "uniqueName": "other" })),
        ("/work-streams", json!({ "organizationId": LITWARE, "id": STREAM, "name": "x" })),
        (entities.as_str(), incidents()),
        (entities.as_str(), same_entity),
    ] {
        let answer = refused(&gateway, "POST", path, &body);
        assert_eq!((answer.status, answer.text("code")), (409, "resource-exists".to_owned()), "{path}");
    }
}

#[test]
fn names_in_snake_case_are_no_names_here() {
    let gateway = empty();
    make_litware(&gateway);
    let answer =
        refused(&gateway, "PATCH", &format!("/organizations/{LITWARE}"), &json!({ "requests_per_minute": 500 }));
    assert_eq!((answer.status, pointers(&answer)), (422, vec!["/requests_per_minute".to_owned()]));
    assert!(answer.text("detail").contains("unknown key `\"requests_per_minute\"`"), "{}", answer.text("detail"));
    let path = format!("/organizations/{LITWARE}/document");
    let mut document = gateway.change("GET", &path, &Value::Null, 200);
    let streams = document.as_object_mut().expect("a document").remove("workStreams").expect("streams");
    document["work_streams"] = streams;
    assert_eq!(refused(&gateway, "PUT", &path, &document).status, 422);
}

#[test]
fn nothing_is_rounded() {
    let gateway = empty();
    make_litware(&gateway);
    for number in ["18446744073709551616", "922337203685477.5807", "1e-400"] {
        let body = format!(
            "{{\"name\":\"r\",\"queue\":\"Default queue\",\"when\":{{\"column\":\"x\",\"operator\":\"equals\",\"value\":{number}}}}}"
        );
        let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
        let path = format!("/admin/v1/work-streams/{STREAM}/rules");
        let bytes = crate::support::raw::request("POST", &path, &headers, body.as_bytes());
        let answer = crate::support::raw::exchange(gateway.admin, &bytes);
        assert_eq!(answer.status, 400, "{number}");
        assert!(answer.text("detail").contains(number), "{}", answer.text("detail"));
    }
}

#[test]
fn a_flood_of_faults_is_told_in_a_short_answer() {
    let gateway = empty();
    make_litware(&gateway);
    let members: String = (0..200_000).map(|n| format!("\"m{n}\":1,")).collect();
    let long = "x".repeat(1_000_000);
    for body in [format!("{{{members}\"last\":1}}"), format!("{{\"{long}\":1}}"), format!("{{\"name\":\"{long}\"}}")] {
        let headers = [("X-Api-Key", KEY), ("Content-Type", "application/merge-patch+json")];
        let bytes = crate::support::raw::request(
            "PATCH",
            &format!("/admin/v1/work-streams/{STREAM}"),
            &headers,
            body.as_bytes(),
        );
        let answer = crate::support::raw::exchange(gateway.admin, &bytes);
        assert_eq!(answer.status, 422);
        assert!(answer.body.len() < 100_000, "{} bytes", answer.body.len());
    }
}

#[test]
fn parameters_that_are_spelt_wrongly_do_nothing() {
    let gateway = empty();
    make_litware(&gateway);
    let document = json!({ "organization": { "id": LITWARE, "uniqueName": "litware" } });
    for (method, path, body) in [
        ("PUT", format!("/organizations/{LITWARE}/document?dryrun=true"), document),
        ("DELETE", format!("/organizations/{LITWARE}?dryRun=true"), Value::Null),
        ("DELETE", format!("/work-streams/{STREAM}?dryRun=true"), Value::Null),
        ("GET", format!("/work-streams/{STREAM}/rules?stat=active"), Value::Null),
        ("GET", format!("/work-streams/{STREAM}/entity-configurations?state=bogus"), Value::Null),
    ] {
        assert_eq!(refused(&gateway, method, &path, &body).status, 400, "{method} {path}");
    }
    let live = refused(&gateway, "DELETE", &format!("/organizations/{LITWARE}?storedCopy=true"), &Value::Null);
    assert_eq!((live.status, live.text("code")), (409, "in-use".to_owned()), "there is no file, so it is no copy");
    let odd = gateway.admin_call(
        ("PATCH", &format!("/work-streams/{STREAM}")),
        KEY,
        &[("If-Match", "\u{e9}")],
        &json!({ "capacity": 3 }),
    );
    assert_eq!(odd.status, 412);
    let moved = refused(
        &gateway,
        "PATCH",
        &format!("/work-streams/{STREAM}"),
        &json!({ "organizationId": STREAM, "capacity": 3 }),
    );
    assert_eq!((moved.status, moved.text("field")), (409, "organizationId".to_owned()));
}

#[test]
fn bodies_of_no_use_are_refused_and_never_guessed_about() {
    let gateway = empty();
    make_litware(&gateway);
    let path = format!("/admin/v1/work-streams/{STREAM}");
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    for body in ["", "[]", "5", "{", "{\"capacity\":1,\"capacity\":2}", "{\"capacity\":1} x", "\u{feff}{}"] {
        let bytes = crate::support::raw::request("PATCH", &path, &headers, body.as_bytes());
        let answer = crate::support::raw::exchange(gateway.admin, &bytes);
        assert_eq!((answer.status, answer.text("code")), (400, "malformed".to_owned()), "{body:?}");
    }
    let plain = [("X-Api-Key", KEY), ("Content-Type", "text/plain")];
    let bytes = crate::support::raw::request("PATCH", &path, &plain, b"{}");
    assert_eq!(crate::support::raw::exchange(gateway.admin, &bytes).status, 415);
    let deep = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    let bytes = crate::support::raw::request("PATCH", &path, &headers, deep.as_bytes());
    assert_eq!(crate::support::raw::exchange(gateway.admin, &bytes).status, 400);
}
