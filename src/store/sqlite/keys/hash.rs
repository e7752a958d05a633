//! The hash of a key in memory. A key is the start of a SHA-256, so it is mixed already, but whoever may send records can
//! look for keys whose bits agree and make a table slow with them. A multiplication with numbers that nobody outside
//! knows prevents that, at a fraction of what the standard hash costs.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers that agree with each other; every table has its own numbers.
#[derive(Debug, Clone)]
pub(in crate::store::sqlite) struct KeyHash([u64; 2]);

impl Default for KeyHash {
    fn default() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(0_u8), random.hash_one(1_u8)])
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { secret: self.0, state: 0 }
    }
}

/// Two to the power of 64, divided by the golden ratio: an odd number without a pattern in its bits.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hashes one key.
#[derive(Debug)]
pub(in crate::store::sqlite) struct KeyHasher {
    secret: [u64; 2],
    state: u64,
}

impl KeyHasher {
    fn mix(&mut self, low: u64, high: u64) {
        let [first, second] = self.secret;
        let product = u128::from(low ^ first).wrapping_mul(u128::from(high ^ second ^ self.state));
        let (low, high) = halves(product.to_le_bytes());
        self.state = low ^ high;
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<16>();
        for chunk in chunks {
            let (low, high) = halves(*chunk);
            self.mix(low, high);
        }
        for byte in rest {
            self.mix(u64::from(*byte), 0);
        }
    }

    /// How long a key is says nothing: all are.
    fn write_usize(&mut self, _length: usize) {}

    /// Mixed once more: with some secrets one multiplication leaves keys that share half their bits in few places.
    fn finish(&self) -> u64 {
        let mixed = (self.state ^ (self.state >> 32)).wrapping_mul(ODD);
        mixed ^ (mixed >> 32)
    }
}

/// The first eight bytes and the last eight, as numbers.
fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let low = bytes.first_chunk().copied().unwrap_or_default();
    let high = bytes.last_chunk().copied().unwrap_or_default();
    (u64::from_le_bytes(low), u64::from_le_bytes(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_agree_within_a_table_and_not_between_tables() {
        let (one, other) = (KeyHash::default(), KeyHash::default());
        let key = |n: u8| [n; 16];
        assert_eq!(one.hash_one(key(1)), one.hash_one(key(1)));
        assert_ne!(one.hash_one(key(1)), one.hash_one(key(2)));
        assert_ne!(one.hash_one(key(1)), other.hash_one(key(1)));
    }

    #[test]
    fn keys_that_share_half_their_bits_spread() {
        // One secret in ten was a bad one once.
        for _ in 0..200 {
            let hash = KeyHash::default();
            let mut places = std::collections::HashSet::new();
            for n in 0..4_096_u64 {
                let mut key = [7; 16];
                key[8..].copy_from_slice(&n.to_be_bytes());
                places.insert(hash.hash_one(key) % 65_536);
            }
            // As many as chance would leave, and some room.
            assert!(places.len() > 3_800, "{} places", places.len());
        }
    }
}
