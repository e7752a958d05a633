//! What is entrusted to the gateway does not come out by its log, however much is logged.

use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{Connection, exchange, request};
use crate::support::records::{incident, record_id};

const ENTRUSTED: &str = "Xq7-entrusted-words-that-nobody-else-may-read";

#[test]
fn the_log_holds_nothing_that_was_entrusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::over_tls();
    setup.process.push_str("\n[log]\nformat = \"json\"\nfilter = \"debug,streamgate=trace\"\n");
    write_configuration(folder.path(), &setup);
    let log = folder.path().join("log");
    let gateway = Process::start_logging(folder.path(), &log);

    let details = format!(r#"{{"incidentid":"{}","title":"{ENTRUSTED}"}}"#, record_id(1));
    let json = ("Content-Type", "application/json");
    let long = "z".repeat(4_000);
    let bearer = format!("Bearer {ENTRUSTED}.{ENTRUSTED}.{ENTRUSTED}");
    // Method, path, header fields, body, and the status of the answer.
    type Asked<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, String, u16);
    let asked: [Asked<'_>; 7] = [
        ("POST", "/api/v1/records", vec![("X-Api-Key", KEY), json], incident(&record_id(1), &details), 202),
        ("POST", "/api/v1/records", vec![("X-Api-Key", KEY), json], incident("bad", &details), 400),
        ("POST", "/api/v1/records/explain", vec![("X-Api-Key", KEY), json], incident(&record_id(2), &details), 200),
        ("GET", "/api/v1/connection", vec![("X-Api-Key", ENTRUSTED)], String::new(), 401),
        ("GET", "/api/v1/connection", vec![("Authorization", &bearer)], String::new(), 401),
        (
            "GET",
            "/api/v1/connection?key=Xq7-entrusted-words-that-nobody-else-may-read",
            vec![("X-Api-Key", KEY)],
            String::new(),
            200,
        ),
        ("GET", "/api/v1/connection", vec![("X-Api-Key", KEY), ("User-Agent", &long)], String::new(), 200),
    ];
    let count = asked.len();
    for (method, path, headers, body, status) in asked {
        let answer = exchange(gateway.public, &request(method, path, &headers, body.as_bytes()));
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let callback = format!("https://8.8.8.8/?sig={ENTRUSTED}");
    let wish =
        format!(r#"{{"organizationId":"{}","callbackUrl":"{callback}"}}"#, crate::support::records::ORGANIZATION_ID);
    let headers = [("X-Api-Key", KEY), json];
    exchange(gateway.public, &request("POST", "/api/v1/subscriptions", &headers, wish.as_bytes()));
    // Not even HTTP.
    let mut noise = Connection::open(gateway.public);
    noise.send(format!("{ENTRUSTED}\u{1b}[31m\r\n\r\n").as_bytes());
    assert_eq!(noise.answer().expect("an answer").status, 400);
    assert_eq!(gateway.terminate(), Some(0));

    let log = std::fs::read_to_string(log).expect("the log");
    let lines = log.lines().filter(|line| line.contains("\"message\":\"request\"")).count();
    assert!(lines >= count, "there is a line for each request: {lines}");
    let key = std::fs::read_to_string(folder.path().join("tls/key.pem")).expect("the key");
    let of_the_key = key.lines().nth(1).expect("base64");
    for secret in [ENTRUSTED, KEY, of_the_key, "\u{1b}", &"z".repeat(100)] {
        let found = log.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret}");
    }
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object()), "{line}");
    }
}
