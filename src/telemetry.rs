//! Every metric, named once, and the set-up of the log.
//!
//! Labels come from configuration or from fixed lists, never from a request, so the number of series is bounded by
//! what is configured.

use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::config::settings::{LogFormat, LogSettings};
use crate::intake::Accepted;
use crate::store::Stats;

/// A route pattern and a status.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

/// A route pattern.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// A problem's code.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// What an accepted record was.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// A routing queue.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RoutingQueueLabel {
    routing_queue: String,
}

/// A routing queue and how a try ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TryLabels {
    routing_queue: String,
    outcome: &'static str,
}

/// A listener.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabel, Histogram>,
    problems: Family<CodeLabel, Counter>,
    accepted: Family<KindLabel, Counter>,
    repeats_with_other_details: Counter,
    delivery_tries: Family<TryLabels, Counter>,
    delivery_seconds: Family<RoutingQueueLabel, Histogram>,
    delivered: Family<RoutingQueueLabel, Counter>,
    dead_lettered: Family<RoutingQueueLabel, Counter>,
    breaker_open: Family<RoutingQueueLabel, Gauge>,
    unconfigured: Gauge,
    pending: Gauge,
    waiting: Gauge,
    dead_letters: Gauge,
    high_water_mark: Gauge,
    free_bytes: Gauge,
    refusing: Gauge,
    in_flight_bytes: Gauge,
    subscriptions: Gauge,
    subscriptions_behind: Gauge,
    catalog_generation: Gauge,
    reload_ok: Gauge,
    ready: Gauge,
    certificate_expiry: Family<ListenerLabel, Gauge>,
}

/// What a scrape looks up at the moment it happens.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The store's figures.
    pub store: Stats,
    /// Bytes of bodies in memory.
    pub in_flight_bytes: usize,
    /// How many are subscribed to queues.
    pub subscriptions: usize,
    /// Records that nobody has looked at yet for them.
    pub subscriptions_behind: u64,
    /// The catalog in force.
    pub catalog_generation: u64,
    /// Whether the latest reload was good.
    pub reload_ok: bool,
    /// Whether new records are taken.
    pub ready: bool,
}

