//! The oldest pending record of each lane: what says whether anything is stuck.
//!
//! The key of `pending` leads with organization and lane, so the first of a lane is one look-up, whatever is pending in it.

use super::Shared;
use super::error::Fault;
use super::guid::PgGuid;
use crate::domain::time::Timestamp;
use crate::store::{LaneId, OldestPending};

/// The oldest pending record of each lane that has any, whichever gateway accepted it.
pub(super) async fn of_each_lane(shared: &Shared) -> Result<Vec<OldestPending>, Fault> {
    let (organizations, lanes): (Vec<PgGuid>, Vec<i64>) = {
        let figures = shared.board.figures();
        figures.lanes.iter().map(|(id, (lane, _))| (PgGuid::from(lane.organization.guid()), id.0)).unzip()
    };
    let client = shared.database.pool().get().await?;
    let select = client
        .prepare_cached(
            "select p.lane, r.accepted_at from lanes w cross join lateral (select organization_id, lane, seq from pending \
             where organization_id = w.organization_id and lane between w.id and w.id order by lane, seq limit 1) p \
             join records r on r.organization_id = p.organization_id and r.seq = p.seq \
             where w.organization_id = any($1) and w.id = any($2)",
        )
        .await?;
    let rows = client.query(&select, &[&organizations, &lanes]).await?;
    rows.iter()
        .map(|row| {
            let (lane, accepted_at): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok(OldestPending { lane: LaneId(lane), accepted_at: Timestamp::from_millis(accepted_at) })
        })
        .collect()
}
