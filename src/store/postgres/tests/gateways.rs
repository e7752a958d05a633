//! Several gateways on one database: what one of them does holds for all, and none does what another has done.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::Database;
use super::{InDatabase, PostgresStore};
use crate::domain::fixtures::{admitted, admitted_in};
use crate::store::contract::{Bench, at, dead, entry};
use crate::store::postgres::recount::recount;
use crate::store::{
    DeliveryState, LeaseRequest, Leased, Leases, Outcome, Redelivery, Settled, Settlement, Store, StoreError,
};

fn gateways(engine: &InDatabase, count: usize) -> Vec<Arc<PostgresStore>> {
    (0..count).map(|_| engine.open_store()).collect()
}

async fn counts_again(store: &PostgresStore) {
    store.run(|shared| async move { recount(&shared).await }).await.unwrap();
}

async fn lease(store: &PostgresStore, now: i64, max: usize) -> Leases {
    counts_again(store).await;
    let lanes = store.lanes().into_iter().map(|backlog| backlog.id).collect();
    let request = LeaseRequest { groups: vec![lanes], max, now: at(now), duration: Duration::from_secs(60) };
    store.lease(request).await.unwrap()
}

#[tokio::test]
async fn one_record_posted_to_all_at_one_moment_is_stored_once() {
    let Some(engine) = InDatabase::new() else { return };
    let gateways = gateways(&engine, 3);
    let posts = (0..200).flat_map(|record| {
        gateways.iter().map(move |gateway| async move { (record, gateway.append(entry(admitted(1 + record))).await) })
    });
    let answers = join_all(posts).await;
    for record in 0..200 {
        let receipts: Vec<_> =
            answers.iter().filter(|(of, _)| *of == record).map(|(_, receipt)| receipt.as_ref().unwrap()).collect();
        assert_eq!(receipts.len(), 3);
        assert_eq!(receipts.iter().map(|receipt| receipt.id()).collect::<HashSet<_>>().len(), 1, "record {record}");
        assert_eq!(receipts.iter().filter(|receipt| receipt.repeat().is_none()).count(), 1, "record {record}");
    }
    let reader = engine.open_store();
    assert_eq!((reader.stats().high_water_mark, reader.stats().pending), (200, 200));
    let numbers: Vec<u64> = reader.since(0, 1_000).await.unwrap().iter().map(|arrival| arrival.number).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>(), "no gap, in order");
}

#[tokio::test]
async fn lanes_that_are_new_to_all_get_one_number_each() {
    let Some(engine) = InDatabase::new() else { return };
    let gateways = gateways(&engine, 3);
    let lanes = [(1, 1), (1, 2), (2, 1), (2, 2)];
    let posts = lanes.into_iter().flat_map(|(organization, work_stream)| {
        gateways
            .iter()
            .zip(1..)
            .map(move |(gateway, record)| gateway.append(entry(admitted_in(organization, work_stream, record))))
    });
    for receipt in join_all(posts).await {
        receipt.unwrap();
    }
    let reader = engine.open_store();
    assert_eq!(reader.lanes().len(), 4);
    assert!(reader.lanes().iter().all(|backlog| backlog.pending == 3));
}

#[tokio::test]
async fn what_one_has_on_lease_no_other_gets() {
    let Some(engine) = InDatabase::new() else { return };
    let gateways = gateways(&engine, 3);
    for record in 1..=90 {
        gateways[0].append(entry(admitted(record))).await.unwrap();
    }
    let leases = join_all(gateways.iter().map(|gateway| lease(gateway, 1, 40))).await;
    let mut seen = HashSet::new();
    for leased in leases.iter().flat_map(|leases| &leases.leased) {
        assert!(seen.insert(leased.record.receipt), "{:?} was handed out twice", leased.record.receipt);
    }
    let rest: usize = lease(&gateways[1], 1, 90).await.leased.len();
    assert_eq!(seen.len() + rest, 90);
}

