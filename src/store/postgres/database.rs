//! One database, and the threads on which its connections live.

use std::future::Future;
use std::sync::Arc;

use deadpool_postgres::Pool;
use tokio::runtime::Runtime;

use super::error::Fault;
use super::open::{self, OpenError};
use crate::store::StoreError;

/// A database whose tables are up to date.
pub struct Database {
    pool: Pool,
    runtime: Option<Runtime>,
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Database {
    /// Connects, and brings the tables up to date. Blocks while it does.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be used, or does not keep what it commits.
    pub fn open(config: tokio_postgres::Config) -> Result<Arc<Self>, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("database")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Database(format!("no threads for it: {error}")))?;
        let database = Self { pool: open::pool(config)?, runtime: Some(runtime) };
        let pool = database.pool.clone();
        let opened = database.run(async move { Ok(open::open(&pool).await) });
        opened.map_err(|fault| OpenError::Database(fault.to_string()))??;
        Ok(Arc::new(database))
    }

    /// Its connections.
    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Does something where the connections live, and waits for it on this thread, whichever that is.
    pub(super) fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or(StoreError::Unavailable)?;
        let (reply, done) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let _gone = reply.send(work.await);
        });
        done.recv().map_err(|_gone| StoreError::Unavailable)?.map_err(StoreError::from)
    }
}
