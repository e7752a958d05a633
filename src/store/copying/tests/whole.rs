//! A copy from its beginning to its end, and what a gateway finds there.

use std::collections::BTreeMap;

use super::*;
use crate::domain::fixtures::{admitted, admitted_in};
use crate::store::catalog::AuditQuery;
use crate::store::contract::{at, entry as arriving};
use crate::store::postgres::PostgresSubscriptions;
use crate::store::postgres::catalog::PostgresCatalog;
use crate::store::postgres::verify::verify;
use crate::store::sqlite::recover::recover;
use crate::store::sqlite::tests::tamper;
use crate::store::{LaneBacklog, Outcome, Settled, Settlement, StoreError};

/// What a store says of itself without being asked for a record.
fn figures(store: &dyn Store) -> (Vec<LaneBacklog>, [u64; 4]) {
    let stats = store.stats();
    (store.lanes(), [stats.pending, stats.waiting, stats.dead_lettered, stats.high_water_mark])
}

#[test]
fn all_of_it_is_there_and_the_files_are_as_they_were() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    let dir = filled.engine.path();
    let before = everything_below(&dir.canonicalize().unwrap());
    let mut stages = BTreeMap::new();
    let copied = base.copy(&dir, 7, &mut |progress| *stages.entry(progress.stage).or_insert(0) += 1).unwrap();
    assert_eq!(files(&dir), before);
    assert!(stages["copying records"] > 10 && stages["copying the audit trail"] > 4, "{stages:?}");
    assert_eq!((copied.newest, copied.resumed_after, copied.texts_changed), (120, None, 1));
    assert_eq!(copied.rows("records") + copied.gone, 120);
    let states = ["pending", "waiting", "delivered", "dead_letters", "discarded"].map(|table| copied.rows(table));
    assert!(states.iter().all(|rows| *rows > 0), "{copied:?}");
    assert_eq!(states.iter().sum::<u64>(), copied.rows("records"));
    assert_eq!((copied.rows("audit"), copied.rows("notices"), copied.lost_and_written_down), (38, 39, 0));

    let report = verify(&base.0.settings(), &ALL, &mut |_| {}).unwrap();
    assert!(report.sound, "{:?}", report.findings);
    assert_eq!((report.newest, report.counts.verified), (120, copied.rows("records")));
    let store = base.store().unwrap();
    same_receipts(&store, &filled.known);
    let there = figures(&*store);
    std::fs::remove_file(&copied.marked).unwrap();
    let files = filled.engine.start();
    assert_eq!(there, figures(&*files));
    assert_eq!(wait(store.since(0, 4_096)).unwrap(), wait(files.since(0, 4_096)).unwrap());
    wait(files.close());
}

#[test]
fn what_is_configured_and_the_trail_are_there() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    base.copy(&filled.engine.path(), 1_000, &mut |_| {}).unwrap();
    let (files, database) = (SqliteCatalog::open(&filled.engine.path(), 0).unwrap(), base.open().unwrap());
    let catalog = PostgresCatalog::open(database);
    let (there, was) = (catalog.load().unwrap(), files.load().unwrap());
    assert_eq!(there.generation, 1_000);
    assert_eq!((there.organizations, there.api_keys), (was.organizations, was.api_keys));
    let all = AuditQuery { limit: 1_000, ..AuditQuery::default() };
    assert_eq!(catalog.audit(&all).unwrap().entries, files.audit(&all).unwrap().entries);
    catalog.commit(&change((1_000, 1_001), Vec::new())).unwrap();
    let newest = catalog.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).unwrap().entries.remove(0).0;
    assert_eq!(newest, files.audit(&all).unwrap().entries[0].0 + 1, "numbers go on");
}

