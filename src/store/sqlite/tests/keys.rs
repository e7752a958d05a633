//! Duplicate keys on their way from memory to the index, and an index that is lost or lies.

use std::fs;
use std::time::{Duration, Instant};

use super::*;
use crate::domain::fixtures::admitted;
use crate::store::contract::{Bench, entry};
use crate::store::sqlite::{OpenError, keys};
use crate::store::{Refusing, StoreError};

/// Waits until the keys of the records up to this one are in the index.
pub(super) async fn until_merged(store: &SqliteStore, newest: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.runs.now().merged_to() < newest {
        assert!(Instant::now() < deadline, "the index has records up to {} only", store.runs.now().merged_to());
        tokio::task::yield_now().await;
    }
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
    until_merged(&store, 33).await;
    assert_eq!(store.runs.now().entries(), 40, "each commit was one record, so all were frozen by eights");
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
    let index = engine.path().join(keys::KEYS);
    let files = || fs::read_dir(&index).unwrap().map(|file| file.unwrap().path());
    let damages: [&dyn Fn(); 5] = [
        &|| fs::remove_dir_all(&index).unwrap(),
        &|| fs::remove_file(files().min().unwrap()).unwrap(),
        &|| files().for_each(|file| fs::write(file, b"").unwrap()),
        &|| files().for_each(|file| fs::write(file, vec![7; 8_192]).unwrap()),
        // Another store's.
        &|| keys::tests::tamper(&engine.path(), &|_, _, store| *store = [0; 32]),
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
    until_merged(&store, 2).await;
    store.close().await;
    drop(store);
    keys::tests::tamper(&engine.path(), &|entries, _, _| {
        entries.iter_mut().for_each(|(_, seen)| seen.seq = 3 - seen.seq);
    });

    let store = engine.start();
    let refused = store.append(entry(admitted(1))).await;
    assert!(!engine.path().join(keys::KEYS).exists(), "it is gone at once");
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
    until_merged(&store, 1).await;
    store.close().await;
    keys::tests::tamper(&engine.path(), &|_, range, _| range.1 = 5);
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::Damaged { from: 2, to: 5, .. }), "{refused}");
}

#[tokio::test]
async fn the_index_of_an_earlier_version_is_removed() {
    let engine = InDirectory::merging_at(4);
    engine.start().close().await;
    let old = ["index.db", "index.db-wal", "index.db-shm"].map(|name| engine.path().join(name));
    for path in &old {
        fs::write(path, b"whatever").unwrap();
    }
    engine.start().close().await;
    assert!(old.iter().all(|path| !path.exists()));
    // Where there are no records, it shows that there were.
    fs::write(&old[0], b"whatever").unwrap();
    for name in ["records.db", "records.db-wal", "high-water.mark"] {
        let _missing = fs::remove_file(engine.path().join(name));
    }
    fs::remove_dir_all(engine.path().join(keys::KEYS)).unwrap();
    let refused = refusal(&engine.path());
    assert!(matches!(&refused, OpenError::RecordsMissing { trace, .. } if *trace == old[0]), "{refused}");
}
