//! The oldest pending record of each lane: what says whether anything is stuck.
//!
//! Nothing is read through for it. Of the records that were handed out before (on lease, or waiting for the next try) the
//! first stands first in the table `pending`; of those that never were, the writer says on the board which is the first,
//! as it follows each commit anyway, or where in the lists to find it. So a lane with a backlog costs two or three look-ups
//! by key, on a reader's connection, whether one record is pending in it or five million.

use super::block;
use super::error::read_error;
use super::reader::Reader;
use super::untried::{self, Front};
use crate::domain::time::Timestamp;
use crate::store::{LaneId, OldestPending, StoreError};

/// The oldest pending record of each lane that has any.
pub(super) fn of_each_lane(reader: &Reader) -> Result<Vec<OldestPending>, StoreError> {
    // The board before the disk: a record that is handed out in between is then found twice, and not missed.
    let lanes: Vec<(LaneId, Front)> = {
        let figures = reader.board.figures();
        let with_some = figures.lanes.iter().filter(|backlog| backlog.pending > 0);
        with_some.map(|backlog| (backlog.id, figures.front(backlog.id))).collect()
    };
    let found: rusqlite::Result<Vec<Option<OldestPending>>> =
        lanes.into_iter().map(|(lane, front)| oldest_of(reader, lane, front)).collect();
    Ok(found.map_err(read_error)?.into_iter().flatten().collect())
}

/// `None` where nothing is pending any more.
fn oldest_of(reader: &Reader, lane: LaneId, front: Front) -> rusqlite::Result<Option<OldestPending>> {
    let conn = &reader.conn;
    let tried: Option<i64> =
        conn.prepare_cached("select min(seq) from pending where lane = ?1")?.query_row([lane.0], |row| row.get(0))?;
    let untried = match front {
        Front::None => None,
        Front::At(seq) => Some(seq),
        Front::Listed(from) => untried::first_listed(conn, lane, from)?,
    };
    let Some(seq) = tried.into_iter().chain(untried).min() else { return Ok(None) };
    let head = block::head(conn, seq)?;
    Ok(head.map(|head| OldestPending { lane, accepted_at: Timestamp::from_millis(head.accepted_at) }))
}
