//! Group F: HTTP framing.

use super::{Case, check_invariants, run};
use crate::support::gateway::{KEY, TestGateway};
use crate::support::raw::{Connection, request};
use crate::support::records::nth_incident;

/// A post with these raw header lines and this raw remainder.
fn raw(id: &'static str, expected: &'static [u16], lines: &str, rest: impl AsRef<[u8]>) -> Case {
    versioned(id, expected, "HTTP/1.1", &format!("Host: gateway.test\r\n{lines}"), rest)
}

fn versioned(id: &'static str, expected: &'static [u16], version: &str, lines: &str, rest: impl AsRef<[u8]>) -> Case {
    let head =
        format!("POST /api/v1/records {version}\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\n{lines}\r\n");
    Case { id, bytes: [head.as_bytes(), rest.as_ref()].concat(), expected }
}

#[test]
fn f108_a_body_that_ends_with_the_connection_is_never_taken() {
    let gateway = TestGateway::start();
    let body = nth_incident(108);
    let announced = format!("Content-Length: {}\r\n", body.len() + 1);
    let size_line = format!("{:x}\r\n", body.len());
    for cut in [
        raw("F108 length", &[], &announced, &body),
        raw("F108 last chunk", &[], "Transfer-Encoding: chunked\r\n", format!("{size_line}{body}\r\n")),
        raw("F108 last line", &[], "Transfer-Encoding: chunked\r\n", format!("{size_line}{body}\r\n0\r\n")),
    ] {
        let mut connection = Connection::open(gateway.public);
        connection.send(&cut.bytes);
        connection.finish_sending();
        while let Some(answer) = connection.answer() {
            check_invariants(cut.id, &answer);
            assert_eq!(answer.status, 400, "{}", cut.id);
        }
    }
    assert_eq!(super::stored(&gateway), 0);
}

#[test]
fn what_is_broken_behind_http_1_0_is_told_in_json_too() {
    let gateway = TestGateway::start();
    let mut connection = Connection::open(gateway.public);
    connection.send(b"GET /nowhere HTTP/1.1\r\nHost: g\r\n\r\nGET /nowhere HTTP/1.0\r\nConnection: keep-alive\r\n\r\nnonsense\r\n\r\n");
    let statuses: Vec<u16> = std::iter::from_fn(|| connection.answer())
        .inspect(|answer| check_invariants("HTTP/1.0", answer))
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses, [404, 404, 400]);
}

/// Chunked bodies that bring what the parser reads without a bound: extensions and trailer fields.
fn over_bounds() -> Vec<Case> {
    let te = "Transfer-Encoding: chunked\r\n";
    let body = nth_incident(1);
    let n = body.len();
    let extended = |n: usize, bytes: usize| {
        let body = nth_incident(n);
        format!("{:x};{}\r\n{body}\r\n0\r\n\r\n", body.len(), "x".repeat(bytes))
    };
    vec![
        raw("F121 100 KB extension", &[400], te, extended(1, 100_000)),
        raw("F121 1,000 bytes of extension", &[202], te, extended(121, 1_000)),
        raw("F121 on the last chunk", &[400], te, format!("{n:x}\r\n{body}\r\n0;{}\r\n\r\n", "x".repeat(2_000))),
        raw("F122 endless extension", &[400], te, format!("{n:x};{}", "x".repeat(4_000_000))),
        raw("F123 endless trailers", &[400], te, format!("{n:x}\r\n{body}\r\n0\r\n{}", "T: 1\r\n".repeat(500_000))),
    ]
}

fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

