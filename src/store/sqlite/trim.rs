//! Writing blocks over: a record's details are replaced by their hash, and what rules saw of them goes too; a deleted
//! record leaves an empty place.
//!
//! A row that only became shorter would leave its page as it is, half empty, and no page would ever become free. So the
//! rows of a slice are taken out together and put in again: the pages that they filled are given back, and what is left
//! of them moves closer together.

use std::collections::BTreeMap;

use rusqlite::params;

use super::batch::Batch;
use super::block::Block;
use super::row::{self, Trimmed, UNREADABLE};
use crate::domain::time::Timestamp;

/// What becomes of a record in its block.
pub(super) enum Rewritten<'a> {
    /// It loses its details.
    Trimmed(&'a Trimmed),
    /// It goes.
    Deleted,
}

impl Batch<'_> {
    /// Trims what the batch has put down for it. The details of a damaged record stay: a fresh checksum would call them
    /// sound.
    pub(super) fn trim_all(&mut self) -> rusqlite::Result<()> {
        let mut records = Vec::new();
        for seq in std::mem::take(&mut self.changes.to_trim) {
            let block = self.block(seq)?;
            let lane = block.heads.get(seq).and_then(|head| self.lane(head.lane));
            match row::trimmed(block.get(seq), seq, lane) {
                Ok(Some(trimmed)) => records.push((seq, trimmed)),
                Ok(None) => {}
                Err(damage) => tracing::error!(%damage, "the details of a damaged record are not trimmed"),
            }
        }
        self.rewrite(records.iter().map(|(seq, trimmed)| (*seq, Rewritten::Trimmed(trimmed))).collect())
    }

    /// Trims delivered records that were read before, and marks all of them as looked at, as far as they were delivered by
    /// then. Answers how many were trimmed.
    pub(super) fn trim_delivered(
        &mut self,
        records: &[(i64, Option<Trimmed>)],
        delivered_by: Timestamp,
    ) -> rusqlite::Result<u64> {
        let mut rewritten = BTreeMap::new();
        {
            let mut mark = self
                .conn
                .prepare_cached("update delivered set trimmed = 1 where seq = ?1 and trimmed is null and at <= ?2")?;
            for (seq, record) in records {
                if mark.execute(params![seq, delivered_by.millis()])? == 1
                    && let Some(trimmed) = record
                {
                    rewritten.insert(*seq, Rewritten::Trimmed(trimmed));
                }
            }
        }
        let count = rewritten.len() as u64;
        self.rewrite(rewritten)?;
        Ok(count)
    }

    /// Writes the blocks of these records over.
    pub(super) fn rewrite(&mut self, mut records: BTreeMap<i64, Rewritten<'_>>) -> rusqlite::Result<()> {
        let mut blocks = Vec::new();
        while let Some((seq, _)) = records.first_key_value() {
            let block = self.block(*seq)?;
            let behind = records.split_off(&(block.heads.last() + 1).max(seq + 1));
            if block.iter().any(|(_, _, body)| body.is_none()) {
                // What is left of it is not to be moved about.
                tracing::error!(first = block.heads.first(), "a damaged block of records is not trimmed");
                records.retain(|_, becomes| matches!(becomes, Rewritten::Deleted));
            }
            let mut written = Block::starting_at(block.heads.first());
            for (seq, head, body) in block.iter() {
                while written.next() < seq {
                    written.push_deleted();
                }
                match records.get(&seq) {
                    Some(Rewritten::Trimmed(Trimmed { head, body, .. })) => written.push(head, body),
                    Some(Rewritten::Deleted) => written.push_deleted(),
                    // One that cannot be read stays as it is: a place that says nothing else.
                    None => written.push(&head, body.unwrap_or(UNREADABLE)),
                }
            }
            while written.next() <= block.heads.last() {
                written.push_deleted();
            }
            blocks.push(written);
            records = behind;
        }
        let mut delete = self.conn.prepare_cached("delete from blocks where first = ?1")?;
        for block in &blocks {
            delete.execute([block.heads.first()])?;
        }
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            block.insert(self.conn)?;
        }
        self.changes.rewrote |= !blocks.is_empty();
        Ok(())
    }
}
