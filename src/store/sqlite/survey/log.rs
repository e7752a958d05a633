//! The write-ahead log, looked at from outside: does it end where SQLite stops reading it?
//!
//! Each frame's checksum goes on from the one before, so SQLite reads up to the first frame that does not check and drops
//! all behind it, without a word: a torn end is what a power loss leaves. But only one commit is under way at a time, and
//! the next begins when its sync has returned. Where more than one commit stands behind the break, at least one of them
//! had been synced, and was damaged since. Records that are lost that way show by the high-water marks; that settlements
//! are taken back, so that records are delivered again, shows here alone.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::store::sqlite::error::OpenError;

pub(super) const HEADER_BYTES: usize = 32;
/// How a log begins; the lowest bit says in which order its words are summed up.
const MAGIC: u32 = 0x377f_0682;
const FRAME_HEADER_BYTES: usize = 24;

/// A log that goes on behind the place where it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sqlite) struct Break {
    /// Where, in bytes.
    pub(in crate::store::sqlite) at: usize,
    /// Commits that stand behind it, and are not read.
    pub(in crate::store::sqlite) commits: u64,
}

impl Break {
    /// Whether it is more than a commit that was cut short.
    pub(in crate::store::sqlite) const fn is_damage(self) -> bool {
        self.commits > 1
    }
}

/// Looks at a log whose database has pages of this size.
pub(in crate::store::sqlite) fn look(path: &Path, page_bytes: usize) -> Result<Option<Break>, OpenError> {
    let read = File::open(path).and_then(|mut file| {
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take((HEADER_BYTES + FRAME_HEADER_BYTES) as u64).read_to_end(&mut bytes)?;
        // One that was filled beforehand and never written to is long, and says nothing.
        if bytes.iter().any(|byte| *byte != 0) {
            file.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    });
    match read {
        Ok(bytes) => Ok(broken(&bytes, page_bytes)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(OpenError::io("cannot read", path)(fault)),
    }
}

/// The running checksum of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    first: u32,
    second: u32,
    big_endian: bool,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
            let [one, other] = pair.map(|word| match self.big_endian {
                true => u32::from_be_bytes(word),
                false => u32::from_le_bytes(word),
            });
            self.first = self.first.wrapping_add(one).wrapping_add(self.second);
            self.second = self.second.wrapping_add(other).wrapping_add(self.first);
        }
    }

    fn is(self, bytes: &[u8], at: usize) -> bool {
        (number(bytes, at), number(bytes, at + 4)) == (Some(self.first), Some(self.second))
    }
}

/// Whether these are the first bytes of a log that SQLite reads. With any other it goes by the database file alone.
pub(super) fn begins(header: &[u8; HEADER_BYTES]) -> bool {
    let magic = number(header, 0).unwrap_or_default();
    let page_bytes = number(header, 8).unwrap_or_default();
    let mut sum = Sum { big_endian: magic & 1 == 1, ..Sum::default() };
    sum.add(header.get(..24).unwrap_or_default());
    magic & !1 == MAGIC && page_bytes.is_power_of_two() && (512..=65_536).contains(&page_bytes) && sum.is(header, 24)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn broken(log: &[u8], page_bytes: usize) -> Option<Break> {
    let (header, frames) = log.split_at_checked(HEADER_BYTES)?;
    let mut is_read = begins(header.first_chunk()?);
    let mut sum = Sum { big_endian: number(header, 0)? & 1 == 1, ..Sum::default() };
    sum.add(header.get(..24)?);
    // The salts of the log's present round. Frames of earlier rounds have others.
    let salts = if is_read { header.get(16..24)? } else { frames.get(8..16)? };
    if salts.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut found = (!is_read).then_some(Break { at: 0, commits: 0 });
    let frames = frames.chunks_exact(FRAME_HEADER_BYTES + page_bytes);
    for (at, frame) in (HEADER_BYTES..).step_by(FRAME_HEADER_BYTES + page_bytes).zip(frames) {
        let is_of_round = frame.get(8..16) == Some(salts);
        if is_read {
            sum.add(frame.get(..8)?);
            sum.add(frame.get(FRAME_HEADER_BYTES..)?);
            is_read = is_of_round && sum.is(frame, 16);
            if is_read {
                continue;
            }
            found = Some(Break { at, commits: 0 });
        }
        if let Some(found) = found.as_mut().filter(|_| is_of_round && number(frame, 4) != Some(0)) {
            found.commits += 1;
        }
    }
    found.filter(|found| found.commits > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_break_in_the_middle_shows_and_an_end_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let conn = Connection::open(dir.path().join("some.db")).unwrap();
        conn.execute_batch("pragma journal_mode = wal; pragma wal_autocheckpoint = 0; create table t (n integer)")
            .unwrap();
        let path = dir.path().join("some.db-wal");
        let mut commit = |n: i64| {
            conn.execute("insert into t values (?1)", [n]).unwrap();
            fs::metadata(&path).unwrap().len() as usize
        };
        let ends: Vec<usize> = (1..=5).map(&mut commit).collect();
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), ends[4]);
        assert_eq!(broken(&whole, 4_096), None);
        assert_eq!(broken(&[whole.as_slice(), &[0; 9_000]].concat(), 4_096), None);
        for cut in (0..whole.len()).step_by(61) {
            assert_eq!(broken(&whole[..cut], 4_096), None, "cut at {cut}");
        }
        for (n, end) in ends.iter().enumerate() {
            let mut flipped = whole.clone();
            flipped[end - 7] ^= 1;
            // The frame that is broken, and those behind it.
            let found = broken(&flipped, 4_096).unwrap();
            assert_eq!(found, Break { at: end - 4_096 - FRAME_HEADER_BYTES, commits: 5 - n as u64 });
            assert_eq!(found.is_damage(), n < 4);
        }
        let mut flipped = whole;
        flipped[9] ^= 1;
        assert_eq!(broken(&flipped, 4_096).map(|found| found.at), Some(0));
    }
}
