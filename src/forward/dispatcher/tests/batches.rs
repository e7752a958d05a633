//! Batches: what goes together, what an answer means for all, and that nobody suffers for another.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::bench::{Behaviour, Bench, bench_of};
use super::*;
use crate::config::settings::BatchSettings;
use crate::domain::ids::ReceiptId;
use crate::forward::hand::HAND_TIME;

/// Organizations 1 and 2 lead to `hook`, which takes batches of so many, four at once.
fn bench_with(max_events: usize, change: impl FnOnce(&mut Effective)) -> Bench {
    let mut settings = samples::http_settings("http://127.0.0.1:1/");
    settings.batch = BatchSettings { max_events: NonZeroUsize::new(max_events).unwrap(), max_bytes: 1 << 20 };
    let organizations = [1, 2].map(|number| samples::organization(number, "hook")).to_vec();
    let mut effective = samples::effective(organizations, vec![("hook", settings)]);
    change(&mut effective);
    bench_of(effective)
}

fn batching(max_events: usize) -> Bench {
    bench_with(max_events, |_| ())
}

impl Bench {
    /// What each message held so far, by record number.
    fn messages(&self) -> Vec<Vec<u16>> {
        self.script.messages.lock().unwrap().iter().map(|(_, receipts)| receipts.iter().map(number).collect()).collect()
    }

    fn message_ids(&self) -> Vec<String> {
        self.script.messages.lock().unwrap().iter().map(|(id, _)| id.clone()).collect()
    }
}

fn number(receipt: &ReceiptId) -> u16 {
    u16::from_be_bytes([receipt.as_bytes()[0], receipt.as_bytes()[1]])
}

#[tokio::test]
async fn what_is_due_goes_together_in_order_and_never_across_organizations() {
    let mut bench = batching(5);
    for start in [1, 21, 41] {
        bench.add(start..start + 4, 1);
        bench.add(start + 100..start + 102, 2);
    }
    bench.turn_until_idle().await;
    let messages = bench.messages();
    assert_eq!(messages.iter().map(Vec::len).max(), Some(5));
    for organization in [false, true] {
        let of_one: Vec<_> =
            messages.iter().filter(|message| message.iter().any(|n| (*n > 100) == organization)).collect();
        assert!(of_one.iter().all(|message| message.iter().all(|n| (*n > 100) == organization)), "{messages:?}");
        let all: Vec<u16> = of_one.into_iter().flatten().copied().collect();
        assert!(all.is_sorted(), "{all:?}");
    }
    assert_eq!(bench.store.count(DeliveryState::Delivered), 18);
}

#[tokio::test]
async fn one_event_alone_is_a_batch_too() {
    let mut bench = batching(5);
    bench.add([1], 1);
    bench.turn().await;
    assert!(bench.message_ids()[0].starts_with("batch_"), "one media type for one destination");
}

#[tokio::test]
async fn a_batch_that_is_not_full_waits_for_the_one_under_way() {
    let mut bench = batching(5);
    bench.behave("hook", Behaviour::Hold);
    bench.add(1..=2, 1);
    assert_eq!(bench.dispatcher.step().await, 1);
    bench.until_seen(2).await;
    bench.add(3..=4, 1);
    assert_eq!(bench.dispatcher.step().await, 0, "it gathers");
    bench.add(5..=9, 1);
    assert_eq!(bench.dispatcher.step().await, 1, "it is full");
    bench.until_seen(7).await;
    bench.script.hands.notify_one();
    while bench.dispatcher.step().await == 0 {
        assert!(bench.seen().len() < 9, "nothing comes of what gathered");
        tokio::task::yield_now().await;
    }
    bench.until_seen(9).await;
    assert_eq!(bench.messages(), [vec![1, 2], vec![3, 4, 5, 6, 7], vec![8, 9]]);
}

#[tokio::test]
async fn a_poison_record_is_found_and_nobody_else_suffers() {
    let mut bench = batching(100);
    bench.add(1..=100, 1);
    bench.behave_on(37, Behaviour::Refuse);
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 99);
    assert_eq!(bench.store.status(receipt(37)).last_error.as_deref(), Some("no"));
    assert!((1..=100).all(|number| bench.store.status(receipt(number)).attempts == 1), "one attempt each");
    let requests = bench.messages().len();
    assert!(requests <= 15, "{requests} requests");
    assert_eq!(*bench.counts.dead.lock().unwrap(), 1);
    let ids = bench.message_ids();
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len(), "other batches, other IDs");
    assert_eq!(bench.dispatcher.groups.remembered(), 0);
}

