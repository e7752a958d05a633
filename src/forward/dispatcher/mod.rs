//! The loop that owns everything: what is due is leased, tried and settled.
//!
//! [`Dispatcher::step`] turns it once by hand, [`Dispatcher::finish`] waits for what a turn began; [`Dispatcher::run`]
//! does both for ever. What is under way is never counted but read off the list of attempts, so no count can go wrong.

mod filling;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::Nudge;
use super::attempt::{self, Attempt, Ended, Failure};
use super::breaker::{Allowance, BreakerState};
use super::clock::{Clock, Now};
use super::destination::{Connect, Destinations};
use super::lane_memory::LaneMemory;
use super::observer::Observer;
use super::settling::{Settling, Unsettled};
use super::threads::{Stopping, grace_of_stop};
use crate::config::Effective;
use crate::domain::catalog::RoutingQueueName;
use crate::store::{Outcome, Settled, Store, StoreError};

/// The loop turns at least this often.
const TICK: Duration = Duration::from_secs(1);
/// Nudges are heeded at most this often while there is nothing to do for them.
const IDLE_TURN: Duration = Duration::from_millis(2);
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
    memory: LaneMemory,
    tasks: JoinSet<TaskEnd>,
    under_way: HashMap<Id, UnderWay>,
    settling: Settling,
    settling_task: Option<Id>,
    /// After a lease failed: when the store is asked again.
    lease_again: Option<Instant>,
    unconfigured: u64,
}

