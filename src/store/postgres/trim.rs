//! Trimming: a record's details are replaced by their hash, and what rules saw of them goes too.

use deadpool_postgres::Transaction;

use super::cluster::by_organization;
use super::error::Fault;
use super::guid::PgGuid;
use super::record::{COLUMNS, FROM, kept_in, lane_in};
use crate::store::record_format::trimmed;

/// Trims these records, and marks those that were delivered. Answers how many were trimmed now. The details of a damaged
/// record stay: a fresh checksum would call them sound.
pub(super) async fn trim(
    transaction: &Transaction<'_>,
    places: impl IntoIterator<Item = (PgGuid, i64)>,
) -> Result<u64, Fault> {
    let mut count = 0;
    for (organization, seqs) in by_organization(places) {
        count += trim_of(transaction, organization, &seqs).await?;
    }
    Ok(count)
}

/// Trims records of one organization.
async fn trim_of(transaction: &Transaction<'_>, organization: PgGuid, seqs: &[i64]) -> Result<u64, Fault> {
    let select = transaction
        .prepare_cached(&format!(
            "select {COLUMNS} from {FROM} where r.organization_id = $1 and r.seq = any($2) order by r.seq for update of r"
        ))
        .await?;
    let (mut trimmed_seqs, mut crcs, mut bodies) = (Vec::<i64>::new(), Vec::<i64>::new(), Vec::<Vec<u8>>::new());
    for row in transaction.query(&select, &[&organization, &seqs]).await? {
        let seq: i64 = row.try_get(0)?;
        match trimmed(kept_in(&row, 0), seq, lane_in(&row, 0).as_ref()) {
            Ok(Some(left)) => {
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
             from unnest($2::bigint[], $3::bigint[], $4::bytea[]) as w (seq, crc, body) \
             where r.organization_id = $1 and r.seq = w.seq",
        )
        .await?;
    let count = transaction.execute(&update, &[&organization, &trimmed_seqs, &crcs, &bodies]).await?;
    let mark = "update delivered set trimmed = true where organization_id = $1 and seq = any($2)";
    let mark = transaction.prepare_cached(mark).await?;
    transaction.execute(&mark, &[&organization, &seqs]).await?;
    Ok(count)
}
