//! What stands somewhere already and is looked up at the moment of a scrape: one table of gauges, and those with labels.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::store::{DiskStats, Stats};

/// What a scrape looks up at the moment it happens.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// The store's figures.
    pub store: Stats,
    /// What is pending, by where it leads.
    pub backlog: Vec<Backlog>,
    /// When that was last found out, in seconds since 1970; `None` before it was for the first time.
    pub backlog_seen_at: Option<f64>,
    /// Bytes of bodies in memory.
    pub in_flight_bytes: usize,
    /// How many there may be.
    pub in_flight_limit_bytes: usize,
    /// The listeners.
    pub connections: Vec<Connections>,
    /// How many are subscribed to queues.
    pub subscriptions: usize,
    /// Records that nobody has looked at yet for them.
    pub subscriptions_behind: u64,
    /// What subscribers are still to be told.
    pub subscription_backlog: SubscriptionBacklog,
    /// The catalog in force.
    pub catalog_generation: u64,
    /// Whether what is stored is effective, as far as is known.
    pub catalog_current: bool,
    /// Whether the latest reload was good.
    pub reload_ok: bool,
    /// When the configuration was last read, in seconds since 1970.
    pub reloaded_at: f64,
    /// Whether new records are taken.
    pub ready: bool,
    /// The issuers of tokens.
    pub issuers: Vec<IssuerKeys>,
}

/// What is pending and leads to one routing queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Backlog {
    /// The routing queue, or `(unconfigured)`.
    pub routing_queue: String,
    /// How much.
    pub records: u64,
    /// How long ago the oldest of it was accepted; zero where there is nothing.
    pub oldest_age: Duration,
}

/// The connections of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Its name.
    pub listener: &'static str,
    /// How many are open.
    pub open: usize,
    /// How many may be.
    pub limit: usize,
    /// How many found no place.
    pub turned_away: u64,
}

/// What subscribers are still to be told, and what was given up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SubscriptionBacklog {
    /// Notices to be told; counted up to a bound.
    pub pending: u64,
    /// Notices that were given up and are kept; counted up to a bound.
    pub dead_letters: u64,
    /// How long ago the oldest one to be told was put down; zero where there is none.
    pub oldest_age: Duration,
}

/// The keys of one issuer of tokens.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    /// The issuer, as configured.
    pub issuer: String,
    /// How long ago they were fetched with success, if ever.
    pub age: Option<Duration>,
    /// Whether tokens can be judged now.
    pub usable: bool,
    /// How many there are.
    pub keys: usize,
    /// Fetches that succeeded.
    pub succeeded: u64,
    /// Fetches that did not.
    pub failed: u64,
}

/// Seconds since 1970.
pub(super) fn now_seconds() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(passed.as_secs()).unwrap_or(i64::MAX)
}

/// Shows the moment of the scrape under way.
#[derive(Debug, Clone, Default)]
pub(super) struct MomentCollector(Arc<Mutex<Moment>>);

impl MomentCollector {
    /// This is the moment to show.
    pub(super) fn set(&self, moment: Moment) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = moment;
    }
}

/// Name, unit, meaning, and where it is found.
type Line = (&'static str, Option<Unit>, &'static str, fn(&Moment) -> f64);

const fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Name, meaning, and where it is found.
type OfDisk = (&'static str, &'static str, fn(&DiskStats) -> u64);

/// Every gauge of the disk that records are on.
const DISK: [OfDisk; 3] = [
    ("store_free", "Room for records above the reserve", |disk| disk.free_bytes_above_reserve),
    ("store_disk_free", "Free space of the disk of the store", |disk| disk.free_bytes),
    ("store_disk_reserve", "Free space that records never use", |disk| disk.reserve_bytes),
];

