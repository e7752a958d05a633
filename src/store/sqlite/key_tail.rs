//! Reads the duplicate keys of the newest records from the records themselves: at a start, those that the index does not
//! have yet. It is the one place where the index depends on how records are stored.

use rusqlite::{Connection, params};

use super::keys::{KeyMap, Seen};

/// Keys of records in a row.
#[derive(Debug)]
pub(super) struct Tail {
    /// Each key, with the newest of these records that has it.
    pub(super) keys: KeyMap,
    /// The last record that was read.
    pub(super) newest: i64,
}

/// Reads the keys of the records after `merged_to`, at most `limit` records. What it read is complete up to `newest`, which
/// is `merged_to` itself where there is no record after it.
pub(super) fn read_tail(records: &Connection, merged_to: i64, limit: usize) -> rusqlite::Result<Tail> {
    let mut tail = Tail { keys: KeyMap::default(), newest: merged_to };
    let mut select =
        records.prepare("select seq, duplicate_key, accepted_at from records where seq > ?1 order by seq limit ?2")?;
    let mut rows = select.query(params![merged_to, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let (seq, accepted_at): (i64, i64) = (row.get(0)?, row.get(2)?);
        tail.keys.insert(row.get(1)?, Seen { seq, accepted_at_seconds: accepted_at.div_euclid(1000) });
        tail.newest = seq;
    }
    Ok(tail)
}
