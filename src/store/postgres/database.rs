//! The database that everything of this engine stands on: its connections, and the runtime that they belong to.
//!
//! Whoever blocks asks by [`Database::run`], from any thread. Nothing waits for ever: a connection is had within five
//! seconds or not at all, and what takes longer than [`PATIENCE`] is given up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tokio::runtime::Runtime;
use tokio_postgres::{AsyncMessage, Config, NoTls};

use super::OpenError;
use super::error::Fault;
use super::open;
use crate::store::StoreError;

/// The longest that anything takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to listen.
const BEFORE_LISTENING_AGAIN: Duration = Duration::from_secs(1);

/// A database.
pub struct Database {
    config: Config,
    pool: Pool,
    /// Where the connections live. It is there until this is dropped.
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
    /// Opens a database, and brings its tables up to date. Blocks while it does.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        Self::open_with(config, |pool| async move { open::prepare(&pool).await })
    }

    /// As [`open`](Self::open), also where a store has been copied in part: for who copies one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_to_copy(config: Config) -> Result<Arc<Self>, OpenError> {
        Self::open_with(config, |pool| async move { open::migrate(&pool).await })
    }

    fn open_with<F>(config: Config, prepare: impl FnOnce(Pool) -> F) -> Result<Arc<Self>, OpenError>
    where
        F: Future<Output = Result<(), OpenError>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("database")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Database(format!("no threads for it: {error}")))?;
        let pool = open::pool(config.clone())?;
        let database = Self { config, pool: pool.clone(), runtime: Some(runtime) };
        let prepared = prepare(pool);
        let prepared = database.wait_for(async move { Ok(prepared.await) });
        prepared.map_err(|fault| OpenError::Database(fault.to_string()))??;
        Ok(Arc::new(database))
    }

    /// Connections.
    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Does something where the connections live, and waits for it.
    ///
    /// # Errors
    /// What comes of it; [`StoreError::Engine`] when it took too long.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.wait_for(async move { work.await.map_err(StoreError::from) })
    }

    fn wait_for<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let runtime = self.runtime.as_ref().ok_or(StoreError::Unavailable)?;
        let (reply, answer) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let done = tokio::time::timeout(PATIENCE, work).await;
            let _gone = reply.send(done.unwrap_or_else(|_| Err(too_long())));
        });
        answer.recv().unwrap_or(Err(StoreError::Unavailable))
    }

    /// Has `wake` called for every notification on a channel, over whatever connections that takes; also after each new
    /// connection, before which some may have been missed.
    pub(super) fn listen(&self, channel: &'static str, wake: Box<dyn Fn() + Send + Sync>) {
        let Some(runtime) = &self.runtime else { return };
        let config = self.config.clone();
        runtime.spawn(async move {
            loop {
                if let Err(fault) = listen_once(&config, channel, &*wake).await {
                    tracing::debug!(%fault, channel, "nobody tells of changes at the moment; they are looked for");
                }
                tokio::time::sleep(BEFORE_LISTENING_AGAIN).await;
            }
        });
    }
}

fn too_long() -> StoreError {
    StoreError::Engine(format!("the database did not answer within {PATIENCE:?}").into())
}

/// Listens until the connection ends.
async fn listen_once(
    config: &Config,
    channel: &str,
    wake: &(dyn Fn() + Send + Sync),
) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let mut messages = Box::pin(poll_fn(move |context| connection.poll_message(context)));
    let asked = async move {
        let begun = client.batch_execute(&format!("listen {channel}")).await;
        begun.map(|()| client)
    };
    let mut asked = Box::pin(asked);
    // The connection has to be driven while it is asked something.
    let client = loop {
        tokio::select! {
            begun = &mut asked => break begun?,
            message = messages.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
        }
    };
    wake();
    while let Some(message) = messages.next().await {
        if matches!(message?, AsyncMessage::Notification(_)) {
            wake();
        }
    }
    drop(client);
    Ok(())
}
