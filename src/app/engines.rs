//! Which engine stands behind the stores: files in the data directory for one gateway, or a database for any number.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use super::BuildError;
use crate::config::settings::Process;
use crate::config::stored::{NotRead, Stored};
use crate::store::Store;
use crate::store::catalog::CatalogStore;
use crate::store::postgres::catalog::PostgresCatalog;
use crate::store::postgres::{Database, PostgresStore, PostgresSubscriptions};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::catalog::SqliteCatalog;
use crate::store::sqlite::subscriptions::SqliteSubscriptions;
use crate::store::subscriptions::SubscriptionStore;

/// The stores of a gateway.
pub(super) struct Engines {
    pub(super) records: Arc<dyn Store>,
    pub(super) catalog: Arc<dyn CatalogStore>,
    pub(super) subscriptions: Arc<dyn SubscriptionStore>,
}

impl Engines {
    /// Opens what the settings name.
    pub(super) fn open(process: &Process) -> Result<Self, BuildError> {
        let Some(database) = &process.database else {
            let records = SqliteStore::open(&process.data_dir, &process.store, &process.retention)?;
            return Self::beside(process, records);
        };
        // For what is this gateway's own, such as the development key. The engine on files makes it with its files.
        data_directory(&process.data_dir).map_err(BuildError::DataDirectory)?;
        let database = Database::open(database)?;
        let subscriptions = PostgresSubscriptions::open(Arc::clone(&database)).map_err(BuildError::Subscriptions)?;
        Ok(Self {
            records: PostgresStore::open(Arc::clone(&database), &process.store, &process.retention)?,
            catalog: Arc::new(PostgresCatalog::open(database)),
            subscriptions: Arc::new(subscriptions),
        })
    }

    /// These records, and everything else in files.
    pub(super) fn beside(process: &Process, records: Arc<dyn Store>) -> Result<Self, BuildError> {
        let (dir, reserve_bytes) = (&process.data_dir, process.store.disk_reserve_bytes);
        Ok(Self {
            records,
            catalog: Arc::new(SqliteCatalog::open(dir, reserve_bytes)?),
            subscriptions: Arc::new(SqliteSubscriptions::open(dir, reserve_bytes)?),
        })
    }
}

/// Makes the directory where it is missing, for its owner only.
fn data_directory(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What the administration has put into the store of these settings. Changes nothing.
pub(super) fn read_stored(process: &Process) -> Result<Stored, NotRead> {
    match &process.database {
        None => crate::store::sqlite::catalog::read_stored(&process.data_dir).map_err(NotRead::Unusable),
        Some(database) => crate::store::postgres::catalog::read_stored(database),
    }
}
