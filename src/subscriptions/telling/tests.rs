//! Telling, turned by hand: against a store of records in memory, a real store of subscriptions, and a real receiver.

use std::num::NonZeroUsize;

use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::config::settings::SubscriptionSettings;
use crate::domain::access::{Caller, OrganizationScope};
use crate::domain::ids::QueueName;
use crate::forward::observer::Unobserved;
use crate::routing_queue::signature::SignedHeaders;
use crate::routing_queue::testing::fake_store::FakeStore;
use crate::routing_queue::testing::{install_tls_provider, samples};
use crate::store::Store;
use crate::store::sqlite::subscriptions::SqliteSubscriptions;
use crate::store::subscriptions::{Standing, Subscription};
use crate::subscriptions::{Asked, SubscribeError};

/// Everything but the receiver.
struct Bench {
    dir: tempfile::TempDir,
    records: Arc<FakeStore>,
    effective: Arc<Effective>,
    subscriptions: Arc<Subscriptions>,
    teller: Teller,
}

fn caller() -> Caller {
    Caller { credential: "flows".into(), permissions: Default::default(), organizations: OrganizationScope::All }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With the delivery settings changed.
    fn with(change: impl FnOnce(&mut Effective)) -> Self {
        install_tls_provider();
        let mut effective = samples::effective(vec![samples::organization(1, "pull")], Vec::new());
        change(&mut effective);
        let (dir, records) = (tempfile::tempdir().unwrap(), Arc::new(FakeStore::default()));
        Self::on(dir, records, Arc::new(effective))
    }

    fn on(dir: tempfile::TempDir, records: Arc<FakeStore>, effective: Arc<Effective>) -> Self {
        let kept = Arc::new(SqliteSubscriptions::open(dir.path(), 0).unwrap());
        let subscriptions = Subscriptions::open(kept, Arc::clone(&records) as Arc<dyn Store>).unwrap();
        let (_announced, latest) = watch::channel(Arc::clone(&effective));
        let teller = Teller::new(Parts {
            subscriptions: Arc::clone(&subscriptions),
            effective: latest,
            observer: Arc::new(Unobserved),
            clock: Clock::system(),
            dead_letters: Duration::from_secs(3_600),
        });
        Self { dir, records, effective, subscriptions, teller }
    }

    /// As after a crash: what was under way is not.
    fn restart(self) -> Self {
        drop((self.teller, self.subscriptions));
        Self::on(self.dir, self.records, self.effective)
    }

    async fn ask(&self, url: &str, queue: Option<&str>) -> Result<Arc<Subscription>, SubscribeError> {
        let asked = Asked {
            organization: samples::organization_id(1),
            queue: queue.map(|name| QueueName::parse(name).unwrap()),
            work_stream: None,
            callback_url: url.to_owned(),
            secret: None,
        };
        self.subscriptions.subscribe(&self.effective, &caller(), asked).await
    }

    async fn subscribe(&self, url: &str, queue: Option<&str>) -> Arc<Subscription> {
        self.ask(url, queue).await.unwrap()
    }

    fn arrive(&self, records: std::ops::RangeInclusive<u16>) {
        records.for_each(|number| self.records.add(samples::record(number)));
    }

    /// Turns until nothing is under way and the store knows what came of it.
    async fn settle(&mut self) {
        self.teller.turn().await;
        while !self.teller.under_way.is_empty() || !self.teller.tried.is_empty() {
            if let Some(ended) = self.teller.tasks.join_next_with_id().await {
                self.teller.take_in(ended);
            }
            self.teller.turn().await;
        }
    }

    async fn standing(&self, subscription: &Subscription) -> Standing {
        let listed = self.subscriptions.list(&caller(), None).await.unwrap();
        listed.into_iter().find(|(one, _)| one.id == subscription.id).unwrap().1
    }
}

