//! The routing queue of kind `nats`: publishes events into a JetStream stream, and takes nothing for delivered that the
//! stream has not acknowledged (contract §19).
//!
//! A message is one event in structured mode. Its `Nats-Msg-Id` is the receipt ID on every try, so within its duplicate
//! window the stream keeps one of them; `Nats-Expected-Stream` has a server refuse it where its subject leads to another
//! stream. Tries run side by side, as many as `concurrency` says, over one connection; none waits for another.
//!
//! One try is bounded by `timeout`. Within it the message is published again where nobody said what became of it: the
//! connection broke, the stream has no leader for the moment, no acknowledgement came within five seconds. That carries a
//! record over the election of a leader without a failure, and the stream recognizes it should it have it already. A try
//! that ends without a word gives its connection up, so that the next one goes to another server.
//!
//! The stream is looked at before the first message, and again with each connection that is made anew.
//!
//! What an answer means:
//!
//! | answer | verdict | why |
//! |---|---|---|
//! | an acknowledgement of the stream | delivered | also of a duplicate: the stream has it |
//! | larger than the server's `max_payload` or the stream's `max_msg_size` | permanent | this record will never be taken |
//! | the stream is full, sealed, without storage, another than configured | temporary, down | whoever runs it can mend it; the age limit ends it |
//! | not permitted, no connection, no acknowledgement in time | temporary, down | the servers, or the network, are at fault |
//! | the stream does not keep what this relies on ([`stream`]) | temporary, down | nothing is published into a stream that would lose it |
//!
//! An acknowledgement says that the stream has the message, on a majority of its replicas. It does not say that it is on
//! disk: by default servers sync every two minutes. `doctor` reads what is configured, and says what follows.

mod answer;
mod link;
mod look;
pub mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use self::answer::Answer;
use self::link::{Link, Published};
pub use self::look::{Found, Look, Server, look};
use super::{Content, Delivery, DeliveryError, RoutingQueue, SetupError, Taken, event};
use crate::config::settings::NatsSettings;
use crate::config::subject::Place;
use crate::domain::catalog::RoutingQueueName;

/// An acknowledgement that takes longer is not waited for: the message is published again.
const ACK_PATIENCE: Duration = Duration::from_secs(5);
/// The pause before a message is published again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What failed for one try is not attempted again for another before this time.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);
/// A stream is looked at so often: its settings can be changed while a connection lasts for months.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// What stands in a subject for where a test event belongs.
const NOWHERE: &str = "test";

/// One destination.
pub struct NatsRoutingQueue(Arc<Inner>);

struct Inner {
    name: RoutingQueueName,
    settings: NatsSettings,
    timeout: Duration,
    tls: Option<rustls::ClientConfig>,
    connection: Mutex<Connection>,
    /// At which server the next connection begins.
    turn: AtomicUsize,
}

/// The one connection, if there is one.
#[derive(Default)]
struct Connection {
    link: Option<Arc<Link>>,
    /// Why there is none, and since when.
    failed: Option<(Instant, String)>,
    closed: bool,
}

impl NatsRoutingQueue {
    /// Sets the destination up. Nothing is connected yet. One try takes at most `timeout`.
    ///
    /// # Errors
    /// [`SetupError`] when TLS cannot be prepared.
    pub fn new(name: RoutingQueueName, settings: NatsSettings, timeout: Duration) -> Result<Self, SetupError> {
        let tls = link::tls_config(&settings)?;
        // Many gateways do not all begin with the first of the servers.
        let turn = AtomicUsize::new(usize::try_from(getrandom::u32().unwrap_or(0)).unwrap_or(0));
        Ok(Self(Arc::new(Inner { name, settings, timeout, tls, connection: Mutex::default(), turn })))
    }

    /// Connects and looks at the stream before there is anything to deliver, so that what is wrong is told at the start.
    pub fn begin(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let inner = Arc::clone(&self.0);
        runtime.spawn(async move {
            if let Err(reason) = inner.ready().await {
                tracing::error!(routing_queue = %inner.name, reason, "records for NATS wait");
            }
        });
    }
}

impl Inner {
    async fn try_once(&self, message: Delivery) -> Result<Taken, DeliveryError> {
        let mut last = String::new();
        match tokio::time::timeout(self.timeout, self.publish(&message, &mut last)).await {
            Ok(verdict) => verdict,
            Err(_) => {
                self.give_up();
                let because = if last.is_empty() { String::new() } else { format!(": {last}") };
                Err(down(format!("no acknowledgement within {:?}{because}", self.timeout)))
            }
        }
    }