fn seconds_histogram() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0])
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
            registry: Mutex::new(Registry::with_prefix("streamgate")),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds_histogram),
            problems: Family::default(),
            accepted: Family::default(),
            repeats_with_other_details: Counter::default(),
            delivery_tries: Family::default(),
            delivery_seconds: Family::new_with_constructor(seconds_histogram),
            delivered: Family::default(),
            dead_lettered: Family::default(),
            breaker_open: Family::default(),
            unconfigured: Gauge::default(),
            pending: Gauge::default(),
            waiting: Gauge::default(),
            dead_letters: Gauge::default(),
            high_water_mark: Gauge::default(),
            free_bytes: Gauge::default(),
            refusing: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            subscriptions: Gauge::default(),
            subscriptions_behind: Gauge::default(),
            catalog_generation: Gauge::default(),
            reload_ok: Gauge::default(),
            ready: Gauge::default(),
            certificate_expiry: Family::default(),
        };
        if let Ok(mut registry) = metrics.registry.lock() {
            metrics.register_door(&mut registry);
            metrics.register_delivery(&mut registry);
            metrics.register_moment(&mut registry);
        }
        metrics
    }

    fn register_door(&self, registry: &mut Registry) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
        registry.register("requests", "Requests by route and status", self.requests.clone());
        registry.register_with_unit(
            "request",
            "Time from the end of a request's head to its answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("problems", "Refused requests by code (docs/errors.md)", self.problems.clone());
        registry.register("records_accepted", "Answers 202, by what they stood for", self.accepted.clone());
        registry.register(
            "repeats_with_other_details",
            "Repeated records whose details were other than the stored ones",
            self.repeats_with_other_details.clone(),
        );
    }

    fn register_delivery(&self, registry: &mut Registry) {
        registry.register("delivery_tries", "Deliveries tried, by outcome", self.delivery_tries.clone());
        registry.register_with_unit("delivery", "Time of one try", Unit::Seconds, self.delivery_seconds.clone());
        registry.register("records_delivered", "Records that destinations have taken", self.delivered.clone());
        registry.register("deliveries_given_up", "Records that became dead letters", self.dead_lettered.clone());
        registry.register("breaker_open", "1 while a routing queue is left alone", self.breaker_open.clone());
        registry.register(
            "unconfigured_pending_records",
            "Pending records whose work stream or routing queue is not configured (any more); they wait",
            self.unconfigured.clone(),
        );
    }

    fn register_moment(&self, registry: &mut Registry) {
        registry.register("store_pending_records", "Records to be delivered", self.pending.clone());
        registry.register("store_waiting_records", "Records that consumers let wait", self.waiting.clone());
        registry.register("store_dead_letters", "Dead letters that were not discarded", self.dead_letters.clone());
        registry.register(
            "store_high_water_mark",
            "Sequence number of the newest record",
            self.high_water_mark.clone(),
        );
        registry.register("store_free_bytes", "Room for records above the reserve", self.free_bytes.clone());
        registry.register("subscriptions", "Subscriptions to queues", self.subscriptions.clone());
        registry.register(
            "subscriptions_behind_records",
            "Accepted records that subscribers are not yet told of for want of a look at them",
            self.subscriptions_behind.clone(),
        );
        registry.register("store_refusing", "1 while the store accepts nothing", self.refusing.clone());
        registry.register("in_flight_body_bytes", "Request bodies held in memory", self.in_flight_bytes.clone());
        registry.register("catalog_generation", "The catalog in force", self.catalog_generation.clone());
        registry.register("config_reload_ok", "0 after a reload that found faults", self.reload_ok.clone());
        registry.register("ready", "1 while new records are taken", self.ready.clone());
        registry.register_with_unit(
            "tls_certificate_expiry",
            "When the certificate of a listener expires, in seconds since 1970",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
    }

    /// One request was answered.
    pub fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), status }).inc();
        self.request_seconds.get_or_create(&RouteLabel { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// One request was refused.
    pub fn problem(&self, code: &'static str) {
        self.problems.get_or_create(&CodeLabel { code }).inc();
    }

    /// One record was accepted.
    pub fn accepted(&self, accepted: &Accepted) {
        let kind = match accepted {
            Accepted::Test { .. } => "test",
            Accepted::Stored { receipt, .. } => match receipt.repeat() {
                None => "new",
                Some(repeat) => {
                    if repeat.details_differ {
                        self.repeats_with_other_details.inc();
                    }
                    "repeat"
                }
            },
        };
        self.accepted.get_or_create(&KindLabel { kind }).inc();
    }

    /// One delivery was tried.
    pub fn delivery_tried(&self, routing_queue: &str, outcome: &'static str, seconds: f64) {
        let routing_queue = routing_queue.to_owned();
        self.delivery_tries.get_or_create(&TryLabels { routing_queue: routing_queue.clone(), outcome }).inc();
        self.delivery_seconds.get_or_create(&RoutingQueueLabel { routing_queue }).observe(seconds);
    }

    /// A destination has taken so many records.
    pub fn records_delivered(&self, routing_queue: &str, records: usize) {
        let label = RoutingQueueLabel { routing_queue: routing_queue.to_owned() };
        self.delivered.get_or_create(&label).inc_by(records as u64);
    }

    /// One record was given up.
    pub fn delivery_given_up(&self, routing_queue: &str) {
        self.dead_lettered.get_or_create(&RoutingQueueLabel { routing_queue: routing_queue.to_owned() }).inc();
    }

    /// A circuit breaker opened or closed.
    pub fn breaker(&self, routing_queue: &str, open: bool) {
        let label = RoutingQueueLabel { routing_queue: routing_queue.to_owned() };
        self.breaker_open.get_or_create(&label).set(i64::from(open));
    }

    /// So many pending records wait for a work stream or a routing queue to be configured again.
    pub fn unconfigured(&self, records: u64) {
        self.unconfigured.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// When the certificate of a listener expires, in seconds since 1970.
    pub fn certificate_expires(&self, listener: &'static str, at: i64) {
        self.certificate_expiry.get_or_create(&ListenerLabel { listener }).set(at);
    }

    /// The metrics as OpenMetrics text.
    pub fn render(&self, moment: &Moment) -> String {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.pending.set(whole(moment.store.pending));
        self.waiting.set(whole(moment.store.waiting));
        self.dead_letters.set(whole(moment.store.dead_lettered));
        self.high_water_mark.set(whole(moment.store.high_water_mark));
        self.free_bytes.set(whole(moment.store.free_bytes_above_reserve));
        self.refusing.set(i64::from(moment.store.refusing.is_some()));
        self.in_flight_bytes.set(i64::try_from(moment.in_flight_bytes).unwrap_or(i64::MAX));
        self.subscriptions.set(i64::try_from(moment.subscriptions).unwrap_or(i64::MAX));
        self.subscriptions_behind.set(whole(moment.subscriptions_behind));
        self.catalog_generation.set(whole(moment.catalog_generation));
        self.reload_ok.set(i64::from(moment.reload_ok));
        self.ready.set(i64::from(moment.ready));
        let mut text = String::new();
        let rendered = self.registry.lock().map(|registry| encode(&mut text, &registry));
        if !matches!(rendered, Ok(Ok(()))) {
            tracing::error!("the metrics could not be written");
        }
        text
    }
}

/// The media type of [`Metrics::render`].
pub const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Starts the log on standard error, once per process.
///
/// # Errors
/// When the filter cannot be read, with what is wrong with it.
pub fn start_log(settings: &LogSettings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|fault| format!("the log filter `{}` cannot be read: {fault}", settings.filter))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first log.
    let _started = match settings.format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Human => log.with_target(false).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.problem("malformed");
        metrics.request("/api/v1/records", 202, Duration::from_millis(3));
        metrics.delivery_tried("listener", "delivered", 0.2);
        metrics.records_delivered("listener", 100);
        let store = Stats { pending: 7, ..Stats::default() };
        let moment = Moment {
            store,
            in_flight_bytes: 1,
            subscriptions: 3,
            subscriptions_behind: 0,
            catalog_generation: 9,
            reload_ok: false,
            ready: true,
        };
        let text = metrics.render(&moment);
        for line in [
            "streamgate_problems_total{code=\"malformed\"} 1",
            "streamgate_requests_total{route=\"/api/v1/records\",status=\"202\"} 1",
            "streamgate_delivery_tries_total{routing_queue=\"listener\",outcome=\"delivered\"} 1",
            "streamgate_records_delivered_total{routing_queue=\"listener\"} 100",
            "streamgate_store_pending_records 7",
            "streamgate_subscriptions 3",
            "streamgate_config_reload_ok 0",
            "streamgate_catalog_generation 9",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
