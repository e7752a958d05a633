//! A corruption programme (fault D11): bits flipped, pages zeroed, blocks swapped, rows deleted, files cut. Whatever is
//! done to a store, either the start refuses or the gateway names what is damaged, `verify` reports it, and recovering
//! loses nothing without saying so.
//!
//! `STREAMGATE_CORRUPTIONS` says how many are tried, `STREAMGATE_SEED` with which seed; both are printed.

use std::fs;

use super::verify::{ALL, Known, copy, known, look, rich, sound};
use super::*;
use crate::domain::fixtures::{admitted_in, admitted_with, details};
use crate::domain::ids::ReceiptId;
use crate::store::contract::day;
use crate::store::sqlite::OpenError;
use crate::store::sqlite::recover::recover;
use crate::store::{Details, Entry, ReceiptStatus, StoreError, StoredRecord, TraceContext};

/// How many are tried where nobody says.
const USUAL: u64 = 100;
const PAGE: usize = 4_096;

/// Numbers that look random, the same ones for a seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

/// What is done to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    FlipBit,
    FlipBitInLog,
    FlipBitOfIndex,
    FlipBitOfMark,
    ZeroPage,
    SwapPages,
    SwapBlocks,
    DeleteRows,
    Truncate,
    TruncateLog,
}

const KINDS: [Kind; 14] = [
    Kind::FlipBit,
    Kind::FlipBit,
    Kind::FlipBit,
    Kind::FlipBit,
    Kind::FlipBitInLog,
    Kind::FlipBitInLog,
    Kind::FlipBitOfIndex,
    Kind::FlipBitOfMark,
    Kind::ZeroPage,
    Kind::SwapPages,
    Kind::SwapBlocks,
    Kind::DeleteRows,
    Kind::Truncate,
    Kind::TruncateLog,
];

impl Kind {
    const fn is_of_log(self) -> bool {
        matches!(self, Self::FlipBitInLog | Self::TruncateLog)
    }

    /// Does it. Answers what exactly was done.
    fn apply(self, dir: &Path, numbers: &mut Numbers) -> String {
        let records = dir.join("records.db");
        let log = dir.join("records.db-wal");
        match self {
            Self::FlipBit => flip(&records, numbers),
            Self::FlipBitInLog => flip(&log, numbers),
            Self::FlipBitOfMark => flip(&dir.join("high-water.mark"), numbers),
            Self::FlipBitOfIndex => {
                let mut runs: Vec<_> = fs::read_dir(dir.join("keys")).unwrap().map(|run| run.unwrap().path()).collect();
                runs.sort();
                flip(&runs[numbers.below(runs.len())], numbers)
            }
            Self::ZeroPage => {
                let mut bytes = fs::read(&records).unwrap();
                let page = numbers.below(bytes.len() / PAGE);
                bytes[page * PAGE..(page + 1) * PAGE].fill(0);
                fs::write(&records, bytes).unwrap();
                format!("page {}", page + 1)
            }
            Self::SwapPages => {
                let mut bytes = fs::read(&records).unwrap();
                let pages = bytes.len() / PAGE;
                let (one, other) = (1 + numbers.below(pages - 1), 1 + numbers.below(pages - 1));
                let saved = bytes[one * PAGE..(one + 1) * PAGE].to_vec();
                bytes.copy_within(other * PAGE..(other + 1) * PAGE, one * PAGE);
                bytes[other * PAGE..(other + 1) * PAGE].copy_from_slice(&saved);
                fs::write(&records, bytes).unwrap();
                format!("pages {} and {}", one + 1, other + 1)
            }
            Self::SwapBlocks => swap_blocks(&records, numbers),
            Self::DeleteRows => delete_rows(&records, numbers),
            Self::Truncate => cut(&records, numbers),
            Self::TruncateLog => cut(&log, numbers),
        }
    }
}

