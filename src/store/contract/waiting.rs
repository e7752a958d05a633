//! Waiting: set aside by the consumer, taken up again, or closed.

use super::{Bench, Engine, Swept, at, dead, receipts};
use crate::domain::fixtures::{admitted, admitted_in};
use crate::store::{DeliveryState, ListQuery, Outcome, Settled, Waiting};

fn until(closes: i64) -> Outcome {
    Outcome::Waiting { closes_at: at(closes) }
}

pub(crate) async fn a_waiting_record_is_not_offered_and_says_when_it_closes(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let receipt = bench.append(admitted(1)).await;
    let leased = bench.lease(at(1), 5).await.leased.remove(0);
    assert_eq!(bench.settle(&leased, at(2), until(600)).await, Settled::Done);
    assert_eq!(bench.settle(&leased, at(3), Outcome::Delivered).await, Settled::LeaseLost);

    let status = bench.status(receipt.id()).await;
    assert_eq!((status.state, status.attempts), (DeliveryState::Delivering, 1));
    assert_eq!(status.waiting, Some(Waiting { since: at(2), closes_at: at(600) }));
    assert_eq!((status.next_attempt_at, status.settled_at, status.closed_after_minutes), (None, None, None));
    let leases = bench.lease(at(1_000), 5).await;
    assert!(leases.leased.is_empty());
    assert_eq!(leases.next_due, None, "nothing in its lane will be due");
    let stats = bench.0.stats();
    assert_eq!((stats.pending, stats.waiting, stats.dead_lettered), (0, 1, 0));
    assert_eq!(bench.0.lanes()[0].pending, 0);
    assert_eq!(bench.append(admitted(1)).await.id(), receipt.id(), "a repeat is a repeat");
    // It is listed with those under way, in their order.
    let behind = bench.append(admitted_in(2, 1, 2)).await;
    bench.lease(at(4), 5).await;
    let query = ListQuery { state: Some(DeliveryState::Delivering), limit: 1, ..ListQuery::default() };
    let page = bench.list(query.clone()).await;
    assert_eq!(page.records[0].summary.receipt, behind.id());
    let page = bench.list(ListQuery { before: page.next, ..query }).await;
    assert_eq!(page.records[0].summary.receipt, receipt.id());
}

pub(crate) async fn a_revived_record_is_offered_again_with_its_attempts(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    assert!(!bench.0.revive(id, at(1)).await.unwrap(), "it is pending");
    bench.settle_next(at(1), Outcome::Retry { due: at(2), error: "not now".to_owned() }).await;
    let leased = bench.lease(at(2), 1).await.leased.remove(0);
    assert!(!bench.0.revive(id, at(2)).await.unwrap(), "it is on lease");
    bench.settle(&leased, at(2), until(600)).await;
    assert!(bench.0.revive(id, at(599)).await.unwrap());
    assert!(!bench.0.revive(id, at(599)).await.unwrap(), "it is pending again");

    let status = bench.status(id).await;
    assert_eq!((status.state, status.attempts, status.waiting), (DeliveryState::Delivering, 2, None));
    assert_eq!(status.last_error.as_deref(), Some("not now"));
    assert_eq!(status.next_attempt_at, Some(at(0)), "since it arrived");
    assert_eq!((bench.0.stats().pending, bench.0.stats().waiting), (1, 0));
    assert_eq!(engine.sweep(at(1_000)).await, Swept::default(), "it does not close any more");
    let leases = bench.lease(at(1_000), 5).await;
    assert_eq!((receipts(&leases), leases.leased[0].attempt), (vec![id], 3));
    assert_eq!(bench.settle(&leased, at(1_000), Outcome::Delivered).await, Settled::LeaseLost, "an old token");
}

pub(crate) async fn what_has_waited_long_enough_is_closed_for_good(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for record in 1..=3 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    for closes in [661, 662, 5_000] {
        bench.settle_next(at(1), until(closes)).await;
    }
    assert_eq!(engine.sweep(at(660)).await, Swept::default());
    assert_eq!(engine.sweep(at(662)).await, Swept { closed: 2, ..Swept::default() });
    assert_eq!(engine.sweep(at(662)).await, Swept::default());
    let status = bench.status(ids[0]).await;
    assert_eq!((status.state, status.waiting), (DeliveryState::Delivered, None));
    assert_eq!((status.settled_at, status.closed_after_minutes), (Some(at(661)), Some(11)));
    assert_eq!(status.attempts, 1);
    assert_eq!((bench.0.stats().pending, bench.0.stats().waiting), (0, 1));
    assert!(!bench.0.revive(ids[0], at(600)).await.unwrap(), "closed is final");
    // What should have closed by now cannot be revived, closed or not.
    assert!(!bench.0.revive(ids[2], at(5_000)).await.unwrap());
    assert_eq!(engine.sweep(at(5_000)).await.closed, 1);
}

pub(crate) async fn waiting_survives_a_restart(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    let other = bench.append(admitted(2)).await.id();
    bench.settle_next(at(1), until(60)).await;
    bench.settle_next(at(1), until(70)).await;
    let before = bench.status(id).await;
    let bench = bench.reopen(engine).await;
    assert_eq!(bench.status(id).await, before);
    assert_eq!((bench.0.stats().pending, bench.0.stats().waiting), (0, 2));
    assert_eq!(engine.sweep(at(69)).await.closed, 1);
    let bench = bench.reopen(engine).await;
    assert_eq!(bench.status(id).await.closed_after_minutes, Some(0));
    assert!(bench.0.revive(other, at(69)).await.unwrap());
}

pub(crate) async fn only_what_waits_is_closed(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    for record in 1..=4 {
        bench.append(admitted(record)).await;
    }
    bench.settle_next(at(1), Outcome::Delivered).await;
    bench.settle_next(at(1), dead("no")).await;
    bench.lease(at(1), 1).await;
    let before = bench.list(ListQuery { limit: 9, ..ListQuery::default() }).await.records;
    assert_eq!(engine.sweep(at(100_000)).await, Swept::default());
    assert_eq!(bench.list(ListQuery { limit: 9, ..ListQuery::default() }).await.records, before);
}
