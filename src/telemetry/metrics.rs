//! All meters of a gateway behind one value, and how they are shown.

use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::deliveries::DeliveryMeters;
use super::door::{AcceptOutcome, DoorMeters};
use super::exposition::Exposition;
use super::moment::{Moment, MomentCollector};
use super::process::ProcessCollector;
use super::spans::{SpanMeters, Tracer};
use super::store::StoreMeters;
use crate::intake::Accepted;
use crate::store::observer::{Commit, CommitFailure, Swept};

/// A listener.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    door: DoorMeters,
    deliveries: DeliveryMeters,
    store: StoreMeters,
    certificate_expires: Family<ListenerLabel, Gauge>,
    moment: MomentCollector,
    spans: SpanMeters,
    tracer: Option<Tracer>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own: several gateways in one process do not share figures.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            door: DoorMeters::new(),
            deliveries: DeliveryMeters::new(),
            store: StoreMeters::new(),
            certificate_expires: Family::default(),
            moment: MomentCollector::default(),
            spans: SpanMeters::new(),
            tracer: None,
        };
        if let Ok(mut registry) = metrics.registry.lock() {
            registry.register_collector(Box::new(ProcessCollector));
            metrics.register(registry.sub_registry_with_prefix("streamgate"));
        }
        metrics
    }

    /// What is counted of spans.
    pub fn span_meters(&self) -> SpanMeters {
        self.spans.clone()
    }

    /// The same, with somebody who takes spans.
    #[must_use]
    pub fn traced_by(self, tracer: Tracer) -> Self {
        Self { tracer: Some(tracer), ..self }
    }

    fn register(&self, registry: &mut Registry) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
        self.door.register(registry);
        self.deliveries.register(registry);
        self.store.register(registry);
        registry.register_with_unit(
            "tls_certificate_expires_timestamp",
            "When the certificate of a listener expires",
            Unit::Seconds,
            self.certificate_expires.clone(),
        );
        self.spans.register(registry);
        registry.register_collector(Box::new(self.moment.clone()));
    }

    /// Who takes spans, where anybody does.
    pub const fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// One request was answered.
    pub fn request(&self, route: &str, status: u16, took: Duration) {
        self.door.request(route, status, took);
    }

    /// A record was handed over and answered.
    pub fn handed_over(&self, outcome: AcceptOutcome, took: Duration) {
        self.door.handed_over(outcome, took);
    }

    /// One request was refused.
    pub fn problem(&self, code: &'static str) {
        self.door.problem(code);
    }

    /// One record was accepted.
    pub fn accepted(&self, accepted: &Accepted) {
        self.door.accepted(accepted);
    }

    /// One delivery was tried.
    pub fn delivery_tried(&self, routing_queue: &str, outcome: &'static str, seconds: f64) {
        self.deliveries.tried(routing_queue, outcome, seconds);
    }

    /// A destination has taken records, which were accepted so long ago.
    pub fn records_delivered(&self, routing_queue: &str, ages: &mut dyn Iterator<Item = Duration>) {
        self.deliveries.delivered(routing_queue, ages);
    }

    /// One record was given up.
    pub fn delivery_given_up(&self, routing_queue: &str) {
        self.deliveries.given_up(routing_queue);
    }

    /// A circuit breaker opened or closed.
    pub fn breaker(&self, routing_queue: &str, open: bool) {
        self.deliveries.breaker(routing_queue, open);
    }

    /// A routing queue is not configured any more.
    pub fn routing_queue_gone(&self, routing_queue: &str) {
        self.deliveries.gone(routing_queue);
    }

    /// So many pending records wait for a work stream or a routing queue to be configured again.
    pub fn unconfigured(&self, records: u64) {
        self.deliveries.unconfigured(records);
    }

    /// A commit of the store is on disk.
    pub fn committed(&self, commit: &Commit) {
        self.store.committed(commit);
    }

    /// A commit of the store did not happen.
    pub fn not_committed(&self, cause: CommitFailure) {
        self.store.not_committed(cause);
    }

    /// Retention came to the end of a round.
    pub fn retention_round_ended(&self, swept: &Swept) {
        self.store.round_ended(swept);
    }

    /// The certificate of a listener expires then, in seconds since 1970.
    pub fn certificate_expires(&self, listener: &'static str, at: i64) {
        self.certificate_expires.get_or_create(&ListenerLabel { listener }).set(at);
    }

    /// The metrics as text.
    pub fn render(&self, moment: Moment, exposition: Exposition) -> String {
        let mut text = String::new();
        let rendered = self.registry.lock().map(|registry| {
            // Under the lock, so that nobody else's moment comes between.
            self.moment.set(moment);
            encode(&mut text, &registry)
        });
        if !matches!(rendered, Ok(Ok(()))) {
            tracing::error!("the metrics could not be written");
        }
        exposition.of_open_metrics(text)
    }
}
