//! What is missing or changed is named, never passed over.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::domain::fixtures::{admitted, admitted_with};
use crate::domain::ids::ReceiptId;
use crate::store::contract::{Bench, at, receipts};
use crate::store::sqlite::OpenError;
use crate::store::{DeliveryState, ListQuery, Outcome, StoreError};

/// More than a start verifies one by one.
const RECORDS: u32 = 300;

/// A closed store with records, and their receipts.
async fn filled(records: u32) -> (InDirectory, Vec<ReceiptId>) {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    let appends = (1..=records).map(|record| bench.append(admitted(record)));
    let ids = futures_util::future::join_all(appends).await.iter().map(crate::store::Receipt::id).collect();
    bench.0.close().await;
    (engine, ids)
}

#[tokio::test]
async fn a_missing_tail_is_refused_with_its_extent() {
    let (engine, _) = filled(10).await;
    tamper(&engine.path(), "delete from records where seq > 7");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 8, to: 10, .. }), "{refused}");
    assert!(refused.to_string().contains("lost records 8 to 10"), "{refused}");
}

#[tokio::test]
async fn a_gap_near_the_end_is_refused_with_its_extent() {
    let (engine, _) = filled(10).await;
    tamper(&engine.path(), "delete from records where seq between 4 and 5");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 4, to: 5, .. }), "{refused}");
    let (engine, _) = filled(10).await;
    tamper(&engine.path(), "delete from records where seq < 3");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 1, to: 2, .. }), "{refused}");
}

#[tokio::test]
async fn records_beyond_the_mark_are_refused() {
    let (engine, _) = filled(10).await;
    tamper(&engine.path(), "update meta set high_water = 9");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Inconsistent { .. }), "{refused}");
}

#[tokio::test]
async fn a_cut_log_is_refused_although_the_database_agrees_with_itself() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    for record in 1..=5 {
        bench.append(admitted(record)).await;
    }
    // As a crash would leave it: the log is not folded in.
    let copy = InDirectory::new();
    fs::create_dir(copy.path()).unwrap();
    for name in ["records.db", "records.db-wal", "high-water.mark"] {
        fs::copy(engine.path().join(name), copy.path().join(name)).unwrap();
    }
    bench.0.close().await;
    let intact = Bench(copy.start());
    assert_eq!(intact.0.stats().high_water_mark, 5);
    intact.0.close().await;

    // Now with one bit flipped in a frame of the middle: SQLite drops it and all behind it.
    let bench = Bench(engine.start());
    for record in 6..=10 {
        bench.append(admitted(record)).await;
    }
    for name in ["records.db", "records.db-wal", "high-water.mark"] {
        fs::copy(engine.path().join(name), copy.path().join(name)).unwrap();
    }
    bench.0.close().await;
    let log = fs::File::options().read(true).write(true).open(copy.path().join("records.db-wal")).unwrap();
    let middle = log.metadata().unwrap().len() / 2;
    let mut byte = [0];
    log.read_exact_at(&mut byte, middle).unwrap();
    log.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    let refused = refusal(&copy.path());
    let OpenError::Damaged { from, to: 10, .. } = refused else { panic!("{refused}") };
    assert!((6..=10).contains(&from), "{refused}");
}

#[tokio::test]
async fn another_secret_is_refused() {
    let (engine, _) = filled(1).await;
    tamper(&engine.path(), "update meta set receipt_secret = randomblob(32)");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Inconsistent { .. }), "{refused}");
}

#[tokio::test]
async fn a_record_in_no_state_is_refused() {
    let (engine, _) = filled(10).await;
    tamper(&engine.path(), "delete from pending where seq = 3");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Inconsistent { .. }), "{refused}");
    // As many as there should be, but not the same ones.
    tamper(&engine.path(), "insert into pending values (1, 11, 0, 0, null, null)");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Inconsistent { .. }), "{refused}");
}

