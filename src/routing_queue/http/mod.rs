//! The routing queue of kind `http`: posts events to a URL, one by one or in batches, signed per Standard Webhooks
//! (contract §6).
//!
//! Delivery is at least once; a message that is tried again has the same `webhook-id`. One try is bounded in time (`timeout`, everything up
//! to the head of the answer included) and in memory (a head of at most 100 headers, 64 KiB of the body). Redirects are
//! not followed, proxies in the environment are ignored, addresses are judged at connect ([`super::outbound`]), and the
//! headers are the fixed list in `HttpRoutingQueue::request`: nothing else that a caller sent is ever forwarded.
//!
//! What an answer means:
//!
//! | answer | verdict | why |
//! |---|---|---|
//! | 2xx | delivered | from the moment its head is in; a slow or broken body changes nothing |
//! | 3xx | permanent | not followed; the URL in the configuration is not the final one |
//! | 400, 413, 414, 415, 422, 431 | permanent | this record will never be taken, and must not block those behind it; a batch is halved until the record alone is refused |
//! | 401, 402, 403, 404, 405, 407 | temporary, down | a receiver that is configured wrongly heals; waiting loses nothing, and the age limit ends it |
//! | 410 | gone | as above, for a receiver that somebody configured; a subscription ends |
//! | 408, 425, 429, 5xx | temporary, down | the classic reasons to try again; `Retry-After` of a 429 or 503 is honoured |
//! | any other 4xx | temporary | unclear (409, 423, …): try again, without blaming the destination |
//! | no connection, no answer in time, a broken answer, a refused address | temporary, down | the network, the receiver or its name is at fault |
//!
//! The verdict is on the message. For a batch: delivered is all of it, temporary and gone try all of it again, and what is
//! permanent, or would be given up, is tried in halves instead (`forward::dispatcher::concluding`).
//!
//! "Down" counts towards the destination's circuit breaker. Reasons name no address and no part of the answer's body.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};

use super::outbound::{AddressPolicy, AddressRefused};
use super::signature::Signer;
use super::{Content, Delivery, DeliveryError, RoutingQueue, SetupError, Taken, event, retry_after};
use crate::config::settings::{HttpSettings, WebhookSecret};
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::excerpt;
use crate::domain::time::Timestamp;

/// A connection is made within this time or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Idle connections are closed after this time, usually before the receiver does.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept at most.
const POOL_MAX_IDLE: usize = 32;
/// So much of an answer's body is read, only to have the connection free again.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
/// So long it may take; a slower body costs the connection, not the delivery.
const ANSWER_BODY_PATIENCE: Duration = Duration::from_millis(250);

const USER_AGENT_VALUE: &str = concat!("streamgate/", env!("CARGO_PKG_VERSION"));
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const CLIENT_TRACKING_ID: HeaderName = HeaderName::from_static("x-ms-client-tracking-id");

/// What deliveries go out through: bounded in time, without redirects and proxies, and to permitted addresses only. Its
/// connection pool belongs to the runtime that delivers.
#[derive(Clone)]
pub struct DeliveryClient {
    client: Client,
    policy: AddressPolicy,
    timeout: Duration,
}

/// One destination.
pub struct HttpRoutingQueue {
    name: RoutingQueueName,
    url: Url,
    signer: Signer,
    through: DeliveryClient,
    /// The media type of a single event.
    media_type: &'static str,
    /// How many idle connections the pool may hold: no more tries than that can have met a stale one.
    may_be_idle: AtomicUsize,
}

impl DeliveryClient {
    /// A client for public addresses and these networks. Nothing is connected yet.
    ///
    /// # Errors
    /// [`SetupError`] when the HTTP client cannot be made, for instance without a TLS provider.
    pub fn new(allow_networks: &[IpNet], timeout: Duration) -> Result<Self, SetupError> {
        // The client's builder would panic.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(SetupError::NoTlsProvider);
        }
        let policy = AddressPolicy::new(allow_networks);
        // No timeout of its own: `try_once` bounds everything up to the head of an answer, `drained` the rest.
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(POOL_MAX_IDLE)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .dns_resolver(policy.clone())
            .build()
            .map_err(SetupError::Client)?;
        Ok(Self { client, policy, timeout })
    }
}

impl HttpRoutingQueue {
    /// Sets the destination up, with a client of its own. One try takes at most `timeout`.
    ///
    /// # Errors
    /// As [`DeliveryClient::new`].
    pub fn new(name: RoutingQueueName, settings: &HttpSettings, timeout: Duration) -> Result<Self, SetupError> {
        let through = DeliveryClient::new(&settings.allow_networks, timeout)?;
        let (url, signer) = (settings.url.clone(), Signer::new(&settings.secrets));
        let (media_type, may_be_idle) = (event::MEDIA_TYPE, AtomicUsize::new(0));
        Ok(Self { name, url, signer, through, media_type, may_be_idle })
    }

    /// A subscriber's callback: it shares its client with others, and gets events as what flows take for JSON.
    pub fn callback(through: DeliveryClient, name: RoutingQueueName, url: Url, secret: WebhookSecret) -> Self {
        let (media_type, may_be_idle) = (event::PLAIN_MEDIA_TYPE, AtomicUsize::new(0));
        Self { name, url, signer: Signer::new(&[secret]), through, media_type, may_be_idle }
    }

    /// The name that the configuration gives the destination.
    pub const fn name(&self) -> &RoutingQueueName {
        &self.name
    }

