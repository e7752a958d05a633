//! The dispatcher, cranked by hand: fair shares, breakers, retries, and nothing lost.

mod batches;
mod bench;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::*;
use crate::domain::catalog::Organization;
use crate::domain::record::RecordDetails;
use crate::routing_queue::testing::samples::{self, receipt, record_of};
use crate::store::{DeadLetters, DeliveryState, StoredRecord};
use bench::{Behaviour, Bench, bench, bench_of, effective};

#[tokio::test]
async fn everything_due_is_delivered_in_priority_order() {
    let mut bench = bench();
    for (number, queue) in [(1, "gone"), (2, "later"), (3, "default"), (4, "default")] {
        bench.store.add(record_of(number, 1, queue));
    }
    bench.add(5..=20, 3);
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 20);
    assert_eq!(bench.seen_by("hook"), [3, 4, 2, 1].map(receipt));
    assert_eq!(bench.seen_by("other").len(), 16);
}

#[tokio::test]
async fn a_temporary_failure_is_tried_again_when_due_and_given_up_in_the_end() {
    let mut bench = bench();
    bench.add([1], 1);
    bench.behave("hook", Behaviour::FailDown);
    assert_eq!(bench.turn().await, 1);
    let status = bench.store.status(receipt(1));
    assert_eq!((status.state, status.attempts), (DeliveryState::Delivering, 1));
    assert_eq!(status.last_error.as_deref(), Some("busy"));
    // The first pause is at most a second, the second at most two.
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(bench.turn().await, 1);
    bench.clock.pass(Duration::from_secs(2));
    assert_eq!(bench.turn().await, 1);
    let status = bench.store.status(receipt(1));
    assert_eq!(status.state, DeliveryState::DeadLettered);
    assert_eq!(status.last_error.as_deref(), Some("busy; given up after 3 tries"));
    assert_eq!(bench.seen_by("hook"), [receipt(1); 3]);
    assert_eq!(*bench.counts.dead.lock().unwrap(), 1);
}

#[tokio::test]
async fn the_destination_s_own_pause_is_waited_for() {
    let mut bench = bench();
    bench.add([1], 1);
    bench.behave("hook", Behaviour::FailFor(Duration::from_secs(100)));
    assert_eq!(bench.turn().await, 1);
    bench.behave("hook", Behaviour::Take);
    bench.clock.pass(Duration::from_secs(99));
    assert_eq!(bench.turn().await, 0);
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(bench.turn().await, 1);
    assert_eq!(bench.store.state(1), DeliveryState::Delivered);
}

#[tokio::test]
async fn a_poison_record_becomes_a_dead_letter_and_blocks_nobody() {
    let mut bench = bench();
    bench.add(1..=10, 1);
    bench.behave_on(1, Behaviour::Refuse);
    bench.store.add(StoredRecord { details: RecordDetails::stored("{"), ..record_of(11, 1, "default") });
    bench.turn_until_idle().await;
    assert_eq!(bench.store.status(receipt(1)).last_error.as_deref(), Some("no"));
    assert_eq!(bench.store.state(11), DeliveryState::DeadLettered);
    assert_eq!(bench.store.count(DeliveryState::Delivered), 9);
    assert_eq!(bench.seen().len(), 10);
}

#[tokio::test]
async fn a_panicking_try_is_a_failed_try() {
    let mut bench = bench();
    bench.add([1, 2], 1);
    bench.behave_on(1, Behaviour::Panic);
    bench.turn().await;
    assert_eq!(bench.store.state(2), DeliveryState::Delivered);
    let status = bench.store.status(receipt(1));
    assert_eq!(status.last_error.as_deref(), Some("the delivery broke off by an internal fault"));
    bench.behave_on(1, Behaviour::Take);
    bench.clock.pass(Duration::from_secs(1));
    bench.turn().await;
    assert_eq!(bench.store.state(1), DeliveryState::Delivered);
}

#[tokio::test]
async fn an_open_breaker_leases_nothing_and_one_probe_closes_it() {
    let mut effective = effective(vec![samples::organization(1, "hook")]);
    effective.delivery.breaker_failures = 4;
    let mut bench = bench_of(effective);
    bench.add(1..=20, 1);
    bench.behave("hook", Behaviour::FailDown);
    assert_eq!(bench.turn().await, 4);
    let leased = bench.lease_calls();
    bench.clock.pass(Duration::from_secs(29));
    assert_eq!(bench.turn().await, 0);
    assert_eq!(bench.lease_calls(), leased);
    // The probe fails, and the destination is left alone again.
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(bench.turn().await, 1);
    assert_eq!(bench.turn().await, 0);
    bench.behave("hook", Behaviour::Take);
    bench.clock.pass(Duration::from_secs(30));
    assert_eq!(bench.turn().await, 1);
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 20);
    let most_tries = (1..=20).map(|number| bench.store.status(receipt(number)).attempts).max();
    assert_eq!(most_tries, Some(3));
    let states = bench.counts.breaker.lock().unwrap().clone();
    use BreakerState::{Closed, HalfOpen, Open};
    assert_eq!(states, [Closed, Closed, Open, HalfOpen, Open, HalfOpen, Closed], "two at the start, then one's story");
}

