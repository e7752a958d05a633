//! Who may: every operation in the table is tried without a credential, without the permission, and by another
//! organization's administrator. An operation that is added is tried too, or this file does not pass.

use serde_json::{Value, json};
use streamgate::admin::{OPERATIONS, Operation};

use super::{ENTITY, LITWARE, STREAM, make_litware};
use crate::support::gateway::{FABRIKAM_KEY, KEY, Setup, TestGateway, sha256_hex};
use crate::support::raw::Answer;

const READER: &str = "sg_test-key-that-reads-and-writes-records-only-000";

/// Operations that need no credential on loopback.
const OPEN: [&str; 3] = ["/health/live", "/health/ready", "/metrics"];

/// What concerns all organizations: others get 401, as for every permission that a credential lacks.
const FOR_ALL: [(&str, &str); 4] = [
    ("GET", "/admin/v1/gateways"),
    ("POST", "/admin/v1/reload"),
    ("POST", "/admin/v1/organizations"),
    ("DELETE", "/admin/v1/organizations/{organizationId}"),
];

/// What answers with the caller's own, whatever others have.
const OWN: [(&str, &str); 10] = [
    ("GET", "/admin/v1/dead-letters"),
    ("GET", "/admin/v1/organizations"),
    ("GET", "/admin/v1/work-streams"),
    ("GET", "/admin/v1/api-keys"),
    ("POST", "/admin/v1/api-keys"),
    ("GET", "/admin/v1/audit"),
    ("GET", "/admin/v1/records"),
    ("POST", "/admin/v1/records/requeue"),
    ("GET", "/admin/v1/openapi.json"),
    ("GET", "/admin/v1/subscriptions"),
];

/// A gateway in which litware has one of everything.
fn gateway() -> (TestGateway, Ids) {
    let usual = Setup::default();
    let reader = format!(
        "[[api_keys]]\nname = \"reader\"\nsha256 = \"{}\"\npermissions = [\"records.write\", \"records.read\", \"work.handle\"]\norganizations = \"*\"\n",
        sha256_hex(READER)
    );
    let process = format!("{}{reader}\n[limits]\nwrong_credentials_per_second = 1_000_000\n", usual.process);
    let gateway = TestGateway::start_with(&Setup { process, ..usual });
    make_litware(&gateway);
    gateway.change("POST", &format!("/organizations/{LITWARE}/queues"), &json!({ "name": "Urgent" }), 201);
    let variable = json!({ "displayName": "Order number" });
    gateway.change("POST", &format!("/work-streams/{STREAM}/context-variables"), &variable, 201);
    let key = json!({ "name": "litware-key", "permissions": ["records.write"], "organizations": ["litware"] });
    gateway.change("POST", "/api-keys", &key, 201);
    let receipt = gateway.post(super::record(1)).text("receiptId");
    let wish = json!({ "organizationId": LITWARE, "callbackUrl": "https://8.8.8.8/never-called" }).to_string();
    let subscription = gateway.call("POST", "/api/v1/subscriptions", KEY, wish.as_bytes()).text("id");
    assert_eq!(subscription.len(), 32);
    (gateway, Ids { receipt, subscription })
}

/// What the gateway gave out.
struct Ids {
    receipt: String,
    subscription: String,
}

/// The path with litware's identities in it, and a body that would be of use.
fn ask(operation: &Operation, ids: &Ids) -> (String, Value) {
    let path = operation
        .path
        .replace("{organizationId}", LITWARE)
        .replace("{workStreamId}", STREAM)
        .replace("{entityConfigurationId}", ENTITY)
        .replace("{queue}", "Urgent")
        .replace("{variable}", "order_number")
        .replace("{rule}", "r")
        .replace("{name}", "litware-key")
        .replace("{receiptId}", &ids.receipt)
        .replace("{subscriptionId}", &ids.subscription);
    assert!(!path.contains('{'), "{path}: a parameter that this test does not know");
    let body = match operation.method {
        "GET" | "DELETE" => Value::Null,
        _ if operation.path.ends_with("/redeliver") => {
            json!({ "organizationId": LITWARE, "since": "2026-01-01T00:00:00Z" })
        }
        _ if operation.path.contains("dead-letters") => json!({ "organizationId": LITWARE, "reason": "x" }),
        _ => {
            json!({ "name": "x", "displayName": "x", "organizationId": LITWARE, "value": [], "rules": [], "position": 1, "reason": "x" })
        }
    };
    (path, body)
}

fn call(gateway: &TestGateway, operation: &Operation, ids: &Ids, key: Option<&str>) -> Answer {
    let (path, body) = ask(operation, ids);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let mut headers = Vec::new();
    headers.extend(key.map(|key| ("X-Api-Key", key)));
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    crate::support::raw::exchange(
        gateway.admin,
        &crate::support::raw::request(operation.method, &path, &headers, &body),
    )
}

#[test]
fn nobody_without_the_permission_gets_anything() {
    let (gateway, ids) = gateway();
    for operation in OPERATIONS.iter().filter(|operation| !OPEN.contains(&operation.path)) {
        for key in [None, Some("sg_wrong"), Some(READER)] {
            let answer = call(&gateway, operation, &ids, key);
            assert_eq!(answer.status, 401, "{operation:?} with {key:?}");
            assert_eq!(answer.text("code"), "unauthorized");
        }
    }
}

