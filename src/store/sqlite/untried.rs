//! Untried: records that are pending and were never handed out. They need no row that says so.
//!
//! Each lane has a moment in its own order, `untried_from`: its records from that number on are untried, all before it
//! are in some other state and have a row there. Handing records out in order of arrival moves the number on. So an
//! append writes nothing but the record, however many lanes there are, and a backlog of millions costs a few bytes a
//! record.
//!
//! Which numbers belong to a lane is remembered here, for the newest records; those of older ones are listed in the table
//! `untried`, in chunks, and are read back when their turn comes. Every untried record up to `meta.listed_to` is in a
//! chunk; a start finds the rest in the blocks behind it.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, params};

use super::batch::Tally;
use super::block;
use crate::store::LaneId;

/// Untried records in memory at which they are listed in chunks.
pub(super) const LIST_AT_RECORDS: usize = if cfg!(test) { 32 } else { 16_384 };
/// Records in a chunk at most.
const CHUNK_RECORDS: usize = if cfg!(test) { 8 } else { 4_096 };

/// The untried records of all lanes.
#[derive(Debug, Default)]
pub(super) struct Untried {
    lines: HashMap<LaneId, Line>,
    /// How many are in no chunk.
    unlisted: usize,
}

/// Those of one lane, in order: what was read back, then the chunks on disk, then what is in no chunk.
#[derive(Debug, Default)]
struct Line {
    from: i64,
    loaded: VecDeque<i64>,
    /// The last numbers of the chunks that `loaded` was read from.
    loaded_ends: VecDeque<i64>,
    /// Chunks that were not read back yet, and the first number that the next of them may begin with.
    chunks: usize,
    next_chunk: i64,
    tail: VecDeque<i64>,
}

/// Where a lane's oldest untried record is, as far as is known without asking the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Front {
    /// There is none.
    #[default]
    None,
    /// It is this one.
    At(i64),
    /// It is the first one from this number on in the lane's chunks.
    Listed(i64),
}

/// What a batch takes out of a lane's untried records, from the front.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// How many.
    pub(super) count: usize,
    /// The number of the last one.
    pub(super) last: i64,
}

/// What a batch did to the untried records.
#[derive(Debug, Default)]
pub(super) struct UntriedChanges {
    /// Came in, in order.
    pub(super) new: Vec<(LaneId, i64)>,
    /// Left.
    pub(super) taken: HashMap<LaneId, Taken>,
    /// How many chunks each lane got, if all that was in none was listed.
    listed: Option<HashMap<LaneId, usize>>,
}

