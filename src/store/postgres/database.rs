//! The database that everything of this engine stands on: its connections, and the runtime that they belong to.
//!
//! Whoever blocks asks by [`Database::run`], from any thread. Nothing waits for ever: a connection is had within five
//! seconds or not at all, the server gives a statement up after the configured time, and what takes even longer is given up
//! here. A gateway that hangs, or whose machine is gone, holds nothing for long either: the server ends a transaction in
//! which nothing happens.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::runtime::Runtime;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{AsyncMessage, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::OpenError;
use super::connect::{CONNECT, ToOneOfThem, connect, for_one_of};
use super::error::Fault;
use super::open;
use crate::config::settings::{DatabaseSettings, DatabaseTrust};
use crate::store::StoreError;

/// A server whose machine does not answer any more is noticed after this time.
const SILENCE: Duration = Duration::from_secs(10);
/// The server ends a transaction in which nothing happens for so long. It may hold the row that all gateways append by.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);
/// What a statement takes on top of the time that the server has for it.
const ON_THE_WAY: Duration = Duration::from_secs(5);
/// Between two tries to listen.
const BEFORE_LISTENING_AGAIN: Duration = Duration::from_secs(1);

/// A database.
pub struct Database {
    config: Config,
    tls: MakeRustlsConnect,
    pool: Pool,
    /// Connections from before this moment are not used any more.
    fresh_since: Arc<Mutex<Instant>>,
    /// The longest that anything takes.
    patience: Duration,
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
    pub fn open(settings: &DatabaseSettings) -> Result<Arc<Self>, OpenError> {
        let database = Self::reach(settings)?;
        database.opening(open::prepare)?;
        Ok(Arc::new(database))
    }

    /// As [`open`](Self::open), also where a store has been copied in part: for who copies one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_to_copy(settings: &DatabaseSettings) -> Result<Arc<Self>, OpenError> {
        let database = Self::reach(settings)?;
        database.opening(open::bring_up_to_date)?;
        Ok(Arc::new(database))
    }

    /// Gets ready to ask a database, and changes nothing in it.
    ///
    /// # Errors
    /// Where threads or certificates are missing. Whether it answers shows when it is asked.
    pub(super) fn reach(settings: &DatabaseSettings) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("database")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Database(format!("no threads for it: {error}")))?;
        let (config, tls) = (tuned(settings), tls(&settings.trust)?);
        let fresh_since = Arc::new(Mutex::new(Instant::now()));
        let pool = pool(&config, &tls, settings, &fresh_since)?;
        Ok(Self {
            config,
            tls,
            pool,
            fresh_since,
            patience: settings.statement_timeout + ON_THE_WAY,
            runtime: Some(runtime),
        })
    }

    /// Connections.
    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Uses none of the connections any more that there are: whatever was set for a role or a database counts for those that
    /// are made afterwards.
    pub(super) fn renew_connections(&self) {
        *self.fresh_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The longest that anything takes.
    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    /// Where the connections live; `None` while it is dropped.
    pub(super) const fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }

    /// Does something where the connections live, and waits for it.
    ///
    /// # Errors
    /// What comes of it; [`StoreError::Engine`] when it took too long.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let patience = self.patience;
        let done = self.wait_for(async move {
            let done = tokio::time::timeout(patience, work).await;
            done.unwrap_or(Err(Fault::TooLong(patience)))
        });
        done.ok_or(StoreError::Unavailable)?.map_err(StoreError::from)
    }

    /// Does a part of opening it, however long that takes: moving tables to another format may.
    pub(super) fn opening<T, F>(&self, work: impl FnOnce(Pool) -> F) -> Result<T, OpenError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OpenError>> + Send + 'static,
    {
        let done = self.wait_for(work(self.pool.clone()));
        done.unwrap_or_else(|| Err(OpenError::Database("opening it ended without an answer".to_owned())))
    }

    fn wait_for<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (reply, answer) = std::sync::mpsc::channel();
        self.runtime.as_ref()?.spawn(async move {
            let _gone = reply.send(work.await);
        });
        answer.recv().ok()
    }

    /// Has `wake` called for every notification on a channel, over whatever connections that takes; also after each new
    /// connection, before which some may have been missed.
    pub(super) fn listen(&self, channel: &'static str, wake: Box<dyn Fn() + Send + Sync>) {
        let Some(runtime) = &self.runtime else { return };
        let (config, tls) = (self.config.clone(), self.tls.clone());
        runtime.spawn(async move {
            loop {
                if let Err(fault) = listen_once(&config, &tls, channel, &*wake).await {
                    tracing::debug!(%fault, channel, "nobody tells of changes at the moment; they are looked for");
                }
                tokio::time::sleep(BEFORE_LISTENING_AGAIN).await;
            }
        });
    }
}

