//! Group X: what belongs to one organization does not exist for another.

use super::check_invariants;
use crate::support::gateway::{FABRIKAM_KEY, KEY, TestGateway};
use crate::support::raw::Answer;
use crate::support::records::{ORGANIZATION_ID, WORK_STREAM_ID, incident, nth_incident, record_id};

const FABRIKAM_ID: &str = "b7a5c9d0-2222-4b6f-8f7a-9c0de1f2a3b4";
const FABRIKAM_STREAM: &str = "8d3fae65-52b9-4b22-b923-111e4b68ad42";
const UNKNOWN_ID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// The body with the IDs and the request's own members blanked, for comparing two refusals.
fn anonymous(answer: &Answer, id: &str) -> String {
    let mut body = answer.json();
    for of_the_request in ["requestId", "instance"] {
        body[of_the_request] = serde_json::Value::Null;
    }
    body.to_string().replace(id, "ID")
}

#[test]
fn x269_x270_a_foreign_organization_looks_exactly_like_an_unknown_one() {
    let gateway = TestGateway::start();
    let foreign = gateway.call("POST", "/api/v1/records", FABRIKAM_KEY, nth_incident(1).as_bytes());
    let unknown_body = nth_incident(1).replace(ORGANIZATION_ID, UNKNOWN_ID);
    let unknown = gateway.call("POST", "/api/v1/records", FABRIKAM_KEY, unknown_body.as_bytes());
    for answer in [&foreign, &unknown] {
        check_invariants("X269", answer);
        assert_eq!((answer.status, answer.text("code").as_str()), (404, "organization-unknown"));
    }
    assert_eq!(anonymous(&foreign, ORGANIZATION_ID), anonymous(&unknown, UNKNOWN_ID));
}

#[test]
fn x271_a_foreign_work_stream_is_unknown() {
    let gateway = TestGateway::start();
    let body = nth_incident(1).replace(WORK_STREAM_ID, FABRIKAM_STREAM);
    let answer = gateway.post(body);
    assert_eq!((answer.status, answer.text("code").as_str()), (404, "work-stream-unknown"));
}

#[test]
fn x272_x273_what_is_switched_off_or_not_for_records_says_so() {
    let gateway = TestGateway::start();
    let other_stream =
        |end: u32| nth_incident(1).replace(WORK_STREAM_ID, &format!("7c2e9d54-41a8-ea11-a812-000d3a579c{end}"));
    let task = nth_incident(1).replace("\"incident\"", "\"task\"").replace("\"incidents\"", "\"tasks\"");
    for (id, body, code) in [
        ("X272 inactive work stream", other_stream(33), "work-stream-inactive"),
        ("X272 inactive entity", task, "entity-configuration-inactive"),
        ("X273 live chat", other_stream(32), "work-stream-not-for-records"),
    ] {
        let answer = gateway.post(body);
        check_invariants(id, &answer);
        assert_eq!((answer.status, answer.text("code").as_str()), (404, code), "{id}");
        assert!(!answer.text("action").is_empty(), "{id}");
    }
    assert_eq!(super::stored(&gateway), 0);
}

