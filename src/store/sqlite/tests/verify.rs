//! Verifying: sound stores of every kind are said to be, damage is named, and nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::*;
use crate::domain::fixtures::{admitted, admitted_in, admitted_with, details};
use crate::domain::ids::ReceiptId;
use crate::store::contract::{Bench, all_of, at, day, dead, discarding};
use crate::store::sqlite::OpenError;
use crate::store::sqlite::verify::{Options, verify};
use crate::store::verification::{Kind, Report};
use crate::store::{DeadLetters, Details, Outcome, ReceiptStatus, StoredRecord};

/// What a receipt led to while the store was sound; nothing for a record that was deleted.
pub(in crate::store) type Known = (ReceiptId, Option<(ReceiptStatus, StoredRecord<Details>)>);

/// Everything that every finding says.
pub(in crate::store) const ALL: Options = Options { findings: usize::MAX, duplicate_window: DUPLICATE_WINDOW };

/// Verifies, and tells nobody how far it is.
pub(super) fn look(dir: &Path) -> Result<Report, OpenError> {
    verify(dir, &ALL, &mut |_| {})
}

/// The report of a store that must be sound.
pub(super) fn sound(dir: &Path) -> Report {
    let report = look(dir).unwrap();
    assert!(report.sound, "{:#?}", report.findings);
    report
}

/// Every file below a directory, with its time of change and its content.
pub(in crate::store) fn everything_below(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            found.extend(everything_below(&path));
            found.insert(path, (changed, Vec::new()));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, (changed, content));
        }
    }
    found
}

/// Copies a directory as it is.
pub(in crate::store) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy_to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copy_to);
        } else {
            fs::copy(&path, copy_to).unwrap();
        }
    }
}

/// An open store with records in every state, in several lanes, with trimmed and deleted ones, and keys in the index.
pub(in crate::store) async fn rich(engine: &InDirectory) -> (Bench, Vec<ReceiptId>) {
    let bench = Bench(engine.start());
    let mut ids = Vec::new();
    for record in 1..=40 {
        let lane = (1 + record % 2, 1 + record % 2);
        ids.push(bench.append(admitted_in(lane.0, lane.1, record)).await.id());
    }
    for (n, leased) in bench.lease(at(1), 32).await.leased.iter().enumerate() {
        let outcome = match n {
            0..22 => Outcome::Delivered,
            22..27 => dead("400"),
            27..29 => Outcome::Retry { due: day(50), error: "503".to_owned() },
            29..31 => Outcome::Waiting { closes_at: day(90) },
            _ => continue,
        };
        bench.settle(leased, at(1), outcome).await;
    }
    for dead in &ids[22..24] {
        bench.0.discard(DeadLetters::One(*dead), discarding(at(2))).await.unwrap();
    }
    for record in 41..=60 {
        let more = format!("{},\"more\":\"{}\"}}", details(record).trim_end_matches('}'), "x".repeat(700));
        ids.push(bench.append_at(admitted_with(1, 1, record, &more), day(20)).await.id());
    }
    for leased in bench.lease(day(20), 8).await.leased {
        bench.settle(&leased, day(20), Outcome::Delivered).await;
    }
    engine.sweep(day(36)).await;
    engine.sweep(day(41)).await;
    for record in 61..=120 {
        ids.push(bench.append_at(admitted_in(1, 2, record), day(41)).await.id());
    }
    for (n, leased) in bench.lease(day(41), 30).await.leased.iter().enumerate() {
        let outcome = if n % 5 == 0 { dead("410") } else { Outcome::Delivered };
        bench.settle(leased, day(41), outcome).await;
    }
    (bench, ids)
}

/// What the receipts lead to.
pub(in crate::store) async fn known(bench: &Bench, ids: &[ReceiptId]) -> Vec<Known> {
    let mut known = Vec::new();
    for id in ids {
        let status = bench.0.receipt(*id).await.unwrap();
        let record = bench.0.record(*id).await.unwrap();
        known.push((*id, status.zip(record)));
    }
    known
}

#[tokio::test]
async fn a_fresh_store_is_sound_and_none_is_said_to_be_none() {
    let engine = InDirectory::new();
    let refused = look(&engine.path()).unwrap_err();
    assert!(matches!(refused, OpenError::NoStore { .. }), "{refused}");
    assert!(!engine.path().exists(), "nothing was made");
    engine.start().close().await;
    assert_eq!(sound(&engine.path()).counts.accepted, 0);
}

