//! A Bloom filter in lines of a processor's cache: says of most keys that a run does not have them, without a look at
//! the disk, at the price of one access to memory.
//!
//! The key's own bits say which line and which seven bits in it: a key is the start of a SHA-256, nothing needs to be
//! mixed. The line goes by the first bytes, in their order, so that a filter that is filled in the order of the keys is
//! written from its beginning to its end. Keys that were chosen to fall into one line make that line say yes too often,
//! which costs a look at the disk and nothing else.

use crate::store::sqlite::row::DuplicateKey;

/// Bytes of a line.
pub(super) const LINE_BYTES: usize = 64;
/// Bits of a line.
const LINE_BITS: u64 = 512;
/// Bits that a key sets: nine bits of the key for each, so that eight bytes are enough.
const PROBES: u32 = 7;

/// One line, where a line of the cache is.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

/// The filter.
#[derive(Debug)]
pub(super) struct Bloom(Vec<Line>);

impl Bloom {
    /// An empty filter for so many keys.
    pub(super) fn for_keys(keys: u64) -> Self {
        let lines = keys.saturating_mul(bits_per_key(keys)).div_ceil(LINE_BITS).max(1);
        Self(vec![Line::default(); usize::try_from(lines).unwrap_or(usize::MAX)])
    }

    /// How many lines it has.
    pub(super) const fn lines(&self) -> usize {
        self.0.len()
    }

    /// Puts a key in.
    pub(super) fn add(&mut self, key: &DuplicateKey) {
        let place = self.place(key);
        if let Some(line) = self.0.get_mut(place) {
            for (word, bit) in probes(key) {
                if let Some(word) = line.0.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    /// Whether the key may have been put in. False is certain.
    pub(super) fn may_have(&self, key: &DuplicateKey) -> bool {
        let Some(line) = self.0.get(self.place(key)) else { return false };
        probes(key).all(|(word, bit)| line.0.get(word).is_some_and(|word| word & bit != 0))
    }

    /// The filter as bytes.
    pub(super) fn to_bytes(&self) -> impl Iterator<Item = [u8; 8]> {
        self.0.iter().flat_map(|line| line.0).map(u64::to_le_bytes)
    }

    /// The filter of these bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let line = |bytes: &[u8; LINE_BYTES]| {
            let mut line = Line::default();
            for (word, bytes) in line.0.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            line
        };
        Self(bytes.as_chunks().0.iter().map(line).collect())
    }

    /// The key's line.
    fn place(&self, key: &DuplicateKey) -> usize {
        let first = u64::from_be_bytes(key.first_chunk().copied().unwrap_or_default());
        let place = (u128::from(first) * self.0.len() as u128) >> 64;
        usize::try_from(place).unwrap_or(usize::MAX)
    }
}

/// The bits of a key in its line: which word, and which bit of it.
fn probes(key: &DuplicateKey) -> impl Iterator<Item = (usize, u64)> + use<> {
    let bits = u64::from_le_bytes(key.last_chunk().copied().unwrap_or_default());
    (0..PROBES).map(move |probe| {
        let at = (bits >> (9 * probe)) & (LINE_BITS - 1);
        ((at >> 6) as usize, 1 << (at & 63))
    })
}

/// The fewer keys a run has, the cheaper it is to be nearly always right about it; and there are more small runs than
/// large ones. About one key in 5,000, in 500 and in 200 is looked for in vain.
const fn bits_per_key(keys: u64) -> u64 {
    match keys {
        0..=200_000 => 20,
        200_001..=1_000_000 => 14,
        _ => 12,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::sqlite::keys::tests::key_of;

    proptest! {
        #[test]
        fn what_was_put_in_is_found(keys in prop::collection::vec(any::<DuplicateKey>(), 0..300), of in 1_u64..400) {
            let mut filter = Bloom::for_keys(of);
            for key in &keys {
                filter.add(key);
            }
            let bytes: Vec<u8> = filter.to_bytes().flatten().collect();
            prop_assert_eq!(bytes.len(), filter.lines() * LINE_BYTES);
            let read = Bloom::of_bytes(&bytes);
            for key in &keys {
                prop_assert!(filter.may_have(key) && read.may_have(key));
            }
        }
    }

    #[test]
    fn few_others_are_suspected() {
        for (keys, at_most_in_100_000) in [(50_000, 60), (400_000, 400), (1_200_000, 900)] {
            let mut filter = Bloom::for_keys(keys);
            for n in 0..keys {
                filter.add(&key_of(n));
            }
            let suspected = (0..100_000).filter(|n| filter.may_have(&key_of(1_000_000_000 + n))).count();
            println!("{keys} keys: {suspected} of 100,000 others are suspected");
            assert!(suspected <= at_most_in_100_000, "{keys} keys: {suspected}");
        }
    }
}
