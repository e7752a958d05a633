//! The whole door under whatever chance makes: any bytes as a body, any bytes as a request, good requests with faults in
//! them. Whatever comes, the process lives, nothing is a 5xx but 503, nothing is stored but what got a 202, each answer is
//! one line of the log, and what is refused is refused in JSON of at most 2 KiB.
//!
//! Short here; `STREAMGATE_DOOR_CASES=100000 cargo test --test it door:: -- --nocapture` runs for as long as one likes. The
//! seed is printed, and `STREAMGATE_DOOR_SEED` takes it back.

#![allow(clippy::print_stdout, reason = "the seed and the figures are for whoever looks at a run")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

use crate::catalogue::check_invariants;
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::metric;
use crate::support::process::Process;
use crate::support::raw::{Answer, Connection, exchange, request};
use crate::support::records::{INCIDENT, INSPECTION, LEAD, ORGANIZATION_ID, nth_incident};

/// Cases of each property, unless somebody asks for more.
const CASES: u32 = 300;

/// Pieces that mean something to a parser somewhere.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"#",
    b"%00",
    b"%2f",
    b"../",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"1e999",
    b"\xff",
    b"\xed\xa0\x80",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"1;x=y\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Upgrade: websocket\r\n",
    b"Host: other\r\n",
    b" HTTP/1.0",
    b"GET / HTTP/1.1\r\nHost: g\r\n\r\n",
];

/// Bytes that a failure shows as text.
#[derive(Clone)]
struct Sent(Vec<u8>);

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// One thing done to bytes that were good.
#[derive(Debug, Clone)]
enum Fault {
    Set(Index, u8),
    Put(Index, Vec<u8>),
    Take(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

impl Fault {
    fn any() -> impl Strategy<Value = Self> {
        let token = prop::sample::select(TOKENS).prop_map(<[u8]>::to_vec);
        let bytes = prop::collection::vec(any::<u8>(), 1..8);
        prop_oneof![
            3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            4 => (any::<Index>(), token).prop_map(|(at, bytes)| Self::Put(at, bytes)),
            1 => (any::<Index>(), bytes).prop_map(|(at, bytes)| Self::Put(at, bytes)),
            2 => (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Self::Take(at, length)),
            2 => (any::<Index>(), 1..400_usize).prop_map(|(at, length)| Self::Repeat(at, length)),
            1 => any::<Index>().prop_map(Self::Cut),
        ]
    }

    fn done_to(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        let piece = |at: usize, length: usize| at..(at + length).min(bytes.len());
        match self {
            Self::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Put(at, put) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, put.iter().copied());
            }
            Self::Take(at, length) => drop(bytes.drain(piece(at.index(bytes.len()), *length))),
            Self::Repeat(at, length) => {
                let at = at.index(bytes.len());
                let again = bytes[piece(at, *length)].to_vec();
                bytes.splice(at..at, again);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
        bytes
    }
}

/// Good bytes with a few faults.
fn faulty(good: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (good, prop::collection::vec(Fault::any(), 1..5))
        .prop_map(|(good, faults)| faults.iter().fold(good, |bytes, fault| fault.done_to(bytes)))
}

/// The bodies of good records.
fn good_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(INCIDENT.to_owned()),
        Just(LEAD.to_owned()),
        Just(INSPECTION.to_owned()),
        (0..1_000_usize).prop_map(nth_incident),
    ]
    .prop_map(String::into_bytes)
}

