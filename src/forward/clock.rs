//! What time it is, for a room whose timers must survive a clock that jumps.
//!
//! A wall clock can be set back or forth while the gateway runs. Pauses within the process are measured on the monotonic
//! clock alone. What is written down (when a record is due, until when it is on lease) needs the wall clock, but never
//! one that has gone backwards: otherwise everything due would have to wait again. And the age at which a record is
//! given up goes by the monotonic clock, anchored to the wall clock at start, so that a jump ahead by years does not
//! turn the backlog into dead letters.

use std::sync::Arc;
use std::time::Instant;

use crate::domain::time::Timestamp;

type Read<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Reads both clocks.
#[derive(Clone)]
pub struct Clock {
    wall: Read<Timestamp>,
    monotonic: Read<Instant>,
    began: (Timestamp, Instant),
}

/// One moment on every clock.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For pauses within the process.
    pub instant: Instant,
    /// For what is written down: the wall clock, or what it would show had it not been set back.
    pub wall: Timestamp,
    /// For ages: what the wall clock would show had nobody touched it since the start.
    pub steady: Timestamp,
}

impl Clock {
    /// The clocks of the machine.
    pub fn system() -> Self {
        Self::of(Arc::new(Timestamp::now), Arc::new(Instant::now))
    }

    /// These clocks.
    pub fn of(wall: Read<Timestamp>, monotonic: Read<Instant>) -> Self {
        let began = (wall(), monotonic());
        Self { wall, monotonic, began }
    }

    /// Now.
    pub fn now(&self) -> Now {
        let (began_wall, began) = self.began;
        let instant = (self.monotonic)();
        let steady = began_wall.after(instant.saturating_duration_since(began));
        Now { instant, wall: (self.wall)().max(steady), steady }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Clocks that stand still until somebody moves them.
    #[derive(Clone)]
    pub(crate) struct ManualClock {
        passed: Arc<Mutex<Duration>>,
        wall_offset_millis: Arc<Mutex<i64>>,
        began: (Timestamp, Instant),
    }

    impl ManualClock {
        pub(crate) fn at(wall: Timestamp) -> Self {
            Self { passed: Arc::default(), wall_offset_millis: Arc::default(), began: (wall, Instant::now()) }
        }

        /// Time passes.
        pub(crate) fn pass(&self, duration: Duration) {
            *self.passed.lock().unwrap() += duration;
        }

        /// Somebody sets the wall clock.
        pub(crate) fn set_wall(&self, offset_millis: i64) {
            *self.wall_offset_millis.lock().unwrap() = offset_millis;
        }

        pub(crate) fn clock(&self) -> Clock {
            let (wall, monotonic) = (self.clone(), self.clone());
            Clock::of(
                Arc::new(move || {
                    let passed = wall.began.0.after(*wall.passed.lock().unwrap());
                    Timestamp::from_millis(passed.millis() + *wall.wall_offset_millis.lock().unwrap())
                }),
                Arc::new(move || monotonic.began.1 + *monotonic.passed.lock().unwrap()),
            )
        }
    }

    #[test]
    fn jumps_of_the_wall_clock_change_no_age_and_never_set_back_what_is_due() {
        let manual = ManualClock::at(Timestamp::from_millis(1_000_000));
        let clock = manual.clock();
        manual.pass(Duration::from_millis(500));
        assert_eq!((clock.now().wall.millis(), clock.now().steady.millis()), (1_000_500, 1_000_500));
        manual.set_wall(-900_000);
        assert_eq!((clock.now().wall.millis(), clock.now().steady.millis()), (1_000_500, 1_000_500));
        manual.set_wall(900_000);
        assert_eq!((clock.now().wall.millis(), clock.now().steady.millis()), (1_900_500, 1_000_500));
    }
}
