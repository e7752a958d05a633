//! Verifying: whether every receipt that was ever handed out is accounted for, in a database that gateways may be using.
//!
//! All of it is read as of one moment. Each number that was given to a record must be a record that is what was written
//! (by its checksum) and in exactly one state, or deleted as retention says. States belong to records, repeats are found by
//! keys that lead to the right record, and the catalog, its trail and the subscriptions are as they were written. A finding
//! does not end it: everything is looked at, and nothing is changed.
//!
//! Not guaranteed: what has no checksum, and contradicts nothing, passes: moments, numbers of tries, and reasons.

use std::sync::Arc;

use tokio_postgres::{IsolationLevel, Row, Transaction};

use super::catalog;
use super::error::Fault;
use super::look::{STATE, STATES, standing_in};
use super::open;
use super::record::{COLUMNS, FROM, read};
use super::subscriptions;
use super::{Database, OpenError};
use crate::config::settings::DatabaseSettings;
use crate::domain::time::Timestamp;
use crate::store::DeliveryState;
use crate::store::receipt_id::ReceiptMask;
use crate::store::verification::{Counts, Finding, Findings, Kind, Options, Progress, Report, WrittenDown};

/// Records that one statement reads.
const WINDOW: i64 = 2_000;

/// Verifies what is in a database, and changes nothing. Blocks while it reads all of it.
///
/// # Errors
/// [`OpenError`]: the database cannot be reached, or no gateway of this version was there.
pub fn verify(
    settings: &DatabaseSettings,
    options: &Options,
    show: &mut dyn FnMut(Progress),
) -> Result<Report, OpenError> {
    let database = Arc::new(Database::reach(settings)?);
    let (tell, told) = std::sync::mpsc::channel();
    let (of_work, options) = (Arc::clone(&database), *options);
    let place = format!("database {}", settings.connection.get_dbname().unwrap_or_default());
    std::thread::scope(|scope| {
        let work = scope.spawn(move || {
            database.opening(move |_| async move {
                let mut client = of_work.pool().get().await.map_err(Fault::from)?;
                open::check_format(&client).await?;
                let moment = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
                let transaction = moment.start().await?;
                transaction.batch_execute("set local statement_timeout = 0").await?;
                let mask = open::mask(&*transaction).await?;
                let findings = Findings::keeping(options.findings);
                let work = Work { transaction: &transaction, mask, options, findings, counts: Counts::default(), tell };
                work.all(place).await
            })
        });
        for progress in told {
            show(progress);
        }
        work.join().unwrap_or_else(|_| Err(OpenError::Database("verifying it ended without an answer".to_owned())))
    })
}

struct Work<'a> {
    transaction: &'a Transaction<'a>,
    mask: ReceiptMask,
    options: Options,
    findings: Findings,
    counts: Counts,
    tell: std::sync::mpsc::Sender<Progress>,
}

