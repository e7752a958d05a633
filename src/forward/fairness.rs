//! Who gets the free slots of a destination: the organization with the fewest deliveries under way.
//!
//! So an organization with a million records gets whatever is free while it is alone, and no more than its equal share
//! as soon as another has one. Among equals it goes round, so that more organizations than slots all get their turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Hands out `free` slots one by one, each to whoever has the least by then; among equals the earlier goes first.
/// `under_way` counts what each has already; the answer says how many each gets.
pub fn shares(under_way: &[usize], free: usize) -> Vec<usize> {
    let mut shares = vec![0; under_way.len()];
    let mut least: BinaryHeap<_> =
        under_way.iter().enumerate().map(|(position, load)| Reverse((*load, position))).collect();
    for _ in 0..free {
        let Some(Reverse((load, position))) = least.pop() else { break };
        if let Some(share) = shares.get_mut(position) {
            *share += 1;
        }
        least.push(Reverse((load + 1, position)));
    }
    shares
}

/// Sorts by `key` and begins after the one that was served last, so that ties go round.
pub fn in_turn<T, K: Ord + Copy>(mut all: Vec<T>, last: Option<K>, key: impl Fn(&T) -> K) -> Vec<T> {
    all.sort_by_key(&key);
    let first = last.map_or(0, |last| all.partition_point(|one| key(one) <= last));
    all.rotate_left(first);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_loaded_come_first() {
        assert_eq!(shares(&[0, 0, 0], 7), [3, 2, 2]);
        assert_eq!(shares(&[5, 0], 3), [0, 3]);
        assert_eq!(shares(&[2, 0], 4), [1, 3]);
        assert_eq!(shares(&[9], 4), [4]);
        assert_eq!(shares(&[], 4), [0_usize; 0]);
    }

    #[test]
    fn turns_go_round() {
        let order = |last| in_turn(vec![3, 1, 2], last, |one: &i32| *one);
        assert_eq!(order(None), [1, 2, 3]);
        assert_eq!(order(Some(1)), [2, 3, 1]);
        assert_eq!(order(Some(3)), [1, 2, 3]);
        assert_eq!(order(Some(0)), [1, 2, 3]);
        assert!(in_turn(Vec::<i32>::new(), Some(1), |one| *one).is_empty());
    }

    proptest! {
        #[test]
        fn all_slots_are_given_and_nobody_is_ahead_by_more_than_one(
            under_way in proptest::collection::vec(0_usize..20, 1..20),
            free in 0_usize..64,
        ) {
            let shares = shares(&under_way, free);
            prop_assert_eq!(shares.iter().sum::<usize>(), free);
            let total = |position: usize| under_way[position] + shares[position];
            let least = (0..shares.len()).map(total).min().unwrap();
            let ahead = (0..shares.len()).find(|position| shares[*position] > 0 && total(*position) > least + 1);
            prop_assert_eq!(ahead, None);
        }
    }
}
