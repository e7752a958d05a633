//! Rules made live: from an empty store to three records in three queues, each with the trace that says why; a preview
//! that tells the truth; and back to where it was from a document.

use serde_json::{Value, json};

use super::empty;
use crate::support::gateway::{KEY, TestGateway};

const CONTOSO: &str = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10";
const STREAM: &str = "7c2e9d54-41a8-ea11-a812-000d3a579c31";

const SAMPLES: [&str; 3] = [
    include_str!("../../fixtures/records/incident.json"),
    include_str!("../../fixtures/records/lead.json"),
    include_str!("../../fixtures/records/inspection.json"),
];

/// The whole of it, one resource after the other.
fn configure(gateway: &TestGateway) {
    gateway.change("POST", "/organizations", &json!({ "id": CONTOSO, "uniqueName": "contoso" }), 201);
    for queue in ["Escalations", "Sales"] {
        gateway.change(
            "POST",
            &format!("/organizations/{CONTOSO}/queues"),
            &json!({ "name": queue, "priority": 2 }),
            201,
        );
    }
    let chat =
        json!({ "organizationId": CONTOSO, "name": "Website chat", "streamSource": "live-chat", "capacity": 50 });
    gateway.change("POST", "/work-streams", &chat, 201);
    let records = json!({ "organizationId": CONTOSO, "id": STREAM, "name": "Records", "state": "inactive" });
    gateway.change("POST", "/work-streams", &records, 201);
    for (logical, set) in [("incident", "incidents"), ("lead", "leads"), ("new_inspection", "new_inspections")] {
        let entity = json!({ "entityLogicalName": logical, "entitySetName": set, "state": "inactive" });
        let base = format!("/work-streams/{STREAM}/entity-configurations");
        let made = gateway.change("POST", &base, &entity, 201);
        let id = made["id"].as_str().expect("an ID was made");
        assert_eq!(gateway.change("POST", &format!("{base}/{id}/activate"), &Value::Null, 200)["state"], "active");
    }
    gateway.change("POST", &format!("/work-streams/{STREAM}/activate"), &Value::Null, 200);
    let reading = json!({ "displayName": "Reading", "kind": "number", "column": "new_reading" });
    gateway.change("POST", &format!("/work-streams/{STREAM}/context-variables"), &reading, 201);
    for rule in [
        json!({ "name": "Leads", "queue": "Sales", "when": { "record": "entityLogicalName", "operator": "equals", "value": "lead" } }),
        json!({ "name": "Hot reading", "queue": "Escalations", "when": { "variable": "reading", "operator": "greater-than", "value": 98.6 } }),
        json!({ "name": "High priority", "queue": "Escalations", "position": 1,
                "when": { "all": [{ "label": "prioritycode", "operator": "equals", "value": "high" },
                                  { "column": "isescalated", "operator": "equals", "value": true }] } }),
    ] {
        gateway.change("POST", &format!("/work-streams/{STREAM}/rules"), &rule, 201);
    }
}

/// Posts the samples; each with its queue and its rule.
fn routes(gateway: &TestGateway) -> Vec<(String, Value)> {
    let posted = SAMPLES.iter().map(|sample| {
        let accepted = gateway.post(sample);
        assert_eq!(accepted.status, 202, "{:?}", String::from_utf8_lossy(&accepted.body));
        let receipt = gateway.administer("GET", &format!("/admin/v1/records/{}", accepted.text("receiptId")));
        (receipt.text("queue"), receipt.json()["trace"]["rule"].clone())
    });
    posted.collect()
}