impl Work<'_> {
    async fn all(mut self, store: String) -> Result<Report, OpenError> {
        let row = self.transaction.query_one("select high_water from counter", &[]).await?;
        let newest: i64 = row.try_get(0)?;
        self.counts.accepted = newest.max(0).cast_unsigned();
        let deleted = self.deleted().await?;
        self.records(newest, &deleted).await?;
        self.stray_states().await?;
        self.keys(&deleted).await?;
        self.beside().await?;
        let written_down = self.lost().await?;
        let is_damage = self.findings.is_damage();
        let (findings, totals) = self.findings.into_parts();
        let counts = self.counts;
        Ok(Report { sound: !is_damage, store, newest, counts, findings, totals, written_down })
    }

    fn note(&mut self, kind: Kind, table: &'static str, what: impl Into<String>, (from, to): (i64, i64)) {
        self.findings.note(Finding::damage(kind, table, what).of(from, to));
    }

    /// Every record with its state, in the order of the numbers, and every number that has none.
    async fn records(&mut self, newest: i64, deleted: &[(i64, i64)]) -> Result<(), OpenError> {
        let select = format!(
            "select {COLUMNS}, {STATE}, p.lease_token is null from {FROM} {STATES} where r.seq > $1 order by r.seq limit $2"
        );
        let select = self.transaction.prepare(&select).await?;
        let mut last = 0_i64;
        loop {
            let _nobody_looks = self.tell.send(Progress {
                stage: "verifying records",
                done: last.max(0).cast_unsigned(),
                of: newest.max(0).cast_unsigned(),
            });
            let rows = self.transaction.query(&select, &[&last, &WINDOW]).await?;
            for row in &rows {
                let seq: i64 = row.try_get(0)?;
                if seq == last {
                    self.note(Kind::ContradictoryState, "table records", "two records have this number", (seq, seq));
                    continue;
                }
                self.missing(last + 1, seq - 1, deleted);
                self.record(row, seq);
                last = seq;
            }
            if rows.is_empty() {
                break;
            }
        }
        self.missing(last + 1, newest, deleted);
        if last > newest {
            self.note(
                Kind::Figures,
                "table counter",
                "a record has a number that was not given out",
                (newest + 1, last),
            );
        }
        Ok(())
    }

    async fn deleted(&mut self) -> Result<Vec<(i64, i64)>, OpenError> {
        let rows = self.transaction.query("select first, last from deleted order by first", &[]).await?;
        let ranges: Vec<(i64, i64)> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, tokio_postgres::Error>>()?;
        self.counts.deleted = ranges.iter().map(|(first, last)| (last - first + 1).max(0).cast_unsigned()).sum();
        Ok(ranges)
    }

    /// What had been lost before the store was copied here, and is among what counts as deleted.
    async fn lost(&mut self) -> Result<Vec<WrittenDown>, OpenError> {
        let rows = self.transaction.query("select first, last, at, why from lost order by first", &[]).await?;
        let mut written_down = Vec::new();
        for row in &rows {
            let (from, to): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let count = (to - from + 1).max(0).cast_unsigned();
            self.counts.lost_and_written_down += count;
            self.counts.deleted = self.counts.deleted.saturating_sub(count);
            if written_down.len() < self.options.findings {
                let at = Timestamp::from_millis(row.try_get(2)?).to_string();
                written_down.push(WrittenDown { from, to, at, why: row.try_get(3)? });
            }
        }
        Ok(written_down)
    }

    /// These numbers have no record. Whatever of them was not deleted is lost.
    fn missing(&mut self, from: i64, to: i64, deleted: &[(i64, i64)]) {
        let mut next = from;
        let begin = deleted.partition_point(|(_, last)| *last < from);
        for (first, last) in deleted.iter().skip(begin).take_while(|(first, _)| *first <= to) {
            if next < *first {
                self.note(Kind::Lost, "table records", "no such record, and it was not deleted", (next, *first - 1));
            }
            next = last + 1;
        }
        if next <= to {
            self.note(Kind::Lost, "table records", "no such record, and it was not deleted", (next, to));
        }
    }

    fn record(&mut self, row: &Row, seq: i64) {
        let found = match read(row, 0, seq, &self.mask) {
            Ok(found) => found,
            Err(damage) => return self.note(Kind::DamagedRecord, "table records", damage.what, (seq, seq)),
        };
        let receipt = found.record.receipt.to_string();
        let standing = match standing_in(row, found) {
            Ok(standing) => standing,
            Err(damage) => {
                let finding = Finding::damage(Kind::ContradictoryState, "table records", damage.what).of(seq, seq);
                return self.findings.note(finding.with_receipt(Some(receipt)));
            }
        };
        let counts = &mut self.counts;
        counts.verified += 1;
        match standing.state {
            DeliveryState::Delivered => counts.delivered += 1,
            DeliveryState::DeadLettered if standing.discarded.is_some() => counts.discarded += 1,
            DeliveryState::DeadLettered => counts.dead_lettered += 1,
            _ if standing.waiting.is_some() => counts.waiting += 1,
            DeliveryState::Accepted => {
                counts.pending += 1;
                counts.untried += 1;
            }
            _ => counts.pending += 1,
        }
    }

    /// What says what became of a record that is not there.
    async fn stray_states(&mut self) -> Result<(), OpenError> {
        for table in ["table pending", "table waiting", "table delivered", "table dead_letters", "table discarded"] {
            let name = table.trim_start_matches("table ");
            let select = format!(
                "select t.seq from {name} t where not exists (select from records r \
                 where r.organization_id = t.organization_id and r.seq = t.seq and r.lane = t.lane) order by t.seq"
            );
            for row in self.transaction.query(&select, &[]).await? {
                let seq: i64 = row.try_get(0)?;
                self.note(Kind::StrayState, table, "no such record in that lane", (seq, seq));
            }
        }
        Ok(())
    }

    /// Whether repeats of what still counts are recognized.
    async fn keys(&mut self, deleted: &[(i64, i64)]) -> Result<(), OpenError> {
        let count = self.transaction.query_one("select count(*) from keys", &[]).await?;
        self.counts.duplicate_keys = count.try_get::<_, i64>(0)?.max(0).cast_unsigned();
        let since = Timestamp::now().before(self.options.duplicate_window).millis();
        let unknown = "select r.seq from records r left join keys k \
             on k.organization_id = r.organization_id and k.key = r.key \
             where r.accepted_at > $1 and (k.seq is null or k.seq < r.seq) order by r.seq";
        for row in self.transaction.query(unknown, &[&since]).await? {
            let seq: i64 = row.try_get(0)?;
            self.note(Kind::Index, "table keys", "a repeat of this record would not be recognized", (seq, seq));
        }
        let wrong = "select k.seq, r.seq is null from keys k left join records r \
             on r.organization_id = k.organization_id and r.seq = k.seq \
             where r.seq is null or r.key <> k.key order by k.seq";
        let is_deleted = |seq: i64| {
            let behind = deleted.partition_point(|(first, _)| *first <= seq);
            deleted.get(..behind).and_then(<[_]>::last).is_some_and(|(_, last)| *last >= seq)
        };
        for row in self.transaction.query(wrong, &[]).await? {
            let (seq, is_gone): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
            if is_gone && is_deleted(seq) {
                continue;
            }
            self.note(
                Kind::Index,
                "table keys",
                "a key leads to a record that is not there, or is another",
                (seq, seq),
            );
        }
        Ok(())
    }

    /// What stands beside the records.
    async fn beside(&mut self) -> Result<(), OpenError> {
        for fault in catalog::verify(self.transaction).await? {
            self.findings.note(Finding::damage(Kind::Catalog, "table catalog", fault));
        }
        for fault in subscriptions::verify(self.transaction).await? {
            self.findings.note(Finding::damage(Kind::Subscriptions, "table subscriptions", fault));
        }
        Ok(())
    }
}
