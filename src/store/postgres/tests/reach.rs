//! What the look of every second finds, and how the store takes records again by itself.

use std::time::Duration;

use super::InDatabase;
use crate::domain::fixtures::admitted;
use crate::domain::time::Timestamp;
use crate::store::contract::entry;
use crate::store::postgres::{PostgresStore, retention};
use crate::store::{LeaseRequest, Refusing, Store, StoreError};

const TICK: Duration = Duration::from_secs(1);

async fn until(store: &PostgresStore, refusing: Option<Refusing>) {
    while store.stats().refusing != refusing {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_keeping_its_word_gets_no_more_records() {
    let Some(engine) = InDatabase::new() else { return };
    let database = engine.database.open();
    let store = PostgresStore::open(database, &engine.settings, &engine.retention).unwrap();
    store.append(entry(admitted(1))).await.unwrap();
    engine.database.set("synchronous_commit", "off");
    engine.database.cut_connections();
    until(&store, Some(Refusing::NotDurable)).await;
    assert!(matches!(store.append(entry(admitted(2))).await, Err(StoreError::Engine(_))));
    engine.database.set("synchronous_commit", "on");
    engine.database.cut_connections();
    until(&store, None).await;
    store.append(entry(admitted(2))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_appended_on_a_connection_that_does_not_keep_it_whatever_another_one_says() {
    let Some(engine) = InDatabase::new() else { return };
    let store = engine.open_store();
    store.append(entry(admitted(1))).await.unwrap();
    // Counts for connections that are made from now on; nobody looks every second here.
    engine.database.set("synchronous_commit", "off");
    engine.database.cut_connections();
    let refused = store.append(entry(admitted(2))).await;
    assert!(matches!(refused, Err(StoreError::Engine(_))), "{refused:?}");
    assert_eq!(store.stats().refusing, Some(Refusing::NotDurable));
    assert_eq!(engine.database.psql("select count(*) from records"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_for_a_database_heals_without_anyone_ending_connections() {
    let Some(engine) = InDatabase::new() else { return };
    let store = PostgresStore::open(engine.database.open(), &engine.settings, &engine.retention).unwrap();
    engine.database.set("synchronous_commit", "off");
    engine.database.cut_connections();
    until(&store, Some(Refusing::NotDurable)).await;
    engine.database.set("synchronous_commit", "on");
    until(&store, None).await;
    store.append(entry(admitted(1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_noticed_by_whoever_writes_and_room_by_the_next_look() {
    let Some(engine) = InDatabase::new() else { return };
    if engine.database.is_in_cluster() {
        // What plays the full disk is a trigger, which tables on several servers cannot have.
        return;
    }
    let database = engine.database.open();
    let store = PostgresStore::open(database, &engine.settings, &engine.retention).unwrap();
    store.append(entry(admitted(1))).await.unwrap();
    engine.database.psql(
        "create function no_room() returns trigger language plpgsql as \
         $$ begin raise 'could not extend file' using errcode = 'disk_full'; end $$; \
         create trigger no_room before insert on records execute function no_room()",
    );
    let refused = store.append(entry(admitted(2))).await;
    assert!(matches!(refused, Err(StoreError::DatabaseFull(_))), "{refused:?}");
    assert_eq!(store.stats().refusing, Some(Refusing::Full));
    // Nobody asks the database for what it has no room for.
    let refused = store.append(entry(admitted(2))).await;
    assert!(matches!(refused, Err(StoreError::DatabaseFull(_))), "{refused:?}");
    engine.database.psql("drop trigger no_room on records");
    until(&store, None).await;
    store.append(entry(admitted(2))).await.unwrap();
    assert_eq!(engine.database.psql("select count(*), min(seq) from records"), "2|1", "what was tried with is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_or_a_database_is_told_for_others_does_not_matter() {
    let Some(engine) = InDatabase::new() else { return };
    for (setting, value) in [
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_deferrable", "on"),
        ("lock_timeout", "1"),
        ("statement_timeout", "1"),
    ] {
        engine.database.set(setting, value);
    }
    let store = engine.open_store();
    let appends = (1..=64).map(|record| store.append(entry(admitted(record))));
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_every_time_makes_it_not_ready_until_it_is_mended() {
    let Some(engine) = InDatabase::new() else { return };
    let store = PostgresStore::open(engine.database.open(), &engine.settings, &engine.retention).unwrap();
    engine.database.psql("alter table pending rename to elsewhere");
    let mut refused = Vec::new();
    while store.stats().refusing != Some(Refusing::Failing) {
        refused.push(store.append(entry(admitted(1))).await.unwrap_err().to_string());
    }
    assert_eq!(refused.len(), 3);
    assert!(refused[0].contains("\"pending\" does not exist"), "{refused:?}");
    engine.database.psql("alter table elsewhere rename to pending");
    until(&store, None).await;
    store.append(entry(admitted(1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_batch_says_nothing_of_the_next() {
    let Some(engine) = InDatabase::new() else { return };
    let store = engine.open_store();
    engine.database.psql("alter table pending rename to elsewhere");
    for _ in 0..2 {
        store.append(entry(admitted(1))).await.unwrap_err();
    }
    engine.database.psql("alter table elsewhere rename to pending");
    store.append(entry(admitted(1))).await.unwrap();
    engine.database.psql("alter table pending rename to elsewhere");
    store.append(entry(admitted(2))).await.unwrap_err();
    assert_eq!(store.stats().refusing, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_exchanged_gets_nothing_and_says_so() {
    let Some(engine) = InDatabase::new() else { return };
    let store = PostgresStore::open(engine.database.open(), &engine.settings, &engine.retention).unwrap();
    store.append(entry(admitted(1))).await.unwrap();
    engine.database.psql("update meta set receipt_secret_crc = receipt_secret_crc + 1");
    // Whoever comes first: the look of every second, or this.
    let refused = store.append(entry(admitted(2))).await.unwrap_err();
    assert!(matches!(refused, StoreError::Engine(_)), "{refused:?}");
    until(&store, Some(Refusing::Broken)).await;
    assert_eq!(engine.database.psql("select count(*) from records"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_wrong_touches_nobodys_records() {
    let Some(engine) = InDatabase::new() else { return };
    let store = engine.open_store();
    let receipt = store.append(entry(admitted(1))).await.unwrap();
    engine.database.psql(
        "create function clock_timestamp() returns timestamptz language sql as \
         $$ select pg_catalog.clock_timestamp() - interval '2 minutes' $$",
    );
    engine.database.set("search_path", "public, pg_catalog");
    let astray = engine.open_store();
    assert_eq!(astray.stats().refusing, Some(Refusing::ClockApart));
    assert!(astray.append(entry(admitted(2))).await.is_err());
    let request = LeaseRequest { groups: vec![vec![receipt.lane()]], max: 1, now: Timestamp::now(), duration: TICK };
    assert!(astray.lease(request.clone()).await.is_err());
    let swept = astray.run(|shared| async move { retention::everything(&shared, Timestamp::now()).await }).await;
    assert!(swept.is_err());
    assert_eq!(store.lease(request).await.unwrap().leased.len(), 1);
}
