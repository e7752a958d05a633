//! What was counted is shown, in both formats.

use std::time::Duration;

use super::*;
use crate::store::Stats;
use crate::store::observer::{Commit, CommitFailure, Swept};

/// Meters that have all been used.
fn used() -> Metrics {
    let metrics = Metrics::new();
    metrics.problem("malformed");
    metrics.request("/api/v1/records", 202, Duration::from_millis(3));
    metrics.request("/api/v1/records", 404, Duration::from_millis(3));
    metrics.handed_over(AcceptOutcome::New, Duration::from_millis(3));
    metrics.delivery_tried("listener", "delivered", 0.2);
    metrics.records_delivered("listener", &mut std::iter::repeat_n(Duration::from_secs(7), 100));
    metrics.breaker("listener", true);
    let commit = Commit { records: 3, bytes: 5_000, took: Duration::from_millis(2), sync: Duration::from_millis(1) };
    metrics.committed(&commit);
    metrics.not_committed(CommitFailure::Full);
    metrics.retention_round_ended(&Swept { deleted: 5, ..Swept::default() });
    metrics
}

fn moment() -> Moment {
    let backlog = |name: &str, records, seconds| Backlog {
        routing_queue: name.to_owned(),
        records,
        oldest_age: Duration::from_secs(seconds),
    };
    Moment {
        store: Stats { pending: 7, ..Stats::default() },
        backlog: vec![backlog("listener", 6, 40), backlog("pull", 1, 90)],
        connections: vec![Connections { listener: "public", open: 3, limit: 10, turned_away: 0 }],
        subscriptions: 3,
        catalog_generation: 9,
        ready: true,
        issuers: vec![IssuerKeys {
            issuer: "https://issuer.example/\"quoted\"".to_owned(),
            age: Some(Duration::from_secs(60)),
            usable: true,
            keys: 2,
            succeeded: 4,
            failed: 1,
        }],
        ..Moment::default()
    }
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|shown| shown == *line), "`{line}` is missing in\n{text}");
    }
}

#[test]
fn what_was_counted_is_shown() {
    let text = used().render(moment(), Exposition::OpenMetrics);
    assert_lines(
        &text,
        &[
            "streamgate_problems_total{code=\"malformed\"} 1",
            "streamgate_requests_total{route=\"/api/v1/records\",status=\"202\"} 1",
            "streamgate_requests_total{route=\"/api/v1/records\",status=\"404\"} 1",
            "streamgate_request_seconds_count{route=\"/api/v1/records\"} 2",
            "streamgate_accept_seconds_count{outcome=\"new\"} 1",
            "streamgate_accept_seconds_count{outcome=\"unavailable\"} 0",
            "streamgate_delivery_tries_total{routing_queue=\"listener\",outcome=\"delivered\"} 1",
            "streamgate_records_delivered_total{routing_queue=\"listener\"} 100",
            "streamgate_delivered_age_seconds_bucket{le=\"10.0\",routing_queue=\"listener\"} 100",
            "streamgate_breaker_open{routing_queue=\"listener\"} 1",
            "streamgate_store_commit_records_sum 3.0",
            "streamgate_store_commit_failures_total{cause=\"full\"} 1",
            "streamgate_store_commit_failures_total{cause=\"broken\"} 0",
            "streamgate_retention_records_total{action=\"deleted\"} 5",
            "streamgate_store_pending_records 7.0",
            "streamgate_oldest_pending_age_seconds 90.0",
            "streamgate_backlog_oldest_age_seconds{routing_queue=\"listener\"} 40.0",
            "streamgate_connections{listener=\"public\"} 3.0",
            "streamgate_jwks_fetches_total{issuer=\"https://issuer.example/\\\"quoted\\\"\",result=\"failed\"} 1",
            "streamgate_subscriptions 3.0",
            "streamgate_config_reload_ok 0.0",
            "streamgate_catalog_generation 9.0",
            "streamgate_spans_dropped_total{reason=\"queue-full\"} 0",
            "# UNIT process_resident_memory_bytes bytes",
            "# EOF",
        ],
    );
}

#[test]
fn the_classic_text_has_the_same_samples() {
    let (metrics, samples) = (used(), |text: &str| -> Vec<String> {
        let counted = |line: &&str| !line.starts_with('#') && !line.starts_with("process_");
        text.lines().filter(counted).map(str::to_owned).collect()
    });
    let open = metrics.render(moment(), Exposition::OpenMetrics);
    let classic = metrics.render(moment(), Exposition::Classic);
    let (mut open_samples, mut classic_samples) = (samples(&open), samples(&classic));
    open_samples.sort_unstable();
    classic_samples.sort_unstable();
    assert_eq!(open_samples, classic_samples);
    assert_lines(
        &classic,
        &[
            "# TYPE streamgate_requests_total counter",
            "# TYPE process_cpu_seconds_total counter",
            "# TYPE streamgate_build_info gauge",
            "# TYPE streamgate_accept_seconds histogram",
        ],
    );
    assert!(!classic.contains("# EOF") && !classic.contains("# UNIT"));
}

#[test]
fn what_is_not_configured_any_more_is_not_shown_as_open() {
    let metrics = used();
    metrics.routing_queue_gone("listener");
    assert!(!metrics.render(moment(), Exposition::OpenMetrics).contains("streamgate_breaker_open{"));
}
