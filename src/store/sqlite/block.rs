//! A block: the records of one commit, or a part of them, in one row.
//!
//! An insert per record would cost the writer more than everything else that it does for it. So records that are
//! committed together lie together: what is asked for often, and is the same size for each, in `heads`; the rest in
//! `bodies`, one behind the other. The row's key is the number of its first record, and its records are numbered on from
//! there. A reader who wants heads alone reads no bodies.
//!
//! A record that was deleted leaves an empty place: a head without a body. A block without any record is deleted whole.
//! Whether a head and a body are what was written is for [`row`](super::row) to say; what is said here about places that
//! cannot be read is that there is nothing.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::LaneId;
pub(super) use crate::store::record_format::Head;

/// Records in a block at most: whoever wants one of them reads all.
const MAX_RECORDS: usize = 64;
/// Bytes of bodies at which a block is full.
const FULL_BYTES: usize = 128 << 10;
/// Bytes of a head.
const HEAD_BYTES: usize = 4 + 4 + 4 + 8 + 16 + 16;
/// Bytes of blocks that the writer remembers.
const CACHED_BYTES: usize = 8 << 20;

impl Head {
    /// The place of a record that was deleted.
    const DELETED: Self =
        Self { lane: LaneId(0), crc: 0, body_bytes: 0, accepted_at: 0, random: [0; 16], key: [0; 16] };

    fn write(&self, heads: &mut Vec<u8>) {
        // Lanes are numbered from 1 on; one that does not fit would show when the record is read.
        heads.extend_from_slice(&u32::try_from(self.lane.0).unwrap_or(u32::MAX).to_le_bytes());
        heads.extend_from_slice(&self.crc.to_le_bytes());
        heads.extend_from_slice(&self.body_bytes.to_le_bytes());
        heads.extend_from_slice(&self.accepted_at.to_le_bytes());
        heads.extend_from_slice(&self.random);
        heads.extend_from_slice(&self.key);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (lane, bytes) = bytes.split_first_chunk()?;
        let (crc, bytes) = bytes.split_first_chunk()?;
        let (body_bytes, bytes) = bytes.split_first_chunk()?;
        let (accepted_at, bytes) = bytes.split_first_chunk()?;
        let (random, key) = bytes.split_first_chunk()?;
        Some(Self {
            lane: LaneId(i64::from(u32::from_le_bytes(*lane))),
            crc: u32::from_le_bytes(*crc),
            body_bytes: u32::from_le_bytes(*body_bytes),
            accepted_at: i64::from_le_bytes(*accepted_at),
            random: *random,
            key: key.try_into().ok()?,
        })
    }

    /// Whether there is a record.
    pub(super) const fn is_there(&self) -> bool {
        self.body_bytes > 0
    }
}

/// The heads of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heads {
    first: i64,
    bytes: Vec<u8>,
}

impl Heads {
    /// The heads of the block that this record is in, if it is in any; else of the last block before it.
    pub(super) fn around(conn: &Connection, seq: i64) -> rusqlite::Result<Option<Self>> {
        conn.prepare_cached("select first, heads from blocks where first <= ?1 order by first desc limit 1")?
            .query_row([seq], Self::of)
            .optional()
    }

    /// From a row that starts with `first, heads`.
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { first: row.get(0)?, bytes: blob(row, 1) })
    }

    /// The number of the first record.
    pub(super) const fn first(&self) -> i64 {
        self.first
    }

    /// The number of the last record.
    pub(super) const fn last(&self) -> i64 {
        self.first.saturating_add_unsigned((self.bytes.len() / HEAD_BYTES) as u64).saturating_sub(1)
    }

    /// All of them with their numbers, deleted ones too.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, Head)> {
        let heads = self.bytes.chunks_exact(HEAD_BYTES).map(|head| Head::read(head).unwrap_or(Head::DELETED));
        let numbered = heads.enumerate();
        numbered.map(|(at, head)| (self.first.saturating_add_unsigned(at as u64), head))
    }

    /// Whether this record has its place here.
    pub(super) fn span(&self, seq: i64) -> bool {
        (self.first()..=self.last()).contains(&seq)
    }

    /// The bytes of this record's head.
    pub(super) fn raw(&self, seq: i64) -> Option<&[u8]> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?.checked_mul(HEAD_BYTES)?;
        self.bytes.get(at..at.checked_add(HEAD_BYTES)?)
    }

    /// The head of this record, if it is here.
    pub(super) fn get(&self, seq: i64) -> Option<Head> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?.checked_mul(HEAD_BYTES)?;
        Head::read(self.bytes.get(at..at.checked_add(HEAD_BYTES)?)?).filter(Head::is_there)
    }
}

