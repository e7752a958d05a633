//! A record's row: the [format](crate::store::record_format) that all engines share, over blocks.

pub(super) mod format_2;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use rusqlite::{Connection, OptionalExtension};

use super::block::Block;
use crate::store::receipt_id::ReceiptMask;
pub(super) use crate::store::record_format::{
    Damage, DuplicateKey, NewRecord, ReadRecord, TRIMMED, Trimmed, UNREADABLE, lane_of, read_kept, trimmed,
};
use crate::store::{Lane, LaneId};

/// Reads the record at this place. `Ok(Err(_))` is a record that is damaged or missing.
pub(super) fn read(conn: &Connection, mask: &ReceiptMask, seq: i64) -> rusqlite::Result<Result<ReadRecord, Damage>> {
    let Some(block) = Block::around(conn, seq)? else { return Ok(Err(Damage::missing(seq))) };
    let Some((head, _)) = block.get(seq) else { return Ok(Err(Damage::missing(seq))) };
    let lane = lane(conn, head.lane)?;
    Ok(decode(&block, seq, lane.as_ref(), mask))
}

/// What a lane stands for; `None` where it is missing or has no meaning.
pub(super) fn lane(conn: &Connection, id: LaneId) -> rusqlite::Result<Option<Lane>> {
    let found = conn
        .prepare_cached("select organization, work_stream, queue from lanes where id = ?1")?
        .query_row([id.0], |row| Ok(lane_in(row)))
        .optional()?;
    Ok(found.flatten())
}

/// The lane in a row that starts with organization, work stream, queue; `None` if it is none.
pub(super) fn lane_in(row: &rusqlite::Row<'_>) -> Option<Lane> {
    let blob = |at: usize| row.get_ref(at).ok()?.as_blob().ok();
    lane_of(blob(0)?, blob(1)?, row.get_ref(2).ok()?.as_str().ok()?)
}

/// The record of this number in its block, if it is what was written.
pub(super) fn decode(block: &Block, seq: i64, lane: Option<&Lane>, mask: &ReceiptMask) -> Result<ReadRecord, Damage> {
    read_kept(block.get(seq), seq, lane, mask)
}