/// Good requests of every kind, in chunks too, and several on one connection.
fn good_request() -> impl Strategy<Value = Vec<u8>> {
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let get = |path: &str| Just(request("GET", path, &[("X-Api-Key", KEY)], b""));
    let lease = format!(r#"{{"organizationId":"{ORGANIZATION_ID}","max":1}}"#);
    let chunked = good_body().prop_map(move |body| {
        let (one, other) = body.split_at(body.len() / 2);
        let head = request("POST", "/api/v1/records", &headers, b"");
        let head = String::from_utf8(head).expect("text").replace("Content-Length: 0", "Transfer-Encoding: chunked");
        let size = |piece: &[u8]| format!("{:x}\r\n", piece.len()).into_bytes();
        [head.as_bytes(), &size(one), one, b"\r\n", &size(other), other, b"\r\n0\r\nX-T: 1\r\n\r\n"].concat()
    });
    let one = prop_oneof![
        4 => good_body().prop_map(move |body| request("POST", "/api/v1/records", &headers, &body)),
        3 => chunked,
        1 => good_body().prop_map(move |body| request("POST", "/api/v1/records/explain", &headers, &body)),
        1 => Just(request("POST", "/api/v1/work-items/lease", &headers, lease.as_bytes())),
        1 => get("/api/v1/connection"),
        1 => get("/api/v1/receipts/w3Zp0c5Jq1mK8yT2uVbXo4RrLhNfGdSa"),
        1 => get("/api/v1/entity-configurations?entityLogicalName=incident"),
    ]
    .boxed();
    prop::collection::vec(one, 1..4).prop_map(|requests| requests.concat())
}

/// A gateway as a process, and what has been seen of it.
struct Door {
    process: Process,
    folder: TempDir,
    answers: Cell<usize>,
    receipts: RefCell<BTreeSet<String>>,
}

impl Door {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::default();
        setup.process.push_str("\n[limits]\nrequests_per_minute = 50_000_000\nburst = 50_000_000\nwrong_credentials_per_second = 1_000_000\nrequest_deadline_seconds = 5\n[log]\nformat = \"json\"\n");
        write_configuration(folder.path(), &setup);
        let process = Process::start_logging(folder.path(), &folder.path().join("log"));
        Self { process, folder, answers: Cell::new(0), receipts: RefCell::default() }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What holds for every answer.
    fn saw(&self, answer: &Answer) {
        // `100 Continue` is no answer yet.
        if answer.status < 200 {
            return;
        }
        self.answers.set(self.answers.get() + 1);
        if answer.status >= 400 {
            check_invariants("chance", answer);
        } else if answer.status == 202 && answer.json()["test"] == false {
            self.receipts.borrow_mut().insert(answer.text("receiptId"));
        }
    }

    /// Sends bytes, ends the sending side, and sees all that comes back.
    fn sent(&self, bytes: &[u8]) {
        let mut connection = Connection::open(self.process.public);
        connection.send(bytes);
        connection.finish_sending();
        while let Some(answer) = connection.answer() {
            self.saw(&answer);
        }
    }

    /// The balance: what was stored, what was logged, and a stop in order.
    fn closed(self) {
        let metrics = exchange(self.process.admin, &request("GET", "/metrics", &[], b"")).body;
        let metrics = String::from_utf8(metrics).expect("text");
        let stored = usize::try_from(metric(&metrics, "streamgate_store_high_water_mark")).expect("a number");
        let log = self.log();
        assert_eq!(self.process.terminate(), Some(0));
        let log = std::fs::read_to_string(log).expect("the log is UTF-8");
        let line = |line: &str| -> serde_json::Value {
            serde_json::from_str(line).unwrap_or_else(|_| panic!("a line that is no log line: {line}"))
        };
        let lines: Vec<serde_json::Value> =
            log.lines().map(line).filter(|line| !line["request.id"].is_null()).collect();
        let answered = lines.iter().filter(|line| line["http.status"].is_u64()).count();
        // And the scrape.
        assert_eq!(answered, self.answers.get() + 1, "one line of the log for each answer");
        // Who ends the sending side in the middle of a request has left, and gets no answer to those before it either.
        let left = lines.len() - answered;
        let receipts = self.receipts.borrow().len();
        assert!(
            (receipts..=receipts + left).contains(&stored),
            "{stored} stored, {receipts} answered with 202, {left} left"
        );
        println!("{} answers, {receipts} records, {left} left", self.answers.get());
    }
}

/// Runs a property over a gateway of its own.
fn holds(name: &str, bytes: impl Strategy<Value = Vec<u8>>, property: impl Fn(&Door, &[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cases = number("STREAMGATE_DOOR_CASES").unwrap_or_else(|| u64::from(CASES));
    let seed = number("STREAMGATE_DOOR_SEED").unwrap_or_else(|| getrandom::u64().expect("random bits"));
    println!("{name}: {cases} cases, STREAMGATE_DOOR_SEED={seed}");
    let mut whole = [0; 32];
    whole[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: u32::try_from(cases).expect("so many"),
        max_shrink_iters: 500,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &whole));
    let door = Door::open();
    let outcome = runner.run(&bytes.prop_map(Sent), |Sent(bytes)| {
        property(&door, &bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|fault| panic!("STREAMGATE_DOOR_SEED={seed}: {fault}"));
    door.closed();
}

#[test]
fn any_body_is_judged() {
    let bodies = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1_000),
        faulty(good_body()),
        ".{0,300}".prop_map(|text| format!("{{\"organizationId\":{text}}}").into_bytes()),
        ".{0,300}".prop_map(|text| crate::support::records::incident(&text, &text).into_bytes()),
    ];
    // A connection is used for as long as the gateway keeps it.
    let kept: RefCell<Option<Connection>> = RefCell::default();
    holds("any body", bodies, |door, body| {
        let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
        let bytes = request("POST", "/api/v1/records", &headers, body);
        let mut connection = kept.take().unwrap_or_else(|| Connection::open(door.process.public));
        connection.send(&bytes);
        let answer = connection.answer().expect("a whole request gets an answer");
        door.saw(&answer);
        if answer.header("connection") != Some("close") {
            *kept.borrow_mut() = Some(connection);
        }
    });
}

#[test]
fn any_bytes_may_be_sent() {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1_000),
        prop::collection::vec(prop::sample::select(TOKENS), 0..30).prop_map(|tokens| tokens.concat()),
        prop::collection::vec(any::<u8>(), 0..200)
            .prop_map(|bytes| [b"POST / HTTP/1.1\r\nHost: g\r\n", &*bytes].concat()),
    ];
    holds("any bytes", bytes, Door::sent);
}

#[test]
fn good_requests_with_faults_are_judged() {
    holds("faulty requests", faulty(good_request()), Door::sent);
}
