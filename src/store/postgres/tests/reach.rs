//! What the look of every second finds, and how the store takes records again by itself.

use super::InDatabase;
use crate::domain::fixtures::admitted;
use crate::store::contract::entry;
use crate::store::postgres::PostgresStore;
use crate::store::{Refusing, Store, StoreError};

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