fn lengths_and_chunks() -> Vec<Case> {
    let body = nth_incident(1);
    let length = format!("Content-Length: {}\r\n", body.len());
    let te = "Transfer-Encoding: chunked\r\n";
    let bad_length = |value: &str| format!("Content-Length: {value}\r\n");
    let n = body.len();
    vec![
        raw("F97 both", &[400], &format!("{length}{te}"), chunk(&body)),
        raw("F98 twice, equal", &[400], &format!("{length}{length}"), &body),
        raw("F99 twice, different", &[400], &format!("{length}Content-Length: 1\r\n"), &body),
        raw("F100 list", &[400], &bad_length(&format!("{n}, {n}")), &body),
        raw("F101 plus", &[400], &bad_length(&format!("+{n}")), &body),
        raw("F102 minus", &[400], &bad_length("-1"), &body),
        raw("F103 hex", &[400], &bad_length("0x16"), &body),
        raw("F104 10^24", &[400], &bad_length(&format!("1{}", "0".repeat(24))), &body),
        raw("F105 empty", &[400], &bad_length(""), &body),
        raw("F106 no length", &[400], "", &body),
        raw("F107 too short", &[400], &bad_length(&(n - 5).to_string()), &body),
        raw("F109 xchunked", &[400], "Transfer-Encoding: xchunked\r\n", chunk(&body)),
        raw("F110 chunked, identity", &[400], "Transfer-Encoding: chunked, identity\r\n", chunk(&body)),
        raw("F111 gzip, chunked", &[400], "Transfer-Encoding: gzip, chunked\r\n", chunk(&body)),
        raw("F112 identity", &[400], "Transfer-Encoding: identity\r\n", &body),
        raw("F113 twice", &[400], &format!("{te}{te}"), chunk(&body)),
        raw("F114 blank before colon", &[400], "Transfer-Encoding : chunked\r\n", chunk(&body)),
        raw("F115 vertical tab", &[400], "Transfer-Encoding: \x0bchunked\r\n", chunk(&body)),
        raw("F116 ChUnKeD", &[202], "Transfer-Encoding: ChUnKeD\r\n", chunk(&nth_incident(116))),
        raw("F117 chunk -1", &[400], te, "-1\r\nx\r\n0\r\n\r\n"),
        raw("F118 chunk 0x16", &[400], te, "0x16\r\nx\r\n0\r\n\r\n"),
        raw("F119 chunk > u64", &[400], te, "fffffffffffffffff\r\nx\r\n0\r\n\r\n"),
        raw("F120 chunk bare LF", &[400], te, format!("{n:x}\n{body}\n0\n\n")),
        raw(
            "F123 trailer",
            &[202],
            te,
            format!("{:x}\r\n{}\r\n0\r\nX-T: 1\r\n\r\n", nth_incident(123).len(), nth_incident(123)),
        ),
        raw(
            "F124 trailer fields",
            &[202],
            te,
            format!(
                "{:x}\r\n{}\r\n0\r\nContent-Length: 5\r\nAuthorization: x\r\n\r\n",
                nth_incident(124).len(),
                nth_incident(124)
            ),
        ),
        versioned("F125 1.0 + chunked", &[400], "HTTP/1.0", &format!("Host: g\r\n{te}"), chunk(&body)),
        versioned("F126 1.0 without length", &[400], "HTTP/1.0", "Host: g\r\n", &body),
    ]
}

fn request_lines_and_fields() -> Vec<Case> {
    let body = nth_incident(1);
    let length = |n: usize| format!("Content-Length: {}\r\n", nth_incident(n).len());
    let whole = |id, expected, text: String| Case { id, bytes: text.into_bytes(), expected };
    let line = |version: &str| format!("POST /api/v1/records {version}\r\nHost: g\r\n\r\n");
    let bytes = |id, expected, value: &[u8]| {
        let mut bytes = b"POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Odd: a".to_vec();
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"b\r\n\r\n");
        Case { id, bytes, expected }
    };
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, b'\r', b'\n', b'\r', b'\n'];
    let leading = [b"\r\n\r\n", &*raw("", &[], &length(145), nth_incident(145)).bytes].concat();
    let bare = raw("", &[], &length(137), nth_incident(137)).bytes;
    let bare = String::from_utf8(bare).expect("text").replace("\r\n", "\n");
    vec![
        versioned("F127 no host", &[400], "HTTP/1.1", &length(1), &body),
        raw("F128 two hosts", &[400], &format!("Host: other\r\n{}", length(1)), &body),
        versioned("F129 host x y", &[400], "HTTP/1.1", &format!("Host: x y\r\n{}", length(1)), &body),
        versioned("F130 host a@b", &[400], "HTTP/1.1", &format!("Host: a@b\r\n{}", length(1)), &body),
        raw("F131 folded field", &[400], &format!("X-Fold: a\r\n b\r\n{}", length(1)), &body),
        raw("F132 no colon", &[400], &format!("Nonsense\r\n{}", length(1)), &body),
        raw("F133 blank before colon", &[400], &format!("X-Odd : a\r\n{}", length(1)), &body),
        raw("F134 no name", &[400], &format!(": a\r\n{}", length(1)), &body),
        bytes("F135 NUL in a value", &[400], b"\0"),
        bytes("F136 CR in a value", &[400], b"\r"),
        raw("F138 name not ASCII", &[400], &format!("X-\u{e9}: a\r\n{}", length(1)), &body),
        whole("F139 HTTP/2 preface", &[400], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        whole("F140 HTTP/1.2", &[400], line("HTTP/1.2")),
        whole("F141 HTTP/9.9", &[400], line("HTTP/9.9")),
        whole("F142 HTTP/0.9", &[400], "GET /api/v1/records\r\n\r\n".to_owned()),
        Case { id: "F143 TLS hello", bytes: hello.to_vec(), expected: &[400] },
        whole("F144 two blanks", &[400], "POST  /api/v1/records  HTTP/1.1\r\nHost: g\r\n\r\n".to_owned()),
        raw("F146 websocket", &[400], &format!("Connection: upgrade\r\nUpgrade: websocket\r\n{}", length(1)), &body),
        raw("F147 h2c", &[202], &format!("Connection: upgrade\r\nUpgrade: h2c\r\n{}", length(147)), nth_incident(147)),
        raw("F150 Expect: 200-ok", &[202], &format!("Expect: 200-ok\r\n{}", length(150)), nth_incident(150)),
        Case { id: "F145 leading CRLFs", bytes: leading, expected: &[202] },
        whole("F137 bare line feeds", &[202], bare),
        whole(
            "H177 fragment behind CRLF",
            &[400],
            format!("\r\nGET /api/v1/connection#frag HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\n\r\n"),
        ),
    ]
}

