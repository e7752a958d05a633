//! Why a gateway cannot start, and what to run to see all of it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::Faults;
use crate::config::keeper::NotFollowed;
use crate::gateways;
use crate::store::StoreError;
use crate::store::postgres;
use crate::store::sqlite::OpenError;
use crate::telemetry::spans::export;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A socket cannot be bound.
    #[error(
        "cannot listen on {address}: {cause}. Choose another address with --listen or --admin-listen, or stop what listens there"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] postgres::OpenError),
    /// The data directory cannot be made.
    #[error("the data directory: {0}")]
    DataDirectory(io::Error),
    /// What was configured through the administration cannot be read.
    #[error(transparent)]
    Catalog(StoreError),
    /// Who is subscribed cannot be read.
    #[error("the subscriptions: {0}")]
    Subscriptions(StoreError),
    /// What another gateway has configured since the configuration was read does not go with the files.
    #[error(transparent)]
    Configuration(#[from] Faults),
    /// What another gateway has configured meanwhile cannot be followed.
    #[error(transparent)]
    Following(NotFollowed),
    /// The development key cannot be kept.
    #[error("the development key: {0}")]
    DevelopmentKey(io::Error),
    /// The gateways on the same catalog cannot be followed.
    #[error(transparent)]
    Gateways(#[from] gateways::StartError),
    /// TLS cannot be spoken.
    #[error("TLS cannot be spoken: {0}")]
    Tls(#[from] rustls::Error),
    /// What sends spans cannot be set up.
    #[error("[telemetry.otlp] cannot be set up: {0}")]
    Exporter(export::SetupError),
    /// A thread, a runtime or a file watch cannot be started.
    #[error("cannot start {what}: {cause}")]
    System {
        /// What was to be started.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl BuildError {
    /// What to run to see all of what is wrong with the data directory, where that is what is wrong.
    pub fn advice(&self, data_dir: &Path) -> Option<String> {
        let is_damage = match self {
            Self::Store(fault) => fault.is_damage(),
            Self::Catalog(fault) | Self::Subscriptions(fault) => matches!(fault, StoreError::Damaged(_)),
            Self::Listen { .. }
            | Self::Database(_)
            | Self::DataDirectory(_)
            | Self::Configuration(_)
            | Self::Following(_)
            | Self::Gateways(_)
            | Self::DevelopmentKey(_)
            | Self::Tls(_)
            | Self::Exporter(_)
            | Self::System { .. } => false,
        };
        let directory = data_dir.display();
        is_damage.then(|| format!("to see all that is wrong, run: streamgate verify --data-dir {directory}"))
    }
}