#[tokio::test]
async fn a_store_with_everything_is_sound_and_counted() {
    let engine = InDirectory::merging_at(16);
    let (bench, ids) = rich(&engine).await;
    let known = known(&bench, &ids).await;
    let stats = bench.0.stats();
    bench.0.close().await;
    let before = everything_below(&engine.path());
    let report = sound(&engine.path());
    assert_eq!(everything_below(&engine.path()), before, "something was changed");
    let counts = report.counts;
    assert_eq!((counts.accepted, report.newest), (120, 120));
    assert_eq!(
        (counts.pending, counts.waiting, counts.dead_lettered),
        (stats.pending, stats.waiting, stats.dead_lettered)
    );
    assert_eq!(counts.discarded, 2);
    let deleted = known.iter().filter(|(_, known)| known.is_none()).count() as u64;
    assert!(deleted >= 20 && counts.deleted == deleted, "{counts:?}");
    assert_eq!(counts.verified, 120 - deleted);
    let settled = counts.waiting + counts.delivered + counts.dead_lettered + counts.discarded;
    assert_eq!(counts.pending + settled + counts.deleted, 120);
    assert!(counts.untried > 0 && counts.duplicate_keys > 0, "{counts:?}");
    assert!(report.written_down.is_empty() && report.findings.is_empty(), "{:?}", report.findings);
}

#[tokio::test]
async fn a_hot_log_is_read_and_left_alone_with_or_without_its_index() {
    let engine = InDirectory::merging_at(16);
    let (bench, _) = rich(&engine).await;
    let (with, without) = (InDirectory::new(), InDirectory::new());
    // As kill -9 leaves it.
    copy(&engine.path(), &with.path());
    copy(&engine.path(), &without.path());
    fs::remove_file(without.path().join("records.db-shm")).unwrap();
    bench.0.close().await;
    for left in [&with, &without] {
        let before = everything_below(&left.path());
        let report = sound(&left.path());
        assert_eq!(report.counts.accepted, 120, "the log was not read");
        assert_eq!(everything_below(&left.path()), before, "something was changed");
        left.start().close().await;
        assert_eq!(sound(&left.path()).counts, report.counts);
    }
}

#[tokio::test]
async fn a_log_whose_beginning_is_damaged_is_looked_at_all_the_same() {
    let engine = InDirectory::merging_at(16);
    let (bench, _) = rich(&engine).await;
    let left = InDirectory::new();
    copy(&engine.path(), &left.path());
    bench.0.close().await;
    let log = left.path().join("records.db-wal");
    let saved = fs::read(&log).unwrap();
    for byte in 0..32 {
        let mut bytes = saved.clone();
        bytes[byte] ^= 1;
        fs::write(&log, bytes).unwrap();
        let report = look(&left.path()).unwrap_or_else(|fault| panic!("byte {byte}: {fault}"));
        assert!(!report.sound && report.newest == 120, "byte {byte}");
        assert!(report.findings.iter().any(|finding| finding.file == "records.db-wal"), "byte {byte}");
    }
}

#[tokio::test]
async fn a_log_of_zeros_is_no_log() {
    let engine = InDirectory::new();
    engine.start().close().await;
    fs::write(engine.path().join("records.db-wal"), vec![0; 1 << 20]).unwrap();
    let before = everything_below(&engine.path());
    sound(&engine.path());
    assert_eq!(everything_below(&engine.path()), before);
}

#[tokio::test]
async fn a_store_that_is_in_use_is_refused_and_names_the_holder() {
    let engine = InDirectory::new();
    let store = engine.start();
    let refused = look(&engine.path()).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    store.close().await;
    // Those who read do not keep each other out, and a gateway is told what they are.
    let held = crate::store::sqlite::lock::DirectoryLock::share(&engine.path()).unwrap();
    sound(&engine.path());
    let refused = refusal(&engine.path()).to_string();
    assert!(refused.contains("streamgate verify"), "{refused}");
    drop(held);
    engine.start().close().await;
}

#[tokio::test]
async fn a_missing_mark_is_a_remark_and_a_damaged_one_is_damage() {
    let engine = InDirectory::new();
    let (bench, _) = rich(&engine).await;
    bench.0.close().await;
    let mark = engine.path().join("high-water.mark");
    let saved = fs::read(&mark).unwrap();
    fs::remove_file(&mark).unwrap();
    let report = sound(&engine.path());
    assert_eq!(report.findings[0].kind, Kind::Mark);
    assert!(!mark.exists());
    fs::write(&mark, [1; 16]).unwrap();
    assert!(!look(&engine.path()).unwrap().sound);
    fs::write(&mark, saved).unwrap();
    sound(&engine.path());
}

