//! Trimming: a record's details are replaced by their hash, and what rules saw of them goes too.

use deadpool_postgres::Transaction;

use super::error::Fault;
use super::guid::PgGuid;
use super::record::{COLUMNS, FROM, kept_in, lane_in};
use crate::store::record_format::trimmed;

/// Trims these records, and marks those that were delivered. Answers how many were trimmed now. The details of a damaged
/// record stay: a fresh checksum would call them sound.
pub(super) async fn trim(transaction: &Transaction<'_>, seqs: &[i64]) -> Result<u64, Fault> {
    if seqs.is_empty() {
        return Ok(0);
    }
    let select = transaction
        .prepare_cached(&format!("select {COLUMNS} from {FROM} where r.seq = any($1) order by r.seq for update of r"))
        .await?;
    let (mut organizations, mut trimmed_seqs) = (Vec::<PgGuid>::new(), Vec::<i64>::new());
    let (mut crcs, mut bodies) = (Vec::<i64>::new(), Vec::<Vec<u8>>::new());
    for row in transaction.query(&select, &[&seqs]).await? {
        let seq: i64 = row.try_get(0)?;
        match trimmed(kept_in(&row, 0), seq, lane_in(&row, 0).as_ref()) {
            Ok(Some(left)) => {
                organizations.push(row.try_get(7)?);
                trimmed_seqs.push(seq);
                crcs.push(i64::from(left.head.crc));
                bodies.push(left.body);
            }
            Ok(None) => {}
            Err(damage) => tracing::error!(%damage, "the details of a damaged record are not trimmed"),
        }
    }
    let update = transaction
        .prepare_cached(
            "update records r set crc = w.crc, body = w.body \
             from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[]) as w (organization_id, seq, crc, body) \
             where r.organization_id = w.organization_id and r.seq = w.seq",
        )
        .await?;
    let count = transaction.execute(&update, &[&organizations, &trimmed_seqs, &crcs, &bodies]).await?;
    let mark = transaction.prepare_cached("update delivered set trimmed = true where seq = any($1)").await?;
    transaction.execute(&mark, &[&seqs]).await?;
    Ok(count)
}
