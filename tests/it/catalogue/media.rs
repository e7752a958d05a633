//! Group C: content types and encodings.

use super::{Case, run};
use crate::support::gateway::{KEY, TestGateway};
use crate::support::raw::request;
use crate::support::records::nth_incident;

/// The cases of this group.
pub(crate) fn cases() -> Vec<Case> {
    let json = ("Content-Type", "application/json");
    let case = |id: &'static str, n: usize, expected: &'static [u16], headers: &[(&str, &str)]| {
        let headers: Vec<_> = std::iter::once(("X-Api-Key", KEY)).chain(headers.iter().copied()).collect();
        Case { id, bytes: request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes()), expected }
    };
    let bomb = {
        // 48 KB that a decoder would blow up; here it is only bytes with a label.
        let headers = [("X-Api-Key", KEY), json, ("Content-Encoding", "gzip")];
        request("POST", "/api/v1/records", &headers, &vec![0x1f; 48 * 1_024])
    };
    vec![
        case("C183 none", 1, &[415], &[]),
        case("C184 text/plain", 1, &[415], &[("Content-Type", "text/plain")]),
        case("C185 form", 1, &[415], &[("Content-Type", "application/x-www-form-urlencoded")]),
        case("C186 multipart", 1, &[415], &[("Content-Type", "multipart/form-data; boundary=x")]),
        case("C187 ;;;", 1, &[415], &[("Content-Type", ";;;")]),
        case("C188 two", 1, &[415], &[json, ("Content-Type", "text/plain")]),
        case("C189 utf-16", 1, &[415], &[("Content-Type", "application/json; charset=utf-16")]),
        case("C190 ld+json", 1, &[415], &[("Content-Type", "application/ld+json")]),
        case("C191 upper case", 191, &[202], &[("Content-Type", "APPLICATION/JSON; charset=UTF-8")]),
        case("C192 gzip", 1, &[415], &[json, ("Content-Encoding", "gzip")]),
        Case { id: "C193 gzip bomb", bytes: bomb, expected: &[415] },
        case("C194 br on plain", 1, &[415], &[json, ("Content-Encoding", "br")]),
        case("C195 thrice gzip", 1, &[415], &[json, ("Content-Encoding", "gzip, gzip, gzip")]),
        case("C196 identity", 196, &[202], &[json, ("Content-Encoding", "identity")]),
        case("C197 Accept", 197, &[202], &[json, ("Accept", "image/png")]),
    ]
}

#[test]
fn c_content_type_and_encoding() {
    run(&TestGateway::start(), &cases());
}