#[test]
fn from_an_empty_store_to_records_in_the_queues_that_were_meant() {
    let gateway = empty();
    configure(&gateway);
    let names = |gateway: &TestGateway| -> Vec<Value> {
        let rules = gateway.change("GET", &format!("/work-streams/{STREAM}/rules"), &Value::Null, 200);
        rules["value"].as_array().expect("rules").iter().map(|rule| rule["name"].clone()).collect()
    };
    assert_eq!(names(&gateway), ["High priority", "Leads", "Hot reading"]);
    assert_eq!(
        routes(&gateway),
        [
            ("Default queue".to_owned(), Value::Null),
            ("Sales".to_owned(), json!("Leads")),
            ("Escalations".to_owned(), json!("Hot reading")),
        ]
    );

    // The first rule asked for too much; a preview says what half of it would do, and does nothing.
    let when = json!({ "label": "prioritycode", "operator": "equals", "value": "High" });
    let rule = format!("/work-streams/{STREAM}/rules/High%20priority");
    let mut draft = gateway.change("GET", &format!("/work-streams/{STREAM}/rules"), &Value::Null, 200)["value"].clone();
    draft[0]["when"] = when.clone();
    let generation = gateway.change("GET", &rule, &Value::Null, 200)["catalogGeneration"].clone();
    let told =
        gateway.change("POST", &format!("/work-streams/{STREAM}/rules/preview"), &json!({ "rules": draft }), 200);
    assert_eq!((&told["examined"], &told["changed"]), (&json!(3), &json!(1)), "{told}");
    assert_eq!(told["changes"][0]["from"], json!({ "queue": "Default queue", "rule": null }));
    assert_eq!(told["changes"][0]["to"], json!({ "queue": "Escalations", "rule": "High priority" }));
    let counts = json!([
        { "queue": "Default queue", "before": 1, "after": 0 },
        { "queue": "Escalations", "before": 1, "after": 2 },
        { "queue": "Sales", "before": 1, "after": 1 },
    ]);
    assert_eq!(told["queues"], counts);
    assert_eq!(gateway.change("GET", &rule, &Value::Null, 200)["catalogGeneration"], generation);

    gateway.change("PATCH", &rule, &json!({ "when": when, "name": "High" }), 200);
    gateway.change("POST", &format!("/work-streams/{STREAM}/rules/High/move"), &json!({ "position": 3 }), 200);
    assert_eq!(names(&gateway), ["Leads", "Hot reading", "High"]);
    let explained = gateway.call("POST", "/api/v1/records/explain", KEY, SAMPLES[0].as_bytes()).json();
    assert_eq!(explained["route"]["queue"], "Escalations", "{explained}");
    assert_eq!(explained["route"]["rule"], "High");

    // All of it as one document: gone, and back as it was.
    let path = format!("/organizations/{CONTOSO}/document");
    let document = gateway.change("GET", &path, &Value::Null, 200);
    gateway.change("DELETE", &format!("/organizations/{CONTOSO}"), &Value::Null, 200);
    assert_eq!(
        gateway.call("POST", "/api/v1/records/explain", KEY, SAMPLES[0].as_bytes()).json()["outcome"],
        "refused"
    );
    gateway.change("PUT", &path, &document, 201);
    assert_eq!(gateway.change("GET", &path, &Value::Null, 200), document);
    assert_eq!(
        gateway.call("POST", "/api/v1/records/explain", KEY, SAMPLES[0].as_bytes()).json()["route"],
        explained["route"]
    );
}

#[test]
fn drafts_and_rules_with_faults_are_told_alike() {
    let gateway = empty();
    configure(&gateway);
    let faulty = json!([
        { "name": "a", "queue": "Nowhere" },
        { "name": "b", "queue": "Sales", "when": { "column": "x", "operator": "equal", "value": 1 } },
        { "name": "c", "queue": "Sales", "when": { "variable": "reading", "operator": "contains", "value": 5 } },
        { "name": "c", "queue": "Sales", "when": { "all": [] } },
    ]);
    let pointers = |method: &str, path: &str, body: Value| {
        let answer = gateway.admin_call((method, &format!("/work-streams/{STREAM}/{path}")), KEY, &[], &body);
        assert_eq!((answer.status, answer.text("code")), (422, "resource-invalid".to_owned()));
        let faults = answer.json()["faults"].as_array().expect("faults").clone();
        faults.into_iter().map(|fault| fault["pointer"].as_str().expect("a pointer").to_owned()).collect::<Vec<_>>()
    };
    let saved = pointers("PUT", "rules", json!({ "value": faulty }));
    let tried = pointers("POST", "rules/preview", json!({ "rules": faulty }));
    assert_eq!(saved, tried.iter().map(|pointer| pointer.replacen("/rules/", "/value/", 1)).collect::<Vec<_>>());
    for pointer in ["/value/0/queue", "/value/1/when/operator", "/value/3/name", "/value/3/when/all"] {
        assert!(saved.iter().any(|found| found == pointer), "{pointer} in {saved:?}");
    }
    // A queue that a rule needs does not go, and what is never reached is told.
    let path = format!("/organizations/{CONTOSO}/queues/Sales");
    let answer = gateway.admin_call(("DELETE", &path), KEY, &[], &Value::Null);
    assert_eq!((answer.status, answer.text("code")), (422, "resource-invalid".to_owned()));
    assert!(answer.text("detail").contains("workStreams"), "{}", answer.text("detail"));
    let all = json!({ "name": "All", "queue": "Sales", "position": 1 });
    let made = gateway.change("POST", &format!("/work-streams/{STREAM}/rules"), &all, 201);
    assert_eq!(made["warnings"].as_array().map(Vec::len), Some(3), "{made}");
}

#[test]
fn rules_of_an_entity_configuration_come_first() {
    let gateway = empty();
    configure(&gateway);
    let entities =
        gateway.change("GET", &format!("/work-streams/{STREAM}/entity-configurations?name=lead"), &Value::Null, 200);
    let id = entities["value"][0]["id"].as_str().expect("an ID").to_owned();
    let base = format!("/work-streams/{STREAM}/entity-configurations/{id}/rules");
    let rule = json!({ "name": "preview", "queue": "Escalations" });
    let told = gateway.change("POST", &format!("{base}/preview"), &json!({ "rules": [rule], "last": 5 }), 200);
    assert_eq!(told["examined"], 0, "nothing was posted yet");
    gateway.change("POST", &base, &rule, 201);
    // A rule may be called like an operation.
    assert_eq!(
        gateway.change("GET", &format!("{base}/preview"), &Value::Null, 200)["entityConfigurationId"],
        id.as_str()
    );
    assert_eq!(routes(&gateway)[1], ("Escalations".to_owned(), json!("preview")));
    gateway.change("DELETE", &format!("{base}/preview"), &Value::Null, 200);
}
