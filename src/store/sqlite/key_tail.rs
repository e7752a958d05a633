//! Reads the duplicate keys of the newest records from the records themselves: at a start, those that the index does not
//! have yet. It is the one place where the index depends on how records are stored.

use std::ops::ControlFlow;

use rusqlite::Connection;

use super::block;
use super::keys::{KeyMap, Seen};

/// Keys of records in a row.
#[derive(Debug)]
pub(super) struct Tail {
    /// Each key, with the newest of these records that has it.
    pub(super) keys: KeyMap,
    /// The last record that was read.
    pub(super) newest: i64,
}

/// Reads the keys of the records after `merged_to`, at most `limit` keys. What it read is complete up to `newest`, which
/// is `merged_to` itself where there is no record after it.
pub(super) fn read_tail(records: &Connection, merged_to: i64, limit: usize) -> rusqlite::Result<Tail> {
    let mut tail = Tail { keys: KeyMap::default(), newest: merged_to };
    block::heads_after(records, merged_to, |seq, head| {
        if tail.keys.len() >= limit {
            return ControlFlow::Break(());
        }
        tail.keys.insert(head.key, Seen { seq, accepted_at_seconds: head.accepted_at.div_euclid(1000) });
        tail.newest = seq;
        ControlFlow::Continue(())
    })?;
    Ok(tail)
}
