//! Leasing, completing and releasing work items, on a store in memory.

use super::*;
use crate::domain::access::OrganizationScope;
use crate::domain::record::RecordDetails;
use crate::routing_queue::testing::fake_store::FakeStore;
use crate::routing_queue::testing::samples::{self, ACCEPTED_AT, queue, receipt, record_of};
use crate::store::DeliveryState;

const NOW: Timestamp = ACCEPTED_AT;

struct Setup {
    store: Arc<FakeStore>,
    pull: PullQueue,
    effective: Effective,
}

/// Organization 1 leads to `pull`, organization 2 to `hook`.
fn setup() -> Setup {
    let store = Arc::new(FakeStore::default());
    let organizations = vec![samples::organization(1, "pull"), samples::organization(2, "hook")];
    let effective = samples::effective(organizations, vec![("hook", samples::http_settings("http://127.0.0.1:1/"))]);
    Setup { pull: PullQueue::new(store.clone()), store, effective }
}

fn caller(organizations: OrganizationScope) -> Caller {
    Caller { credential: "test".into(), permissions: Default::default(), organizations }
}

fn everywhere() -> Caller {
    caller(OrganizationScope::All)
}

fn call() -> LeaseCall {
    LeaseCall { organization: samples::organization_id(1), queue: None, max: None, lease_seconds: None }
}

impl Setup {
    async fn lease(&self, call: LeaseCall, now: Timestamp) -> Result<Vec<WorkItem>, PullError> {
        self.pull.lease(&self.effective, &everywhere(), call, now).await
    }
}

