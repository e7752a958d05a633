//! How a run lies in its file: a header, blocks of entries, the filter, the fences. Every byte is under a checksum, and
//! the header says how long the file is.
//!
//! ```text
//! header   4,096 bytes: what the run is; the last four are their CRC-32
//! blocks   4,096 bytes each: up to 127 entries, zeros, and the CRC-32 over the run's range, the block's number and these
//! filter   `filter_lines` × 64 bytes
//! fences   the first key of each block, 16 bytes each; the header has the CRC-32 over filter and fences
//! ```
//!
//! An entry is 32 bytes: the key, the record's number, and when it was accepted, in seconds since 1970. Numbers are in
//! little-endian order. A block is as large as a page of memory and lies where one does: a look-up reads one page.

use super::Seen;
use super::bloom::LINE_BYTES;
use crate::store::sqlite::row::DuplicateKey;

/// Bytes of a block, and of the header.
pub(super) const BLOCK_BYTES: usize = 4_096;
/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = 32;
/// Entries of a full block.
pub(super) const BLOCK_ENTRIES: usize = 127;
/// Bytes of a fence.
pub(super) const FENCE_BYTES: usize = size_of::<DuplicateKey>();

const MAGIC: &[u8; 8] = b"SGKEYRUN";
const VERSION: u32 = 1;
const CHECKED_BYTES: usize = BLOCK_BYTES - 4;

/// Which store a run belongs to.
pub(in crate::store::sqlite) type StoreMark = [u8; 32];

/// A block, or the header.
pub(super) type Block = [u8; BLOCK_BYTES];

/// What a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whose it is.
    pub(super) store: StoreMark,
    /// The keys of the records from this one on,
    pub(super) from: i64,
    /// to this one are in it, but for those that were too old to count.
    pub(super) to: i64,
    /// How many there are.
    pub(super) entries: u64,
    /// When the newest of these records was accepted, in seconds since 1970; the smallest number where there is none.
    pub(super) newest_accepted_at: i64,
    /// Lines of the filter.
    pub(super) filter_lines: u64,
    /// The checksum over filter and fences.
    pub(super) tail_crc: u32,
}

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("is no run of duplicate keys")]
    NoRun,
    #[error("has a format that this version does not know")]
    UnknownVersion,
    #[error("has a damaged header")]
    Damaged,
    #[error("belongs to another store")]
    AnotherStores,
}

impl Header {
    /// Blocks of entries.
    pub(super) const fn blocks(&self) -> u64 {
        self.entries.div_ceil(BLOCK_ENTRIES as u64)
    }

    /// Where the filter begins.
    pub(super) const fn filter_at(&self) -> u64 {
        block_at(self.blocks())
    }

    /// How long filter and fences are, in bytes.
    pub(super) const fn tail_bytes(&self) -> u64 {
        self.filter_lines
            .saturating_mul(LINE_BYTES as u64)
            .saturating_add(self.blocks().saturating_mul(FENCE_BYTES as u64))
    }

    /// How long the file is, in bytes.
    pub(super) const fn file_bytes(&self) -> u64 {
        self.filter_at().saturating_add(self.tail_bytes())
    }

    /// How many entries a block has.
    pub(super) fn entries_in(&self, block: u64) -> usize {
        let before = block.saturating_mul(BLOCK_ENTRIES as u64);
        usize::try_from(self.entries.saturating_sub(before)).unwrap_or(usize::MAX).min(BLOCK_ENTRIES)
    }

    /// The header as it stands in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.tail_crc.to_le_bytes());
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.from.to_le_bytes());
        bytes.extend_from_slice(&self.to.to_le_bytes());
        bytes.extend_from_slice(&self.entries.to_le_bytes());
        bytes.extend_from_slice(&self.newest_accepted_at.to_le_bytes());
        bytes.extend_from_slice(&self.filter_lines.to_le_bytes());
        bytes.resize(CHECKED_BYTES, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The header of this store that these bytes are.
    pub(super) fn decode(block: &Block, store: &StoreMark) -> Result<Self, Unusable> {
        let mut rest = block.strip_prefix(MAGIC.as_slice()).ok_or(Unusable::NoRun)?;
        if u32::from_le_bytes(take(&mut rest)) != VERSION {
            return Err(Unusable::UnknownVersion);
        }
        if checked(block, Checksum::new()).is_none() {
            return Err(Unusable::Damaged);
        }
        let tail_crc = u32::from_le_bytes(take(&mut rest));
        let header = Self {
            tail_crc,
            store: take(&mut rest),
            from: i64::from_le_bytes(take(&mut rest)),
            to: i64::from_le_bytes(take(&mut rest)),
            entries: u64::from_le_bytes(take(&mut rest)),
            newest_accepted_at: i64::from_le_bytes(take(&mut rest)),
            filter_lines: u64::from_le_bytes(take(&mut rest)),
        };
        if header.store != *store {
            return Err(Unusable::AnotherStores);
        }
        if header.from < 1 || header.to < header.from {
            return Err(Unusable::Damaged);
        }
        Ok(header)
    }
}

/// Where a block begins.
pub(super) const fn block_at(block: u64) -> u64 {
    (BLOCK_BYTES as u64).saturating_mul(block.saturating_add(1))
}

/// The beginning of a block's checksum: a block that stands in another's place does not check.
pub(super) type Checksum = crc32fast::Hasher;

/// Starts the checksum of a block of the run with this range.
pub(super) fn checksum_of((from, to): (i64, i64), block: u64) -> Checksum {
    let mut checksum = Checksum::new();
    let mut place = [0; 24];
    for (to, from) in place.iter_mut().zip([from.to_le_bytes(), to.to_le_bytes(), block.to_le_bytes()].as_flattened()) {
        *to = *from;
    }
    checksum.update(&place);
    checksum
}

/// Ends a block: zeros to its end, and the checksum. The block begins at `start` of `bytes`.
pub(super) fn close_block(bytes: &mut Vec<u8>, start: usize, mut checksum: Checksum) {
    bytes.resize(start + CHECKED_BYTES, 0);
    checksum.update(bytes.get(start..).unwrap_or_default());
    bytes.extend_from_slice(&checksum.finalize().to_le_bytes());
}

/// What the block holds, if it checks.
pub(super) fn checked(block: &Block, mut checksum: Checksum) -> Option<&[u8]> {
    let (content, crc) = block.split_last_chunk::<4>()?;
    checksum.update(content);
    (checksum.finalize() == u32::from_le_bytes(*crc)).then_some(content)
}

/// Writes an entry.
pub(super) fn encode_entry(bytes: &mut Vec<u8>, key: &DuplicateKey, seen: Seen) {
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&seen.seq.to_le_bytes());
    bytes.extend_from_slice(&seen.accepted_at_seconds.to_le_bytes());
}

/// Reads an entry.
pub(super) fn decode_entry(entry: &[u8; ENTRY_BYTES]) -> (DuplicateKey, Seen) {
    let mut rest = entry.as_slice();
    let key = take(&mut rest);
    let seq = i64::from_le_bytes(take(&mut rest));
    (key, Seen { seq, accepted_at_seconds: i64::from_le_bytes(take(&mut rest)) })
}

/// The key of an entry.
pub(super) fn key_of_entry(entry: &[u8; ENTRY_BYTES]) -> DuplicateKey {
    take(&mut entry.as_slice())
}

/// Takes so many bytes; zeros where there are none, which the layout excludes.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk::<N>() {
        Some((taken, left)) => {
            *rest = left;
            *taken
        }
        None => [0; N],
    }
}
