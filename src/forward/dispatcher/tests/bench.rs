//! A dispatcher on manual clocks, whose destinations do as they are told.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::super::*;
use crate::config::settings::RoutingQueueSettings;
use crate::domain::catalog::Organization;
use crate::domain::ids::ReceiptId;
use crate::forward::clock::tests::ManualClock;
use crate::routing_queue::testing::fake_store::FakeStore;
use crate::routing_queue::testing::samples::{self, ACCEPTED_AT, receipt, record_of};
use crate::routing_queue::{Content, Delivery, DeliveryError, RoutingQueue, Taken};

/// What a destination does with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Take,
    FailDown,
    FailFor(Duration),
    Refuse,
    Panic,
    /// Holds it until the hands are opened, then takes it.
    Hold,
}

/// What the destinations do, and what they have seen.
#[derive(Default)]
pub(super) struct Script {
    pub(super) destinations: Mutex<HashMap<String, Behaviour>>,
    pub(super) records: Mutex<HashMap<ReceiptId, Behaviour>>,
    pub(super) seen: Mutex<Vec<(String, ReceiptId)>>,
    /// Every message: its ID and its events.
    pub(super) messages: Mutex<Vec<(String, Vec<ReceiptId>)>>,
    pub(super) hands: Notify,
}

struct Scripted {
    name: String,
    pub(super) script: Arc<Script>,
}

/// The receipts in a message.
fn receipts_in(message: &Delivery) -> Vec<ReceiptId> {
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    let id = |event: &serde_json::Value| ReceiptId::parse(event["id"].as_str().unwrap()).unwrap();
    match message.content {
        Content::Event => vec![id(&body)],
        Content::Batch => body.as_array().unwrap().iter().map(id).collect(),
    }
}

impl RoutingQueue for Scripted {
    fn deliver(&self, message: Delivery) -> BoxFuture<'_, Result<Taken, DeliveryError>> {
        async move {
            let receipts = receipts_in(&message);
            self.script.messages.lock().unwrap().push((message.id.clone(), receipts.clone()));
            self.script.seen.lock().unwrap().extend(receipts.iter().map(|id| (self.name.clone(), *id)));
            let by_record = {
                let records = self.script.records.lock().unwrap();
                receipts.iter().find_map(|id| records.get(id).copied())
            };
            let by_name = self.script.destinations.lock().unwrap().get(&self.name).copied();
            let fail = |retry_after, destination_down| {
                Err(DeliveryError::Temporary { reason: "busy".to_owned(), retry_after, destination_down })
            };
            match by_record.or(by_name).unwrap_or(Behaviour::Take) {
                Behaviour::Take => Ok(Taken::Now),
                Behaviour::FailDown => fail(None, true),
                Behaviour::FailFor(pause) => fail(Some(pause), false),
                Behaviour::Refuse => Err(DeliveryError::Permanent { reason: "no".to_owned() }),
                Behaviour::Panic => panic!("a fault of the test"),
                Behaviour::Hold => {
                    self.script.hands.notified().await;
                    Ok(Taken::Now)
                }
            }
        }
        .boxed()
    }
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) dead: Mutex<usize>,
    pub(super) unconfigured: Mutex<u64>,
    pub(super) breaker: Mutex<Vec<BreakerState>>,
}

impl Observer for Counts {
    fn dead_lettered(&self, _routing_queue: &str) {
        *self.dead.lock().unwrap() += 1;
    }
    fn breaker(&self, _routing_queue: &str, state: BreakerState) {
        self.breaker.lock().unwrap().push(state);
    }
    fn unconfigured(&self, records: u64) {
        *self.unconfigured.lock().unwrap() = records;
    }
}

pub(super) struct Bench {
    pub(super) store: Arc<FakeStore>,
    pub(super) script: Arc<Script>,
    pub(super) clock: ManualClock,
    pub(super) counts: Arc<Counts>,
    pub(super) configuration: watch::Sender<Arc<Effective>>,
    pub(super) dispatcher: Dispatcher,
}

fn settings() -> RoutingQueueSettings {
    samples::http_settings("http://127.0.0.1:1/")
}

pub(super) fn effective(organizations: Vec<Organization>) -> Effective {
    samples::effective(organizations, vec![("hook", settings()), ("other", settings())])
}

/// Organizations 1 and 2 lead to `hook`, 3 to `other`, 4 to `pull`; each destination takes four at once.
pub(super) fn bench() -> Bench {
    let organizations = [(1, "hook"), (2, "hook"), (3, "other"), (4, "pull")];
    bench_of(effective(organizations.map(|(number, name)| samples::organization(number, name)).to_vec()))
}

pub(super) fn bench_of(effective: Effective) -> Bench {
    let (store, script) = (Arc::new(FakeStore::default()), Arc::new(Script::default()));
    let (clock, counts) = (ManualClock::at(ACCEPTED_AT), Arc::new(Counts::default()));
    let (configuration, receiver) = watch::channel(Arc::new(effective));
    let connect: Connect = {
        let script = Arc::clone(&script);
        Arc::new(move |name, _| Ok(Arc::new(Scripted { name: name.to_string(), script: Arc::clone(&script) })))
    };
    let dispatcher = Dispatcher::new(Parts {
        store: store.clone(),
        effective: receiver,
        nudge: Nudge::default(),
        observer: counts.clone(),
        clock: clock.clock(),
        connect,
    });
    Bench { store, script, clock, counts, configuration, dispatcher }
}

impl Bench {
    pub(super) fn add(&self, numbers: impl IntoIterator<Item = u16>, organization: u16) {
        for number in numbers {
            self.store.add(record_of(number, organization, "default"));
        }
    }

    pub(super) fn behave(&self, destination: &str, behaviour: Behaviour) {
        self.script.destinations.lock().unwrap().insert(destination.to_owned(), behaviour);
    }

    pub(super) fn behave_on(&self, number: u16, behaviour: Behaviour) {
        self.script.records.lock().unwrap().insert(receipt(number), behaviour);
    }

    /// One turn and all it began, until nothing is under way.
    pub(super) async fn turn(&mut self) -> usize {
        let started = self.dispatcher.step().await;
        self.dispatcher.finish().await;
        started
    }

    /// Turns until a turn starts nothing.
    pub(super) async fn turn_until_idle(&mut self) {
        while self.turn().await > 0 {}
    }

    /// Lets the started tries run until the destinations have seen this many.
    pub(super) async fn until_seen(&self, count: usize) {
        while self.seen().len() < count {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn seen(&self) -> Vec<(String, ReceiptId)> {
        self.script.seen.lock().unwrap().clone()
    }

    pub(super) fn seen_by(&self, destination: &str) -> Vec<ReceiptId> {
        self.seen().into_iter().filter(|(name, _)| name == destination).map(|(_, id)| id).collect()
    }

    pub(super) fn lease_calls(&self) -> usize {
        self.store.lease_calls.load(Ordering::Relaxed)
    }
}
