//! Where admitted records go: the port to the routing queue.
//!
//! A routing queue of kind `http` or `nats` is *pushed to*: it implements [`RoutingQueue`], and the forwarder delivers to it. The built-in kind `pull` is *leased from* by its consumers and has no port of its own: [`pull`]
//! talks to the store directly.

pub mod event;
pub mod http;
pub mod lanes;
pub mod message;
pub mod nats;
pub mod outbound;
pub mod pull;
pub mod retry_after;
pub mod signature;

#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::message::{Content, Delivery};

/// A destination that records are delivered to.
pub trait RoutingQueue: Send + Sync + 'static {
    /// Hands one message over, and says what became of it: of all events in it, where it is a batch. Bounded in time by
    /// the implementation; dropping the future abandons the try, which the consumer may nevertheless have seen.
    fn deliver(&self, message: Delivery) -> BoxFuture<'_, Result<Taken, DeliveryError>>;

    /// Ends connections in order, after the last delivery. Whoever calls it bounds it in time.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// How a destination has a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It took it, as far as it says.
    Now,
    /// It says that it had it already.
    Before,
}

/// Why a destination could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `main` installs the TLS provider before anything else; without it the client could not be made.
    #[error("no TLS provider is installed")]
    NoTlsProvider,
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be set up")]
    Client(#[source] reqwest::Error),
    /// TLS to the NATS servers could not be prepared.
    #[error("TLS to the NATS servers could not be set up")]
    Tls(#[source] rustls::Error),
}

/// Why a try did not deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Worth another try: no answer, a broken answer, a refused address, 401, 408, 429, 5xx ([`http`] has the table).
    #[error("{reason}")]
    Temporary {
        /// What happened, for receipts and logs.
        reason: String,
        /// How long the destination asked to wait, already clamped.
        retry_after: Option<Duration>,
        /// Whether the destination itself seems down (counts towards its circuit breaker), as opposed to one record
        /// that it does not take.
        destination_down: bool,
    },
    /// The destination says that it is gone for good (410). One that somebody configured may heal; one that somebody left
    /// behind will not.
    #[error("{reason}")]
    Gone {
        /// What happened, for receipts and logs.
        reason: String,
    },
    /// Another try would end the same: the destination said so (400, 413, 422, a redirect, …).
    #[error("{reason}")]
    Permanent {
        /// What happened, for receipts and logs.
        reason: String,
    },
}