fn swap_blocks(records: &Path, numbers: &mut Numbers) -> String {
    let conn = Connection::open(records).unwrap();
    let mut firsts = conn.prepare("select first from blocks order by first").unwrap();
    let firsts: Vec<i64> = firsts.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let (one, other) = (firsts[numbers.below(firsts.len())], firsts[numbers.below(firsts.len())]);
    let what = if numbers.below(2) == 0 { "bodies" } else { "heads" };
    conn.execute(
        &format!(
            "update blocks set {what} = (select {what} from blocks b where b.first = ?1 + ?2 - blocks.first) \
             where first in (?1, ?2)"
        ),
        [one, other],
    )
    .unwrap();
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
    format!("{what} of {one} and {other}")
}

fn delete_rows(records: &Path, numbers: &mut Numbers) -> String {
    let tables = [
        "blocks",
        "pending",
        "waiting",
        "delivered",
        "dead_letters",
        "discarded",
        "untried",
        "deleted",
        "lanes",
        "meta",
    ];
    let table = tables[numbers.below(tables.len())];
    let conn = Connection::open(records).unwrap();
    let rows: i64 = conn.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).unwrap();
    let (from, count) = (numbers.below(usize::try_from(rows).unwrap()), 1 + numbers.below(3));
    let key = match table {
        "blocks" | "deleted" => "first",
        "pending" => "(lane, seq)",
        "untried" => "(lane, first)",
        "lanes" | "meta" => "id",
        _ => "seq",
    };
    let columns = key.trim_matches(['(', ')']);
    let sql = format!(
        "delete from {table} where {key} in (select {columns} from {table} order by {columns} limit {count} offset {from})"
    );
    conn.execute_batch(&sql).unwrap();
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
    format!("{count} rows of {table} from {from}")
}

fn flip(path: &Path, numbers: &mut Numbers) -> String {
    let mut bytes = fs::read(path).unwrap();
    // A log is followed by zeros that nobody reads.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let bit = numbers.below(end * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
    format!("{} byte {} bit {}", path.file_name().unwrap().to_string_lossy(), bit / 8, bit % 8)
}

fn cut(path: &Path, numbers: &mut Numbers) -> String {
    let bytes = fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let length = numbers.below(end);
    fs::write(path, &bytes[..length]).unwrap();
    format!("{} to {length} bytes", path.file_name().unwrap().to_string_lossy())
}

/// A store before anything is done to it.
struct Sample {
    engine: InDirectory,
    known: Vec<Known>,
}

impl Sample {
    /// One that was closed, or one as kill -9 leaves it.
    async fn new(closed: bool) -> Self {
        let engine = InDirectory::merging_at(16);
        let (bench, ids) = rich(&engine).await;
        let known = known(&bench, &ids).await;
        if closed {
            bench.0.close().await;
            return Self { engine, known };
        }
        let left = InDirectory::merging_at(16);
        copy(&engine.path(), &left.path());
        bench.0.close().await;
        Self { engine: left, known }
    }
}

/// How a store with something done to it came out.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The gateway does not start.
    Refused,
    /// It starts, and answers for some receipts that they are damaged or lost.
    Named,
    /// It answers for every receipt as before.
    Unchanged,
    /// Every record is there, and some are in a state that they were in before: settlements were taken back, which
    /// delivering at least once allows. Only a damaged log can do that.
    Rewound,
    /// It answers for a receipt as if nothing were the matter, and other than before.
    SilentLoss(String),
}

/// What a record's state comes to: its times, tries and reasons have no checksum.
fn class(status: &ReceiptStatus) -> (bool, bool, bool, bool) {
    let settled = status.settled_at.is_some();
    let dead = status.state == crate::store::DeliveryState::DeadLettered;
    (settled, dead, status.waiting.is_some(), status.discarded.is_some())
}

/// Whether it is the same record. In a store that went back in time, it may have details that were let go since.
fn is_same(now: &StoredRecord<Details>, before: &StoredRecord<Details>, kind: Kind) -> bool {
    let whole = now.details.kept().map(|details| details.as_bytes());
    let has_them_back = kind.is_of_log() && whole.is_some_and(|whole| !before.details.differ_from(whole));
    let details = if has_them_back { before.details.clone() } else { now.details.clone() };
    StoredRecord { details, ..now.clone() } == *before
}

