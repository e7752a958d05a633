//! A run: the keys of a range of records, sorted, in a file that never changes. Its filter and its fences are in memory;
//! of its blocks, a look-up reads one at most.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::Seen;
use super::bloom::{Bloom, LINE_BYTES};
use super::error::KeysError;
use super::layout::{self, BLOCK_BYTES, Block, Header, StoreMark};
use crate::store::sqlite::row::DuplicateKey;

/// Blocks that are read at once by whoever reads all of them.
const BLOCKS_AT_ONCE: u64 = 16;

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) filter: Bloom,
    /// The first key of each block.
    pub(super) fences: Vec<DuplicateKey>,
}

impl Run {
    /// Opens a run of this store: reads and checks all but its blocks, which are checked as they are read.
    pub(super) fn open(path: &Path, store: &StoreMark) -> Result<Self, KeysError> {
        let cannot_read = KeysError::io("cannot read", path);
        let file = File::open(path).map_err(KeysError::io("cannot open", path))?;
        let length = file.metadata().map_err(&cannot_read)?.len();
        let mut block = [0; BLOCK_BYTES];
        file.read_exact_at(&mut block, 0).map_err(|error| cut_short(path, error))?;
        let header =
            Header::decode(&block, store).map_err(|unusable| KeysError::damaged(path, unusable.to_string()))?;
        if header.file_bytes() != length {
            return Err(KeysError::damaged(path, format!("has {length} bytes instead of {}", header.file_bytes())));
        }
        // The file is as long as that: memory is asked for no more than there is.
        let mut tail = vec![0; usize::try_from(header.tail_bytes()).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut tail, header.filter_at()).map_err(|error| cut_short(path, error))?;
        if crc32fast::hash(&tail) != header.tail_crc {
            return Err(KeysError::damaged(path, "has a damaged filter"));
        }
        let filter_bytes = usize::try_from(header.filter_lines).unwrap_or(usize::MAX).saturating_mul(LINE_BYTES);
        let (filter, fences) = tail.split_at_checked(filter_bytes).unwrap_or((&tail, &[]));
        let (filter, fences) = (Bloom::of_bytes(filter), fences.as_chunks().0.to_vec());
        Ok(Self { file, path: path.to_owned(), header, filter, fences })
    }

    /// The newest record of the run with this key.
    pub(super) fn find(&self, key: &DuplicateKey) -> Result<Option<Seen>, KeysError> {
        if !self.filter.may_have(key) {
            return Ok(None);
        }
        let Some(block) = self.fences.partition_point(|first| first <= key).checked_sub(1) else { return Ok(None) };
        let block = block as u64;
        let mut bytes = [0; BLOCK_BYTES];
        self.file.read_exact_at(&mut bytes, layout::block_at(block)).map_err(|error| cut_short(&self.path, error))?;
        let entries = self.checked(&bytes, block)?.as_chunks().0;
        let entries = entries.get(..self.header.entries_in(block)).unwrap_or_default();
        let found = entries.binary_search_by(|entry| layout::key_of_entry(entry).cmp(key)).ok();
        Ok(found.and_then(|at| entries.get(at)).map(|entry| layout::decode_entry(entry).1))
    }

    /// What a block holds, if it checks.
    fn checked<'a>(&self, bytes: &'a Block, block: u64) -> Result<&'a [u8], KeysError> {
        layout::checked(bytes, layout::checksum_of(self.range(), block))
            .ok_or_else(|| KeysError::damaged(&self.path, format!("is damaged in block {block}")))
    }

    /// The first and the last record whose keys it has.
    pub(super) const fn range(&self) -> (i64, i64) {
        (self.header.from, self.header.to)
    }

    /// Whether none of its entries counts any more, since all are of records accepted before this moment, in seconds.
    pub(super) const fn is_older_than(&self, horizon: i64) -> bool {
        self.header.newest_accepted_at < horizon
    }

    /// Reads all of it, in order.
    pub(super) const fn entries(&self) -> Entries<'_> {
        Entries { run: self, buffer: Vec::new(), next_block: 0, at: 0 }
    }

    /// What it takes in memory, in bytes.
    #[cfg(test)]
    pub(super) const fn memory_bytes(&self) -> usize {
        self.filter.lines() * LINE_BYTES + self.fences.len() * layout::FENCE_BYTES
    }
}

/// Reads a run from its beginning to its end.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    run: &'a Run,
    /// Entries that were read and checked, and not given out yet from `at` on.
    buffer: Vec<(DuplicateKey, Seen)>,
    next_block: u64,
    at: usize,
}

impl Entries<'_> {
    /// The next entry; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(DuplicateKey, Seen)>, KeysError> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        let entry = self.buffer.get(self.at).copied();
        self.at += usize::from(entry.is_some());
        Ok(entry)
    }

    fn fill(&mut self) -> Result<(), KeysError> {
        self.buffer.clear();
        self.at = 0;
        let header = &self.run.header;
        let end = header.blocks().min(self.next_block + BLOCKS_AT_ONCE);
        let blocks = usize::try_from(end - self.next_block).unwrap_or(0);
        let mut bytes = vec![0; blocks * BLOCK_BYTES];
        self.run
            .file
            .read_exact_at(&mut bytes, layout::block_at(self.next_block))
            .map_err(|error| cut_short(&self.run.path, error))?;
        for block in bytes.as_chunks().0 {
            let entries = self.run.checked(block, self.next_block)?.as_chunks().0;
            self.buffer.extend(entries.iter().take(header.entries_in(self.next_block)).map(layout::decode_entry));
            self.next_block += 1;
        }
        Ok(())
    }
}

fn cut_short(path: &Path, error: io::Error) -> KeysError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return KeysError::damaged(path, "is cut short");
    }
    KeysError::io("cannot read", path)(error)
}
