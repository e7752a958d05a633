//! Recovering: what is readable is kept, what is not is written down, and nothing is guessed.

use std::fs;

use super::verify::{ALL, Known, copy, everything_below, known, look, rich, sound};
use super::*;
use crate::domain::fixtures::admitted;
use crate::domain::ids::ReceiptId;
use crate::store::contract::{Bench, entry};
use crate::store::sqlite::OpenError;
use crate::store::sqlite::recover::{Recovery, plan, recover, swap};
use crate::store::{DeadLetters, DeliveryState, StoreError};

/// Recovers a store that must be recoverable.
fn recovered(dir: &Path) -> Recovery {
    recover(dir, &ALL, &mut |_| {}).unwrap_or_else(|fault| panic!("{fault}"))
}

/// A closed store with everything, and what its receipts led to.
async fn filled() -> (InDirectory, Vec<Known>) {
    let engine = InDirectory::merging_at(16);
    let (bench, ids) = rich(&engine).await;
    let known = known(&bench, &ids).await;
    bench.0.close().await;
    (engine, known)
}

/// The receipts that are lost, and those that are dead letters since nobody knows what had become of them; every other
/// must lead to what it led to.
async fn losses(engine: &InDirectory, known: &[Known]) -> (Vec<usize>, Vec<usize>) {
    let bench = Bench(engine.start());
    let (mut lost, mut given_up) = (Vec::new(), Vec::new());
    for (n, (id, before)) in known.iter().enumerate() {
        match bench.0.receipt(*id).await {
            Err(StoreError::Lost { .. }) => lost.push(n + 1),
            Ok(None) => assert!(before.is_none(), "record {} is unknown", n + 1),
            Ok(Some(status)) => {
                let (was, record) = before.as_ref().expect("it was deleted");
                assert_eq!(bench.0.record(*id).await.unwrap().as_ref(), Some(record));
                if status.last_error.as_ref().is_some_and(|error| error.starts_with("damage of the store")) {
                    assert_eq!(status.state, DeliveryState::DeadLettered);
                    given_up.push(n + 1);
                } else {
                    assert_eq!((status.state, &status.last_error), (was.state, &was.last_error), "record {}", n + 1);
                }
            }
            other => panic!("record {}: {other:?}", n + 1),
        }
    }
    bench.0.close().await;
    (lost, given_up)
}

#[tokio::test]
async fn a_sound_store_is_left_alone() {
    let (engine, _) = filled().await;
    let before = everything_below(&engine.path());
    let planned = plan(&engine.path(), &ALL, &mut |_| {}).unwrap();
    assert!(!planned.needed && planned.folder.is_none());
    assert_eq!(everything_below(&engine.path()), before);
    assert!(!recovered(&engine.path()).needed);
    let changed: Vec<_> = everything_below(&engine.path())
        .into_iter()
        .filter(|(path, now)| before.get(path).is_none_or(|before| before.1 != now.1))
        .map(|(path, _)| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(changed, ["gateway.lock"]);
}

#[tokio::test]
async fn damage_in_the_middle_costs_what_is_damaged_and_nothing_else() {
    let (engine, known) = filled().await;
    lose(&engine.path(), 70..=72);
    replace(&engine.path(), 110, "Case 110", "Base 110");
    tamper(&engine.path(), "delete from delivered where seq = 62; insert into waiting values (63, 2, 0, 0, 0, null)");
    let before = everything_below(&engine.path());
    let planned = plan(&engine.path(), &ALL, &mut |_| {}).unwrap();
    assert_eq!(everything_below(&engine.path()), before, "a plan changed something");
    assert!(planned.needed);
    assert_eq!((planned.losses.lost, planned.losses.given_up), (4, 2));
    let original = fs::read(engine.path().join("records.db")).unwrap();

    let recovery = recovered(&engine.path());
    assert_eq!(recovery.losses, planned.losses, "it does what it said");
    let folder = recovery.folder.unwrap();
    assert_eq!(fs::read(folder.join("original/records.db")).unwrap(), original);
    let written: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    assert_eq!(written["losses"]["lost"], 4);
    let manifest = fs::read_to_string(folder.join("manifest.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let damaged = lines.iter().find(|line| line["number"] == 110).unwrap();
    assert_eq!(damaged["receipt"], known[109].0.to_string());
    let quarantined = fs::read(folder.join("quarantine.bin")).unwrap();
    let length = damaged["headBytes"].as_u64().unwrap() + damaged["bodyBytes"].as_u64().unwrap();
    assert_eq!((damaged["at"].as_u64(), quarantined.len() as u64), (Some(0), length));
    assert!(quarantined.windows(8).any(|part| part == b"Base 110"));

    let report = sound(&engine.path());
    assert_eq!((report.counts.lost_and_written_down, report.written_down.len()), (4, 2));
    assert!(report.written_down[1].why.contains("checksum") && report.written_down[1].why.contains("it was"));
    assert_eq!(losses(&engine, &known).await, (vec![70, 71, 72, 110], vec![62, 63]));
    // Again: there is nothing more to do, and what was written down stays.
    assert!(!recovered(&engine.path()).needed);
    assert_eq!(sound(&engine.path()).counts.lost_and_written_down, 4);
}

#[tokio::test]
async fn what_was_lost_can_be_sent_again_and_numbers_are_not_used_twice() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    let mut ids: Vec<ReceiptId> = Vec::new();
    for record in 1..=9 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    bench.0.close().await;
    lose(&engine.path(), 7..);
    tamper(&engine.path(), "update meta set high_water = 6, listed_to = 6");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 7, to: 9, .. }) && refused.is_damage(), "{refused}");
    let recovery = recovered(&engine.path());
    assert_eq!((recovery.losses.kept, recovery.losses.lost), (6, 3));

    let store = engine.start();
    for id in &ids[6..] {
        let told = store.receipt(*id).await.unwrap_err();
        assert!(matches!(&told, StoreError::Lost { .. }), "{told}");
        assert!(store.record(*id).await.is_err());
    }
    assert_eq!(store.stats().high_water_mark, 9);
    let again = store.append(entry(admitted(8))).await.unwrap();
    assert_eq!(again.repeat(), None);
    assert_eq!(store.append(entry(admitted(3))).await.unwrap().id(), ids[2]);
    assert_eq!(store.stats().high_water_mark, 10);
    assert!(matches!(store.receipt(ids[7]).await, Err(StoreError::Lost { .. })));
    store.close().await;
    drop(store);
    let report = sound(&engine.path());
    assert_eq!((report.newest, report.counts.lost_and_written_down), (10, 3));
    // All that is left is delivered and deleted, the newest too: what was lost at the end goes on counting.
    engine.start().close().await;
}

