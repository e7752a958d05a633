//! What fuzzing aims at: everything that takes bytes from outside, or back from the disk, and what must hold whatever they
//! are. Compiled for tests and with the feature `fuzzing` only; it is no part of the interface.
//!
//! A target says nothing of bytes that are refused, but that refusing them does no harm. What is *taken* is held to what
//! another reader makes of it, and to its own way back. `fuzz/run.sh` runs the targets under libFuzzer, from the seeds in
//! `fuzz/corpus`; the tests here run them over the same seeds, and over what a fixed budget of chance makes of those.
//!
//! A target that wants two inputs takes what stands before and after a line of three hyphens.

use std::time::{Duration, SystemTime};

use crate::config::fuzzing as config;
use crate::domain::catalog::{Catalog, Queue};
use crate::domain::ids::{Guid, LogicalName, QueueName};
use crate::domain::record::{RecordCreated, each_member};
use crate::domain::routing::Route;
use crate::domain::time::Timestamp;
use crate::http::framing::Framing;
use crate::http::keys::fuzzing as keys;
use crate::routing_queue::{event, retry_after};
use crate::store::receipt_id::ReceiptMask;
use crate::store::sqlite::fuzzing as sqlite;
use crate::store::{StoredRecord, TraceContext};

/// A name and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by the name of its seeds.
pub const TARGETS: &[Target] = &[
    ("cloud_event", cloud_event),
    ("configuration", configuration),
    ("framing", framing),
    ("guid", guid),
    ("request_body", request_body),
    ("retry_after", retry_after),
    ("rules", rules),
    ("stored_record", sqlite::stored_record),
    ("token", token),
];

/// Runs the target of this name.
///
/// # Panics
/// Where something does not hold, and where there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(target.is_some(), "there is no target {name}");
    if let Some((_, target)) = target {
        target(bytes);
    }
}

/// The two inputs in one.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    const BETWEEN: &[u8] = b"\n---\n";
    let at = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN);
    at.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + BETWEEN.len()..)?))).unwrap_or((bytes, b""))
}

fn configuration(bytes: &[u8]) {
    let (main, organization) = halves(bytes);
    config::configuration(main, organization);
}

fn rules(bytes: &[u8]) {
    let (rules, details) = halves(bytes);
    config::rules(rules, details);
}

fn token(bytes: &[u8]) {
    let (header, claims) = halves(bytes);
    keys::authorization(bytes);
    keys::header(header);
    keys::claims(claims);
}

/// What is taken for a record is one JSON object, its details are in it, and the canonical form says the same.
fn request_body(bytes: &[u8]) {
    let Ok(event) = RecordCreated::parse(bytes) else { return };
    let text = std::str::from_utf8(bytes);
    assert!(text.is_ok(), "not UTF-8, and taken");
    let mut raw = None;
    let walked = each_member(text.unwrap_or_default(), |name, value| {
        if name.eq_ignore_ascii_case("recordDetails") && value.get() != "null" {
            raw = Some(value.get());
        }
    });
    assert!(walked.is_ok(), "no JSON object, and taken");
    let mut again = format!(
        r#"{{"OrganizationId":"{}","liveWorkStreamId":"{}","EntityLogicalName":"{}","entitySetName":"{}","recordId":"{}","relationshipName":"{}""#,
        event.organization,
        event.work_stream,
        event.entity_logical_name,
        event.entity_set_name,
        event.record_id,
        event.relationship_name,
    );
    if let Some(details) = event.details.as_ref().and_then(|details| details.as_text()) {
        assert!(details.starts_with('{') && details.ends_with('}'), "details that are no object: {details}");
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(details).is_ok(), "details that are no JSON: {details}");
        let kept = match raw {
            Some(raw) if raw.starts_with('{') => raw == details,
            Some(raw) => serde_json::from_str::<String>(raw).is_ok_and(|text| text.contains(details)),
            None => false,
        };
        assert!(kept, "the details are not what came in: {details}");
        let details = serde_json::Value::from(details);
        again.push_str(&format!(r#","recordDetails":{details}"#));
    }
    again.push('}');
    assert_eq!(RecordCreated::parse(again.as_bytes()).as_ref(), Ok(&event), "{again}");
}

/// A GUID in whatever spelling has the digits that it had, and one canonical form. A name is made of what names are made of.
fn guid(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(guid) = Guid::parse(text) {
        let canonical = guid.to_string();
        let shape: Vec<usize> = canonical.split('-').map(str::len).collect();
        assert_eq!(shape, [8, 4, 4, 4, 12], "{canonical}");
        let digits = |text: &str| text.replace('-', "").to_ascii_lowercase();
        let bare = text.to_ascii_lowercase().replace("%7b", "").replace("%7d", "");
        let bare = bare.trim_matches([' ', '\t', '\u{a0}', '{', '}']);
        assert_eq!(digits(bare), digits(&canonical), "{text}");
        assert!(Guid::parse(&canonical).is_ok_and(|again| again == guid), "{canonical}");
    }
    for name in [LogicalName::parse(text), LogicalName::parse_relationship(text)].into_iter().flatten() {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.as_str().chars().all(letters) && name.as_str().len() <= 150, "{name}");
        assert!(LogicalName::parse_relationship(name.as_str()).is_ok_and(|again| again == name), "{name}");
    }
}

