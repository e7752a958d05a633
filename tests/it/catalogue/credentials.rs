//! Group K: API keys and what surrounds them.

use super::{Case, check_invariants, run};
use crate::support::gateway::{FABRIKAM_KEY, KEY, Setup, TestGateway, sha256_hex};
use crate::support::raw::{exchange, request};
use crate::support::records::nth_incident;

fn case(id: &'static str, n: usize, expected: &'static [u16], headers: &[(&str, &str)]) -> Case {
    let headers: Vec<_> =
        std::iter::once(("Content-Type", "application/json")).chain(headers.iter().copied()).collect();
    Case { id, bytes: request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes()), expected }
}

/// The lines that configure a key that was replaced and one that has ended.
pub(crate) fn more_keys() -> String {
    let mut lines = String::new();
    for (name, key, more) in
        [("previous", "sg_previous", ""), ("expired", "sg_expired", "expires = \"2020-01-01T00:00:00Z\"\n")]
    {
        lines.push_str(&format!(
            "[[api_keys]]\nname = \"{name}\"\nsha256 = \"{}\"\npermissions = [\"records.write\"]\norganizations = \"*\"\n{more}",
            sha256_hex(key)
        ));
    }
    lines
}

/// The cases of this group, for a gateway with [`more_keys`].
pub(crate) fn cases() -> Vec<Case> {
    let (right, wrong) = (KEY, "sg_test-key-for-contoso-and-fabrikam-with-everythinX");
    let bearer = format!("Bearer {KEY}");
    let long = "k".repeat(10_000);
    let in_query = {
        let path = format!("/api/v1/records?X-Api-Key={KEY}&api_key={KEY}");
        Case {
            id: "K258 in the query",
            bytes: request("POST", &path, &[("Content-Type", "application/json")], nth_incident(1).as_bytes()),
            expected: &[401],
        }
    };
    vec![
        case("K252 none", 1, &[401], &[]),
        case("K253 empty", 1, &[401], &[("X-Api-Key", "")]),
        case("K254 wrong", 1, &[401], &[("X-Api-Key", wrong)]),
        case("K255 right and more", 1, &[401], &[("X-Api-Key", &format!("{right} x"))]),
        case("K256 expired", 1, &[401], &[("X-Api-Key", "sg_expired")]),
        case("K257 previous", 257, &[202], &[("X-Api-Key", "sg_previous")]),
        in_query,
        case("K259 two", 1, &[400], &[("X-Api-Key", right), ("X-Api-Key", right)]),
        case("K260 key and bearer", 1, &[400], &[("X-Api-Key", right), ("Authorization", &bearer)]),
        case("K261 two bearers", 1, &[400], &[("Authorization", &bearer), ("Authorization", &bearer)]),
        case("K262 Basic", 1, &[401], &[("Authorization", "Basic eDp5")]),
        case("K264 Bearer alone", 1, &[401], &[("Authorization", "Bearer")]),
        case("K264 Bearer and blank", 1, &[401], &[("Authorization", "Bearer ")]),
        case("K265 not ASCII", 1, &[401], &[("X-Api-Key", "sg_\u{e9}\u{e9}")]),
        case("K266 10 KB", 1, &[401], &[("X-Api-Key", &long)]),
        case("K267 SQL", 1, &[401], &[("X-Api-Key", "' OR 1=1--%s%n")]),
    ]
}

#[test]
fn k_api_keys() {
    let mut setup = Setup::default();
    setup.process.push_str(&more_keys());
    run(&TestGateway::start_with(&setup), &cases());
}

#[test]
fn every_401_looks_the_same() {
    let gateway = TestGateway::start();
    let bodies: Vec<serde_json::Value> = [
        &[][..],
        &[("X-Api-Key", "sg_wrong")],
        &[("Authorization", "Basic eDp5")],
        &[("Authorization", "Bearer a.b.c")],
    ]
    .iter()
    .map(|headers| {
        let answer = exchange(gateway.public, &request("GET", "/api/v1/connection", headers, b""));
        check_invariants("401", &answer);
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
        let mut body = answer.json();
        for of_the_request in ["requestId", "instance"] {
            body[of_the_request] = serde_json::Value::Null;
        }
        body
    })
    .collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:#?}");
}

#[test]
fn a_missing_permission_is_401_and_never_403() {
    let mut setup = Setup::default();
    setup.process.push_str(&format!(
        "[[api_keys]]\nname = \"reader\"\nsha256 = \"{}\"\npermissions = [\"records.read\"]\norganizations = \"*\"\n",
        sha256_hex("sg_reader")
    ));
    let gateway = TestGateway::start_with(&setup);
    let status = |method: &str, path: &str, body: &str| gateway.call(method, path, "sg_reader", body.as_bytes()).status;
    assert_eq!(status("GET", "/api/v1/connection", ""), 200);
    assert_eq!(status("GET", "/api/v1/organizations", ""), 200);
    assert_eq!(status("POST", "/api/v1/records", &nth_incident(1)), 401);
    assert_eq!(status("POST", "/api/v1/records/explain", &nth_incident(1)), 401);
    assert_eq!(status("POST", "/api/v1/work-items/lease", r#"{"organizationId":"x"}"#), 401);
}

#[test]
fn k268_a_flood_of_wrong_keys_gets_429_and_stores_nothing() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nwrong_credentials_per_second = 5\n");
    let gateway = TestGateway::start_with(&setup);
    let statuses: Vec<u16> =
        (0..50).map(|_| gateway.call("POST", "/api/v1/records", "sg_wrong", b"{}").status).collect();
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert_eq!(gateway.post(nth_incident(1)).status, 202, "a right key goes on");
    assert_eq!(super::stored(&gateway), 1);
}

#[test]
fn a_stranger_learns_401_before_the_body_is_looked_at() {
    let gateway = TestGateway::start();
    // Longer than the limit, not JSON, and never sent: the credential comes first.
    let head = "POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Api-Key: sg_wrong\r\nContent-Type: text/plain\r\nContent-Length: 99999999\r\n\r\n";
    assert_eq!(exchange(gateway.public, head.as_bytes()).status, 401);
    assert_eq!(gateway.call("POST", "/api/v1/records", FABRIKAM_KEY, b"{").status, 400);
}
