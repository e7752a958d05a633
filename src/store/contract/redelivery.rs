//! Delivered records that are pending again.

use std::collections::BTreeMap;

use super::{Bench, Engine, Swept, at, day, dead, receipts};
use crate::domain::fixtures::{admitted, admitted_in};
use crate::domain::ids::ReceiptId;
use crate::store::{DeliveryState, MAX_NAMED, Outcome, Redelivered, Redelivery, Settled};

/// Appends so many records, and delivers each: the first at this second, each of the others a second later.
async fn delivered(bench: &Bench, count: u32, first_second: i64) -> Vec<ReceiptId> {
    let mut ids = Vec::new();
    for record in 1..=count {
        bench.append(admitted(record)).await;
    }
    for second in 0..i64::from(count) {
        ids.push(bench.settle_next(at(first_second + second), Outcome::Delivered).await);
    }
    ids
}

pub(crate) async fn delivered_records_of_a_range_are_pending_again(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let ids = delivered(&bench, 5, 10).await;
    let elsewhere = bench.append(admitted_in(2, 1, 9)).await;
    bench.settle_next(at(12), Outcome::Delivered).await;
    let newest = bench.append(admitted(6)).await;
    let lane = newest.lane();
    let before = bench.status(ids[1]).await;

    let which = Redelivery { lanes: vec![lane], ..bench.delivered(at(11), at(13)) };
    let done = bench.redeliver(which).await;
    assert_eq!(done, Redelivered { lanes: BTreeMap::from([(lane, 2)]), ..Redelivered::default() });
    assert_eq!(done.count(), 2);
    assert_eq!(bench.0.stats().pending, 3);
    assert_eq!(bench.status(elsewhere.id()).await.state, DeliveryState::Delivered, "another lane");
    let status = bench.status(ids[1]).await;
    assert_eq!((status.state, status.attempts, status.settled_at), (DeliveryState::Accepted, 0, None));
    assert_eq!(status.last_error, Some(format!("delivered on {}, and requeued since", at(11))));
    assert_eq!(status.summary, before.summary);

    let bench = bench.reopen(engine).await;
    assert_eq!(bench.0.stats().pending, 3);
    for (id, state) in ids.iter().zip([DeliveryState::Delivered, DeliveryState::Accepted, DeliveryState::Accepted]) {
        assert_eq!(bench.status(*id).await.state, state);
    }
    // They have kept their numbers, and come before what arrived later.
    let leases = bench.lease(at(20), 9).await;
    assert_eq!(receipts(&leases), [ids[1], ids[2], newest.id()]);
    assert!(leases.leased.iter().all(|leased| leased.attempt == 1));
    assert_eq!(bench.settle(&leases.leased[0], at(21), Outcome::Delivered).await, Settled::Done);
    let status = bench.status(ids[1]).await;
    assert_eq!((status.state, status.attempts, status.settled_at), (DeliveryState::Delivered, 1, Some(at(21))));
    // A repeat still finds it, and it was delivered at another moment now.
    assert_eq!(bench.append(admitted(2)).await.id(), ids[1]);
    assert_eq!(bench.redeliver(bench.delivered(at(11), at(12))).await, Redelivered::default());
    assert_eq!(bench.redeliver(bench.delivered(at(21), at(22))).await.count(), 1);
}

pub(crate) async fn redelivery_goes_on_where_it_was_cut_short(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let ids = delivered(&bench, 7, 0).await;
    let until = at(100);
    let page = |after, limit| Redelivery { after, limit, ..bench.delivered(at(0), until) };
    let first = bench.redeliver(page(None, 3)).await;
    assert_eq!((first.count(), first.next.is_some()), (3, true));
    let second = bench.redeliver(page(first.next, 2)).await;
    assert_eq!(second.count(), 2);
    // Some are delivered again, and then somebody starts from the beginning with the same end.
    for id in &ids[..4] {
        assert_eq!(bench.settle_next(until, Outcome::Delivered).await, *id, "oldest first");
    }
    let bench = bench.reopen(engine).await;
    let rest = bench.redeliver(bench.delivered(at(0), until)).await;
    assert_eq!((rest.count(), rest.next), (2, None), "each of them once");
    assert_eq!(receipts(&bench.lease(at(101), 9).await), ids[4..]);
    assert_eq!(bench.redeliver(Redelivery { limit: 0, ..bench.delivered(at(0), at(200)) }).await.count(), 1);
    let nowhere = Redelivery { lanes: Vec::new(), ..bench.delivered(at(0), at(200)) };
    assert_eq!(bench.redeliver(nowhere).await, Redelivered::default());
    assert_eq!(bench.redeliver(bench.delivered(at(200), at(0))).await, Redelivered::default());
}

pub(crate) async fn a_dry_run_says_the_same_and_changes_nothing(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let ids = delivered(&bench, 4, 0).await;
    let before = (bench.status(ids[0]).await, bench.0.stats(), bench.0.lanes());
    let which = Redelivery { limit: 3, ..bench.delivered(at(0), at(100)) };
    let said = bench.redeliver(Redelivery { dry_run: true, ..which.clone() }).await;
    assert_eq!((said.count(), said.next.is_some()), (3, true));
    assert_eq!((bench.status(ids[0]).await, bench.0.stats(), bench.0.lanes()), before);
    assert!(bench.lease(at(50), 9).await.leased.is_empty());
    assert_eq!(bench.redeliver(which).await, said);
}

