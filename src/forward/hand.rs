//! What the forwarder has in hand: records on lease, of one organization and for one destination, whose turn is next.
//!
//! Leasing is a write to the disk, so it is done by the page and not for each request. What was leased waits here for a free
//! place, for milliseconds as a rule; what waits for longer goes back to the store ([`HAND_TIME`]).
//!
//! Some records belong together: those of a batch that failed, which is to come again as the same message, and those of
//! one that was refused, which is tried in halves. They stand before the fresh ones and do not mix with them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::config::settings::BatchSettings;
use crate::domain::ids::ReceiptId;
use crate::store::Leased;

/// So long a leased record may wait for its turn; then it is given back, untried.
pub const HAND_TIME: Duration = Duration::from_secs(15);
/// So many records are remembered as belonging together. Beyond that, failed batches may come again in other company.
const MAX_TOGETHER: usize = 65_536;

/// The records of one organization for one destination.
#[derive(Debug, Default)]
pub struct Hand {
    groups: VecDeque<Vec<Leased>>,
    fresh: VecDeque<Leased>,
    /// Bytes of details of the fresh ones.
    fresh_bytes: usize,
}

impl Hand {
    /// Adds a record behind the others.
    pub fn add(&mut self, leased: Leased) {
        self.fresh_bytes += size(&leased);
        self.fresh.push_back(leased);
    }

    /// Adds records that belong together, behind others of that kind.
    pub fn add_group(&mut self, records: Vec<Leased>) {
        if !records.is_empty() {
            self.groups.push_back(records);
        }
    }

    /// Records that belong together and come first.
    pub fn put_first(&mut self, records: Vec<Leased>) {
        if !records.is_empty() {
            self.groups.push_front(records);
        }
    }

    /// Puts back what did not fit into a message.
    pub fn put_back(&mut self, taken: Taken) {
        match taken {
            Taken::Group(records) => self.put_first(records),
            Taken::Fresh(records) => {
                for leased in records.into_iter().rev() {
                    self.fresh_bytes += size(&leased);
                    self.fresh.push_front(leased);
                }
            }
        }
    }

    /// Whether a message may leave. With batches, one that is not full waits while another of the organization is under
    /// way (`alone` says that none is): what gathers meanwhile travels with it, and no clock has to say when it leaves.
    pub fn is_ready(&self, batch: &BatchSettings, alone: bool) -> bool {
        !self.groups.is_empty()
            || self.fresh.len() >= batch.max_events.get()
            || self.fresh_bytes >= batch.max_bytes
            || (alone && !self.fresh.is_empty())
    }

    /// How many messages it holds, the last of them perhaps not full.
    pub fn messages(&self, max_events: usize) -> usize {
        self.groups.len() + self.fresh.len().div_ceil(max_events.max(1))
    }

    /// How many records it holds.
    pub fn records(&self) -> usize {
        self.fresh.len() + self.groups.iter().map(Vec::len).sum::<usize>()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.fresh.is_empty()
    }

    /// Takes the records of the next message, at most so many.
    pub fn take(&mut self, max_events: usize) -> Taken {
        if let Some(mut group) = self.groups.pop_front() {
            let rest = group.split_off(max_events.min(group.len()));
            self.put_first(rest);
            return Taken::Group(group);
        }
        let taken: Vec<Leased> = self.fresh.drain(..max_events.min(self.fresh.len())).collect();
        self.fresh_bytes -= taken.iter().map(size).sum::<usize>();
        Taken::Fresh(taken)
    }

    /// Everything, if one of the records that stand first is such, for they were leased first.
    pub fn empty_if(&mut self, is_such: impl Fn(&Leased) -> bool) -> Vec<Leased> {
        let first = self.groups.front().and_then(|group| group.first()).into_iter().chain(self.fresh.front());
        let found = first.into_iter().any(is_such);
        if found { self.empty().collect() } else { Vec::new() }
    }

    /// Everything, to be given back.
    pub fn empty(&mut self) -> impl Iterator<Item = Leased> {
        self.fresh_bytes = 0;
        std::mem::take(&mut self.groups).into_iter().flatten().chain(std::mem::take(&mut self.fresh))
    }
}

fn size(leased: &Leased) -> usize {
    leased.record.details.as_bytes().len()
}

/// Records that were taken for a message.
#[derive(Debug)]
pub enum Taken {
    /// They belong together.
    Group(Vec<Leased>),
    /// They only stood next to each other.
    Fresh(Vec<Leased>),
}

impl Taken {
    /// The records.
    pub const fn records_mut(&mut self) -> &mut Vec<Leased> {
        match self {
            Self::Group(records) | Self::Fresh(records) => records,
        }
    }

    /// The records from this one on, as what they were taken for.
    pub fn split_off(&mut self, at: usize) -> Self {
        let records = self.records_mut();
        let rest = records.split_off(at.min(records.len()));
        match self {
            Self::Group(_) => Self::Group(rest),
            Self::Fresh(_) => Self::Fresh(rest),
        }
    }

    /// The records.
    pub fn into_records(self) -> Vec<Leased> {
        match self {
            Self::Group(records) | Self::Fresh(records) => records,
        }
    }
}

