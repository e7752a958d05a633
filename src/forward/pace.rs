//! How far ahead of the free places records are leased for one destination.
//!
//! A destination that has shown nothing yet gets as many as it has places. One that used a whole page up in no time gets
//! twice as many the next time, up to [`MOST`]: a page is to last for some milliseconds, so that many records share the
//! cost of its lease and little waits in hand. A failure begins it all anew, for then what is in hand goes back.

use std::time::{Duration, Instant};

/// The most records that are leased ahead.
pub const MOST: usize = 512;
/// A page that lasted no longer than this was too small.
const QUICK: Duration = Duration::from_millis(50);
/// One that lasted longer than this was too large.
const SLOW: Duration = Duration::from_millis(500);

/// What is known of one destination.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    ahead: usize,
    leased_at: Option<Instant>,
}

impl Pace {
    /// A page is used up, there is more to be had, and `places` (in records) are free: how many to lease beyond them.
    pub fn next_page(&mut self, places: usize, now: Instant) -> usize {
        let lasted = self.leased_at.replace(now).map(|before| now.saturating_duration_since(before));
        self.ahead = match lasted {
            Some(lasted) if lasted <= QUICK => (self.ahead * 2).max(places).min(MOST),
            Some(lasted) if lasted > SLOW => self.ahead / 2,
            Some(_) | None => self.ahead,
        };
        self.ahead
    }

    /// How many to lease ahead at the moment.
    pub const fn ahead(&self) -> usize {
        self.ahead
    }

    /// The destination failed, or was too slow for what is in hand.
    pub fn failed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_pages_are_used_up_in_no_time_and_begins_anew_after_a_failure() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut pages = Vec::new();
        for _ in 0..7 {
            pages.push(pace.next_page(16, now));
            now += QUICK;
        }
        assert_eq!(pages, [0, 16, 32, 64, 128, 256, MOST]);
        now += QUICK;
        assert_eq!(pace.next_page(16, now), MOST, "neither quick nor slow");
        now += SLOW + QUICK;
        assert_eq!(pace.next_page(16, now), MOST / 2);
        pace.failed();
        assert_eq!(pace.next_page(16, now), 0);
    }
}