#[tokio::test]
async fn those_behind_a_poison_record_do_not_wait_for_it() {
    let mut bench = batching(4);
    bench.add(1..=40, 1);
    bench.behave_on(1, Behaviour::Refuse);
    bench.add(41..=44, 2);
    assert_eq!(bench.turn().await, 4);
    let delivered = bench.store.count(DeliveryState::Delivered);
    assert_eq!(delivered, 12, "three of the four batches");
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 43);
}

#[tokio::test]
async fn a_failed_batch_comes_again_as_the_same_message() {
    let mut bench = batching(5);
    bench.add(1..=3, 1);
    bench.behave("hook", Behaviour::FailFor(Duration::from_secs(8)));
    bench.turn().await;
    assert!((1..=3).all(|number| bench.store.status(receipt(number)).last_error.as_deref() == Some("busy")));
    bench.add(4..=5, 1);
    bench.turn().await;
    bench.behave("hook", Behaviour::Take);
    bench.clock.pass(Duration::from_secs(8));
    bench.add(6..=7, 1);
    bench.turn_until_idle().await;
    assert_eq!(bench.messages(), [vec![1, 2, 3], vec![4, 5], vec![1, 2, 3], vec![4, 5], vec![6, 7]]);
    let ids = bench.message_ids();
    assert_eq!((&ids[0], &ids[1]), (&ids[2], &ids[3]));
    assert_eq!(bench.dispatcher.groups.remembered(), 0);
}

#[tokio::test]
async fn a_batch_is_one_failure_to_the_breaker_and_a_probe_risks_one_record() {
    let mut bench = bench_with(10, |effective| effective.delivery.breaker_failures = 2);
    bench.add(1..=30, 1);
    bench.behave("hook", Behaviour::FailDown);
    assert_eq!(bench.turn().await, 3);
    assert_eq!(bench.turn().await, 0, "open");
    bench.clock.pass(Duration::from_secs(30));
    assert_eq!(bench.turn().await, 1);
    assert_eq!(bench.messages().last().map(Vec::len), Some(1));
    let tries: u32 = (1..=30).map(|number| bench.store.status(receipt(number)).attempts).sum();
    assert_eq!(tries, 31);
    bench.behave("hook", Behaviour::Take);
    bench.clock.pass(Duration::from_secs(60));
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 30);
    assert_eq!(bench.store.on_lease(), 0);
}

#[tokio::test]
async fn what_is_in_hand_goes_back_when_the_breaker_opens() {
    let mut bench = bench_with(1, |effective| effective.delivery.breaker_failures = 4);
    bench.add(1..=100, 1);
    for _ in 0..3 {
        assert_eq!(bench.turn().await, 4);
    }
    bench.behave("hook", Behaviour::FailDown);
    bench.turn().await;
    assert_eq!(bench.store.on_lease(), 0, "nothing waits in hand for a destination that is left alone");
    let tried: u32 = (1..=100).map(|number| bench.store.status(receipt(number)).attempts).sum();
    assert_eq!(tried, 16, "what was only in hand was not tried");
}

#[tokio::test]
async fn a_record_that_is_never_taken_takes_no_other_down_with_it() {
    let mut bench = batching(8);
    bench.add(1..=8, 1);
    bench.behave_on(5, Behaviour::FailFor(Duration::from_secs(1)));
    for _ in 0..4 {
        bench.turn_until_idle().await;
        bench.clock.pass(Duration::from_secs(60));
    }
    assert_eq!(bench.store.count(DeliveryState::Delivered), 7);
    assert_eq!(bench.store.status(receipt(5)).last_error.as_deref(), Some("busy; given up after 3 tries"));
}

#[tokio::test]
async fn damaged_records_leave_a_batch_and_the_rest_goes() {
    let mut bench = batching(4);
    bench.store.add(StoredRecord { details: RecordDetails::stored("{"), ..record_of(1, 1, "default") });
    bench.add(2..=3, 1);
    bench.store.add(StoredRecord { details: RecordDetails::stored(""), ..record_of(4, 1, "default") });
    bench.turn_until_idle().await;
    assert_eq!(bench.messages(), [vec![2, 3]]);
    assert_eq!(bench.store.count(DeliveryState::DeadLettered), 2);
}

#[tokio::test]
async fn a_batch_keeps_to_its_bytes() {
    let mut bench = bench_with(100, |effective| {
        let mut queues = (*effective.routing_queues).clone();
        queues.values_mut().for_each(|settings| settings.batch.max_bytes = 2_500);
        effective.routing_queues = Arc::new(queues);
    });
    bench.add(1..=9, 1);
    bench.turn_until_idle().await;
    let messages = bench.messages();
    assert!(messages.len() > 3 && messages.iter().all(|message| (1..=4).contains(&message.len())), "{messages:?}");
    assert_eq!(messages.concat(), (1..=9).collect::<Vec<u16>>());
}

