//! The circuit breaker of one destination: a destination that keeps failing is left alone for a while, then asked with
//! one delivery how it is.
//!
//! A pure state machine; the monotonic clock is passed in. While it is open nothing is leased for the destination, so
//! an outage does not use up the attempts of the records that wait.

use std::time::{Duration, Instant};

/// When to open, and for how long. Read anew at each failure, since settings change while the gateway runs.
#[derive(Debug, Clone, Copy)]
pub struct BreakerRule {
    /// Failures in a row after which it opens; zero counts as one.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub pause: Duration,
}

/// The breaker's state, for metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Everything may be delivered.
    Closed,
    /// Nothing may be delivered.
    Open,
    /// One delivery is under way to find out.
    HalfOpen,
}

impl BreakerState {
    /// The text of the state in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// How much may be delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// As much as the concurrency allows.
    All,
    /// One delivery, to be announced with [`Breaker::probe_begun`].
    Probe,
    /// Nothing before this moment; `None` means not before the probe is back.
    Nothing(Option<Instant>),
}

/// The breaker of one destination.
#[derive(Debug, Default)]
pub struct Breaker(State);

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// How much may be delivered now.
    pub fn allowance(&self, now: Instant) -> Allowance {
        match self.0 {
            State::Closed { .. } => Allowance::All,
            State::Open { until } if until <= now => Allowance::Probe,
            State::Open { until } => Allowance::Nothing(Some(until)),
            State::Probing => Allowance::Nothing(None),
        }
    }

    /// The state, for metrics and logs.
    pub const fn state(&self) -> BreakerState {
        match self.0 {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing => BreakerState::HalfOpen,
        }
    }

    /// One delivery is under way to find out.
    pub fn probe_begun(&mut self) {
        if matches!(self.0, State::Open { .. }) {
            self.0 = State::Probing;
        }
    }

    /// The probe ended without asking the destination: another may begin at once.
    pub fn probe_lost(&mut self, now: Instant) {
        if matches!(self.0, State::Probing) {
            self.0 = State::Open { until: now };
        }
    }

    /// The destination answered, whatever it thought of the record: it is not down.
    pub fn answered(&mut self) {
        self.0 = State::default();
    }

    /// The destination seems down. `probe` says whether this try was the probe: a straggler from before says nothing
    /// new about a destination that is known to fail.
    pub fn failed(&mut self, now: Instant, probe: bool, rule: BreakerRule) {
        let open = State::Open { until: now + rule.pause };
        match self.0 {
            State::Closed { failures } if failures + 1 >= rule.failures => self.0 = open,
            State::Closed { ref mut failures } => *failures += 1,
            State::Probing if probe => self.0 = open,
            State::Probing | State::Open { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: BreakerRule = BreakerRule { failures: 3, pause: Duration::from_secs(30) };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| breaker.failed(now, false, RULE));
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            breaker.failed(now, false, RULE);
            breaker.failed(now, false, RULE);
            assert_eq!(breaker.allowance(now), Allowance::All);
            breaker.answered();
        }
        assert_eq!(opened(now).state(), BreakerState::Open);
        assert_eq!(opened(now).allowance(now), Allowance::Nothing(Some(now + RULE.pause)));
    }

    #[test]
    fn one_probe_decides() {
        let now = Instant::now();
        let later = now + RULE.pause;
        let mut breaker = opened(now);
        assert_eq!(breaker.allowance(later), Allowance::Probe);
        breaker.probe_begun();
        assert_eq!((breaker.state(), breaker.allowance(later)), (BreakerState::HalfOpen, Allowance::Nothing(None)));
        breaker.failed(later, false, RULE);
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "a straggler is not the probe");
        breaker.failed(later, true, RULE);
        assert_eq!(breaker.allowance(later), Allowance::Nothing(Some(later + RULE.pause)));
        breaker.probe_begun();
        breaker.answered();
        assert_eq!(breaker.allowance(later), Allowance::All);
    }

    #[test]
    fn a_lost_probe_is_followed_by_another_at_once() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.probe_begun();
        breaker.probe_lost(now);
        assert_eq!(breaker.allowance(now), Allowance::Probe);
        let mut closed = Breaker::default();
        closed.probe_lost(now);
        assert_eq!(closed.allowance(now), Allowance::All);
    }

    #[test]
    fn stragglers_do_not_prolong_the_pause() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.failed(now + Duration::from_secs(20), false, RULE);
        assert_eq!(breaker.allowance(now + RULE.pause), Allowance::Probe);
    }

    proptest! {
        /// Whatever happens: fewer failures in a row than the rule's leave it closed, one answer closes it, and from
        /// every state it gets back to work.
        #[test]
        fn it_never_gets_stuck(events in proptest::collection::vec(0_u8..5, 0..60)) {
            let (mut breaker, mut now) = (Breaker::default(), Instant::now());
            let mut in_a_row = 0;
            for event in events {
                match event {
                    0 => { breaker.answered(); in_a_row = 0; }
                    1 => { breaker.failed(now, false, RULE); in_a_row += 1; }
                    2 => { breaker.failed(now, true, RULE); in_a_row += 1; }
                    3 => now += Duration::from_secs(20),
                    _ => if breaker.allowance(now) == Allowance::Probe { breaker.probe_begun() },
                }
                prop_assert!(in_a_row >= RULE.failures || breaker.state() == BreakerState::Closed);
                prop_assert!(in_a_row < RULE.failures || breaker.state() != BreakerState::Closed);
            }
            breaker.probe_lost(now);
            prop_assert!(!matches!(breaker.allowance(now + RULE.pause), Allowance::Nothing(_)));
        }
    }
}
