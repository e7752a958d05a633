//! `subscriptions.db`: who wants to be told, and what each is still to be told, in a file of its own.
//!
//! Apart from the records, so that telling never stands in the way of accepting: what an append writes is the same
//! whether somebody is subscribed or not. It keeps a write-ahead log, since notices come and go as fast as records do.

pub(in crate::store) mod rows;

pub(super) use self::rows::{damaged_rows, each_notice};

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::{OpenError, read_error};
use super::side_file::{Journal, Kind, SideFile};
use crate::domain::ids::SubscriptionId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::subscriptions::{
    DeadNotice, Due, Ended, Fenced, NewNotice, Revision, Role, Span, Standing, Subscription, SubscriptionStore,
    Summary, Tried, TriedEnd,
};

/// The file.
pub const SUBSCRIPTIONS: &str = "subscriptions.db";
/// Says that there was one, so that one that is missing shows.
pub(super) const MARK: &str = "subscriptions.mark";

/// What the file is. Its application ID is "SGSU".
pub(super) const KIND: Kind = Kind {
    file: SUBSCRIPTIONS,
    mark: MARK,
    application_id: 0x5347_5355,
    version: 1,
    tables: "
create table meta (id integer primary key check (id = 1), position integer not null);
insert into meta values (1, 0);
create table subscriptions (
    number integer primary key autoincrement,
    id blob not null unique,
    document text not null,
    crc integer not null,
    -- It is told of records with higher numbers.
    after integer not null,
    -- How it ended, in words; null while it lasts.
    ended_at integer,
    ended_because text,
    delivered integer not null default 0,
    last_delivered_at integer
);
create table notices (
    subscription integer not null,
    number integer not null,
    receipt blob not null,
    at integer not null,
    due_at integer not null,
    attempts integer not null,
    last_error text,
    -- When it was given up; null while it is pending.
    dead_at integer,
    primary key (subscription, number)
) without rowid;
create index notices_due on notices (subscription, due_at) where dead_at is null;
create index notices_pending on notices (number) where dead_at is null;
create index notices_dead on notices (dead_at) where dead_at is not null;
",
    journal: Journal::WriteAhead,
    lost: "the subscriptions of flows, and what they were still to be told, are",
};

/// The store of subscriptions in a data directory.
#[derive(Debug)]
pub struct SqliteSubscriptions {
    file: SideFile,
    /// Changes only while a transaction is under way, so whoever is in one sees what holds. The process is alone with the
    /// file, so it need not survive.
    revision: AtomicU64,
}

impl SqliteSubscriptions {
    /// Opens the file in this directory, made if it is not there. The directory's lock must be held. Nothing is added
    /// when so many bytes are left on the disk.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be used, or is none of this version, or is gone although there was one.
    pub fn open(data_dir: &Path, reserve_bytes: u64) -> Result<Self, OpenError> {
        let file = SideFile::open(&KIND, data_dir, reserve_bytes)?;
        Ok(Self { file, revision: AtomicU64::new(1) })
    }
}

impl SqliteSubscriptions {
    fn current(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// Changes who is subscribed.
    fn revise<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.file.transact(|conn| {
            let done = work(conn)?;
            // A change that is not committed after all costs whoever reads a look, and nothing else.
            self.revision.fetch_add(1, Ordering::AcqRel);
            Ok(done)
        })
    }
}

/// SQLite's numbers have a sign; ours stay far below where it matters.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The short number that notices go by; `None` for a subscription that is not there.
fn number_of(conn: &Connection, id: &SubscriptionId) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("select number from subscriptions where id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
}

