//! Settle: how a lease ends, and with it, mostly, a record's time as *pending*.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Transaction;
use futures_util::future::try_join_all;
use tokio_postgres::Statement;

use super::Shared;
use super::board::Changes;
use super::cluster::by_organization;
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
    let mut held = lock(shared, &transaction, &seqs).await?;
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
async fn lock(shared: &Shared, transaction: &Transaction<'_>, seqs: &[i64]) -> Result<HashMap<i64, Held>, Fault> {
    let (columns, leased) =
        ("organization_id, lane, seq, lease_token, due_at", "seq = any($1) and lease_token is not null");
    let mut rows = Vec::new();
    if shared.is_distributed {
        // Rows are locked on one server at a time, which has to be found first.
        let find = format!("select organization_id, seq from pending where {leased}");
        let find = transaction.prepare_cached(&find).await?;
        let found = transaction.query(&find, &[&seqs]).await?;
        let found =
            found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, Fault>>()?;
        let select =
            format!("select {columns} from pending where {leased} and organization_id = $2 order by seq for update");
        let select = transaction.prepare_cached(&select).await?;
        for (organization, seqs) in by_organization::<i64>(found) {
            rows.extend(transaction.query(&select, &[&seqs, &organization]).await?);
        }
    } else {
        let select = format!("select {columns} from pending where {leased} order by seq for update");
        let select = transaction.prepare_cached(&select).await?;
        rows = transaction.query(&select, &[&seqs]).await?;
    }
    let mut held = HashMap::new();
    for row in rows {
        let Ok(token) = row.try_get::<_, &[u8]>(3)?.try_into() else { continue };
        let seq = row.try_get(2)?;
        let lane = LaneId(row.try_get(1)?);
        held.insert(seq, Held { organization: row.try_get(0)?, lane, seq, token, until: row.try_get(4)? });
    }
    Ok(held)
}

/// Rows of one kind of end, by organization.
type Kind = BTreeMap<PgGuid, Rows>;

/// Rows of an organization, column by column.
#[derive(Default)]
struct Rows {
    lanes: Vec<i64>,
    seqs: Vec<i64>,
    at: Vec<i64>,
    moments: Vec<i64>,
    texts: Vec<Option<String>>,
}

impl Rows {
    fn push(&mut self, held: &Held, at: i64, moment: i64, text: Option<String>) {
        self.lanes.push(held.lane.0);
        self.seqs.push(held.seq);
        self.at.push(at);
        self.moments.push(moment);
        self.texts.push(text);
    }

    async fn write(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        organization: &PgGuid,
    ) -> Result<(), tokio_postgres::Error> {
        let Self { lanes, seqs, at, moments, texts } = self;
        transaction.execute(statement, &[organization, lanes, seqs, at, moments, texts]).await?;
        Ok(())
    }
}

/// All ends of a call, by kind.
#[derive(Default)]
struct Ends {
    delivered: Kind,
    retried: Kind,
    released: Kind,
    waiting: Kind,
    dead: Kind,
}

impl Ends {
    fn add(&mut self, held: &Held, settlement: &Settlement, changes: &mut Changes) {
        let at = settlement.at.millis();
        let of = held.organization;
        match &settlement.outcome {
            Outcome::Delivered => {
                self.delivered.entry(of).or_default().push(held, at, at, None);
                changes.pending(held.lane, -1);
            }
            Outcome::Retry { due, error } => {
                self.retried.entry(of).or_default().push(held, at, due.millis(), Some(error.clone()));
            }
            Outcome::Released => self.released.entry(of).or_default().push(held, at, DUE_AT_ONCE, None),
            Outcome::Waiting { closes_at } => {
                self.waiting.entry(of).or_default().push(held, at, closes_at.millis(), None);
                changes.pending(held.lane, -1);
                changes.waiting += 1;
            }
            Outcome::DeadLettered { reason } => {
                self.dead.entry(of).or_default().push(held, at, at, Some(reason.clone()));
                changes.pending(held.lane, -1);
                changes.dead_lettered += 1;
            }
        }
    }

    async fn write(&self, shared: &Shared, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let gone = "with w as (select * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[]) \
             as w (lane, seq, at, moment, text)), \
             p as (delete from pending p using w where p.organization_id = $1 and p.lane = w.lane and p.seq = w.seq \
             returning p.organization_id, p.lane, p.seq, p.attempts, p.last_error, w.at, w.moment, w.text) ";
        let stays = "update pending p set due_at = w.moment, lease_token = null, ";
        let of = " from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[]) \
             as w (lane, seq, at, moment, text) where p.organization_id = $1 and p.lane = w.lane and p.seq = w.seq";
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
        for (kind, sql) in statements {
            if kind.is_empty() {
                continue;
            }
            let statement = transaction.prepare_cached(&sql).await?;
            // One behind the other, without waiting for answers.
            let mut each = Vec::with_capacity(kind.len());
            for (organization, rows) in kind {
                each.push(rows.write(transaction, &statement, organization));
            }
            try_join_all(each).await?;
        }
        if shared.trim_at_delivery && !self.delivered.is_empty() {
            // After the leases were read: whoever subscribed before one of these records arrived is seen.
            let needed = transaction.prepare_cached(&format!("select {NEEDED_FROM}")).await?;
            let needed_from: i64 = transaction.query_one(&needed, &[]).await?.try_get(0)?;
            let wanted_from = shared.board.wanted_from().min(needed_from);
            let delivered = self.delivered.iter().flat_map(|(of, rows)| rows.seqs.iter().map(|seq| (*of, *seq)));
            let trimmed: Vec<(PgGuid, i64)> = delivered.filter(|(_, seq)| *seq < wanted_from).collect();
            super::trim::trim(transaction, trimmed).await?;
        }
        Ok(())
    }
}