/// Whatever a destination asks for, the pause is one that somebody would make.
fn retry_after(bytes: &[u8]) {
    let (now, text) = bytes.split_first_chunk().map_or((0, bytes), |(now, text)| (u32::from_le_bytes(*now), text));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.into());
    let Some(pause) = retry_after::parse(text, now) else { return };
    assert!((retry_after::SHORTEST..=retry_after::LONGEST).contains(&pause), "{text:?}: {pause:?}");
    if let Ok(seconds) = text.trim().parse::<u64>() {
        let bounded = Duration::from_secs(seconds).clamp(retry_after::SHORTEST, retry_after::LONGEST);
        assert_eq!(pause, bounded, "{text:?}");
    }
}

/// An event is JSON, its details are the bytes that came in, and it says whose they are.
fn cloud_event(bytes: &[u8]) {
    let (body, trace) = halves(bytes);
    let Ok(RecordCreated { details: Some(details), organization, work_stream, record_id, .. }) =
        RecordCreated::parse(body)
    else {
        return;
    };
    let Ok(event) = RecordCreated::parse(body) else { return };
    let Ok(queue) = QueueName::parse("Default queue") else { return };
    let trace = String::from_utf8_lossy(trace).into_owned();
    let rule = (!trace.is_empty()).then(|| trace.as_str().into());
    let record = StoredRecord {
        receipt: ReceiptMask::new(&[7; 32]).id_of(1, [9; 16]),
        organization,
        work_stream,
        entity_logical_name: event.entity_logical_name,
        entity_set_name: event.entity_set_name,
        record_id,
        relationship_name: event.relationship_name,
        details: details.clone(),
        route: Route { rule, ..Route::by_default(&Queue { name: queue, priority: 1 }) },
        catalog_generation: 1,
        accepted_at: Timestamp::from_millis(1_700_000_000_000),
        trace: TraceContext { traceparent: Some(trace.clone()), client_tracking_id: Some(trace.clone()) },
    };
    let encoded = event::encode(&record, None);
    assert!(encoded.is_ok(), "{encoded:?}");
    let Ok(encoded) = encoded else { return };
    let mut batch = b"[".to_vec();
    let catalog = Catalog::new(1, Vec::<std::sync::Arc<crate::domain::catalog::Organization>>::new());
    assert!(event::Encoder::default().write(&record, &catalog, &mut batch).is_ok());
    assert_eq!(batch.get(1..), Some(&*encoded), "in a batch it is the same");
    let text = String::from_utf8_lossy(&encoded).into_owned();
    let read: Result<Event<'_>, _> = serde_json::from_str(&text);
    assert!(read.is_ok(), "{read:?}: {text}");
    let Ok(read) = read else { return };
    assert_eq!(read.id, record.receipt.to_string());
    assert_eq!((read.traceparent, read.clienttrackingid), (trace.clone(), trace));
    assert_eq!(read.data.record_id, record.record_id.to_string());
    assert_eq!(Some(read.data.record_details.get()), details.as_text(), "the details are not the bytes that came in");
}

