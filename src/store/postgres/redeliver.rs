//! Delivered records that are pending again: their destination lost what it had taken.
//!
//! A page is one transaction, and holds the lock of retention meanwhile: what has its details when it is found has them
//! when it is pending, and neither waits for rows that the other has locked in another order. Retention goes on a minute
//! later at most. Two calls at once go one after the other.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::types::ToSql;

use super::Shared;
use super::board::Changes;
use super::error::Fault;
use super::guid::PgGuid;
use super::retention::LOCK;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::selection::delivered_before;
use crate::store::{LaneId, MAX_HANDLED, MAX_NAMED, Redelivered, Redelivery};

/// The most delivered records that one call looks at.
const MAX_LOOKED_AT: i64 = if cfg!(test) { 128 } else { 20_000 };

/// Makes a page of delivered records pending again, or counts it.
pub(super) async fn redeliver(shared: &Shared, which: &Redelivery) -> Result<Redelivered, Fault> {
    let mut client = shared.database.pool().get().await?;
    if which.dry_run {
        let (_, found) = find(shared, &client, which).await?;
        return Ok(found);
    }
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached("select pg_advisory_xact_lock($1)").await?;
    transaction.execute(&lock, &[&LOCK]).await?;
    let (seqs, mut found) = find(shared, &transaction, which).await?;
    let taken = if seqs.is_empty() { Vec::new() } else { put_back(&transaction, &seqs).await? };
    transaction.commit().await?;
    found.lanes.clear();
    let mut changes = Changes::default();
    for lane in taken {
        changes.pending(lane, 1);
        *found.lanes.entry(lane).or_default() += 1;
    }
    shared.board.apply(&changes);
    Ok(found)
}

/// Finds a page of records that are meant: the numbers of those that can be delivered again, and what is to be said of the
/// page, as if they were.
async fn find(
    shared: &Shared,
    client: &impl GenericClient,
    which: &Redelivery,
) -> Result<(Vec<i64>, Redelivered), Fault> {
    let select = client
        .prepare_cached(
            "with looked as materialized (select seq, lane, at, trimmed, closed_after_minutes from delivered \
             where seq > $1 order by seq limit $5), \
             meant as (select seq, lane, trimmed, count(*) filter (where not trimmed) over (order by seq) as place \
             from looked where lane = any($2) and at >= $3 and at < $4 and closed_after_minutes is null) \
             select m.seq, m.lane, m.trimmed, e.last, e.looked_at \
             from (select max(seq) as last, count(*) as looked_at from looked) e \
             left join meant m on m.place <= $6 order by m.seq",
        )
        .await?;
    let lanes: Vec<i64> = which.lanes.iter().map(|lane| lane.0).collect();
    let (since, until, after) = (which.since.millis(), which.until.millis(), which.after.unwrap_or(0));
    let limit = which.limit.clamp(1, MAX_HANDLED);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 6] = [&after, &lanes, &since, &until, &MAX_LOOKED_AT, &most];
    let (mut seqs, mut found, mut gone) = (Vec::new(), Redelivered::default(), Vec::new());
    for row in client.query(&select, &parameters).await? {
        let looked_at: i64 = row.try_get(4)?;
        found.next = row.try_get::<_, Option<i64>>(3)?.filter(|_| looked_at == MAX_LOOKED_AT);
        let Some(seq) = row.try_get::<_, Option<i64>>(0)? else { break };
        if row.try_get(2)? {
            found.without_details += 1;
            if gone.len() < MAX_NAMED {
                gone.push(seq);
            }
        } else {
            seqs.push(seq);
            *found.lanes.entry(LaneId(row.try_get(1)?)).or_default() += 1;
        }
        if seqs.len() == limit {
            found.next = Some(seq);
            break;
        }
    }
    found.named = receipts_of(shared, client, &gone).await?;
    Ok((seqs, found))
}

/// The receipts of these records, in order.
async fn receipts_of(shared: &Shared, client: &impl GenericClient, seqs: &[i64]) -> Result<Vec<ReceiptId>, Fault> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    let select = client.prepare_cached("select seq, random from records where seq = any($1) order by seq").await?;
    let mut receipts = Vec::with_capacity(seqs.len());
    for row in client.query(&select, &[&seqs]).await? {
        let seq: i64 = row.try_get(0)?;
        let wrong = |_| Fault::Inconsistent(format!("record {seq}: its receipt cannot be read"));
        let random = row.try_get::<_, &[u8]>(1)?.try_into().map_err(wrong)?;
        receipts.push(shared.mask.id_of(seq.cast_unsigned(), random));
    }
    Ok(receipts)
}

/// Makes these records pending. Answers the lane of each.
async fn put_back(transaction: &Transaction<'_>, seqs: &[i64]) -> Result<Vec<LaneId>, Fault> {
    let take = transaction
        .prepare_cached(
            "delete from delivered where seq = any($1) and not trimmed returning organization_id, lane, seq, at",
        )
        .await?;
    let (mut organizations, mut lanes) = (Vec::<PgGuid>::new(), Vec::<i64>::new());
    let (mut taken, mut texts) = (Vec::<i64>::new(), Vec::<String>::new());
    for row in transaction.query(&take, &[&seqs]).await? {
        organizations.push(row.try_get(0)?);
        lanes.push(row.try_get(1)?);
        taken.push(row.try_get(2)?);
        texts.push(delivered_before(Timestamp::from_millis(row.try_get(3)?)));
    }
    let insert = transaction
        .prepare_cached(
            "insert into pending (organization_id, lane, seq, due_at, attempts, last_error) \
             select organization_id, lane, seq, 0, 0, text \
             from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[]) as w (organization_id, lane, seq, text)",
        )
        .await?;
    transaction.execute(&insert, &[&organizations, &lanes, &taken, &texts]).await?;
    Ok(lanes.into_iter().map(LaneId).collect())
}