#[tokio::test]
async fn whoever_comes_back_after_the_lease_ran_out_settles_nothing() {
    let Some(engine) = InDatabase::new() else { return };
    let gateways = gateways(&engine, 2);
    let id = gateways[0].append(entry(admitted(1))).await.unwrap().id();
    let late = lease(&gateways[0], 1, 1).await.leased.remove(0);
    assert!(lease(&gateways[1], 60, 1).await.leased.is_empty(), "it is on lease until then");
    let now = lease(&gateways[1], 61, 1).await.leased.remove(0);
    assert_eq!((now.record.receipt, now.attempt), (id, 2));
    let settle = |store: &Arc<PostgresStore>, token, outcome| {
        let store = Arc::clone(store);
        async move { store.settle(vec![Settlement { receipt: id, token, at: at(62), outcome }]).await.unwrap().remove(0) }
    };
    assert_eq!(settle(&gateways[0], late.token, Outcome::Delivered).await, Settled::LeaseLost);
    assert_eq!(settle(&gateways[0], now.token, dead("no")).await, Settled::Done, "whoever has the token has the lease");
    assert_eq!(gateways[1].receipt(id).await.unwrap().unwrap().state, DeliveryState::DeadLettered);
    counts_again(&gateways[1]).await;
    assert_eq!((gateways[1].stats().pending, gateways[1].stats().dead_lettered), (0, 1));
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing_and_double_nothing() {
    let Some(engine) = InDatabase::new() else { return };
    let store = engine.open_store();
    for round in 0..20 {
        let posts = (0..50).map(|record| store.append(entry(admitted(1 + round * 50 + record))));
        let (answers, ()) = tokio::join!(join_all(posts), async { engine.database.cut_connections() });
        for (record, answer) in (0..50).zip(answers) {
            // What was refused is repeated, as its caller would.
            if let Err(error) = answer {
                assert!(matches!(error, StoreError::Engine(_)), "{error:?}");
                let mut again = store.append(entry(admitted(1 + round * 50 + record))).await;
                while again.is_err() {
                    again = store.append(entry(admitted(1 + round * 50 + record))).await;
                }
            }
        }
    }
    let bench = Bench(engine.open_store());
    assert_eq!((bench.0.stats().high_water_mark, bench.0.stats().pending), (1_000, 1_000));
}

#[test]
fn a_server_that_does_not_keep_what_it_commits_is_refused() {
    let Some(engine) = InDatabase::new() else { return };
    engine.database.set("synchronous_commit", "off");
    let refused = Database::open(&engine.database.settings());
    let message = refused.err().expect("it is refused").to_string();
    assert!(message.contains("`synchronous_commit = off`") && message.contains("set it to `on`"), "{message}");
}

#[test]
fn a_newer_format_is_refused_with_nothing_changed() {
    let Some(engine) = InDatabase::new() else { return };
    drop(engine.open_store());
    engine.database.psql("insert into format values (7)");
    let refused = Database::open(&engine.database.settings());
    let message = refused.err().expect("it is refused").to_string();
    assert!(message.contains("format 7") && message.contains("newer gateway"), "{message}");
}

#[tokio::test]
async fn two_that_put_back_the_same_records_put_each_back_once() {
    let Some(engine) = InDatabase::new() else { return };
    let gateways = gateways(&engine, 2);
    for record in 1..=90 {
        gateways[0].append(entry(admitted(record))).await.unwrap();
    }
    let leased = lease(&gateways[0], 1, 90).await.leased;
    let end = |leased: &Leased| Settlement {
        receipt: leased.record.receipt,
        token: leased.token,
        at: at(2),
        outcome: Outcome::Delivered,
    };
    gateways[0].settle(leased.iter().map(end).collect()).await.unwrap();
    let lanes: Vec<_> = gateways[0].lanes().into_iter().map(|backlog| backlog.id).collect();
    let put_back = |store: &Arc<PostgresStore>| {
        let (store, lanes) = (Arc::clone(store), lanes.clone());
        async move {
            let (mut count, mut after) = (0, None);
            loop {
                let (since, until, dry_run) = (at(2), at(3), false);
                let which = Redelivery { lanes: lanes.clone(), since, until, after, limit: 7, dry_run };
                let done = store.redeliver(which).await.unwrap();
                count += done.count();
                after = done.next;
                if after.is_none() {
                    return count;
                }
            }
        }
    };
    let counts = join_all(gateways.iter().map(put_back)).await;
    assert_eq!(counts.iter().sum::<u64>(), 90, "{counts:?}");
    for gateway in &gateways {
        counts_again(gateway).await;
        assert_eq!(gateway.stats().pending, 90);
    }
    assert_eq!(lease(&gateways[1], 4, 100).await.leased.len(), 90);
}