#[tokio::test]
async fn a_stop_gives_back_what_is_in_hand_and_under_way() {
    let mut bench = batching(3);
    bench.add(1..=40, 1);
    bench.turn().await;
    bench.turn().await;
    bench.behave("hook", Behaviour::Hold);
    assert_eq!(bench.dispatcher.step().await, 4);
    bench.dispatcher.stop(Duration::ZERO).await;
    assert_eq!(bench.store.on_lease(), 0);
    assert_eq!(bench.store.count(DeliveryState::Delivered), 24);
    let attempts: u32 = (25..=40).map(|number| bench.store.status(receipt(number)).attempts).sum();
    assert_eq!(attempts, 0);
}

#[tokio::test]
async fn halves_that_are_left_at_a_stop_are_given_back() {
    let mut bench = batching(4);
    bench.add(1..=4, 1);
    bench.behave_on(2, Behaviour::Refuse);
    assert_eq!(bench.dispatcher.step().await, 1);
    bench.dispatcher.stop(Duration::from_secs(5)).await;
    assert_eq!((bench.store.on_lease(), bench.store.count(DeliveryState::DeadLettered)), (0, 0));
}

#[tokio::test]
async fn what_waits_in_hand_for_too_long_goes_back_and_halves_stay_halves() {
    let mut bench = batching(4);
    bench.add(1..=4, 1);
    bench.behave_on(1, Behaviour::Refuse);
    bench.turn().await;
    // The receiver took so long to refuse that another try would outlast the lease.
    bench.clock.pass(HAND_TIME + Duration::from_secs(1));
    bench.turn_until_idle().await;
    bench.turn_until_idle().await;
    assert_eq!(bench.messages()[..3], [vec![1, 2, 3, 4], vec![1, 2], vec![3, 4]]);
    assert_eq!(bench.store.count(DeliveryState::Delivered), 3);
    assert!((1..=4).all(|number| bench.store.status(receipt(number)).attempts == 1));
}

#[tokio::test]
async fn a_new_configuration_finds_nothing_in_hand() {
    let mut bench = batching(1);
    bench.add(1..=100, 1);
    for _ in 0..3 {
        bench.turn().await;
    }
    let seen = bench.seen().len();
    let moved = samples::effective(vec![samples::organization(1, "pull")], vec![]);
    bench.configuration.send_replace(Arc::new(moved));
    bench.turn_until_idle().await;
    assert_eq!((bench.seen().len(), bench.store.on_lease()), (seen, 0));
    assert_eq!(bench.store.count(DeliveryState::Accepted) + bench.store.count(DeliveryState::Delivering), 100 - seen);
}

#[tokio::test]
async fn what_a_crash_left_on_lease_is_delivered_when_the_leases_end() {
    let mut bench = batching(3);
    bench.add(1..=40, 1);
    bench.turn().await;
    bench.turn().await;
    bench.behave("hook", Behaviour::Hold);
    bench.dispatcher.step().await;
    assert!(bench.store.on_lease() >= 12);
    bench.behave("hook", Behaviour::Take);
    // kill -9: whatever the loop knew is gone.
    bench.dispatcher = Dispatcher::new(bench.dispatcher.parts.clone());
    bench.turn_until_idle().await;
    assert!(bench.store.count(DeliveryState::Delivered) < 40);
    bench.clock.pass(Duration::from_secs(120));
    bench.turn_until_idle().await;
    assert_eq!(bench.store.count(DeliveryState::Delivered), 40);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whichever records are poison and however large the batches: exactly the poison ones become dead letters, everybody
    /// has one attempt, and no more requests are made than 2n - 1 for each batch.
    #[test]
    fn exactly_the_poison_records_are_given_up(
        poison in proptest::collection::btree_set(1_u16..60, 0..12),
        max_events in 1_usize..70,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut bench = batching(max_events);
            bench.add(1..60, 1);
            poison.iter().for_each(|number| bench.behave_on(*number, Behaviour::Refuse));
            bench.turn_until_idle().await;
            for number in 1..60 {
                let status = bench.store.status(receipt(number));
                let dead = status.state == DeliveryState::DeadLettered;
                prop_assert_eq!((dead, status.attempts), (poison.contains(&number), 1), "{}", number);
            }
            prop_assert_eq!(bench.store.count(DeliveryState::Delivered), 59 - poison.len());
            prop_assert!(bench.messages().len() < 2 * 59);
            Ok(())
        })?;
    }
}
