//! When a failed delivery is tried again: exponential back-off with full jitter.
//!
//! The pause is random between zero and a bound that doubles with each try up to `longest_pause`. Full jitter spreads
//! the retries of a destination that comes back better than any fixed pause: nobody returns in step with the others.

use std::time::Duration;

use crate::config::settings::DeliverySettings;

/// The pause after try number `attempt` (from 1), never shorter than the destination asked for. `random` is uniform
/// over all of `u64`; it is passed in so that this stays a pure function.
pub fn pause(settings: &DeliverySettings, attempt: u32, asked: Option<Duration>, random: u64) -> Duration {
    let longest = longest_pause(settings, attempt).as_millis();
    // `random / 2^64` of the closed range 0..=longest, in integers.
    let millis = ((longest + 1) * u128::from(random)) >> 64;
    let jittered = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    jittered.max(asked.unwrap_or_default())
}

/// The bound of the pause after try number `attempt`.
fn longest_pause(settings: &DeliverySettings, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1);
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    // Bounded to what fits the arithmetic above; settings are far below.
    let most = settings.longest_pause.min(Duration::from_secs(u64::from(u32::MAX)));
    settings.first_pause.checked_mul(factor).map_or(most, |doubled| doubled.min(most))
}

/// Random bits for [`pause`]. Where the operating system has none, the longest pause is the safe answer.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing_queue::testing::samples::delivery_settings;
    use proptest::prelude::*;

    #[test]
    fn the_bound_doubles_up_to_the_longest() {
        let bounds: Vec<u64> =
            [1, 2, 3, 6, 7, 8, 40, u32::MAX].map(|n| longest_pause(&delivery_settings(), n).as_secs()).to_vec();
        assert_eq!(bounds, [1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        let millis = |random| pause(&delivery_settings(), 3, None, random).as_millis();
        assert_eq!(millis(0), 0);
        assert_eq!(millis(u64::MAX / 2), 2_000);
        assert_eq!(millis(u64::MAX), 4_000);
    }

    #[test]
    fn what_the_destination_asked_for_is_the_least() {
        let asked = Some(Duration::from_secs(100));
        assert_eq!(pause(&delivery_settings(), 1, asked, 0), Duration::from_secs(100));
        let short = Some(Duration::from_secs(1));
        assert_eq!(pause(&delivery_settings(), 3, short, u64::MAX), Duration::from_secs(4));
    }

    proptest! {
        #[test]
        fn never_longer_than_the_bound(attempt in any::<u32>(), random in any::<u64>(), first in any::<u32>()) {
            let settings = DeliverySettings { first_pause: Duration::from_millis(first.into()), ..delivery_settings() };
            prop_assert!(pause(&settings, attempt, None, random) <= settings.longest_pause);
        }
    }
}