/// Every other gauge without labels.
const GAUGES: [Line; 21] = [
    ("store_pending_records", None, "Records to be delivered", |it| it.store.pending as f64),
    ("store_waiting_records", None, "Records that consumers let wait", |it| it.store.waiting as f64),
    ("store_dead_letters", None, "Dead letters that were not discarded", |it| it.store.dead_lettered as f64),
    ("store_high_water_mark", None, "Sequence number of the newest record", |it| it.store.high_water_mark as f64),
    ("store_waiting_appends", None, "Records that wait for the disk", |it| it.store.waiting_appends as f64),
    ("store_waiting_appends_limit", None, "Records that may wait for the disk", |it| {
        it.store.max_waiting_appends as f64
    }),
    ("store_refusing", None, "1 while the store accepts nothing", |it| flag(it.store.refusing.is_some())),
    ("oldest_pending_age", Some(Unit::Seconds), "How long ago the oldest pending record was accepted", |it| {
        it.backlog.iter().map(|one| one.oldest_age).max().unwrap_or_default().as_secs_f64()
    }),
    ("backlog_seen_timestamp", Some(Unit::Seconds), "When the ages of what is pending were last found out", |it| {
        it.backlog_seen_at.unwrap_or_default()
    }),
    ("in_flight_body", Some(Unit::Bytes), "Request bodies held in memory", |it| it.in_flight_bytes as f64),
    ("in_flight_body_limit", Some(Unit::Bytes), "Request bodies that may be held in memory", |it| {
        it.in_flight_limit_bytes as f64
    }),
    ("subscriptions", None, "Subscriptions to queues", |it| it.subscriptions as f64),
    (
        "subscriptions_behind_records",
        None,
        "Accepted records that subscribers are not yet told of for want of a look at them",
        |it| it.subscriptions_behind as f64,
    ),
    ("subscriptions_pending_notices", None, "Notices that subscribers are still to be told, counted to 10000", |it| {
        it.subscription_backlog.pending as f64
    }),
    ("subscriptions_dead_letters", None, "Notices that were given up and are kept, counted to 10000", |it| {
        it.subscription_backlog.dead_letters as f64
    }),
    (
        "subscriptions_oldest_pending_age",
        Some(Unit::Seconds),
        "How long ago the oldest record that a subscriber is still to be told of arrived",
        |it| it.subscription_backlog.oldest_age.as_secs_f64(),
    ),
    ("catalog_generation", None, "The catalog in force", |it| it.catalog_generation as f64),
    ("catalog_current", None, "0 while what another gateway has stored is not effective here", |it| {
        flag(it.catalog_current)
    }),
    ("config_reload_ok", None, "0 after a reload that found faults", |it| flag(it.reload_ok)),
    (
        "config_last_reload_timestamp",
        Some(Unit::Seconds),
        "When the configuration was last read, with or without success",
        |it| it.reloaded_at,
    ),
    ("ready", None, "1 while new records are taken", |it| flag(it.ready)),
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRoutingQueue {
    routing_queue: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfListener {
    listener: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfIssuer {
    issuer: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfFetches {
    issuer: String,
    result: &'static str,
}

impl Collector for MomentCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let moment = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, unit, help, value) in &GAUGES {
            let gauge = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(value(&moment)).encode(gauge)?;
        }
        for (name, help, value) in &DISK {
            // A database's disk is not this machine's.
            let Some(disk) = &moment.store.disk else { continue };
            let gauge = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            ConstGauge::new(value(disk) as f64).encode(gauge)?;
        }
        family(
            &mut encoder,
            ("backlog_records", None, "Pending records by where they lead"),
            moment.backlog.iter().map(|one| (of_routing_queue(one), one.records as f64)),
        )?;
        family(
            &mut encoder,
            ("backlog_oldest_age", Some(Unit::Seconds), "How long ago the oldest pending record was accepted"),
            moment.backlog.iter().map(|one| (of_routing_queue(one), one.oldest_age.as_secs_f64())),
        )?;
        family(
            &mut encoder,
            ("connections", None, "Open connections"),
            moment.connections.iter().map(|one| (OfListener { listener: one.listener }, one.open as f64)),
        )?;
        family(
            &mut encoder,
            ("connections_limit", None, "Connections that may be open"),
            moment.connections.iter().map(|one| (OfListener { listener: one.listener }, one.limit as f64)),
        )?;
        if !moment.connections.is_empty() {
            let help = "Connections that found no place";
            let mut counters = encoder.encode_descriptor("connections_turned_away", help, None, MetricType::Counter)?;
            for one in &moment.connections {
                let labels = OfListener { listener: one.listener };
                ConstCounter::new(one.turned_away).encode(counters.encode_family(&labels)?)?;
            }
        }
        issuers(&mut encoder, &moment.issuers)
    }
}

fn issuers(encoder: &mut DescriptorEncoder, issuers: &[IssuerKeys]) -> Result<(), std::fmt::Error> {
    let of = |one: &IssuerKeys| OfIssuer { issuer: one.issuer.clone() };
    family(
        encoder,
        ("jwks_age", Some(Unit::Seconds), "How long ago the keys of a token issuer were fetched with success"),
        issuers.iter().filter_map(|one| Some((of(one), one.age?.as_secs_f64()))),
    )?;
    family(
        encoder,
        ("jwks_usable", None, "1 while the tokens of an issuer can be judged"),
        issuers.iter().map(|one| (of(one), flag(one.usable))),
    )?;
    family(
        encoder,
        ("jwks_keys", None, "Keys of a token issuer that can verify tokens"),
        issuers.iter().map(|one| (of(one), one.keys as f64)),
    )?;
    if issuers.is_empty() {
        return Ok(());
    }
    let help = "Fetches of the keys of a token issuer";
    let mut counters = encoder.encode_descriptor("jwks_fetches", help, None, MetricType::Counter)?;
    for one in issuers {
        for (result, count) in [("succeeded", one.succeeded), ("failed", one.failed)] {
            let labels = OfFetches { issuer: one.issuer.clone(), result };
            ConstCounter::new(count).encode(counters.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn of_routing_queue(one: &Backlog) -> OfRoutingQueue {
    OfRoutingQueue { routing_queue: one.routing_queue.clone() }
}

/// A gauge with labels; nothing at all where there is no sample.
fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder,
    (name, unit, help): (&str, Option<Unit>, &str),
    samples: impl Iterator<Item = (L, f64)>,
) -> Result<(), std::fmt::Error> {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut gauges = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(gauges.encode_family(&labels)?)?;
    }
    Ok(())
}
