//! What is missing or changed is named, never passed over.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::domain::fixtures::{admitted, admitted_with};
use crate::domain::ids::ReceiptId;
use crate::store::contract::{Bench, at, receipts};
use crate::store::sqlite::OpenError;
use crate::store::{DeliveryState, LaneId, ListQuery, Outcome, StoreError};

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
    lose(&engine.path(), 8..);
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 8, to: 10, .. }), "{refused}");
    assert!(refused.to_string().contains("lost records 8 to 10"), "{refused}");
}

#[tokio::test]
async fn a_gap_near_the_end_is_refused_with_its_extent() {
    let (engine, _) = filled(10).await;
    lose(&engine.path(), 4..=5);
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 4, to: 5, .. }), "{refused}");
    let (engine, _) = filled(10).await;
    lose(&engine.path(), ..3);
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 1, to: 2, .. }), "{refused}");
}

#[tokio::test]
async fn records_behind_the_mark_in_the_database_are_missed() {
    let (engine, _) = filled(10).await;
    tamper(&engine.path(), "update meta set high_water = 12");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 11, to: 12, .. }), "{refused}");
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
    let bytes = fs::read(copy.path().join("records.db-wal")).unwrap();
    // Behind what was written there are zeros.
    let middle = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 / 2;
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
    let bench = Bench(engine.start());
    bench.lease(at(1), 5).await;
    bench.0.close().await;
    tamper(&engine.path(), "delete from pending where seq = 3");
    let refused = refusal(&engine.path());
    assert!(refused.to_string().contains("record 3 is in none of these states"), "{refused}");
    // As many as there should be, but not the same ones.
    tamper(&engine.path(), "insert into pending values (1, 11, 0, 0, null, null)");
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Inconsistent { .. }), "{refused}");
}

#[tokio::test]
async fn an_untried_record_that_is_lost_from_its_list_is_refused() {
    for (damage, told) in [
        ("delete from untried where lane = 1 and first > 1", "is in none of these states"),
        ("update untried set seqs = x'80' where first = 1", "the list of untried records 1 to"),
        ("update untried set last = last + 1 where first = 1", "the list of untried records 1 to"),
        ("update untried set lane = 9 where first = 1", "the list of untried records 1 to"),
        ("update lanes set untried_from = 4", "record 1 is in none of these states"),
        ("update meta set listed_to = 30", "record 31 is in two of these states"),
    ] {
        let (engine, _) = filled(40).await;
        tamper(&engine.path(), damage);
        let refused = refusal(&engine.path()).to_string();
        assert!(refused.contains(told), "{damage}: {refused}");
    }
}

#[tokio::test]
async fn a_changed_record_is_reported_and_does_not_stop_the_others() {
    let (engine, ids) = filled(RECORDS).await;
    replace(&engine.path(), 3, "Case", "Base");
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
    replace(&engine.path(), 3, "Base", "Case");
    let bench = Bench(engine.start());
    let status = bench.status(ids[2]).await;
    assert_eq!(status.state, DeliveryState::DeadLettered);
    assert!(status.last_error.unwrap().contains("checksum"));
    bench.0.close().await;
}

#[tokio::test]
async fn a_change_in_any_byte_of_a_record_is_noticed() {
    let (engine, ids) = filled(RECORDS).await;
    let original = engine.path().join("records.db");
    let saved = fs::read(&original).unwrap();
    let changes: [&dyn Fn(&mut Head); 5] = [
        &|head| head.lane = LaneId(2),
        &|head| head.crc ^= 1,
        &|head| head.accepted_at += 1,
        &|head| head.random[3] ^= 1,
        &|head| head.key[15] ^= 1,
    ];
    let noticed = async |what: &str, change: &dyn Fn(&mut Head, &mut Vec<u8>)| {
        fs::write(&original, &saved).unwrap();
        rewrite(&engine.path(), |seq, head, body| {
            if seq == 3 {
                change(head, body);
            }
            true
        });
        let bench = Bench(engine.start());
        let outcome = bench.0.receipt(ids[2]).await;
        assert!(matches!(outcome, Err(StoreError::Damaged(_))), "{what}: {outcome:?}");
        bench.0.close().await;
    };
    for (n, change) in changes.iter().enumerate() {
        noticed(&format!("head {n}"), &|head, _| change(head)).await;
    }
    let mut length = 0;
    rewrite(&engine.path(), |seq, _, body| {
        if seq == 3 {
            length = body.len();
        }
        true
    });
    for at in (0..length).step_by(7) {
        noticed(&format!("byte {at}"), &|_, body| body[at] ^= 1).await;
    }
    noticed("a byte less", &|_, body| body.truncate(body.len() - 1)).await;
    noticed("a byte more", &|_, body| body.push(b' ')).await;
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