/// Starts the gateway's store and asks for every receipt.
async fn ask(engine: &InDirectory, known: &[Known], kind: Kind) -> Seen {
    let Ok(store) = super::super::open::open(&engine.path(), &engine.settings, &engine.retention, engine.tuning) else {
        return Seen::Refused;
    };
    store.keep_from(None);
    let mut seen = Seen::Unchanged;
    for (n, (id, before)) in known.iter().enumerate() {
        let (status, record) = (store.receipt(*id).await, store.record(*id).await);
        match (status, record, before) {
            (Ok(None), Ok(None), None) => {}
            (Ok(Some(_)), Ok(Some(_)), None) if kind.is_of_log() => seen = Seen::Rewound,
            (Ok(Some(status)), Ok(Some(record)), Some((was, whole))) => {
                let by_recovery =
                    status.last_error.as_ref().is_some_and(|error| error.starts_with("damage of the store"));
                if !is_same(&record, whole, kind) || status.summary != was.summary {
                    seen = Seen::SilentLoss(format!("record {} is another one", n + 1));
                } else if by_recovery {
                    seen = Seen::Named;
                } else if class(&status) != class(was) && kind.is_of_log() {
                    seen = Seen::Rewound;
                } else if class(&status) != class(was) {
                    seen = Seen::SilentLoss(format!("record {} is {:?} and was {:?}", n + 1, status.state, was.state));
                }
            }
            (Err(StoreError::Damaged(_) | StoreError::Engine(_) | StoreError::Lost { .. }), _, _)
            | (_, Err(StoreError::Damaged(_) | StoreError::Engine(_) | StoreError::Lost { .. }), _) => {
                seen = Seen::Named;
            }
            (status, ..) => {
                let now = status.map(|status| status.map(|status| status.state));
                seen = Seen::SilentLoss(format!("record {} was known {}: {now:?}", n + 1, before.is_some()));
            }
        }
        if matches!(seen, Seen::SilentLoss(_)) {
            break;
        }
    }
    if kind == Kind::FlipBitOfIndex && !matches!(seen, Seen::SilentLoss(_)) {
        seen = ask_for_repeats(&store, known, seen).await;
    }
    store.close().await;
    seen
}

/// Sends every record again that would still be a repeat.
async fn ask_for_repeats(store: &SqliteStore, known: &[Known], seen: Seen) -> Seen {
    for record in 41..=120_u32 {
        let admitted = if record > 60 {
            admitted_in(1, 2, record)
        } else {
            let more = format!("{},\"more\":\"{}\"}}", details(record).trim_end_matches('}'), "x".repeat(700));
            admitted_with(1, 1, record, &more)
        };
        let (id, _): &(ReceiptId, _) = &known[record as usize - 1];
        match store.append(Entry { admitted, accepted_at: day(41), trace: TraceContext::default() }).await {
            Ok(receipt) if receipt.id() == *id => {}
            Ok(_) => return Seen::SilentLoss(format!("a repeat of record {record} counts as a new record")),
            Err(_) => return Seen::Named,
        }
    }
    seen
}

/// What a programme came to.
#[derive(Debug, Default)]
struct Tally {
    tried: u64,
    refused: u64,
    named: u64,
    without_effect: u64,
    rewound: u64,
    rewound_and_reported: u64,
    reported: u64,
    recovered: u64,
    not_recoverable: u64,
    silent: Vec<String>,
}

