//! One try to deliver one message, and what follows for its records from how it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff;
use super::breaker::{Breaker, BreakerRule};
use super::clock::Now;
use super::observer::{Followed, TryOutcome};
use crate::config::Effective;
use crate::config::settings::DeliverySettings;
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::OrganizationId;
use crate::domain::time::Timestamp;
use crate::routing_queue::event::{self, NotEncodable};
use crate::routing_queue::{Delivery, DeliveryError, RoutingQueue, Taken};
use crate::store::{Leased, Outcome, StoredRecord};

/// What the forwarder remembers of a try under way.
#[derive(Debug)]
pub struct Attempt {
    /// Where to.
    pub routing_queue: RoutingQueueName,
    /// Which build of that destination.
    pub incarnation: u64,
    /// Whether it is the breaker's probe.
    pub probe: bool,
    /// Whose records.
    pub organization: OrganizationId,
    /// What the message holds, in its order.
    pub records: Vec<Leased>,
    /// Who follows it, if anybody does.
    pub followed: Option<Box<dyn Followed>>,
}

/// How a try ended.
#[derive(Debug)]
pub struct Ended {
    /// What the destination said.
    pub result: Result<(), Failure>,
    /// Whether it said that it had it before.
    pub known: bool,
    /// How long it took.
    pub seconds: f64,
}

impl Ended {
    /// The record never left.
    pub fn damaged(fault: NotEncodable) -> Self {
        Self { result: Err(fault.into()), known: false, seconds: 0.0 }
    }

    /// The code of the try failed.
    pub const fn panicked() -> Self {
        Self { result: Err(Failure::Panicked), known: false, seconds: 0.0 }
    }

    /// How it is counted.
    pub fn counted(&self) -> TryOutcome {
        match &self.result {
            Ok(()) if self.known => TryOutcome::Known,
            Ok(()) => TryOutcome::Delivered,
            Err(Failure::Delivery(DeliveryError::Permanent { .. }) | Failure::Damaged(_)) => TryOutcome::Permanent,
            Err(
                Failure::Delivery(DeliveryError::Temporary { .. } | DeliveryError::Gone { .. }) | Failure::Panicked,
            ) => TryOutcome::Temporary,
        }
    }

    /// Tells a circuit breaker what it says about the destination. `probe`: whether it was the breaker's own.
    pub fn teach(&self, breaker: &mut Breaker, probe: bool, settings: &DeliverySettings, now: Instant) {
        let rule = BreakerRule { failures: settings.breaker_failures, pause: settings.breaker_pause };
        match &self.result {
            Err(Failure::Delivery(
                DeliveryError::Temporary { destination_down: true, .. } | DeliveryError::Gone { .. },
            )) => breaker.failed(now, probe, rule),
            Ok(()) | Err(Failure::Delivery(_)) => breaker.answered(),
            Err(Failure::Damaged(_) | Failure::Panicked) if probe => breaker.probe_lost(now),
            Err(Failure::Damaged(_) | Failure::Panicked) => {}
        }
    }
}

/// Why a try did not deliver.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The destination did not take it, or was not reached.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The record never left: what the store handed out cannot be encoded.
    #[error(transparent)]
    Damaged(#[from] NotEncodable),
    /// The code of the try failed. The destination may have the record or not.
    #[error("the delivery broke off by an internal fault")]
    Panicked,
}

/// Encodes one record and hands it over, once. `limit` guards against a routing queue that does not bound itself. A
/// `traceparent` that names the try goes out in place of the record's own.
pub async fn deliver(
    (client, limit): (Arc<dyn RoutingQueue>, Duration),
    record: StoredRecord,
    effective: Arc<Effective>,
    traceparent: Option<String>,
) -> Ended {
    let work_stream = effective.catalog.work_stream(&record.organization, &record.work_stream);
    match event::encode(&record, work_stream) {
        Ok(body) => {
            let message = Delivery::event(&record, body);
            let traceparent = traceparent.or_else(|| message.traceparent.clone());
            hand_over(client, Delivery { traceparent, ..message }, limit).await
        }
        Err(damaged) => Ended::damaged(damaged),
    }
}

/// Hands a message over, once; `limit` as for [`deliver`].
pub async fn hand_over(client: Arc<dyn RoutingQueue>, message: Delivery, limit: Duration) -> Ended {
    let begun = Instant::now();
    let result = match tokio::time::timeout(limit, client.deliver(message)).await {
        Ok(answered) => answered.map_err(Failure::from),
        Err(_) => Err(Failure::Delivery(DeliveryError::Temporary {
            reason: format!("no answer within {limit:?}"),
            retry_after: None,
            destination_down: true,
        })),
    };
    let known = matches!(result, Ok(Taken::Before));
    Ended { result: result.map(|_| ()), known, seconds: begun.elapsed().as_secs_f64() }
}

