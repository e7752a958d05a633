//! Leasing, settling, and what of it survives a restart.

use std::time::Duration;

use super::{Bench, Engine, at, dead, receipts};
use crate::domain::fixtures::{admitted, admitted_in};
use crate::store::{DeadLetters, DeliveryState, Details, LeaseToken, Outcome, Settled, Settlement};

fn retry(due_seconds: i64, error: &str) -> Outcome {
    Outcome::Retry { due: at(due_seconds), error: error.to_owned() }
}

pub(crate) async fn leases_go_by_arrival_over_all_lanes_of_a_group(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut expected = Vec::new();
    for record in 1..=9 {
        expected.push(bench.append(admitted_in(1 + record % 2, 1 + record % 2, record)).await.id());
    }
    // The lanes' order within the group is of no importance, nor is naming one twice.
    let mut lanes = bench.all_lanes();
    lanes.reverse();
    lanes.extend(bench.all_lanes());
    let first = bench.lease_from(vec![lanes.clone()], at(1), 4).await;
    assert_eq!(receipts(&first), expected[..4]);
    assert_eq!(first.next_due, None, "there was as much as was asked for");
    let rest = bench.lease_from(vec![lanes], at(1), 100).await;
    assert_eq!(receipts(&rest), expected[4..]);
    let leased = &first.leased[0];
    assert_eq!((leased.attempt, leased.until), (1, at(61)));
    let looked_up = bench.0.record(expected[0]).await.unwrap().unwrap();
    assert_eq!(looked_up.details, Details::Kept(leased.record.details.clone()));
    assert_eq!(looked_up.whole().as_ref(), Some(&leased.record));
    assert!(bench.lease_from(vec![Vec::new()], at(1), 5).await.leased.is_empty());
    assert!(bench.lease(at(1), 0).await.leased.is_empty());
}

pub(crate) async fn an_earlier_group_is_emptied_first(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let low: Vec<_> = [bench.append(admitted_in(1, 1, 1)).await, bench.append(admitted_in(1, 1, 2)).await].into();
    let high: Vec<_> = [bench.append(admitted_in(1, 2, 3)).await, bench.append(admitted_in(1, 2, 4)).await].into();
    let groups = vec![vec![high[0].lane()], vec![low[0].lane()]];
    let leases = bench.lease_from(groups.clone(), at(1), 3).await;
    assert_eq!(receipts(&leases), [high[0].id(), high[1].id(), low[0].id()]);
    assert_eq!(receipts(&bench.lease_from(groups, at(1), 3).await), [low[1].id()]);
}

pub(crate) async fn a_leased_record_is_not_handed_out_again(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    let leases = bench.lease(at(1), 5).await;
    assert_eq!(leases.leased.len(), 1);
    let none = bench.lease(at(60), 5).await;
    assert!(none.leased.is_empty());
    assert_eq!(none.next_due, Some(at(61)));
    let status = bench.status(id).await;
    assert_eq!((status.state, status.attempts), (DeliveryState::Delivering, 1));
    assert_eq!(status.next_attempt_at, Some(at(61)));
    // A record that arrives in a lane that was found quiet is seen at once.
    let second = bench.append(admitted(2)).await.id();
    assert_eq!(receipts(&bench.lease(at(2), 5).await), [second]);
}

pub(crate) async fn a_lease_that_ran_out_is_offered_again_and_its_token_refused(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    let late = bench.lease(at(1), 5).await.leased.remove(0);
    let again = bench.lease(at(61), 5).await.leased.remove(0);
    assert_eq!((again.record.receipt, again.attempt, again.until), (id, 2, at(121)));
    assert_ne!(again.token, late.token);
    for outcome in [Outcome::Delivered, retry(70, "x"), Outcome::Released, dead("x")] {
        assert_eq!(bench.settle(&late, at(62), outcome).await, Settled::LeaseLost);
    }
    assert_eq!(bench.status(id).await.attempts, 2);
    assert_eq!(bench.settle(&again, at(62), Outcome::Delivered).await, Settled::Done);
}

pub(crate) async fn a_lease_that_ran_out_cannot_be_settled_even_unclaimed(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    bench.append(admitted(1)).await;
    let leased = bench.lease(at(1), 5).await.leased.remove(0);
    assert_eq!(bench.settle(&leased, at(61), Outcome::Delivered).await, Settled::LeaseLost);
    assert_eq!(bench.0.stats().pending, 1);
    assert_eq!(bench.settle(&leased, at(60), Outcome::Delivered).await, Settled::Done);
}

pub(crate) async fn delivered_is_the_end(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    let leased = bench.lease(at(1), 5).await.leased.remove(0);
    assert_eq!(bench.settle(&leased, at(2), Outcome::Delivered).await, Settled::Done);
    assert_eq!(bench.settle(&leased, at(2), Outcome::Delivered).await, Settled::LeaseLost);
    let status = bench.status(id).await;
    assert_eq!((status.state, status.attempts, status.last_error), (DeliveryState::Delivered, 1, None));
    assert_eq!((status.next_attempt_at, status.settled_at), (None, Some(at(2))));
    let none = bench.lease(at(1_000), 5).await;
    assert!(none.leased.is_empty());
    assert_eq!(none.next_due, None);
    assert_eq!(bench.requeue(DeadLetters::One(id)).await.count, 0);
    // It is still known, and repeated calls still get its receipt.
    assert_eq!(bench.append(admitted(1)).await.id(), id);
}

