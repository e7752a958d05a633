//! Which runs are merged next.
//!
//! Runs are in tiers: a tier's runs are about [`FAN_IN`] times as large as those of the tier below. When a tier has so many,
//! they become one run of the next. So a key is written once for each tier, and a look-up asks at most `FAN_IN - 1` runs in
//! each. Only neighbours are merged, since a run covers the records from one to another.

use std::ops::Range;

/// Runs of a tier that become one of the next.
pub(super) const FAN_IN: usize = 8;

/// What counts about a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) entries: u64,
    /// Whether none of its entries counts any more.
    pub(super) is_too_old: bool,
}

/// Which of these runs, newest first, are to become one. A run of the lowest tier has about `base` entries.
///
/// When none of the entries of the oldest counts any more, it is these: an empty run takes their place, which still says
/// which records it covers.
pub(super) fn next(runs: &[Shape], base: u64) -> Option<Range<usize>> {
    let too_old = runs.iter().rev().take_while(|run| run.is_too_old).count();
    let oldest = runs.len() - too_old..runs.len();
    if too_old > 1 || runs.last().is_some_and(|run| run.is_too_old && run.entries > 0) {
        return Some(oldest);
    }
    let tiers: Vec<u32> = runs.iter().map(|run| tier(run.entries, base)).collect();
    (0..=tiers.iter().copied().max()?).find_map(|tier| {
        // Behind a larger run, smaller ones wait until it is their neighbour's turn.
        let reach = tiers.iter().take_while(|other| **other <= tier);
        let of_tier: Vec<usize> = reach.enumerate().filter(|(_, other)| **other == tier).map(|(at, _)| at).collect();
        match of_tier.as_slice() {
            [first, .., last] if of_tier.len() >= FAN_IN => Some(*first..last + 1),
            _ => None,
        }
    })
}

/// The tier of a run with so many entries. A run that lost up to half of its entries in a merge, because they were too
/// old or repeated, still is in its tier.
fn tier(entries: u64, base: u64) -> u32 {
    (entries.saturating_mul(2) / base.max(1)).max(1).ilog(FAN_IN as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shapes(entries: &[u64]) -> Vec<Shape> {
        entries.iter().map(|entries| Shape { entries: *entries, is_too_old: false }).collect()
    }

    #[test]
    fn eight_of_a_tier_become_one_of_the_next() {
        assert_eq!(next(&[], 100), None);
        assert_eq!(next(&shapes(&[100; 7]), 100), None);
        assert_eq!(next(&shapes(&[100; 8]), 100), Some(0..8));
        assert_eq!(next(&shapes(&[100, 100, 800, 800, 790, 700, 600, 500, 450]), 100), None);
        assert_eq!(next(&shapes(&[100, 800, 800, 790, 100, 700, 600, 500, 450, 800]), 100), Some(1..10));
        assert_eq!(next(&shapes(&[800, 100, 100, 100, 100, 100, 100, 100, 100]), 100), None, "behind a larger one");
    }

    #[test]
    fn the_oldest_are_emptied_when_none_of_their_entries_counts() {
        let run = |entries, is_too_old| Shape { entries, is_too_old };
        assert_eq!(next(&[run(1, false), run(9, true)], 100), Some(1..2));
        assert_eq!(next(&[run(1, false), run(0, true)], 100), None, "it is empty already");
        assert_eq!(next(&[run(1, true), run(0, true)], 100), Some(0..2));
        assert_eq!(next(&[run(1, true), run(9, false)], 100), None, "only once it is the oldest");
    }

    proptest! {
        /// However large the runs are that come, there are few of them, and merging comes to an end.
        #[test]
        fn there_are_few_runs(arrivals in prop::collection::vec(0_u64..400, 1..600), keep in 1_u64..=100) {
            let mut runs: Vec<u64> = Vec::new();
            for arrival in arrivals {
                runs.insert(0, arrival);
                let mut steps = 0;
                while let Some(places) = next(&shapes(&runs), 100) {
                    prop_assert!(places.len() >= FAN_IN && steps < 1_000);
                    let all: u64 = runs[places.clone()].iter().sum();
                    runs.splice(places, [all * keep / 100]);
                    steps += 1;
                }
                prop_assert!(runs.len() <= 60, "{:?}", runs);
            }
        }
    }
}
