//! What came of a try: what that means for its notice and its subscriber, and when it is written down.

use std::sync::Arc;

use tokio::task::{Id, JoinError, block_in_place};

use super::line::UnderWay;
use super::trying::Try;
use super::{COUNTED_AS, STORE_PAUSE, Teller, WRITE_AFTER, WRITE_AT};
use crate::domain::ids::SubscriptionId;
use crate::forward::attempt::{self, Ended, Failure};
use crate::forward::clock::Now;
use crate::routing_queue::DeliveryError;
use crate::store::subscriptions::{Notice, Tried, TriedEnd};
use crate::store::{Outcome, StoreError};

impl Teller {
    /// Takes in how a try ended.
    pub(super) fn take_in(&mut self, ended: Result<(Id, Try), JoinError>) {
        let (id, made) = match ended {
            Ok((id, made)) => (id, made),
            Err(fault) => (fault.id(), Try::Made(Ended::panicked())),
        };
        let Some(UnderWay { subscription, notice, probe }) = self.under_way.remove(&id) else { return };
        let now = self.parts.clock.now();
        let end = match made {
            Try::Nothing(reason) => TriedEnd::GivenUp { at: now.wall, reason: reason.to_owned() },
            Try::Unread(StoreError::Damaged(reason)) => TriedEnd::GivenUp { at: now.wall, reason },
            Try::Unread(fault @ StoreError::Lost { .. }) => {
                TriedEnd::GivenUp { at: now.wall, reason: fault.to_string() }
            }
            Try::Unread(fault) => TriedEnd::Later {
                due: now.wall.after(STORE_PAUSE),
                error: format!("the record could not be read: {fault}"),
            },
            Try::Made(ended) => {
                if let Some(line) = self.lines.get_mut(&subscription) {
                    ended.teach(&mut line.breaker, probe, &self.effective.delivery, now.instant);
                }
                if let Err(Failure::Delivery(DeliveryError::Gone { reason })) = &ended.result {
                    self.end(subscription, reason);
                }
                self.concluded(&notice, &ended, now)
            }
        };
        self.report(subscription, &notice, &end);
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.tried(notice.number);
        }
        if self.tried.is_empty() {
            self.tried_since = now.instant;
        }
        self.tried.push(Tried { subscription, number: notice.number, end });
    }

    /// Says what a try came to, unless it is what it ought to be.
    fn report(&self, subscription: SubscriptionId, notice: &Notice, end: &TriedEnd) {
        let (receipt, attempt) = (notice.receipt, notice.attempts.saturating_add(1));
        match end {
            TriedEnd::Told { .. } if attempt == 1 => {}
            TriedEnd::Told { at } => {
                let age_seconds = at.since(notice.at).as_secs();
                tracing::info!(%subscription, %receipt, attempt, age_seconds, "a subscriber was told late");
            }
            TriedEnd::Later { due, error } => {
                tracing::warn!(%subscription, %receipt, attempt, reason = error, %due, "a subscriber could not be told");
            }
            TriedEnd::GivenUp { reason, .. } => {
                tracing::warn!(%subscription, %receipt, attempt, reason, "telling a subscriber was given up");
                self.parts.observer.dead_lettered(COUNTED_AS);
            }
        }
    }

    /// What becomes of a notice after a try.
    fn concluded(&self, notice: &Notice, ended: &Ended, now: Now) -> TriedEnd {
        self.parts.observer.tried(COUNTED_AS, ended.counted(), ended.seconds);
        let number = notice.attempts.saturating_add(1);
        match attempt::outcome((number, notice.at), &ended.result, &self.effective.delivery, now) {
            Outcome::Delivered => {
                self.parts.observer.delivered(COUNTED_AS, &mut std::iter::once(now.wall.since(notice.at)));
                TriedEnd::Told { at: now.wall }
            }
            Outcome::Retry { due, error } => TriedEnd::Later { due, error },
            Outcome::DeadLettered { reason } => TriedEnd::GivenUp { at: now.wall, reason },
            // What only a consumer can want.
            Outcome::Released | Outcome::Waiting { .. } => {
                TriedEnd::Later { due: now.wall, error: "it was not tried".to_owned() }
            }
        }
    }

    /// The subscriber is gone for good.
    fn end(&self, id: SubscriptionId, reason: &str) {
        let subscriptions = Arc::clone(&self.parts.subscriptions);
        if let Err(fault) = block_in_place(|| subscriptions.end_because(id, reason.to_owned())) {
            tracing::warn!(subscription = %id, %fault, "a subscription could not be ended; it will be told again");
        }
    }

    /// Whether what came of the tries is to be written down now: there is enough of it, or nothing more will come soon.
    pub(super) fn is_time_to_write(&self, now: Now) -> bool {
        let waited = now.instant.saturating_duration_since(self.tried_since);
        self.tried.len() >= WRITE_AT || waited >= WRITE_AFTER || self.tasks.is_empty()
    }

    /// Tells the store what came of the tries. Answers whether it has taken everything.
    pub(super) fn write_down(&mut self) -> bool {
        if self.tried.is_empty() {
            return true;
        }
        let kept = Arc::clone(&self.parts.subscriptions.kept);
        match block_in_place(|| kept.conclude(&self.tried)) {
            Ok(()) => {
                let now = self.parts.clock.now();
                for Tried { subscription, number, end } in self.tried.drain(..) {
                    let Some(line) = self.lines.get_mut(&subscription) else { continue };
                    line.written(number);
                    match end {
                        TriedEnd::Later { due, .. } => line.due(due, now),
                        TriedEnd::Told { .. } | TriedEnd::GivenUp { .. } => {}
                    }
                }
                true
            }
            Err(fault) => {
                self.pause_for(&fault, "could not write down who was told");
                false
            }
        }
    }
}
