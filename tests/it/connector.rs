//! The connector's description (OpenAPI 2.0) and the gateway are the same interface: its operations and statuses are those
//! of the route table, each of them is really there, and its codes are those that callers can meet. That every body is as
//! described is held wherever a test asks the public listener (`support/connector.rs`).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use streamgate::http::OPERATIONS;
use streamgate::http::problem::Code;

use crate::support::connector::{CONNECTOR, check, described};
use crate::support::gateway::{FABRIKAM_KEY, KEY, Setup, TestGateway};
use crate::support::raw::{Answer, exchange, request};
use crate::support::records::{INCIDENT, ORGANIZATION_ID, WORK_STREAM_ID, nth_incident};

/// Every (method, path, status) of the description.
fn described_statuses() -> BTreeSet<(String, String, u16)> {
    let paths = CONNECTOR["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("an item").iter().filter(|(method, _)| !method.starts_with("x-"));
        item.map(move |(method, operation)| (path, method, operation))
    });
    operations
        .flat_map(|(path, method, operation)| {
            let statuses = operation["responses"].as_object().expect("responses").keys();
            statuses.map(move |status| {
                (method.to_ascii_uppercase(), path.clone(), status.parse().expect("a status, and no default"))
            })
        })
        .collect()
}

#[test]
fn the_description_has_the_operations_of_the_table_and_their_statuses() {
    let of_the_table: BTreeSet<_> = OPERATIONS
        .iter()
        .flat_map(|one| one.statuses().into_iter().map(|status| (one.method.to_owned(), one.path.to_owned(), status)))
        .collect();
    assert_eq!(described_statuses(), of_the_table);
    for operation in OPERATIONS {
        assert_eq!(described(operation)["operationId"], operation.id);
        let parameters = described(operation)["parameters"].as_array().cloned().unwrap_or_default();
        let takes_a_body = parameters.iter().any(|parameter| parameter["in"] == "body");
        assert_eq!(takes_a_body, operation.takes_a_body, "{}", operation.id);
        for in_path in operation.path.split(['{', '}']).skip(1).step_by(2) {
            let described = parameters.iter().any(|one| one["in"] == "path" && one["name"] == in_path);
            assert!(described, "{}: {in_path} is not described", operation.id);
        }
    }
}

#[test]
fn its_codes_are_those_that_callers_can_meet() {
    /// What only the administration answers.
    const ELSEWHERE: [&str; 9] = [
        "resource-unknown",
        "configuration-invalid",
        "resource-invalid",
        "provisioned",
        "field-locked",
        "default-queue",
        "in-use",
        "precondition-failed",
        "not-everywhere",
    ];
    let codes = CONNECTOR["definitions"]["Problem"]["properties"]["code"]["enum"].as_array().expect("codes");
    let codes: BTreeSet<&str> = codes.iter().map(|code| code.as_str().expect("a code")).collect();
    let all = Code::all();
    let public: BTreeSet<&str> = all.iter().map(|code| code.name()).filter(|name| !ELSEWHERE.contains(name)).collect();
    assert_eq!(codes, public);
}

/// A gateway with a subscription, and one work item for each way to end a lease.
struct Exercised {
    gateway: TestGateway,
    receipt: String,
    subscription: String,
    /// IDs and lease tokens.
    leased: Vec<(String, String)>,
    waiting: String,
}

impl Exercised {
    fn start() -> Self {
        let gateway = TestGateway::start();
        let post = |path: &str, body: &Value| gateway.call("POST", path, KEY, body.to_string().as_bytes());
        let receipt = gateway.post(INCIDENT).text("receiptId");
        for n in 1..=4 {
            assert_eq!(gateway.post(nth_incident(n)).status, 202);
        }
        let wish = json!({ "organizationId": ORGANIZATION_ID, "callbackUrl": "https://8.8.8.8/never-called" });
        let subscription = post("/api/v1/subscriptions", &wish).text("id");
        let lease = post("/api/v1/work-items/lease", &json!({ "organizationId": ORGANIZATION_ID, "max": 4 })).json();
        let items = lease["value"].as_array().expect("work items").iter();
        let mut leased: Vec<_> = items
            .map(|item| [&item["id"], &item["leaseToken"]].map(|text| text.as_str().expect("text").to_owned()))
            .map(|[id, token]| (id, token))
            .collect();
        let (waiting, token) = leased.pop().expect("four");
        let wait = post(&format!("/api/v1/work-items/{waiting}/wait"), &json!({ "leaseToken": token }));
        assert_eq!(wait.status, 200);
        Self { gateway, receipt, subscription, leased, waiting }
    }