impl Untried {
    /// Reads what the store holds: the lanes and from which number on their records are untried, and up to which record
    /// they are listed. Answers how many each lane has, and all of them counted. `Err` names a chunk that cannot be read.
    pub(super) fn read(
        conn: &Connection,
        from: &HashMap<LaneId, i64>,
        listed_to: i64,
        mut each: impl FnMut(LaneId, i64),
    ) -> rusqlite::Result<Result<(Self, Tally), String>> {
        let mut untried = Self::default();
        let mut tally = Tally::default();
        for (lane, from) in from {
            untried.lines.insert(*lane, Line { from: *from, next_chunk: i64::MIN, ..Line::default() });
        }
        let mut select = conn.prepare("select lane, first, last, seqs from untried order by lane, first")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (lane, first, last) = (LaneId(row.get(0)?), row.get(1)?, row.get(2)?);
            let seqs = decode(first, row.get_ref(3)?.as_blob().unwrap_or_default());
            let line = untried.lines.get_mut(&lane);
            let (Some(line), Some(seqs)) = (line, seqs.filter(|seqs| seqs.back() == Some(&last))) else {
                return Ok(Err(format!("the list of untried records {first} to {last} of lane {} is damaged", lane.0)));
            };
            line.chunks += 1;
            for seq in seqs.into_iter().filter(|seq| *seq >= line.from) {
                tally.add(seq);
                each(lane, seq);
            }
        }
        block::heads_after(conn, listed_to, |seq, head| {
            // A lane that does not exist shows when the tail is verified.
            if let Some(line) = untried.lines.get_mut(&head.lane)
                && seq >= line.from
            {
                line.tail.push_back(seq);
                untried.unlisted += 1;
                tally.add(seq);
                each(head.lane, seq);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Ok((untried, tally)))
    }

    /// The lane's untried records behind those that were taken, in order: those that arrived before `bound`, at most
    /// `limit`. No more is read back than that takes.
    pub(super) fn next(
        &mut self,
        conn: &Connection,
        lane: LaneId,
        taken: usize,
        (limit, bound): (usize, i64),
    ) -> rusqlite::Result<Vec<i64>> {
        let Some(line) = self.lines.get_mut(&lane) else { return Ok(Vec::new()) };
        let wanted = taken.saturating_add(limit);
        while line.chunks > 0 && line.loaded.len() < wanted && line.loaded.back().is_none_or(|last| *last < bound) {
            line.load(conn, lane)?;
        }
        let next = line.loaded.iter().chain(&line.tail).skip(taken).take(limit);
        Ok(next.copied().take_while(|seq| *seq < bound).collect())
    }

    /// Follows a commit.
    pub(super) fn apply(&mut self, changes: UntriedChanges) {
        for (lane, taken) in changes.taken {
            let Some(line) = self.lines.get_mut(&lane) else { continue };
            let loaded = taken.count.min(line.loaded.len());
            line.loaded.drain(..loaded);
            let unlisted = (taken.count - loaded).min(line.tail.len());
            line.tail.drain(..unlisted);
            self.unlisted -= unlisted;
            line.from = taken.last + 1;
            while line.loaded_ends.front().is_some_and(|end| *end < line.from) {
                line.loaded_ends.pop_front();
            }
        }
        match changes.listed {
            Some(listed) => {
                for (lane, chunks) in listed {
                    let line = self.lines.entry(lane).or_default();
                    line.tail.clear();
                    line.chunks += chunks;
                }
                self.unlisted = 0;
            }
            None => {
                self.unlisted += changes.new.len();
                for (lane, seq) in changes.new {
                    self.lines.entry(lane).or_default().tail.push_back(seq);
                }
            }
        }
    }

    /// Where the oldest one of a lane is.
    pub(super) fn front(&self, lane: LaneId) -> Front {
        let Some(line) = self.lines.get(&lane) else { return Front::None };
        match line.loaded.front() {
            Some(seq) => Front::At(*seq),
            None if line.chunks > 0 => Front::Listed(line.from),
            None => line.tail.front().map_or(Front::None, |seq| Front::At(*seq)),
        }
    }

    /// How many are in no chunk.
    pub(super) const fn unlisted(&self) -> usize {
        self.unlisted
    }

    fn tail(&self, lane: LaneId, taken: usize) -> impl Iterator<Item = i64> {
        let line = self.lines.get(&lane);
        // What was taken beyond what had been read back was taken from here.
        let taken = taken.saturating_sub(line.map_or(0, |line| line.loaded.len()));
        line.into_iter().flat_map(|line| &line.tail).skip(taken).copied()
    }

    /// Whether the chunks of this lane that end before a number are to be deleted, which nothing is left of.
    fn has_chunk_before(&self, lane: LaneId, from: i64) -> bool {
        self.lines.get(&lane).and_then(|line| line.loaded_ends.front()).is_some_and(|end| *end < from)
    }

    fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.lines.iter().filter(|(_, line)| !line.tail.is_empty()).map(|(lane, _)| *lane)
    }
}

impl Line {
    /// Reads the next chunk back.
    fn load(&mut self, conn: &Connection, lane: LaneId) -> rusqlite::Result<()> {
        let chunk: Option<(i64, Vec<u8>)> = conn
            .prepare_cached("select first, seqs from untried where lane = ?1 and first >= ?2 order by first limit 1")?
            .query_row(params![lane.0, self.next_chunk], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((first, seqs)) = chunk else {
            self.chunks = 0;
            return Ok(());
        };
        self.chunks -= 1;
        self.next_chunk = first + 1;
        let Some(seqs) = decode(first, &seqs) else {
            return Err(rusqlite::Error::InvalidColumnType(3, "seqs".to_owned(), rusqlite::types::Type::Blob));
        };
        self.loaded_ends.extend(seqs.back());
        self.loaded.extend(seqs.into_iter().filter(|seq| *seq >= self.from));
        Ok(())
    }
}

impl UntriedChanges {
    /// How many a batch has taken out of this lane.
    pub(super) fn taken_from(&self, lane: LaneId) -> usize {
        self.taken.get(&lane).map_or(0, |taken| taken.count)
    }

    /// Takes the next one of this lane, which has this number.
    pub(super) fn take(&mut self, lane: LaneId, seq: i64) {
        let taken = self.taken.entry(lane).or_default();
        taken.count += 1;
        taken.last = seq;
    }

