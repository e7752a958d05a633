//! Spans: what a record went through, for a trace back end that speaks OTLP. Off unless it is configured.
//!
//! ```text
//! POST /api/v1/records        server     continues the caller's traceparent, or begins a trace
//! ├── admission               internal   catalog + record → admitted, or the code of the refusal
//! ├── commit                  internal   until the record is on disk; how many records went with it
//! └── deliver QUEUE           client     one for each try, however much later
//! ```
//!
//! The context of the request's span is stored with the record, in place of the `traceparent` that came in, and goes to
//! consumers in the event. So a delivery finds its trace after a restart too. A try within [`NEAR`] of the acceptance is
//! a child of it. One that begins later, and a batch, has a trace of its own with links to where its records came from:
//! back ends gather a trace for minutes and not for days, and a batch has many origins. The `traceparent` of the request
//! that goes out names the try's own span.
//!
//! Whether a trace is sampled is decided once: by the caller where it sent a `traceparent` and its credential lets it in,
//! else by the configured share of trace IDs. What is not sampled costs a look at that, and nothing is stored for it.
//!
//! A span holds what a log line holds: names from the configuration, codes, receipts, numbers. No text of a caller's, no
//! secret, no record details.
//!
//! Guaranteed: nobody waits for a span. They go through a queue with a bound ([`QUEUE_SPANS`]); what finds no place is
//! dropped and counted, and so is what the collector does not take ([`export`]).
//!
//! The OpenTelemetry SDK is not used: with its exporter it is 19 packages more, it does not say how many spans its queue
//! dropped, and its spans live on a thread's stack, while ours begin at the door and go on in other threads, days later.
//! What is left of it is the wire format (`protobuf`), which tests hold to OpenTelemetry's own decoder.

mod context;
pub mod export;
mod protobuf;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

pub use self::context::SpanContext;

/// A delivery that is tried within this time of the acceptance belongs to the same trace.
pub const NEAR: Duration = Duration::from_secs(15 * 60);
/// Spans that may wait for the collector.
pub const QUEUE_SPANS: usize = 4_096;
/// Links of one span at most, as OpenTelemetry's SDKs have it.
const MAX_LINKS: usize = 128;
/// A status message is cut to so many bytes.
const MAX_MESSAGE_BYTES: usize = 256;

/// Why a span was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The queue was full.
    QueueFull,
    /// The collector could not be reached, or asked to be left alone for too long.
    Unreachable,
    /// The collector did not take it.
    Refused,
}

impl Dropped {
    const ALL: [Self; 3] = [Self::QueueFull, Self::Unreachable, Self::Refused];

    /// The text of the reason in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// Why spans were dropped.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What is counted of spans.
#[derive(Debug, Clone)]
pub struct SpanMeters {
    exported: Counter,
    dropped: Family<ReasonLabel, Counter>,
}

impl SpanMeters {
    /// Nothing counted yet.
    pub(super) fn new() -> Self {
        let meters = Self { exported: Counter::default(), dropped: Family::default() };
        Dropped::ALL.into_iter().for_each(|reason| meters.dropped(reason, 0));
        meters
    }

    /// Names them.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("spans_exported", "Spans that the collector has taken", self.exported.clone());
        registry.register("spans_dropped", "Spans that nobody has taken, by reason", self.dropped.clone());
    }

    fn exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    fn dropped(&self, reason: Dropped, spans: usize) {
        self.dropped.get_or_create(&ReasonLabel { reason: reason.name() }).inc_by(spans as u64);
    }
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text from the configuration, a code, or an ID.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// A measure.
    Measure(f64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<f64> for Value {
    fn from(measure: f64) -> Self {
        Self::Measure(measure)
    }
}

/// What part a span has in its trace (`SpanKind` of OTLP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Inside the gateway.
    Internal = 1,
    /// It answers somebody.
    Server = 2,
    /// It asks somebody.
    Client = 3,
}

/// A span that is over.
#[derive(Debug, Clone)]
struct Finished {
    own: SpanContext,
    parent: Option<SpanContext>,
    kind: Kind,
    name: Cow<'static, str>,
    began: SystemTime,
    ended: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    links: Vec<SpanContext>,
    /// What went wrong, if anything did.
    error: Option<String>,
}

/// Makes spans, and has them exported.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// A trace that begins here is sampled where the last 56 bits of its ID are below this.
    sampled_below: u64,
    queue: mpsc::Sender<Finished>,
    meters: SpanMeters,
}