/// A block with everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) heads: Heads,
    bodies: Vec<u8>,
}

impl Block {
    /// The block that this record is in, if it is in any; else the last one before it.
    pub(super) fn around(conn: &Connection, seq: i64) -> rusqlite::Result<Option<Self>> {
        conn.prepare_cached("select first, heads, bodies from blocks where first <= ?1 order by first desc limit 1")?
            .query_row([seq], Self::of)
            .optional()
    }

    /// From a row of `first, heads, bodies`.
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { heads: Heads::of(row)?, bodies: blob(row, 2) })
    }

    /// One of these bytes, whatever they are.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) const fn of_bytes(first: i64, heads: Vec<u8>, bodies: Vec<u8>) -> Self {
        Self { heads: Heads { first, bytes: heads }, bodies }
    }

    /// An empty one, whose first record will have this number.
    pub(super) fn starting_at(first: i64) -> Self {
        Self { heads: Heads { first, bytes: Vec::new() }, bodies: Vec::new() }
    }

    /// The number of the record that would be put in next.
    pub(super) const fn next(&self) -> i64 {
        self.heads.last().saturating_add(1)
    }

    /// Whether it holds so much that the next record goes into another one.
    pub(super) const fn is_full(&self) -> bool {
        self.heads.bytes.len() >= MAX_RECORDS * HEAD_BYTES || self.bodies.len() >= FULL_BYTES
    }

    /// Puts the next record in; the length in its head is set here.
    pub(super) fn push(&mut self, head: &Head, body: &[u8]) {
        let body_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        Head { body_bytes, ..*head }.write(&mut self.heads.bytes);
        self.bodies.extend_from_slice(body);
    }

    /// Leaves the next place empty.
    pub(super) fn push_deleted(&mut self) {
        Head::DELETED.write(&mut self.heads.bytes);
    }

    /// All records with their numbers, and without those that were deleted. `None` for a body: it cannot be read.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, Head, Option<&[u8]>)> {
        let mut at = 0;
        self.heads.iter().filter_map(move |(seq, head)| {
            let end = usize::try_from(head.body_bytes).map_or(usize::MAX, |bytes| bytes.saturating_add(at));
            let body = self.bodies.get(at..end);
            at = end;
            head.is_there().then_some((seq, head, body))
        })
    }

    /// This record, if it is here.
    pub(super) fn get(&self, seq: i64) -> Option<(Head, Option<&[u8]>)> {
        let head = self.heads.get(seq)?;
        let before = self.heads.iter().take_while(|(other, _)| *other < seq);
        let at = before.fold(0_usize, |at, (_, head)| at.saturating_add(head.body_bytes as usize));
        Some((head, self.bodies.get(at..at.saturating_add(head.body_bytes as usize))))
    }

    /// Whether all that was in it is deleted.
    pub(super) fn is_empty(&self) -> bool {
        self.heads.iter().all(|(_, head)| !head.is_there())
    }

    /// One whose bodies could not be read.
    pub(super) const fn of_heads(heads: Heads) -> Self {
        Self { heads, bodies: Vec::new() }
    }

    /// The same with another number for its first record.
    pub(super) fn moved_to(self, first: i64) -> Self {
        Self { heads: Heads { first, ..self.heads }, ..self }
    }

    /// Whether its parts go together: whole heads, and bodies as long as these say.
    pub(super) fn is_whole(&self) -> bool {
        let bodies =
            self.heads.iter().fold(0, |bytes: usize, (_, head)| bytes.saturating_add(head.body_bytes as usize));
        self.heads.bytes.len().is_multiple_of(HEAD_BYTES) && bodies == self.bodies.len()
    }

    /// Writes it as a row.
    pub(super) fn insert(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.prepare_cached("insert into blocks (first, heads, bodies) values (?1, ?2, ?3)")?.execute(params![
            self.heads.first,
            self.heads.bytes,
            self.bodies
        ])?;
        Ok(())
    }

    /// How large it is.
    pub(super) const fn bytes(&self) -> usize {
        self.heads.bytes.len() + self.bodies.len()
    }
}