    /// What makes an operation succeed: its path, and its body.
    fn good(&self, id: &str) -> (String, Value) {
        let ending = |at: usize, how: &str| {
            let (item, token) = &self.leased[at];
            (format!("/api/v1/work-items/{item}/{how}"), json!({ "leaseToken": token }))
        };
        let list = |path: &str, query: &str| (format!("/api/v1/{path}?{query}"), Value::Null);
        let own = format!("organizationId={ORGANIZATION_ID}");
        match id {
            "RouteRecord" => ("/api/v1/records".to_owned(), serde_json::from_str(INCIDENT).expect("JSON")),
            "ExplainRecord" => ("/api/v1/records/explain".to_owned(), serde_json::from_str(INCIDENT).expect("JSON")),
            "GetReceipt" => (format!("/api/v1/receipts/{}", self.receipt), Value::Null),
            "ListOrganizations" => list("organizations", ""),
            "ListWorkStreams" => list("work-streams", &own),
            "ListQueues" => list("queues", &own),
            "ListEntityConfigurations" => {
                list("entity-configurations", &format!("{own}&workStreamId={WORK_STREAM_ID}&entityLogicalName=lead"))
            }
            "TestConnection" => list("connection", ""),
            "LeaseWorkItems" => {
                ("/api/v1/work-items/lease".to_owned(), json!({ "organizationId": ORGANIZATION_ID, "max": 1 }))
            }
            "CompleteWorkItem" => ending(0, "complete"),
            "ReleaseWorkItem" => ending(1, "release"),
            "SetWorkItemWaiting" => ending(2, "wait"),
            "ReviveWorkItem" => (format!("/api/v1/work-items/{}/revive", self.waiting), Value::Null),
            "SubscribeToQueue" => {
                let wish = json!({ "organizationId": ORGANIZATION_ID, "callbackUrl": "https://8.8.8.8/another" });
                ("/api/v1/subscriptions".to_owned(), wish)
            }
            "ListSubscriptions" => list("subscriptions", &own),
            "EndSubscription" => (format!("/api/v1/subscriptions/{}", self.subscription), Value::Null),
            other => panic!("{other}: an operation that this test does not know"),
        }
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut all = fields.to_vec();
        if !body.is_empty() {
            all.push(("Content-Type", "application/json"));
        }
        // Answers are held to the description on their way.
        exchange(self.gateway.public, &request(method, path, &all, &body))
    }
}

#[test]
fn every_operation_of_the_description_is_really_there() {
    let exercised = Exercised::start();
    let long = "x".repeat(20_000);
    for operation in OPERATIONS {
        let (path, body) = exercised.good(operation.id);
        let ask = |fields: &[(&str, &str)]| exercised.ask(operation.method, &path, fields, &body).status;
        assert_eq!(ask(&[]), 401, "{}", operation.id);
        assert_eq!(ask(&[("X-Api-Key", KEY), ("Authorization", "Bearer x")]), 400, "{}", operation.id);
        assert_eq!(ask(&[("X-Api-Key", KEY), ("X-Long", &long)]), 431, "{}", operation.id);
        if operation.takes_a_body {
            let plain = request(operation.method, &path, &[("X-Api-Key", KEY)], body.to_string().as_bytes());
            assert_eq!(exchange(exercised.gateway.public, &plain).status, 415, "{}", operation.id);
            let large = json!({ "large": "x".repeat(1_100_000) });
            let answer = exercised.ask(operation.method, &path, &[("X-Api-Key", KEY)], &large);
            assert_eq!(answer.status, 413, "{}", operation.id);
        }
        let answer = exercised.ask(operation.method, &path, &[("X-Api-Key", KEY)], &body);
        assert_eq!(answer.status, operation.success, "{}: {}", operation.id, String::from_utf8_lossy(&answer.body));
        let long_query = format!("{}{}q={}", path, if path.contains('?') { '&' } else { '?' }, "x".repeat(5_000));
        let answer = exercised.ask(operation.method, &long_query, &[("X-Api-Key", KEY)], &body);
        assert_eq!(answer.status, 414, "{}", operation.id);
    }
    // The tables agree by `the_description_has_the_operations_of_the_table_and_their_statuses`.
}

