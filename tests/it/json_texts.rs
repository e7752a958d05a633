//! What is JSON and what is not: each text of `tests/fixtures/json_texts.txt` in record details, in a property that nobody
//! knows, in details that are a string, and as the whole body. What is taken comes out byte for byte.

use serde_json::value::RawValue;

use crate::catalogue::{check_invariants, stored};
use crate::support::gateway::{KEY, Setup, TestGateway};
use crate::support::raw::{Answer, Connection, request};
use crate::support::records::{incident, nth_incident, record_id};

const TEXTS: &str = include_str!("../fixtures/json_texts.txt");

/// One line of the fixture.
struct Text {
    line: usize,
    /// Whether the gateway takes it.
    kept: bool,
    /// Whether it is its own decision.
    undefined: bool,
    bytes: Vec<u8>,
}

/// The bytes of a text in which `~` and two hex digits are one.
fn bytes(text: &str) -> Vec<u8> {
    if text == "~~" {
        return Vec::new();
    }
    let mut pieces = text.split('~');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("two hex digits"));
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
}

fn texts() -> Vec<Text> {
    let lines = TEXTS.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with([';', '[']));
    let texts = lines.map(|(at, line)| {
        let (verdict, text) = line.split_once(' ').unwrap_or_else(|| panic!("line {}: {line}", at + 1));
        let (kept, undefined) = match verdict {
            "keep" => (true, false),
            "refuse" => (false, false),
            "undefined-keep" => (true, true),
            "undefined-refuse" => (false, true),
            _ => panic!("line {}: {verdict}", at + 1),
        };
        Text { line: at + 1, kept, undefined, bytes: bytes(text) }
    });
    texts.collect()
}

/// Nesting, which is easier said than written: so many levels of these brackets.
fn nested(open: &str, close: &str, levels: usize) -> Vec<u8> {
    format!("{}1{}", open.repeat(levels), close.repeat(levels)).into_bytes()
}

/// A gateway that takes as many as there are.
fn gateway() -> TestGateway {
    let mut setup = Setup::default();
    setup.process.push_str("\n[limits]\nrequests_per_minute = 1_000_000\nburst = 1_000_000\n");
    TestGateway::start_with(&setup)
}

/// Posts a body. What the gateway keeps goes beyond what a reader with binary numbers can hold to a description.
fn post(gateway: &TestGateway, body: impl AsRef<[u8]>) -> Answer {
    let mut connection = Connection::open(gateway.public);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    connection.send(&request("POST", "/api/v1/records", &headers, body.as_ref()));
    connection.answer().expect("an answer")
}

/// The details of a record as they came out.
fn details_of(gateway: &TestGateway, receipt: &str) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct Shown<'a> {
        #[serde(borrow, rename = "recordDetails")]
        details: &'a RawValue,
    }
    let answer = gateway.administer("GET", &format!("/admin/v1/records/{receipt}?details=true"));
    let shown: Shown<'_> = serde_json::from_slice(&answer.body).expect("a record");
    shown.details.get().as_bytes().to_vec()
}

/// The body of the n-th record, with these bytes where `@` stands in the details.
fn with(n: usize, details: &str, bytes: &[u8]) -> Vec<u8> {
    let body = incident(&record_id(n), details);
    let (before, after) = body.split_once('@').expect("the place");
    [before.as_bytes(), bytes, after.as_bytes()].concat()
}

/// Collects what was not as expected, so that one run shows all.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn check(&mut self, text: &Text, answer: &Answer, expected: u16) -> bool {
        check_invariants(&format!("line {}", text.line), answer);
        let is_right = answer.status == expected;
        if !is_right {
            let shown = text.bytes.escape_ascii();
            self.0.push(format!("line {}: {} instead of {expected}: {shown}", text.line, answer.status));
        }
        is_right
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

fn status(kept: bool) -> u16 {
    if kept { 202 } else { 400 }
}

