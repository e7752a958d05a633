//! The loop that owns everything: what is due is leased, tried and settled.
//!
//! [`Dispatcher::step`] turns it once by hand, [`Dispatcher::finish`] waits for what a turn began; [`Dispatcher::run`]
//! does both for ever. A turn *looks* for what is due, lane by lane, and leases it by the page (`filling`), then starts a
//! request for each free place from what is in hand (`sending`). Most turns of a busy loop only take in what ended
//! (`concluding`) and start the next from hand: nothing is asked of the store for that.

mod concluding;
mod filling;
mod sending;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::Nudge;
use super::attempt::Ended;
use super::breaker::{Allowance, BreakerState};
use super::clock::Clock;
use super::destination::{Connect, Destinations};
use super::hand::Groups;
use super::lane_memory::LaneMemory;
use super::observer::Observer;
use super::settling::{Settling, Unsettled};
use super::threads::{Stopping, grace_of_stop};
use super::under_way::UnderWay;
use crate::config::Effective;
use crate::routing_queue::event::Encoder;
use crate::store::{Outcome, Settled, Store, StoreError};

/// The loop looks at least this often.
const TICK: Duration = Duration::from_secs(1);
/// Nudges are heeded at most this often, so that a flood of single records is leased by the page, too.
const NUDGE_PAUSE: Duration = Duration::from_millis(2);
/// How long a stop lets destinations end their connections.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// How long a stop tries to tell the store what became of the tries.
const SETTLE_GRACE: Duration = Duration::from_secs(3);

/// What the loop works with.
#[derive(Clone)]
pub struct Parts {
    /// Where records wait.
    pub store: Arc<dyn Store>,
    /// The latest configuration.
    pub effective: watch::Receiver<Arc<Effective>>,
    /// What wakes it.
    pub nudge: Nudge,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// What time it is.
    pub clock: Clock,
    /// How clients are made.
    pub connect: Connect,
}

/// The loop and its state.
pub struct Dispatcher {
    parts: Parts,
    effective: Arc<Effective>,
    destinations: Destinations,
    encoder: Encoder,
    memory: LaneMemory,
    groups: Groups,
    tasks: JoinSet<TaskEnd>,
    under_way: UnderWay,
    settling: Settling,
    settling_task: Option<Id>,
    /// Something happened that only a look can answer to.
    look_again: bool,
    looked_at: Option<Instant>,
    /// After a lease failed: when the store is asked again.
    lease_again: Option<Instant>,
    unconfigured: u64,
}

/// What a task brings back.
enum TaskEnd {
    Tried(Ended),
    Settled(Vec<Unsettled>, Result<Vec<Settled>, StoreError>),
}

impl Dispatcher {
    /// The loop before its first turn.
    pub fn new(mut parts: Parts) -> Self {
        let effective = parts.effective.borrow_and_update().clone();
        let mut dispatcher = Self {
            destinations: Destinations::new(Arc::clone(&parts.connect)),
            effective,
            encoder: Encoder::default(),
            memory: LaneMemory::default(),
            groups: Groups::default(),
            tasks: JoinSet::new(),
            under_way: UnderWay::default(),
            settling: Settling::default(),
            settling_task: None,
            look_again: false,
            looked_at: None,
            lease_again: None,
            unconfigured: 0,
            parts,
        };
        dispatcher.refresh();
        dispatcher
    }

    /// Turns until `stopping` holds a grace period, or until nobody can stop it any more.
    pub async fn run(mut self, mut stopping: Stopping) {
        let mut look = true;
        loop {
            self.turn(look).await;
            look = tokio::select! {
                biased;
                grace = grace_of_stop(&mut stopping) => return self.stop(grace).await,
                look = self.wake() => look,
            }
        }
    }

    /// One turn that looks. Answers how many tries it started.
    pub async fn step(&mut self) -> usize {
        self.turn(true).await
    }

