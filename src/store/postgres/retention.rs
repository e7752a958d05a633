//! What time brings about: what has waited is closed, what has become too old is given up, details are let go, and what
//! was kept long enough is deleted.
//!
//! Every gateway closes what has waited. For the rest one of them at a time holds a lock of the database; the others
//! leave it alone. All of it goes in slices, a transaction each, so that nobody waits for long.
//!
//! What somebody is still to be told of keeps its details. The statement that picks records asks the database for that
//! itself: what a gateway remembers of it may be older than a subscription that another one has just taken.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::sync::watch;
use tokio_postgres::Row;

use super::Shared;
use super::board::Changes;
use super::cluster::by_organization;
use super::deleted;
use super::error::Fault;
use super::subscriptions::NEEDED_FROM;
use super::trim::trim;
use super::waiting;
use crate::config::settings::RetentionSettings;
use crate::domain::time::Timestamp;
use crate::store::LaneId;
use crate::store::observer::Swept;

/// How often it looks for what is to be closed.
const TICK: Duration = Duration::from_secs(1);
/// How many ticks apart it goes looking for what is old.
const TICKS_OF_A_ROUND: u32 = 60;
/// Records that one transaction does something to.
const SLICE: i64 = 256;
/// Of each lane only so many are looked at for what is pending for too long: the oldest, behind which nothing is older.
const OLDEST: i64 = 64;
/// The number of the lock ("SGRETENT" as letters); it has a meaning within the database of the store only.
pub(super) const LOCK: i64 = 0x5347_5245_5445_4e54;

/// Works by the clock until the store closes.
pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let (mut ticks, mut began, mut was_wrong) = (0_u32, Steady::start(), false);
    loop {
        tokio::select! {
            _closed = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        if shared.board.check_clock().is_err() {
            // It would delete for all what is old by this clock alone.
            was_wrong = true;
            continue;
        }
        if std::mem::take(&mut was_wrong) {
            began = Steady::start();
        }
        let now = began.now();
        let is_round = ticks.is_multiple_of(TICKS_OF_A_ROUND) && shared.board.wanted_from() > 0;
        let done = if is_round {
            everything(&shared, now).await
        } else {
            waiting::close(&shared, now).await.map(|closed| Swept { closed, ..Swept::default() })
        };
        if is_round && let (Ok(swept), Some(observer)) = (&done, shared.board.observer()) {
            observer.retention_round_ended(swept);
        }
        match done {
            Ok(swept) => swept.log(),
            Err(fault) => tracing::warn!(error = %fault, "retention could not go on; it will try again"),
        }
        ticks = ticks.wrapping_add(1);
    }
}

/// A clock for ages: the wall clock, but never ahead of what it showed at the start plus the time that has passed since.
struct Steady(Timestamp, tokio::time::Instant);

impl Steady {
    fn start() -> Self {
        Self(Timestamp::now(), tokio::time::Instant::now())
    }

    fn now(&self) -> Timestamp {
        Timestamp::now().min(self.0.after(self.1.elapsed()))
    }
}

/// Does all that is due.
pub(super) async fn everything(shared: &Shared, now: Timestamp) -> Result<Swept, Fault> {
    shared.board.check_clock()?;
    let mut swept = Swept { closed: waiting::close(shared, now).await?, ..Swept::default() };
    loop {
        let mut client = shared.database.pool().get().await?;
        let transaction = client.transaction().await?;
        let lock = transaction.prepare_cached("select pg_try_advisory_xact_lock($1)").await?;
        if !transaction.query_one(&lock, &[&LOCK]).await?.try_get::<_, bool>(0)? {
            return Ok(swept);
        }
        let (slice, changes) = Slice { shared, transaction: &transaction, now }.next().await?;
        transaction.commit().await?;
        shared.board.apply(&changes);
        swept.given_up += slice.given_up;
        swept.trimmed += slice.trimmed;
        swept.deleted += slice.deleted;
        if slice == Swept::default() {
            return Ok(swept);
        }
    }
}

/// One transaction's work.
struct Slice<'a> {
    shared: &'a Shared,
    transaction: &'a Transaction<'a>,
    now: Timestamp,
}

