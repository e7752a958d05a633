//! The composition root: the one place that knows which engine stands behind which port.
//!
//! [`App::build`] opens everything and binds the sockets, so that whoever calls it knows the addresses; [`App::run`]
//! serves until the given future ends, then stops in order: no new requests, those under way finish, deliveries under
//! way finish, the store closes.

mod build_error;
mod development;
mod engines;
mod observing;
mod trail;
pub mod upkeep;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::middleware::from_fn;
use actix_web::web;
use rustls::ServerConfig;
use tokio::runtime::{Handle, Runtime};

pub use crate::store::sqlite::inspect::{Inspection, Moved, RecordsFile, inspect};
pub use build_error::BuildError;
pub use development::DevelopmentKey;

use self::engines::Engines;
use self::observing::Observing;
use crate::admin::{self, Desk, Figures};
use crate::config::identity::TlsIdentity;
use crate::config::settings::{LimitSettings, Process};
use crate::config::watch::{self, WatchGuard};
use crate::config::{self, Config, Faults, Live, Overrides};
use crate::editor::{self, Editor};
use crate::forward::clock::Clock;
use crate::forward::observer::Observer;
use crate::forward::threads::LoopHandle;
use crate::forward::{Forwarder, Nudge};
use crate::gateways::{self, Fleet};
use crate::http::door::{Door, DoorParts};
use crate::http::frame::frame;
use crate::http::keys::JwksService;
use crate::http::peers::Peers;
use crate::http::server::{ServerSettings, serve};
use crate::http::tls;
use crate::intake::Intake;
use crate::store::Store;
use crate::store::catalog::CatalogStore;
use crate::subscriptions::{Subscriptions, telling};
use crate::telemetry::Metrics;
use crate::telemetry::spans::export::Exporter;

/// A gateway that is ready to serve.
pub struct App {
    process: Process,
    live: Arc<Live>,
    door: web::Data<Door>,
    metrics: Arc<Metrics>,
    exporter: Option<Exporter>,
    jwks: Arc<JwksService>,
    store: Arc<dyn Store>,
    catalog: Arc<dyn CatalogStore>,
    forwarder: LoopHandle,
    teller: LoopHandle,
    public: TcpListener,
    admin: TcpListener,
    tls: Tls,
    development_key: Option<DevelopmentKey>,
    _watch: WatchGuard,
    fleet: Arc<Fleet>,
    background: Background,
}