    /// Writes down what was taken.
    pub(super) fn write_taken(&self, conn: &Connection, untried: &Untried) -> rusqlite::Result<()> {
        for (lane, taken) in &self.taken {
            let from = taken.last + 1;
            conn.prepare_cached("update lanes set untried_from = ?2 where id = ?1")?.execute(params![lane.0, from])?;
            if untried.has_chunk_before(*lane, from) {
                conn.prepare_cached("delete from untried where lane = ?1 and last < ?2")?
                    .execute(params![lane.0, from])?;
            }
        }
        Ok(())
    }

    /// Lists everything that is in no chunk.
    pub(super) fn list(&mut self, conn: &Connection, untried: &Untried) -> rusqlite::Result<()> {
        let mut lanes: HashMap<LaneId, Vec<i64>> = HashMap::new();
        for lane in untried.lanes() {
            lanes.insert(lane, untried.tail(lane, self.taken_from(lane)).collect());
        }
        for (lane, seq) in &self.new {
            lanes.entry(*lane).or_default().push(*seq);
        }
        let mut insert =
            conn.prepare_cached("insert into untried (lane, first, last, seqs) values (?1, ?2, ?3, ?4)")?;
        let mut listed = HashMap::new();
        for (lane, seqs) in lanes {
            for chunk in seqs.chunks(CHUNK_RECORDS) {
                if let (Some(first), Some(last)) = (chunk.first(), chunk.last()) {
                    insert.execute(params![lane.0, first, last, encode(chunk)])?;
                }
            }
            listed.insert(lane, seqs.len().div_ceil(CHUNK_RECORDS));
        }
        self.listed = Some(listed);
        Ok(())
    }
}

/// The first record of a lane's chunks from this number on.
pub(super) fn first_listed(conn: &Connection, lane: LaneId, from: i64) -> rusqlite::Result<Option<i64>> {
    let chunk: Option<(i64, Vec<u8>)> = conn
        .prepare_cached("select first, seqs from untried where lane = ?1 and last >= ?2 order by first limit 1")?
        .query_row(params![lane.0, from], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let seqs = chunk.and_then(|(first, seqs)| decode(first, &seqs));
    Ok(seqs.and_then(|seqs| seqs.into_iter().find(|seq| *seq >= from)))
}

/// The distances between rising numbers, seven bits a byte, the lowest first; the first number is known.
fn encode(seqs: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(seqs.len() * 2);
    for pair in seqs.windows(2) {
        let [one, next] = pair else { continue };
        let mut distance = next.abs_diff(*one);
        while distance >= 0x80 {
            bytes.push(0x80 | (distance & 0x7f) as u8);
            distance >>= 7;
        }
        bytes.push(distance as u8);
    }
    bytes
}

/// The numbers in a chunk; `None` where it is none.
pub(super) fn decode(first: i64, bytes: &[u8]) -> Option<VecDeque<i64>> {
    let mut seqs = VecDeque::from([first]);
    let (mut seq, mut distance, mut shift) = (first, 0_i64, 0);
    for byte in bytes {
        distance |= i64::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 63)?;
        if byte & 0x80 != 0 {
            shift += 7;
            continue;
        }
        seq = seq.checked_add(distance).filter(|_| distance > 0)?;
        seqs.push_back(seq);
        (distance, shift) = (0, 0);
    }
    (shift == 0).then_some(seqs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_short_and_read_back() {
        assert!(encode(&[7]).is_empty());
        assert_eq!(encode(&[1, 2, 129, 130]), [1, 127, 1]);
        assert_eq!(decode(1, &[1, 127, 1]).unwrap(), [1, 2, 129, 130]);
        for damaged in [&[0][..], &[0x80], &[0xff; 12], &[1, 0x81]] {
            assert_eq!(decode(1, damaged), None, "{damaged:?}");
        }
    }

    proptest! {
        #[test]
        fn any_rising_numbers_read_back(first in 1_i64..1 << 40, steps in proptest::collection::vec(1_i64..1 << 40, 0..50)) {
            let seqs: Vec<i64> = std::iter::once(first)
                .chain(steps.iter().scan(first, |seq, step| { *seq += step; Some(*seq) }))
                .collect();
            prop_assert_eq!(decode(first, &encode(&seqs)).unwrap(), seqs);
        }

        #[test]
        fn any_bytes_are_read_or_refused(first in any::<i64>(), bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _read_or_not = decode(first, &bytes);
        }
    }
}
