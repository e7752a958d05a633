//! When an issuer's keys are fetched: a small state machine over moments that are passed in.
//!
//! At once, then every hour. After a failure again and again, with growing pauses, until one succeeds. Besides that, a
//! token with an unknown key ID may ask for a fetch out of turn, but only one such fetch starts within five minutes,
//! however many ask; what was asked for meanwhile waits until then, and a failed one brings no retries of its own. All on the monotonic clock: setting the wall clock
//! neither hurries nor delays a fetch. Pauses vary at random, so that many gateways do not ask an issuer in step.

use std::time::{Duration, Instant};

/// How often keys are fetched, and how long they are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// The longest time from one successful fetch to the next; a withdrawn key is refused after that.
    pub refresh: Duration,
    /// The pause after a first failure; each further one doubles it.
    pub first_pause: Duration,
    /// The longest pause between failures.
    pub longest_pause: Duration,
    /// The shortest time between two fetches that tokens with unknown keys asked for.
    pub unknown_kid_pause: Duration,
    /// How long keys are believed after they were fetched.
    pub max_age: Duration,
    /// How long a fetch may take.
    pub fetch_deadline: Duration,
}

impl Timings {
    /// What the product promises.
    pub const DEFAULT: Self = Self {
        refresh: Duration::from_secs(60 * 60),
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(5 * 60),
        unknown_kid_pause: Duration::from_secs(5 * 60),
        max_age: Duration::from_secs(24 * 60 * 60),
        fetch_deadline: Duration::from_secs(5),
    };
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Fetch because it is time to.
    InTurn,
    /// Fetch because somebody asked.
    OutOfTurn,
    /// Nothing before this moment.
    At(Instant),
}

#[derive(Debug)]
pub(super) struct Schedule {
    timings: Timings,
    next: Instant,
    failures: u32,
    last_out_of_turn: Option<Instant>,
}

impl Schedule {
    pub(super) const fn new(timings: Timings, now: Instant) -> Self {
        Self { timings, next: now, failures: 0, last_out_of_turn: None }
    }

    /// What is to be done now, when a fetch was asked for (`wanted`) or was not.
    pub(super) fn due(&self, now: Instant, wanted: bool) -> Due {
        if now >= self.next {
            return Due::InTurn;
        }
        if !wanted {
            return Due::At(self.next);
        }
        match self.last_out_of_turn.and_then(|last| last.checked_add(self.timings.unknown_kid_pause)) {
            Some(allowed) if now < allowed => Due::At(allowed.min(self.next)),
            Some(_) | None => Due::OutOfTurn,
        }
    }

    /// A fetch out of turn begins.
    pub(super) const fn out_of_turn(&mut self, now: Instant) {
        self.last_out_of_turn = Some(now);
    }

    /// A fetch ended that was begun because of `due`. `roll` is random, over all of its range.
    pub(super) fn ended(&mut self, due: Due, succeeded: bool, now: Instant, roll: u32) {
        if due == Due::OutOfTurn && !succeeded {
            // Everything stays as it was. Were this to count as a failure, unknown keys could bring about a series of
            // retries.
            return;
        }
        let share = f64::from(roll) / f64::from(u32::MAX);
        let pause = if succeeded {
            self.failures = 0;
            // Never longer than promised, and up to a tenth shorter.
            self.timings.refresh.mul_f64(0.1_f64.mul_add(share, 0.9))
        } else {
            let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
            self.failures = self.failures.saturating_add(1);
            let pause = self.timings.first_pause.saturating_mul(doubled).min(self.timings.longest_pause);
            pause.mul_f64(0.5_f64.mul_add(share, 0.5))
        };
        // No clock gets so far that this would not fit; if one did, the next fetch would be now.
        self.next = now.checked_add(pause).unwrap_or(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn schedule() -> (Schedule, Instant) {
        let start = Instant::now();
        (Schedule::new(Timings::DEFAULT, start), start)
    }

    #[test]
    fn the_first_fetch_is_at_once_and_the_next_within_the_hour() {
        for (roll, expected) in [(0, 54 * MINUTE), (u32::MAX, 60 * MINUTE)] {
            let (mut schedule, start) = schedule();
            assert_eq!(schedule.due(start, false), Due::InTurn);
            schedule.ended(Due::InTurn, true, start, roll);
            assert_eq!(schedule.due(start, false), Due::At(start + expected));
            assert_eq!(schedule.due(start + expected, false), Due::InTurn);
        }
    }

    #[test]
    fn failures_are_tried_again_with_growing_pauses_up_to_five_minutes() {
        let (mut schedule, start) = schedule();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            schedule.ended(Due::InTurn, false, start, u32::MAX);
            pauses.push(schedule.next.duration_since(start).as_secs());
        }
        assert_eq!(&pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(pauses[10..].iter().all(|&pause| pause == 300));
        schedule.ended(Due::InTurn, true, start, u32::MAX);
        schedule.ended(Due::InTurn, false, start, 0);
        assert_eq!(schedule.next.duration_since(start), Duration::from_millis(500));
    }

    /// J4: tokens with unknown keys, however many, cause one fetch in five minutes.
    #[test]
    fn asking_all_the_time_causes_one_fetch_in_five_minutes() {
        let (mut schedule, start) = schedule();
        schedule.ended(Due::InTurn, true, start, u32::MAX);
        let mut fetches = Vec::new();
        for second in 1..(54 * 60) {
            let now = start + Duration::from_secs(second);
            if schedule.due(now, true) == Due::OutOfTurn {
                fetches.push(second);
                schedule.out_of_turn(now);
                schedule.ended(Due::OutOfTurn, false, now, u32::MAX);
            }
        }
        assert_eq!(fetches, (0..11).map(|n| 1 + n * 300).collect::<Vec<u64>>());
    }

    #[test]
    fn what_was_asked_for_too_early_is_done_when_its_time_comes() {
        let (mut schedule, start) = schedule();
        schedule.ended(Due::InTurn, true, start, u32::MAX);
        schedule.out_of_turn(start);
        assert_eq!(schedule.due(start + MINUTE, true), Due::At(start + 5 * MINUTE));
        assert_eq!(schedule.due(start + 5 * MINUTE, true), Due::OutOfTurn);
        // The hourly fetch does not wait for that, and answers the question too.
        schedule.next = start + 2 * MINUTE;
        assert_eq!(schedule.due(start + MINUTE, true), Due::At(start + 2 * MINUTE));
        assert_eq!(schedule.due(start + 2 * MINUTE, true), Due::InTurn);
    }

    #[test]
    fn asking_helps_during_an_outage_too() {
        let (mut schedule, start) = schedule();
        for _ in 0..9 {
            schedule.ended(Due::InTurn, false, start, u32::MAX);
        }
        assert_eq!(schedule.due(start, true), Due::OutOfTurn);
        assert_eq!(schedule.due(start, false), Due::At(start + Duration::from_secs(256)));
    }
}
