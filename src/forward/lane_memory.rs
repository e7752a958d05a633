//! Which lanes need not be asked: those where the store said that nothing is due yet.
//!
//! A lane is *quiet* until its next record is due. It wakes early when it holds more than it did when it fell quiet,
//! which is how a new or requeued record shows. So a lost nudge costs one look at the backlog, and idle lanes cost
//! nothing. [`LONGEST_QUIET`] bounds what a mistake in this book-keeping could cost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::clock::Now;
use crate::domain::time::Timestamp;
use crate::store::{LaneBacklog, LaneId};

/// No lane is left unasked for longer.
pub const LONGEST_QUIET: Duration = Duration::from_secs(10);

/// What is known of the lanes.
#[derive(Debug, Default)]
pub struct LaneMemory(HashMap<LaneId, Quiet>);

#[derive(Debug)]
struct Quiet {
    until: Instant,
    /// What was pending when it fell quiet, less what was settled since.
    pending: u64,
}

impl LaneMemory {
    /// Whether nothing can be due in this lane. Wakes it when its time has come or something was added.
    pub fn is_quiet(&mut self, backlog: &LaneBacklog, now: Now) -> bool {
        let Some(quiet) = self.0.get_mut(&backlog.id) else { return false };
        if quiet.until <= now.instant || backlog.pending > quiet.pending {
            self.0.remove(&backlog.id);
            return false;
        }
        // Somebody else settled something; what is added later must show all the same.
        quiet.pending = backlog.pending;
        true
    }

    /// The store handed out all that was due. `pending` was read before it was asked, so that a record which came in
    /// between wakes the lane rather than goes unseen.
    pub fn fell_quiet(&mut self, lane: LaneId, pending: u64, next_due: Option<Timestamp>, now: Now) {
        let pause = next_due.map_or(LONGEST_QUIET, |due| due.since(now.wall).min(LONGEST_QUIET));
        self.0.insert(lane, Quiet { until: now.instant + pause, pending });
    }

    /// One record less is pending.
    pub fn settled(&mut self, lane: LaneId) {
        if let Some(quiet) = self.0.get_mut(&lane) {
            quiet.pending = quiet.pending.saturating_sub(1);
        }
    }

    /// A record of the lane will be due then.
    pub fn due(&mut self, lane: LaneId, due: Timestamp, now: Now) {
        if let Some(quiet) = self.0.get_mut(&lane) {
            quiet.until = quiet.until.min(now.instant + due.since(now.wall));
        }
    }

    /// Nothing is pending in the lane: there is nothing to wake it for.
    pub fn emptied(&mut self, lane: LaneId) {
        self.0.remove(&lane);
    }

    /// Forgets everything: every lane is asked again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// When the next quiet lane wakes.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|quiet| quiet.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::clock::tests::ManualClock;
    use crate::routing_queue::testing::samples::{self, ACCEPTED_AT};

    const LANE: LaneId = LaneId(7);

    fn backlog(pending: u64) -> LaneBacklog {
        LaneBacklog { id: LANE, lane: samples::lane_of(&samples::record(1)), pending }
    }

    struct Setup {
        manual: ManualClock,
        clock: crate::forward::clock::Clock,
        memory: LaneMemory,
    }

    /// A lane with three pending records, of which the next is due in four seconds.
    fn quiet() -> Setup {
        let manual = ManualClock::at(ACCEPTED_AT);
        let clock = manual.clock();
        let mut memory = LaneMemory::default();
        memory.fell_quiet(LANE, 3, Some(ACCEPTED_AT.after(Duration::from_secs(4))), clock.now());
        Setup { manual, clock, memory }
    }

    #[test]
    fn it_sleeps_until_the_next_record_is_due() {
        let Setup { manual, clock, mut memory } = quiet();
        manual.pass(Duration::from_millis(3_999));
        assert!(memory.is_quiet(&backlog(3), clock.now()));
        assert_eq!(memory.next(), Some(clock.now().instant + Duration::from_millis(1)));
        manual.pass(Duration::from_millis(1));
        assert!(!memory.is_quiet(&backlog(3), clock.now()));
        assert_eq!(memory.next(), None);
    }

    #[test]
    fn an_added_record_wakes_it_also_after_others_were_settled() {
        let Setup { clock, mut memory, .. } = quiet();
        assert!(!memory.is_quiet(&backlog(4), clock.now()));
        let Setup { clock, mut memory, .. } = quiet();
        memory.settled(LANE);
        assert!(!memory.is_quiet(&backlog(3), clock.now()));
        let Setup { clock, mut memory, .. } = quiet();
        assert!(memory.is_quiet(&backlog(2), clock.now()));
        assert!(!memory.is_quiet(&backlog(3), clock.now()));
    }

    #[test]
    fn an_earlier_retry_wakes_it_earlier_and_a_later_one_changes_nothing() {
        let Setup { manual, clock, mut memory } = quiet();
        memory.due(LANE, ACCEPTED_AT.after(Duration::from_secs(9)), clock.now());
        memory.due(LANE, ACCEPTED_AT.after(Duration::from_secs(1)), clock.now());
        manual.pass(Duration::from_secs(1));
        assert!(!memory.is_quiet(&backlog(3), clock.now()));
    }

    #[test]
    fn no_lane_is_left_unasked_for_long() {
        let Setup { manual, clock, mut memory } = quiet();
        memory.fell_quiet(LANE, 3, None, clock.now());
        manual.pass(LONGEST_QUIET);
        assert!(!memory.is_quiet(&backlog(3), clock.now()));
    }
}