#[tokio::test]
async fn every_gap_is_named_and_it_goes_on_behind_it() {
    let engine = InDirectory::merging_at(16);
    let (bench, ids) = rich(&engine).await;
    bench.0.close().await;
    lose(&engine.path(), 70..=72);
    lose(&engine.path(), 100..=100);
    replace(&engine.path(), 110, "Case 110", "Base 110");
    tamper(&engine.path(), "delete from dead_letters where seq = (select min(seq) from dead_letters)");
    let report = look(&engine.path()).unwrap();
    assert!(!report.sound);
    let lost: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == Kind::Lost)
        .map(|finding| (finding.from.unwrap(), finding.to.unwrap()))
        .collect();
    assert_eq!(lost, [(70, 72), (100, 100)]);
    let damaged: Vec<_> = report.findings.iter().filter(|finding| finding.kind == Kind::DamagedRecord).collect();
    assert_eq!((damaged.len(), damaged[0].from), (1, Some(110)));
    assert_eq!(damaged[0].receipts, [ids[109].to_string()]);
    assert_eq!(report.totals[&Kind::NoState].records, 1);
    assert_eq!(report.totals[&Kind::Lost].records, 4);
    // What is not wanted is counted.
    let few = verify(&engine.path(), &Options { findings: 1, ..ALL }, &mut |_| {}).unwrap();
    assert_eq!(few.totals, report.totals);
    assert_eq!(few.findings.iter().filter(|finding| finding.kind == Kind::Lost).count(), 1);
}

#[tokio::test]
async fn a_lost_tail_goes_as_far_as_the_mark_says() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    for record in 1..=9 {
        bench.append(admitted(record)).await;
    }
    bench.0.close().await;
    lose(&engine.path(), 8..);
    tamper(&engine.path(), "update meta set high_water = 7, listed_to = 7");
    let report = look(&engine.path()).unwrap();
    let lost = report.findings.iter().find(|finding| finding.kind == Kind::Lost).unwrap();
    assert_eq!((lost.from, lost.to, report.newest), (Some(8), Some(9), 9));
    // A figure without a checksum that says something else altogether is not believed.
    tamper(&engine.path(), "update meta set high_water = 1099511627776");
    let report = look(&engine.path()).unwrap();
    assert_eq!((report.newest, report.totals[&Kind::Lost].records), (9, 2));
}

#[tokio::test]
async fn an_index_that_lies_is_found_out() {
    let engine = InDirectory::merging_at(1);
    let store = engine.start();
    for record in 1..=3 {
        store.append(crate::store::contract::entry(admitted(record))).await.unwrap();
    }
    super::keys::until_merged(&store, 3).await;
    store.close().await;
    drop(store);
    assert_eq!(sound(&engine.path()).counts.duplicate_keys, 3);
    crate::store::sqlite::keys::tests::tamper(&engine.path(), &|entries, _, _| {
        entries.retain(|(_, seen)| seen.seq != 2);
    });
    let report = look(&engine.path()).unwrap();
    assert_eq!(report.totals[&Kind::Index].records, 1, "{:?}", report.findings);
    assert!(report.findings[0].what.contains("is not found") && report.findings[0].from == Some(2));
    fs::remove_dir_all(engine.path().join("keys")).unwrap();
    assert_eq!(sound(&engine.path()).findings[0].kind, Kind::Index);
}

#[tokio::test]
async fn a_store_that_was_brought_up_to_date_is_sound_and_one_that_was_not_says_so() {
    let (engine, _) = super::format::filled_as(2).await;
    let before = everything_below(&engine.path());
    let refused = look(&engine.path()).unwrap_err();
    assert!(matches!(refused, OpenError::OlderFormat { found: 2, .. }), "{refused}");
    assert_eq!(everything_below(&engine.path()), before);
    engine.start().close().await;
    assert_eq!(sound(&engine.path()).counts.accepted, 5);
}

#[tokio::test]
async fn requeued_and_revived_records_are_in_one_state() {
    let engine = InDirectory::new();
    let (bench, _) = rich(&engine).await;
    bench.requeue(all_of(None)).await;
    bench.0.close().await;
    let report = sound(&engine.path());
    assert_eq!(report.counts.dead_lettered, 0);
}

/// To open a named pipe waits for a writer, so each has to be seen before.
#[test]
fn a_named_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    for name in ["gateway.lock", "records.db"] {
        let dir = tempfile::tempdir().unwrap();
        mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fault = look(dir.path()).unwrap_err();
        let told = format!("{fault}: {:?}", std::error::Error::source(&fault));
        assert!(told.contains(name) && told.contains("not a regular file"), "{told}");
    }
}