#[tokio::test]
async fn a_store_whose_tail_was_lost_forgets_the_rest_in_its_time() {
    use crate::store::Outcome;
    use crate::store::contract::{Engine as _, at, day};
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    for record in 1..=5 {
        bench.append(admitted(record)).await;
        bench.settle_next(at(1), Outcome::Delivered).await;
    }
    bench.0.close().await;
    lose(&engine.path(), 4..);
    recovered(&engine.path());
    let bench = Bench(engine.start());
    assert_eq!(engine.sweep(day(41)).await.deleted, 3);
    bench.0.close().await;
    let bench = Bench(engine.start());
    assert_eq!(bench.0.stats().high_water_mark, 5);
    bench.append(admitted(6)).await;
    assert_eq!(bench.0.stats().high_water_mark, 6);
    bench.0.close().await;
    assert_eq!(sound(&engine.path()).counts.deleted, 3);
}

#[tokio::test]
async fn a_lane_whose_row_is_damaged_is_taken_from_its_index() {
    let (engine, known) = filled().await;
    let path = engine.path().join("records.db");
    let conn = Connection::open(&path).unwrap();
    let organization: Vec<u8> =
        conn.query_row("select organization from lanes where id = 2", [], |row| row.get(0)).unwrap();
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
    drop(conn);
    // In the row, which comes with the work stream behind it, and not in the index: there are two copies of both.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(16).rposition(|part| part == organization).unwrap();
    let first = bytes.windows(16).position(|part| part == organization).unwrap();
    assert_ne!(at, first);
    for one in [at, first] {
        bytes[one] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        let _derived = fs::remove_file(engine.path().join("records.db-wal"));
        let report = look(&engine.path()).unwrap();
        assert!(!report.sound);
        let copied = InDirectory::merging_at(16);
        copy(&engine.path(), &copied.path());
        recovered(&copied.path());
        sound(&copied.path());
        assert_eq!(losses(&copied, &known).await, (vec![], vec![]));
        bytes[one] ^= 0x40;
    }
}

