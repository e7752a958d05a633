//! Telling the store how tries ended: in batches, one at a time, again after a failure.
//!
//! While one batch is on its way the next one gathers. Nothing is dropped but what the store would refuse anyway: a
//! settlement whose lease has ended, or everything where the store says that it will not write any more in this process.
//! In both cases the record is offered again, which at-least-once delivery allows.

use std::time::{Duration, Instant};

use super::clock::Now;
use crate::store::{LaneId, Leased, Outcome, Settlement, StoreError};

/// The store is asked again after this time when it failed.
pub const STORE_PAUSE: Duration = Duration::from_secs(1);
/// The most settlements in one call.
const MAX_BATCH: usize = 512;
/// While deliveries follow each other, so many settlements are gathered for one call, if they come within [`PATIENCE`].
const ENOUGH: usize = 256;
/// So long a settlement waits for others.
const PATIENCE: Duration = Duration::from_millis(5);

/// One settlement on its way.
#[derive(Debug, Clone)]
pub struct Unsettled {
    /// The lane it belongs to.
    pub lane: LaneId,
    /// When its lease ends.
    pub until: crate::domain::time::Timestamp,
    /// What the store is told.
    pub settlement: Settlement,
}

impl Unsettled {
    /// The settlement of this lease.
    pub fn of(leased: &Leased, outcome: Outcome, now: Now) -> Self {
        let settlement = Settlement { receipt: leased.record.receipt, token: leased.token, at: now.wall, outcome };
        Self { lane: leased.lane, until: leased.until, settlement }
    }
}

/// The settlements that wait.
#[derive(Debug, Default)]
pub struct Settling {
    waiting: Vec<Unsettled>,
    /// Since when the first of them waits.
    since: Option<Instant>,
    /// Set from a failure on until a batch gets through.
    failing_until: Option<Instant>,
}