/// Which records belong together, by receipt, also while they are not in hand.
#[derive(Debug, Default)]
pub struct Groups {
    of: HashMap<ReceiptId, u64>,
    last: u64,
}

impl Groups {
    /// These belong together, and to nobody else, from now on. More than can be remembered are not.
    pub fn keep_together(&mut self, records: &[Leased]) {
        if self.of.len() + records.len() <= MAX_TOGETHER {
            self.part(records);
        }
    }

    /// The same, whatever is remembered already: the halves of a batch that was refused. There are never more of them than
    /// are under way.
    pub fn part(&mut self, records: &[Leased]) {
        self.last += 1;
        self.of.extend(records.iter().map(|leased| (leased.record.receipt, self.last)));
    }

    /// Nothing more will come of these.
    pub fn forget(&mut self, records: &[Leased]) {
        if !self.of.is_empty() {
            for leased in records {
                self.of.remove(&leased.record.receipt);
            }
        }
    }

    /// Sorts what was leased into a hand.
    pub fn sort(&self, leased: Vec<Leased>, hand: &mut Hand) {
        let mut groups: BTreeMap<u64, Vec<Leased>> = BTreeMap::new();
        for leased in leased {
            match self.of.get(&leased.record.receipt) {
                Some(group) => groups.entry(*group).or_default().push(leased),
                None => hand.add(leased),
            }
        }
        groups.into_values().for_each(|group| hand.add_group(group));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.of.clear();
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing_queue::testing::samples::{self, ACCEPTED_AT, receipt};
    use crate::store::{LaneId, LeaseToken};
    use std::num::NonZeroUsize;

    fn leased(number: u16) -> Leased {
        let (record, token) = (samples::record(number), LeaseToken([0; 16]));
        Leased { record, lane: LaneId(1), token, until: ACCEPTED_AT, attempt: 1 }
    }

    fn hand_of(numbers: impl IntoIterator<Item = u16>) -> Hand {
        let mut hand = Hand::default();
        numbers.into_iter().for_each(|number| hand.add(leased(number)));
        hand
    }

    fn receipts(taken: Taken) -> Vec<ReceiptId> {
        taken.into_records().iter().map(|leased| leased.record.receipt).collect()
    }

    fn batch(max_events: usize, max_bytes: usize) -> BatchSettings {
        BatchSettings { max_events: NonZeroUsize::new(max_events).unwrap(), max_bytes }
    }

    #[test]
    fn what_belongs_together_goes_first_and_alone() {
        let mut groups = Groups::default();
        groups.keep_together(&[leased(2), leased(4)]);
        groups.keep_together(&[leased(5)]);
        let mut hand = Hand::default();
        groups.sort((1..=6).map(leased).collect(), &mut hand);
        assert_eq!((hand.records(), hand.messages(2)), (6, 4));
        let taken: Vec<_> = std::iter::from_fn(|| (!hand.is_empty()).then(|| receipts(hand.take(2)))).collect();
        assert_eq!(
            taken,
            [vec![2, 4], vec![5], vec![1, 3], vec![6]]
                .map(|numbers| numbers.into_iter().map(receipt).collect::<Vec<_>>())
        );
        groups.forget(&[leased(2), leased(4), leased(5)]);
        assert_eq!(groups.remembered(), 0);
    }

    #[test]
    fn what_did_not_fit_keeps_its_place() {
        let mut hand = hand_of(1..=5);
        let mut taken = hand.take(4);
        hand.put_back(taken.split_off(1));
        assert_eq!(receipts(taken), [receipt(1)]);
        assert_eq!(receipts(hand.take(9)), [2, 3, 4, 5].map(receipt));
        assert!(hand.is_empty() && hand.fresh_bytes == 0);
        hand.put_first(vec![leased(7), leased(8)]);
        let mut taken = hand.take(2);
        hand.put_back(taken.split_off(1));
        assert_eq!((receipts(taken), receipts(hand.take(1))), (vec![receipt(7)], vec![receipt(8)]));
    }

    #[test]
    fn a_batch_that_is_not_full_waits_for_the_one_under_way() {
        let (single, three) = (batch(1, 1_000), batch(3, 1_000));
        assert!(hand_of([1]).is_ready(&single, false));
        assert!(hand_of([1]).is_ready(&three, true) && !hand_of([1]).is_ready(&three, false));
        assert!(hand_of(1..=3).is_ready(&three, false), "full by number");
        assert!(hand_of([1]).is_ready(&batch(3, 5), false), "full by size");
        assert!(!Hand::default().is_ready(&single, true));
        let mut repeated = Hand::default();
        repeated.put_first(vec![leased(1)]);
        assert!(repeated.is_ready(&three, false), "it is what it is");
    }

    #[test]
    fn the_memory_of_what_belongs_together_has_an_end() {
        let mut groups = Groups { of: (0..u16::MAX).map(|number| (receipt(number), 0)).collect(), last: 0 };
        groups.keep_together(&[leased(u16::MAX), leased(1), leased(2)]);
        assert_eq!(groups.remembered(), usize::from(u16::MAX));
        groups.part(&[leased(u16::MAX)]);
        assert_eq!(groups.remembered(), MAX_TOGETHER);
    }
}