/// An event as its consumer reads it.
#[derive(Debug, serde::Deserialize)]
struct Event<'a> {
    id: String,
    traceparent: String,
    clienttrackingid: String,
    #[serde(borrow)]
    data: EventData<'a>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventData<'a> {
    record_id: String,
    #[serde(borrow)]
    record_details: &'a serde_json::value::RawValue,
}

/// Pieces make no difference, and nothing that was looked at is looked at again.
fn framing(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let (mut whole, mut pieces) = (bytes.to_vec(), bytes.to_vec());
    let (mut at_once, mut in_pieces) = (Framing::default(), Framing::default());
    at_once.advance(&mut whole);
    for piece in pieces.chunks_mut(usize::from(*piece).max(1)) {
        in_pieces.advance(piece);
    }
    assert_eq!(whole, pieces);
    assert_eq!(at_once.request_line_bytes(), in_pieces.request_line_bytes());
    assert_eq!(at_once.is_inside_a_head(), in_pieces.is_inside_a_head());
    assert_eq!(at_once.has_fragment(), in_pieces.has_fragment());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// How many inputs of each target chance makes of its seeds; more with `STREAMGATE_FUZZ_CASES`.
    const BUDGET: usize = 400;

    /// The seeds of a target, by file name.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files.into_iter().map(|file| std::fs::read(file).expect("readable")).collect()
    }

    /// The words of the dictionary.
    fn words() -> Vec<Vec<u8>> {
        let text = include_str!("../fuzz/dictionary");
        let quoted = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
        quoted.map(|word| word.replace("\\\"", "\"").replace("\\r", "\r").replace("\\n", "\n").into_bytes()).collect()
    }

    /// Does a few things to a seed.
    fn mutate(mut bytes: Vec<u8>, other: &[u8], words: &[Vec<u8>], mut chance: impl FnMut(usize) -> usize) -> Vec<u8> {
        for _ in 0..=chance(4) {
            let at = chance(bytes.len() + 1);
            let to = (at + chance(30)).min(bytes.len());
            match chance(6) {
                0 if at < bytes.len() => bytes[at] = u8::try_from(chance(256)).expect("a byte"),
                1 => bytes.insert(at, u8::try_from(chance(256)).expect("a byte")),
                2 => drop(bytes.drain(at..to)),
                3 => drop(bytes.splice(at..at, words[chance(words.len())].iter().copied())),
                4 => drop(bytes.splice(at..to, bytes[at..to].repeat(2))),
                _ => {
                    let from = chance(other.len() + 1);
                    let piece = &other[from..(from + chance(60)).min(other.len())];
                    drop(bytes.splice(at..to, piece.iter().copied()));
                }
            }
        }
        bytes
    }

    #[test]
    fn targets_hold_for_their_seeds_and_for_what_chance_makes_of_them() {
        let seed = getrandom::u64().expect("random bits");
        println!("seed {seed}");
        let budget = std::env::var("STREAMGATE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(BUDGET);
        let words = words();
        let mut state = seed;
        // splitmix64: enough to choose by.
        let mut chance = |below: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from(mixed >> 33).expect("a number") % below.max(1)
        };
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            seeds.iter().for_each(|seed| target(seed));
            let began = std::time::Instant::now();
            for _ in 0..budget {
                let (one, other) = (&seeds[chance(seeds.len())], &seeds[chance(seeds.len())]);
                let bytes = mutate(one.clone(), other, &words, &mut chance);
                let shown = bytes.escape_ascii().to_string();
                let outcome = std::panic::catch_unwind(|| target(&bytes));
                assert!(outcome.is_ok(), "{name} does not hold for \"{shown}\" (seed {seed})");
            }
            println!("{name}: {budget} inputs in {:?}", began.elapsed());
        }
    }
}
