//! The whole room over real connections, with receivers that misbehave.

use std::time::Duration;

use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::routing_queue::testing::fake_store::FakeStore;
use crate::routing_queue::testing::fault_server::{Fault, FaultServer, OK};
use crate::routing_queue::testing::samples::{self, receipt, record_of};
use crate::routing_queue::testing::{install_tls_provider, samples::http_settings};
use crate::store::DeliveryState;

/// A running forwarder: organization 1 leads to `bad`, organization 2 to `good`.
struct Running {
    store: Arc<FakeStore>,
    handle: LoopHandle,
    nudge: Nudge,
    _configuration: watch::Sender<Arc<Effective>>,
}

fn start(bad: &str, good: &str) -> Running {
    start_with(bad, good, 3)
}

fn start_with(bad: &str, good: &str, max_attempts: u32) -> Running {
    install_tls_provider();
    let organizations = vec![samples::organization(1, "bad"), samples::organization(2, "good")];
    let mut effective =
        samples::effective(organizations, vec![("bad", http_settings(bad)), ("good", http_settings(good))]);
    effective.delivery.first_pause = Duration::from_millis(5);
    effective.delivery.longest_pause = Duration::from_millis(20);
    effective.delivery.max_attempts = max_attempts;
    // The sample records are years old.
    effective.delivery.give_up_after = Duration::MAX;
    let (configuration, receiver) = watch::channel(Arc::new(effective));
    let (store, nudge) = (Arc::new(FakeStore::default()), Nudge::default());
    let handle = Forwarder::new(store.clone(), receiver, nudge.clone()).start().unwrap();
    Running { store, handle, nudge, _configuration: configuration }
}

impl Running {
    fn add(&self, numbers: impl IntoIterator<Item = u16>, organization: u16) {
        for number in numbers {
            self.store.add(record_of(number, organization, "default"));
        }
        self.nudge.nudge();
    }

    async fn until(&self, what: &str, reached: impl Fn(&FakeStore) -> bool) {
        let polling = async {
            while !reached(&self.store) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), polling).await.is_ok(), "never reached: {what}");
    }
}

async fn good() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(202)).mount(&server).await;
    server
}

/// Each fault: the other destination gets all of its own, the faulty one's records are tried under the same ID, and end
/// as dead letters rather than nowhere.
#[tokio::test]
async fn faults_lose_nothing_and_stay_where_they_are() {
    for fault in [
        Fault::Reset,
        Fault::SayAndClose(b"HTTP/1.1 200".to_vec()),
        Fault::Say(b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n".to_vec()),
    ] {
        let (good, bad) = (good().await, FaultServer::start(fault.clone()).await);
        let running = start(&bad.url, &good.uri());
        running.add(1..=5, 1);
        running.add(101..=150, 2);
        running
            .until("all settled", |store| {
                store.count(DeliveryState::Delivered) == 50 && store.count(DeliveryState::DeadLettered) == 5
            })
            .await;
        let mut tried = bad.seen();
        tried.sort();
        let mut expected: Vec<String> = (1..=5).flat_map(|number| vec![receipt(number).to_string(); 3]).collect();
        expected.sort();
        assert_eq!(tried, expected, "{fault:?}");
        assert_eq!(good.received_requests().await.unwrap().len(), 50);
        running.handle.stop(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_keeps_nobody_else_waiting_and_a_stop_gives_its_records_back() {
    let (good, bad) = (good().await, FaultServer::start(Fault::Hang).await);
    let running = start(&bad.url, &good.uri());
    running.add(1..=20, 1);
    running.add(101..=150, 2);
    running.until("the other's records", |store| store.count(DeliveryState::Delivered) == 50).await;
    running.until("some under way", |store| store.on_lease() > 0).await;
    let store = Arc::clone(&running.store);
    running.handle.stop(Duration::ZERO).await;
    assert_eq!(store.on_lease(), 0);
    assert_eq!(store.count(DeliveryState::DeadLettered), 0);
}

#[tokio::test]
async fn a_receiver_that_comes_up_gets_what_waited() {
    let good = good().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let running = start_with(&format!("http://127.0.0.1:{port}/"), &good.uri(), u32::MAX);
    running.add([1], 1);
    running.until("a failed try", |store| store.status(receipt(1)).last_error.is_some()).await;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let late = MockServer::builder().listener(listener).start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&late).await;
    running.until("delivered", |store| store.state(1) == DeliveryState::Delivered).await;
    running.handle.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_lost_nudge_only_costs_time() {
    let server = FaultServer::start(Fault::Say(OK.to_vec())).await;
    let running = start(&server.url, &server.url);
    running.store.add(record_of(1, 1, "default"));
    running.until("delivered", |store| store.state(1) == DeliveryState::Delivered).await;
    running.store.add(record_of(2, 1, "default"));
    running.until("delivered", |store| store.state(2) == DeliveryState::Delivered).await;
    running.handle.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_dropped_handle_stops_it() {
    let server = FaultServer::start(Fault::Say(OK.to_vec())).await;
    let Running { store, handle, .. } = start(&server.url, &server.url);
    drop(handle);
    let stopping = async {
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), stopping).await.is_ok(), "it still holds the store");
}

#[tokio::test]
async fn a_loop_that_panics_begins_anew() {
    let server = FaultServer::start(Fault::Say(OK.to_vec())).await;
    let running = start(&server.url, &server.url);
    running.store.lanes_panic_once.store(true, std::sync::atomic::Ordering::Relaxed);
    running.add([1], 1);
    running.until("delivered", |store| store.state(1) == DeliveryState::Delivered).await;
    assert!(!running.store.lanes_panic_once.load(std::sync::atomic::Ordering::Relaxed));
    running.handle.stop(Duration::from_secs(1)).await;
}
