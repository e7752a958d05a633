//! Streamgate takes created records from flows, answers a truthful 202 or 404, never loses what it answered 202 to, and
//! hands it into the routing queue.
//!
//! The modules stand in reading order; together they are a record's journey:
//!
//! | step | where | carries on as | otherwise answers |
//! |---|---|---|---|
//! | 1 who is it | [`http::caller`], before a byte of the body | `Visit` | 401 |
//! | 2 is it JSON in bounds | [`http::body`] | `Body` | 408, 413, 415, 503 |
//! | 3 what is it | [`domain::record`] | `RecordCreated` | 400, naming the property |
//! | 4 may it now | [`http::limits`] | – | 429 |
//! | 5 do we route it, and where to | [`domain::admission`], [`domain::routing`] | `Admitted` | 404 + code |
//! | 6 is it safe | the [`store`] port: `append` | `Receipt` | 503, safe to retry |
//! | 7 say so | [`http::answer`] | **202**; only what [`intake`] proved can make one | – |
//! | 8 pass it on | [`forward`] → the [`routing_queue`] port, or leased by its consumers | settled | tried later, then dead-lettered; never dropped |
//!
//! Beside the journey, whoever subscribed to a queue is told of what reaches it: [`subscriptions`].
//!
//! `docs/architecture.md` says which room may import which; `tests/tidy.rs` holds them to it.

pub mod domain;

pub mod config;

pub mod connector;

pub mod routing_queue;
pub mod store;

pub mod forward;
pub mod intake;
pub mod subscriptions;

pub mod http;

pub mod admin;
pub mod editor;
pub mod gateways;

pub mod telemetry;

pub mod app;
pub mod cli;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
