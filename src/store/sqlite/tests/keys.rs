//! Duplicate keys on their way from memory to the index, and an index that is lost or lies.

use std::fs;
use std::time::{Duration, Instant};

use super::*;
use crate::domain::fixtures::admitted;
use crate::store::contract::{Bench, entry};
use crate::store::sqlite::OpenError;
use crate::store::{Refusing, StoreError};

/// Waits until memory holds no more than so many keys.
async fn until_merged(store: &SqliteStore, at_most: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.duplicates.recent().keys.len() > at_most {
        assert!(Instant::now() < deadline, "{} keys are still in memory", store.duplicates.recent().keys.len());
        tokio::task::yield_now().await;
    }
}

fn keys_in_index(dir: &Path) -> i64 {
    Connection::open(dir.join("index.db"))
        .unwrap()
        .query_row("select count(*) from keys", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn repeats_are_known_before_and_after_their_key_is_merged() {
    let engine = InDirectory::merging_at(8);
    let store = engine.start();
    let bench = Bench(Arc::clone(&store) as Arc<dyn Store>);
    let mut ids = Vec::new();
    for record in 1..=40 {
        ids.push(bench.append(admitted(record)).await.id());
        // Whatever has been merged by now.
        assert_eq!(bench.append(admitted(1 + record / 2)).await.id(), ids[(record / 2) as usize]);
    }
    until_merged(&store, 7).await;
    let merged = keys_in_index(&engine.path());
    assert!(merged >= 33, "{merged} keys are in the index");
    for (record, id) in (1..).zip(&ids) {
        assert_eq!(bench.append(admitted(record)).await.id(), *id);
    }
    drop(store);
    let bench = bench.reopen(&engine).await;
    for (record, id) in (1..).zip(&ids) {
        assert_eq!(bench.append(admitted(record)).await.id(), *id);
    }
    assert_eq!(bench.0.stats().high_water_mark, 40);
    bench.0.close().await;
}

#[tokio::test]
async fn a_lost_or_damaged_index_is_made_again() {
    let engine = InDirectory::merging_at(4);
    let bench = Bench(engine.start());
    let mut ids = Vec::new();
    for record in 1..=30 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    bench.0.close().await;
    let index = engine.path().join("index.db");
    let damages: [&dyn Fn(); 4] = [
        &|| {
            fs::remove_file(&index).unwrap();
            fs::remove_file(index.with_extension("db-wal")).unwrap();
        },
        &|| fs::write(&index, b"").unwrap(),
        &|| fs::write(&index, vec![7; 8_192]).unwrap(),
        // Another store's.
        &|| {
            let conn = Connection::open(&index).unwrap();
            assert_eq!(conn.execute("update meta set store = zeroblob(32)", []).unwrap(), 1);
        },
    ];
    for (n, damage) in damages.iter().enumerate() {
        damage();
        let bench = Bench(engine.start());
        for (record, id) in (1..).zip(&ids) {
            assert_eq!(bench.append(admitted(record)).await.id(), *id, "damage {n}");
        }
        assert_eq!(bench.0.stats().high_water_mark, 30);
        bench.0.close().await;
    }
}

#[tokio::test]
async fn an_index_that_leads_to_the_wrong_record_breaks_the_store_and_is_made_again() {
    let engine = InDirectory::merging_at(1);
    let store = engine.start();
    let first = store.append(entry(admitted(1))).await.unwrap();
    store.append(entry(admitted(2))).await.unwrap();
    until_merged(&store, 0).await;
    store.close().await;
    drop(store);
    Connection::open(engine.path().join("index.db")).unwrap().execute("update keys set seq = 3 - seq", []).unwrap();

    let store = engine.start();
    let refused = store.append(entry(admitted(1))).await;
    assert!(matches!(refused, Err(StoreError::Broken { .. })), "{refused:?}");
    assert_eq!(store.stats().refusing, Some(Refusing::Broken));
    let later = store.append(entry(admitted(9))).await;
    assert!(matches!(later, Err(StoreError::Broken { .. })), "{later:?}");
    assert!(store.receipt(first.id()).await.unwrap().is_some(), "reading goes on");
    store.close().await;

    let store = engine.start();
    assert_eq!(store.append(entry(admitted(1))).await.unwrap().id(), first.id());
    store.close().await;
}

#[tokio::test]
async fn an_index_that_knows_more_than_the_records_shows_a_loss() {
    let engine = InDirectory::merging_at(1);
    let store = engine.start();
    store.append(entry(admitted(1))).await.unwrap();
    store.close().await;
    Connection::open(engine.path().join("index.db")).unwrap().execute("update meta set merged_to = 5", []).unwrap();
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 2, to: 5, .. }), "{refused}");
}
