//! Group H: header fields, methods and paths; and header fields of group I.

use super::{Case, run};
use crate::support::gateway::{KEY, TestGateway};
use crate::support::raw::request;
use crate::support::records::nth_incident;

const RECORDS: &str = "/api/v1/records";

fn headers<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [("X-Api-Key", KEY), ("Content-Type", "application/json")].into_iter().chain(more.iter().copied()).collect()
}

fn with(id: &'static str, n: usize, expected: &'static [u16], more: &[(&str, &str)]) -> Case {
    Case { id, bytes: request("POST", RECORDS, &headers(more), nth_incident(n).as_bytes()), expected }
}

fn method(id: &'static str, expected: &'static [u16], method: &str, path: &str) -> Case {
    Case { id, bytes: request(method, path, &headers(&[]), b""), expected }
}

fn path(id: &'static str, expected: &'static [u16], path: &str) -> Case {
    Case { id, bytes: request("POST", path, &headers(&[]), nth_incident(1).as_bytes()), expected }
}

fn header_fields() -> Vec<Case> {
    let names: Vec<String> = (0..97).map(|n| format!("X-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let (long, longer) = ("v".repeat(17 * 1_024), "v".repeat(200_000));
    vec![
        with("H152 97 fields", 1, &[431], &many),
        with("H153 17 KiB field", 1, &[431], &[("X-Long", &long)]),
        with("H154 200 KB field", 1, &[431], &[("X-Long", &longer)]),
        with("H164 method override", 164, &[202], &[("X-HTTP-Method-Override", "GET")]),
        with("H180 X-Forwarded-For", 180, &[202], &[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Host", "evil")]),
        with("H181 Forwarded", 181, &[202], &[("Forwarded", "for=6.6.6.6;host=evil")]),
        with("H182 X-Original-URL", 182, &[202], &[("X-Original-URL", "/admin"), ("X-Rewrite-URL", "/admin")]),
        with("I285 long x-ms field", 285, &[202], &[("x-ms-client-tracking-id", &"t".repeat(5_000))]),
        with("I286 traceparent garbage", 286, &[202], &[("traceparent", "garbage")]),
        with("I287 internal fields", 287, &[202], &[("webhook-id", "x"), ("X-Internal-Admin", "1")]),
        with("I288 hop-by-hop drop", 288, &[202], &[("Connection", "X-Api-Key")]),
        with("I291 templates in the user agent", 289, &[202], &[("User-Agent", "a${jndi:ldap://x}{{7*7}}")]),
    ]
}

fn methods() -> Vec<Case> {
    let long = "M".repeat(1_000);
    vec![
        method("H157 GET", &[405], "GET", RECORDS),
        method("H158 PUT", &[405], "PUT", RECORDS),
        method("H158 DELETE", &[405], "DELETE", RECORDS),
        method("H158 PATCH", &[405], "PATCH", RECORDS),
        method("H159 TRACE", &[405], "TRACE", RECORDS),
        method("H160 CONNECT", &[405], "CONNECT", "gateway.test:443"),
        method("H161 OPTIONS *", &[404], "OPTIONS", "*"),
        method("H162 post", &[405], "post", RECORDS),
        method("H163 long method", &[405], &long, RECORDS),
        method("H157 GET on lease", &[405], "GET", "/api/v1/work-items/lease"),
        method("H158 POST on a list", &[405], "POST", "/api/v1/organizations"),
    ]
}

fn paths() -> Vec<Case> {
    let (five, seventy) = (format!("{RECORDS}?x={}", "a".repeat(5_000)), format!("{RECORDS}?x={}", "a".repeat(70_000)));
    let raw = |id, expected, target: &[u8]| {
        let mut bytes = b"POST ".to_vec();
        bytes.extend_from_slice(target);
        bytes.extend_from_slice(
            format!(" HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes(),
        );
        Case { id, bytes, expected }
    };
    let absolute = request("POST", "http://evil.example/api/v1/records", &headers(&[]), nth_incident(179).as_bytes());
    vec![
        path("H155 5 KiB target", &[414], &five),
        path("H156 70 KB target", &[414], &seventy),
        path("H165 double slashes", &[404], "//api//v1//records"),
        path("H166 trailing slash", &[404], "/api/v1/records/"),
        path("H167 ;a=b", &[404], "/api/v1/records;a=b"),
        path("H168 case", &[404], "/API/V1/Records"),
        path("H169 %2f", &[404], "/api/v1%2frecords"),
        path("H170 %72", &[404], "/api/v1/%72ecords"),
        path("H171 dots", &[404], "/api/v1/x/../records"),
        path("H172 %2e%2e%2f", &[404], "/api/v1/x/%2e%2e%2frecords"),
        method("H173 %00", &[400], "GET", "/api/v1/receipts/%00"),
        method("H174 %0d%0a", &[400], "GET", "/api/v1/receipts/a%0d%0aSet-Cookie:x"),
        method("H175 %ff", &[400], "GET", "/api/v1/receipts/%ff"),
        raw("H176 raw UTF-8", &[400], "/api/v1/récords".as_bytes()),
        raw("H177 fragment", &[400], b"/api/v1/records#frag"),
        raw("H178 backslash", &[404], b"/api/v1\\records"),
        raw("H179 foreign absolute target", &[400], b"http://evil.example/api/v1/records"),
        Case { id: "H179 foreign host of a good record", bytes: absolute, expected: &[202] },
    ]
}

/// The cases of this group.
pub(crate) fn cases() -> Vec<Case> {
    [header_fields(), methods(), paths()].concat()
}

#[test]
fn h_heads() {
    let gateway = TestGateway::start();
    run(&gateway, &cases());
    let answer = gateway.call("GET", RECORDS, KEY, b"");
    assert_eq!(answer.header("allow"), Some("POST"), "H157");
}