#[test]
fn who_is_subscribed_is_told_what_was_still_to_be_told() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    base.copy(&filled.engine.path(), 1_000, &mut |_| {}).unwrap();
    let files = SqliteSubscriptions::open(&filled.engine.path(), 0).unwrap();
    let there = PostgresSubscriptions::open(base.open().unwrap()).unwrap();
    assert_eq!(there.load().unwrap().1, files.load().unwrap().1);
    assert_eq!(there.position().unwrap(), 20);
    let sorted = |store: &dyn SubscriptionStore| {
        let mut standings = store.standings().unwrap();
        standings.sort_by_key(|(id, _)| *id.as_bytes());
        standings
    };
    let mut expected = sorted(&files);
    for (_, standing) in &mut expected {
        standing.last_error = standing.last_error.take().map(|error| error.replace('\0', "\u{fffd}"));
    }
    assert_eq!(sorted(&there), expected);
    for who in [1, 2, 3].map(subscriber) {
        for now in [day(1), day(4)] {
            assert_eq!(there.due(&who, now, 100).unwrap(), files.due(&who, now, 100).unwrap());
        }
        assert_eq!(there.dead_letters(&who, None, 100).unwrap(), files.dead_letters(&who, None, 100).unwrap());
    }
    assert_ne!(there.lead().unwrap(), crate::store::subscriptions::Role::Standby);
    assert_eq!(add(&there, &subscription(9, 0)), Fenced::Done, "numbers go on");
}

#[test]
fn repeats_are_recognized_leases_go_on_and_numbers_too() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    base.copy(&filled.engine.path(), 50, &mut |_| {}).unwrap();
    let bench = Bench(base.store().unwrap());
    wait(async {
        let mut known = 0;
        for record in 61..=120 {
            let receipt = bench.append_at(admitted_in(1, 2, record), day(42)).await;
            assert_eq!((receipt.id(), receipt.repeat().is_some()), (filled.known[record as usize - 1].0, true));
            known += 1;
        }
        assert_eq!(known, 60);
        // The first records were accepted before the window.
        assert!(bench.append_at(admitted_in(1, 1, 2), day(42)).await.repeat().is_none());
        assert_eq!(bench.0.stats().high_water_mark, 121);

        let Leased { record, token, attempt, .. } = &filled.leased;
        assert_eq!(bench.status(record.receipt).await.attempts, *attempt);
        let at = day(41).after(std::time::Duration::from_secs(1));
        let settle = |outcome| vec![Settlement { receipt: record.receipt, token: *token, at, outcome }];
        assert_eq!(bench.0.settle(settle(Outcome::Delivered)).await.unwrap(), [Settled::Done]);
        assert_eq!(bench.0.settle(settle(Outcome::Delivered)).await.unwrap(), [Settled::LeaseLost]);
        assert_eq!(bench.0.receipt(record.receipt).await.unwrap().unwrap().settled_at, Some(at));
    });
}

#[test]
fn receipts_of_lost_records_say_so_there_too() {
    let Some(base) = Base::new() else { return };
    let engine = InDirectory::merging_at(16);
    let ids = wait(async {
        let bench = Bench(engine.start());
        let mut ids = Vec::new();
        for record in 1..=30 {
            ids.push(bench.append(admitted(record)).await.id());
        }
        bench.0.close().await;
        ids
    });
    // The newest ones among them: numbers go on behind.
    crate::store::sqlite::tests::lose(&engine.path(), 4..=5);
    crate::store::sqlite::tests::lose(&engine.path(), 28..=30);
    recover(&engine.path(), &ALL, &mut |_| {}).unwrap();
    let copied = base.copy(&engine.path(), 10, &mut |_| {}).unwrap();
    assert_eq!((copied.newest, copied.gone, copied.lost_and_written_down), (30, 5, 5));
    let report = verify(&base.0.settings(), &ALL, &mut |_| {}).unwrap();
    assert!(report.sound, "{:?}", report.findings);
    assert_eq!((report.counts.deleted, report.counts.lost_and_written_down, report.written_down.len()), (0, 5, 2));
    let store = base.store().unwrap();
    wait(async {
        for (n, id) in (1..).zip(&ids) {
            let found = store.receipt(*id).await;
            match n {
                4 | 5 | 28..=30 => assert!(matches!(found, Err(StoreError::Lost { .. })), "record {n}: {found:?}"),
                _ => assert!(found.unwrap().is_some(), "record {n}"),
            }
        }
        let next = store.append(arriving(admitted(31))).await.unwrap();
        assert!(store.receipt(next.id()).await.unwrap().is_some());
        assert_eq!(store.stats().high_water_mark, 31);
    });
    drop(store);
    base.store().unwrap();
}