struct UnderWay {
    attempt: Attempt,
    task: AbortHandle,
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
            memory: LaneMemory::default(),
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            settling: Settling::default(),
            settling_task: None,
            lease_again: None,
            unconfigured: 0,
            parts,
        };
        dispatcher.refresh();
        dispatcher
    }

    /// Turns until `stopping` holds a grace period, or until nobody can stop it any more.
    pub async fn run(mut self, mut stopping: Stopping) {
        loop {
            let leased = self.step().await;
            tokio::select! {
                biased;
                grace = grace_of_stop(&mut stopping) => return self.stop(grace).await,
                () = self.wake(leased == 0) => {}
            }
        }
    }

    /// One turn: takes in what ended, follows the configuration, settles, leases and starts what is due. Answers how
    /// many tries it started.
    pub async fn step(&mut self) -> usize {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.take_in(ended);
        }
        if self.parts.effective.has_changed().unwrap_or(false) {
            self.effective = self.parts.effective.borrow_and_update().clone();
            self.memory.clear();
        }
        self.refresh();
        self.settle();
        self.fill().await
    }

    /// Waits until every try has ended and the store knows of it. Starts nothing.
    pub async fn finish(&mut self) {
        loop {
            self.settle();
            match (self.tasks.join_next_with_id().await, self.settling.again()) {
                (Some(ended), _) => self.take_in(ended),
                (None, Some(again)) => {
                    let pause = again.saturating_duration_since(self.parts.clock.now().instant);
                    tokio::time::sleep(pause.max(IDLE_TURN)).await;
                }
                (None, None) => return,
            }
        }
    }

    /// Waits for what is under way, at most `grace`, and gives the rest back.
    async fn stop(&mut self, grace: Duration) {
        if tokio::time::timeout(grace, self.finish()).await.is_ok() {
            return;
        }
        let now = self.parts.clock.now();
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.take_in(ended);
        }
        for (_, UnderWay { attempt, task }) in self.under_way.drain() {
            task.abort();
            self.settling.add(Unsettled::of(&attempt, Outcome::Released, now));
        }
        if tokio::time::timeout(SETTLE_GRACE, self.finish()).await.is_err() {
            let left = self.settling.waiting();
            tracing::error!(left, "the store did not record everything before the stop; those leases run out");
        }
    }

    /// Waits until there may be something to do. `idle` says that the last turn found nothing.
    async fn wake(&mut self, idle: bool) {
        let pause = self.pause();
        let Parts { nudge, effective, .. } = &mut self.parts;
        let nudged = async {
            if idle {
                tokio::time::sleep(IDLE_TURN).await;
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
            () = nudged => None,
            () = reconfigured => None,
            () = tokio::time::sleep(pause) => None,
        };
        if let Some(ended) = ended {
            self.take_in(ended);
        }
    }

    /// How long nothing will happen by itself.
    fn pause(&self) -> Duration {
        let now = self.parts.clock.now().instant;
        let probes = self.destinations.iter().filter_map(|destination| match destination.breaker.allowance(now) {
            Allowance::Nothing(until) => until,
            Allowance::All | Allowance::Probe => None,
        });
        let next = probes.chain(self.memory.next()).chain(self.settling.again()).chain(self.lease_again).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).clamp(IDLE_TURN, TICK))
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
        let tried = self.under_way.remove(&id);
        match (tried, end) {
            (Some(tried), Some(TaskEnd::Tried(ended))) => self.conclude(&tried.attempt, &ended, now),
            (Some(tried), _) => {
                let ended = Ended { result: Err(Failure::Panicked), seconds: 0.0 };
                self.conclude(&tried.attempt, &ended, now);
            }
            (None, Some(TaskEnd::Settled(batch, answer))) => self.settled(batch, answer, now),
            // A try that a stop has given back, or a batch that was lost: those leases run out.
            (None, _) => {}
        }
    }

    /// A try ended: the breaker, whoever counts, the log and the store learn of it.
    fn conclude(&mut self, attempt: &Attempt, ended: &Ended, now: Now) {
        let name = &attempt.routing_queue;
        let settings = &self.effective.delivery;
        if let Some(destination) =
            self.destinations.get_mut(name).filter(|destination| destination.incarnation == attempt.incarnation)
        {
            let before = destination.breaker.state();
            ended.teach(&mut destination.breaker, attempt.probe, settings, now.instant);
            let after = destination.breaker.state();
            if before != after {
                tracing::info!(routing_queue = %name, state = after.name(), "a destination's circuit breaker changed");
                self.parts.observer.breaker(name.as_str(), after);
            }
        }
        let outcome = attempt::outcome((attempt.number, attempt.accepted_at), &ended.result, settings, now);
        self.report(attempt, ended, &outcome);
        self.settling.add(Unsettled::of(attempt, outcome, now));
    }

    fn report(&self, attempt: &Attempt, ended: &Ended, outcome: &Outcome) {
        let name = attempt.routing_queue.as_str();
        self.parts.observer.tried(name, ended.counted(), ended.seconds);
        let Err(reason) = &ended.result else { return };
        let (receipt, number) = (attempt.receipt, attempt.number);
        match outcome {
            Outcome::DeadLettered { reason } => {
                tracing::warn!(%receipt, routing_queue = name, attempt = number, reason, "delivery given up");
                self.parts.observer.dead_lettered(name);
            }
            Outcome::Retry { due, .. } => {
                tracing::warn!(%receipt, routing_queue = name, attempt = number, %reason, %due, "delivery failed");
            }
            Outcome::Delivered | Outcome::Released | Outcome::Waiting { .. } => {}
        }
    }

    /// Sends the next batch to the store, unless one is on its way.
    fn settle(&mut self) {
        if self.settling_task.is_some() {
            return;
        }
        let Some(batch) = self.settling.next_batch(self.parts.clock.now().instant) else { return };
        let store = Arc::clone(&self.parts.store);
        let task = self.tasks.spawn(async move {
            let settlements = batch.iter().map(|unsettled| unsettled.settlement.clone()).collect();
            let answer = store.settle(settlements).await;
            TaskEnd::Settled(batch, answer)
        });
        self.settling_task = Some(task.id());
    }

    /// The store has answered a batch.
    fn settled(&mut self, batch: Vec<Unsettled>, answer: Result<Vec<Settled>, StoreError>, now: Now) {
        let answers = match answer {
            Ok(answers) => answers,
            Err(error) => return self.settling.failed(batch, &error, now),
        };
        self.settling.succeeded();
        for (unsettled, answer) in batch.iter().zip(answers) {
            match (answer, &unsettled.settlement.outcome) {
                (Settled::Done, Outcome::Delivered | Outcome::DeadLettered { .. } | Outcome::Waiting { .. }) => {
                    self.memory.settled(unsettled.lane);
                }
                // Only now the store knows of it: a lane that fell quiet meanwhile would have slept through.
                (Settled::Done, Outcome::Retry { due, .. }) => self.memory.due(unsettled.lane, *due, now),
                (Settled::Done, Outcome::Released) => self.memory.due(unsettled.lane, now.wall, now),
                (Settled::LeaseLost, _) => {
                    let receipt = unsettled.settlement.receipt;
                    tracing::warn!(%receipt, "a lease had ended before its try did; the record may be delivered again");
                }
            }
        }
    }

    /// How many tries of a destination are under way.
    fn load(&self, routing_queue: &RoutingQueueName) -> usize {
        self.under_way.values().filter(|one| one.attempt.routing_queue == *routing_queue).count()
    }
}

#[cfg(test)]
mod tests;
