//! Group S: slow clients, many clients, clients that leave.

use super::check_invariants;
use crate::support::gateway::{KEY, Setup, TestGateway};
use crate::support::raw::{Answer, Connection, request};
use crate::support::records::nth_incident;
use crate::support::{eventually, metric};

/// A gateway that waits for one second where the usual one waits for ten.
pub(crate) fn impatient(mut setup: Setup) -> TestGateway {
    setup.process.push_str("\n[limits]\nrequest_deadline_seconds = 1\nkeep_alive_seconds = 1\n");
    TestGateway::start_with(&setup)
}

#[test]
fn s302_s303_s304_s306_f108_slow_clients_are_told_or_closed() {
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
fn an_idle_connection_may_be_idle_for_longer_than_a_request_may_take() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nrequest_deadline_seconds = 1\nkeep_alive_seconds = 3\n");
    let gateway = TestGateway::start_with(&setup);
    let mut idle = Connection::open(gateway.public);
    idle.send(&request("GET", "/api/v1/connection", &[("X-Api-Key", KEY)], b""));
    assert_eq!(idle.answer().expect("an answer").status, 200);
    let began = std::time::Instant::now();
    assert!(idle.closes(), "without a word");
    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "after {:?}", began.elapsed());
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
    eventually("a place to be free again", || {
        let mut connection = Connection::open(gateway.public);
        connection.send(&hello);
        connection.answer().filter(|answer| answer.status == 200)
    });
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
    eventually("the connection to be cut", || {
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
    assert_eq!(metric(&metrics, "streamgate_in_flight_body_bytes"), 0, "what is only announced counts nothing");
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

#[test]
fn s305_a_reader_who_does_not_read_is_cut() {
    let mut setup = Setup::default();
    setup
        .process
        .push_str("\n[limits]\nrequest_deadline_seconds = 1\nkeep_alive_seconds = 1\nmax_connections_per_peer = 1\n");
    let gateway = TestGateway::start_with(&setup);
    let mut deaf = Connection::open(gateway.public);
    deaf.send(&request("GET", "/openapi/openapi.json", &[], b"").repeat(400));
    let began = std::time::Instant::now();
    let hello = request("GET", "/api/v1/connection", &[("X-Api-Key", KEY)], b"");
    eventually("the only place to be free again", || {
        let mut next = Connection::open(gateway.public);
        next.send(&hello);
        next.answer().filter(|answer| answer.status == 200)
    });
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn s308_a_client_that_resets_leaves_one_record_or_none_and_no_connection() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nmax_connections_per_peer = 4\n");
    let gateway = TestGateway::start_with(&setup);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let hello = request("GET", "/api/v1/connection", &headers, b"");
    for n in 0..20 {
        eventually("the connection to be made and reset", || {
            let mut stream = std::net::TcpStream::connect(gateway.public).expect("connected");
            use std::io::Write as _;
            stream.write_all(&hello).ok()?;
            // An answer that is there and was not read makes the kernel reset what is dropped.
            let mut first = [0; 12];
            stream.peek(&mut first).ok().filter(|read| *read == 12 && first.ends_with(b"200"))?;
            stream.write_all(&request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes())).ok()
        });
    }
    // The places of those that are gone are free again.
    let again = |n: usize| {
        eventually("a place", || {
            let mut connection = Connection::open(gateway.public);
            connection.send(&request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes()));
            connection.answer().filter(|answer| answer.status == 202)
        })
    };
    for n in 0..20 {
        again(n);
    }
    assert_eq!(super::stored(&gateway), 20, "each once, whether the first try was stored or not");
    let metrics = crate::support::raw::exchange(gateway.admin, &request("GET", "/metrics", &[], b""));
    let metrics = String::from_utf8(metrics.body).expect("text");
    assert_eq!(metric(&metrics, "streamgate_in_flight_body_bytes"), 0);
}

#[test]
fn s310_one_connection_may_send_more_than_one_flow_can() {
    let gateway = TestGateway::start();
    let mut connection = Connection::open(gateway.public);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    for n in 0..501 {
        connection.send(&request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes()));
        assert_eq!(connection.answer().expect("an answer").status, 202, "request {n}");
    }
}

#[test]
fn s311_s312_a_burst_over_the_rate_gets_429_and_never_a_fault() {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nrequests_per_minute = 60\nburst = 1_000\n");
    let gateway = TestGateway::start_with(&setup);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let burst = |from: usize| -> Vec<Answer> {
        let mut connection = Connection::open(gateway.public);
        let all: Vec<u8> = (from..from + 100)
            .flat_map(|n| request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes()))
            .collect();
        connection.send(&all);
        (0..100).map(|_| connection.answer().expect("an answer")).collect()
    };
    let burst = &burst;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let bursts: Vec<_> = (0..25).map(|at| scope.spawn(move || burst(at * 100))).collect();
        bursts.into_iter().flat_map(|burst| burst.join().expect("answers")).collect()
    });
    let of = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(of(202) + of(429), 2_500);
    assert!((1_000..1_100).contains(&of(202)), "{} were taken", of(202));
    for refused in answers.iter().filter(|answer| answer.status == 429) {
        check_invariants("S311", refused);
        let wait: u64 = refused.header("retry-after").and_then(|value| value.parse().ok()).expect("a time to wait");
        assert!(wait >= 5, "{wait} s");
    }
}