fn ids(items: &[WorkItem]) -> Vec<ReceiptId> {
    items.iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn items_come_by_priority_then_by_arrival() {
    let setup = setup();
    for (number, queue) in [(1, "later"), (2, "default"), (3, "gone"), (4, "default")] {
        setup.store.add(record_of(number, 1, queue));
    }
    let items = setup.lease(call(), NOW).await.unwrap();
    assert_eq!(ids(&items), [2, 4, 1, 3].map(receipt));
    let shown = serde_json::to_value(&items[0]).unwrap();
    assert_eq!(shown["id"], receipt(2).to_string());
    assert_eq!(shown["leaseToken"], items[0].lease_token.to_string());
    assert_eq!(shown["leaseUntil"], "2019-02-12T09:46:07.000Z");
    assert_eq!(shown["attempt"], 1);
    assert_eq!(shown["event"]["data"]["recordDetails"]["n"], 2);
    assert_eq!(shown["event"]["data"]["workStream"]["name"], "Cases");
}

#[tokio::test]
async fn only_the_asked_queue_and_only_so_many() {
    let setup = setup();
    for number in 1..=3 {
        setup.store.add(record_of(number, 1, "later"));
    }
    setup.store.add(record_of(4, 1, "default"));
    let asked = LeaseCall { queue: Some(queue("later")), max: Some(2), ..call() };
    assert_eq!(ids(&setup.lease(asked, NOW).await.unwrap()), [1, 2].map(receipt));
}

#[tokio::test]
async fn only_lanes_that_lead_here_are_offered() {
    let mut setup = setup();
    setup.store.add(record_of(1, 1, "default"));
    setup.store.add(record_of(2, 2, "default"));
    let of_two = LeaseCall { organization: samples::organization_id(2), ..call() };
    assert_eq!(ids(&setup.lease(of_two, NOW).await.unwrap()), []);
    let without_stream =
        crate::domain::catalog::Organization { work_streams: Default::default(), ..samples::organization(1, "pull") };
    setup.effective = samples::effective(vec![without_stream], Vec::new());
    assert_eq!(ids(&setup.lease(call(), NOW).await.unwrap()), []);
    assert_eq!(setup.store.count(DeliveryState::Accepted), 2);
}

#[tokio::test]
async fn bounds_and_names_are_checked() {
    let setup = setup();
    for max in [0, 101, u64::MAX] {
        let error = setup.lease(LeaseCall { max: Some(max), ..call() }, NOW).await.unwrap_err();
        assert_eq!(error.to_string(), "`max` must be between 1 and 100");
    }
    for lease_seconds in [0, 43_201] {
        let asked = LeaseCall { lease_seconds: Some(lease_seconds), ..call() };
        let error = setup.lease(asked, NOW).await.unwrap_err();
        assert_eq!(error.to_string(), "`leaseSeconds` must be between 1 and 43200");
    }
    let error = setup.lease(LeaseCall { queue: Some(queue("nope")), ..call() }, NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no queue `nope`; the queues are `default`, `later`");
}

#[tokio::test]
async fn a_foreign_organization_looks_unknown() {
    let setup = setup();
    setup.store.add(record_of(1, 1, "default"));
    let stranger = caller(OrganizationScope::Only([samples::organization_id(2)].into()));
    let error = setup.pull.lease(&setup.effective, &stranger, call(), NOW).await.unwrap_err();
    assert!(matches!(error, PullError::OrganizationUnknown(_)), "{error}");
    let items = setup.lease(call(), NOW).await.unwrap();
    let holder = Holder { caller: &stranger, receipt: items[0].id, token: items[0].lease_token };
    assert!(matches!(setup.pull.complete(holder, NOW).await, Err(PullError::NotFound)));
    assert_eq!(setup.store.state(1), DeliveryState::Delivering);
}

#[tokio::test]
async fn complete_and_release_take_the_token_once() {
    let setup = setup();
    let caller = everywhere();
    setup.store.add(record_of(1, 1, "default"));
    let first = setup.lease(call(), NOW).await.unwrap();
    let holder = |item: &WorkItem| Holder { caller: &caller, receipt: item.id, token: item.lease_token };
    assert!(setup.lease(call(), NOW).await.unwrap().is_empty());
    setup.pull.release(holder(&first[0]), NOW).await.unwrap();
    let second = setup.lease(call(), NOW).await.unwrap();
    assert_eq!(second[0].attempt, 1);
    assert!(matches!(setup.pull.complete(holder(&first[0]), NOW).await, Err(PullError::LeaseLost)));
    setup.pull.complete(holder(&second[0]), NOW).await.unwrap();
    assert_eq!(setup.store.state(1), DeliveryState::Delivered);
    assert!(matches!(setup.pull.complete(holder(&second[0]), NOW).await, Err(PullError::LeaseLost)));
    let unknown = Holder { receipt: receipt(9), ..holder(&second[0]) };
    assert!(matches!(setup.pull.complete(unknown, NOW).await, Err(PullError::NotFound)));
}

#[tokio::test]
async fn a_lease_that_ran_out_is_offered_again() {
    let setup = setup();
    let caller = everywhere();
    setup.store.add(record_of(1, 1, "default"));
    let late = setup.lease(LeaseCall { lease_seconds: Some(1), ..call() }, NOW).await.unwrap();
    let after = NOW.after(Duration::from_secs(1));
    let again = setup.lease(call(), after).await.unwrap();
    assert_eq!(again[0].attempt, 2);
    let holder = Holder { caller: &caller, receipt: late[0].id, token: late[0].lease_token };
    assert!(matches!(setup.pull.complete(holder, after).await, Err(PullError::LeaseLost)));
}

#[tokio::test]
async fn a_damaged_record_does_not_block_the_lane() {
    let setup = setup();
    setup.store.add(StoredRecord { details: RecordDetails::stored("{"), ..record_of(1, 1, "default") });
    setup.store.add(record_of(2, 1, "default"));
    assert_eq!(ids(&setup.lease(call(), NOW).await.unwrap()), [receipt(2)]);
    assert_eq!(setup.store.state(1), DeliveryState::DeadLettered);
}

#[tokio::test]
async fn an_item_that_was_set_aside_waits_until_it_is_revived_or_closes() {
    let setup = setup();
    let caller = everywhere();
    setup.store.add(record_of(1, 1, "default"));
    let items = setup.lease(call(), NOW).await.unwrap();
    let holder = Holder { caller: &caller, receipt: items[0].id, token: items[0].lease_token };
    let closes_at = setup.pull.wait(&setup.effective, holder, NOW).await.unwrap();
    assert_eq!(closes_at, NOW.after(Duration::from_secs(1_440 * 60)));
    assert_eq!(setup.store.status(receipt(1)).waiting.unwrap().closes_at, closes_at);
    assert!(setup.lease(call(), NOW).await.unwrap().is_empty());
    assert!(matches!(setup.pull.wait(&setup.effective, holder, NOW).await, Err(PullError::LeaseLost)));
    assert!(matches!(setup.pull.complete(holder, NOW).await, Err(PullError::LeaseLost)));

    assert!(matches!(setup.pull.revive(&caller, receipt(1), closes_at).await, Err(PullError::NotWaiting)));
    setup.pull.revive(&caller, receipt(1), NOW).await.unwrap();
    assert!(matches!(setup.pull.revive(&caller, receipt(1), NOW).await, Err(PullError::NotWaiting)));
    assert!(matches!(setup.pull.revive(&caller, receipt(9), NOW).await, Err(PullError::NotFound)));
    assert_eq!(setup.lease(call(), NOW).await.unwrap()[0].attempt, 2);
}

#[tokio::test]
async fn the_work_stream_says_how_long_an_item_waits() {
    let mut setup = setup();
    let caller = everywhere();
    for (number, minutes) in [(1, Some(7)), (2, None)] {
        setup.store.add(record_of(number, 1, "default"));
        let items = setup.lease(call(), NOW).await.unwrap();
        let holder = Holder { caller: &caller, receipt: items[0].id, token: items[0].lease_token };
        // Now, not when the item was leased; and also when it is gone.
        let mut organization = samples::organization(1, "pull");
        match minutes {
            Some(minutes) => {
                let stream = organization.work_streams.get_mut(&samples::work_stream_id()).unwrap();
                stream.auto_close_after_inactivity_minutes = minutes;
            }
            None => organization.work_streams.clear(),
        }
        let then = samples::effective(vec![organization], Vec::new());
        let closes_at = setup.pull.wait(&then, holder, NOW).await.unwrap();
        assert_eq!(closes_at, NOW.after(Duration::from_secs(u64::from(minutes.unwrap_or(1_440)) * 60)));
        setup.effective = samples::effective(vec![samples::organization(1, "pull")], Vec::new());
    }
}

#[tokio::test]
async fn a_foreign_item_neither_waits_nor_is_revived() {
    let setup = setup();
    setup.store.add(record_of(1, 1, "default"));
    let stranger = caller(OrganizationScope::Only([samples::organization_id(2)].into()));
    let items = setup.lease(call(), NOW).await.unwrap();
    let foreign = Holder { caller: &stranger, receipt: items[0].id, token: items[0].lease_token };
    assert!(matches!(setup.pull.wait(&setup.effective, foreign, NOW).await, Err(PullError::NotFound)));
    let own = everywhere();
    setup.pull.wait(&setup.effective, Holder { caller: &own, ..foreign }, NOW).await.unwrap();
    assert!(matches!(setup.pull.revive(&stranger, items[0].id, NOW).await, Err(PullError::NotFound)));
    assert!(setup.store.status(receipt(1)).waiting.is_some());
}
