//! Who is told what happens: everything is counted, and the tries that belong to a sampled trace get their spans.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::config::settings::Process;
use crate::forward::breaker::BreakerState;
use crate::forward::observer::{Beginning, Followed, Observer, TryOutcome};
use crate::store::StoredRecord;
use crate::store::observer::{Commit, CommitFailure, StoreObserver, Swept};
use crate::telemetry::Metrics;
use crate::telemetry::spans::Span;
use crate::telemetry::spans::export::{self, Exporter, SetupError};

/// The meters, and what exports spans where that is configured.
pub(super) fn metrics(process: &Process, runtime: &Handle) -> Result<(Arc<Metrics>, Option<Exporter>), SetupError> {
    let Some(settings) = &process.otlp else { return Ok((Arc::new(Metrics::new()), None)) };
    let metrics = Metrics::new();
    let (tracer, exporter) = export::start(runtime, settings, metrics.span_meters())?;
    tracing::info!(
        collector = settings.endpoint.host_str(),
        sampling_ratio = settings.sampling_ratio,
        "spans are exported"
    );
    Ok((Arc::new(metrics.traced_by(tracer)), Some(exporter)))
}

/// Counts what the forwarder, what tells subscribers, and the store say.
pub(super) struct Observing(Arc<Metrics>);

impl Observing {
    /// Counts here.
    pub(super) const fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }
}

impl Observer for Observing {
    fn begins(&self, beginning: Beginning<'_>) -> Option<Box<dyn Followed>> {
        let tracer = self.0.tracer()?;
        let Beginning { routing_queue, attempt, now, records } = beginning;
        let (mut count, mut first) = (0, None);
        let origins = records.map(|record: &StoredRecord| {
            count += 1;
            let age = now.since(record.accepted_at);
            first.get_or_insert((record.receipt, age));
            (record.trace.traceparent.as_deref(), age)
        });
        let span = tracer.attempt(origins)?;
        let (receipt, age) = first?;
        let span = span
            .named(format!("deliver {routing_queue}"))
            .with("messaging.destination.name", routing_queue.to_owned())
            .with("messaging.message.id", receipt.to_string())
            .with("messaging.batch.message_count", i64::from(count))
            .with("streamgate.attempt", i64::from(attempt))
            .with("streamgate.age_seconds", age.as_secs_f64());
        Some(Box::new(FollowedBySpan(span)))
    }

    fn tried(&self, routing_queue: &str, outcome: TryOutcome, seconds: f64) {
        self.0.delivery_tried(routing_queue, outcome.name(), seconds);
    }

    fn delivered(&self, routing_queue: &str, ages: &mut dyn Iterator<Item = Duration>) {
        self.0.records_delivered(routing_queue, ages);
    }

    fn dead_lettered(&self, routing_queue: &str) {
        self.0.delivery_given_up(routing_queue);
    }

    fn breaker(&self, routing_queue: &str, state: BreakerState) {
        self.0.breaker(routing_queue, state != BreakerState::Closed);
    }

    fn unconfigured(&self, records: u64) {
        self.0.unconfigured(records);
    }
}

impl StoreObserver for Observing {
    fn committed(&self, commit: &Commit) {
        self.0.committed(commit);
    }

    fn not_committed(&self, cause: CommitFailure) {
        self.0.not_committed(cause);
    }

    fn retention_round_ended(&self, swept: &Swept) {
        self.0.retention_round_ended(swept);
    }
}

/// A try and its span.
#[derive(Debug)]
struct FollowedBySpan(Span);

impl Followed for FollowedBySpan {
    fn traceparent(&self) -> String {
        self.0.context().to_traceparent()
    }

    fn ended(self: Box<Self>, outcome: TryOutcome, reason: Option<&str>) {
        let span = self.0.with("streamgate.outcome", outcome.name());
        match reason {
            None => span.end(),
            Some(reason) => span.with("error.type", outcome.name()).failed(reason).end(),
        }
    }
}
