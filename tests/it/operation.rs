//! The operation itself: contract §1 to §4 over a running gateway.

use crate::catalogue::check_invariants;
use crate::support::gateway::{KEY, Setup, TestGateway};
use crate::support::raw::{exchange, request};
use crate::support::records::{
    INCIDENT, INSPECTION, LEAD, ORGANIZATION_ID, WORK_STREAM_ID, incident, nth_incident, record_id,
};

/// The raw text of `recordDetails` in a leased event or a body.
fn raw_details(json: &str) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(borrow)]
        record_details: &'a serde_json::value::RawValue,
    }
    serde_json::from_str::<Body<'_>>(json).expect("details").record_details.get().to_owned()
}

#[test]
fn the_sample_records_are_accepted_and_come_out_byte_for_byte() {
    let gateway = TestGateway::start();
    let lead: String = serde_json::from_str(&raw_details(LEAD)).expect("a string");
    for (name, body, details) in [
        ("incident", INCIDENT, raw_details(INCIDENT)),
        ("lead", LEAD, lead),
        ("inspection", INSPECTION, raw_details(INSPECTION)),
    ] {
        let answer = gateway.post(body);
        assert_eq!(answer.status, 202, "{name}: {answer:?}");
        let leased = gateway.call(
            "POST",
            "/api/v1/work-items/lease",
            KEY,
            format!(r#"{{"organizationId":"{ORGANIZATION_ID}","max":1}}"#).as_bytes(),
        );
        assert_eq!(leased.status, 200, "{name}: {leased:?}");
        let text = String::from_utf8(leased.body.clone()).expect("text");
        assert!(text.contains(&format!(r#""recordDetails":{details}"#)), "{name}: {details}\nis not in\n{text}");
        let item = &leased.json()["value"][0];
        assert_eq!(item["id"], answer.text("receiptId"));
        assert_eq!(item["event"]["id"], answer.text("receiptId"));
        assert_eq!(item["event"]["specversion"], "1.0");
        assert_eq!(item["event"]["data"]["route"]["queue"], "Default queue");
        assert_eq!(item["event"]["data"]["workStream"]["capacity"], 30);
    }
}

#[test]
fn a_202_has_what_the_contract_says_and_nothing_that_starts_polling() {
    let gateway = TestGateway::start();
    let answer = gateway.post(nth_incident(1));
    assert_eq!(answer.status, 202);
    check_invariants("202", &answer);
    for absent in ["location", "operation-location", "azure-asyncoperation", "retry-after"] {
        assert_eq!(answer.header(absent), None);
    }
    let body = answer.json();
    assert_eq!(body["status"], "accepted");
    assert_eq!((&body["duplicate"], &body["test"]), (&false.into(), &false.into()));
    assert!(body["catalogGeneration"].as_u64().is_some_and(|generation| generation > 0));
    let status_url = format!("http://gateway.test/api/v1/receipts/{}", answer.text("receiptId"));
    assert_eq!(answer.text("statusUrl"), status_url);
}

#[test]
fn a_repeat_gets_the_first_receipt_in_any_spelling_and_over_a_restart() {
    let gateway = TestGateway::start();
    let first = gateway.post(nth_incident(1)).text("receiptId");
    let other_details = incident(&format!("{{{}}}", record_id(1).to_uppercase()), r#"{"changed":true}"#);
    for body in [nth_incident(1), other_details.clone()] {
        let answer = gateway.post(body);
        assert_eq!((answer.status, answer.text("receiptId")), (202, first.clone()));
        assert_eq!(answer.json()["duplicate"], true);
    }
    let gateway = gateway.restart();
    let answer = gateway.post(other_details);
    assert_eq!((answer.status, answer.text("receiptId")), (202, first));
    assert_eq!(crate::catalogue::stored(&gateway), 1);
}

#[test]
fn r6_the_same_record_at_the_same_moment_is_one_record() {
    let gateway = TestGateway::start();
    let receipts: Vec<String> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..16).map(|_| scope.spawn(|| gateway.post(nth_incident(1)).text("receiptId"))).collect();
        posts.into_iter().map(|post| post.join().expect("an answer")).collect()
    });
    assert!(receipts.iter().all(|receipt| !receipt.is_empty() && *receipt == receipts[0]), "{receipts:?}");
    assert_eq!(crate::catalogue::stored(&gateway), 1);
}

#[test]
fn the_test_operation_checks_everything_and_stores_nothing() {
    let gateway = TestGateway::start();
    let entity_configuration = "11c0ffee-0000-4000-8000-000000000001";
    for details in ["null", r#""""#, "{}", r#"{"a":1}"#] {
        let answer = gateway.post(incident(entity_configuration, details));
        check_invariants(details, &answer);
        assert_eq!(answer.status, 202, "{details}: {answer:?}");
        assert_eq!(answer.json()["test"], true);
        assert_eq!(answer.json()["receiptId"], serde_json::Value::Null);
    }
    let without = incident(entity_configuration, "null").replace(r#","recordDetails":null"#, "");
    assert_eq!(gateway.post(without).status, 202);
    let wrong_set = incident(entity_configuration, "null").replace("\"incidents\"", "\"cases\"");
    assert_eq!(gateway.post(wrong_set).text("code"), "entity-set-mismatch");
    assert_eq!(crate::catalogue::stored(&gateway), 0);
}

#[test]
fn refusals_come_in_the_order_of_the_contract_and_say_what_to_do() {
    let gateway = TestGateway::start();
    let base = nth_incident(1);
    let other_stream = |n: usize| base.replace(WORK_STREAM_ID, &format!("7c2e9d54-41a8-ea11-a812-000d3a579c{n}"));
    let cases = [
        (
            "organization-unknown",
            "organizationId",
            base.replace(ORGANIZATION_ID, "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a11"),
            Some(ORGANIZATION_ID),
        ),
        (
            "work-stream-unknown",
            "workStreamId",
            base.replace(WORK_STREAM_ID, "7c2e9d54-41a8-ea11-a812-000d3a579c41"),
            Some(WORK_STREAM_ID),
        ),
        ("work-stream-inactive", "workStreamId", other_stream(33), None),
        ("work-stream-not-for-records", "workStreamId", other_stream(32), None),
        (
            "entity-not-configured",
            "entityLogicalName",
            base.replace("\"entityLogicalName\":\"incident\"", "\"entityLogicalName\":\"incidents\""),
            Some("incident"),
        ),
        (
            "entity-configuration-inactive",
            "entityLogicalName",
            base.replace("\"entityLogicalName\":\"incident\"", "\"entityLogicalName\":\"task\""),
            None,
        ),
        ("entity-set-mismatch", "entitySetName", base.replace("\"incidents\"", "\"incidentes\""), Some("incidents")),
        (
            "relationship-mismatch",
            "relationshipName",
            base.replace("incident_msdyn_ocliveworkitems", "regarding"),
            Some("incident_msdyn_ocliveworkitems"),
        ),
    ];
    for (code, field, body, expected) in cases {
        let answer = gateway.post(body);
        check_invariants(code, &answer);
        assert_eq!((answer.status, answer.text("code").as_str()), (404, code), "{answer:?}");
        assert_eq!(answer.text("field"), field);
        assert_eq!(answer.json()["expected"].as_str(), expected, "{code}");
        assert_eq!(answer.text("retry"), "after-change");
        assert!(answer.json()["catalogGeneration"].is_u64(), "{code}");
        assert!(!answer.text("action").is_empty());
    }
}

#[test]
fn an_explanation_runs_every_check_and_stores_nothing() {
    let gateway = TestGateway::start();
    let explain = |body: String| {
        let answer = gateway.call("POST", "/api/v1/records/explain", KEY, body.as_bytes());
        check_invariants("explain", &answer);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let good = explain(nth_incident(1));
    assert_eq!(good["outcome"], "accepted");
    assert!(good["checks"].as_array().expect("checks").iter().all(|check| check["verdict"] == "passed"), "{good}");
    assert_eq!((&good["route"]["queue"], &good["route"]["routingQueue"]), (&"Default queue".into(), &"pull".into()));

    let twice_wrong = nth_incident(1).replace("\"incidents\"", "\"x\"").replace("incident_msdyn_ocliveworkitems", "y");
    let refused = explain(twice_wrong);
    let failed: Vec<&str> = refused["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|check| check["verdict"] == "failed")
        .filter_map(|check| check["code"].as_str())
        .collect();
    assert_eq!(
        (refused["outcome"].as_str(), failed),
        (Some("refused"), vec!["entity-set-mismatch", "relationship-mismatch"])
    );

    assert_eq!(explain(incident(&record_id(1), "{}"))["outcome"], "malformed");
    assert_eq!(crate::catalogue::stored(&gateway), 0);
}

#[test]
fn a_leased_work_item_is_completed_released_or_offered_again() {
    let gateway = TestGateway::start();
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let lease = || {
        let body = format!(r#"{{"organizationId":"{ORGANIZATION_ID}","leaseSeconds":600}}"#);
        gateway.call("POST", "/api/v1/work-items/lease", KEY, body.as_bytes()).json()["value"].clone()
    };
    let settle = |how: &str, token: &str| {
        let body = format!(r#"{{"leaseToken":"{token}"}}"#);
        gateway.call("POST", &format!("/api/v1/work-items/{receipt}/{how}"), KEY, body.as_bytes())
    };
    let first = lease();
    assert_eq!(first[0]["attempt"], 1);
    assert_eq!(lease(), serde_json::json!([]), "a leased item is not offered again");
    let token = first[0]["leaseToken"].as_str().expect("a token");
    assert_eq!(settle("release", token).status, 200);
    let second = lease();
    let new_token = second[0]["leaseToken"].as_str().expect("offered again");
    assert_eq!(settle("complete", token).status, 409, "the old token is spent");
    assert_eq!(settle("complete", "not-a-token").status, 400);
    assert_eq!(settle("complete", new_token).status, 200);
    assert_eq!(settle("complete", new_token).status, 409);
    gateway.wait_for_state(&receipt, "delivered");
}

#[test]
fn the_lists_feed_drop_downs_with_what_is_active() {
    let gateway = TestGateway::start();
    let list = |path: &str| gateway.call("GET", path, KEY, b"").json()["value"].as_array().expect("a list").clone();
    let streams = list(&format!("/api/v1/work-streams?organizationId={ORGANIZATION_ID}"));
    let names: Vec<_> = streams.iter().map(|stream| stream["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["Cases and leads", "Website chat"], "the inactive one is not offered");
    let entities = list(&format!("/api/v1/entity-configurations?workStreamId={{{}}}", WORK_STREAM_ID.to_uppercase()));
    let names: Vec<_> =
        entities.iter().map(|entity| entity["entityLogicalName"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["incident", "lead", "new_inspection"]);
    assert_eq!(entities[0]["relationshipName"], "incident_msdyn_ocliveworkitems");
    let one = list("/api/v1/entity-configurations?entityLogicalName=LEAD");
    assert_eq!((one.len(), &one[0]["entitySetName"]), (1, &"leads".into()), "a choice narrows to one");
    let queues = list(&format!("/api/v1/queues?organizationId={ORGANIZATION_ID}"));
    let queues: Vec<_> = queues.iter().map(|queue| (queue["name"].as_str(), queue["default"].as_bool())).collect();
    assert!(queues.len() > 1 && queues.iter().filter(|(_, default)| *default == Some(true)).count() == 1, "{queues:?}");
    let nobody = "/api/v1/queues?organizationId=00000000-0000-4000-8000-00000000dead";
    assert_eq!(gateway.call("GET", nobody, KEY, b"").text("code"), "organization-unknown");
    assert_eq!(gateway.call("GET", "/api/v1/entity-configurations?entityLogicalName=1", KEY, b"").status, 400);
    assert_eq!(gateway.call("GET", "/api/v1/work-streams?organizationId=x", KEY, b"").status, 400);
    assert_eq!(gateway.call("GET", "/api/v1/work-streams?organizationId=", KEY, b"").status, 200);
    let connection = gateway.call("GET", "/api/v1/connection", KEY, b"").json();
    assert_eq!(connection["organizations"], serde_json::json!(["contoso", "fabrikam"]));
    assert_eq!(connection["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_host_name_names_the_organization_too() {
    let gateway = TestGateway::start_with(&Setup::with("public_host = \"{organization}-public.gateway.example.com\""));
    let post = |host: &str| {
        let bytes = request(
            "POST",
            "/api/v1/records",
            &[("X-Api-Key", KEY), ("Content-Type", "application/json")],
            nth_incident(1).as_bytes(),
        );
        let text = String::from_utf8(bytes).expect("text").replacen("gateway.test", host, 1);
        exchange(gateway.public, text.as_bytes())
    };
    assert_eq!(post("contoso-public.gateway.example.com").status, 202);
    assert_eq!(post("CONTOSO-public.gateway.example.com:8080").status, 202);
    for other in ["fabrikam-public.gateway.example.com", "nobody-public.gateway.example.com"] {
        assert_eq!(post(other).text("code"), "organization-unknown", "{other}");
    }
    assert_eq!(post("127.0.0.1").status, 202, "a host outside the pattern names nobody");
}

#[test]
fn s310_s311_the_rate_is_the_organizations_own() {
    let limited = crate::support::gateway::ORGANIZATION.replacen(
        "[organization]",
        "[organization]\nrequests_per_minute = 600\nburst = 3",
        1,
    );
    let mut setup = Setup::default();
    setup.organizations[0].1 = limited;
    let gateway = TestGateway::start_with(&setup);
    let answers: Vec<_> = (0..30).map(|_| gateway.post(nth_incident(1))).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(answers.iter().all(|answer| matches!(answer.status, 202 | 429)));
    assert!(!refused.is_empty());
    for answer in refused {
        check_invariants("S311", answer);
        assert!(answer.header("retry-after").and_then(|wait| wait.parse::<u64>().ok()).is_some_and(|wait| wait >= 5));
    }
}
