//! What time it is, for a thread that deletes: a clock that jumps must not make everything old at once.

use std::time::Instant;

use crate::domain::time::Timestamp;

/// One moment, on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sqlite) struct Moment {
    /// The wall clock: for moments that were promised to somebody.
    pub(in crate::store::sqlite) wall: Timestamp,
    /// For ages: the wall clock, but never ahead of what it showed at the start plus the time that has passed since.
    pub(in crate::store::sqlite) steady: Timestamp,
}

/// Reads the clocks.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::sqlite) struct Clock {
    began: (Timestamp, Instant),
}

impl Clock {
    /// The clocks of the machine, from now on.
    pub(in crate::store::sqlite) fn start() -> Self {
        Self { began: (Timestamp::now(), Instant::now()) }
    }

    /// Now.
    pub(in crate::store::sqlite) fn now(&self) -> Moment {
        let (wall_then, then) = self.began;
        Moment::of(Timestamp::now(), wall_then.after(then.elapsed()))
    }
}

impl Moment {
    /// What the wall clock shows, and what it would show had nobody touched it.
    pub(in crate::store::sqlite) fn of(wall: Timestamp, untouched: Timestamp) -> Self {
        Self { wall, steady: wall.min(untouched) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_forward_ages_nothing_and_one_set_back_ages_nothing_either() {
        let [early, late] = [1, 2].map(Timestamp::from_millis);
        assert_eq!(Moment::of(late, early), Moment { wall: late, steady: early });
        assert_eq!(Moment::of(early, late), Moment { wall: early, steady: early });
        let clock = Clock::start();
        let (one, two) = (clock.now(), clock.now());
        assert!(one.steady <= one.wall && one.steady <= two.wall.max(two.steady));
    }
}
