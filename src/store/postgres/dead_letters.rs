//! Dead letters: another chance for them, or none any more.

use tokio_postgres::types::ToSql;

use super::Shared;
use super::board::Changes;
use super::error::Fault;
use super::list::pick_dead_letters;
use super::trim::trim;
use crate::store::{DeadLetters, Discarded, Handled, LaneId};

/// Those that are meant: their numbers, the random bits of the receipt where one is asked for, and where to go on.
struct Chosen {
    seqs: Vec<i64>,
    random: Option<[u8; 16]>,
    next: Option<i64>,
}

async fn choose(shared: &Shared, which: DeadLetters) -> Result<Chosen, Fault> {
    match which {
        DeadLetters::One(receipt) => {
            let place = shared.place_of(&receipt);
            let (seqs, random) = place.map_or((Vec::new(), None), |(seq, random)| (vec![seq], Some(random)));
            Ok(Chosen { seqs, random, next: None })
        }
        DeadLetters::Matching { filter, after, limit } => {
            let (seqs, next) = pick_dead_letters(shared, &filter, after.unwrap_or(0), limit).await?;
            Ok(Chosen { seqs, random: None, next })
        }
    }
}

/// The dead letters of these numbers, and with these random bits where any are asked for.
const TAKEN: &str = "with x as (delete from dead_letters x using records r \
     where x.seq = any($1) and r.organization_id = x.organization_id and r.seq = x.seq \
     and ($2::bytea is null or r.random = $2) \
     returning x.organization_id, x.seq, x.lane, x.at, x.attempts, x.reason) ";

/// Makes dead letters pending again.
pub(super) async fn requeue(shared: &Shared, which: DeadLetters) -> Result<Handled, Fault> {
    let Chosen { seqs, random, next } = choose(shared, which).await?;
    let client = shared.database.pool().get().await?;
    let requeue = client
        .prepare_cached(&format!(
            "{TAKEN} insert into pending (organization_id, lane, seq, due_at, attempts, last_error) \
             select organization_id, lane, seq, 0, 0, reason from x returning lane"
        ))
        .await?;
    let random = random.as_ref().map(<[u8; 16]>::as_slice);
    let taken = client.query(&requeue, &[&seqs, &random]).await?;
    let mut changes = Changes::default();
    for row in &taken {
        changes.pending(LaneId(row.try_get(0)?), 1);
        changes.dead_lettered -= 1;
    }
    shared.board.apply(&changes);
    Ok(Handled { count: taken.len() as u64, next })
}

/// Puts dead letters away.
pub(super) async fn discard(shared: &Shared, which: DeadLetters, how: &Discarded) -> Result<Handled, Fault> {
    let Chosen { seqs, random, next } = choose(shared, which).await?;
    let mut client = shared.database.pool().get().await?;
    let transaction = client.transaction().await?;
    let discard = transaction
        .prepare_cached(&format!(
            "{TAKEN} insert into discarded \
             (organization_id, seq, lane, at, attempts, reason, discarded_at, discarded_by, discarded_for) \
             select organization_id, seq, lane, at, attempts, reason, $3, $4, $5 from x returning organization_id, seq"
        ))
        .await?;
    let random = random.as_ref().map(<[u8; 16]>::as_slice);
    let parameters: [&(dyn ToSql + Sync); 5] = [&seqs, &random, &how.at.millis(), &how.by, &how.reason];
    let rows = transaction.query(&discard, &parameters).await?;
    let taken = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, Fault>>()?;
    let count = taken.len() as u64;
    trim(&transaction, taken).await?;
    transaction.commit().await?;
    shared.board.apply(&Changes { dead_lettered: -i64::try_from(count).unwrap_or(0), ..Changes::default() });
    Ok(Handled { count, next })
}
