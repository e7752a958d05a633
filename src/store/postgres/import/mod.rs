//! Taking in the copy of a store on files.
//!
//! Every transaction holds the row of `copying`, and finds there that it is still the same copy; the counter of the records
//! moves on from where it was left, or not at all. So a second copy, or a gateway that was there before, is noticed by
//! whoever comes later.

mod ahead;
mod compare;
mod value;

use std::pin::pin;

use bytes::Bytes;
use deadpool_postgres::{Object, Transaction};
use tokio::runtime::Runtime;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use self::value::type_of;
use super::OpenError;
use super::database::Database;
use super::error::Fault;
use super::open::LOCK;
use crate::store::copying::CopyError;
use crate::store::copying::rows::{Row, Rows, Table};
use crate::store::gateways::GONE_AFTER;
use crate::store::sqlite::export::{Beginning, Identity};

/// What a database holds that is to be copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Standing {
    /// Nothing.
    Empty,
    /// A part of the same copy.
    Unfinished {
        /// Up to which record.
        records: i64,
    },
    /// The same store, copied to its end, and perhaps used since then.
    Complete {
        /// The last number that was given out.
        high_water: i64,
    },
}

/// The database that is copied to.
pub(in crate::store) struct Target {
    // Before the runtime that it lives on.
    client: Object,
    runtime: Runtime,
}

/// A table of millions is read in one statement.
const PATIENT: &str = "set statement_timeout = 0; set idle_in_transaction_session_timeout = '60s'";

fn failed(doing: &'static str) -> impl Fn(Fault) -> CopyError {
    move |fault| {
        let behind = std::error::Error::source(&fault).map(|source| format!(": {source}")).unwrap_or_default();
        CopyError::Database { doing, fault: format!("{fault}{behind}") }
    }
}

impl Target {
    /// Takes a connection.
    pub(in crate::store) fn connect(database: &Database) -> Result<Self, CopyError> {
        let no_runtime = |fault| OpenError::Database(format!("no runtime for it: {fault}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
        let client = runtime.block_on(async {
            let client = database.pool().get().await?;
            client.batch_execute(PATIENT).await?;
            Ok(client)
        });
        let client = client.map_err(|fault: Fault| OpenError::from(fault))?;
        Ok(Self { client, runtime })
    }

    /// What the database holds.
    ///
    /// # Errors
    /// Anything but nothing, and a copy of the same store; gateways that run on it, unless that is complete.
    pub(in crate::store) fn standing(&mut self, identity: &Identity) -> Result<Standing, CopyError> {
        let Self { client, runtime } = self;
        runtime.block_on(async {
            let transaction = client.transaction().await.map_err(Fault::from).map_err(failed("looking at it"))?;
            standing(&transaction, identity).await
        })
    }

    /// Puts down what does not go in pieces, and that a copy is under way.
    pub(in crate::store) fn begin(&mut self, identity: &Identity, beginning: &Beginning) -> Result<(), CopyError> {
        let Self { client, runtime } = self;
        runtime.block_on(async {
            let failed = failed("beginning");
            let transaction = client.transaction().await.map_err(Fault::from).map_err(&failed)?;
            // Whoever opens the database waits, and then finds that it is being copied to.
            let lock = transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await;
            lock.map_err(Fault::from).map_err(&failed)?;
            if standing(&transaction, identity).await? != Standing::Empty {
                return Err(CopyError::NotAlone("another copy of the same store"));
            }
            begin(&transaction, identity, beginning).await.map_err(&failed)?;
            transaction.commit().await.map_err(Fault::from).map_err(&failed)
        })
    }

    /// Puts records down, from behind one to another one.
    pub(in crate::store) fn add_records(
        &mut self,
        identity: &Identity,
        (from, to): (i64, i64),
        rows: &Rows,
    ) -> Result<(), CopyError> {
        self.in_transaction("taking records", identity, async |transaction| {
            let moved = "update counter set high_water = $2 where high_water = $1";
            let is_moved = transaction.execute(moved, &[&from, &to]).await? == 1;
            if is_moved {
                put(transaction, rows).await?;
            }
            Ok(is_moved)
        })
    }

    /// Puts other rows down.
    pub(in crate::store) fn add(&mut self, identity: &Identity, rows: &Rows) -> Result<(), CopyError> {
        self.in_transaction("taking what goes with the records", identity, async |transaction| {
            put(transaction, rows).await?;
            Ok(true)
        })
    }

    /// How many rows a table has.
    pub(in crate::store) fn count(&mut self, table: Table) -> Result<u64, CopyError> {
        let Self { client, runtime } = self;
        let sql = format!("select count(*) from {}", table.name());
        let counted = runtime.block_on(async { Ok(client.query_one(&sql, &[]).await?.try_get::<_, i64>(0)?) });
        counted.map(i64::cast_unsigned).map_err(failed("counting"))
    }

    /// Makes the keys that repeats are recognized by: the newest record with a key counts. Answers how many there are.
    pub(in crate::store) fn make_keys(&mut self, identity: &Identity) -> Result<u64, CopyError> {
        let mut count = 0;
        self.in_transaction("finding which record a repeat repeats", identity, async |transaction| {
            transaction.execute("delete from keys", &[]).await?;
            let make = "insert into keys (organization_id, key, seq, accepted_at) \
                 select distinct on (organization_id, key) organization_id, key, seq, floor(accepted_at / 1000.0)::bigint \
                 from records order by organization_id, key, seq desc";
            count = transaction.execute(make, &[]).await?;
            Ok(true)
        })?;
        Ok(count)
    }

    /// Does something in a transaction of this copy; `false` from it: somebody else has moved the counter.
    fn in_transaction(
        &mut self,
        doing: &'static str,
        identity: &Identity,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<bool, Fault>,
    ) -> Result<(), CopyError> {
        let Self { client, runtime } = self;
        let done = runtime.block_on(async {
            let transaction = client.transaction().await?;
            let done = hold(&transaction, identity).await? && work(&transaction).await?;
            if done {
                transaction.commit().await?;
            }
            Ok(done)
        });
        match done {
            Ok(true) => Ok(()),
            Ok(false) => Err(CopyError::NotAlone("a gateway, or another copy")),
            Err(fault) => Err(failed(doing)(fault)),
        }
    }
}

/// Holds the row that says that this copy is under way; `false` where it does not say so.
async fn hold(transaction: &Transaction<'_>, identity: &Identity) -> Result<bool, Fault> {
    let hold = "select 1 from copying where store = $1 and moment = $2 for update";
    Ok(transaction.query_opt(hold, &[&identity.store.as_slice(), &identity.moment.as_slice()]).await?.is_some())
}

async fn standing(transaction: &Transaction<'_>, identity: &Identity) -> Result<Standing, CopyError> {
    let failed = failed("looking at it");
    let asked = async {
        let copying = "select store, moment, directory, (select high_water from counter) from copying for update";
        let copying = transaction.query_opt(copying, &[]).await?;
        let live =
            "select name from gateways where heard_at > clock_timestamp() - make_interval(secs => $1) order by name";
        let live = transaction.query(live, &[&GONE_AFTER.as_secs_f64()]).await?;
        let live = live.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        Ok::<_, Fault>((copying, live))
    };
    let (copying, live) = asked.await.map_err(&failed)?;
    let running = if live.is_empty() { Ok(()) } else { Err(CopyError::Gateways(live.join(", "))) };
    let Some(row) = copying else {
        let there = what_is_there(transaction, identity).await.map_err(&failed)?;
        return match there {
            Ok(Standing::Complete { .. }) => there,
            Ok(Standing::Empty | Standing::Unfinished { .. }) | Err(_) => running.and(there),
        };
    };
    running?;
    let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get::<_, String>(2)?, row.try_get(3)?));
    let (store, moment, directory, records): (&[u8], &[u8], String, i64) = read().map_err(&failed)?;
    if store != identity.store {
        return Err(CopyError::AnotherSource(directory.into()));
    }
    if moment != identity.moment {
        return Err(CopyError::SourceChanged);
    }
    Ok(Standing::Unfinished { records })
}