#[test]
fn a_text_that_the_database_cannot_take_is_changed_and_counted() {
    let Some(base) = Base::new() else { return };
    let engine = InDirectory::merging_at(16);
    let receipt = wait(async {
        let bench = Bench(engine.start());
        bench.append(admitted(1)).await;
        let receipt = bench.settle_next(at(1), crate::store::contract::dead("4\u{0}0")).await;
        bench.0.close().await;
        receipt
    });
    let copied = base.copy(&engine.path(), 10, &mut |_| {}).unwrap();
    assert_eq!(copied.texts_changed, 1);
    let status = wait(base.store().unwrap().receipt(receipt)).unwrap().unwrap();
    assert_eq!(status.last_error.as_deref(), Some("4\u{fffd}0"));
}

#[test]
fn an_empty_store_is_a_store() {
    let Some(base) = Base::new() else { return };
    let engine = InDirectory::merging_at(16);
    wait(engine.start().close());
    let copied = base.copy(&engine.path(), 10, &mut |_| {}).unwrap();
    assert_eq!((copied.newest, copied.tables.iter().map(|table| table.rows).sum::<u64>()), (0, 0));
    let bench = Bench(base.store().unwrap());
    assert!(wait(bench.append(admitted(1))).repeat().is_none());
    // A receipt of the one would be one of the other: the secret moved along.
    tamper(&engine.path(), "update meta set high_water = 0");
}

#[test]
fn tens_of_thousands_of_records_are_copied() {
    const RECORDS: u32 = 20_000;
    let Some(base) = Base::new() else { return };
    let engine = InDirectory::merging_at(4_096);
    let ids = wait(async {
        let store = engine.start();
        let mut ids = Vec::new();
        for from in (0..RECORDS).step_by(1_000) {
            let appends = (from..from + 1_000).map(|n| store.append(arriving(admitted_in(1 + n % 2, 1, n))));
            ids.extend(futures_util::future::join_all(appends).await.into_iter().map(|receipt| receipt.unwrap().id()));
        }
        let bench = Bench(Arc::clone(&store) as Arc<dyn Store>);
        for leased in bench.lease(at(1), 3_000).await.leased.chunks(500) {
            let outcome =
                |n: usize| if n.is_multiple_of(10) { crate::store::contract::dead("400") } else { Outcome::Delivered };
            let settle = |(n, leased): (usize, &Leased)| Settlement {
                receipt: leased.record.receipt,
                token: leased.token,
                at: at(1),
                outcome: outcome(n),
            };
            bench.0.settle(leased.iter().enumerate().map(settle).collect()).await.unwrap();
        }
        store.close().await;
        ids
    });
    let copied = base.copy(&engine.path(), PIECE_ROWS, &mut |_| {}).unwrap();
    assert_eq!((copied.rows("records"), copied.duplicate_keys), (u64::from(RECORDS), u64::from(RECORDS)));
    assert_eq!(["pending", "delivered", "dead_letters"].map(|table| copied.rows(table)), [17_000, 2_700, 300]);
    let store = base.store().unwrap();
    wait(async {
        for id in ids.iter().step_by(997) {
            assert!(store.record(*id).await.unwrap().is_some());
        }
    });
}
