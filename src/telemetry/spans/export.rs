//! The way of spans to the collector: OTLP over HTTP, protocol buffers, in batches.
//!
//! One task takes them from the queue. It waits a moment for company, posts, and tries again where the collector cannot
//! be reached or says that it is busy (429, 502, 503, 504; `Retry-After` is heeded): `TRIES` times, with growing pauses.
//! Meanwhile the queue fills, and what finds no place is dropped. A stop posts what is there, within `STOP`, unless the
//! collector could not be reached before.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, StatusCode, Url};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Dropped, Finished, QUEUE_SPANS, SpanMeters, Tracer, protobuf};
use crate::config::settings::OtlpSettings;

/// The most spans of one request.
const MAX_BATCH: usize = 512;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How often a batch is tried.
const TRIES: u32 = 4;
/// The first pause between tries; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A stop waits at most so long for the collector.
const STOP: Duration = Duration::from_secs(1);
/// So much of an answer is read.
const MAX_ANSWER_BYTES: usize = 64 * 1_024;

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up: {0}")]
pub struct SetupError(#[from] reqwest::Error);

/// The running task.
#[derive(Debug)]
pub struct Exporter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Starts to export on this runtime. The TLS provider must be installed.
///
/// # Errors
/// [`SetupError`].
pub fn start(runtime: &Handle, settings: &OtlpSettings, meters: SpanMeters) -> Result<(Tracer, Exporter), SetupError> {
    let poster = Poster::new(settings, meters.clone())?;
    let (queue, finished) = mpsc::channel(QUEUE_SPANS);
    let tracer = Tracer::new(settings.sampling_ratio, queue, meters);
    let (stop, stopping) = oneshot::channel();
    let task = runtime.spawn(run(finished, poster, stopping));
    Ok((tracer, Exporter { stop, task }))
}

impl Exporter {
    /// Posts what is there, as far as that takes no longer than a second, and ends.
    pub async fn stop(self) {
        // It fails only if the task is gone.
        let _gone = self.stop.send(());
        let mut task = self.task;
        if tokio::time::timeout(STOP, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the collector did not take the last spans in time");
        }
    }
}

async fn run(mut queue: mpsc::Receiver<Finished>, mut poster: Poster, mut stop: oneshot::Receiver<()>) {
    loop {
        let mut batch = Vec::new();
        let stopped = tokio::select! {
            taken = queue.recv_many(&mut batch, MAX_BATCH) => {
                if taken == 0 {
                    return;
                }
                false
            }
            _ = &mut stop => true,
        };
        let stopped = stopped || {
            tokio::select! {
                () = gather(&mut queue, &mut batch) => false,
                _ = &mut stop => true,
            }
        };
        let stopped = stopped || {
            tokio::select! {
                () = poster.deliver(&batch) => { batch.clear(); false }
                _ = &mut stop => true,
            }
        };
        if stopped {
            return last(&mut queue, poster, batch).await;
        }
    }
}

/// Waits a moment for company.
async fn gather(queue: &mut mpsc::Receiver<Finished>, batch: &mut Vec<Finished>) {
    let until = tokio::time::Instant::now() + GATHER;
    while batch.len() < MAX_BATCH {
        match tokio::time::timeout_at(until, queue.recv()).await {
            Ok(Some(span)) => batch.push(span),
            Ok(None) | Err(_) => return,
        }
    }
}

/// What is left at a stop: each batch once, and nothing where the collector was away.
async fn last(queue: &mut mpsc::Receiver<Finished>, mut poster: Poster, mut batch: Vec<Finished>) {
    queue.close();
    loop {
        while batch.len() < MAX_BATCH
            && let Ok(span) = queue.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            return;
        }
        if poster.is_away() {
            let left = batch.len() + queue.len();
            poster.meters.dropped(Dropped::Unreachable, left);
            tracing::warn!(left, "the collector was not there for the last spans");
            return;
        }
        poster.deliver_once(&batch).await;
        batch.clear();
    }
}