/// What becomes of a record: delivered, tried again, or given up. A record is given up at once where another try would
/// end the same, else after the configured number of tries or at the configured age; always after at least one try.
///
/// `number` says which try it was, from 1, and `since` from when on the age counts.
pub fn outcome(
    (number, since): (u32, Timestamp),
    result: &Result<(), Failure>,
    settings: &DeliverySettings,
    now: Now,
) -> Outcome {
    outcome_after(pause(number, result, settings), (number, since), result, settings, now)
}

/// The same for every record of a message. One pause counts for all that are tried again, so that they come back together.
pub fn outcomes(
    records: &[Leased],
    result: &Result<(), Failure>,
    settings: &DeliverySettings,
    now: Now,
) -> Vec<Outcome> {
    let most = records.iter().map(|leased| leased.attempt).max().unwrap_or(1);
    let pause = pause(most, result, settings);
    let of = |leased: &Leased| (leased.attempt, leased.record.accepted_at);
    records.iter().map(|leased| outcome_after(pause, of(leased), result, settings, now)).collect()
}

/// How long to wait before the next try, should there be one.
fn pause(number: u32, result: &Result<(), Failure>, settings: &DeliverySettings) -> Duration {
    let asked = match result {
        Ok(()) => return Duration::ZERO,
        Err(Failure::Delivery(DeliveryError::Temporary { retry_after, .. })) => *retry_after,
        Err(Failure::Delivery(_) | Failure::Damaged(_) | Failure::Panicked) => None,
    };
    backoff::pause(settings, number, asked, backoff::random())
}

fn outcome_after(
    pause: Duration,
    (number, since): (u32, Timestamp),
    result: &Result<(), Failure>,
    settings: &DeliverySettings,
    now: Now,
) -> Outcome {
    let Err(failure) = result else { return Outcome::Delivered };
    let error = failure.to_string();
    if matches!(failure, Failure::Delivery(DeliveryError::Permanent { .. }) | Failure::Damaged(_)) {
        return Outcome::DeadLettered { reason: error };
    }
    if number >= settings.max_attempts {
        return Outcome::DeadLettered { reason: format!("{error}; given up after {number} tries") };
    }
    if now.steady.since(since) >= settings.give_up_after {
        return Outcome::DeadLettered { reason: format!("{error}; given up since the record is too old") };
    }
    Outcome::Retry { due: now.wall.after(pause), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing_queue::testing::samples::{ACCEPTED_AT, delivery_settings};

    fn at(age: Duration) -> Now {
        let wall = ACCEPTED_AT.after(age);
        Now { instant: Instant::now(), wall, steady: wall }
    }

    fn temporary(retry_after: Option<Duration>) -> Result<(), Failure> {
        let reason = "busy".to_owned();
        Err(DeliveryError::Temporary { reason, retry_after, destination_down: true }.into())
    }

    fn outcome_of(number: u32, result: Result<(), Failure>, age: Duration) -> Outcome {
        outcome((number, ACCEPTED_AT), &result, &delivery_settings(), at(age))
    }

    fn given_up(reason: &str) -> Outcome {
        Outcome::DeadLettered { reason: reason.to_owned() }
    }

    #[test]
    fn delivered_and_permanent_are_final() {
        assert_eq!(outcome_of(9, Ok(()), Duration::MAX), Outcome::Delivered);
        let permanent = Err(DeliveryError::Permanent { reason: "no".to_owned() }.into());
        assert_eq!(outcome_of(1, permanent, Duration::ZERO), given_up("no"));
    }

    #[test]
    fn temporary_failures_end_by_number_or_by_age() {
        assert!(matches!(outcome_of(2, temporary(None), Duration::ZERO), Outcome::Retry { .. }));
        assert_eq!(outcome_of(3, temporary(None), Duration::ZERO), given_up("busy; given up after 3 tries"));
        let day = delivery_settings().give_up_after;
        assert!(matches!(outcome_of(1, temporary(None), day - Duration::from_millis(1)), Outcome::Retry { .. }));
        let too_old = given_up("busy; given up since the record is too old");
        assert_eq!(outcome_of(1, temporary(None), day), too_old);
        assert!(matches!(outcome_of(1, Err(Failure::Panicked), Duration::ZERO), Outcome::Retry { .. }));
    }

    #[test]
    fn the_destination_s_own_pause_is_kept() {
        let asked = Duration::from_secs(500);
        let Outcome::Retry { due, error } = outcome_of(1, temporary(Some(asked)), Duration::ZERO) else { panic!() };
        assert_eq!((due, error.as_str()), (ACCEPTED_AT.after(asked), "busy"));
    }

    #[test]
    fn a_wall_clock_that_jumped_gives_nothing_up() {
        let decade = Duration::from_secs(10 * 365 * 86_400);
        let now = Now { wall: ACCEPTED_AT.after(decade), ..at(Duration::ZERO) };
        let outcome = outcome((1, ACCEPTED_AT), &temporary(None), &delivery_settings(), now);
        assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    }
}
