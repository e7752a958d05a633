//! Forgetting: what is trimmed, what is deleted, what is given up, and what never is.

use std::time::Duration;

use super::{Bench, DUPLICATE_WINDOW, Engine, Swept, at, day, dead, receipts};
use crate::domain::fixtures::{self, admitted, admitted_in, admitted_with};
use crate::domain::time::Timestamp;
use crate::store::{DeadLetters, DeliveryState, Details, ListQuery, Outcome, Repeat, Settled};

const SECOND: Duration = Duration::from_secs(1);

fn trimmed(count: u64) -> Swept {
    Swept { trimmed: count, ..Swept::default() }
}

fn deleted(count: u64) -> Swept {
    Swept { deleted: count, ..Swept::default() }
}

/// The last moment before this one.
fn before(moment: Timestamp) -> Timestamp {
    Timestamp::from_millis(moment.millis() - 1)
}

pub(crate) async fn delivered_records_are_trimmed_and_then_deleted(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    bench.settle_next(at(0), Outcome::Delivered).await;
    // Not the newest.
    bench.append_at(admitted(2), day(39)).await;
    let status = bench.status(id).await;
    let record = bench.0.record(id).await.unwrap().unwrap();

    assert_eq!(engine.sweep(before(day(35))).await, Swept::default());
    assert_eq!(engine.sweep(day(35)).await, trimmed(1));
    assert_eq!(engine.sweep(day(35)).await, Swept::default(), "once is enough");
    assert_eq!(bench.status(id).await, status, "its receipt says what it said");
    let left = bench.0.record(id).await.unwrap().unwrap();
    let Details::Trimmed { sha256 } = left.details else { panic!("{left:?}") };
    assert!(!Details::Trimmed { sha256 }.differ_from(fixtures::details(1).as_bytes()));
    assert_eq!(crate::store::StoredRecord { details: record.details.clone(), ..left }, record);

    let bench = bench.reopen(engine).await;
    assert_eq!(engine.sweep(before(day(40))).await, Swept::default());
    assert_eq!(engine.sweep(day(40)).await, deleted(1));
    let bench = bench.reopen(engine).await;
    assert_eq!(bench.0.receipt(id).await.unwrap(), None);
    assert_eq!(bench.0.record(id).await.unwrap(), None);
    assert_eq!(bench.requeue(DeadLetters::One(id)).await.count, 0);
    let page = bench.list(ListQuery { limit: 9, ..ListQuery::default() }).await;
    assert_eq!(page.records.len(), 1);
    let stats = bench.0.stats();
    assert_eq!((stats.pending, stats.high_water_mark), (1, 2));
    // The same record is a new one now.
    let again = bench.append_at(admitted(1), day(40)).await;
    assert_eq!(again.repeat(), None);
    assert_ne!(again.id(), id);
    assert_eq!(bench.append_at(admitted(1), day(41)).await.id(), again.id());
}