/// Of so many bits of a trace ID every one is random (W3C Trace Context, level 2).
const RANDOM_BITS: u32 = 56;

impl Tracer {
    fn new(sampling_ratio: f64, queue: mpsc::Sender<Finished>, meters: SpanMeters) -> Self {
        let sampled_below = (sampling_ratio.clamp(0.0, 1.0) * (1_u64 << RANDOM_BITS) as f64) as u64;
        Self(Arc::new(Inner { sampled_below, queue, meters }))
    }

    /// The span of a request: of the trace that the caller names, else of a new one. `None` where it is not sampled.
    pub fn request(&self, traceparent: Option<&str>) -> Option<Span> {
        let parent = traceparent.and_then(SpanContext::parse);
        let own = match &parent {
            Some(parent) if parent.sampled() => parent.child()?,
            Some(_) => return None,
            None => SpanContext::root().filter(|own| own.low_bits(RANDOM_BITS) < self.0.sampled_below)?,
        };
        Some(self.span(own, parent, Kind::Server))
    }

    /// A span under another one.
    pub fn child(&self, parent: &SpanContext, name: &'static str, kind: Kind) -> Option<Span> {
        Some(self.span(parent.child()?, Some(*parent), kind).named(name))
    }

    /// The span of a try to deliver: what its records brought along, each with the time since it was accepted. `None`
    /// where none of them is sampled.
    pub fn attempt<'r>(&self, records: impl Iterator<Item = (Option<&'r str>, Duration)>) -> Option<Span> {
        let (mut origins, mut count, mut near) = (Vec::new(), 0, false);
        for (traceparent, age) in records {
            count += 1;
            let origin = traceparent.and_then(SpanContext::parse).filter(SpanContext::sampled);
            if let Some(origin) = origin.filter(|_| origins.len() < MAX_LINKS) {
                origins.push(origin);
                near = age <= NEAR;
            }
        }
        match origins.as_slice() {
            [] => None,
            [origin] if count == 1 && near => Some(self.span(origin.child()?, Some(*origin), Kind::Client)),
            _ => {
                let mut span = self.span(SpanContext::root()?, None, Kind::Client);
                span.finished.links = origins;
                Some(span)
            }
        }
    }

    fn span(&self, own: SpanContext, parent: Option<SpanContext>, kind: Kind) -> Span {
        let now = SystemTime::now();
        let finished = Finished {
            own,
            parent,
            kind,
            name: Cow::Borrowed(""),
            began: now,
            ended: now,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        };
        Span { tracer: self.clone(), finished }
    }
}

/// A span that lasts. Dropped without [`Span::end`] it was never there.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    finished: Finished,
}

impl Span {
    /// What names it to others.
    pub const fn context(&self) -> &SpanContext {
        &self.finished.own
    }

    /// Whether it continues somebody else's trace.
    pub const fn is_continued(&self) -> bool {
        self.finished.parent.is_some()
    }

    /// Whoever makes further spans of it.
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// The same, with this name: one of few.
    #[must_use]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.finished.name = name.into();
        self
    }

    /// The same, begun then.
    #[must_use]
    pub const fn begun(mut self, at: SystemTime) -> Self {
        self.finished.began = at;
        self
    }

    /// The same, with this to be said of it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.finished.attributes.push((name, value.into()));
        self
    }

    /// The same, gone wrong.
    #[must_use]
    pub fn failed(mut self, why: &str) -> Self {
        let end = (0..=MAX_MESSAGE_BYTES.min(why.len())).rev().find(|end| why.is_char_boundary(*end));
        self.finished.error = Some(why.get(..end.unwrap_or_default()).unwrap_or_default().to_owned());
        self
    }

    /// It is over now. Never waits.
    pub fn end(self) {
        self.end_at(SystemTime::now());
    }

    /// It was over then. Never waits.
    pub fn end_at(self, at: SystemTime) {
        let Self { tracer, mut finished } = self;
        finished.ended = at.max(finished.began);
        let Inner { queue, meters, .. } = &*tracer.0;
        if queue.try_send(finished).is_err() {
            meters.dropped(Dropped::QueueFull, 1);
        }
    }
}

#[cfg(test)]
mod tests;