/// Posts to the collector.
struct Poster {
    client: Client,
    url: Url,
    headers: HeaderMap,
    resource: Vec<(Box<str>, Box<str>)>,
    meters: SpanMeters,
    /// Since when the collector takes nothing.
    away: Option<Instant>,
}

/// Why a batch was not taken.
enum Refusal {
    /// It may be, later.
    Later(String, Option<Duration>),
    /// It never will be.
    ForGood(String),
}

impl Poster {
    fn new(settings: &OtlpSettings, meters: SpanMeters) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .build()?;
        let mut url = settings.endpoint.clone();
        url.set_path(&format!("{}/v1/traces", settings.endpoint.path().trim_end_matches('/')));
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            // Both were checked with the configuration.
            if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(&**name), HeaderValue::from_str(value.text())) {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("streamgate/", env!("CARGO_PKG_VERSION"))));
        Ok(Self { client, url, headers, resource: settings.resource.clone(), meters, away: None })
    }

    fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// Posts a batch until it is taken, or given up.
    async fn deliver(&mut self, batch: &[Finished]) {
        let mut pause = FIRST_PAUSE;
        for number in 1..=TRIES {
            let Err((fault, asked)) = self.try_once(batch).await else { return };
            self.note_away(&fault);
            if number < TRIES {
                tokio::time::sleep(asked.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                pause *= 2;
            }
        }
        self.meters.dropped(Dropped::Unreachable, batch.len());
    }

    /// Posts a batch, once.
    async fn deliver_once(&mut self, batch: &[Finished]) {
        if let Err((fault, _)) = self.try_once(batch).await {
            self.note_away(&fault);
            self.meters.dropped(Dropped::Unreachable, batch.len());
        }
    }

    /// One try. An error is worth another one, maybe after the pause that was asked for.
    async fn try_once(&mut self, batch: &[Finished]) -> Result<(), (String, Option<Duration>)> {
        match self.post(batch).await {
            Ok(rejected) => {
                let rejected = rejected.min(batch.len());
                self.meters.exported(batch.len() - rejected);
                self.meters.dropped(Dropped::Refused, rejected);
                if rejected > 0 {
                    tracing::warn!(rejected, "the collector rejected spans");
                }
                if let Some(since) = self.away.take() {
                    tracing::info!(for_seconds = since.elapsed().as_secs(), "the collector takes spans again");
                }
            }
            Err(Refusal::ForGood(fault)) => {
                tracing::warn!(spans = batch.len(), fault, "the collector refused spans for good");
                self.meters.dropped(Dropped::Refused, batch.len());
            }
            Err(Refusal::Later(fault, asked)) => return Err((fault, asked)),
        }
        Ok(())
    }

    /// Says once that the collector takes nothing.
    fn note_away(&mut self, fault: &str) {
        if self.away.is_none() {
            tracing::warn!(fault, "the collector takes no spans; what finds no place in the queue is dropped");
        }
        self.away.get_or_insert_with(Instant::now);
    }

    /// Posts a batch; how many spans of it were rejected.
    async fn post(&self, batch: &[Finished]) -> Result<usize, Refusal> {
        let body = protobuf::request(&self.resource, batch);
        let sent = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body).send().await;
        let answer = sent.map_err(|fault| Refusal::Later(in_words(&fault.without_url()), None))?;
        let status = answer.status();
        let fault = || format!("it answered {status}");
        match status {
            StatusCode::OK => Ok(protobuf::rejected_spans(&start_of(answer).await)),
            status if status.is_success() => Ok(0),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                Err(Refusal::Later(fault(), seconds.map(Duration::from_secs)))
            }
            _ => Err(Refusal::ForGood(fault())),
        }
    }
}

/// A fault and its innermost cause.
fn in_words(fault: &reqwest::Error) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = fault;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{fault}: {cause}")
}

/// The start of an answer's body; what a broken one has.
async fn start_of(mut answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER_BYTES
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body
}
