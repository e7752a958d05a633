//! The high-water mark outside the database: the newest sequence number that was ever committed.
//!
//! `records.db` holds the mark too, in the transaction of the records it counts. But a write-ahead log that is damaged
//! or cut takes both back to the same earlier moment, in perfect agreement: SQLite ends its recovery at the first
//! frame that does not check, and drops every commit behind it without a word. This second mark, sixteen bytes in a
//! file of their own, written after each commit, is what makes such a loss visible at the next start.
//!
//! It may lag (it is synced about once a second, and never on the commit's path) but never runs ahead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::OpenError;
use super::schema::open_private;

/// The file.
pub(super) const MARK: &str = "high-water.mark";
/// Eight bytes of number, four of checksum, four of zeros: written at once, within one sector.
const MARK_BYTES: usize = 16;

/// The open file.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    path: PathBuf,
    unsynced: AtomicBool,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing was ever written.
    None,
    /// This was the newest record.
    At(i64),
    /// The file does not check.
    Unreadable,
}

impl MarkFile {
    /// Opens the file, made empty if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(MARK);
        let file = open_private(&path).map_err(OpenError::io("cannot open", &path))?;
        Ok(Self { file, path, unsynced: AtomicBool::new(false) })
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says.
    pub(super) fn read(&self) -> io::Result<Mark> {
        read_in(&self.file)
    }

    /// Notes the newest record. A power loss may still take the note back.
    pub(super) fn write(&self, newest: i64) -> io::Result<()> {
        self.file.write_all_at(&encoded(newest), 0)?;
        self.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the latest note durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.unsynced.swap(false, Ordering::AcqRel) { self.file.sync_data() } else { Ok(()) }
    }
}

/// What the mark in this directory says, whose file is neither made nor changed.
pub(super) fn read(dir: &Path) -> Result<Mark, OpenError> {
    let path = dir.join(MARK);
    match File::open(&path).and_then(|file| read_in(&file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::None),
        read => read.map_err(OpenError::io("cannot read", &path)),
    }
}

fn read_in(file: &File) -> io::Result<Mark> {
    if file.metadata()?.len() == 0 {
        return Ok(Mark::None);
    }
    let mut bytes = [0; MARK_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Mark::Unreadable),
        Err(error) => return Err(error),
    }
    let number = i64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default());
    Ok(if bytes == encoded(number) { Mark::At(number) } else { Mark::Unreadable })
}

fn encoded(number: i64) -> [u8; MARK_BYTES] {
    let number = number.to_le_bytes();
    let mut bytes = [0; MARK_BYTES];
    let parts = number.into_iter().chain(crc32fast::hash(&number).to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_flipped_bit_shows() {
        let dir = tempfile::tempdir().unwrap();
        let mark = MarkFile::open(dir.path()).unwrap();
        assert_eq!(mark.read().unwrap(), Mark::None);
        mark.write(42).unwrap();
        mark.sync().unwrap();
        assert_eq!(MarkFile::open(dir.path()).unwrap().read().unwrap(), Mark::At(42));
        for bit in 0..(MARK_BYTES * 8) {
            let mut bytes = encoded(42);
            bytes[bit / 8] ^= 1 << (bit % 8);
            mark.file.write_all_at(&bytes, 0).unwrap();
            assert_eq!(mark.read().unwrap(), Mark::Unreadable, "bit {bit}");
        }
        mark.file.set_len(7).unwrap();
        assert_eq!(mark.read().unwrap(), Mark::Unreadable);
    }
}
