//! The directory: who may have it, who may read it, which formats are opened, what a full disk does.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use super::*;
use crate::domain::fixtures::admitted;
use crate::store::contract::{Bench, at, entry};
use crate::store::sqlite::OpenError;
use crate::store::{Outcome, Refusing, Settled, StoreError};

#[tokio::test]
async fn the_second_opener_is_told_who_was_first() {
    let engine = InDirectory::new();
    let store = engine.start();
    let refused = refusal(&engine.path());
    let OpenError::Locked { directory, holder } = refused else { panic!("{refused}") };
    assert_eq!(directory, engine.path());
    assert!(holder.starts_with(&format!("process {}, since 2", std::process::id())), "{holder}");
    store.close().await;
    // The file is still there; the lock is not.
    assert!(engine.path().join("gateway.lock").exists());
    engine.start().close().await;
}

#[tokio::test]
async fn nobody_else_may_read_what_is_made() {
    let engine = InDirectory::merging_at(1);
    let store = engine.start();
    store.append(entry(admitted(1))).await.unwrap();
    super::keys::until_merged(&store, 1).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&engine.path()), 0o700);
    let mut names = Vec::new();
    for file in fs::read_dir(engine.path()).unwrap() {
        let file = file.unwrap();
        let expected = if file.path().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&file.path()), expected, "{}", file.path().display());
        names.push(file.file_name().into_string().unwrap());
    }
    for run in fs::read_dir(engine.path().join("keys")).unwrap() {
        assert_eq!(mode(&run.unwrap().path()), 0o600);
    }
    names.sort();
    let expected = ["gateway.lock", "high-water.mark", "keys", "records.db", "records.db-shm", "records.db-wal"];
    assert_eq!(names, expected);
    store.close().await;
    assert_eq!(fs::metadata(engine.path().join("records.db-wal")).unwrap().size(), 0, "the log was folded in");
}

/// Every file's name, time of change and content.
fn everything_in(dir: &Path) -> Vec<(String, i64, i64, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| {
            let (path, metadata) = {
                let file = file.unwrap();
                (file.path(), file.metadata().unwrap())
            };
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let content = if metadata.is_dir() { Vec::new() } else { fs::read(path).unwrap() };
            (name, metadata.mtime(), metadata.mtime_nsec(), content)
        })
        .filter(|(name, ..)| name != "gateway.lock")
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_format_of_the_future_is_refused_with_nothing_changed() {
    let engine = InDirectory::new();
    engine.start().close().await;
    tamper(&engine.path(), "pragma user_version = 4");
    let before = everything_in(&engine.path());
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::UnknownFormat { found: 4, known: 3, .. }), "{refused}");
    assert_eq!(everything_in(&engine.path()), before);
}

#[tokio::test]
async fn a_file_of_somebody_else_is_left_alone() {
    for content in [
        &b"not a database, but quite long enough to hold one hundred bytes of header if it had one: ................"[..],
        b"",
        b"SQLite format 3\0",
    ] {
        let engine = InDirectory::new();
        fs::create_dir(engine.path()).unwrap();
        fs::write(engine.path().join("records.db"), content).unwrap();
        let refused = refusal(&engine.path());
        assert!(matches!(refused, OpenError::NotAStore { .. }), "{refused}");
        assert_eq!(fs::read(engine.path().join("records.db")).unwrap(), content);
    }
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_leaves_nothing_in_the_way() {
    let engine = InDirectory::new();
    fs::create_dir(engine.path()).unwrap();
    fs::write(engine.path().join("records.db.new"), b"half").unwrap();
    fs::write(engine.path().join("records.db.new-wal"), b"half").unwrap();
    engine.start().close().await;
    assert!(!engine.path().join("records.db.new").exists());
    assert!(!engine.path().join("records.db.new-wal").exists());
}

#[tokio::test]
async fn records_that_were_deleted_are_not_replaced_by_an_empty_store() {
    let engine = InDirectory::new();
    engine.start().close().await;
    fs::remove_file(engine.path().join("records.db")).unwrap();
    let refused = refusal(&engine.path());
    assert!(matches!(refused, OpenError::RecordsMissing { .. }), "{refused}");
    assert!(!engine.path().join("records.db").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let engine = InDirectory::new();
    fs::write(engine.path(), b"a file").unwrap();
    let refused = SqliteStore::open(&engine.path().join("below"), &settings(), &for_ever()).err().unwrap();
    assert!(refused.to_string().contains("data"), "{refused}");
}

#[tokio::test]
async fn at_the_reserve_records_are_refused_and_deliveries_go_on() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    bench.append(admitted(1)).await;
    bench.append(admitted(2)).await;
    bench.0.close().await;

    let full = StoreSettings { disk_reserve_bytes: u64::MAX, ..settings() };
    let bench = Bench(SqliteStore::open(&engine.path(), &full, &for_ever()).unwrap());
    assert_eq!(bench.0.stats().refusing, Some(Refusing::Full));
    assert_eq!(bench.0.stats().disk.unwrap().free_bytes_above_reserve, 0);
    let refused = bench.0.append(entry(admitted(3))).await;
    assert!(matches!(refused, Err(StoreError::Full { reserve_bytes: u64::MAX, .. })), "{refused:?}");
    let leases = bench.lease(at(1), 2).await;
    assert_eq!(bench.settle(&leases.leased[0], at(2), Outcome::Delivered).await, Settled::Done);
    let dead = Outcome::DeadLettered { reason: "no".to_owned() };
    assert_eq!(bench.settle(&leases.leased[1], at(2), dead).await, Settled::Done);
    bench.0.close().await;

    // Room heals it, and what was refused was not there.
    let bench = Bench(engine.start());
    assert_eq!(bench.0.stats().refusing, None);
    assert_eq!(bench.append(admitted(3)).await.repeat(), None);
    assert_eq!(bench.0.stats().high_water_mark, 3);
}

#[tokio::test]
async fn more_appends_than_may_wait_are_refused_at_once() {
    let engine = InDirectory::new();
    let few = StoreSettings { max_waiting_appends: 3, ..settings() };
    let store = SqliteStore::open(&engine.path(), &few, &for_ever()).unwrap();
    // Nothing but these futures runs here, so all of them have asked before any is answered.
    let appends = futures_util::future::join_all((1..=20).map(|n| store.append(entry(admitted(n))))).await;
    let (stored, refused): (Vec<_>, Vec<_>) = appends.into_iter().partition(Result::is_ok);
    assert!(stored.len() >= 3, "{} stored", stored.len());
    assert!(refused.iter().all(|refused| matches!(refused, Err(StoreError::Overloaded { limit: 3 }))));
    assert_eq!(store.stats().high_water_mark, stored.len() as u64);
    // An answer gives its place back.
    store.append(entry(admitted(21))).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_dropped_store_gives_its_directory_back() {
    let engine = InDirectory::new();
    drop(engine.start());
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match SqliteStore::open(&engine.path(), &settings(), &for_ever()) {
            Ok(store) => return store.close().await,
            Err(OpenError::Locked { .. }) if std::time::Instant::now() < deadline => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}