#[test]
fn there_are_enough_of_each_kind() {
    let texts = texts();
    let of = |kept: bool| texts.iter().filter(|text| text.kept == kept).count();
    assert!(texts.len() >= 250 && of(true) >= 100 && of(false) >= 100, "{} texts", texts.len());
    assert!(texts.iter().filter(|text| text.undefined).count() >= 20);
}

#[test]
fn in_record_details() {
    let (gateway, mut wrong) = (gateway(), Wrong::default());
    let texts = texts();
    for (n, text) in texts.iter().enumerate() {
        let answer = post(&gateway, with(n, r#"{"v":@}"#, &text.bytes));
        if wrong.check(text, &answer, status(text.kept)) && text.kept {
            let wanted = [br#"{"v":"#, &*text.bytes, b"}"].concat();
            let kept = details_of(&gateway, &answer.text("receiptId"));
            assert_eq!(kept.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "line {}", text.line);
        }
    }
    assert_eq!(stored(&gateway), texts.iter().filter(|text| text.kept).count());
}

#[test]
fn in_details_that_are_a_string() {
    let (gateway, mut wrong) = (gateway(), Wrong::default());
    // What is no text cannot stand in a string.
    for (n, text) in texts().iter().enumerate() {
        let Ok(inner) = std::str::from_utf8(&text.bytes) else { continue };
        let inner = format!(r#"{{"v":{inner}}}"#);
        let quoted = serde_json::to_string(&inner).expect("a string");
        let answer = post(&gateway, incident(&record_id(n), &quoted));
        if wrong.check(text, &answer, status(text.kept)) && text.kept {
            let kept = details_of(&gateway, &answer.text("receiptId"));
            assert_eq!(kept, inner.as_bytes(), "line {}", text.line);
        }
    }
}

#[test]
fn in_a_property_that_nobody_knows() {
    let (gateway, mut wrong) = (gateway(), Wrong::default());
    for (n, text) in texts().iter().enumerate() {
        let body = nth_incident(n);
        let body = [br#"{"unknown":"#, &*text.bytes, b",", &body.as_bytes()[1..]].concat();
        wrong.check(text, &post(&gateway, body), status(text.kept));
    }
}

#[test]
fn as_the_whole_body() {
    let (gateway, mut wrong) = (gateway(), Wrong::default());
    for text in texts() {
        let answer = post(&gateway, &text.bytes);
        wrong.check(&text, &answer, 400);
        // An object is refused for what it lacks, and everything else as a whole.
        let lacks_something = answer.json()["field"] == "organizationId";
        let is_object = text.kept && text.bytes.trim_ascii_start().starts_with(b"{");
        assert_eq!(lacks_something, is_object, "line {}: {answer:?}", text.line);
    }
    assert_eq!(stored(&gateway), 0);
}

#[test]
fn nesting_is_bounded_whatever_it_is_made_of() {
    let (gateway, mut wrong) = (gateway(), Wrong::default());
    let mut n = 0;
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]"), ("[ ", "\n]"), ("[0,", ",0]")] {
        let of_one = open.matches(['[', '{']).count();
        for levels in [1, 15, 30, 31, 32, 127, 128, 129, 1_000, 10_000] {
            // The body and the details are two of the 32 levels.
            let kept = levels * of_one <= 30;
            let text = Text { line: 0, kept, undefined: true, bytes: nested(open, close, levels) };
            wrong.check(&text, &post(&gateway, with(n, r#"{"v":@}"#, &text.bytes)), status(kept));
            n += 1;
        }
        let open_only = Text { line: 0, kept: false, undefined: false, bytes: open.repeat(20_000).into_bytes() };
        wrong.check(&open_only, &post(&gateway, with(n, r#"{"v":@}"#, &open_only.bytes)), 400);
        wrong.check(&open_only, &post(&gateway, &open_only.bytes), 400);
    }
}