pub(crate) async fn a_repeat_finds_its_trimmed_first(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append_at(admitted(1), day(20)).await.id();
    // Delivered by a clock that was far behind: its details go soon, while it still counts.
    bench.settle_next(at(0), Outcome::Delivered).await;
    bench.append_at(admitted(2), day(20)).await;
    assert_eq!(engine.sweep(day(36)).await, trimmed(1));
    let bench = bench.reopen(engine).await;
    let same = bench.append_at(admitted(1), day(36)).await;
    assert_eq!((same.id(), same.repeat()), (id, Some(Repeat { details_differ: false })));
    let other = bench.append_at(admitted_with(1, 1, 1, r#"{"title":"changed"}"#), day(36)).await;
    assert_eq!((other.id(), other.repeat()), (id, Some(Repeat { details_differ: true })));
    // Old enough by its delivery, but a repeat would still count.
    assert_eq!(engine.sweep(day(50)).await, Swept::default());
    assert_eq!(bench.append_at(admitted(1), before(day(50))).await.id(), id);
    assert_eq!(engine.sweep(day(20).after(DUPLICATE_WINDOW + SECOND)).await, deleted(1));
}

pub(crate) async fn dead_letters_are_deleted_in_their_time(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for record in 1..=4 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    for moment in [at(0), at(0), day(1)] {
        bench.settle_next(moment, dead("no")).await;
    }
    bench.discard(DeadLetters::One(ids[1]), day(2)).await;
    assert_eq!(engine.sweep(before(day(50))).await, Swept::default(), "their details stay for whoever requeues them");
    assert_eq!(engine.sweep(day(50)).await, deleted(2));
    assert_eq!(bench.0.stats().dead_lettered, 1);
    assert_eq!((bench.0.receipt(ids[0]).await.unwrap(), bench.0.receipt(ids[1]).await.unwrap()), (None, None));
    // Requeued, its time begins anew.
    assert_eq!(bench.requeue(DeadLetters::One(ids[2])).await.count, 1);
    assert_eq!(engine.sweep(day(51)).await, Swept::default());
    let bench = bench.reopen(engine).await;
    assert_eq!(bench.0.stats().pending, 2);
}

pub(crate) async fn discarding_late_gives_a_dead_letter_no_more_time(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for record in 1..=4 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    for moment in [at(0), day(30), day(30)] {
        bench.settle_next(moment, dead("no")).await;
    }
    bench.discard(DeadLetters::One(ids[1]), day(31)).await;
    assert_eq!(engine.sweep(day(31)).await, Swept::default());
    bench.discard(DeadLetters::One(ids[0]), day(32)).await;
    assert_eq!(engine.sweep(before(day(50))).await, Swept::default());
    assert_eq!(engine.sweep(day(50)).await, deleted(1));
    assert_eq!(bench.0.receipt(ids[0]).await.unwrap(), None);
    assert_eq!(
        engine.sweep(before(day(80))).await,
        Swept { given_up: 1, ..Swept::default() },
        "the fourth was pending for too long"
    );
    assert_eq!(engine.sweep(day(80)).await, deleted(2));
}

pub(crate) async fn what_is_pending_or_waits_is_never_deleted(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for record in 1..=20 {
        ids.push(bench.append_at(admitted_in(1, 1 + record % 2, record), day(0)).await.id());
    }
    // One in four each: delivered, waiting, on lease and pending.
    for leased in &bench.lease(day(0), 15).await.leased {
        let place = ids.iter().position(|id| *id == leased.record.receipt).unwrap();
        match place % 3 {
            0 => assert_eq!(bench.settle(leased, day(0), Outcome::Delivered).await, Settled::Done),
            1 => {
                let waits = Outcome::Waiting { closes_at: day(10_000) };
                assert_eq!(bench.settle(leased, day(0), waits).await, Settled::Done);
            }
            _ => {}
        }
    }
    assert_eq!(engine.sweep(before(day(60))).await, deleted(5));
    let bench = bench.reopen(engine).await;
    for (place, id) in ids.iter().enumerate() {
        let gone = place < 15 && place % 3 == 0;
        assert_eq!(bench.0.receipt(*id).await.unwrap().is_none(), gone, "record {}", place + 1);
    }
    assert_eq!((bench.0.stats().pending, bench.0.stats().waiting), (10, 5));
    assert_eq!(bench.lease(before(day(60)), 20).await.leased.len(), 10, "with their details");
    assert!(bench.0.revive(ids[1], day(60)).await.unwrap());
}

pub(crate) async fn what_is_pending_for_too_long_becomes_a_dead_letter(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for record in 1..=6 {
        ids.push(bench.append_at(admitted(record), day(u64::from(record / 6))).await.id());
    }
    bench.settle_next(at(1), Outcome::Waiting { closes_at: day(10_000) }).await;
    let retry = Outcome::Retry { due: day(100), error: "not now".to_owned() };
    bench.settle_next(at(1), retry).await;
    // On lease when its time comes.
    let leased = bench.lease(before(day(60)), 1).await.leased.remove(0);
    assert_eq!(engine.sweep(before(day(60))).await, Swept::default());
    assert_eq!(engine.sweep(day(60)).await, Swept { given_up: 3, ..Swept::default() });
    let status = bench.status(ids[1]).await;
    assert_eq!((status.state, status.attempts), (DeliveryState::DeadLettered, 1));
    assert_eq!(status.last_error.as_deref(), Some("not delivered within 60 days"));
    assert_eq!(status.settled_at, Some(day(60)));
    let stats = bench.0.stats();
    assert_eq!((stats.pending, stats.waiting, stats.dead_lettered), (2, 1, 3));
    assert_eq!(bench.settle(&leased, day(60), Outcome::Released).await, Settled::Done, "its holder keeps it");
    assert_eq!(engine.sweep(day(60)).await, Swept { given_up: 1, ..Swept::default() });
    // A requeued one is too old at once; whoever wants it back must be quick.
    assert_eq!(bench.requeue(DeadLetters::One(ids[1])).await.count, 1);
    assert_eq!(receipts(&bench.lease(day(60), 1).await), [ids[1]]);
}

pub(crate) async fn the_newest_record_stays(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    bench.settle_next(at(0), Outcome::Delivered).await;
    assert_eq!(engine.sweep(day(100)).await, trimmed(1));
    let bench = bench.reopen(engine).await;
    assert_eq!(bench.status(id).await.state, DeliveryState::Delivered);
    let newest = bench.append_at(admitted(2), day(100)).await;
    assert_eq!(engine.sweep(day(100)).await, deleted(1));
    let bench = bench.reopen(engine).await;
    assert_eq!(bench.status(newest.id()).await.state, DeliveryState::Accepted);
    assert_eq!(bench.0.stats().high_water_mark, 2);
}

pub(crate) async fn records_delivered_out_of_order_are_all_forgotten(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    for record in 1..=60 {
        bench.append(admitted(record)).await;
    }
    let leases = bench.lease(at(1), 60).await.leased;
    // Late ones before early ones, everywhere; sweeps in between see every segment half full.
    for (place, leased) in leases.iter().enumerate().filter(|(place, _)| place % 7 != 3) {
        assert_eq!(bench.settle(leased, at(2), Outcome::Delivered).await, Settled::Done, "{place}");
    }
    assert_eq!(engine.sweep(day(1)).await, Swept::default());
    let late: Vec<_> = bench.lease(day(20), 60).await.leased;
    assert_eq!(late.len(), 9);
    for leased in &late {
        bench.settle(leased, day(20), Outcome::Delivered).await;
    }
    bench.append_at(admitted(61), day(20)).await;
    assert_eq!(engine.sweep(day(41)).await, deleted(51));
    assert_eq!(engine.sweep(day(54)).await, Swept::default());
    assert_eq!(engine.sweep(day(56)).await, trimmed(9));
    let bench = bench.reopen(engine).await;
    assert_eq!(engine.sweep(day(60)).await, deleted(9));
    let bench = bench.reopen(engine).await;
    let page = bench.list(ListQuery { limit: 100, ..ListQuery::default() }).await;
    assert_eq!(page.records.len(), 1);
}

pub(crate) async fn a_clock_that_went_back_by_years_finds_no_deleted_first(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append_at(admitted(1), day(5_000)).await.id();
    bench.settle_next(day(5_000), Outcome::Delivered).await;
    bench.append_at(admitted(2), day(5_000)).await;
    assert_eq!(engine.sweep(day(6_000)).await.deleted, 1);
    // By this clock the deleted record would be young.
    let again = bench.append_at(admitted(1), day(0)).await;
    assert_eq!(again.repeat(), None);
    assert_ne!(again.id(), id);
}
