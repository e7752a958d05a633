//! What is counted of deliveries, by routing queue. Telling subscribers counts as one of its own, `(subscriptions)`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::seconds_histogram;

/// What telling subscribers is called here.
const SUBSCRIPTIONS: &str = "(subscriptions)";

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

/// The meters.
#[derive(Debug)]
pub(super) struct DeliveryMeters {
    tries: Family<TryLabels, Counter>,
    seconds: Family<RoutingQueueLabel, Histogram>,
    delivered: Family<RoutingQueueLabel, Counter>,
    delivered_age: Family<RoutingQueueLabel, Histogram>,
    given_up: Family<RoutingQueueLabel, Counter>,
    breaker_open: Family<RoutingQueueLabel, Gauge>,
    unconfigured: Gauge,
}

/// From what is at once to what has waited through a weekend.
fn age_histogram() -> Histogram {
    Histogram::new([
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
        259_200.0,
    ])
}

fn label(routing_queue: &str) -> RoutingQueueLabel {
    RoutingQueueLabel { routing_queue: routing_queue.to_owned() }
}

impl DeliveryMeters {
    /// Nothing counted yet.
    pub(super) fn new() -> Self {
        let meters = Self {
            tries: Family::default(),
            seconds: Family::new_with_constructor(seconds_histogram),
            delivered: Family::default(),
            delivered_age: Family::new_with_constructor(age_histogram),
            given_up: Family::default(),
            breaker_open: Family::default(),
            unconfigured: Gauge::default(),
        };
        let _there = meters.given_up.get_or_create(&label(SUBSCRIPTIONS)).inc_by(0);
        meters
    }

    /// Names them.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("delivery_tries", "Deliveries tried, by outcome", self.tries.clone());
        registry.register_with_unit("delivery", "Time of one try", Unit::Seconds, self.seconds.clone());
        registry.register("records_delivered", "Records that destinations have taken", self.delivered.clone());
        registry.register_with_unit(
            "delivered_age",
            "Time from the acceptance of a record to its delivery",
            Unit::Seconds,
            self.delivered_age.clone(),
        );
        registry.register("deliveries_given_up", "Records that became dead letters", self.given_up.clone());
        registry.register("breaker_open", "1 while a routing queue is left alone", self.breaker_open.clone());
        registry.register(
            "unconfigured_pending_records",
            "Pending records whose work stream or routing queue is not configured (any more); they wait",
            self.unconfigured.clone(),
        );
    }

    /// One delivery was tried.
    pub(super) fn tried(&self, routing_queue: &str, outcome: &'static str, seconds: f64) {
        let label = label(routing_queue);
        self.seconds.get_or_create(&label).observe(seconds);
        self.tries.get_or_create(&TryLabels { routing_queue: label.routing_queue, outcome }).inc();
    }

    /// A destination has taken records of these ages.
    pub(super) fn delivered(&self, routing_queue: &str, ages: &mut dyn Iterator<Item = Duration>) {
        let label = label(routing_queue);
        let (histogram, mut records) = (self.delivered_age.get_or_create_owned(&label), 0);
        for age in ages {
            histogram.observe(age.as_secs_f64());
            records += 1;
        }
        self.delivered.get_or_create(&label).inc_by(records);
    }

    /// One record was given up.
    pub(super) fn given_up(&self, routing_queue: &str) {
        self.given_up.get_or_create(&label(routing_queue)).inc();
    }

    /// A circuit breaker opened or closed.
    pub(super) fn breaker(&self, routing_queue: &str, open: bool) {
        let label = label(routing_queue);
        self.breaker_open.get_or_create(&label).set(i64::from(open));
        // So that the first one given up shows as an increase.
        let _there = self.given_up.get_or_create(&label);
    }

    /// A routing queue is not configured any more: nobody will ever close its breaker.
    pub(super) fn gone(&self, routing_queue: &str) {
        self.breaker_open.remove(&label(routing_queue));
    }

    /// So many pending records wait for a work stream or a routing queue to be configured again.
    pub(super) fn unconfigured(&self, records: u64) {
        self.unconfigured.set(i64::try_from(records).unwrap_or(i64::MAX));
    }
}