#[test]
fn another_organization_s_administrator_finds_nothing_and_changes_nothing() {
    let (gateway, ids) = gateway();
    let before = gateway.admin_call(("GET", &format!("/organizations/{LITWARE}/document")), KEY, &[], &Value::Null);
    let unknown = |operation: &Operation| {
        let (path, body) = ask(operation, &Ids { receipt: "A".repeat(32), subscription: "A".repeat(32) });
        let path = [LITWARE, STREAM, ENTITY]
            .iter()
            .fold(path, |path, id| path.replace(id, "99999999-0000-4000-8000-000000000009"));
        let path = path.strip_prefix("/admin/v1").expect("a path").replace("litware-key", "no-such-key");
        gateway.admin_call((operation.method, &path), FABRIKAM_KEY, &[], &body)
    };
    for operation in OPERATIONS.iter().filter(|operation| operation.path.starts_with("/admin/v1")) {
        let answer = call(&gateway, operation, &ids, Some(FABRIKAM_KEY));
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let is = (operation.method, operation.path);
        if FOR_ALL.contains(&is) {
            assert_eq!(answer.status, 401, "{operation:?}");
        } else if OWN.contains(&is) {
            for foreign in [LITWARE, STREAM, ENTITY, "litware", &ids.receipt, &ids.subscription] {
                assert!(!text.contains(foreign) || answer.status == 422, "{operation:?} tells of {foreign}: {text}");
            }
        } else {
            assert_eq!(answer.status, 404, "{operation:?}: {text}");
            // What is another's looks exactly like what is not there.
            let (mut theirs, mut none) = (answer.json(), unknown(operation).json());
            for members in [&mut theirs, &mut none] {
                for varying in ["requestId", "instance", "catalogGeneration"] {
                    members.as_object_mut().expect("a problem").remove(varying);
                }
            }
            assert_eq!(theirs, none, "{operation:?}");
        }
    }
    let after = gateway.admin_call(("GET", &format!("/organizations/{LITWARE}/document")), KEY, &[], &Value::Null);
    assert_eq!(before.json(), after.json());
}

#[test]
fn an_organization_s_administrator_has_its_own_and_no_more() {
    let (gateway, _) = gateway();
    let key = json!({ "name": "boss", "permissions": ["admin", "records.write"], "organizations": [LITWARE] });
    let boss = gateway.change("POST", "/api-keys", &key, 201)["key"].as_str().expect("a key").to_owned();
    let call = |method: &str, path: &str, body: Value| gateway.admin_call((method, path), &boss, &[], &body);

    assert_eq!(call("GET", "/organizations", Value::Null).json()["value"].as_array().map(Vec::len), Some(1));
    assert_eq!(call("PATCH", &format!("/work-streams/{STREAM}"), json!({ "capacity": 7 })).status, 200);
    let own = format!("/organizations/{LITWARE}");
    assert_eq!(call("PATCH", &own, json!({ "name": "Litware Ltd." })).status, 200);
    for (field, value) in
        [("requestsPerMinute", json!(1_000_000)), ("burst", json!(9)), ("uniqueName", json!("contoso-2"))]
    {
        let answer = call("PATCH", &own, json!({ field: value }));
        assert_eq!(
            (answer.status, answer.text("code"), answer.text("field")),
            (409, "field-locked".into(), field.into())
        );
    }
    let grab = json!({ "name": "grab", "permissions": ["admin"], "organizations": "*" });
    assert_eq!(call("POST", "/api-keys", grab).text("code"), "field-locked");
    let reach = json!({ "name": "reach", "permissions": ["admin"], "organizations": ["contoso"] });
    assert_eq!(call("POST", "/api-keys", reach).text("code"), "resource-invalid");
    let names: Vec<String> = call("GET", "/api-keys", Value::Null).json()["value"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(names, ["boss", "litware-key"]);
    // Nothing is learnt of others by asking: not of names, not of keys, not of destinations.
    let taken = call("PATCH", &own, json!({ "uniqueName": "fabrikam" }));
    let free = call("PATCH", &own, json!({ "uniqueName": "nobody" }));
    assert_eq!((taken.status, taken.text("detail")), (409, free.text("detail")));
    for asked in ["everything", "own", "everything "] {
        let key = json!({ "name": asked, "permissions": ["records.write"], "organizations": ["litware"] });
        let made = call("POST", "/api-keys", key);
        if asked == "everything " {
            assert_eq!(made.status, 409, "it is trimmed, and there is one of its own by now");
        } else {
            assert_eq!((made.status, made.text("name")), (201, format!("litware:{asked}")));
        }
    }
    let unseen = json!({ "name": "ro\u{200b}ot", "permissions": ["records.write"], "organizations": ["litware"] });
    assert_eq!(call("POST", "/api-keys", unseen).status, 422);
    let elsewhere = call("PATCH", &own, json!({ "routingQueue": "no-such-queue" }));
    assert_eq!((elsewhere.status, elsewhere.text("field")), (409, "routingQueue".to_owned()));
    assert!(!String::from_utf8_lossy(&elsewhere.body).contains("possible"));
    assert_eq!(call("PATCH", &format!("/work-streams/{STREAM}"), json!({ "routingQueue": "pull" })).status, 200);
    let trail = call("GET", "/audit", Value::Null).json();
    assert!(trail["value"].as_array().expect("entries").iter().all(|entry| entry["organizationId"] == LITWARE));
}
