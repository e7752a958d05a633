//! Routing rules over a running gateway: the sample records go where they are meant to go, and the receipt, the lease,
//! the explanation and the command line agree on why.

use serde_json::{Value, json};

use crate::catalogue::check_invariants;
use crate::command_line::{against, text};
use crate::support::eventually;
use crate::support::gateway::{KEY, ORGANIZATION, Setup, TestGateway};
use crate::support::records::{INCIDENT, INSPECTION, LEAD, ORGANIZATION_ID, incident, nth_incident, record_id};

const RULES: &str = r#"
[[work_streams.context_variables]]
display_name = "Risk"
kind = "number"
column = "new_risk"

[[work_streams.context_variables]]
display_name = "Visits"
kind = "number"
column = "ticketnumber"

[[work_streams.rules]]
name = "High or urgent"
queue = "Urgent"
when = { any = [
    { label = "prioritycode", operator = "is-one-of", value = ["high", "urgent"] },
    { all = [
        { variable = "visits", operator = "greater-than", value = 3 },
        { column = "title", operator = "contains", value = "again" },
    ] },
] }

[[work_streams.rules]]
name = "Large leads"
queue = "Sales"
when = { all = [
    { record = "entityLogicalName", operator = "equals", value = "lead" },
    { column = "budgetamount", operator = "greater-than", value = 12_500.4 },
    { column = "createdon", operator = "greater-or-equal", value = 2024-05-06T09:08:09+02:00 },
] }

[[work_streams.rules]]
name = "Risky sites"
queue = "Field"
when = { all = [
    { variable = "risk", operator = "greater-or-equal", value = 100_000_002 },
    { column = "new_big", operator = "greater-than", value = 18_446_744_073_709_551_614 },
] }
"#;

const ENTITY_RULES: &str = r#"
[[work_streams.entities.rules]]
name = "Switched off"
queue = "Field"
state = "inactive"

[[work_streams.entities.rules]]
name = "Escalated"
queue = "Escalated"
when = { column = "isescalated", operator = "equals", value = true }
"#;

/// The usual organization with four more queues and these rules.
fn organization() -> String {
    let queues: String =
        ["Escalated", "Sales", "Field"].map(|name| format!("\n[[queues]]\nname = \"{name}\"\n")).concat();
    let stream = "stream_source = \"entity-records\"\n";
    let entity = "entity_set_name = \"incidents\"\n";
    let text = ORGANIZATION.replacen("\n[[work_streams]]", &format!("{queues}\n[[work_streams]]"), 1);
    let text = text.replacen(entity, &format!("{entity}{ENTITY_RULES}"), 1);
    text.replacen(stream, &format!("{stream}{RULES}"), 1)
}

fn gateway() -> TestGateway {
    gateway_with(Setup::default())
}

fn gateway_with(usual: Setup) -> TestGateway {
    let organizations = usual.organizations.into_iter().map(|(name, text)| {
        let text = if name == "contoso.toml" { organization() } else { text };
        (name, text)
    });
    TestGateway::start_with(&Setup { organizations: organizations.collect(), ..usual })
}

