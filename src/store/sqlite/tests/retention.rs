//! Forgetting, as this engine does it: what stays on disk, what a start says afterwards, what a full disk does.

use std::time::Instant;

use futures_util::future::join_all;

use super::*;
use crate::domain::fixtures::{admitted, admitted_in, admitted_with};
use crate::domain::ids::ReceiptId;
use crate::store::contract::{Bench, at, day, entry};
use crate::store::sqlite::OpenError;
use crate::store::{Details, LaneId, Outcome, Refusing, StoreError};

/// Appends so many records, and delivers all of them at this moment.
async fn deliver(bench: &Bench, records: std::ops::RangeInclusive<u32>, moment: Timestamp) -> Vec<ReceiptId> {
    let appends = join_all(records.map(|record| bench.append(admitted(record)))).await;
    for leased in bench.lease(moment, appends.len()).await.leased {
        bench.settle(&leased, moment, Outcome::Delivered).await;
    }
    appends.iter().map(crate::store::Receipt::id).collect()
}

fn number(dir: &Path, sql: &str) -> i64 {
    Connection::open(dir).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn more_than_a_slice_is_forgotten_in_one_sweep() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    let ids = deliver(&bench, 1..=700, at(1)).await;
    assert_eq!(engine.sweep(day(36)).await.trimmed, 700);
    let marked = "select count(*) from delivered where trimmed = 1";
    assert_eq!(number(&engine.path().join("records.db"), marked), 700, "none is looked at again");
    assert_eq!(engine.sweep(day(41)).await.deleted, 699);
    assert_eq!(bench.0.receipt(ids[300]).await.unwrap(), None);
    bench.0.close().await;
    let file = engine.path().join("records.db");
    assert_eq!(number(&file, "select count(*) from blocks"), 1);
    assert_eq!(number(&file, "select count(*) from deleted"), 1, "ranges that touch are one");
    assert_eq!(number(&file, "select last from deleted"), 699);
    assert!(number(&file, "pragma freelist_count") > 0, "its room can be used again");
}