/// What a database holds that is no unfinished copy.
async fn what_is_there(
    transaction: &Transaction<'_>,
    identity: &Identity,
) -> Result<Result<Standing, CopyError>, Fault> {
    let look = "select (select high_water from counter), exists (select 1 from records), exists (select 1 from lanes), \
         exists (select 1 from catalog_organizations) or exists (select 1 from catalog_api_keys) \
         or exists (select 1 from audit), exists (select 1 from subscriptions), receipt_secret from meta";
    let row = transaction.query_one(look, &[]).await?;
    let high_water: i64 = row.try_get(0)?;
    let (records, lanes, configured): (bool, bool, bool) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let (subscribed, secret): (bool, &[u8]) = (row.try_get(4)?, row.try_get(5)?);
    Ok(if secret == identity.secret.0 {
        Ok(Standing::Complete { high_water })
    } else if high_water > 0 || records || lanes {
        Err(CopyError::NotEmpty(format!("its records go up to {high_water}")))
    } else if configured {
        Err(CopyError::NotEmpty("something was configured there".to_owned()))
    } else if subscribed {
        Err(CopyError::NotEmpty("there are subscriptions".to_owned()))
    } else {
        Ok(Standing::Empty)
    })
}

async fn begin(transaction: &Transaction<'_>, identity: &Identity, beginning: &Beginning) -> Result<(), Fault> {
    let Beginning { generation, position, rows } = beginning;
    let secret = &identity.secret.0;
    let crc = i64::from(crc32fast::hash(secret));
    let own = "update meta set receipt_secret = $1, receipt_secret_crc = $2";
    transaction.execute(own, &[&secret.as_slice(), &crc]).await?;
    transaction.execute("update catalog set generation = greatest(generation, $1)", &[generation]).await?;
    let position_of = "update subscriptions_state set position = $1, revision = revision + 1";
    transaction.execute(position_of, &[position]).await?;
    let note = "insert into copying (store, moment, directory) values ($1, $2, $3)";
    let directory = identity.directory.to_string_lossy();
    transaction.execute(note, &[&identity.store.as_slice(), &identity.moment.as_slice(), &&*directory]).await?;
    put(transaction, rows).await
}

/// Puts rows down.
async fn put(transaction: &Transaction<'_>, rows: &Rows) -> Result<(), Fault> {
    for (table, rows) in rows {
        if !rows.is_empty() {
            put_into(transaction, *table, rows).await?;
        }
    }
    Ok(())
}

async fn put_into(transaction: &Transaction<'_>, table: Table, rows: &[Row]) -> Result<(), Fault> {
    let types: Vec<Type> = table.columns().iter().map(|(_, kind)| type_of(*kind)).collect();
    let sql = format!("copy {} ({}) from stdin binary", table.name(), names(table));
    let sink = transaction.copy_in::<_, Bytes>(&sql).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in rows {
        if row.len() != types.len() {
            return Err(Fault::Inconsistent(format!("a row of {} has {} values", table.name(), row.len())));
        }
        let values: Vec<&(dyn ToSql + Sync)> = row.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}

/// The names of a table's columns, for a statement.
fn names(table: Table) -> String {
    table.columns().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
