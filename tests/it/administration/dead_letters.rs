//! Dead letters in bulk: found, made pending again, given up for good, and all of it in the trail.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gateway::{FABRIKAM_KEY, KEY, ORGANIZATION, Setup, TestGateway};
use crate::support::records::{ORGANIZATION_ID, nth_incident};

/// A gateway whose receiver never takes anything, with this many dead letters.
fn with_dead_letters(count: usize) -> TestGateway {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                // One request is one read: the events are small and loopback keeps them whole.
                while let Ok(1..) = stream.read(&mut buffer) {
                    let _answered = stream.write_all(b"HTTP/1.1 422 Never\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    let mut setup = Setup::default();
    setup.process.push_str(&format!(
        "\n[routing_queues.deaf]\nkind = \"http\"\nurl = \"http://{address}/\"\nsecret_file = \"deaf.secret\"\ncreate_secret = true\nallow_networks = [\"127.0.0.0/8\"]\n"
    ));
    setup.organizations[0].1 =
        ORGANIZATION.replacen("unique_name = \"contoso\"", "unique_name = \"contoso\"\nrouting_queue = \"deaf\"", 1);
    let gateway = TestGateway::start_with(&setup);
    for number in 0..count {
        assert_eq!(gateway.post(nth_incident(number)).status, 202);
    }
    eventually("all of them to be dead letters", || {
        let page = gateway.change("GET", "/dead-letters?limit=500", &Value::Null, 200);
        (page["value"].as_array().expect("a list").len() == count).then_some(())
    });
    gateway
}

fn count(gateway: &TestGateway, query: &str) -> usize {
    let page = gateway.change("GET", &format!("/dead-letters?{query}"), &Value::Null, 200);
    page["value"].as_array().expect("a list").len()
}

#[test]
fn many_are_handled_page_by_page_and_written_into_the_trail() {
    let gateway = with_dead_letters(12);
    for (query, expected) in [
        (format!("organizationId={ORGANIZATION_ID}"), 12),
        ("entityLogicalName=lead".to_owned(), 0),
        ("entityLogicalName=incident&queue=Default%20queue".to_owned(), 12),
        ("reasonContains=422".to_owned(), 12),
        ("reasonContains=time-out".to_owned(), 0),
        ("since=2999-01-01T00:00:00Z".to_owned(), 0),
        ("until=2999-01-01T00:00:00Z&limit=5".to_owned(), 5),
    ] {
        assert_eq!(count(&gateway, &query), expected, "{query}");
    }
    for bad in ["since=yesterday", "organizationId=x", "colour=red", "entityLogicalName=1x", "limit=x"] {
        let answer = gateway.admin_call(("GET", &format!("/dead-letters?{bad}")), KEY, &[], &Value::Null);
        assert_eq!((answer.status, answer.text("code")), (400, "malformed".to_owned()), "{bad}");
    }

    // Given up for good: said why, a page at a time, and never again.
    let nameless = gateway.admin_call(("POST", "/dead-letters/discard"), KEY, &[], &json!({ "limit": 5 }));
    assert_eq!((nameless.status, nameless.text("field")), (400, "reason".to_owned()));
    let first = gateway.change("POST", "/dead-letters/discard", &json!({ "limit": 5, "reason": "test data" }), 200);
    assert_eq!((&first["count"], &first["remaining"]), (&json!(5), &json!(7)));
    let next = first["next"].clone();
    let more = json!({ "limit": 3, "reason": "test data", "after": next });
    assert_eq!(gateway.change("POST", "/dead-letters/discard", &more, 200)["count"], 3);
    assert_eq!(count(&gateway, ""), 4);

    // Another organization's administrator has none of these.
    let theirs = gateway.admin_call(("POST", "/dead-letters/requeue"), FABRIKAM_KEY, &[], &Value::Null);
    assert_eq!((theirs.status, theirs.json()), (200, json!({ "count": 0 })));
    let foreign = json!({ "organizationId": ORGANIZATION_ID });
    assert_eq!(gateway.admin_call(("POST", "/dead-letters/requeue"), FABRIKAM_KEY, &[], &foreign).status, 404);

    // Pending again, tried again, dead again.
    let again = gateway.change("POST", "/dead-letters/requeue", &json!({ "reasonContains": "422" }), 200);
    assert_eq!(again["count"], 4);
    eventually("them to be given up again", || (count(&gateway, "") == 4).then_some(()));

    let one = gateway.change("GET", "/dead-letters?limit=1", &Value::Null, 200)["value"][0]["receiptId"].clone();
    let one = one.as_str().expect("a receipt");
    let put_away = gateway.change("POST", &format!("/records/{one}/discard"), &json!({ "reason": "known" }), 200);
    assert_eq!(put_away["discarded"], 1);
    let shown = gateway.change("GET", &format!("/records/{one}"), &Value::Null, 200);
    assert_eq!((&shown["state"], &shown["discarded"]["reason"]), (&json!("dead-lettered"), &json!("known")));
    assert_eq!(shown["discarded"]["by"], "everything");
    let requeued = gateway.change("POST", &format!("/records/{one}/requeue"), &Value::Null, 200);
    assert_eq!(requeued["requeued"], 0, "what was given up for good stays so");

    let trail = gateway.change("GET", "/audit", &Value::Null, 200);
    let told: Vec<_> = trail["value"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| (entry["action"].clone(), entry["differences"][0]["to"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (json!("discard"), json!(1)),
            (json!("requeue"), json!(4)),
            (json!("discard"), json!(3)),
            (json!("discard"), json!(5))
        ]
    );
}

#[test]
fn the_command_line_does_the_same() {
    let gateway = with_dead_letters(7);
    let run = |arguments: &[&str]| {
        let output = crate::command_line::against(&gateway, arguments);
        (output.status.code(), crate::command_line::text(&output.stdout) + &crate::command_line::text(&output.stderr))
    };
    let (code, told) = run(&["dead-letters", "list", "--organization", "contoso", "--limit", "3"]);
    assert!(code == Some(0) && told.lines().count() == 5 && told.contains("--before"), "{told}");
    let (code, told) = run(&["dead-letters", "discard", "--reason", "all wrong"]);
    assert!(code == Some(2) && told.contains("--yes"), "{told}");
    let (code, told) = run(&["dead-letters", "discard", "--reason", "all wrong", "--entity", "lead"]);
    assert!(code == Some(0) && told.contains("0 dead letters"), "{told}");
    let (code, told) = run(&["dead-letters", "discard", "--reason", "all wrong", "--yes"]);
    assert!(code == Some(0) && told.contains("7 dead letters are given up for good"), "{told}");
    let (code, told) = run(&["dead-letters", "requeue", "--yes"]);
    assert!(code == Some(0) && told.contains("0 dead letters"), "{told}");
}
