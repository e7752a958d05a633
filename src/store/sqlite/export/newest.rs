//! The newest records, newest first, by what no other record has: so it is found whether a copy has them.

use super::super::block::Block;
use super::super::error::OpenError;
use super::super::schema::RECORDS;
use super::Source;
use crate::store::copying::CopyError;

/// Blocks that are read at once, of 64 records at most each.
const BLOCKS: i64 = 16;

/// What a record is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Known {
    /// Its number.
    pub(in crate::store) seq: i64,
    /// When it was accepted, in milliseconds since 1970.
    pub(in crate::store) accepted_at: i64,
    /// What its receipt is made of, beside its number.
    pub(in crate::store) random: [u8; 16],
}

impl Source {
    /// Some of the newest records up to a number, and from which number on these are all that can be read; `None` where
    /// there is none up to it. What was deleted is not among them, nor what does not check.
    pub(in crate::store) fn newest_to(&self, to: i64) -> Result<Option<(i64, Vec<Known>)>, CopyError> {
        let read = || {
            let conn = self.records.conn();
            let mut select = conn.prepare_cached(
                "select first, heads, bodies from blocks where first <= ?1 order by first desc limit ?2",
            )?;
            let blocks = select.query_map((to, BLOCKS), Block::of)?;
            blocks.collect::<rusqlite::Result<Vec<Block>>>()
        };
        let blocks = read().map_err(OpenError::sqlite(&self.directory.join(RECORDS)))?;
        let records = blocks.iter().flat_map(|block| {
            let there = block
                .heads
                .iter()
                .rev()
                .filter(|(seq, head)| *seq <= to && head.is_there() && self.ground.verify(block, *seq).is_ok());
            there.map(|(seq, head)| Known { seq, accepted_at: head.accepted_at, random: head.random })
        });
        Ok(blocks.last().map(|oldest| (oldest.heads.first(), records.collect())))
    }
}