#[test]
fn x274_x276_receipts_and_dead_letters_of_others_do_not_exist() {
    let gateway = TestGateway::start();
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let path = format!("/api/v1/receipts/{receipt}");
    assert_eq!(gateway.call("GET", &path, KEY, b"").status, 200);
    let foreign = gateway.call("GET", &path, FABRIKAM_KEY, b"");
    let made_up = gateway.call("GET", "/api/v1/receipts/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", FABRIKAM_KEY, b"");
    let no_id = gateway.call("GET", "/api/v1/receipts/1", FABRIKAM_KEY, b"");
    for answer in [&foreign, &made_up, &no_id] {
        check_invariants("X274", answer);
        assert_eq!((answer.status, answer.text("code").as_str()), (404, "receipt-unknown"));
    }
    for path in [format!("/admin/v1/records/{receipt}"), format!("/admin/v1/records/{receipt}/requeue")] {
        let method = if path.ends_with("requeue") { "POST" } else { "GET" };
        let bytes = crate::support::raw::request(method, &path, &[("X-Api-Key", FABRIKAM_KEY)], b"");
        let answer = crate::support::raw::exchange(gateway.admin, &bytes);
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[test]
fn x275_receipt_ids_do_not_count() {
    let gateway = TestGateway::start();
    let ids: Vec<String> = (0..20).map(|n| gateway.post(nth_incident(n)).text("receiptId")).collect();
    for pair in ids.windows(2) {
        let same = pair[0].bytes().zip(pair[1].bytes()).filter(|(a, b)| a == b).count();
        assert!(same < 16, "two receipts in a row share {same} of 32 characters: {pair:?}");
    }
}

#[test]
fn x277_x278_a_key_opens_only_what_it_is_for() {
    let gateway = TestGateway::start();
    let bytes = crate::support::raw::request("GET", "/admin/v1/records", &[("X-Api-Key", "sg_wrong")], b"");
    assert_eq!(crate::support::raw::exchange(gateway.admin, &bytes).status, 401);
    let bytes = crate::support::raw::request("POST", "/admin/v1/reload", &[], b"");
    assert_eq!(crate::support::raw::exchange(gateway.admin, &bytes).status, 401);
}

#[test]
fn x279_a_body_cannot_set_what_is_not_its_own() {
    let gateway = TestGateway::start();
    let body =
        nth_incident(1).replacen('{', r#"{"receiptId":"mine","status":"delivered","queue":"Urgent","test":true,"#, 1);
    let answer = gateway.post(body);
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["test"], false);
    let receipt = gateway.call("GET", &format!("/api/v1/receipts/{}", answer.text("receiptId")), KEY, b"");
    assert_eq!(receipt.text("queue"), "Default queue");
}

#[test]
fn x280_the_same_record_id_in_two_organizations_is_two_records() {
    let gateway = TestGateway::start();
    let ours = incident(&record_id(1), r#"{"a":1}"#);
    let theirs = ours.replace(ORGANIZATION_ID, FABRIKAM_ID).replace(WORK_STREAM_ID, FABRIKAM_STREAM);
    let (first, second) = (gateway.post(&ours), gateway.post(&theirs));
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(second.json()["duplicate"], false);
    assert_ne!(first.text("receiptId"), second.text("receiptId"));
}

#[test]
fn x281_lists_show_only_what_the_caller_may_see() {
    let gateway = TestGateway::start();
    let names = |key: &str, path: &str| -> Vec<String> {
        let answer = gateway.call("GET", path, key, b"");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let list = answer.json()["value"].as_array().expect("a list").clone();
        list.iter()
            .map(|item| item["uniqueName"].as_str().or_else(|| item["name"].as_str()).unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names(KEY, "/api/v1/organizations"), ["contoso", "fabrikam"]);
    assert_eq!(names(FABRIKAM_KEY, "/api/v1/organizations"), ["fabrikam"]);
    assert_eq!(names(FABRIKAM_KEY, "/api/v1/work-streams"), ["Fabrikam cases"]);
    for path in ["/api/v1/work-streams", "/api/v1/entity-configurations"] {
        let answer = gateway.call("GET", &format!("{path}?organizationId={ORGANIZATION_ID}"), FABRIKAM_KEY, b"");
        check_invariants("X281", &answer);
        assert_eq!(answer.status, 404, "{path}");
    }
    let lease = format!(r#"{{"organizationId":"{ORGANIZATION_ID}"}}"#);
    let answer = gateway.call("POST", "/api/v1/work-items/lease", FABRIKAM_KEY, lease.as_bytes());
    assert_eq!((answer.status, answer.text("code").as_str()), (404, "organization-unknown"));
}

#[test]
fn x282_a_test_on_a_foreign_organization_is_404() {
    let gateway = TestGateway::start();
    let test = incident("11c0ffee-0000-4000-8000-000000000001", "null");
    assert_eq!(gateway.post(&test).json()["test"], true);
    assert_eq!(gateway.call("POST", "/api/v1/records", FABRIKAM_KEY, test.as_bytes()).status, 404);
}

#[test]
fn a_reload_needs_a_credential_for_every_organization() {
    let gateway = TestGateway::start();
    // Faults quote the files they are in, whoever asks.
    let secret = format!("{}\nsecret_project_name = 1\n", crate::support::gateway::ORGANIZATION);
    std::fs::write(gateway.organization_file("contoso.toml"), secret).expect("written");
    let bytes = crate::support::raw::request("POST", "/admin/v1/reload", &[("X-Api-Key", FABRIKAM_KEY)], b"");
    let answer = crate::support::raw::exchange(gateway.admin, &bytes);
    check_invariants("reload", &answer);
    assert_eq!(answer.status, 401);
    assert_eq!(gateway.administer("POST", "/admin/v1/reload").status, 422);
}
