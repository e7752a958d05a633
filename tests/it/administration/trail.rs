//! The audit trail: who changed what, when, from what to what.

use serde_json::{Value, json};

use super::{LITWARE, STREAM, empty, make_litware};
use crate::support::gateway::KEY;

#[test]
fn every_change_is_in_the_trail_with_what_was_before() {
    let gateway = empty();
    make_litware(&gateway);
    let changed = gateway.change("PATCH", &format!("/work-streams/{STREAM}"), &json!({ "capacity": 50 }), 200);
    gateway.change("POST", &format!("/work-streams/{STREAM}/deactivate"), &Value::Null, 200);
    let key = json!({ "name": "flow", "permissions": ["records.write"], "organizations": ["litware"] });
    let made = gateway.change("POST", "/api-keys", &key, 201);
    let refused =
        gateway.admin_call(("PATCH", &format!("/work-streams/{STREAM}")), KEY, &[], &json!({ "capacity": 0 }));
    assert_eq!(refused.status, 422);

    let trail = gateway.change("GET", "/audit", &Value::Null, 200);
    let entries = trail["value"].as_array().expect("entries");
    let told: Vec<_> = entries.iter().map(|entry| (entry["action"].clone(), entry["resource"].clone())).collect();
    let stream = json!(format!("workStreams/{STREAM}"));
    assert_eq!(told.len(), 6, "a refused change is none: {told:?}");
    assert_eq!(told[0], (json!("create"), json!("api-keys/flow")));
    assert_eq!(told[1], (json!("deactivate"), stream.clone()));
    assert_eq!(told[2], (json!("change"), stream));
    let capacity = &entries[2];
    assert_eq!(capacity["credential"], "everything");
    assert_eq!(capacity["organizationId"], LITWARE);
    assert_eq!(capacity["catalogGeneration"], changed["catalogGeneration"]);
    let path = format!("workStreams/{STREAM}/capacity");
    assert_eq!(capacity["differences"], json!([{ "path": path, "from": 30, "to": 50 }]));
    assert!(!trail.to_string().contains(made["key"].as_str().expect("a key")), "no key is in the trail");

    let page = gateway.change("GET", "/audit?limit=2", &Value::Null, 200);
    let next = page["next"].as_i64().expect("more");
    let rest = gateway.change("GET", &format!("/audit?before={next}"), &Value::Null, 200);
    assert_eq!(rest["value"].as_array().map(Vec::len), Some(4));
    let of_keys = gateway.change("GET", "/audit?resource=api-keys", &Value::Null, 200);
    assert_eq!(of_keys["value"].as_array().map(Vec::len), Some(1));

    let gateway = gateway.restart();
    assert_eq!(gateway.change("GET", "/audit", &Value::Null, 200), trail);
}