/// Loads the configuration: the files, and what the administration has put into the store that they name.
///
/// # Errors
/// All faults at once.
pub fn load_config(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Faults> {
    config::load_with_stored(path, overrides, &engines::read_stored)
}

impl App {
    /// Opens the store, binds both listeners, starts what runs in the background.
    ///
    /// # Errors
    /// [`BuildError`] says what is in the way; nothing is left running.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        Self::build_on(config, Engines::open)
    }

    /// The same gateway on an engine that benchmarks compare with; its data directory must be there.
    ///
    /// # Errors
    /// As [`App::build`].
    #[cfg(feature = "bench-engines")]
    pub fn build_on_engine(config: Config, engine: Arc<dyn Store>) -> Result<Self, BuildError> {
        Self::build_on(config, |process| Engines::beside(process, engine))
    }

    fn build_on(
        config: Config,
        open: impl FnOnce(&Process) -> Result<Engines, BuildError>,
    ) -> Result<Self, BuildError> {
        install_crypto_provider();
        let process = config.process.clone();
        let public = bind(process.listen)?;
        let admin = bind(process.admin_listen)?;
        let Engines { records: store, catalog, subscriptions } = open(&process)?;
        // Again, now that it is open: another gateway may have changed it since the configuration was read.
        let config = config.over(catalog.load().map_err(BuildError::Catalog)?)?;
        let background = Background::start()?;
        let development_key = development_key(&config, &process)?;
        let (metrics, exporter) = observing::metrics(&process, &background.handle).map_err(BuildError::Exporter)?;
        let live = Live::new(config).kept_by(editor::keeper(Arc::clone(&catalog)));
        let live = Arc::new(live.map_err(BuildError::Following)?);
        let watch = watch::start(Arc::clone(&live))
            .map_err(|cause| BuildError::System { what: "the configuration watch", cause: io::Error::other(cause) })?;
        let tls = Tls::of(&live)?;
        let fleet = Arc::new(Fleet::start(Arc::clone(&live), Arc::clone(&catalog), name(&public))?);
        let nudge = Nudge::default();
        // Before anything is delivered: it says which records have to keep their details.
        let subscriptions =
            Subscriptions::open(subscriptions, Arc::clone(&store)).map_err(BuildError::Subscriptions)?;
        let observing = Arc::new(Observing::new(Arc::clone(&metrics)));
        store.observed_by(Arc::clone(&observing) as _);
        let observer: Arc<dyn Observer> = observing;
        let jwks = JwksService::new(background.handle.clone());
        let forwarder = Forwarder::new(Arc::clone(&store), live.subscribe(), nudge.clone())
            .observed_by(Arc::clone(&observer))
            .start()
            .map_err(|cause| BuildError::System { what: "the forwarder", cause })?;
        let teller = telling::start(telling::Parts {
            subscriptions: Arc::clone(&subscriptions),
            effective: live.subscribe(),
            observer,
            clock: Clock::system(),
            dead_letters: process.retention.dead_letters,
        })
        .map_err(|cause| BuildError::System { what: "what tells subscribers", cause })?;
        trail::forget(&background.handle, Arc::clone(&catalog), process.retention.audit);
        let door = web::Data::new(Door::new(
            &process,
            DoorParts {
                live: Arc::clone(&live),
                jwks: Arc::clone(&jwks),
                development_key: development_key.as_ref().map(|key| key.settings.clone()),
                intake: Intake::new(Arc::clone(&store), nudging(nudge, &subscriptions)),
                store: Arc::clone(&store),
                subscriptions,
                metrics: Arc::clone(&metrics),
            },
        ));
        Ok(Self {
            process,
            live,
            door,
            metrics,
            exporter,
            jwks,
            store,
            catalog,
            forwarder,
            teller,
            public,
            admin,
            tls,
            development_key,
            _watch: watch,
            fleet,
            background,
        })
    }

    /// Where the public listener is.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where the second listener is.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// What the public listener identifies itself with, where it speaks TLS.
    pub fn public_identity(&self) -> Option<Arc<TlsIdentity>> {
        self.tls.public.as_ref().and_then(|_| self.live.current().identities.public.clone())
    }

    /// What the second listener identifies itself with, where it speaks TLS.
    pub fn admin_identity(&self) -> Option<Arc<TlsIdentity>> {
        self.tls.admin.as_ref().and_then(|_| self.live.current().identities.admin.clone())
    }

    /// The development key, where one is in use.
    pub const fn development_key(&self) -> Option<&DevelopmentKey> {
        self.development_key.as_ref()
    }

    /// The configuration, for whoever reloads it.
    pub const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Serves until `shutdown` ends, then stops in order. Must run within an actix system.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let admin_limits = LimitSettings { shutdown_grace: Duration::from_secs(1), ..self.process.limits.clone() };
        let loopback = self.admin.local_addr()?.ip().is_loopback();
        let editor = Editor::new(Arc::clone(&self.live), self.catalog);
        let peers = |limits: &LimitSettings| Peers::new(limits.max_connections, limits.max_connections_per_peer);
        let (public_peers, admin_peers) = (peers(&self.process.limits), peers(&admin_limits));
        let desk = web::Data::new(Desk {
            door: self.door.clone(),
            live: Arc::clone(&self.live),
            editor,
            loopback,
            jwks: self.jwks,
            listeners: vec![("public", Arc::clone(&public_peers)), ("admin", Arc::clone(&admin_peers))],
            figures: Figures::default(),
            fleet: Arc::clone(&self.fleet),
        });
        let metrics = web::Data::new(Arc::clone(&self.metrics));

        let (door, counted) = (self.door.clone(), metrics.clone());
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let settings = ServerSettings {
            name: "public",
            workers,
            limits: self.process.limits.clone(),
            peers: public_peers,
            tls: self.tls.public,
        };
        let public = serve(self.public, &settings, &self.door, move || {
            actix_web::App::new()
                .app_data(door.clone())
                .app_data(counted.clone())
                .wrap(from_fn(frame))
                .configure(crate::http::routes)
        })?;
        let settings =
            ServerSettings { name: "admin", workers: 1, limits: admin_limits, peers: admin_peers, tls: self.tls.admin };
        let admin = serve(self.admin, &settings, &self.door, move || {
            actix_web::App::new()
                .app_data(desk.clone())
                .app_data(metrics.clone())
                .wrap(from_fn(admin::everywhere))
                .wrap(from_fn(frame))
                .configure(admin::routes)
        })?;
        let (public_handle, admin_handle) = (public.handle(), admin.handle());
        let grace = self.process.limits.shutdown_grace;
        let subscriptions = Arc::clone(self.door.subscriptions());
        let (door, forwarder, teller, store) = (self.door, self.forwarder, self.teller, self.store);
        let (exporter, fleet) = (self.exporter, self.fleet);
        let stop = async move {
            shutdown.await;
            let began = Instant::now();
            tracing::info!("stopping: no new requests are taken");
            door.drain();
            public_handle.stop(true).await;
            // Where requests took all of their time, deliveries get less: by default all of it takes less than ten seconds.
            let left = (grace + Duration::from_secs(1)).saturating_sub(began.elapsed());
            let grace = grace.min(left).min(Duration::from_secs(2));
            tokio::join!(forwarder.stop(grace), teller.stop(grace), leave(fleet));
            subscriptions.close();
            // While the store closes, which nobody waits for longer than without it.
            let last_spans = async {
                if let Some(exporter) = exporter {
                    exporter.stop().await;
                }
            };
            tokio::join!(store.close(), last_spans);
            admin_handle.stop(true).await;
        };
        let (public_end, admin_end, ()) = tokio::join!(public, admin, stop);
        drop(self.background);
        public_end.and(admin_end)
    }
}

