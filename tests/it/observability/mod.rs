//! What can be seen from outside, and whether everything that speaks of it speaks the truth: the table in
//! `docs/operating.md`, the alerts and the dashboard under `deploy/`, and judges that know nothing of this project.

mod deployed;
mod documented;
mod judged;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use streamgate::store::observer::{Commit, CommitFailure, Swept};
use streamgate::store::{DiskStats, Stats};
use streamgate::telemetry::{
    AcceptOutcome, Backlog, Connections, Exposition, IssuerKeys, Metrics, Moment, SubscriptionBacklog,
};

use crate::lifecycle::Receiver;
use crate::support::eventually;
use crate::support::gateway::{KEY, ORGANIZATION, Setup, TestGateway};
use crate::support::raw::{exchange, request};
use crate::support::records::nth_incident;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// An exposition in which every metric that there is has a sample.
fn everything(exposition: Exposition) -> String {
    let metrics = Metrics::new();
    metrics.problem("malformed");
    metrics.request("/api/v1/records", 202, Duration::from_millis(3));
    metrics.handed_over(AcceptOutcome::New, Duration::from_millis(3));
    metrics.delivery_tried("listener", "delivered", 0.2);
    metrics.records_delivered("listener", &mut std::iter::once(Duration::from_secs(7)));
    metrics.breaker("listener", true);
    metrics.committed(&Commit { records: 3, bytes: 5_000, took: Duration::ZERO, sync: Duration::ZERO });
    metrics.not_committed(CommitFailure::Full);
    metrics.retention_round_ended(&Swept::default());
    metrics.certificate_expires("public", 1_900_000_000);
    let moment = Moment {
        store: Stats {
            disk: Some(DiskStats { free_bytes_above_reserve: 1, free_bytes: 2, reserve_bytes: 1 }),
            ..Stats::default()
        },
        backlog: vec![Backlog { routing_queue: "pull".to_owned(), records: 1, oldest_age: Duration::from_secs(1) }],
        backlog_seen_at: Some(1.0),
        connections: vec![Connections { listener: "public", open: 3, limit: 10, turned_away: 1 }],
        subscription_backlog: SubscriptionBacklog { pending: 1, dead_letters: 2, oldest_age: Duration::from_secs(3) },
        issuers: vec![IssuerKeys {
            issuer: "https://issuer.example/".to_owned(),
            age: Some(Duration::from_secs(60)),
            usable: true,
            keys: 2,
            succeeded: 4,
            failed: 1,
        }],
        ..Moment::default()
    };
    metrics.render(moment, exposition)
}

/// The metrics of a classic text, each with its labels: a histogram is one metric.
fn metrics_in(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let histograms: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name_end = line.find(['{', ' ']).expect("a sample");
        let (name, rest) = line.split_at(name_end);
        let part_of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = part_of.filter(|name| histograms.contains(name)).unwrap_or(name);
        // No value in these tests holds a quotation mark or a comma.
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(label, _)| label);
        let known = metrics.entry(name.to_owned()).or_default();
        known.extend(labels.filter(|label| *label != "le").map(str::to_owned));
    }
    metrics
}

/// What a running gateway shows to somebody who accepts this.
fn shown(gateway: &TestGateway, accept: &str) -> (String, String) {
    let answer = exchange(gateway.admin, &request("GET", "/metrics", &[("Accept", accept)], b""));
    assert_eq!(answer.status, 200);
    let media_type = answer.header("content-type").expect("a media type").to_owned();
    (media_type, String::from_utf8(answer.body).expect("text"))
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// A gateway whose organization `contoso` leads to this receiver.
fn delivering_to(receiver: &Receiver) -> Setup {
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    setup.process.push_str("[delivery]\nfirst_pause_seconds = 0.01\nlongest_pause_seconds = 0.01\n");
    setup.organizations[0].1 =
        ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    setup
}

#[test]
fn whoever_asks_for_openmetrics_gets_it_and_everybody_else_the_classic_text() {
    let gateway = TestGateway::start();
    let (media_type, text) = shown(&gateway, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(media_type.starts_with("application/openmetrics-text") && text.ends_with("# EOF\n"), "{media_type}");
    let (media_type, text) = shown(&gateway, "*/*");
    assert!(media_type.starts_with("text/plain; version=0.0.4") && !text.contains("# EOF"), "{media_type}");
}

#[test]
fn what_does_not_move_shows_by_its_age_and_where_it_leads() {
    // A receiver that is busy for good.
    let receiver = Receiver::answering(|_| "429 Too Many Requests");
    let gateway = TestGateway::start_with(&delivering_to(&receiver));
    let (_, before) = shown(&gateway, "");
    assert_eq!(value(&before, "streamgate_oldest_pending_age_seconds"), Some(0.0));
    assert_eq!(value(&before, "streamgate_backlog_records{routing_queue=\"receiver\"}"), Some(0.0));
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    gateway.wait_for_state(&receipt, "delivering");
    let age = "streamgate_backlog_oldest_age_seconds{routing_queue=\"receiver\"}";
    // Between two tries, and getting older.
    let first = eventually("the record to have an age", || value(&shown(&gateway, "").1, age).filter(|age| *age > 0.0));
    let text = eventually("it to get older", || {
        let text = shown(&gateway, "").1;
        value(&text, age).is_some_and(|age| age > first).then_some(text)
    });
    assert_eq!(value(&text, "streamgate_backlog_records{routing_queue=\"receiver\"}"), Some(1.0));
    assert_eq!(value(&text, "streamgate_oldest_pending_age_seconds"), value(&text, age));
    assert_eq!(value(&text, "streamgate_backlog_oldest_age_seconds{routing_queue=\"pull\"}"), Some(0.0));
    assert!(value(&text, "streamgate_backlog_seen_timestamp_seconds").is_some_and(|at| at > 1e9), "{text}");
    assert_eq!(value(&text, "streamgate_store_commit_records_sum"), Some(1.0));
    let tries = "streamgate_delivery_tries_total{routing_queue=\"receiver\",outcome=\"temporary\"}";
    assert!(value(&text, tries).is_some_and(|tries| tries >= 1.0), "{text}");
}

#[test]
fn what_was_delivered_and_completed_counts_with_its_age() {
    let receiver = Receiver::start();
    let gateway = TestGateway::start_with(&delivering_to(&receiver));
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    gateway.wait_for_state(&receipt, "delivered");
    let (_, text) = shown(&gateway, "");
    assert_eq!(value(&text, "streamgate_delivered_age_seconds_count{routing_queue=\"receiver\"}"), Some(1.0));
    assert_eq!(value(&text, "streamgate_accept_seconds_count{outcome=\"new\"}"), Some(1.0));

    let gateway = TestGateway::start();
    gateway.post(nth_incident(1));
    let lease = format!(r#"{{"organizationId":"{}"}}"#, crate::support::records::ORGANIZATION_ID);
    let leased = gateway.call("POST", "/api/v1/work-items/lease", KEY, lease.as_bytes()).json()["value"][0].clone();
    let path = format!("/api/v1/work-items/{}/complete", leased["id"].as_str().expect("an ID"));
    let body = format!(r#"{{"leaseToken":{}}}"#, leased["leaseToken"]);
    assert_eq!(gateway.call("POST", &path, KEY, body.as_bytes()).status, 200);
    let (_, text) = shown(&gateway, "");
    assert_eq!(value(&text, "streamgate_records_delivered_total{routing_queue=\"pull\"}"), Some(1.0));
    assert_eq!(value(&text, "streamgate_store_pending_records"), Some(0.0));
}