impl Settling {
    /// One more.
    pub fn add(&mut self, unsettled: Unsettled, now: Now) {
        self.since.get_or_insert(now.instant);
        self.waiting.push(unsettled);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the store took nothing of the latest batch, which waits or is on its way again: what is delivered now
    /// could not be recorded.
    pub fn failing(&self) -> bool {
        self.failing_until.is_some()
    }

    /// When to ask the store again, while it fails.
    pub fn again(&self) -> Option<Instant> {
        // An empty list while failing means that the batch is on its way again.
        self.failing_until.filter(|_| !self.waiting.is_empty())
    }

    /// When what waits has waited long enough for others.
    pub fn next(&self) -> Option<Instant> {
        self.again().or_else(|| self.since.map(|since| since + PATIENCE))
    }

    /// The next batch, unless there is none or the store needs a rest. `more_to_come` says that there will be more to
    /// settle in no time: then a small batch waits a moment for it, since each costs the store a write.
    pub fn next_batch(&mut self, now: Instant, more_to_come: bool) -> Option<Vec<Unsettled>> {
        if self.waiting.is_empty() || self.failing_until.is_some_and(|until| until > now) {
            return None;
        }
        let gathering = self.waiting.len() < ENOUGH && self.since.is_some_and(|since| since + PATIENCE > now);
        if more_to_come && gathering {
            return None;
        }
        let rest = self.waiting.split_off(self.waiting.len().min(MAX_BATCH));
        self.since = (!rest.is_empty()).then_some(now);
        Some(std::mem::replace(&mut self.waiting, rest))
    }

    /// The store took a batch.
    pub fn succeeded(&mut self) {
        self.failing_until = None;
    }

    /// The store took nothing of this batch.
    pub fn failed(&mut self, batch: Vec<Unsettled>, error: &StoreError, now: Now) {
        let fault = error as &dyn std::error::Error;
        if matches!(error, StoreError::Broken { .. } | StoreError::Unavailable) {
            tracing::error!(fault, settlements = batch.len(), "the store does not write any more; deliveries repeat");
        } else {
            tracing::warn!(fault, settlements = batch.len(), "the store could not record deliveries; trying again");
            self.waiting.extend(batch);
            self.waiting.retain(|unsettled| unsettled.until > now.wall);
            self.since = (!self.waiting.is_empty()).then_some(now.instant);
        }
        // With nothing left to try again, nothing would ever end the pause.
        self.failing_until = (!self.waiting.is_empty()).then(|| now.instant + STORE_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::routing_queue::testing::samples::{self, ACCEPTED_AT};
    use crate::store::LeaseToken;

    const LEASE: Duration = Duration::from_secs(60);

    fn unsettled(number: u16) -> Unsettled {
        let receipt = samples::receipt(number);
        let settlement =
            Settlement { receipt, token: LeaseToken([0; 16]), at: ACCEPTED_AT, outcome: Outcome::Delivered };
        Unsettled { lane: LaneId(1), until: ACCEPTED_AT.after(LEASE), settlement }
    }

    fn at(begun: Instant, passed: Duration) -> Now {
        let wall: Timestamp = ACCEPTED_AT.after(passed);
        Now { instant: begun + passed, wall, steady: wall }
    }

    fn overloaded() -> StoreError {
        StoreError::Overloaded { limit: 1 }
    }

    #[test]
    fn batches_are_bounded_and_in_order() {
        let mut settling = Settling::default();
        let now = at(Instant::now(), Duration::ZERO);
        (0..=MAX_BATCH).for_each(|number| settling.add(unsettled(number as u16), now));
        let first = settling.next_batch(now.instant, false).unwrap();
        assert_eq!((first.len(), settling.waiting()), (MAX_BATCH, 1));
        assert_eq!(first[0].settlement.receipt, samples::receipt(0));
        assert_eq!(settling.next_batch(now.instant, false).unwrap().len(), 1);
        assert!(settling.next_batch(now.instant, false).is_none());
    }

    #[test]
    fn few_wait_a_moment_for_more() {
        let begun = Instant::now();
        let mut settling = Settling::default();
        settling.add(unsettled(1), at(begun, Duration::ZERO));
        settling.add(unsettled(2), at(begun, PATIENCE / 2));
        assert!(settling.next_batch(begun + PATIENCE / 2, true).is_none());
        assert_eq!(settling.next(), Some(begun + PATIENCE));
        assert_eq!(settling.next_batch(begun + PATIENCE, true).map(|batch| batch.len()), Some(2));
        settling.add(unsettled(3), at(begun, PATIENCE));
        assert_eq!(settling.next_batch(begun + PATIENCE, false).map(|batch| batch.len()), Some(1));
        (0..ENOUGH).for_each(|number| settling.add(unsettled(number as u16), at(begun, PATIENCE)));
        assert_eq!(settling.next_batch(begun + PATIENCE, true).map(|batch| batch.len()), Some(ENOUGH));
        assert_eq!(settling.next(), None);
    }

    #[test]
    fn a_failed_batch_waits_and_counts_as_failing_until_one_gets_through() {
        let begun = Instant::now();
        let mut settling = Settling::default();
        settling.add(unsettled(1), at(begun, Duration::ZERO));
        let batch = settling.next_batch(begun, false).unwrap();
        settling.failed(batch, &overloaded(), at(begun, Duration::ZERO));
        assert!(settling.failing() && settling.next_batch(begun, false).is_none());
        assert_eq!(settling.again(), Some(begun + STORE_PAUSE));
        let again = settling.next_batch(begun + STORE_PAUSE, false).unwrap();
        assert_eq!((again.len(), settling.failing(), settling.again()), (1, true, None));
        settling.succeeded();
        assert!(!settling.failing());
    }

    #[test]
    fn what_the_store_would_refuse_anyway_is_dropped() {
        let begun = Instant::now();
        let mut settling = Settling::default();
        settling.failed(vec![unsettled(1)], &overloaded(), at(begun, LEASE));
        assert_eq!((settling.waiting(), settling.failing()), (0, false));
        let broken = StoreError::Broken { cause: "gone".to_owned() };
        settling.failed(vec![unsettled(1)], &broken, at(begun, Duration::ZERO));
        assert_eq!((settling.waiting(), settling.failing()), (0, false));
    }
}