#[tokio::test]
async fn a_damaged_record_as_the_probe_leaves_the_way_free_for_the_next() {
    let mut effective = effective(vec![samples::organization(1, "hook")]);
    effective.delivery.breaker_failures = 1;
    let mut bench = bench_of(effective);
    bench.add([1], 1);
    bench.behave_on(1, Behaviour::FailDown);
    bench.turn().await;
    bench.store.add(StoredRecord { details: RecordDetails::stored("{"), ..record_of(2, 2, "default") });
    bench.behave_on(1, Behaviour::Take);
    bench.configuration.send_replace(Arc::new(self::effective(vec![
        samples::organization(1, "hook"),
        samples::organization(2, "hook"),
    ])));
    bench.clock.pass(Duration::from_secs(30));
    assert_eq!(bench.turn().await, 1);
    bench.turn_until_idle().await;
    assert_eq!((bench.store.state(1), bench.store.state(2)), (DeliveryState::Delivered, DeliveryState::DeadLettered));
}

#[tokio::test]
async fn a_hanging_destination_takes_nothing_from_another() {
    let mut bench = bench();
    bench.add(1..=50, 1);
    bench.add(51..=100, 3);
    bench.behave("hook", Behaviour::Hold);
    let mut turns = 0;
    while bench.store.count(DeliveryState::Delivered) < 50 {
        bench.dispatcher.step().await;
        tokio::task::yield_now().await;
        turns += 1;
        assert!(turns < 10_000, "the other destination waits");
    }
    assert_eq!(bench.seen_by("hook").len(), 4);
    assert_eq!(bench.store.on_lease(), 4);
}

#[tokio::test]
async fn organizations_share_a_destination_evenly() {
    let mut bench = bench();
    bench.behave("hook", Behaviour::Hold);
    bench.add(1..=50, 1);
    bench.add(51..=52, 2);
    assert_eq!(bench.dispatcher.step().await, 4);
    bench.until_seen(4).await;
    let of_two =
        |bench: &Bench| bench.seen_by("hook").iter().filter(|id| **id == receipt(51) || **id == receipt(52)).count();
    assert_eq!(of_two(&bench), 2);
}

#[tokio::test]
async fn who_comes_later_gets_the_next_free_place() {
    let mut bench = bench();
    bench.behave("hook", Behaviour::Hold);
    bench.add(1..=50, 1);
    assert_eq!(bench.dispatcher.step().await, 4);
    bench.until_seen(4).await;
    bench.add([51], 2);
    assert_eq!(bench.dispatcher.step().await, 0);
    bench.script.hands.notify_one();
    while bench.dispatcher.step().await == 0 {
        tokio::task::yield_now().await;
    }
    bench.until_seen(5).await;
    assert_eq!(bench.seen_by("hook").last(), Some(&receipt(51)));
}

#[tokio::test]
async fn more_organizations_than_places_take_turns() {
    let organizations: Vec<Organization> = (1..=9).map(|number| samples::organization(number, "hook")).collect();
    let mut bench = bench_of(effective(organizations));
    for organization in 1..=9 {
        bench.add((organization * 10)..(organization * 10 + 9), organization);
    }
    // Four places a turn: after nine turns everybody had four.
    for _ in 0..9 {
        assert_eq!(bench.turn().await, 4);
    }
    let mut served: HashMap<u16, usize> = HashMap::new();
    for id in bench.seen_by("hook") {
        let number = u16::from_be_bytes([id.as_bytes()[0], id.as_bytes()[1]]);
        *served.entry(number / 10).or_default() += 1;
    }
    assert_eq!(served, (1..=9).map(|organization| (organization, 4)).collect());
}

#[tokio::test]
async fn what_is_not_configured_any_more_waits_until_it_is_back() {
    let mut bench = bench_of(effective(vec![samples::organization(1, "hook")]));
    bench.add(1..=2, 1);
    bench.add(3..=5, 2);
    bench.clock.pass(Duration::from_secs(10 * 86_400));
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 2);
    assert_eq!(bench.store.count(DeliveryState::Accepted), 3);
    assert_eq!(*bench.counts.unconfigured.lock().unwrap(), 3);
    let back = effective(vec![samples::organization(1, "hook"), samples::organization(2, "other")]);
    bench.configuration.send_replace(Arc::new(back));
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 5);
    assert_eq!(*bench.counts.unconfigured.lock().unwrap(), 0);
    assert_eq!(bench.seen_by("other").len(), 3);
}

