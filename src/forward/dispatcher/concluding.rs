//! What follows from how a try ended: for the breaker, for whoever counts, and for each record in it.
//!
//! A batch of several is never given up, whatever the reason: one record in it may be what the destination does not take,
//! and the others must not go down with it. It is halved, and both halves are tried at once, under the same lease and as
//! the same attempt, until the record alone is refused. A batch of n needs at most 2n - 1 requests that way, and where
//! one record is at fault about 2 log2 n.

use super::Dispatcher;
use crate::domain::catalog::RoutingQueueName;
use crate::forward::attempt::{self, Attempt, Ended};
use crate::forward::breaker::BreakerState;
use crate::forward::clock::Now;
use crate::forward::settling::Unsettled;
use crate::store::{Leased, Outcome, Settled, StoreError};

impl Dispatcher {
    /// A try ended: the breaker, whoever counts, the log and the store learn of it.
    pub(super) fn conclude(&mut self, mut attempt: Attempt, ended: &Ended, now: Now) {
        self.teach(&attempt, ended, now);
        self.parts.observer.tried(attempt.routing_queue.as_str(), ended.counted(), ended.seconds);
        if let Some(followed) = attempt.followed.take() {
            let reason = ended.result.as_ref().err().map(ToString::to_string);
            followed.ended(ended.counted(), reason.as_deref());
        }
        let outcomes = attempt::outcomes(&attempt.records, &ended.result, &self.effective.delivery, now);
        let given_up = outcomes.iter().any(|outcome| matches!(outcome, Outcome::DeadLettered { .. }));
        if given_up && attempt.records.len() > 1 {
            return self.halve(attempt, ended, now);
        }
        self.report(&attempt, ended, outcomes.first(), now);
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Retry { .. })) {
            // What travels alone comes back alone by itself.
            if self.destinations.get(&attempt.routing_queue).is_some_and(|it| it.settings.batch.wanted()) {
                self.groups.keep_together(&attempt.records);
            }
        } else {
            self.groups.forget(&attempt.records);
        }
        for (leased, outcome) in attempt.records.drain(..).zip(outcomes) {
            self.settling.add(Unsettled::of(&leased, outcome, now), now);
        }
    }

    /// Tells the circuit breaker, and does what a changed one means.
    fn teach(&mut self, attempt: &Attempt, ended: &Ended, now: Now) {
        let name = &attempt.routing_queue;
        let Some(destination) =
            self.destinations.get_mut(name).filter(|destination| destination.incarnation == attempt.incarnation)
        else {
            return;
        };
        if destination.settings.batch.wanted() {
            // What gathered while it was under way may leave now.
            self.look_again = true;
        }
        let before = destination.breaker.state();
        ended.teach(&mut destination.breaker, attempt.probe, &self.effective.delivery, now.instant);
        let after = destination.breaker.state();
        if before == after {
            return;
        }
        tracing::info!(routing_queue = %name, state = after.name(), "a destination's circuit breaker changed");
        self.parts.observer.breaker(name.as_str(), after);
        self.look_again = true;
        if after != BreakerState::Closed {
            self.give_back(name);
        }
    }

    /// Tries a batch in halves, or gives it back to be tried in halves later where its destination is left alone.
    fn halve(&mut self, attempt: Attempt, ended: &Ended, now: Now) {
        let Attempt { routing_queue, incarnation, organization, records: mut first, .. } = attempt;
        let second = first.split_off(first.len().div_ceil(2));
        if let Err(reason) = &ended.result {
            let events = first.len() + second.len();
            tracing::info!(routing_queue = %routing_queue, events, %reason, "a batch was not taken and is halved");
        }
        self.groups.part(&first);
        self.groups.part(&second);
        match self.destinations.get_mut(&routing_queue) {
            Some(destination)
                if destination.incarnation == incarnation && destination.breaker.state() == BreakerState::Closed =>
            {
                let hand = destination.hands.entry(organization).or_default();
                hand.put_first(second);
                hand.put_first(first);
            }
            Some(_) | None => self.release(first.into_iter().chain(second), now),
        }
    }

    fn report(&self, attempt: &Attempt, ended: &Ended, outcome: Option<&Outcome>, now: Now) {
        let name = attempt.routing_queue.as_str();
        let Some(first) = attempt.records.first() else { return };
        let (receipt, number, events) = (first.record.receipt, first.attempt, attempt.records.len());
        let Err(reason) = &ended.result else {
            let age = |leased: &Leased| now.wall.since(leased.record.accepted_at);
            if number > 1 {
                let age_seconds = age(first).as_secs();
                tracing::info!(%receipt, events, routing_queue = name, attempt = number, age_seconds, "delivered late");
            }
            return self.parts.observer.delivered(name, &mut attempt.records.iter().map(age));
        };
        match outcome {
            Some(Outcome::DeadLettered { reason }) => {
                tracing::warn!(%receipt, routing_queue = name, attempt = number, reason, "delivery given up");
                self.parts.observer.dead_lettered(name);
            }
            Some(Outcome::Retry { due, .. }) => {
                tracing::warn!(%receipt, events, routing_queue = name, attempt = number, %reason, %due, "delivery failed");
            }
            Some(Outcome::Delivered | Outcome::Released | Outcome::Waiting { .. }) | None => {}
        }
    }

    /// Gives these back to the store, untried.
    pub(super) fn release(&mut self, records: impl IntoIterator<Item = Leased>, now: Now) {
        for leased in records {
            self.settling.add(Unsettled::of(&leased, Outcome::Released, now), now);
        }
    }

    /// Gives back what is in hand for one destination.
    pub(super) fn give_back(&mut self, routing_queue: &RoutingQueueName) {
        let now = self.parts.clock.now();
        let Some(destination) = self.destinations.get_mut(routing_queue) else { return };
        destination.pace.failed();
        let hands = std::mem::take(&mut destination.hands);
        self.release(hands.into_values().flat_map(|mut hand| hand.empty().collect::<Vec<_>>()), now);
    }

    /// Gives back everything that is in hand.
    pub(super) fn give_back_all(&mut self) {
        let names: Vec<RoutingQueueName> = self.destinations.iter().map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.give_back(name));
    }

    /// The store has answered a batch.
    pub(super) fn settled(&mut self, batch: Vec<Unsettled>, answer: Result<Vec<Settled>, StoreError>, now: Now) {
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
                (Settled::Done, Outcome::Released) => {
                    self.memory.due(unsettled.lane, now.wall, now);
                    self.look_again = true;
                }
                (Settled::LeaseLost, _) => {
                    let receipt = unsettled.settlement.receipt;
                    tracing::warn!(%receipt, "a lease had ended before its try did; the record may be delivered again");
                }
            }
        }
    }
}
