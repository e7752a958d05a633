//! Reading everything back, and ending a copy that is what it should be.
//!
//! All of it is one transaction that sees one moment, and only that takes the note away that the copy is under way. The
//! figures that the planner goes by are made before, so that the first gateway does not meet tables that seem empty.

use std::collections::BTreeMap;
use std::pin::pin;

use deadpool_postgres::Transaction;
use futures_util::StreamExt as _;
use tokio_postgres::IsolationLevel;

use super::super::error::Fault;
use super::{Target, failed, hold};
use crate::store::copying::CopyError;
use crate::store::copying::rows::{Row, Seal, Sealed, Table};
use crate::store::sqlite::export::Identity;
use crate::store::verification::Progress;

/// Rows between two words about how far it is.
const TOLD_EVERY: u64 = 10_000;

/// From where the rows of a table are read, and in which order.
const fn in_order(table: Table) -> &'static str {
    match table {
        Table::Lanes => "lanes t order by id",
        Table::Records => "records t order by seq",
        Table::Pending => "pending t order by seq",
        Table::Waiting => "waiting t order by seq",
        Table::Delivered => "delivered t order by seq",
        Table::DeadLetters => "dead_letters t order by seq",
        Table::Discarded => "discarded t order by seq",
        Table::Deleted => "deleted t order by first",
        Table::Lost => "lost t order by first",
        Table::Organizations => "catalog_organizations t order by organization_id",
        Table::ApiKeys => "catalog_api_keys t order by name collate \"C\"",
        Table::Audit => "audit t order by seq",
        Table::Subscriptions => "subscriptions t order by number",
        Table::Notices => {
            "notices t left join subscriptions s on s.organization_id = t.organization_id and s.id = t.subscription \
             order by s.number, t.number"
        }
    }
}

impl Target {
    /// Compares, and ends the copy if all is there.
    ///
    /// # Errors
    /// [`CopyError::Differs`]: the database stays as it is, and no gateway opens it.
    pub(in crate::store) fn finish(
        &mut self,
        identity: &Identity,
        expected: &BTreeMap<Table, Sealed>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), CopyError> {
        let Self { client, runtime } = self;
        runtime.block_on(async {
            let failed = failed("comparing the copy with the files");
            client.batch_execute("analyze").await.map_err(Fault::from).map_err(&failed)?;
            let moment = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
            let transaction = moment.start().await.map_err(Fault::from).map_err(&failed)?;
            if !hold(&transaction, identity).await.map_err(&failed)? {
                return Err(CopyError::NotAlone("a gateway, or another copy"));
            }
            let mut reading = Reading { done: 0, of: expected.values().map(|sealed| sealed.rows).sum() };
            let mut wrong = Vec::new();
            for (table, expected) in expected {
                let found = reading.seal(&transaction, *table, tell).await.map_err(&failed)?;
                if found != *expected {
                    let (name, there, read) = (table.name(), found.rows, expected.rows);
                    wrong.push(format!("{name} ({there} rows there, {read} in the files)"));
                }
            }
            if !wrong.is_empty() {
                return Err(CopyError::Differs(wrong.join(", ")));
            }
            end(&transaction).await.map_err(&failed)?;
            transaction.commit().await.map_err(Fault::from).map_err(&failed)
        })
    }
}

/// How much has been read back.
struct Reading {
    done: u64,
    of: u64,
}

impl Reading {
    /// Reads a table, and seals what is in it.
    async fn seal(
        &mut self,
        transaction: &Transaction<'_>,
        table: Table,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Sealed, Fault> {
        let columns = table.columns();
        let names = columns.iter().map(|(name, _)| format!("t.{name}")).collect::<Vec<_>>().join(", ");
        let nothing: [i64; 0] = [];
        let rows = transaction.query_raw(&format!("select {names} from {}", in_order(table)), nothing).await?;
        let (mut rows, mut seal) = (pin!(rows), Seal::default());
        while let Some(row) = rows.next().await {
            let row = row?;
            let row = (0..columns.len()).map(|at| row.try_get(at)).collect::<Result<Row, _>>()?;
            seal.add(&row);
            self.done += 1;
            if self.done.is_multiple_of(TOLD_EVERY) {
                tell(Progress { stage: "comparing the copy with the files", done: self.done, of: self.of });
            }
        }
        Ok(seal.finish())
    }
}

/// What is given numbers goes on behind the last one, and the database is a store like any other.
async fn end(transaction: &Transaction<'_>) -> Result<(), Fault> {
    for (table, column) in [("audit", "seq"), ("subscriptions", "number")] {
        let go_on = format!(
            "select setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) from {table} \
             having max({column}) is not null"
        );
        transaction.execute(&go_on, &[]).await?;
    }
    transaction.execute("delete from copying", &[]).await?;
    Ok(())
}