pub(crate) async fn answers_stand_in_the_order_of_the_settlements(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    for record in 1..=3 {
        bench.append(admitted(record)).await;
    }
    let leased = bench.lease(at(1), 3).await.leased;
    let settlement = |n: usize, token: LeaseToken| Settlement {
        receipt: leased[n].record.receipt,
        token,
        at: at(2),
        outcome: Outcome::Delivered,
    };
    let settled = bench
        .0
        .settle(vec![
            settlement(0, leased[1].token),
            settlement(2, leased[2].token),
            settlement(2, leased[2].token),
            settlement(1, leased[1].token),
        ])
        .await
        .unwrap();
    assert_eq!(settled, [Settled::LeaseLost, Settled::Done, Settled::LeaseLost, Settled::Done]);
    assert_eq!(bench.0.stats().pending, 1);
}

pub(crate) async fn a_retry_waits_until_it_is_due_and_keeps_its_reason(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    let other = bench.append(admitted(2)).await.id();
    let leases = bench.lease(at(1), 2).await;
    assert_eq!(bench.settle(&leases.leased[0], at(2), retry(30, "503 from the consumer")).await, Settled::Done);
    bench.settle(&leases.leased[1], at(2), Outcome::Delivered).await;
    let status = bench.status(id).await;
    assert_eq!((status.state, status.attempts), (DeliveryState::Delivering, 1));
    assert_eq!(status.last_error.as_deref(), Some("503 from the consumer"));
    assert_eq!(status.next_attempt_at, Some(at(30)));
    let early = bench.lease(at(29), 2).await;
    assert!(early.leased.is_empty());
    assert_eq!(early.next_due, Some(at(30)));
    let again = bench.lease(at(30), 2).await.leased.remove(0);
    assert_eq!((again.record.receipt, again.attempt), (id, 2));
    bench.settle(&again, at(31), Outcome::Delivered).await;
    assert_eq!(bench.status(id).await.last_error.as_deref(), Some("503 from the consumer"));
    assert_eq!(bench.status(other).await.last_error, None);
}

pub(crate) async fn a_released_record_is_due_at_once_and_was_not_tried(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    let leased = bench.lease(at(1), 5).await.leased.remove(0);
    assert_eq!(bench.settle(&leased, at(2), Outcome::Released).await, Settled::Done);
    let status = bench.status(id).await;
    assert_eq!((status.state, status.attempts), (DeliveryState::Accepted, 0));
    assert_eq!(bench.settle(&leased, at(2), Outcome::Delivered).await, Settled::LeaseLost);
    let again = bench.lease(at(2), 5).await.leased.remove(0);
    assert_eq!((again.record.receipt, again.attempt), (id, 1));
}

pub(crate) async fn everything_survives_a_restart(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for record in 1..=5 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    let leases = bench.lease(at(1), 4).await;
    bench.settle(&leases.leased[0], at(2), Outcome::Delivered).await;
    bench.settle(&leases.leased[1], at(2), dead("given up")).await;
    bench.settle(&leases.leased[2], at(2), retry(500, "not now")).await;
    let mut before = Vec::new();
    for id in &ids {
        before.push((bench.status(*id).await, bench.0.record(*id).await.unwrap()));
    }
    let (lanes, stats) = (bench.0.lanes(), bench.0.stats());

    let bench = bench.reopen(engine).await;
    for (id, (status, record)) in ids.iter().zip(before) {
        assert_eq!(bench.status(*id).await, status);
        assert_eq!(bench.0.record(*id).await.unwrap(), record);
    }
    assert_eq!(bench.0.lanes(), lanes);
    let after = bench.0.stats();
    assert_eq!(
        (after.pending, after.dead_lettered, after.high_water_mark),
        (stats.pending, stats.dead_lettered, stats.high_water_mark)
    );
    // The fourth is still on lease, the third waits, the fifth was never touched.
    let now = bench.lease(at(3), 5).await;
    assert_eq!(receipts(&now), [ids[4]]);
    assert_eq!(bench.settle(&leases.leased[3], at(4), Outcome::Delivered).await, Settled::Done);
    let later = bench.lease(at(2_000), 5).await;
    assert_eq!(later.leased.iter().map(|leased| leased.attempt).collect::<Vec<_>>(), [2, 2]);
}

pub(crate) async fn repeats_are_known_after_a_restart(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let first = bench.append(admitted(1)).await;
    let bench = bench.reopen(engine).await;
    let repeat = bench.append_at(admitted(1), at(0).after(Duration::from_secs(3_600))).await;
    assert_eq!((repeat.id(), repeat.repeat().is_some()), (first.id(), true));
    assert_eq!(bench.append(admitted(2)).await.repeat(), None);
    assert_eq!(bench.0.stats().high_water_mark, 2);
}
