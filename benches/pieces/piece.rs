//! The hot pieces, one by one: what a request, a refusal and a delivery are made of.

use std::hint::black_box;
use std::sync::LazyLock;

use streamgate::domain::record::RecordCreated;
use streamgate::domain::rules::{Subject, evaluate};
use streamgate::routing_queue::{event, signature};

use super::desk::{Desk, KEY, Rules, body};

/// Set up once, for all pieces.
static DESK: LazyLock<Desk> = LazyLock::new(Desk::new);

const KB: usize = 1_024;

/// One piece of work, ready to be done: once for each of these that is made.
pub(crate) type Job = Box<dyn FnOnce()>;

/// A piece: how it is called, and what prepares it. Only what it hands out is measured.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// As it stands in reports.
    pub(crate) name: &'static str,
    /// Prepares one job.
    pub(crate) prepare: fn() -> Job,
}

impl std::fmt::Display for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// In the order of a record's journey.
pub(crate) const PIECES: [Piece; 14] = [
    Piece { name: "API key, one of ten", prepare: || Box::new(|| DESK.gate.api_key(KEY)) },
    Piece { name: "token, seen before", prepare: || Box::new(|| DESK.gate.bearer(&DESK.gate.seasoned)) },
    Piece { name: "token, RS256 verified", prepare: token_verified },
    Piece { name: "parse a body, 1 KB", prepare: || parse(KB) },
    Piece { name: "parse a body, 30 KB", prepare: || parse(30 * KB) },
    Piece { name: "admit, no rules, 1 KB", prepare: || admit(Rules::None, KB) },
    Piece { name: "admit, 20 rules, 1 KB", prepare: || admit(Rules::Twenty, KB) },
    Piece { name: "evaluate 1 rule, 1 KB", prepare: || rules(Rules::One, KB) },
    Piece { name: "evaluate 20 rules, 1 KB", prepare: || rules(Rules::Twenty, KB) },
    Piece { name: "evaluate 20 rules, 30 KB", prepare: || rules(Rules::Twenty, 30 * KB) },
    Piece { name: "refuse, with its body", prepare: refuse },
    Piece { name: "encode the event, 1 KB", prepare: || encode(KB) },
    Piece { name: "encode the event, 30 KB", prepare: || encode(30 * KB) },
    Piece { name: "sign the event, 1 KB", prepare: sign },
];

fn token_verified() -> Job {
    let fresh = DESK.gate.fresh();
    Box::new(move || DESK.gate.bearer(&fresh))
}

fn parse(bytes: usize) -> Job {
    let body = body(Rules::None, bytes);
    Box::new(move || {
        black_box(RecordCreated::parse(black_box(body.as_bytes())).expect("a record"));
    })
}

fn admit(rules: Rules, bytes: usize) -> Job {
    let event = DESK.event(rules, bytes);
    Box::new(move || {
        black_box(DESK.admit(event));
    })
}

fn rules(rules: Rules, bytes: usize) -> Job {
    let event = DESK.event(rules, bytes);
    let (stream, entity) = DESK.stream(rules);
    Box::new(move || {
        let details = event.details_of_record().expect("details");
        let outcome = evaluate(&entity.rules, &stream.rules, &Subject::of(&event, details));
        assert!(black_box(outcome).matched.is_none(), "every rule is tried");
    })
}

fn refuse() -> Job {
    let mut event = DESK.event(Rules::None, KB);
    // One letter is wrong, so that the nearest name is looked for.
    event.entity_logical_name = streamgate::domain::ids::LogicalName::parse("incidents").expect("a name");
    Box::new(move || {
        black_box(DESK.refuse(event));
    })
}

fn encode(bytes: usize) -> Job {
    let record = DESK.stored(bytes);
    let (stream, _) = DESK.stream(Rules::None);
    Box::new(move || {
        black_box(event::encode(&record, Some(stream)).expect("an event"));
    })
}

fn sign() -> Job {
    let record = DESK.stored(KB);
    let (stream, _) = DESK.stream(Rules::None);
    let body = event::encode(&record, Some(stream)).expect("an event");
    let (id, seconds) = (record.receipt.to_string(), DESK.gate.now.seconds().to_string());
    let signer = signature::Signer::new(&DESK.secrets);
    Box::new(move || {
        black_box(signer.sign(&id, &seconds, &body));
    })
}