    /// Publishes until somebody says what became of it. `last` is why it is done again.
    async fn publish(&self, message: &Delivery, last: &mut String) -> Result<Taken, DeliveryError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let link = self.ready().await.map_err(down)?;
            // Made anew for a repeat, which is rare, so that the first try copies nothing.
            let (subject, headers) = (self.subject(message), self.headers(message));
            let published = link.publish(subject, headers, message.body.clone(), ACK_PATIENCE).await;
            match published {
                Published::Answered(payload) => match answer::read(&payload, &self.settings.stream) {
                    Answer::Taken(taken) => return Ok(taken),
                    Answer::Never(reason) => return Err(DeliveryError::Permanent { reason }),
                    Answer::Down(reason) => return Err(down(reason)),
                    Answer::Again(reason) => *last = reason,
                },
                Published::TooLarge(reason) => return Err(DeliveryError::Permanent { reason }),
                Published::Refused(reason) => return Err(down(reason)),
                Published::NobodyListens => {
                    // It may be another one when somebody does again.
                    link.look_again();
                    *last = format!("no stream answers for the subject `{}`", self.subject(message));
                }
                Published::Unanswered(reason) => *last = reason,
                Published::Dead => {
                    "the connection broke".clone_into(last);
                    self.discard(&link).await;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A connection to a server, whose stream has been looked at.
    async fn ready(&self) -> Result<Arc<Link>, String> {
        let mut connection = self.connection.lock().await;
        if let Some(link) = connection.link.as_ref().filter(|link| !link.is_dead()) {
            let link = Arc::clone(link);
            if link.looked_before(LOOK_AGAIN)
                && let Err(reason) = self.look_at_stream(&link).await
            {
                tracing::error!(routing_queue = %self.name, reason, "records for NATS wait");
                connection.link = None;
                connection.failed = Some((Instant::now(), reason.clone()));
                return Err(reason);
            }
            return Ok(link);
        }
        connection.link = None;
        if connection.closed {
            return Err("the gateway is stopping".to_owned());
        }
        if let Some((_, reason)) = connection.failed.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_HOLDS) {
            return Err(reason.clone());
        }
        let connected = self.connect().await;
        match connected {
            Ok(link) => {
                connection.failed = None;
                connection.link = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(reason) => {
                connection.failed = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    async fn connect(&self) -> Result<Arc<Link>, String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let link = Link::connect((&self.name, &self.settings), self.tls.clone(), turn).await?;
        self.look_at_stream(&link).await?;
        Ok(Arc::new(link))
    }

    /// Whether the stream would keep what it acknowledges: its settings can be changed, and it can be made anew.
    async fn look_at_stream(&self, link: &Link) -> Result<(), String> {
        let mismatches = link.stream(&self.settings).await?;
        let mut refused = mismatches.iter().filter(|mismatch| mismatch.weight == stream::Weight::Refuse).peekable();
        if refused.peek().is_some() {
            let words: Vec<_> = refused.map(|mismatch| format!("{} ({})", mismatch.found, mismatch.mend)).collect();
            return Err(words.join("; "));
        }
        for mismatch in mismatches {
            let stream::Mismatch { weight, found, mend } = mismatch;
            if weight == stream::Weight::Risk {
                tracing::warn!(routing_queue = %self.name, found, mend, "some records are too large for a stream");
            } else {
                tracing::info!(routing_queue = %self.name, found, mend, "something to know about a stream");
            }
        }
        Ok(())
    }

    /// Gives a connection up, unless there is another one by now.
    async fn discard(&self, link: &Arc<Link>) {
        let mut connection = self.connection.lock().await;
        if connection.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            connection.link = None;
        }
    }

    /// Nothing came back for a whole try: the next one goes to another server, unless others were answered meanwhile.
    fn give_up(&self) {
        // Whoever connects at this moment holds the lock, and is to go on.
        let Ok(mut connection) = self.connection.try_lock() else { return };
        if connection.link.as_ref().is_some_and(|link| link.silent_for() >= self.timeout.min(ACK_PATIENCE)) {
            connection.link = None;
        }
    }

    async fn close(&self) {
        let link = {
            let mut connection = self.connection.lock().await;
            connection.closed = true;
            connection.link.take()
        };
        if let Some(link) = link {
            link.close().await;
        }
    }

    fn subject(&self, message: &Delivery) -> String {
        let template = &self.settings.subject;
        let Some(lane) = &message.lane else {
            return template.subject(Place { organization: NOWHERE, work_stream: NOWHERE, queue: NOWHERE });
        };
        template.subject(Place {
            organization: &lane.organization.to_string(),
            work_stream: &lane.work_stream.to_string(),
            queue: lane.queue.as_str(),
        })
    }

    /// Everything that goes along: nothing else that a caller sent is ever forwarded.
    fn headers(&self, message: &Delivery) -> HeaderMap {
        let media_type = match message.content {
            Content::Event => event::MEDIA_TYPE,
            Content::Batch => event::BATCH_MEDIA_TYPE,
        };
        let carried = [
            (NATS_MESSAGE_ID, Some(message.id.as_str())),
            (NATS_EXPECTED_STREAM, Some(&*self.settings.stream)),
            (CONTENT_TYPE, Some(media_type)),
            (TRACEPARENT, message.traceparent.as_deref()),
            (CLIENT_TRACKING_ID, message.client_tracking_id.as_deref()),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in carried {
            // What cannot stand in a header (a line break) is not forwarded; the door has refused it already.
            if let Some(value) = value.and_then(|value| value.parse::<HeaderValue>().ok()) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const CLIENT_TRACKING_ID: HeaderName = HeaderName::from_static("x-ms-client-tracking-id");

impl RoutingQueue for NatsRoutingQueue {
    fn deliver(&self, message: Delivery) -> BoxFuture<'_, Result<Taken, DeliveryError>> {
        Box::pin(self.0.try_once(message))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.close())
    }
}

/// A failure that counts against the destination.
fn down(reason: String) -> DeliveryError {
    DeliveryError::Temporary { reason, retry_after: None, destination_down: true }
}

#[cfg(test)]
mod tests;