    async fn try_once(&self, message: Delivery) -> Result<Taken, DeliveryError> {
        self.through.policy.check_url(&self.url).map_err(|refused| down(refused.to_string(), None))?;
        let answer = match tokio::time::timeout(self.through.timeout, self.send(&message)).await {
            Ok(sent) => sent.map_err(|fault| down(self.reason(fault), None))?,
            Err(_) => return Err(down(self.no_answer(), None)),
        };
        let verdict = self.verdict(&answer);
        if drained(answer).await {
            self.may_be_idle.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    /// Posts the message; once more at once where the connection may have been a pooled one that the receiver had closed
    /// meanwhile, which says nothing about the receiver.
    async fn send(&self, message: &Delivery) -> Result<Response, reqwest::Error> {
        let taken = self.may_be_idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |idle| idle.checked_sub(1));
        match self.through.client.execute(self.request(message)).await {
            Err(fault) if taken.is_ok() && !fault.is_connect() && !fault.is_timeout() => {
                tracing::debug!(routing_queue = %self.name, message = %message.id, "a pooled connection was stale");
                self.through.client.execute(self.request(message)).await
            }
            answered => answered,
        }
    }

    /// Everything that leaves: the client itself adds only `host`, `content-length` and `accept`.
    fn request(&self, message: &Delivery) -> Request {
        let timestamp = Timestamp::now().seconds().to_string();
        let signature = self.signer.sign(&message.id, &timestamp, &message.body);
        let media_type = match message.content {
            Content::Event => self.media_type,
            Content::Batch => event::BATCH_MEDIA_TYPE,
        };
        let mut headers = HeaderMap::with_capacity(7);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        let carried = [
            (WEBHOOK_ID, Some(&message.id)),
            (WEBHOOK_TIMESTAMP, Some(&timestamp)),
            (WEBHOOK_SIGNATURE, Some(&signature)),
            (TRACEPARENT, message.traceparent.as_ref()),
            (CLIENT_TRACKING_ID, message.client_tracking_id.as_ref()),
        ];
        for (name, value) in carried {
            // What cannot stand in a header (a line break) is not forwarded; the door has refused it already.
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(message.body.clone().into());
        request
    }

    /// What the answer's head means; see the table at the top of this file.
    fn verdict(&self, answer: &Response) -> Result<Taken, DeliveryError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(Taken::Now);
        }
        let reason = format!("the destination answered {status}");
        Err(match status.as_u16() {
            300..=399 => DeliveryError::Permanent { reason: format!("{reason}{}", self.redirect_hint(answer)) },
            400 | 413 | 414 | 415 | 422 | 431 => DeliveryError::Permanent { reason },
            429 | 503 => down(reason, asked_pause(answer)),
            410 => DeliveryError::Gone { reason },
            401..=405 | 407 | 408 | 425 => down(reason, None),
            406..=499 => DeliveryError::Temporary { reason, retry_after: None, destination_down: false },
            _ => down(reason, None),
        })
    }

    /// Where a redirect leads, by host only: the rest of such a URL may hold secrets.
    fn redirect_hint(&self, answer: &Response) -> String {
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let target = location.and_then(|location| self.url.join(location).ok());
        match target.as_ref().and_then(Url::host_str) {
            Some(host) => format!(", a redirect to host `{}`; redirects are not followed", excerpt(host)),
            None => "; redirects are not followed".to_owned(),
        }
    }

    fn no_answer(&self) -> String {
        format!("no answer within {:?}", self.through.timeout)
    }

    /// A fault in words, with its innermost cause, and without the URL.
    fn reason(&self, fault: reqwest::Error) -> String {
        let fault = fault.without_url();
        let mut cause: &(dyn std::error::Error + 'static) = &fault;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if cause.is::<AddressRefused>() {
            return cause.to_string();
        }
        match (fault.is_connect(), fault.is_timeout()) {
            (true, true) => format!("no connection within {:?}", CONNECT_TIMEOUT.min(self.through.timeout)),
            (true, false) if fault.is_dns() => "the destination's name could not be resolved".to_owned(),
            (true, false) => format!("no connection: {}", excerpt(&cause.to_string())),
            (false, true) => self.no_answer(),
            (false, false) => format!("no proper answer: {}", excerpt(&cause.to_string())),
        }
    }
}

impl RoutingQueue for HttpRoutingQueue {
    fn deliver(&self, message: Delivery) -> BoxFuture<'_, Result<Taken, DeliveryError>> {
        Box::pin(self.try_once(message))
    }
}

/// A failure that counts against the destination.
fn down(reason: String, retry_after: Option<Duration>) -> DeliveryError {
    DeliveryError::Temporary { reason, retry_after, destination_down: true }
}

fn asked_pause(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after::parse(value, SystemTime::now())
}

/// Reads what is left of an answer, within bounds. Whether it came to its end, so that the connection can be used again.
async fn drained(mut answer: Response) -> bool {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        || answer.content_length().is_some_and(|length| length > MAX_ANSWER_BYTES)
    {
        return false;
    }
    if answer.content_length() == Some(0) || answer.status() == StatusCode::NO_CONTENT {
        return true;
    }
    let reading = async {
        let mut left = MAX_ANSWER_BYTES;
        loop {
            match answer.chunk().await {
                Ok(None) => return true,
                Ok(Some(chunk)) => match left.checked_sub(chunk.len() as u64) {
                    Some(still) => left = still,
                    None => return false,
                },
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(ANSWER_BODY_PATIENCE, reading).await.unwrap_or(false)
}

#[cfg(test)]
mod tests;