#[test]
fn a_gateway_that_says_something_else_would_show() {
    let answer = |status: u16, body: &str| Answer { status, headers: Vec::new(), body: body.as_bytes().to_vec() };
    let shows =
        |answer: &Answer| std::panic::catch_unwind(|| check("GET", "/api/v1/organizations", b"", answer)).is_err();
    let good = r#"{"value":[{"id":"0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10","uniqueName":"contoso","name":"Contoso"}],"catalogGeneration":1}"#;
    assert!(!shows(&answer(200, good)));
    for other in [
        answer(200, &good.replace("uniqueName", "unique_name")),
        answer(200, &good.replace(r#","name":"Contoso""#, "")),
        answer(200, &good.replace("\"value\"", "\"more\":1,\"value\"")),
        answer(200, &good.replace("\"contoso\"", "null")),
        answer(200, &good.replace(":1}", ":\"1\"}")),
        answer(204, "{}"),
        answer(404, good),
    ] {
        assert!(shows(&other), "{other:?}");
    }
}

#[test]
fn the_gateway_serves_its_description_and_each_organization_s_package() {
    let gateway = TestGateway::start_with(&Setup::with("public_scheme = \"https\""));
    let get = |path: &str, key: &str| gateway.call("GET", path, key, b"");
    let page = get("/openapi", "");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("Content-Security-Policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(String::from_utf8_lossy(&page.body).contains("RouteRecord"));
    let described = get("/openapi/openapi.json", "");
    assert_eq!((described.status, described.json()["openapi"].as_str()), (200, Some("3.1.0")));

    let package = get("/openapi/connector.json?organization=contoso", KEY);
    assert_eq!((package.status, package.json()["swagger"].as_str()), (200, Some("2.0")));
    assert_eq!((&package.json()["host"], &package.json()["schemes"][0]), (&json!("gateway.test"), &json!("https")));
    let own = get("/openapi/connector.json", FABRIKAM_KEY).json();
    assert!(own["info"]["title"].as_str().expect("a title").contains("Fabrikam"), "{}", own["info"]);
    let zip = get(&format!("/openapi/connector.zip?organization={ORGANIZATION_ID}&certification=true"), KEY);
    assert_eq!((zip.status, zip.header("Content-Type"), &zip.body[..2]), (200, Some("application/zip"), &b"PK"[..]));
    assert!(zip.header("Content-Disposition").is_some_and(|name| name.contains("connector.zip")));

    for (path, key, status, code) in [
        ("/openapi/connector.json", "", 401, "unauthorized"),
        ("/openapi/connector.zip?organization=contoso", "sg_wrong", 401, "unauthorized"),
        ("/openapi/connector.json?organization=contoso", FABRIKAM_KEY, 404, "organization-unknown"),
        ("/openapi/connector.json?organization=nobody", KEY, 404, "organization-unknown"),
        ("/openapi/connector.json", KEY, 400, "malformed"),
        ("/openapi/connector.zip?organization=contoso&certification=maybe", KEY, 400, "malformed"),
        ("/openapi/nothing", KEY, 404, "not-found"),
    ] {
        let refused = get(path, key);
        assert_eq!((refused.status, refused.text("code")), (status, code.to_owned()), "{path}");
    }
    assert_eq!(gateway.call("POST", "/openapi", KEY, b"").status, 405);
}

#[test]
fn pages_can_be_asked_about_without_being_sent() {
    use std::io::{Read as _, Write as _};
    let gateway = TestGateway::start();
    let whole = |method: &str, path: &str| {
        let mut stream = std::net::TcpStream::connect(gateway.public).expect("connected");
        let bytes = format!("{method} {path} HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nConnection: close\r\n\r\n");
        stream.write_all(bytes.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let body = answer.split_off(head_end);
        let head = String::from_utf8(answer).expect("text");
        let varies = |line: &&str| !line.starts_with("x-request-id") && !line.starts_with("date");
        let (status, fields) = head.split_once("\r\n").expect("a status line");
        let fields: std::collections::BTreeSet<String> = fields.lines().filter(varies).map(str::to_owned).collect();
        (status.to_owned(), fields, body)
    };
    for path in [
        "/openapi",
        "/openapi/openapi.json",
        "/openapi/connector.json?organization=contoso",
        "/openapi/connector.zip?organization=contoso",
    ] {
        let (status, asked, nothing) = whole("HEAD", path);
        let (_, got, page) = whole("GET", path);
        assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
        assert_eq!(asked, got, "{path}");
        assert!(nothing.is_empty() && !page.is_empty(), "{path}");
    }
    assert_eq!(whole("HEAD", "/api/v1/organizations").0, "HTTP/1.1 405 Method Not Allowed");
}

#[test]
fn the_package_has_the_host_that_the_configuration_gives_an_organization() {
    let gateway = TestGateway::start_with(&Setup::with("public_host = \"{organization}-public.gateway.example.com\""));
    let package = gateway.call("GET", "/openapi/connector.json?organization=contoso", KEY, b"").json();
    assert_eq!(package["host"], "contoso-public.gateway.example.com");
}
