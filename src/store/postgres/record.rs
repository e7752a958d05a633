//! A record's row, and how it is read: verified against its checksum, like every record of every engine.

use tokio_postgres::Row;

use super::guid::PgGuid;
use crate::store::receipt_id::ReceiptMask;
use crate::store::record_format::Head;
use crate::store::record_format::{Damage, Kept, ReadRecord, lane_of, read_kept};
use crate::store::{Lane, LaneId};

/// A record with its lane, in this order.
pub(super) const COLUMNS: &str = "r.seq, r.lane, r.accepted_at, r.random, r.key, r.crc, r.body, \
     r.organization_id, l.work_stream_id, l.queue";
/// What [`COLUMNS`] are selected from.
pub(super) const FROM: &str = "records r left join lanes l on l.organization_id = r.organization_id and l.id = r.lane";
/// How many they are.
pub(super) const WIDTH: usize = 10;

/// The head and body in a row whose columns from `first` on are [`COLUMNS`]; `None` where there is no record.
pub(super) fn kept_in(row: &Row, first: usize) -> Option<Kept<'_>> {
    let body: &[u8] = row.try_get(first + 6).ok()?;
    let head = head_in(row, first)?;
    Some((head, Some(body)))
}

fn head_in(row: &Row, first: usize) -> Option<Head> {
    let sixteen = |at: usize| <[u8; 16]>::try_from(row.try_get::<_, &[u8]>(first + at).ok()?).ok();
    Some(Head {
        lane: LaneId(row.try_get(first + 1).ok()?),
        // One that is no checksum fits nothing.
        crc: u32::try_from(row.try_get::<_, i64>(first + 5).ok()?).unwrap_or(0),
        body_bytes: 0,
        accepted_at: row.try_get(first + 2).ok()?,
        random: sixteen(3)?,
        key: sixteen(4)?,
    })
}

/// The lane in such a row.
pub(super) fn lane_in(row: &Row, first: usize) -> Option<Lane> {
    let organization: PgGuid = row.try_get(first + 7).ok()?;
    let work_stream: PgGuid = row.try_get(first + 8).ok()?;
    lane_of(&organization.0, &work_stream.0, row.try_get(first + 9).ok()?)
}

/// The record in such a row, if it is what was written.
pub(super) fn read(row: &Row, first: usize, seq: i64, mask: &ReceiptMask) -> Result<ReadRecord, Damage> {
    read_kept(kept_in(row, first), seq, lane_in(row, first).as_ref(), mask)
}