#[tokio::test]
async fn a_zeroed_page_costs_what_was_on_it() {
    let (engine, known) = filled().await;
    let path = engine.path().join("records.db");
    let saved = fs::read(&path).unwrap();
    let mut kept_most = 0;
    for page in 1..saved.len() / 4_096 {
        let copied = InDirectory::merging_at(16);
        copy(&engine.path(), &copied.path());
        let mut bytes = saved.clone();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0);
        fs::write(copied.path().join("records.db"), bytes).unwrap();
        if look(&copied.path()).unwrap().sound {
            continue;
        }
        match recover(&copied.path(), &ALL, &mut |_| {}) {
            // The page of the table meta.
            Err(OpenError::NotRecoverable { .. }) => continue,
            Err(fault) => panic!("page {page}: {fault}"),
            Ok(_) => {}
        }
        sound(&copied.path());
        let (lost, _) = losses(&copied, &known).await;
        kept_most += usize::from(lost.len() < 30);
    }
    assert!(kept_most > 10, "{kept_most}");
}

#[tokio::test]
async fn an_index_that_is_damaged_alone_is_moved_away() {
    let (engine, known) = filled().await;
    let records = fs::read(engine.path().join("records.db")).unwrap();
    let run = fs::read_dir(engine.path().join("keys")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&run).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&run, bytes).unwrap();
    let recovery = recovered(&engine.path());
    assert!(recovery.needed && recovery.folder.unwrap().join("original/keys").is_dir());
    assert_eq!(fs::read(engine.path().join("records.db")).unwrap(), records);
    sound(&engine.path());
    assert_eq!(losses(&engine, &known).await, (vec![], vec![]));
}

#[tokio::test]
async fn without_the_secret_nothing_is_recovered_and_nothing_changed() {
    let (engine, _) = filled().await;
    tamper(&engine.path(), "update meta set receipt_secret = randomblob(32)");
    let records = fs::read(engine.path().join("records.db")).unwrap();
    let refused = recover(&engine.path(), &ALL, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, OpenError::NotRecoverable { .. }), "{refused}");
    assert_eq!(fs::read(engine.path().join("records.db")).unwrap(), records);
    assert!(matches!(plan(&engine.path(), &ALL, &mut |_| {}), Err(OpenError::NotRecoverable { .. })));
}

/// A recovery that dies before its note leaves the old store, one that dies after it the new one.
#[tokio::test]
async fn a_recovery_that_is_cut_short_leaves_the_one_or_the_other() {
    let (engine, known) = filled().await;
    lose(&engine.path(), 70..=72);
    let before = fs::read(engine.path().join("records.db")).unwrap();
    let done = InDirectory::merging_at(16);
    copy(&engine.path(), &done.path());
    let folder = recovered(&done.path()).folder.unwrap();

    // Before: the folder is there, and says nothing.
    let cut = InDirectory::merging_at(16);
    copy(&engine.path(), &cut.path());
    fs::create_dir_all(cut.path().join("recovery-1/new")).unwrap();
    fs::create_dir_all(cut.path().join("recovery-1/original")).unwrap();
    assert!(matches!(refusal(&cut.path()), OpenError::Damaged { from: 70, to: 72, .. }));
    assert_eq!(fs::read(cut.path().join("records.db")).unwrap(), before);
    recovered(&cut.path());
    assert!(!cut.path().join("recovery-1").exists(), "what never was is cleared away");
    assert_eq!(losses(&cut, &known).await, (vec![70, 71, 72], vec![]));

    // After: a start finishes it, and until then nobody takes it for anything.
    let cut = InDirectory::merging_at(16);
    copy(&engine.path(), &cut.path());
    let name = folder.file_name().unwrap();
    copy(&folder, &cut.path().join(name));
    fs::create_dir(cut.path().join(name).join("new")).unwrap();
    fs::copy(done.path().join("records.db"), cut.path().join(name).join("new/records.db")).unwrap();
    fs::write(cut.path().join(swap::PENDING), name.as_encoded_bytes()).unwrap();
    fs::remove_dir_all(cut.path().join(name).join("original")).unwrap();
    fs::create_dir(cut.path().join(name).join("original")).unwrap();
    let told = look(&cut.path()).unwrap_err();
    assert!(matches!(told, OpenError::RecoveryCutShort { .. }), "{told}");
    assert_eq!(losses(&cut, &known).await, (vec![70, 71, 72], vec![]));
    sound(&cut.path());
    assert_eq!(fs::read(cut.path().join(name).join("original/records.db")).unwrap(), before);
}

#[tokio::test]
async fn dead_letters_of_a_recovery_can_be_requeued() {
    let (engine, known) = filled().await;
    tamper(&engine.path(), "delete from delivered where seq = 62");
    recovered(&engine.path());
    let bench = Bench(engine.start());
    assert_eq!(bench.requeue(DeadLetters::One(known[61].0)).await.count, 1);
    bench.0.close().await;
    sound(&engine.path());
}