async fn receiver(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

/// The records that a receiver was told of, by their place in the order of arrival.
async fn told(server: &MockServer) -> Vec<String> {
    let mut ids: Vec<String> = server
        .received_requests()
        .await
        .unwrap()
        .iter()
        .map(|request| request.headers["webhook-id"].to_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn ids(records: impl Iterator<Item = u16>) -> Vec<String> {
    let mut ids: Vec<String> = records.map(|number| samples::receipt(number).to_string()).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn who_subscribed_is_told_of_what_arrives_from_then_on() {
    let mut bench = Bench::new();
    let (all, other) = (receiver(ResponseTemplate::new(202)).await, receiver(ResponseTemplate::new(200)).await);
    bench.arrive(1..=3);
    assert_eq!(*bench.records.kept_from.lock().unwrap(), None, "nobody needs anything");
    let subscribed = bench.subscribe(&all.uri(), Some("default")).await;
    bench.subscribe(&other.uri(), Some("elsewhere")).await;
    assert_eq!(*bench.records.kept_from.lock().unwrap(), Some(4));
    bench.arrive(4..=30);
    bench.settle().await;
    assert_eq!(told(&all).await, ids(4..=30));
    assert_eq!(told(&other).await, [""; 0]);
    assert_eq!(*bench.records.kept_from.lock().unwrap(), Some(31));
    let standing = bench.standing(&subscribed).await;
    assert_eq!((standing.delivered, standing.pending, standing.dead_lettered), (27, 0, 0));

    let request = all.received_requests().await.unwrap().remove(0);
    let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    let (id, timestamp, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let signed = SignedHeaders { id: &id, timestamp: &timestamp, signature: &signature };
    let now = crate::domain::time::Timestamp::now();
    assert_eq!(signed.verify(&request.body, std::slice::from_ref(&subscribed.secret), now), Ok(()));
    let event: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((event["type"].as_str(), &event["id"]), (Some("streamgate.record.created.v1"), &id.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_subscribes_while_arrivals_are_read_misses_nothing() {
    let mut bench = Bench::new();
    let (first, second) = (receiver(ResponseTemplate::new(200)).await, receiver(ResponseTemplate::new(200)).await);
    bench.subscribe(&first.uri(), None).await;
    bench.arrive(1..=1);
    let (subscriptions, records) = (Arc::clone(&bench.subscriptions), Arc::clone(&bench.records));
    let (effective, url) = (Arc::clone(&bench.effective), second.uri());
    *bench.records.while_reading.lock().unwrap() = Some(Box::pin(async move {
        let asked = Asked {
            organization: samples::organization_id(1),
            queue: None,
            work_stream: None,
            callback_url: url,
            secret: None,
        };
        subscriptions.subscribe(&effective, &caller(), asked).await.unwrap();
        // Sent after the answer, and read with what was there before.
        records.add(samples::record(2));
    }));
    bench.settle().await;
    assert_eq!((told(&first).await, told(&second).await), (ids(1..=2), ids(2..=2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_told_before_a_crash_is_told_after_it() {
    let mut bench = Bench::new();
    let server = receiver(ResponseTemplate::new(200)).await;
    let subscribed = bench.subscribe(&server.uri(), None).await;
    bench.arrive(1..=5);
    // Put down, and on its way; nobody hears how it ends.
    bench.teller.turn().await;
    assert!(!bench.teller.under_way.is_empty());
    bench.arrive(6..=7);
    let mut bench = bench.restart();
    bench.settle().await;
    let mut once = told(&server).await;
    once.dedup();
    assert_eq!(once, ids(1..=7));
    assert_eq!(bench.standing(&subscribed).await.delivered, 7);
    let mut bench = bench.restart();
    let before = told(&server).await.len();
    bench.settle().await;
    assert_eq!(told(&server).await.len(), before, "what was told is not told again by a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_given_up_with_the_reason_and_can_be_told_again() {
    let mut bench = Bench::with(|effective| effective.delivery.max_attempts = 1);
    let server = receiver(ResponseTemplate::new(500)).await;
    let subscribed = bench.subscribe(&server.uri(), None).await;
    bench.arrive(1..=2);
    bench.settle().await;
    let standing = bench.standing(&subscribed).await;
    assert_eq!((standing.delivered, standing.pending, standing.dead_lettered), (0, 0, 2));
    let dead = bench.subscriptions.dead_letters(subscribed.id, None, 10).await.unwrap();
    assert!(dead[0].reason.contains("500") && dead[0].reason.contains("given up after 1 tries"), "{}", dead[0].reason);

    server.reset().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    assert_eq!(bench.subscriptions.requeue(subscribed.id).await.unwrap(), 2);
    bench.settle().await;
    let standing = bench.standing(&subscribed).await;
    assert_eq!((standing.delivered, standing.dead_lettered, standing.last_error), (2, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_later() {
    let mut bench = Bench::with(|effective| effective.delivery.first_pause = Duration::from_millis(1));
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(503)).up_to_n_times(2).mount(&server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let subscribed = bench.subscribe(&server.uri(), None).await;
    bench.arrive(1..=1);
    let deadline = Instant::now() + Duration::from_secs(30);
    while bench.standing(&subscribed).await.delivered == 0 {
        assert!(Instant::now() < deadline, "it is never told");
        bench.settle().await;
    }
    assert_eq!(told(&server).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_gone_is_told_no_more() {
    let mut bench = Bench::new();
    let server = receiver(ResponseTemplate::new(410)).await;
    let subscribed = bench.subscribe(&server.uri(), None).await;
    bench.arrive(1..=1);
    bench.settle().await;
    let known = bench.subscriptions.known();
    let ended = known[&subscribed.id].ended.clone().unwrap();
    assert!(ended.because.contains("410"), "{}", ended.because);
    bench.arrive(2..=5);
    bench.settle().await;
    assert_eq!(told(&server).await.len(), 1);
    assert_eq!(*bench.records.kept_from.lock().unwrap(), None, "nobody needs anything any more");
    // Whoever comes back is told of what comes then.
    let again = bench.subscribe(&server.uri(), None).await;
    assert_ne!(again.id, subscribed.id);
    assert_eq!(bench.subscriptions.end(&caller(), subscribed.id).await.unwrap(), Some(ended), "it had ended before");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_wish_is_one_subscription_and_there_are_not_too_many() {
    let bench = Bench::with(|effective| {
        let two = NonZeroUsize::new(2).unwrap();
        effective.subscriptions = SubscriptionSettings { max_per_organization: two, ..effective.subscriptions.clone() };
    });
    let url = "http://127.0.0.1:9/run";
    let first = bench.subscribe(url, None).await;
    assert_eq!(bench.subscribe(url, None).await, first);
    let other = bench.subscribe(url, Some("elsewhere")).await;
    assert_ne!(other.id, first.id);
    let refused = bench.ask("http://127.0.0.1:9/other", None).await;
    assert!(matches!(refused, Err(SubscribeError::Limit { limit: 2 })), "{refused:?}");
    let asked = Asked {
        organization: samples::organization_id(1),
        queue: None,
        work_stream: None,
        callback_url: url.to_owned(),
        secret: Some(crate::config::settings::WebhookSecret::random().unwrap()),
    };
    let refused = bench.subscriptions.subscribe(&bench.effective, &caller(), asked).await;
    assert!(matches!(refused, Err(SubscribeError::OtherSecret)), "{refused:?}");
    let stranger = Caller { organizations: OrganizationScope::Only(Default::default()), ..caller() };
    assert_eq!(bench.subscriptions.end(&stranger, first.id).await.unwrap(), None);
    let ended = bench.subscriptions.end(&caller(), first.id).await.unwrap().unwrap();
    assert_eq!(ended.because, "unsubscribed by `flows`");
    assert_eq!(bench.subscriptions.end(&caller(), first.id).await.unwrap(), Some(ended), "also the second time");
    bench.subscribe("http://127.0.0.1:9/other", None).await;
    let bench = bench.restart();
    assert_eq!(bench.subscriptions.list(&caller(), None).await.unwrap().len(), 3);
    assert_eq!(bench.subscriptions.list(&stranger, None).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_and_goes_in_a_circle_is_not_remembered_for_ever() {
    let bench = Bench::new();
    for _ in 0..105 {
        let one = bench.subscribe("http://127.0.0.1:9/run", None).await;
        bench.subscriptions.end(&caller(), one.id).await.unwrap();
    }
    bench.subscribe("http://127.0.0.1:9/run", None).await;
    assert_eq!(bench.subscriptions.list(&caller(), None).await.unwrap().len(), 101);
    assert_eq!(bench.restart().subscriptions.known().len(), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_hangs_holds_up_nobody_else() {
    let mut bench = Bench::new();
    let hangs = receiver(ResponseTemplate::new(200).set_delay(Duration::from_secs(30))).await;
    let server = receiver(ResponseTemplate::new(200)).await;
    bench.subscribe(&hangs.uri(), None).await;
    let subscribed = bench.subscribe(&server.uri(), None).await;
    bench.arrive(1..=40);
    let deadline = Instant::now() + Duration::from_secs(4);
    while bench.standing(&subscribed).await.delivered < 40 {
        assert!(Instant::now() < deadline, "it is held up");
        bench.teller.turn().await;
        bench.teller.wake().await;
    }
    assert_eq!(bench.teller.under_way.len(), 4, "as many as one may have");
}
