//! Step 8 of a record's journey: pass it on. Lease → deliver → settle, or try later, or give up; never drop.
//!
//! One loop ([`dispatcher`]) looks which lanes have something due and lead to a destination that is pushed to, leases as
//! much as that destination can take, in fair shares between the organizations, and starts one [`attempt`] for each
//! record. It owns all state, so there are no locks. It runs on threads of its own, because the connections of an HTTP
//! client belong to the runtime that opened them.
//!
//! Guaranteed: at least once, always under the same ID. A record is settled only on the destination's own answer; a
//! crash, a panic or a store that cannot write leaves it pending, and its lease runs out. A destination that hangs, or an
//! organization with a million records, takes nothing from the others ([`fairness`], [`breaker`], [`backoff`]).
//!
//! Not guaranteed: order between records, and that a consumer sees a record only once.
//!
//! The records of an organization, a work stream or a routing queue that is not configured any more wait; they are
//! neither delivered nor given up until it is back. Records that lead to `pull` are none of this room's business.

pub mod attempt;
pub mod backoff;
pub mod breaker;
pub mod clock;
pub mod destination;
pub mod dispatcher;
pub mod fairness;
pub mod hand;
pub mod lane_memory;
pub mod observer;
pub mod pace;
pub mod settling;
pub mod threads;
pub mod under_way;

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::config::Effective;
use crate::store::Store;
use clock::Clock;
use dispatcher::{Dispatcher, Parts};
use observer::{Observer, Unobserved};
use threads::LoopHandle;

/// Threads that deliver. Two also where there is one processor: with as many threads as the door and the store together, the
/// deliveries get the half of it that they need to keep up with what is accepted.
const THREADS: usize = 2;

/// Tells the forwarder that something new is pending. Cheap, never blocks; a lost nudge costs at most a second.
#[derive(Debug, Clone, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// Something new is pending, somewhere.
    pub fn nudge(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn nudged(&self) {
        self.0.notified().await;
    }
}

/// The forwarder, not yet started.
pub struct Forwarder {
    parts: Parts,
}

impl Forwarder {
    /// A forwarder between this store and the destinations of the latest configuration.
    pub fn new(store: Arc<dyn Store>, effective: watch::Receiver<Arc<Effective>>, nudge: Nudge) -> Self {
        let (observer, clock) = (Arc::new(Unobserved), Clock::system());
        Self { parts: Parts { store, effective, nudge, observer, clock, connect: destination::over_the_network() } }
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.parts.observer = observer;
        self
    }

    /// Starts it on threads of its own. The TLS provider must be installed.
    ///
    /// To stop it means: nothing more is leased, the tries under way get their grace, and the rest is given back so that
    /// it is due at once after a restart.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn start(self) -> std::io::Result<LoopHandle> {
        let parts = self.parts;
        LoopHandle::start(("forward", THREADS), move |stopping| Dispatcher::new(parts.clone()).run(stopping))
    }
}

#[cfg(test)]
mod tests;