#[tokio::test]
async fn what_was_deleted_is_no_loss_and_what_was_lost_is_no_deletion() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    deliver(&bench, 1..=10, at(1)).await;
    // 11 to 14: delivered too late to go; 15 and 16 stay pending.
    deliver(&bench, 11..=14, day(20)).await;
    for record in 15..=16 {
        bench.append(admitted(record)).await;
    }
    assert_eq!(engine.sweep(day(45)).await.deleted, 10);
    bench.0.close().await;
    engine.start().close().await;

    let file = engine.path().join("records.db");
    let saved = std::fs::read(&file).unwrap();
    let refused_after = |sql: &str| {
        std::fs::write(&file, &saved).unwrap();
        tamper(&engine.path(), sql);
        refusal(&engine.path())
    };
    for record in [11, 12] {
        std::fs::write(&file, &saved).unwrap();
        lose(&engine.path(), record..=record);
        let refused = refusal(&engine.path());
        let OpenError::Damaged { from, to, .. } = refused else { panic!("{record}: {refused}") };
        assert_eq!((from, to), (record.cast_unsigned(), record.cast_unsigned()));
    }
    for (sql, from, to) in
        [("update deleted set last = 8", 9, 10), ("update deleted set first = 3", 1, 2), ("delete from deleted", 1, 10)]
    {
        let refused = refused_after(sql);
        let OpenError::Damaged { from: first, to: last, .. } = refused else { panic!("{sql}: {refused}") };
        assert_eq!((first, last), (from, to), "{sql}");
    }
    for (sql, told) in [
        ("update deleted set last = 11", "record 11 is there although it was deleted"),
        ("update deleted set last = 16", "cannot have been deleted"),
        ("update deleted set first = 0", "cannot have been deleted"),
        ("insert into deleted values (11, 11)", "cannot have been deleted"),
        ("delete from untried where first = 15", "record 15 is in none of these states"),
        ("insert into waiting values (16, 1, 0, 0, 0, null)", "record 16 is in two of these states"),
    ] {
        let refused = refused_after(sql).to_string();
        assert!(refused.contains(told), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn an_index_is_made_again_of_the_records_that_are_left() {
    let engine = InDirectory::merging_at(8);
    let store = engine.start();
    let bench = Bench(Arc::clone(&store) as Arc<dyn Store>);
    deliver(&bench, 1..=60, at(1)).await;
    let kept = bench.append_at(admitted(61), day(20)).await.id();
    assert_eq!(engine.sweep(day(41)).await.deleted, 60);
    drop(store);
    bench.0.close().await;

    std::fs::remove_dir_all(engine.path().join("keys")).unwrap();
    let bench = Bench(engine.start());
    assert_eq!(bench.append_at(admitted(61), day(41)).await.id(), kept);
    assert_eq!(bench.append_at(admitted(1), day(41)).await.repeat(), None);
    bench.0.close().await;
}

#[tokio::test]
async fn an_index_that_still_has_the_key_of_a_deleted_record_leads_nobody_astray() {
    let engine = InDirectory::merging_at(1);
    let store = engine.start();
    let bench = Bench(Arc::clone(&store) as Arc<dyn Store>);
    let id = deliver(&bench, 1..=1, at(1)).await[0];
    bench.append_at(admitted(2), day(20)).await;
    super::keys::until_merged(&store, 2).await;
    assert_eq!(engine.sweep(day(41)).await.deleted, 1);
    assert_eq!(store.runs.now().entries(), 2);
    drop(store);
    let bench = bench.reopen(&engine).await;
    // By a clock that went back the deleted record would be young enough to count.
    let again = bench.append_at(admitted(1), day(1)).await;
    assert_eq!(again.repeat(), None);
    assert_ne!(again.id(), id);
    assert_eq!(bench.append_at(admitted(1), day(1)).await.id(), again.id());
    bench.0.close().await;
}

#[tokio::test]
async fn details_can_go_with_the_delivery() {
    let mut engine = InDirectory::new();
    let bench = Bench(engine.start());
    let before = deliver(&bench, 1..=20, at(1)).await;
    bench.0.close().await;

    engine.retention.delivered_details = Duration::ZERO;
    let bench = Bench(engine.start());
    let after = deliver(&bench, 21..=22, at(2)).await;
    let waits = bench.append(admitted(23)).await.id();
    bench.settle_next(at(2), Outcome::Waiting { closes_at: at(60) }).await;
    let are_trimmed = async |ids: &[ReceiptId]| {
        let mut trimmed = Vec::new();
        for id in ids {
            let record = bench.0.record(*id).await.unwrap().unwrap();
            trimmed.push(matches!(record.details, Details::Trimmed { .. }));
        }
        trimmed
    };
    assert_eq!(are_trimmed(&after).await, [true, true], "no sweep needed");
    assert_eq!(are_trimmed(&[waits]).await, [false]);
    assert_eq!(are_trimmed(&before[..1]).await, [false]);
    let swept = engine.sweep(at(60)).await;
    assert_eq!((swept.closed, swept.trimmed), (1, 20), "those of before");
    assert_eq!(engine.sweep(at(61)).await, Swept::default());
    assert_eq!(are_trimmed(&[before[0], before[19], waits]).await, [true, true, true]);
    bench.0.close().await;
}

#[tokio::test]
async fn what_is_wanted_is_neither_trimmed_nor_deleted() {
    let mut engine = InDirectory::new();
    engine.retention.delivered_details = Duration::ZERO;
    let bench = Bench(engine.start());
    bench.0.keep_from(Some(11));
    let ids = deliver(&bench, 1..=30, at(1)).await;
    let whole = async |bench: &Bench| {
        let mut whole = 0;
        for id in &ids {
            let record = bench.0.record(*id).await.unwrap();
            whole += usize::from(record.is_some_and(|record| record.details.kept().is_some()));
        }
        whole
    };
    assert_eq!(whole(&bench).await, 20, "those before go with their delivery");
    let swept = engine.sweep(day(41)).await;
    assert_eq!((swept.trimmed, swept.deleted, whole(&bench).await), (0, 10, 20));
    bench.0.keep_from(Some(21));
    let swept = engine.sweep(day(42)).await;
    assert_eq!((swept.deleted, whole(&bench).await), (10, 10));
    bench.0.keep_from(None);
    let swept = engine.sweep(day(43)).await;
    assert_eq!((swept.deleted, whole(&bench).await), (9, 0), "the newest record stays, without its details");
    bench.0.close().await;
}

#[tokio::test]
async fn after_a_start_everything_is_wanted_until_somebody_says_otherwise() {
    let mut engine = InDirectory::new();
    engine.retention.delivered_details = Duration::ZERO;
    let bench = Bench(engine.start());
    bench.0.keep_from(Some(1));
    let ids = deliver(&bench, 1..=3, at(1)).await;
    bench.0.close().await;
    let bench = Bench(engine.start_untold());
    assert_eq!(engine.sweep(day(41)).await, Swept::default());
    bench.0.keep_from(Some(1));
    assert_eq!(engine.sweep(day(42)).await, Swept::default());
    assert!(bench.0.record(ids[0]).await.unwrap().unwrap().details.kept().is_some());
    bench.0.close().await;
}

#[tokio::test]
async fn damage_is_not_covered_up_by_forgetting() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    let ids = deliver(&bench, 1..=300, at(1)).await;
    bench.append_at(admitted(301), day(20)).await;
    bench.0.close().await;
    replace(&engine.path(), 3, "Case", "Base");
    lose(&engine.path(), 4..=4);
    let bench = Bench(engine.start());
    assert_eq!(engine.sweep(day(36)).await.trimmed, 298);
    let damaged = bench.0.record(ids[2]).await;
    assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{damaged:?}");
    assert_eq!(engine.sweep(day(41)).await.deleted, 299, "the damaged one goes in its time, the lost one stays lost");
    let lost = bench.0.receipt(ids[3]).await;
    assert!(matches!(lost, Err(StoreError::Damaged(_))), "{lost:?}");
    assert_eq!(bench.0.receipt(ids[2]).await.unwrap(), None);
    bench.0.close().await;
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 4, to: 4, .. }), "{refused}");
}