#[tokio::test]
async fn a_changed_record_is_reported_and_does_not_stop_the_others() {
    let (engine, ids) = filled(RECORDS).await;
    tamper(&engine.path(), "update records set details = cast(replace(details, 'Case', 'Base') as blob) where seq = 3");
    let bench = Bench(engine.start());
    for outcome in [bench.0.receipt(ids[2]).await.map(|_| ()), bench.0.record(ids[2]).await.map(|_| ())] {
        let Err(StoreError::Damaged(what)) = outcome else { panic!("{outcome:?}") };
        assert!(what.contains("record 3") && what.contains("checksum"), "{what}");
    }
    let page = bench.0.list(ListQuery { before: Some(5), limit: 5, ..ListQuery::default() }).await;
    assert!(matches!(page, Err(StoreError::Damaged(_))), "{page:?}");
    let repeat = bench.0.append(crate::store::contract::entry(admitted(3))).await;
    assert!(matches!(repeat, Err(StoreError::Damaged(_))), "{repeat:?}");

    // It is given up by name, and those around it are handed out.
    let leases = bench.lease(at(1), 4).await;
    assert_eq!(receipts(&leases), [ids[0], ids[1], ids[3]]);
    assert_eq!(leases.next_due, Some(at(1)), "there is more");
    assert_eq!(bench.0.stats().dead_lettered, 1);
    assert_eq!(receipts(&bench.lease(at(1), 1).await), [ids[4]]);
    bench.0.close().await;

    // Undamaged again, it says why it was given up.
    tamper(&engine.path(), "update records set details = cast(replace(details, 'Base', 'Case') as blob) where seq = 3");
    let bench = Bench(engine.start());
    let status = bench.status(ids[2]).await;
    assert_eq!(status.state, DeliveryState::DeadLettered);
    assert!(status.last_error.unwrap().contains("checksum"));
    bench.0.close().await;
}

#[tokio::test]
async fn a_change_in_any_column_is_noticed() {
    let columns = [
        "seq = 1000",
        "receipt = randomblob(16)",
        "duplicate_key = randomblob(16)",
        "entity_logical_name = 'account'",
        "entity_set_name = 'accounts'",
        "record_id = randomblob(16)",
        "relationship_name = 'other'",
        "route = replace(route, '1', '2')",
        "catalog_generation = 8",
        "accepted_at = accepted_at + 1",
        "traceparent = ''",
        "client_tracking_id = 'x'",
        "crc = crc + 1",
        "details = '{}'",
        "lane = 2",
    ];
    let (engine, ids) = filled(RECORDS).await;
    let original = engine.path().join("records.db");
    let saved = fs::read(&original).unwrap();
    for column in columns {
        fs::write(&original, &saved).unwrap();
        // The newest stays in its place, or the start would refuse.
        tamper(&engine.path(), &format!("update records set {} where seq = 3", column.replace("1000", "-3")));
        let bench = Bench(engine.start());
        let outcome = bench.0.receipt(ids[2]).await;
        assert!(matches!(outcome, Err(StoreError::Damaged(_))), "{column}: {outcome:?}");
        bench.0.close().await;
    }
    fs::write(&original, &saved).unwrap();
    // The lane's own row counts as part of each of its records, so the start notices at once.
    tamper(&engine.path(), "update lanes set organization = randomblob(16)");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Inconsistent { .. }), "{refused}");
}

/// Flips bits all over the file: whatever opens must either have every record or say which it has not.
#[tokio::test]
async fn flipped_bits_are_never_passed_over() {
    let (engine, _) = filled(0).await;
    let bench = Bench(engine.start());
    let mut expected = Vec::new();
    for record in 1..=40 {
        let details = format!("{{\"title\":\"{}\"}}", "x".repeat(900));
        expected.push(bench.append(admitted_with(1, 1 + record % 2, record, &details)).await.id());
    }
    for leased in &bench.lease(at(1), 10).await.leased {
        bench.settle(leased, at(2), Outcome::Delivered).await;
    }
    let mut before = Vec::new();
    for id in &expected {
        before.push((bench.status(*id).await, bench.0.record(*id).await.unwrap()));
    }
    bench.0.close().await;
    let path = engine.path().join("records.db");
    let saved = fs::read(&path).unwrap();
    let (mut noticed, mut unchanged) = (0, 0);
    // A prime step, so that every part of a page is met.
    for bit in (0..saved.len() * 8).step_by(17_989) {
        let mut bytes = saved.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        let _none = fs::remove_file(engine.path().join("records.db-wal"));
        let Ok(store) = SqliteStore::open(&engine.path(), &settings(), &for_ever()) else {
            noticed += 1;
            continue;
        };
        let mut reported = false;
        for (id, (status, record)) in expected.iter().zip(&before) {
            match (store.receipt(*id).await, store.record(*id).await) {
                (Ok(Some(seen)), Ok(seen_record)) => {
                    assert_eq!(seen_record, *record, "bit {bit}");
                    assert_eq!(seen.summary, status.summary, "bit {bit}");
                    assert_eq!(seen.settled_at.is_some(), status.settled_at.is_some(), "bit {bit}");
                }
                (Ok(None), _) | (_, Ok(None)) => panic!("bit {bit}: a receipt is unknown"),
                (Err(StoreError::Damaged(_) | StoreError::Engine(_)), _)
                | (_, Err(StoreError::Damaged(_) | StoreError::Engine(_))) => reported = true,
                (other, _) => panic!("bit {bit}: {other:?}"),
            }
        }
        if reported {
            noticed += 1;
        } else {
            unchanged += 1;
        }
        store.close().await;
    }
    assert!(noticed > 10, "{noticed} noticed, {unchanged} without effect");
}
