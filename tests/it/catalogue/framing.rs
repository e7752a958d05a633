//! Group F: HTTP framing, as one process can show it, and the slow clients of group S.

use super::{Case, check_invariants, run};
use crate::support::gateway::{KEY, Setup, TestGateway};
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

fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

#[test]
fn f_lengths_and_chunks() {
    lengths_and_chunks(&TestGateway::start());
}

pub(crate) fn lengths_and_chunks(gateway: &TestGateway) {
    let body = nth_incident(1);
    let length = format!("Content-Length: {}\r\n", body.len());
    let te = "Transfer-Encoding: chunked\r\n";
    let bad_length = |value: &str| format!("Content-Length: {value}\r\n");
    let n = body.len();
    let cases = [
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
    ];
    run(gateway, &cases);
}

#[test]
fn f_request_lines_and_fields() {
    request_lines_and_fields(&TestGateway::start());
}

pub(crate) fn request_lines_and_fields(gateway: &TestGateway) {
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
    let cases = [
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
        raw("F150 Expect: 200-ok", &[202, 417], &format!("Expect: 200-ok\r\n{}", length(150)), nth_incident(150)),
    ];
    run(gateway, &cases);

    let leading = [b"\r\n\r\n", &*raw("", &[], &length(145), nth_incident(145)).bytes].concat();
    run(gateway, &[Case { id: "F145 leading CRLFs", bytes: leading, expected: &[202] }]);
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

/// A gateway that waits for one second where the usual one waits for ten.
pub(crate) fn impatient(mut setup: Setup) -> TestGateway {
    setup.process.push_str("\n[limits]\nrequest_deadline_seconds = 1\nkeep_alive_seconds = 1\n");
    TestGateway::start_with(&setup)
}

#[test]
fn slow_clients_are_told_or_closed() {
    slow_clients(&impatient(Setup::default()));
}

pub(crate) fn slow_clients(gateway: &TestGateway) {
    let head = |bytes: usize| {
        format!(
            "POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
        )
    };

    let mut nothing = Connection::open(gateway.public);
    let mut half_head = Connection::open(gateway.public);
    half_head.send(b"POST /api/v1/records HTTP/1.1\r\nHost: g");
    let mut half_body = Connection::open(gateway.public);
    half_body.send(head(1_000).as_bytes());
    half_body.send(b"{\"organ");
    let mut second = Connection::open(gateway.public);
    let good = nth_incident(303);
    second.send(head(good.len()).as_bytes());
    second.send(good.as_bytes());
    assert_eq!(second.answer().expect("an answer").status, 202);
    second.send(b"POST /api/v1/records HTTP/1.1\r\nHost");
    let mut idle = Connection::open(gateway.public);
    let good = nth_incident(304);
    idle.send(head(good.len()).as_bytes());
    idle.send(good.as_bytes());
    assert_eq!(idle.answer().expect("an answer").status, 202);

    for (id, connection) in
        [("S306", &mut nothing), ("S302", &mut half_head), ("F108 S304", &mut half_body), ("S303", &mut second)]
    {
        let answer = connection.answer().unwrap_or_else(|| panic!("{id}: closed without an answer"));
        check_invariants(id, &answer);
        assert_eq!(answer.status, 408, "{id}");
        assert!(connection.closes(), "{id}");
    }
    assert!(idle.closes(), "an idle connection closes without a word");
}

#[test]
fn s309_a_half_closed_connection_gets_its_answer() {
    half_closed(&TestGateway::start());
}

pub(crate) fn half_closed(gateway: &TestGateway) {
    let mut connection = Connection::open(gateway.public);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    connection.send(&request("POST", "/api/v1/records", &headers, nth_incident(309).as_bytes()));
    connection.finish_sending();
    assert_eq!(connection.answer().expect("an answer").status, 202);
}

#[test]
fn s307_connections_from_one_address_are_bounded() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nmax_connections_per_peer = 8\n");
    let gateway = TestGateway::start_with(&setup);
    let headers = [("X-Api-Key", KEY)];
    let hello = request("GET", "/api/v1/connection", &headers, b"");
    let mut held: Vec<Connection> = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(gateway.public);
        connection.send(&hello);
        assert_eq!(connection.answer().expect("an answer").status, 200);
        held.push(connection);
    }
    let mut ninth = Connection::open(gateway.public);
    let answer = ninth.answer().expect("a reason");
    check_invariants("S307", &answer);
    assert_eq!((answer.status, answer.text("code").as_str()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    held.clear();
    crate::support::eventually("a place to be free again", || {
        let mut connection = Connection::open(gateway.public);
        connection.send(&hello);
        connection.answer().filter(|answer| answer.status == 200)
    });
}

#[test]
fn h177_a_fragment_is_refused_behind_empty_lines_too() {
    let gateway = TestGateway::start();
    let bytes = format!("\r\nGET /api/v1/connection#frag HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\n\r\n");
    run(&gateway, &[Case { id: "H177 behind CRLF", bytes: bytes.into_bytes(), expected: &[400] }]);
}

#[test]
fn a_flood_that_is_never_read_is_cut() {
    // With deadlines this long, only the cut for blocked writes can end the connection.
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nrequest_deadline_seconds = 300\nkeep_alive_seconds = 300\n");
    let gateway = TestGateway::start_with(&setup);
    let mut flood = std::net::TcpStream::connect(gateway.public).expect("connected");
    flood.set_nonblocking(true).expect("non-blocking");
    let one = request("GET", "/api/v1/entity-configurations", &[], b"");
    let many = one.repeat(200);
    let mut at = 0;
    crate::support::eventually("the connection to be cut", || {
        use std::io::Write as _;
        match flood.write(&many[at..]) {
            Ok(written) => {
                at = (at + written) % many.len();
                None
            }
            Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(_cut) => Some(()),
        }
    });
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
}

#[test]
fn bodies_that_are_only_announced_hold_nobody_up() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nmax_body_bytes = 8388608\nmax_in_flight_bytes = 16777216\n");
    let gateway = TestGateway::start_with(&setup);
    let head = format!(
        "POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Api-Key: {}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 8388608\r\n\r\n",
        crate::support::gateway::FABRIKAM_KEY
    );
    let held: Vec<Connection> = (0..8)
        .map(|_| {
            let mut connection = Connection::open(gateway.public);
            connection.send(head.as_bytes());
            // The gateway waits for the body now.
            assert_eq!(connection.answer().expect("an interim answer").status, 100);
            connection
        })
        .collect();
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
    let metrics = crate::support::raw::exchange(gateway.admin, &request("GET", "/metrics", &[], b""));
    let metrics = String::from_utf8(metrics.body).expect("text");
    assert!(metrics.contains("streamgate_in_flight_body_bytes 0\n"), "what is only announced counts nothing");
    drop(held);
}

#[test]
fn an_expectation_changes_neither_the_order_of_checks_nor_what_is_counted() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nwrong_credentials_per_second = 5\n");
    let gateway = TestGateway::start_with(&setup);
    let ask = |method: &str, path: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: g\r\nX-Api-Key: sg_wrong\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"
        );
        let mut connection = Connection::open(gateway.public);
        connection.send(head.as_bytes());
        let first = connection.answer().expect("an answer");
        if first.status == 100 { connection.answer().expect("the answer") } else { first }
    };
    assert_eq!(ask("PUT", "/api/v1/records").status, 405);
    assert_eq!(ask("POST", "/nowhere").status, 404);
    let answers: Vec<_> = (0..50).map(|_| ask("POST", "/api/v1/records")).collect();
    assert!(answers.iter().any(|answer| answer.status == 429), "wrong keys are counted");
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    assert!(answers[0].json()["catalogGeneration"].is_u64());
}