impl SubscriptionStore for SqliteSubscriptions {
    fn load(&self) -> Result<(Revision, Vec<Subscription>), StoreError> {
        self.file.read(|conn| Ok((self.current(), rows::load(conn)?)))
    }

    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.current())
    }

    fn lead(&self) -> Result<Role, StoreError> {
        Ok(Role::Alone)
    }

    fn resign(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn add(&self, revision: Revision, subscription: &Subscription) -> Result<Fenced, StoreError> {
        self.file.check_room()?;
        self.file.transact(|conn| {
            if self.current() != revision {
                return Ok(Fenced::Out);
            }
            let others: i64 =
                conn.query_row("select count(*) from subscriptions where ended_at is null", [], |row| row.get(0))?;
            if others == 0 {
                conn.execute("update meta set position = max(position, ?1)", [signed(subscription.after)])?;
            }
            rows::insert(conn, subscription)?;
            self.revision.fetch_add(1, Ordering::AcqRel);
            Ok(Fenced::Done)
        })
    }

    fn end(&self, id: &SubscriptionId, ended: &Ended) -> Result<u64, StoreError> {
        self.revise(|conn| {
            let Some(number) = number_of(conn, id)? else { return Ok(0) };
            conn.execute(
                "update subscriptions set ended_at = ?2, ended_because = ?3 where number = ?1 and ended_at is null",
                params![number, ended.at.millis(), ended.because],
            )?;
            let dropped = conn.execute("delete from notices where subscription = ?1 and dead_at is null", [number])?;
            Ok(dropped as u64)
        })
    }

    fn forget_ended(&self, ids: &[SubscriptionId]) -> Result<Vec<SubscriptionId>, StoreError> {
        self.revise(|conn| {
            let mut delete = conn.prepare_cached(
                "delete from subscriptions where id = ?1 and ended_at is not null \
                 and not exists (select 1 from notices where subscription = subscriptions.number)",
            )?;
            let mut forgotten = Vec::new();
            for id in ids {
                if delete.execute([id.as_bytes()])? > 0 {
                    forgotten.push(*id);
                }
            }
            Ok(forgotten)
        })
    }

    fn standings(&self) -> Result<Vec<(SubscriptionId, Standing)>, StoreError> {
        self.file.read(|conn| rows::standings(conn).map_err(read_error))
    }

    fn position(&self) -> Result<u64, StoreError> {
        let position = |conn: &Connection| {
            conn.query_row("select position from meta where id = 1", [], |row| row.get::<_, i64>(0))
        };
        Ok(self.file.read(position).map_err(read_error)?.cast_unsigned())
    }

    fn rewind(&self, newest: u64) -> Result<u64, StoreError> {
        let newest = signed(newest);
        self.revise(|conn| {
            conn.execute("update meta set position = min(position, ?1)", [newest])?;
            conn.execute("update subscriptions set after = min(after, ?1)", [newest])?;
            // The numbers after it will be those of other records.
            let gone = conn.execute("delete from notices where number > ?1", [newest])?;
            Ok(gone as u64)
        })
    }

    fn put_down(&self, span: &Span, notices: &[NewNotice]) -> Result<Fenced, StoreError> {
        if !notices.is_empty() {
            self.file.check_room()?;
        }
        self.file.transact(|conn| {
            if self.current() != span.revision {
                return Ok(Fenced::Out);
            }
            let moved = conn
                .prepare_cached("update meta set position = max(position, ?2) where position = ?1")?
                .execute([signed(span.from), signed(span.through)])?;
            if moved == 0 {
                return Ok(Fenced::Out);
            }
            let mut insert = conn.prepare_cached(
                // What is there already is left alone, unless it is about another record.
                "insert into notices (subscription, number, receipt, at, due_at, attempts) \
                 select number, ?2, ?3, ?4, 0, 0 from subscriptions where id = ?1 and ended_at is null \
                 on conflict (subscription, number) do update set receipt = excluded.receipt, at = excluded.at, \
                 due_at = 0, attempts = 0, last_error = null, dead_at = null where receipt <> excluded.receipt",
            )?;
            for notice in notices {
                let NewNotice { subscription, number, receipt, at } = notice;
                insert.execute(params![subscription.as_bytes(), signed(*number), receipt.as_bytes(), at.millis()])?;
            }
            Ok(Fenced::Done)
        })
    }

    fn oldest_pending(&self) -> Result<Option<u64>, StoreError> {
        let oldest = |conn: &Connection| {
            conn.prepare_cached("select min(number) from notices where dead_at is null")?
                .query_row([], |row| row.get::<_, Option<i64>>(0))
        };
        Ok(self.file.read(oldest).map_err(read_error)?.map(i64::cast_unsigned))
    }

    fn summary(&self, most: usize) -> Result<Summary, StoreError> {
        let count = |conn: &Connection, which: &str| {
            // Counts the entries of a partial index, and stops.
            let sql = format!("select count(*) from (select 1 from notices where dead_at is {which} limit ?1)");
            conn.prepare_cached(&sql)?.query_row([limited(most)], |row| row.get::<_, i64>(0))
        };
        let summary = |conn: &Connection| {
            let oldest: Option<i64> = conn
                .prepare_cached("select at from notices where dead_at is null order by number limit 1")?
                .query_row([], |row| row.get(0))
                .optional()?;
            Ok(Summary {
                pending: count(conn, "null")?.cast_unsigned(),
                dead_lettered: count(conn, "not null")?.cast_unsigned(),
                oldest_pending_at: oldest.map(Timestamp::from_millis),
            })
        };
        self.file.read(summary).map_err(read_error)
    }

    fn due(&self, id: &SubscriptionId, now: Timestamp, limit: usize) -> Result<Due, StoreError> {
        self.file.read(|conn| rows::due(conn, id, now, limited(limit)).map_err(read_error))
    }

    fn conclude(&self, tries: &[Tried]) -> Result<(), StoreError> {
        self.file.transact(|conn| {
            for Tried { subscription, number, end } in tries {
                let Some(whose) = number_of(conn, subscription)? else { continue };
                conclude(conn, (whose, signed(*number)), end)?;
            }
            Ok(())
        })
    }

    fn dead_letters(
        &self,
        id: &SubscriptionId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadNotice>, StoreError> {
        let after = after.map_or(0, signed);
        self.file.read(|conn| rows::dead_letters(conn, id, after, limited(limit)).map_err(read_error))
    }

    fn requeue(&self, id: &SubscriptionId, now: Timestamp) -> Result<u64, StoreError> {
        self.file.transact(|conn| {
            let Some(number) = number_of(conn, id)? else { return Ok(0) };
            let requeued = conn.execute(
                "update notices set dead_at = null, attempts = 0, due_at = 0, at = ?2 \
                 where subscription = ?1 and dead_at is not null \
                 and exists (select 1 from subscriptions where number = ?1 and ended_at is null)",
                params![number, now.millis()],
            )?;
            Ok(requeued as u64)
        })
    }

    fn discard(&self, id: &SubscriptionId) -> Result<u64, StoreError> {
        self.file.transact(|conn| {
            let Some(number) = number_of(conn, id)? else { return Ok(0) };
            let discarded =
                conn.execute("delete from notices where subscription = ?1 and dead_at is not null", [number])?;
            Ok(discarded as u64)
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        self.file.fold_log()
    }

    fn forget(&self, older_than: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.file.transact(|conn| {
            let forgotten = conn.execute(
                "delete from notices where (subscription, number) in \
                 (select subscription, number from notices where dead_at is not null and dead_at < ?1 limit ?2)",
                params![older_than.millis(), limited(at_most)],
            )?;
            let gone = conn.execute(
                "delete from subscriptions where ended_at < ?1 \
                 and not exists (select 1 from notices where subscription = subscriptions.number)",
                [older_than.millis()],
            )?;
            if gone > 0 {
                self.revision.fetch_add(1, Ordering::AcqRel);
            }
            Ok(forgotten as u64)
        })
    }
}

/// What a try came to, for a notice that is still pending.
fn conclude(conn: &Connection, (whose, number): (i64, i64), end: &TriedEnd) -> rusqlite::Result<()> {
    match end {
        TriedEnd::Told { at } => {
            let gone = conn
                .prepare_cached("delete from notices where subscription = ?1 and number = ?2 and dead_at is null")?
                .execute([whose, number])?;
            if gone > 0 {
                conn.prepare_cached(
                    "update subscriptions set delivered = delivered + 1, \
                     last_delivered_at = max(coalesce(last_delivered_at, 0), ?2) where number = ?1",
                )?
                .execute(params![whose, at.millis()])?;
            }
        }
        TriedEnd::Later { due, error } => {
            conn.prepare_cached(
                "update notices set due_at = ?3, attempts = attempts + 1, last_error = ?4 \
                 where subscription = ?1 and number = ?2 and dead_at is null",
            )?
            .execute(params![whose, number, due.millis(), error])?;
        }
        TriedEnd::GivenUp { at, reason } => {
            conn.prepare_cached(
                "update notices set dead_at = ?3, attempts = attempts + 1, last_error = ?4 \
                 where subscription = ?1 and number = ?2 and dead_at is null",
            )?
            .execute(params![whose, number, at.millis(), reason])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