/// Installs the one crypto provider of the process; every TLS client needs it. That it is installed already is no fault.
pub fn install_crypto_provider() {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// How the listeners speak TLS; `None` for one that does not.
struct Tls {
    public: Option<Arc<ServerConfig>>,
    admin: Option<Arc<ServerConfig>>,
}

impl Tls {
    fn of(live: &Arc<Live>) -> Result<Self, rustls::Error> {
        let identities = live.current().identities.clone();
        let speaks = |which: tls::Which| {
            which(&identities).map(|identity| tls::server_config(identity, live, which)).transpose()
        };
        Ok(Self {
            public: speaks(|identities| identities.public.as_ref())?,
            admin: speaks(|identities| identities.admin.as_ref())?,
        })
    }
}

/// A runtime for what runs beside everything else. It ends without being waited for, also where a start fails half way:
/// to wait is not allowed within another runtime.
struct Background {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Background {
    fn start() -> Result<Self, BuildError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()
            .map_err(|cause| BuildError::System { what: "the background runtime", cause })?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whom an accepted record wakes.
fn nudging(forwarder: Nudge, subscriptions: &Arc<Subscriptions>) -> Arc<dyn Fn() + Send + Sync> {
    let subscriptions = Arc::clone(subscriptions);
    Arc::new(move || {
        forwarder.nudge();
        subscriptions.nudge();
    })
}

/// The longest that a stop waits for the others to be told.
const LONGEST_LEAVE: Duration = Duration::from_secs(2);

/// Takes leave of the other gateways, so that nobody waits for this one. It blocks on the store, which may not answer: they
/// notice by themselves then.
async fn leave(fleet: Arc<Fleet>) {
    let leaving = actix_web::rt::task::spawn_blocking(move || fleet.leave());
    if !matches!(actix_web::rt::time::timeout(LONGEST_LEAVE, leaving).await, Ok(Ok(()))) {
        tracing::warn!("the other gateways were not told in time that this one stops; they will notice");
    }
}

/// What the other gateways know this one by: its host, and its port, since one host may have several.
fn name(public: &TcpListener) -> gateways::Name {
    // Where the system does not say it there, the port has to do.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("gateway");
    let port = public.local_addr().map_or(0, |address| address.port());
    gateways::Name { name: format!("{host}:{port}"), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn bind(address: SocketAddr) -> Result<TcpListener, BuildError> {
    TcpListener::bind(address).map_err(|cause| BuildError::Listen { address, cause })
}

/// A key of our own where nobody configured a credential; that this is on loopback was checked with the configuration.
fn development_key(config: &Config, process: &Process) -> Result<Option<DevelopmentKey>, BuildError> {
    if !config.effective.credentials.is_empty() {
        return Ok(None);
    }
    DevelopmentKey::in_data_dir(&process.data_dir).map(Some).map_err(BuildError::DevelopmentKey)
}