pub(crate) async fn what_is_far_behind_is_found_in_several_calls(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    for record in 1..=300 {
        bench.append(admitted(record)).await;
    }
    let leased = bench.lease(at(0), 300).await.leased;
    for (place, leased) in leased.iter().enumerate() {
        let second = i64::from(place % 100 == 99);
        assert_eq!(bench.settle(leased, at(second), Outcome::Delivered).await, Settled::Done);
    }
    let (mut found, mut after, mut calls) = (0, None, 0);
    loop {
        let done = bench.redeliver(Redelivery { after, ..bench.delivered(at(1), at(2)) }).await;
        (found, after, calls) = (found + done.count(), done.next, calls + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, calls > 1), (3, true), "in {calls} calls");
}

pub(crate) async fn what_lost_its_details_is_counted_and_named(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let count = u32::try_from(MAX_NAMED).unwrap() + 5;
    let ids = delivered(&bench, count, 0).await;
    bench.append_at(admitted(count + 1), day(30)).await;
    let late = bench.settle_next(day(30), Outcome::Delivered).await;
    assert_eq!(engine.sweep(day(36)).await, Swept { trimmed: u64::from(count), ..Swept::default() });
    for dry_run in [true, false] {
        let done = bench.redeliver(Redelivery { dry_run, ..bench.delivered(at(2), day(36)) }).await;
        assert_eq!((done.count(), done.without_details, done.next), (1, u64::from(count) - 2, None));
        assert_eq!(done.named, ids[2..2 + MAX_NAMED]);
    }
    assert_eq!(bench.status(ids[5]).await.state, DeliveryState::Delivered);
    assert_eq!(receipts(&bench.lease(day(36), 9).await), [late], "with its details");
    let none = bench.redeliver(bench.delivered(at(0), at(1))).await;
    assert_eq!(none, Redelivered { without_details: 1, named: vec![ids[0]], ..Redelivered::default() });
}

pub(crate) async fn only_delivered_records_are_delivered_again(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    for record in 1..=6 {
        bench.append(admitted(record)).await;
    }
    let closed = bench.settle_next(at(1), Outcome::Waiting { closes_at: at(100) }).await;
    bench.settle_next(at(1), Outcome::Waiting { closes_at: at(9_000) }).await;
    bench.settle_next(at(1), dead("no")).await;
    bench.settle_next(at(1), Outcome::Retry { due: at(9_000), error: "not now".to_owned() }).await;
    let leased = bench.lease(at(1), 1).await.leased.remove(0);
    assert_eq!(engine.sweep(at(200)).await, Swept { closed: 1, ..Swept::default() });
    assert_eq!(bench.redeliver(bench.delivered(at(0), at(9_999))).await, Redelivered::default());
    let status = bench.status(closed).await;
    assert_eq!((status.state, status.closed_after_minutes), (DeliveryState::Delivered, Some(1)), "closed is final");
    let stats = bench.0.stats();
    assert_eq!((stats.pending, stats.waiting, stats.dead_lettered), (3, 1, 1));
    // A holder's late word counts for nothing once the record was delivered and is pending again.
    assert_eq!(bench.settle(&leased, at(2), Outcome::Delivered).await, Settled::Done);
    assert_eq!(bench.redeliver(bench.delivered(at(2), at(3))).await.count(), 1);
    assert_eq!(bench.settle(&leased, at(3), Outcome::Delivered).await, Settled::LeaseLost);
    assert_eq!(bench.0.stats().pending, 3);
}

pub(crate) async fn what_was_delivered_again_is_kept_from_then_on(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let ids = delivered(&bench, 3, 0).await;
    bench.append_at(admitted(4), day(39)).await;
    // Retention has looked at them before, and knows when they are due.
    assert_eq!(engine.sweep(day(20)).await, Swept::default());
    assert_eq!(bench.redeliver(bench.delivered(at(0), at(1))).await.count(), 1);
    assert_eq!(bench.settle_next(day(30), Outcome::Delivered).await, ids[0]);
    assert_eq!(bench.redeliver(bench.delivered(at(1), at(2))).await.count(), 1);
    assert_eq!(engine.sweep(day(41)).await, Swept { deleted: 1, ..Swept::default() }, "the one that stayed delivered");
    assert_eq!(receipts(&bench.lease(day(41), 1).await), [ids[1]], "pending is never deleted");
    let bench = bench.reopen(engine).await;
    let swept = engine.sweep(day(65)).await;
    assert_eq!((swept.trimmed, swept.deleted), (1, 0));
    assert_eq!(engine.sweep(day(70)).await.deleted, 1);
    assert_eq!(bench.0.receipt(ids[0]).await.unwrap(), None);
}

pub(crate) async fn retention_beside_redelivery_takes_no_details_of_what_is_pending(engine: &impl Engine) {
    const RECORDS: u64 = 96;
    let bench = Bench::open(engine).await;
    for record in 1..=96 {
        bench.append(admitted(record)).await;
    }
    for leased in &bench.lease(at(0), 96).await.leased {
        assert_eq!(bench.settle(leased, at(0), Outcome::Delivered).await, Settled::Done);
    }
    let put_back = async {
        let (mut count, mut after) = (0, None);
        loop {
            let which = Redelivery { after, limit: 5, ..bench.delivered(at(0), at(1)) };
            let done = bench.redeliver(which).await;
            count += done.count();
            after = done.next;
            if after.is_none() {
                return count;
            }
        }
    };
    let (swept, count) = tokio::join!(engine.sweep(day(36)), put_back);
    assert_eq!(swept.trimmed + count, RECORDS);
    assert_eq!(bench.lease(day(36), 96).await.leased.len() as u64, count, "with their details");
    assert_eq!(bench.0.stats().dead_lettered, 0);
}
