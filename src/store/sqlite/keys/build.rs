//! Makes a run: under another name, entry by entry in the order of their keys, synced piece by piece, and given its name
//! only when all of it is on disk. A run that was not finished is a draft, which the next start removes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Seen;
use super::bloom::Bloom;
use super::directory::{DRAFT_SUFFIX, file_name};
use super::error::KeysError;
use super::layout::{self, BLOCK_ENTRIES, Header, StoreMark};
use super::run::Run;
use crate::store::sqlite::row::DuplicateKey;
use crate::store::sqlite::schema::with_suffix;

/// Bytes that are written and synced at once. Small, so that the disk is never held up for long by what nobody waits
/// for.
const PIECE_BYTES: usize = 2 << 20;

/// A run that is being made.
#[derive(Debug)]
pub(super) struct RunBuilder {
    file: File,
    path: PathBuf,
    draft: Option<PathBuf>,
    header: Header,
    filter: Bloom,
    fences: Vec<DuplicateKey>,
    /// What was not written yet.
    buffer: Vec<u8>,
    /// Where in the buffer the last block begins, and how many entries it has.
    block: (usize, usize),
    written: u64,
    last: Option<DuplicateKey>,
}

impl RunBuilder {
    /// Starts a run of the records from the first to the second number, with at most so many entries.
    pub(super) fn create(
        dir: &Path,
        store: &StoreMark,
        (from, to): (i64, i64),
        at_most_entries: u64,
    ) -> Result<Self, KeysError> {
        let path = dir.join(file_name(from, to));
        let draft = with_suffix(&path, DRAFT_SUFFIX);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .map_err(KeysError::io("cannot make", &draft))?;
        let header =
            Header { store: *store, from, to, entries: 0, newest_accepted_at: i64::MIN, filter_lines: 0, tail_crc: 0 };
        Ok(Self {
            file,
            path,
            draft: Some(draft),
            header,
            filter: Bloom::for_keys(at_most_entries),
            fences: Vec::new(),
            buffer: Vec::with_capacity(PIECE_BYTES.min(layout::BLOCK_BYTES * (1 + at_most_blocks(at_most_entries)))),
            block: (0, BLOCK_ENTRIES),
            written: layout::block_at(0),
            last: None,
        })
    }

    /// Puts an entry behind those that are there. Answers whether a piece was written, which is a good moment for
    /// something else.
    pub(super) fn add(&mut self, key: &DuplicateKey, seen: Seen) -> Result<bool, KeysError> {
        if self.last.is_some_and(|last| last >= *key) {
            return Err(KeysError::damaged(&self.path, "would not be in order: a run that goes into it is not"));
        }
        self.last = Some(*key);
        let mut wrote = false;
        if self.block.1 == BLOCK_ENTRIES {
            self.close_block();
            if self.buffer.len() >= PIECE_BYTES {
                self.write_piece()?;
                wrote = true;
            }
            self.fences.push(*key);
            self.block = (self.buffer.len(), 0);
        }
        self.filter.add(key);
        layout::encode_entry(&mut self.buffer, key, seen);
        self.block.1 += 1;
        self.header.entries += 1;
        self.header.newest_accepted_at = self.header.newest_accepted_at.max(seen.accepted_at_seconds);
        Ok(wrote)
    }

    /// Ends the run, makes it durable and opens it.
    pub(super) fn finish(mut self) -> Result<Run, KeysError> {
        self.close_block();
        self.write_piece()?;
        self.header.filter_lines = self.filter.lines() as u64;
        let mut tail = crc32fast::Hasher::new();
        let mut bytes = Vec::with_capacity(PIECE_BYTES);
        let fences = std::mem::take(&mut self.fences);
        let filter = std::mem::replace(&mut self.filter, Bloom::for_keys(0));
        for part in filter.to_bytes().chain(fences.as_flattened().as_chunks().0.iter().copied()) {
            bytes.extend_from_slice(&part);
            if bytes.len() >= PIECE_BYTES {
                tail.update(&bytes);
                self.write(&bytes)?;
                bytes.clear();
            }
        }
        tail.update(&bytes);
        self.write(&bytes)?;
        self.header.tail_crc = tail.finalize();
        self.file.write_all_at(&self.header.encode(), 0).map_err(KeysError::io("cannot write", &self.path))?;
        self.file.sync_all().map_err(KeysError::io("cannot sync", &self.path))?;
        if let Some(draft) = &self.draft {
            fs::rename(draft, &self.path).map_err(KeysError::io("cannot put in place", &self.path))?;
        }
        self.draft = None;
        if let Some(dir) = self.path.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(KeysError::io("cannot sync", dir))?;
        }
        let file = File::open(&self.path).map_err(KeysError::io("cannot open", &self.path))?;
        Ok(Run { file, path: std::mem::take(&mut self.path), header: self.header, filter, fences })
    }

    fn close_block(&mut self) {
        if let Some(block) = (self.fences.len() as u64).checked_sub(1) {
            let checksum = layout::checksum_of((self.header.from, self.header.to), block);
            layout::close_block(&mut self.buffer, self.block.0, checksum);
        }
    }

    /// Writes the blocks that are closed, and syncs them.
    fn write_piece(&mut self) -> Result<(), KeysError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)?;
        buffer.clear();
        self.buffer = buffer;
        self.file.sync_data().map_err(KeysError::io("cannot sync", &self.path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), KeysError> {
        self.file.write_all_at(bytes, self.written).map_err(KeysError::io("cannot write", &self.path))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for RunBuilder {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // Whatever is left is removed at the next start.
            let _left = fs::remove_file(draft);
        }
    }
}

fn at_most_blocks(entries: u64) -> usize {
    usize::try_from(entries.div_ceil(BLOCK_ENTRIES as u64)).unwrap_or(usize::MAX / layout::BLOCK_BYTES - 1)
}
