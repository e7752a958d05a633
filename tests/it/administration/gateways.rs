//! Who is there, and changes that wait for all of them: on a store of its own a gateway is alone, so nothing waits.

use serde_json::{Value, json};

use crate::support::gateway::TestGateway;

#[test]
fn a_gateway_alone_is_listed_and_serves_every_change_at_once() {
    let gateway = TestGateway::start();
    let made = gateway.change("POST", "/organizations?wait=all", &json!({ "uniqueName": "litware" }), 201);
    let listed = gateway.change("GET", "/gateways", &Value::Null, 200);
    let all = listed["value"].as_array().expect("a list");
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["answers"], &all[0]["version"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(all[0]["catalogGeneration"], made["catalogGeneration"]);
    assert_eq!((&listed["filesDiffer"], &listed["catalogGeneration"]), (&json!(false), &made["catalogGeneration"]));
    let stream = json!({ "organizationId": made["id"], "name": "Tickets" });
    let stream = gateway.change("POST", "/work-streams?wait=all", &stream, 201);
    let path = format!("/work-streams/{}", stream["id"].as_str().expect("an ID"));
    gateway.change("PATCH", &format!("{path}?wait=all"), &json!({ "capacity": 20 }), 200);
    gateway.change("POST", &format!("{path}/deactivate?wait=all"), &json!({}), 200);
    gateway.change("POST", "/reload?wait=all", &json!({}), 200);
    gateway.change("DELETE", &format!("{path}?wait=all"), &Value::Null, 200);
}

#[test]
fn what_cannot_wait_is_refused_before_anything_is_done() {
    let gateway = TestGateway::start();
    let organization = json!({ "uniqueName": "litware" });
    for path in ["/organizations?wait=some", "/organizations?wait", "/organizations?wait=all&wait=all"] {
        let refused = gateway.change("POST", path, &organization, 400);
        assert_eq!((&refused["code"], &refused["field"]), (&json!("malformed"), &json!("wait")), "{path}");
    }
    gateway.change("GET", "/gateways?wait=all", &Value::Null, 400);
    gateway.change("GET", "/gateways?x=1", &Value::Null, 400);
    gateway.change("POST", "/dead-letters/requeue?wait=all", &json!({}), 400);
    let organizations = gateway.change("GET", "/organizations?name=litware", &Value::Null, 200);
    assert_eq!(organizations["value"], json!([]), "nothing was made");
}
