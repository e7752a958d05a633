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
pub mod lane_memory;
pub mod observer;
pub mod settling;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use crate::config::Effective;
use crate::store::Store;
use clock::Clock;
use dispatcher::{Dispatcher, Parts};
use observer::{Observer, Unobserved};

/// Threads that deliver.
const THREADS: usize = 2;
/// So much longer than its grace a stop may take, for telling the store and closing connections.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// The loop is begun anew after this time should it ever panic.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

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
        Self { parts: Parts { store, effective, nudge, observer, clock, connect: destination::over_http() } }
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.parts.observer = observer;
        self
    }

    /// Starts it on threads of its own. The TLS provider must be installed.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn start(self) -> std::io::Result<ForwarderHandle> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("forward")
            .enable_all()
            .build()?;
        let (stop, stopping) = watch::channel(None);
        let (done, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("forwarder".to_owned()).spawn(move || {
            runtime.block_on(keep_running(self.parts, stopping));
            // A look-up that hangs in the system's resolver cannot be cancelled: it is left behind.
            runtime.shutdown_timeout(Duration::from_secs(1));
            // Nobody listens any more when the handle was dropped.
            let _nobody_listens = done.send(());
        })?;
        Ok(ForwarderHandle { stop, ended, thread })
    }
}

/// Runs the loop until it is stopped, and begins it anew from what the store holds should it panic.
async fn keep_running(parts: Parts, stopping: watch::Receiver<Option<Duration>>) {
    loop {
        let running = tokio::spawn(Dispatcher::new(parts.clone()).run(stopping.clone()));
        match running.await {
            Ok(()) => return,
            Err(fault) => tracing::error!(%fault, "the forwarder's loop broke off and begins anew"),
        }
        if stopping.has_changed().unwrap_or(true) {
            return;
        }
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// A running forwarder. Dropping it stops it without waiting.
pub struct ForwarderHandle {
    stop: watch::Sender<Option<Duration>>,
    ended: oneshot::Receiver<()>,
    thread: thread::JoinHandle<()>,
}

impl ForwarderHandle {
    /// Leases nothing more, waits up to `grace` for the tries under way, gives the rest back so that it is due at once
    /// after a restart, and ends the threads. The store must stay open until this returns.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        match tokio::time::timeout(grace + STOP_MARGIN, self.ended).await {
            // The thread has said its last word: joining takes no time.
            Ok(_) => {
                if self.thread.join().is_err() {
                    tracing::error!("the forwarder's thread broke off");
                }
            }
            Err(_) => tracing::error!("the forwarder did not stop in time; its leases run out by themselves"),
        }
    }
}

#[cfg(test)]
mod tests;
