//! The input catalogue: bad, odd and barely legal inputs, each with an ID and the answer it must get. The list is
//! `docs/input-catalogue.md`; [`listed`] holds the two to each other, and [`figures`] runs all of it over and over.
//!
//! Every case runs over a real socket. Besides its status, each answer is held to what holds for all: JSON of at most
//! 2 KiB with the common headers, never a 5xx but 503, and nothing stored but what was answered with 202.

mod credentials;
mod figures;
pub(crate) mod framing;
pub(crate) mod heads;
mod identifiers;
mod json;
mod listed;
mod media;
mod outward;
pub(crate) mod pressure;
mod tenants;
mod tokens;

use crate::support::gateway::{KEY, TestGateway};
use crate::support::raw::{Answer, Connection, request};

/// One input and the statuses it may get. Its ID begins with that of `docs/input-catalogue.md`.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: &'static [u16],
}

/// Every case that is one exchange, whatever its group; what needs more has a test of its own, named after its ID.
pub(crate) fn every_case() -> Vec<Case> {
    let groups = [
        json::cases(),
        identifiers::cases(),
        framing::cases(),
        heads::cases(),
        media::cases(),
        tokens::cases(),
        credentials::cases(),
        outward::cases(),
    ];
    groups.into_iter().flatten().collect()
}

/// A post of this body with the usual key.
pub(crate) fn post(id: &'static str, expected: &'static [u16], body: impl AsRef<[u8]>) -> Case {
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    Case { id, bytes: request("POST", "/api/v1/records", &headers, body.as_ref()), expected }
}

/// What holds for every answer.
pub(crate) fn check_invariants(id: &str, answer: &Answer) {
    assert!(answer.status < 500 || answer.status == 503, "{id}: {answer:?}");
    assert_ne!(answer.status, 403, "{id}");
    assert!(answer.body.len() <= 2_048, "{id}: the body has {} bytes", answer.body.len());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{id}: {answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{id}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{id}");
    assert!(answer.header("x-request-id").is_some(), "{id}");
    let body = answer.json();
    if answer.status >= 400 {
        for member in ["type", "title", "detail", "code", "action", "retry", "instance", "requestId"] {
            assert!(body[member].is_string(), "{id}: `{member}` is missing in {body}");
        }
        assert_eq!(body["status"], answer.status, "{id}");
    }
}

/// How many records the store holds.
pub(crate) fn stored(gateway: &TestGateway) -> usize {
    let answer = gateway.administer("GET", "/admin/v1/records?limit=500");
    answer.json()["value"].as_array().expect("a list").len()
}

/// Sends every case on a connection of its own and collects what was not as expected, so that one run shows all.
pub(crate) fn run(gateway: &TestGateway, cases: &[Case]) {
    let before = stored(gateway);
    let mut accepted = 0;
    let mut wrong = Vec::new();
    for case in cases {
        let mut connection = Connection::open(gateway.public);
        connection.send(&case.bytes);
        let Some(answer) = connection.answer() else {
            wrong.push(format!("{}: the connection closed without an answer", case.id));
            continue;
        };
        if !case.expected.contains(&answer.status) {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            wrong.push(format!("{}: {} instead of {:?}: {body}", case.id, answer.status, case.expected));
            continue;
        }
        check_invariants(case.id, &answer);
        if answer.status == 202 && answer.json()["duplicate"] == false && answer.json()["test"] == false {
            accepted += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(stored(gateway), before + accepted, "only what was answered with 202 is stored");
}