/// The cases of this group that are one exchange each.
pub(crate) fn cases() -> Vec<Case> {
    [within_bounds(), over_bounds()].concat()
}

/// Those of them that are sent before they are answered. Megabytes that are refused on their way end a connection with
/// whatever is still under way, and by TLS the answer may be a part of that.
pub(crate) fn within_bounds() -> Vec<Case> {
    [lengths_and_chunks(), request_lines_and_fields()].concat()
}

#[test]
fn f_framing() {
    run(&TestGateway::start(), &cases());
}

#[test]
fn f107_what_follows_a_short_length_is_never_accepted() {
    what_follows_a_short_length(&TestGateway::start());
}

pub(crate) fn what_follows_a_short_length(gateway: &TestGateway) {
    let mut connection = Connection::open(gateway.public);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let inner = request("POST", "/api/v1/records", &headers, nth_incident(7).as_bytes());
    let outer = raw("", &[], "Content-Length: 5\r\n", b"{\"a\":");
    connection.send(&[&outer.bytes[..], b"junk ", &inner[..]].concat());
    while let Some(answer) = connection.answer() {
        check_invariants("F107", &answer);
        assert_eq!(answer.status, 400);
    }
    assert_eq!(super::stored(gateway), 0);
}

#[test]
fn f148_an_expectation_is_met_and_f149_not_for_strangers() {
    let gateway = TestGateway::start();
    let body = nth_incident(148);
    let head = |key: &str| {
        format!(
            "POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Api-Key: {key}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
    };
    let mut connection = Connection::open(gateway.public);
    connection.send(head(KEY).as_bytes());
    assert_eq!(connection.answer().expect("an interim answer").status, 100);
    connection.send(body.as_bytes());
    assert_eq!(connection.answer().expect("an answer").status, 202);

    let mut connection = Connection::open(gateway.public);
    connection.send(head("sg_wrong").as_bytes());
    assert_eq!(connection.answer().expect("an answer").status, 401, "no 100 for a stranger");
}

#[test]
fn f151_pipelined_requests_are_answered_in_order() {
    pipelined_requests(&TestGateway::start());
}

pub(crate) fn pipelined_requests(gateway: &TestGateway) {
    let mut connection = Connection::open(gateway.public);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let all: Vec<u8> = (0..40)
        .flat_map(|n| {
            // Every other one is a bad one, so that the order shows.
            let body = if n % 2 == 0 { nth_incident(n) } else { "{}".to_owned() };
            request("POST", "/api/v1/records", &headers, body.as_bytes())
        })
        .collect();
    connection.send(&all);
    for n in 0..40 {
        let answer = connection.answer().expect("an answer");
        assert_eq!(answer.status, if n % 2 == 0 { 202 } else { 400 }, "request {n}");
    }
    assert_eq!(super::stored(gateway), 20);
}
