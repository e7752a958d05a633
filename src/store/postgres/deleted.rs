//! Which records were deleted: ranges of numbers, so that a record that is gone on purpose is told apart from one that was
//! lost. Ranges that would touch become one. Only whoever holds the retention's lock writes here.

use deadpool_postgres::Transaction;

use super::error::Fault;

/// Notes that these records were deleted; they stand in order.
pub(super) async fn note(transaction: &Transaction<'_>, seqs: &[i64]) -> Result<(), Fault> {
    let touching = transaction
        .prepare_cached(
            "delete from deleted where first <= $2::bigint + 1 and last >= $1::bigint - 1 returning first, last",
        )
        .await?;
    let insert = transaction.prepare_cached("insert into deleted (first, last) values ($1, $2)").await?;
    for run in seqs.chunk_by(|one, next| one + 1 == *next) {
        let (Some(mut first), Some(mut last)) = (run.first().copied(), run.last().copied()) else { continue };
        for row in transaction.query(&touching, &[&first, &last]).await? {
            first = first.min(row.try_get(0)?);
            last = last.max(row.try_get(1)?);
        }
        transaction.execute(&insert, &[&first, &last]).await?;
    }
    Ok(())
}
