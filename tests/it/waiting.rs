//! Work items that are set aside: `wait`, `revive`, and what closes by itself.

use crate::catalogue::check_invariants;
use crate::support::gateway::{FABRIKAM_KEY, KEY, ORGANIZATION, Setup, TestGateway};
use crate::support::raw::Answer;
use crate::support::records::{ORGANIZATION_ID, nth_incident};
use crate::support::store;

/// A gateway whose work items close after so many minutes.
fn closing_after(minutes: u32) -> TestGateway {
    let mut setup = Setup::default();
    let stream = "name = \"Cases and leads\"\n";
    setup.organizations[0].1 =
        ORGANIZATION.replacen(stream, &format!("{stream}auto_close_after_inactivity_minutes = {minutes}\n"), 1);
    assert_ne!(setup.organizations[0].1, ORGANIZATION);
    TestGateway::start_with(&setup)
}

fn lease(gateway: &TestGateway) -> serde_json::Value {
    let body = format!(r#"{{"organizationId":"{ORGANIZATION_ID}","leaseSeconds":600}}"#);
    gateway.call("POST", "/api/v1/work-items/lease", KEY, body.as_bytes()).json()["value"].clone()
}

fn call(gateway: &TestGateway, receipt: &str, how: &str, token: &serde_json::Value) -> Answer {
    let body = format!(r#"{{"leaseToken":{token}}}"#);
    let answer = gateway.call("POST", &format!("/api/v1/work-items/{receipt}/{how}"), KEY, body.as_bytes());
    check_invariants(how, &answer);
    answer
}

fn revive(gateway: &TestGateway, receipt: &str, key: &str) -> Answer {
    let answer = gateway.call("POST", &format!("/api/v1/work-items/{receipt}/revive"), key, b"");
    check_invariants("revive", &answer);
    answer
}

fn receipt_of(gateway: &TestGateway, receipt: &str) -> serde_json::Value {
    gateway.call("GET", &format!("/api/v1/receipts/{receipt}"), KEY, b"").json()
}

fn seconds(moment: &serde_json::Value) -> i64 {
    let text = moment.as_str().unwrap_or_else(|| panic!("no moment: {moment}"));
    text.parse::<jiff::Timestamp>().expect("RFC 3339").as_second()
}

#[test]
fn a_work_item_waits_and_is_revived_over_a_restart() {
    let gateway = closing_after(90);
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let item = lease(&gateway)[0].clone();
    assert_eq!(revive(&gateway, &receipt, KEY).text("code"), "not-waiting", "it is on lease");

    let waits = call(&gateway, &receipt, "wait", &item["leaseToken"]);
    assert_eq!((waits.status, waits.text("state").as_str()), (200, "delivering"), "{waits:?}");
    assert_eq!(waits.text("id"), receipt);
    assert!(waits.json()["catalogGeneration"].is_u64());
    let gateway = gateway.restart();
    let shown = receipt_of(&gateway, &receipt);
    assert_eq!((&shown["state"], &shown["attempts"]), (&"delivering".into(), &1.into()));
    assert_eq!(shown["waiting"]["closesAt"], waits.json()["closesAt"]);
    assert_eq!(seconds(&shown["waiting"]["closesAt"]) - seconds(&shown["waiting"]["since"]), 90 * 60);
    assert!(shown.get("nextAttemptAt").is_none() && shown.get("settledAt").is_none(), "{shown}");
    assert_eq!(lease(&gateway), serde_json::json!([]), "it is not offered");
    for how in ["complete", "release", "wait"] {
        assert_eq!(call(&gateway, &receipt, how, &item["leaseToken"]).text("code"), "lease-lost", "{how}");
    }

    let revived = revive(&gateway, &receipt, KEY);
    assert_eq!((revived.status, revived.text("state").as_str()), (200, "delivering"), "{revived:?}");
    assert!(revived.json().get("closesAt").is_none());
    let again = revive(&gateway, &receipt, KEY);
    assert_eq!((again.status, again.text("code").as_str()), (409, "not-waiting"));
    let item = lease(&gateway)[0].clone();
    assert_eq!((&item["id"], &item["attempt"]), (&receipt.as_str().into(), &2.into()));
    assert_eq!(call(&gateway, &receipt, "complete", &item["leaseToken"]).status, 200);
    assert_eq!(revive(&gateway, &receipt, KEY).status, 409, "done is done");
    assert!(receipt_of(&gateway, &receipt).get("waiting").is_none());
}

/// Makes the waiting items' time be over, behind the gateway's back.
fn let_time_pass(gateway: &TestGateway) {
    const PASSED: &str = "update waiting set since = since - 86400000, closes_at = closes_at - 86400000";
    if let Some((server, database)) = store::of(gateway.folder()) {
        server.psql(&database, PASSED);
        return;
    }
    let records = rusqlite::Connection::open(gateway.folder().join("data/records.db")).expect("open");
    records.busy_timeout(std::time::Duration::from_secs(30)).expect("patient");
    let moved = records.execute(PASSED, []);
    assert_eq!(moved.expect("written"), 1);
}

#[test]
fn a_work_item_closes_by_itself_while_running_and_after_a_restart() {
    let mut gateway = closing_after(60);
    for n in [1, 2] {
        let receipt = gateway.post(nth_incident(n)).text("receiptId");
        let item = lease(&gateway)[0].clone();
        assert_eq!(call(&gateway, &receipt, "wait", &item["leaseToken"]).status, 200);
        let_time_pass(&gateway);
        if n == 2 {
            gateway = gateway.restart();
        }
        let closed = gateway.wait_for_state(&receipt, "delivered").json();
        assert_eq!(closed["remark"], "closed after 60 minutes of inactivity");
        assert!(closed.get("waiting").is_none() && closed["settledAt"].is_string(), "{closed}");
        assert_eq!(revive(&gateway, &receipt, KEY).status, 409, "closed is final");
        assert_eq!(lease(&gateway), serde_json::json!([]));
    }
}

#[test]
fn others_can_neither_let_it_wait_nor_revive_it() {
    let gateway = TestGateway::start();
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let item = lease(&gateway)[0].clone();
    let path = format!("/api/v1/work-items/{receipt}/wait");
    let body = format!(r#"{{"leaseToken":{}}}"#, item["leaseToken"]);
    let foreign = gateway.call("POST", &path, FABRIKAM_KEY, body.as_bytes());
    assert_eq!((foreign.status, foreign.text("code").as_str()), (404, "work-item-unknown"));
    assert_eq!(gateway.call("POST", &path, "sg_wrong", body.as_bytes()).status, 401);
    assert_eq!(gateway.call("GET", &path, KEY, b"").status, 405);
    assert_eq!(gateway.call("POST", &path, KEY, b"{}").text("code"), "malformed");

    assert_eq!(call(&gateway, &receipt, "wait", &item["leaseToken"]).status, 200);
    assert_eq!(revive(&gateway, &receipt, FABRIKAM_KEY).text("code"), "work-item-unknown");
    assert_eq!(revive(&gateway, &receipt, "sg_wrong").status, 401);
    for nobody in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "1"] {
        assert_eq!(revive(&gateway, nobody, KEY).text("code"), "work-item-unknown");
    }
    assert_eq!(gateway.call("GET", &format!("/api/v1/work-items/{receipt}/revive"), KEY, b"").status, 405);
    // A body is not looked at.
    let with_body = gateway.call("POST", &format!("/api/v1/work-items/{receipt}/revive"), KEY, b"{}");
    assert_eq!(with_body.status, 200, "{with_body:?}");
}