/// Does something to a copy of the store, and looks at what comes of it.
async fn try_one(sample: &Sample, kind: Kind, numbers: &mut Numbers, tally: &mut Tally) {
    let (started, recovered) = (InDirectory::merging_at(16), InDirectory::merging_at(16));
    copy(&sample.engine.path(), &started.path());
    let what = format!("{kind:?}: {}", kind.apply(&started.path(), numbers));
    copy(&started.path(), &recovered.path());
    tally.tried += 1;
    let report = look(&started.path());
    let is_sound = report.as_ref().is_ok_and(|report| report.sound);
    let seen = ask(&started, &sample.known, kind).await;
    match &seen {
        Seen::Refused => tally.refused += 1,
        Seen::Named => tally.named += 1,
        Seen::Unchanged => tally.without_effect += 1,
        Seen::Rewound => tally.rewound += 1,
        Seen::SilentLoss(_) => {}
    }
    tally.reported += u64::from(!is_sound);
    tally.rewound_and_reported += u64::from(!is_sound && seen == Seen::Rewound);
    match &seen {
        Seen::SilentLoss(loss) => tally.silent.push(format!("{what}: {loss} (verify says sound: {is_sound})")),
        Seen::Refused | Seen::Named if is_sound => {
            tally.silent.push(format!("{what}: {seen:?}, and verify says sound"))
        }
        Seen::Refused | Seen::Named | Seen::Unchanged | Seen::Rewound => {}
    }
    if is_sound {
        return;
    }
    match recover(&recovered.path(), &ALL, &mut |_| {}) {
        Ok(_) => {
            tally.recovered += 1;
            sound(&recovered.path());
            match ask(&recovered, &sample.known, kind).await {
                Seen::Unchanged | Seen::Named | Seen::Rewound => {}
                other @ (Seen::Refused | Seen::SilentLoss(_)) => {
                    tally.silent.push(format!("{what}: after recovery {other:?}"));
                }
            }
        }
        Err(OpenError::NotRecoverable { .. } | OpenError::NotAStore { .. } | OpenError::UnknownFormat { .. }) => {
            tally.not_recoverable += 1;
        }
        // The first page is where everything begins.
        Err(OpenError::Sqlite { .. } | OpenError::OlderFormat { .. }) => tally.not_recoverable += 1,
        Err(fault) => tally.silent.push(format!("{what}: recovery failed: {fault}")),
    }
}

fn from_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn nothing_is_lost_in_silence() {
    let (count, seed) =
        (from_environment("STREAMGATE_CORRUPTIONS", USUAL), from_environment("STREAMGATE_SEED", 20_261_129));
    let (closed, killed) = (Sample::new(true).await, Sample::new(false).await);
    sound(&closed.engine.path());
    sound(&killed.engine.path());
    let mut tally = Tally::default();
    let mut numbers = Numbers(seed);
    for n in 0..count {
        let kind = KINDS[usize::try_from(n).unwrap() % KINDS.len()];
        let sample = if kind.is_of_log() || numbers.below(4) == 0 { &killed } else { &closed };
        // What SQL does, a log that is still to be folded in would only make more of.
        let sample = if matches!(kind, Kind::SwapBlocks | Kind::DeleteRows) { &closed } else { sample };
        try_one(sample, kind, &mut numbers, &mut tally).await;
        // A long run that is cut short has said something too.
        if tally.tried.is_multiple_of(100) {
            println!("seed {seed}: {} tried, {} reported, {} silent", tally.tried, tally.reported, tally.silent.len());
        }
    }
    println!("seed {seed}: {tally:#?}");
    assert!(tally.silent.is_empty(), "seed {seed}: {:#?}", tally.silent);
    assert!(tally.reported * 2 > tally.tried, "seed {seed}: too little of it was damage: {tally:?}");
    assert!(tally.recovered > 0);
}

/// A record that is taken away with everything that shows it is what neither a start nor `verify` can see. The programme
/// does, or it would prove nothing.
#[tokio::test]
async fn control_a_record_that_is_taken_away_without_a_trace_is_seen() {
    let sample = Sample::new(true).await;
    let dir = sample.engine.path();
    let delivered: i64 = Connection::open(dir.join("records.db"))
        .unwrap()
        .query_row("select seq from delivered where seq > 62 order by seq limit 1", [], |row| row.get(0))
        .unwrap();
    lose(&dir, delivered..=delivered);
    tamper(
        &dir,
        &format!(
            "delete from delivered where seq = {delivered}; insert into deleted values ({delivered}, {delivered}); \
             update meta set delivered_count = delivered_count - 1, delivered_sum = delivered_sum - {delivered}"
        ),
    );
    sound(&dir);
    let seen = ask(&sample.engine, &sample.known, Kind::DeleteRows).await;
    assert!(matches!(&seen, Seen::SilentLoss(what) if what.contains(&delivered.to_string())), "{seen:?}");
}