fn receipt(gateway: &TestGateway, id: &str) -> Value {
    let answer = gateway.call("GET", &format!("/api/v1/receipts/{id}"), KEY, b"");
    check_invariants("receipt", &answer);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn explain(gateway: &TestGateway, body: &str) -> Value {
    gateway.call("POST", "/api/v1/records/explain", KEY, body.as_bytes()).json()
}

fn tried(name: &str, on: &str, matched: bool) -> Value {
    json!({ "rule": name, "on": on, "matched": matched })
}

#[test]
fn the_sample_records_go_to_the_queues_that_are_meant_for_them() {
    let gateway = gateway();
    let (entity, stream) = ("entity-configuration", "work-stream");
    let high = json!({ "label prioritycode": "\"High\"", "column isescalated": "false" });
    let lead = json!({
        "label prioritycode": "missing",
        "variable visits": "missing",
        "record entityLogicalName": "\"lead\"",
        "column budgetamount": "12500.5",
        "column createdon": "\"2024-05-06T07:08:09Z\"",
    });
    let inspection = json!({
        "label prioritycode": "missing",
        "variable visits": "missing",
        "record entityLogicalName": "\"new_inspection\"",
        "variable risk": "100000002",
        "column new_big": "18446744073709551615",
    });
    let other = json!({
        "column isescalated": "missing",
        "label prioritycode": "missing",
        "variable visits": "wrong type: \"often\"",
        "record entityLogicalName": "\"incident\"",
        "variable risk": "missing",
    });
    let off = [tried("Escalated", entity, false), tried("High or urgent", stream, false)];
    let no = [tried("High or urgent", stream, false), tried("Large leads", stream, false)];
    let odd = incident(&record_id(1), r#"{"title":"Again","ticketnumber":"often","isescalated":null}"#);
    for (body, queue, rule, rules_tried, values) in [
        (INCIDENT, "Urgent", Some("High or urgent"), vec![off[0].clone(), tried("High or urgent", stream, true)], high),
        (LEAD, "Sales", Some("Large leads"), vec![no[0].clone(), tried("Large leads", stream, true)], lead),
        (
            INSPECTION,
            "Field",
            Some("Risky sites"),
            vec![no[0].clone(), no[1].clone(), tried("Risky sites", stream, true)],
            inspection,
        ),
        (
            &odd,
            "Default queue",
            None,
            vec![off[0].clone(), off[1].clone(), no[1].clone(), tried("Risky sites", stream, false)],
            other,
        ),
    ] {
        let explained = explain(&gateway, body);
        let route = &explained["route"];
        assert_eq!((&route["queue"], &route["rule"]), (&json!(queue), &json!(rule)), "{explained}");
        assert_eq!((&route["rulesTried"], &route["values"]), (&json!(rules_tried), &values), "{explained}");
        let reason = route["reason"].as_str().expect("a reason");
        match rule {
            Some(rule) => assert_eq!(reason, format!("Routing rule `{rule}` of the work stream matched.")),
            None => assert_eq!(reason, "No routing rule matched, so the default queue takes it."),
        }

        let answer = gateway.post(body);
        assert_eq!(answer.status, 202, "{answer:?}");
        let receipt = receipt(&gateway, &answer.text("receiptId"));
        let trace = &receipt["trace"];
        assert_eq!((&receipt["queue"], &trace["queue"], &trace["rule"]), (&json!(queue), &json!(queue), &json!(rule)));
        assert_eq!((&trace["rulesTried"], &trace["values"]), (&json!(rules_tried), &values), "{receipt}");
        assert_eq!(trace.get("shortened"), None);

        let lease = format!(r#"{{"organizationId":"{ORGANIZATION_ID}","queue":"{queue}"}}"#);
        let leased = gateway.call("POST", "/api/v1/work-items/lease", KEY, lease.as_bytes()).json();
        let item = &leased["value"][0];
        assert_eq!(item["id"], answer.text("receiptId"), "{leased}");
        let priority = if queue == "Default queue" { 2 } else { 1 };
        // The whole of it: the trace is not for consumers.
        assert_eq!(item["event"]["data"]["route"], json!({ "queue": queue, "priority": priority, "rule": rule }));
    }
}

#[test]
fn rules_of_the_entity_configuration_come_first() {
    let gateway = gateway();
    let escalated = INCIDENT.replace("\"isescalated\": false", "\"isescalated\": true");
    let trace = receipt(&gateway, &gateway.post(escalated).text("receiptId"))["trace"].clone();
    assert_eq!(trace["rulesTried"], json!([tried("Escalated", "entity-configuration", true)]));
    assert_eq!(trace["values"], json!({ "column isescalated": "true" }), "nothing else was looked at");
}

#[test]
fn a_route_stays_what_it_was_over_a_change_and_a_restart() {
    let gateway = gateway();
    let id = gateway.post(INCIDENT).text("receiptId");
    let before = receipt(&gateway, &id);
    let other = organization().replace("queue = \"Urgent\"", "queue = \"Field\"").replace("High or urgent", "All high");
    std::fs::write(gateway.organization_file("contoso.toml"), other).expect("written");
    let changed = INCIDENT.replace("6a2d1b8c", "6a2d1b8d");
    eventually("the change to count", || (explain(&gateway, &changed)["route"]["rule"] == "All high").then_some(()));
    assert_eq!(receipt(&gateway, &gateway.post(changed).text("receiptId"))["queue"], "Field");
    assert_eq!(receipt(&gateway, &id), before);
    let gateway = gateway.restart();
    assert_eq!(receipt(&gateway, &id)["trace"], before["trace"]);
}

#[test]
fn without_rules_a_trace_is_what_it_always_was() {
    let gateway = TestGateway::start();
    let body = nth_incident(1);
    let route = explain(&gateway, &body)["route"].clone();
    assert_eq!(route["reason"], "There is no active routing rule, so the default queue takes it.");
    let trace = receipt(&gateway, &gateway.post(body).text("receiptId"))["trace"].clone();
    for name in ["rulesTried", "values", "shortened"] {
        assert!(trace.get(name).is_none() && route.get(name).is_none(), "{trace} {route}");
    }
}

#[test]
fn the_command_line_shows_why() {
    let gateway = gateway();
    let id = gateway.post(INCIDENT).text("receiptId");
    let file = gateway.folder().join("record.json");
    std::fs::write(&file, INCIDENT).expect("written");
    let decision = "Rules tried:\n  no     Escalated       (entity-configuration)\n  match  High or urgent  (work-stream)\n\
                    Values seen:\n  column isescalated  false\n  label prioritycode  \"High\"\n";
    let show = against(&gateway, &["records", "show", &id]);
    assert!(text(&show.stdout).ends_with(decision), "{}", text(&show.stdout));
    assert!(text(&show.stdout).contains("trace.rule"), "{}", text(&show.stdout));
    let details = against(&gateway, &["records", "show", &id, "--details"]);
    assert!(text(&details.stdout).ends_with(decision), "{}", text(&details.stdout));
    let explained = text(&against(&gateway, &["records", "explain", &file.to_string_lossy()]).stdout);
    assert!(explained.ends_with(decision), "{explained}");
    assert!(explained.contains("Routing rule `High or urgent` of the work stream matched."), "{explained}");
}

#[test]
fn what_rules_saw_goes_with_the_details() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[retention]\ndelivered_details_days = 0\n");
    let gateway = gateway_with(setup);
    let id = gateway.post(INCIDENT).text("receiptId");
    assert_eq!(receipt(&gateway, &id)["trace"]["values"]["label prioritycode"], "\"High\"");
    let body = format!(r#"{{"organizationId":"{ORGANIZATION_ID}"}}"#);
    let item = gateway.call("POST", "/api/v1/work-items/lease", KEY, body.as_bytes()).json()["value"][0].clone();
    let token = format!(r#"{{"leaseToken":{}}}"#, item["leaseToken"]);
    let completed = gateway.call("POST", &format!("/api/v1/work-items/{id}/complete"), KEY, token.as_bytes());
    assert!(completed.status < 300, "{completed:?}");
    let trace = eventually("the details to be trimmed", || {
        let shown = gateway.administer("GET", &format!("/admin/v1/records/{id}?details=true")).json();
        shown["recordDetails"].is_null().then(|| shown["receipt"]["trace"].clone())
    });
    assert_eq!(
        (&trace["rule"], &trace["values"], &trace["shortened"]),
        (&json!("High or urgent"), &json!({}), &json!(true))
    );
    assert_eq!(
        trace["rulesTried"].as_array().map(Vec::len),
        Some(2),
        "which rules were tried is no secret of the record"
    );
    // A repeat still finds its first receipt.
    assert_eq!(gateway.post(INCIDENT).text("receiptId"), id);
}