impl Slice<'_> {
    /// The first of its kinds of which there is something to do.
    async fn next(&self) -> Result<(Swept, Changes), Fault> {
        let rules = &self.shared.retention;
        let mut changes = Changes::default();
        if let Some(age) = rules.accepted {
            let given_up = self.give_up(age, &mut changes).await?;
            if given_up > 0 {
                return Ok((Swept { given_up, ..Swept::default() }, changes));
            }
        }
        for (table, age) in
            [("delivered", rules.delivered), ("dead_letters", rules.dead_letters), ("discarded", rules.dead_letters)]
        {
            let deleted = self.delete(table, age).await?;
            if deleted > 0 {
                if table == "dead_letters" {
                    changes.dead_lettered -= i64::try_from(deleted).unwrap_or(0);
                }
                return Ok((Swept { deleted, ..Swept::default() }, changes));
            }
        }
        let trimmed = self.trim(rules).await?;
        Ok((Swept { trimmed, ..Swept::default() }, changes))
    }

    /// Gives up what is pending for too long, but for what is on lease: that is in somebody's hands.
    async fn give_up(&self, age: Duration, changes: &mut Changes) -> Result<u64, Fault> {
        let days = age.as_secs() / (24 * 60 * 60);
        let reason = format!("not delivered within {days} {}", if days == 1 { "day" } else { "days" });
        let find = self
            .transaction
            .prepare_cached(
                "select p.organization_id, p.lane, p.seq from lanes w \
                 cross join lateral (select organization_id, lane, seq, lease_token, due_at from pending \
                 where organization_id = w.organization_id and lane between w.id and w.id order by lane, seq limit $4) p \
                 join records r on r.organization_id = p.organization_id and r.seq = p.seq \
                 where r.accepted_at <= $1 and (p.lease_token is null or p.due_at <= $2) limit $3",
            )
            .await?;
        let give_up = self
            .transaction
            .prepare_cached(
                "with old as (select p.lane, p.seq from unnest($2::bigint[], $3::bigint[]) as w (lane, seq) \
                 join pending p on p.lane = w.lane and p.seq = w.seq \
                 where p.organization_id = $1 and (p.lease_token is null or p.due_at <= $4) for update of p skip locked), \
                 gone as (delete from pending p using old where p.organization_id = $1 \
                 and p.lane = old.lane and p.seq = old.seq returning p.organization_id, p.seq, p.lane, p.attempts) \
                 insert into dead_letters (organization_id, seq, lane, at, attempts, reason) \
                 select organization_id, seq, lane, $4, attempts, $5 from gone returning lane",
            )
            .await?;
        let (accepted_by, now) = (self.now.before(age).millis(), self.now.millis());
        let found = self.transaction.query(&find, &[&accepted_by, &now, &SLICE, &OLDEST]).await?;
        let place = |row: &Row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)));
        let found = found.iter().map(place).collect::<Result<Vec<_>, Fault>>()?;
        let mut given_up = 0;
        for (organization, places) in by_organization::<(i64, i64)>(found) {
            let (lanes, seqs): (Vec<i64>, Vec<i64>) = places.into_iter().unzip();
            for row in self.transaction.query(&give_up, &[&organization, &lanes, &seqs, &now, &reason]).await? {
                changes.pending(LaneId(row.try_get(0)?), -1);
                changes.dead_lettered += 1;
                given_up += 1;
            }
        }
        Ok(given_up)
    }

    /// Deletes what was settled long enough ago: never the newest record, nor what is wanted, nor what still makes
    /// repeats of others.
    async fn delete(&self, table: &str, age: Duration) -> Result<u64, Fault> {
        let delete = self
            .transaction
            .prepare_cached(&format!(
                "with old as (select t.organization_id, t.seq from {table} t \
                 join records r on r.organization_id = t.organization_id and r.seq = t.seq \
                 where t.at <= $1 and r.accepted_at <= $2 and t.seq < least($3, {NEEDED_FROM}) \
                 and t.seq < (select high_water from counter) order by t.at limit $4), \
                 gone as (delete from {table} t using old where t.organization_id = old.organization_id \
                 and t.seq = old.seq returning t.organization_id, t.seq), \
                 records_gone as (delete from records r using gone where r.organization_id = gone.organization_id \
                 and r.seq = gone.seq returning r.organization_id, r.key, r.seq), \
                 keys_gone as (delete from keys k using records_gone r where k.organization_id = r.organization_id \
                 and k.key = r.key and k.seq = r.seq) \
                 select seq from records_gone order by seq"
            ))
            .await?;
        let window = self.shared.duplicate_window + Duration::from_secs(1);
        let (settled_by, accepted_by) = (self.now.before(age).millis(), self.now.before(window).millis());
        let wanted_from = self.shared.board.wanted_from();
        let rows = self.transaction.query(&delete, &[&settled_by, &accepted_by, &wanted_from, &SLICE]).await?;
        let seqs: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        deleted::note(self.transaction, &seqs).await?;
        Ok(seqs.len() as u64)
    }

    /// Trims what was delivered long enough ago.
    async fn trim(&self, rules: &RetentionSettings) -> Result<u64, Fault> {
        if rules.delivered_details >= rules.delivered {
            return Ok(0);
        }
        // Whoever takes away what was delivered holds the lock of retention, as this does.
        let select = self
            .transaction
            .prepare_cached(&format!(
                "select organization_id, seq from delivered \
                 where at <= $1 and not trimmed and seq < least($2, {NEEDED_FROM}) order by at limit $3"
            ))
            .await?;
        let delivered_by = self.now.before(rules.delivered_details).millis();
        let wanted_from = self.shared.board.wanted_from();
        let rows = self.transaction.query(&select, &[&delivered_by, &wanted_from, &SLICE]).await?;
        let places =
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, Fault>>()?;
        trim(self.transaction, places).await?;
        Ok(rows.len() as u64)
    }
}