/// The connection as it is configured, with what nobody said: it notices a server that is gone, asks for one that takes
/// writes, and says whose it is.
fn tuned(settings: &DatabaseSettings) -> Config {
    let mut config = settings.connection.clone();
    config.get_connect_timeout().is_none().then(|| config.connect_timeout(for_one_of(config.get_hosts().len())));
    config.get_tcp_user_timeout().is_none().then(|| config.tcp_user_timeout(SILENCE));
    config.get_keepalives_interval().is_none().then(|| {
        config.keepalives_idle(SILENCE / 2).keepalives_interval(SILENCE / 4).keepalives_retries(2);
    });
    config.get_application_name().is_none().then(|| config.application_name(env!("CARGO_PKG_NAME")));
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config
}

/// Whether it is used at all, the connection's own mode says.
fn tls(trust: &DatabaseTrust) -> Result<MakeRustlsConnect, OpenError> {
    let unusable = |error: &dyn std::fmt::Display| OpenError::Database(format!("TLS cannot be spoken: {error}"));
    let config = match trust {
        DatabaseTrust::System => ClientConfig::with_platform_verifier().map_err(|error| unusable(&error))?,
        DatabaseTrust::InTheClear => {
            ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        }
        DatabaseTrust::Issuers(issuers) => {
            let mut roots = RootCertStore::empty();
            for issuer in issuers {
                roots.add(issuer.clone()).map_err(|error| unusable(&error))?;
            }
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Connections that are made when they are needed, and made again when they broke.
fn pool(
    config: &Config,
    tls: &MakeRustlsConnect,
    settings: &DatabaseSettings,
    fresh_since: &Arc<Mutex<Instant>>,
) -> Result<Pool, OpenError> {
    let fresh_since = Arc::clone(fresh_since);
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(config.clone(), ToOneOfThem(tls.clone()), recycling);
    // Said on the connection and not in its options, which poolers refuse. What was set for the role or the database for
    // others counts less than what transactions here are made for; compiling a query takes longer than any of them.
    let begin = format!(
        "set statement_timeout = {}; set idle_in_transaction_session_timeout = {}; set lock_timeout = 0; \
         set idle_session_timeout = 0; set default_transaction_isolation = 'read committed'; \
         set default_transaction_deferrable = off; set jit = off",
        settings.statement_timeout.as_millis(),
        IDLE_IN_TRANSACTION.as_millis()
    );
    let begin: Arc<str> = begin.into();
    Pool::builder(manager)
        .max_size(settings.max_connections)
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .wait_timeout(Some(CONNECT))
        .create_timeout(Some(CONNECT))
        .post_create(Hook::async_fn(move |client, _| {
            let begin = Arc::clone(&begin);
            Box::pin(async move { client.batch_execute(&begin).await.map_err(HookError::Backend) })
        }))
        .pre_recycle(Hook::sync_fn(move |_, metrics| {
            if metrics.created < *fresh_since.lock().unwrap_or_else(PoisonError::into_inner) {
                return Err(HookError::message("it is made anew"));
            }
            Ok(())
        }))
        .build()
        .map_err(|error| OpenError::Database(error.to_string()))
}

/// Listens until the connection ends.
async fn listen_once(
    config: &Config,
    tls: &MakeRustlsConnect,
    channel: &str,
    wake: &(dyn Fn() + Send + Sync),
) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = connect(config, tls).await?;
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
