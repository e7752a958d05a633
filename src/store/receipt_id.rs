//! How a receipt ID leads straight to its record, and tells nobody anything.
//!
//! 24 bytes: the record's sequence number, masked, and 16 random bytes. The mask is the start of
//! HMAC-SHA256(store's secret, random bytes), so that
//!
//! * a store finds the row by its key, without an index over random values;
//! * the ID cannot be guessed: its 128 random bits are compared with the stored ones, in constant time;
//! * two IDs do not tell how many records lie between them.
//!
//! Every engine keeps one secret for its whole life; with another one, no earlier receipt can be found.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::domain::ids::ReceiptId;

/// Bytes of a store's secret.
pub const SECRET_BYTES: usize = 32;

/// Makes receipt IDs, and opens them again.
#[derive(Clone)]
pub struct ReceiptMask(Hmac<Sha256>);

/// What a receipt ID holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmasked {
    /// The sequence number; any number at all if the ID was made up.
    pub seq: u64,
    /// The random bytes, to be compared with the stored ones by [`same`].
    pub random: [u8; 16],
}

impl ReceiptMask {
    /// The mask of a store with this secret.
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        // HMAC fills a short key up with zeros itself; doing it here spares an error that cannot happen.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(secret) {
            *to = *from;
        }
        Self(Hmac::new(&block))
    }

    /// The ID of the record with this sequence number and these random bytes.
    pub fn id_of(&self, seq: u64, random: [u8; 16]) -> ReceiptId {
        let masked = seq ^ self.mask_of(&random);
        let mut bytes = [0; 24];
        for (to, from) in bytes.iter_mut().zip(masked.to_be_bytes().into_iter().chain(random)) {
            *to = from;
        }
        ReceiptId::from_bytes(bytes)
    }

    /// What an ID holds.
    pub fn open(&self, id: &ReceiptId) -> Unmasked {
        let masked = id.as_bytes().first_chunk().copied().unwrap_or_default();
        let random = id.as_bytes().last_chunk().copied().unwrap_or_default();
        Unmasked { seq: u64::from_be_bytes(masked) ^ self.mask_of(&random), random }
    }

    fn mask_of(&self, random: &[u8; 16]) -> u64 {
        let mut hmac = self.0.clone();
        hmac.update(random);
        hmac.finalize().into_bytes().iter().take(8).fold(0, |mask, byte| (mask << 8) | u64::from(*byte))
    }
}

impl std::fmt::Debug for ReceiptMask {
    /// Never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReceiptMask(…)")
    }
}

/// Whether two sixteens of secret bytes are the same, in a time that does not tell where they differ.
pub fn same(a: &[u8; 16], b: &[u8; 16]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mask_is_the_start_of_the_hmac() {
        // RFC 4231 has no key of 32 bytes, so this value was computed once with another implementation:
        // HMAC-SHA256(32 × 0x0b, 16 × 0x00) starts with the eight bytes below.
        let mask = ReceiptMask::new(&[0x0b; SECRET_BYTES]);
        let id = mask.id_of(0, [0; 16]);
        assert_eq!(&id.as_bytes()[..8], &EXPECTED_MASK);
        assert_eq!(&id.as_bytes()[8..], &[0; 16]);
    }

    const EXPECTED_MASK: [u8; 8] = [0x7d, 0x45, 0xcd, 0x19, 0x6b, 0x86, 0x7c, 0x54];

    #[test]
    fn neighbours_look_unrelated() {
        let mask = ReceiptMask::new(&[7; SECRET_BYTES]);
        let (one, two) = (mask.id_of(1, [1; 16]), mask.id_of(2, [2; 16]));
        let differing = one.as_bytes()[..8].iter().zip(&two.as_bytes()[..8]).filter(|(a, b)| a != b).count();
        assert!(differing >= 6, "{differing} of 8 bytes differ");
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(seq in any::<u64>(), random in any::<[u8; 16]>(), secret in any::<[u8; 32]>()) {
            let mask = ReceiptMask::new(&secret);
            prop_assert_eq!(mask.open(&mask.id_of(seq, random)), Unmasked { seq, random });
        }

        #[test]
        fn another_secret_finds_another_record(seq in any::<u64>(), random in any::<[u8; 16]>()) {
            let id = ReceiptMask::new(&[1; SECRET_BYTES]).id_of(seq, random);
            prop_assert_ne!(ReceiptMask::new(&[2; SECRET_BYTES]).open(&id).seq, seq);
        }
    }
}
