//! The thread that follows the catalog and says that this gateway is there.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use crate::config::Effective;
use crate::config::keeper::NotFollowed;
use crate::store::gateways::{Gateways, HEARTBEAT};

/// What wakes the thread, and what it was told last.
#[derive(Debug)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    stop: bool,
    woken: bool,
    /// When the store answered last.
    answered: Instant,
}

impl Signal {
    pub(super) fn new() -> Self {
        let state = State { stop: false, woken: false, answered: Instant::now() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change to it is one assignment, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something new.
    pub(super) fn wake(&self) {
        self.state().woken = true;
        self.changed.notify_all();
    }

    /// Nothing more is followed.
    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }

    /// How long the store has not answered.
    pub(super) fn silent_for(&self) -> Duration {
        self.state().answered.elapsed()
    }

    fn answered(&self) {
        self.state().answered = Instant::now();
    }

    /// Waits until there may be something new, at the latest until the next heartbeat. `false` means to stop.
    fn wait(&self, until: Instant) -> bool {
        let mut state = self.state();
        loop {
            if state.stop {
                return false;
            }
            let now = Instant::now();
            if state.woken || now >= until {
                state.woken = false;
                return true;
            }
            let (woken, _) = self.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner);
            state = woken;
        }
    }
}

/// What could not be followed: it is the same again until either side changes.
struct Refused {
    stored: u64,
    effective: Arc<Effective>,
}

/// The thread.
pub(super) struct Thread {
    shared: Arc<Shared>,
    refused: Option<Refused>,
    /// Whether the store did not answer the last time, so that it is said once.
    is_silent: bool,
}

impl Thread {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, refused: None, is_silent: false }
    }

    /// Follows until it is told to stop, then takes leave.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(gateways) = shared.catalog.gateways() else { return };
        loop {
            let next = Instant::now() + HEARTBEAT;
            self.look(gateways);
            if !shared.signal.wait(next) {
                break;
            }
        }
        if let Err(fault) = gateways.leave(shared.id) {
            tracing::warn!(%fault, "the other gateways could not be told that this one stops; they will notice");
        }
    }

    /// Says that this gateway is there, and follows what is stored.
    fn look(&mut self, gateways: &dyn Gateways) {
        let shared = Arc::clone(&self.shared);
        let said = shared.presence();
        let stored = match gateways.beat(&said) {
            Ok(stored) => stored,
            Err(fault) => return self.fell_silent(&fault),
        };
        self.answers(&shared);
        if shared.live.waits_for_the_store() {
            reload(&shared);
        }
        let effective = shared.live.snapshot();
        if effective.layers.stored.generation == stored || self.is_refused(stored, &effective) {
            return;
        }
        match shared.live.follow() {
            // A change of this gateway's own, that was not effective yet when it was told of.
            Ok(false) if shared.live.current().catalog.generation() == said.generation => {}
            Ok(false) => self.say_so(gateways),
            Ok(true) => {
                self.refused = None;
                let generation = shared.live.current().catalog.generation();
                tracing::info!(generation, "what another gateway has changed is effective");
                self.say_so(gateways);
            }
            Err(fault) => self.not_followed(gateways, Refused { stored, effective }, &fault),
        }
    }

    /// At once, for whoever waits for it.
    fn say_so(&mut self, gateways: &dyn Gateways) {
        if let Err(fault) = gateways.beat(&self.shared.presence()) {
            self.fell_silent(&fault);
        }
    }

    fn is_refused(&self, stored: u64, effective: &Arc<Effective>) -> bool {
        let same = |refused: &Refused| refused.stored == stored && Arc::ptr_eq(&refused.effective, effective);
        self.refused.as_ref().is_some_and(same)
    }

    fn not_followed(&mut self, gateways: &dyn Gateways, refused: Refused, fault: &NotFollowed) {
        match fault {
            NotFollowed::Faults(faults) => {
                for one in faults {
                    tracing::error!(file = one.file, hint = one.hint, "{}", one.message);
                }
                let (generation, stored) = (refused.effective.catalog.generation(), refused.stored);
                tracing::error!(
                    generation,
                    stored,
                    "what another gateway has stored does not go with the files of this one and is not used; the last \
                     good configuration stays"
                );
                self.refused = Some(refused);
                self.say_so(gateways);
            }
            NotFollowed::Unreadable(_) | NotFollowed::Overtaken => {
                tracing::warn!(%fault, "what another gateway has changed is not effective yet; it is tried again");
            }
        }
    }

    fn fell_silent(&mut self, fault: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.is_silent, true) {
            tracing::error!(%fault, "the catalog cannot be reached; what is effective stays until it can");
        }
    }

    fn answers(&mut self, shared: &Shared) {
        shared.signal.answered();
        if std::mem::replace(&mut self.is_silent, false) {
            tracing::info!("the catalog can be reached again");
        }
    }
}

/// Reads files again that changed while the store did not answer.
fn reload(shared: &Shared) {
    match shared.live.reload() {
        Ok(_) => {
            let generation = shared.live.current().catalog.generation();
            tracing::info!(generation, "files that had changed while the store did not answer are effective");
        }
        Err(faults) => {
            let summary = faults.summary();
            tracing::warn!(summary, "files that changed while the store did not answer do not count yet");
        }
    }
}