#[tokio::test]
async fn records_for_pull_are_left_alone() {
    let mut bench = bench();
    bench.add(1..=3, 4);
    bench.turn_until_idle().await;
    assert_eq!((bench.lease_calls(), *bench.counts.unconfigured.lock().unwrap()), (0, 0));
    assert_eq!(bench.store.count(DeliveryState::Accepted), 3);
}

#[tokio::test]
async fn idle_lanes_cost_nothing_and_wake_at_once() {
    let mut bench = bench();
    bench.add([1, 2], 1);
    bench.behave_on(1, Behaviour::FailFor(Duration::from_secs(8)));
    bench.turn().await;
    let asked = bench.lease_calls();
    for _ in 0..100 {
        assert_eq!(bench.turn().await, 0);
    }
    assert_eq!(bench.lease_calls(), asked);
    // A new record, with nobody nudging, while another was settled: the count is what it was.
    bench.add([3], 1);
    assert_eq!(bench.turn().await, 1);
    assert_eq!(bench.store.state(3), DeliveryState::Delivered);
}

#[tokio::test]
async fn a_lane_that_ran_empty_keeps_nobody_awake() {
    let mut bench = bench();
    bench.add([1], 1);
    bench.turn_until_idle().await;
    bench.clock.pass(Duration::from_secs(60));
    assert_eq!(bench.turn().await, 0);
    let now = bench.dispatcher.parts.clock.now().instant;
    assert_eq!((bench.dispatcher.next_look(now), bench.dispatcher.settling.next()), (TICK, None));
}

#[tokio::test]
async fn a_requeued_dead_letter_wakes_its_lane() {
    let mut bench = bench();
    bench.add([1, 2], 1);
    bench.behave_on(1, Behaviour::FailFor(Duration::from_secs(8)));
    bench.behave_on(2, Behaviour::Refuse);
    bench.turn_until_idle().await;
    assert_eq!(bench.store.state(2), DeliveryState::DeadLettered);
    bench.behave_on(2, Behaviour::Take);
    assert_eq!(bench.store.requeue(DeadLetters::One(receipt(2))).await.unwrap().count, 1);
    assert_eq!(bench.turn().await, 1);
    assert_eq!(bench.store.state(2), DeliveryState::Delivered);
}

#[tokio::test]
async fn while_the_store_cannot_record_nothing_more_is_delivered() {
    let mut bench = bench();
    bench.add(1..=20, 1);
    bench.store.settling_fails.store(true, Ordering::Relaxed);
    assert_eq!(bench.dispatcher.step().await, 4);
    while !bench.dispatcher.settling.failing() {
        bench.dispatcher.step().await;
        tokio::task::yield_now().await;
    }
    let seen = bench.seen().len();
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(bench.dispatcher.step().await, 0);
    bench.store.settling_fails.store(false, Ordering::Relaxed);
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(bench.turn().await, 0, "first the store catches up");
    bench.turn_until_idle().await;
    assert!(seen <= 8, "{seen}");
    assert_eq!(bench.store.count(DeliveryState::Delivered), 20);
    assert_eq!(bench.seen().len(), 20, "each was delivered once");
}

#[tokio::test]
async fn a_stop_waits_for_what_ends_and_gives_the_rest_back() {
    let mut bench = bench();
    bench.add(1..=9, 1);
    bench.add([10], 3);
    bench.behave("hook", Behaviour::Hold);
    assert_eq!(bench.dispatcher.step().await, 5);
    bench.until_seen(5).await;
    bench.script.hands.notify_one();
    bench.dispatcher.stop(Duration::from_millis(300)).await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 2);
    assert_eq!(bench.store.on_lease(), 0);
    let attempts: u32 = (1..=9).map(|number| bench.store.status(receipt(number)).attempts).sum();
    assert_eq!(attempts, 1, "only the delivered one counts");
    assert!(bench.dispatcher.under_way.is_empty());
}

#[tokio::test]
async fn a_new_configuration_reaches_the_next_turn() {
    let mut bench = bench_of(effective(vec![samples::organization(1, "hook")]));
    bench.add([1], 1);
    bench.turn_until_idle().await;
    bench.configuration.send_replace(Arc::new(effective(vec![samples::organization(1, "other")])));
    bench.add([2], 1);
    bench.turn_until_idle().await;
    assert_eq!(bench.seen_by("hook"), [receipt(1)]);
    assert_eq!(bench.seen_by("other"), [receipt(2)]);
}