/// The head of this record, if it is there.
pub(super) fn head(conn: &Connection, seq: i64) -> rusqlite::Result<Option<Head>> {
    Ok(Heads::around(conn, seq)?.and_then(|heads| heads.get(seq)))
}

/// Goes through the heads of the records behind this one, in order, without those that were deleted, until told to stop.
pub(super) fn heads_after(
    conn: &Connection,
    after: i64,
    mut each: impl FnMut(i64, Head) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let around = Heads::around(conn, after)?;
    let mut select = conn.prepare_cached("select first, heads from blocks where first > ?1 order by first")?;
    for heads in around.map(Ok).into_iter().chain(select.query_map([after], Heads::of)?) {
        for (seq, head) in heads?.iter().filter(|(seq, head)| *seq > after && head.is_there()) {
            if each(seq, head).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A blob; what is none is as good as an empty one.
fn blob(row: &Row<'_>, column: usize) -> Vec<u8> {
    row.get_ref(column).ok().and_then(|value| value.as_blob().ok()).unwrap_or_default().to_vec()
}

/// Blocks that were written or read lately, up to some megabytes: most records are handed out soon after they came in,
/// and those of one block one after the other.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// The latest last.
    blocks: VecDeque<Arc<Block>>,
    bytes: usize,
}

impl Cache {
    /// The block that this record is in.
    pub(super) fn get(&self, seq: i64) -> Option<Arc<Block>> {
        self.blocks.iter().rev().find(|block| block.heads.span(seq)).cloned()
    }

    /// Remembers a block as it is on disk.
    pub(super) fn put(&mut self, block: Arc<Block>) {
        self.bytes += block.bytes();
        self.blocks.push_back(block);
        while self.bytes > CACHED_BYTES
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// Forgets everything: something was written over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lane: i64, byte: u8) -> Head {
        Head { lane: LaneId(lane), crc: 7, body_bytes: 0, accepted_at: -5, random: [byte; 16], key: [byte + 1; 16] }
    }

    #[test]
    fn records_lie_where_their_numbers_say() {
        let mut block = Block::starting_at(10);
        block.push(&head(1, 1), b"one");
        block.push_deleted();
        block.push(&head(3, 3), b"three");
        assert_eq!((block.heads.first(), block.heads.last(), block.next()), (10, 12, 13));
        assert_eq!(block.get(10), Some((Head { body_bytes: 3, ..head(1, 1) }, Some(&b"one"[..]))));
        assert_eq!(block.get(12), Some((Head { body_bytes: 5, ..head(3, 3) }, Some(&b"three"[..]))));
        for nowhere in [i64::MIN, 9, 11, 13, i64::MAX] {
            assert_eq!(block.get(nowhere), None, "{nowhere}");
        }
        let all: Vec<_> = block.iter().map(|(seq, _, body)| (seq, body.unwrap_or_default())).collect();
        assert_eq!(all, [(10, &b"one"[..]), (12, b"three")]);
        assert!(!block.is_empty() && Block::starting_at(1).is_empty());
    }

    #[test]
    fn a_block_that_was_cut_says_so_of_its_last_record() {
        let mut block = Block::starting_at(1);
        block.push(&head(1, 1), b"one");
        block.push(&head(1, 2), b"two");
        block.bodies.pop();
        assert_eq!(block.get(1).unwrap().1, Some(&b"one"[..]));
        assert_eq!(block.get(2).unwrap().1, None);
        block.heads.bytes.pop();
        assert_eq!((block.get(2), block.next()), (None, 2));
    }

    #[test]
    fn a_full_block_is_full_by_number_or_by_bytes() {
        let mut block = Block::starting_at(1);
        for _ in 0..MAX_RECORDS {
            assert!(!block.is_full());
            block.push(&head(1, 1), b"x");
        }
        assert!(block.is_full());
        let mut block = Block::starting_at(1);
        block.push(&head(1, 1), &vec![1; FULL_BYTES]);
        assert!(block.is_full());
    }

    #[test]
    fn the_cache_forgets_the_oldest() {
        let mut cache = Cache::default();
        for first in 0..200 {
            let mut block = Block::starting_at(first);
            block.push(&head(1, 1), &vec![1; FULL_BYTES]);
            cache.put(Arc::new(block));
        }
        assert!(cache.get(0).is_none());
        assert_eq!(cache.get(199).unwrap().heads.first(), 199);
        assert!(cache.bytes <= CACHED_BYTES);
        cache.clear();
        assert!(cache.get(199).is_none());
    }
}
