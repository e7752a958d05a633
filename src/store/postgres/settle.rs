//! Settle: how a lease ends, and with it, mostly, a record's time as *pending*.

use std::collections::HashMap;

use deadpool_postgres::Transaction;

use super::Shared;
use super::board::Changes;
use super::error::Fault;
use super::guid::PgGuid;
use super::subscriptions::NEEDED_FROM;
use crate::store::lease::DUE_AT_ONCE;
use crate::store::receipt_id::same;
use crate::store::{LaneId, Outcome, Settled, Settlement};

/// A record on lease.
struct Held {
    organization: PgGuid,
    lane: LaneId,
    seq: i64,
    token: [u8; 16],
    until: i64,
}

/// Settles each lease that still holds. The answers stand in the order of the settlements.
pub(super) async fn settle(shared: &Shared, settlements: Vec<Settlement>) -> Result<Vec<Settled>, Fault> {
    let mut client = shared.database.pool().get().await?;
    let transaction = client.transaction().await?;
    let seqs: Vec<i64> = settlements
        .iter()
        .map(|settlement| i64::try_from(shared.mask.open(&settlement.receipt).seq).unwrap_or(0))
        .collect();
    let mut held = lock(&transaction, &seqs).await?;
    let (mut settled, mut ends, mut changes) = (Vec::with_capacity(seqs.len()), Ends::default(), Changes::default());
    for (settlement, seq) in settlements.iter().zip(&seqs) {
        let holds = |held: &Held| held.until > settlement.at.millis() && same(&held.token, &settlement.token.0);
        if held.get(seq).is_some_and(holds)
            && let Some(held) = held.remove(seq)
        {
            ends.add(&held, settlement, &mut changes);
            settled.push(Settled::Done);
        } else {
            settled.push(Settled::LeaseLost);
        }
    }
    ends.write(shared, &transaction).await?;
    transaction.commit().await?;
    shared.board.apply(&changes);
    Ok(settled)
}

/// The leases on these records, locked.
async fn lock(transaction: &Transaction<'_>, seqs: &[i64]) -> Result<HashMap<i64, Held>, Fault> {
    let select = transaction
        .prepare_cached(
            "select organization_id, lane, seq, lease_token, due_at from pending \
             where seq = any($1) and lease_token is not null order by seq for update",
        )
        .await?;
    let mut held = HashMap::new();
    for row in transaction.query(&select, &[&seqs]).await? {
        let Ok(token) = row.try_get::<_, &[u8]>(3)?.try_into() else { continue };
        let seq = row.try_get(2)?;
        let lane = LaneId(row.try_get(1)?);
        held.insert(seq, Held { organization: row.try_get(0)?, lane, seq, token, until: row.try_get(4)? });
    }
    Ok(held)
}

/// Rows of one kind of end, column by column.
#[derive(Default)]
struct Rows {
    organizations: Vec<PgGuid>,
    lanes: Vec<i64>,
    seqs: Vec<i64>,
    at: Vec<i64>,
    moments: Vec<i64>,
    texts: Vec<Option<String>>,
}

impl Rows {
    fn push(&mut self, held: &Held, at: i64, moment: i64, text: Option<String>) {
        self.organizations.push(held.organization);
        self.lanes.push(held.lane.0);
        self.seqs.push(held.seq);
        self.at.push(at);
        self.moments.push(moment);
        self.texts.push(text);
    }
}

/// All ends of a call, by kind.
#[derive(Default)]
struct Ends {
    delivered: Rows,
    retried: Rows,
    released: Rows,
    waiting: Rows,
    dead: Rows,
}

impl Ends {
    fn add(&mut self, held: &Held, settlement: &Settlement, changes: &mut Changes) {
        let at = settlement.at.millis();
        match &settlement.outcome {
            Outcome::Delivered => {
                self.delivered.push(held, at, at, None);
                changes.pending(held.lane, -1);
            }
            Outcome::Retry { due, error } => self.retried.push(held, at, due.millis(), Some(error.clone())),
            Outcome::Released => self.released.push(held, at, DUE_AT_ONCE, None),
            Outcome::Waiting { closes_at } => {
                self.waiting.push(held, at, closes_at.millis(), None);
                changes.pending(held.lane, -1);
                changes.waiting += 1;
            }
            Outcome::DeadLettered { reason } => {
                self.dead.push(held, at, at, Some(reason.clone()));
                changes.pending(held.lane, -1);
                changes.dead_lettered += 1;
            }
        }
    }

    async fn write(&self, shared: &Shared, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let gone = "with w as (select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
             $6::text[]) as w (organization_id, lane, seq, at, moment, text)), \
             p as (delete from pending p using w \
             where p.organization_id = w.organization_id and p.lane = w.lane and p.seq = w.seq \
             returning p.organization_id, p.lane, p.seq, p.attempts, p.last_error, w.at, w.moment, w.text) ";
        let stays = "update pending p set due_at = w.moment, lease_token = null, ";
        let of = " from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[]) \
             as w (organization_id, lane, seq, at, moment, text) \
             where p.organization_id = w.organization_id and p.lane = w.lane and p.seq = w.seq";
        let statements = [
            (
                &self.delivered,
                format!(
                    "{gone} insert into delivered (organization_id, seq, lane, at, attempts, last_error) \
                     select organization_id, seq, lane, at, attempts, last_error from p"
                ),
            ),
            (
                &self.waiting,
                format!(
                    "{gone} insert into waiting (organization_id, seq, lane, since, closes_at, attempts, last_error) \
                     select organization_id, seq, lane, at, moment, attempts, last_error from p"
                ),
            ),
            (
                &self.dead,
                format!(
                    "{gone} insert into dead_letters (organization_id, seq, lane, at, attempts, reason) \
                     select organization_id, seq, lane, at, attempts, text from p"
                ),
            ),
            (&self.retried, format!("{stays} last_error = w.text {of}")),
            (&self.released, format!("{stays} attempts = greatest(p.attempts - 1, 0) {of}")),
        ];
        for (rows, sql) in statements {
            if rows.seqs.is_empty() {
                continue;
            }
            let statement = transaction.prepare_cached(&sql).await?;
            let Rows { organizations, lanes, seqs, at, moments, texts } = rows;
            transaction.execute(&statement, &[organizations, lanes, seqs, at, moments, texts]).await?;
        }
        if shared.trim_at_delivery && !self.delivered.seqs.is_empty() {
            // After the leases were read: whoever subscribed before one of these records arrived is seen.
            let needed = transaction.prepare_cached(&format!("select {NEEDED_FROM}")).await?;
            let needed_from: i64 = transaction.query_one(&needed, &[]).await?.try_get(0)?;
            let wanted_from = shared.board.wanted_from().min(needed_from);
            let trimmed: Vec<i64> = self.delivered.seqs.iter().copied().filter(|seq| *seq < wanted_from).collect();
            super::trim::trim(transaction, &trimmed).await?;
        }
        Ok(())
    }
}