fn large(record: u32) -> Box<crate::domain::admission::Admitted> {
    admitted_with(1, 1, record, &format!("{{\"title\":\"{}\"}}", "x".repeat(5_000)))
}

#[tokio::test]
async fn a_full_disk_becomes_ready_again_by_deliveries_alone() {
    let mut engine = InDirectory::new();
    engine.tuning.disk_pages = Some(1_200);
    engine.settings.disk_reserve_bytes = 200 * 8_192;
    let bench = Bench(engine.start());
    let mut ids = Vec::new();
    let mut next = 1;
    let mut fill = async |ids: &mut Vec<ReceiptId>| loop {
        match bench.0.append(entry(large(next))).await {
            Ok(receipt) => ids.push(receipt.id()),
            Err(StoreError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        next += 1;
        assert!(next < 10_000, "it is never full");
    };
    fill(&mut ids).await;
    assert_eq!(bench.0.stats().refusing, Some(Refusing::Full));
    let first_fill = ids.len();
    assert!(first_fill > 200, "{first_fill} records");
    // Nothing is delivered: nothing can go.
    assert_eq!(engine.sweep(at(1)).await, Swept::default());
    assert_eq!(bench.0.stats().refusing, Some(Refusing::Full));

    for round in 0..5 {
        let half = ids.len() / 2;
        for leased in bench.lease(at(2 + round), half).await.leased {
            bench.settle(&leased, at(2 + round), Outcome::Delivered).await;
        }
        let swept = engine.sweep(at(2 + round)).await;
        assert!(swept.trimmed > 0 && swept.deleted == 0, "{swept:?}");
        let stats = bench.0.stats();
        assert_eq!(stats.refusing, None, "round {round}");
        assert!(stats.disk.unwrap().free_bytes_above_reserve > 0);
        let before = ids.len();
        fill(&mut ids).await;
        assert!(ids.len() > before + 10, "round {round}: {} more", ids.len() - before);
    }
    // Receipts and repeats are as ever, and what is pending has its details.
    assert_eq!(bench.0.append(entry(large(1))).await.ok().map(|receipt| receipt.id()), None, "it is full");
    assert!(bench.0.record(ids[0]).await.unwrap().unwrap().details.kept().is_none());
    let pending = bench.0.stats().pending;
    assert_eq!(bench.lease(at(100), 10_000).await.leased.len() as u64, pending.min(4_096));
    bench.0.close().await;
    assert!(number(&engine.path().join("records.db"), "pragma page_count") <= 1_200, "it stayed within its disk");
}

#[tokio::test]
async fn a_full_disk_takes_no_details_where_that_is_not_wanted() {
    let mut engine = InDirectory::new();
    engine.settings.disk_reserve_bytes = u64::MAX;
    engine.retention.trim_when_full = false;
    let bench = Bench(engine.start());
    assert_eq!(bench.0.stats().refusing, Some(Refusing::Full));
    bench.0.close().await;
    engine.settings.disk_reserve_bytes = 0;
    let bench = Bench(engine.start());
    deliver(&bench, 1..=3, at(1)).await;
    bench.0.close().await;
    engine.settings.disk_reserve_bytes = u64::MAX;
    let bench = Bench(engine.start());
    assert_eq!(engine.sweep(at(2)).await, Swept::default());
    bench.0.close().await;
    engine.retention.trim_when_full = true;
    let bench = Bench(engine.start());
    assert_eq!(engine.sweep(at(2)).await.trimmed, 3);
    assert_eq!(engine.sweep(at(2)).await, Swept::default());
    bench.0.close().await;
}

/// The thread as it runs in a gateway: by the clock of the machine.
#[tokio::test]
async fn by_the_clock_waiting_records_close_and_old_ones_go() {
    let mut engine = InDirectory::new();
    engine.tuning.pace = Pace::ByClock;
    engine.retention.accepted = None;
    let bench = Bench(engine.start());
    let now = Timestamp::now();
    let long_ago = Timestamp::from_millis(now.millis() - 100 * 24 * 60 * 60 * 1_000);
    let old = bench.append_at(admitted(1), long_ago).await.id();
    bench.settle_next(long_ago, Outcome::Delivered).await;
    let waits = bench.append_at(admitted(2), now).await.id();
    let stays = bench.append_at(admitted_in(1, 2, 3), now).await;
    let leased = bench.lease_from(vec![vec![LaneId(1)]], now, 1).await.leased.remove(0);
    let closes_at = now.after(Duration::from_millis(200));
    bench.settle(&leased, now, Outcome::Waiting { closes_at }).await;
    let bench = bench.reopen(&engine).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let closed = bench.status(waits).await.settled_at;
        if closed.is_some() && bench.0.receipt(old).await.unwrap().is_none() {
            assert_eq!(closed, Some(closes_at));
            break;
        }
        assert!(Instant::now() < deadline, "nothing is closed or deleted");
        tokio::task::yield_now().await;
    }
    assert!(bench.status(stays.id()).await.settled_at.is_none());
    bench.0.close().await;
}

#[tokio::test]
async fn a_store_that_closes_in_the_middle_of_a_sweep_loses_nothing() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    let ids = deliver(&bench, 1..=600, at(1)).await;
    bench.append_at(admitted(601), day(20)).await;
    bench.0.close().await;
    let mut gone = 0;
    for _ in 0..3 {
        let store = engine.start();
        let (reply, _cut_short) = tokio::sync::oneshot::channel();
        assert!(store.sweeps.send(Call::Sweep(Moment::of(day(41), day(41)), reply)).is_ok());
        // It comes behind some of the slices.
        store.close().await;
        drop(store);
        let bench = Bench(engine.start());
        let mut known = 0;
        for id in &ids {
            known += usize::from(bench.0.receipt(*id).await.unwrap().is_some());
        }
        assert!(ids.len() - known >= gone, "what was deleted stays deleted");
        gone = ids.len() - known;
        bench.0.close().await;
    }
    let bench = Bench(engine.start());
    assert_eq!(engine.sweep(day(41)).await.deleted, (ids.len() - gone) as u64);
    bench.0.close().await;
}