    /// One turn: takes in what ended, follows the configuration, settles, leases (where it looks) and starts what is due
    /// and has room. Answers how many tries it started.
    async fn turn(&mut self, look: bool) -> usize {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.take_in(ended);
        }
        let changed = self.parts.effective.has_changed().unwrap_or(false);
        if changed {
            self.effective = self.parts.effective.borrow_and_update().clone();
            self.give_back_all();
            self.encoder.clear();
            self.groups.clear();
            self.memory.clear();
        }
        if changed || self.destinations.setup_is_due(self.parts.clock.now().instant) {
            self.refresh();
        }
        let more_to_come = self.destinations.iter().any(|(_, destination)| !destination.hands.is_empty());
        self.settle(more_to_come);
        self.fill(look || changed).await
    }

    /// Waits until every try has ended and the store knows of it. Starts nothing.
    pub async fn finish(&mut self) {
        loop {
            self.settle(false);
            match (self.tasks.join_next_with_id().await, self.settling.again()) {
                (Some(ended), _) => self.take_in(ended),
                (None, Some(again)) => {
                    let pause = again.saturating_duration_since(self.parts.clock.now().instant);
                    tokio::time::sleep(pause.max(NUDGE_PAUSE)).await;
                }
                (None, None) => return,
            }
        }
    }

    /// Waits for what is under way, at most `grace`, and gives the rest back.
    async fn stop(&mut self, grace: Duration) {
        self.give_back_all();
        let ended = tokio::time::timeout(grace, self.finish()).await.is_ok();
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.take_in(ended);
        }
        if tokio::time::timeout(CLOSE_GRACE, self.destinations.close()).await.is_err() {
            tracing::debug!("connections to destinations were not ended in time; they are dropped");
        }
        // A batch that was refused meanwhile has left its halves.
        self.give_back_all();
        let now = self.parts.clock.now();
        for leased in self.under_way.abort_all().flat_map(|attempt| attempt.records) {
            self.settling.add(Unsettled::of(&leased, Outcome::Released, now), now);
        }
        if ended && self.settling.waiting() == 0 {
            return;
        }
        if tokio::time::timeout(SETTLE_GRACE, self.finish()).await.is_err() {
            let left = self.settling.waiting();
            tracing::error!(left, "the store did not record everything before the stop; those leases run out");
        }
    }

    /// Waits until there may be something to do. Answers whether that needs a look.
    async fn wake(&mut self) -> bool {
        let now = self.parts.clock.now().instant;
        let deadline = self.next_look(now);
        let settle_at = self.settling.next().map_or(TICK, |next| next.saturating_duration_since(now));
        let nudges_from = self.looked_at.map_or(now, |looked| looked + NUDGE_PAUSE);
        let Parts { nudge, effective, .. } = &mut self.parts;
        let nudged = async {
            if nudges_from > now {
                tokio::time::sleep(nudges_from - now).await;
            }
            nudge.nudged().await;
        };
        let reconfigured = async {
            if effective.changed().await.is_err() {
                // Nobody is left to change it.
                std::future::pending::<()>().await;
            }
            effective.mark_changed();
        };
        let ended = tokio::select! {
            ended = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => ended,
            () = nudged => return true,
            () = reconfigured => return true,
            () = tokio::time::sleep(deadline.min(settle_at)) => return deadline <= settle_at,
        };
        if let Some(ended) = ended {
            self.take_in(ended);
        }
        false
    }

    /// Whether a look is due by itself. Tries that keep ending must not put it off.
    fn look_is_due(&self, now: Instant) -> bool {
        let Some(looked) = self.looked_at else { return true };
        let since = now.saturating_duration_since(looked);
        since >= TICK || (since >= NUDGE_PAUSE && self.next_look(now) <= NUDGE_PAUSE)
    }

    /// How long there will be nothing to look for, unless something happens.
    fn next_look(&self, now: Instant) -> Duration {
        let probes = self.destinations.iter().filter_map(|(_, destination)| match destination.breaker.allowance(now) {
            Allowance::Nothing(until) => until,
            Allowance::All | Allowance::Probe => None,
        });
        let next = probes.chain(self.memory.next()).chain(self.lease_again).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).clamp(NUDGE_PAUSE, TICK))
    }

    /// Brings the destinations in step with the configuration.
    fn refresh(&mut self) {
        for built in self.destinations.refresh(&self.effective.routing_queues, self.parts.clock.now().instant) {
            self.parts.observer.breaker(built.as_str(), BreakerState::Closed);
        }
    }

    /// Takes in what a task brings back.
    fn take_in(&mut self, ended: Result<(Id, TaskEnd), JoinError>) {
        let now = self.parts.clock.now();
        let (id, end) = match ended {
            Ok((id, end)) => (id, Some(end)),
            Err(fault) => (fault.id(), None),
        };
        if self.settling_task == Some(id) {
            self.settling_task = None;
        }
        match (self.under_way.ended(id), end) {
            (Some(attempt), Some(TaskEnd::Tried(ended))) => self.conclude(attempt, &ended, now),
            (Some(attempt), _) => self.conclude(attempt, &Ended::panicked(), now),
            (None, Some(TaskEnd::Settled(batch, answer))) => self.settled(batch, answer, now),
            // A try that a stop has given back, or a batch that was lost: those leases run out.
            (None, _) => {}
        }
    }

    /// Sends the next batch to the store, unless one is on its way.
    fn settle(&mut self, more_to_come: bool) {
        if self.settling_task.is_some() {
            return;
        }
        let now = self.parts.clock.now().instant;
        let Some(batch) = self.settling.next_batch(now, more_to_come) else { return };
        let store = Arc::clone(&self.parts.store);
        let task = self.tasks.spawn(async move {
            let settlements = batch.iter().map(|unsettled| unsettled.settlement.clone()).collect();
            let answer = store.settle(settlements).await;
            TaskEnd::Settled(batch, answer)
        });
        self.settling_task = Some(task.id());
    }
}

#[cfg(test)]
mod tests;
