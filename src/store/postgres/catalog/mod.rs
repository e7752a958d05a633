//! What is configured through the administration, in a database that several gateways share.
//!
//! A change moves the generation on in the same transaction; the row of the generation is what changes stand in line for.
//! Where an answer is lost on its way, the entry of the trail tells whether the change was committed, and the row's lock
//! makes sure that it is not still under way. Every gateway that listens is told of each commit.

mod presence;
mod rows;

use std::sync::Arc;

use tokio_postgres::Transaction;

use super::database::Database;
use super::error::Fault;
use super::guid::PgGuid;
use crate::config::settings::DatabaseSettings;
use crate::config::stored::{NotRead, Stored};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::{Advance, AuditPage, AuditQuery, CatalogChange, CatalogStore};
use crate::store::gateways::{GatewayId, Gateways};

use self::rows::{ChangeId, KeptChange};

/// What tells of changes. Also in the text of [`TELL`].
const CHANNEL: &str = "streamgate_catalog";
const TELL: &str = "select pg_notify('streamgate_catalog', '')";

/// The catalog in a database.
pub struct PostgresCatalog {
    database: Arc<Database>,
}

/// What the catalog of a database holds, with nothing changed there: for commands that only look, and for a start before
/// it. Nothing where no gateway was ever there.
///
/// # Errors
/// A sentence.
pub fn read_stored(settings: &DatabaseSettings) -> Result<Stored, NotRead> {
    let unreachable = |fault: &dyn std::fmt::Display| NotRead::Unreachable(fault.to_string());
    let database = Arc::new(Database::reach(settings).map_err(|fault| unreachable(&fault))?);
    let of_work = Arc::clone(&database);
    let stored = database.run(async move {
        let mut client = of_work.pool().get().await?;
        let is_there = "select to_regclass('catalog_organizations') is not null";
        if !client.query_one(is_there, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(Stored::default());
        }
        rows::load(&mut client).await
    });
    stored.map_err(
        |fault| {
            if let StoreError::Damaged(what) = fault { NotRead::Unusable(what) } else { unreachable(&fault) }
        },
    )
}

/// What of it is not as it was written, in sentences.
pub(super) async fn verify(transaction: &Transaction<'_>) -> Result<Vec<String>, Fault> {
    rows::verify(transaction).await
}

impl PostgresCatalog {
    /// The catalog of this database, whose tables are there since it was opened.
    pub const fn open(database: Arc<Database>) -> Self {
        Self { database }
    }
}

/// Moves the generation on; `false` where it is another one by now.
async fn advanced(transaction: &Transaction<'_>, advance: Advance) -> Result<bool, Fault> {
    let (from, to) = (advance.from.cast_signed(), advance.to.cast_signed());
    let moved = transaction.execute("update catalog set generation = $2 where generation = $1", &[&from, &to]).await?;
    Ok(moved == 1)
}

/// What became of a try to commit.
enum Committed {
    Done,
    Overtaken,
}

async fn commit(database: Arc<Database>, change: Arc<KeptChange>) -> Result<Committed, Fault> {
    let mut client = database.pool().get().await?;
    let transaction = client.transaction().await?;
    if let Some(advance) = change.advance
        && !advanced(&transaction, advance).await?
    {
        return Ok(Committed::Overtaken);
    }
    change.write(&transaction).await?;
    if change.advance.is_some() {
        transaction.execute(TELL, &[]).await?;
    }
    transaction.commit().await?;
    Ok(Committed::Done)
}

/// Whether a change whose answer was lost is there. The lock waits for whatever is still under way.
async fn is_there(database: Arc<Database>, id: ChangeId) -> Result<bool, Fault> {
    let mut client = database.pool().get().await?;
    let transaction = client.transaction().await?;
    transaction.query_one("select generation from catalog for update", &[]).await?;
    let found = transaction.query_opt("select 1 from audit where change_id = $1", &[&id.as_slice()]).await?;
    Ok(found.is_some())
}

impl CatalogStore for PostgresCatalog {
    fn load(&self) -> Result<Stored, StoreError> {
        let database = Arc::clone(&self.database);
        self.database.run(async move { rows::load(&mut *database.pool().get().await?).await })
    }

    fn generation(&self) -> Result<u64, StoreError> {
        let database = Arc::clone(&self.database);
        self.database.run(async move { rows::generation(&**database.pool().get().await?).await })
    }

    fn commit(&self, change: &CatalogChange) -> Result<(), StoreError> {
        let change = Arc::new(KeptChange::of(change)?);
        let id = change.id;
        let database = || Arc::clone(&self.database);
        let done = match self.database.run(commit(database(), change)) {
            Err(StoreError::Engine(lost)) => match self.database.run(is_there(database(), id)) {
                Ok(true) => Ok(Committed::Done),
                Ok(false) | Err(_) => Err(StoreError::Engine(lost)),
            },
            done => done,
        };
        match done? {
            Committed::Done => Ok(()),
            Committed::Overtaken => Err(StoreError::Changed),
        }
    }

    fn advance(&self, advance: Advance) -> Result<(), StoreError> {
        let database = Arc::clone(&self.database);
        let done = self.database.run(async move {
            let mut client = database.pool().get().await?;
            let transaction = client.transaction().await?;
            let done = advanced(&transaction, advance).await?;
            transaction.execute(TELL, &[]).await?;
            transaction.commit().await?;
            Ok(done)
        });
        // A lost answer leaves at worst a generation that nobody serves, and the next look finds it.
        if done? { Ok(()) } else { Err(StoreError::Changed) }
    }

    fn gateways(&self) -> Option<&dyn Gateways> {
        Some(self)
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let (database, query) = (Arc::clone(&self.database), query.clone());
        self.database.run(async move { rows::audit(&**database.pool().get().await?, &query).await })
    }

    fn forget_audit(&self, older_than: Timestamp, at_most: usize) -> Result<usize, StoreError> {
        let database = Arc::clone(&self.database);
        let limit = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.database.run(async move {
            let client = database.pool().get().await?;
            let forget = "delete from audit where seq in (select seq from audit where at < $1 order by at limit $2)";
            let gone = client.execute(forget, &[&older_than.millis(), &limit]).await?;
            Ok(usize::try_from(gone).unwrap_or(usize::MAX))
        })
    }
}

impl From<GatewayId> for PgGuid {
    fn from(id: GatewayId) -> Self {
        Self(id.0)
    }
}
