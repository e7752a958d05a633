//! Checked settings: plain values that cannot be wrong any more. Defaults and their reasons are in
//! `config/streamgate.toml`, which is compiled in.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use tokio_postgres::config::Host;

use super::identity::Identities;
pub use super::routing_queue::{
    BatchSettings, HttpSettings, NatsLogin, NatsServer, NatsSettings, NatsTls, NewStream, RoutingQueueKind,
    RoutingQueueSettings, RoutingQueues,
};
use super::stored::Layers;
pub use super::webhook_secret::{NotAWebhookSecret, WebhookSecret};

use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::catalog::{Catalog, RateLimit};
use crate::domain::ids::Guid;
use crate::domain::time::Timestamp;

/// What is fixed while the process runs; a change needs a restart.
#[derive(Debug, Clone)]
pub struct Process {
    /// The public listener.
    pub listen: SocketAddr,
    /// The second listener: health, metrics, administration.
    pub admin_listen: SocketAddr,
    /// Host names that name the organization, if used (contract §7).
    pub public_host: Option<PublicHost>,
    /// `http` or `https`, as the callers see the gateway; for the status URL in answers.
    pub public_scheme: PublicScheme,
    /// Whether the public listener speaks TLS. With which certificate is in [`Effective`].
    pub tls: bool,
    /// Whether the second listener does.
    pub admin_tls: bool,
    /// Where records are kept.
    pub data_dir: PathBuf,
    /// How records are kept.
    pub store: StoreSettings,
    /// The database that they are kept in; none where they are in files in the data directory.
    pub database: Option<DatabaseSettings>,
    /// How long records are kept.
    pub retention: RetentionSettings,
    /// What a client may use up.
    pub limits: LimitSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where spans are sent, if anywhere.
    pub otlp: Option<OtlpSettings>,
}

/// `{organization}-public.gateway.example.com`: the text around the organization's unique name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHost {
    /// What stands before the name, in lower case.
    pub prefix: Box<str>,
    /// What stands after the name, in lower case.
    pub suffix: Box<str>,
}

impl PublicHost {
    /// The host name of an organization.
    pub fn host_of(&self, unique_name: &str) -> String {
        format!("{}{}{}", self.prefix, unique_name.to_ascii_lowercase(), self.suffix)
    }

    /// The unique name in a host name (without port, any case), if it has the pattern.
    pub fn unique_name_in(&self, host: &str) -> Option<String> {
        let host = host.to_ascii_lowercase();
        let name = host.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)?;
        if name.is_empty() { None } else { Some(name.to_owned()) }
    }
}

/// How callers reach the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicScheme {
    /// In the clear.
    Http,
    /// By TLS, which ends here or in front.
    Https,
}

impl PublicScheme {
    /// The scheme as in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// How records are kept.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Free disk space, in bytes, that records never use, so that delivery can go on when the disk is full.
    pub disk_reserve_bytes: u64,
    /// How long a repeated record is recognized (contract §4: 30 days).
    pub duplicate_window: Duration,
    /// The most records that may wait for the disk at once; beyond that callers get 503.
    pub max_waiting_appends: usize,
}

/// A database that any number of gateways share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// Where it is, and as whom to come. Its `Debug` leaves the password out.
    pub connection: tokio_postgres::Config,
    /// How its server proves who it is.
    pub trust: DatabaseTrust,
    /// The most connections of this gateway at once, besides one that listens.
    pub max_connections: usize,
    /// The longest that the server may take for a statement.
    pub statement_timeout: Duration,
}

impl DatabaseSettings {
    /// Which database it is, in words, and nothing that is secret.
    pub fn place(&self) -> String {
        let hosts = self.connection.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        });
        let addresses = self.connection.get_hostaddrs().iter().map(ToString::to_string);
        let places: Vec<String> = hosts.chain(addresses).collect();
        format!("database {} at {}", self.connection.get_dbname().unwrap_or_default(), places.join(", "))
    }
}

/// How a database server proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseTrust {
    /// Not at all: the connection is in the clear.
    InTheClear,
    /// By a certificate for its host name, of an issuer that the system trusts.
    System,
    /// By a certificate for its host name, of one of these issuers.
    Issuers(Vec<CertificateDer<'static>>),
}

/// How long records are kept. What is neither delivered nor given up is kept for as long as it takes, unless `accepted`
/// says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionSettings {
    /// A delivered record is deleted at this age since its delivery; never less than the duplicate window.
    pub delivered: Duration,
    /// The details of a delivered record are let go at this age since its delivery; zero means with the delivery. Never
    /// more than `delivered`.
    pub delivered_details: Duration,
    /// A dead letter is deleted at this age since it was given up; never less than the duplicate window.
    pub dead_letters: Duration,
    /// A record that is still pending at this age since it arrived becomes a dead letter.
    pub accepted: Option<Duration>,
    /// An entry of the audit trail is deleted at this age.
    pub audit: Duration,
    /// Whether a full disk lets the details of delivered records go before their time.
    pub trim_when_full: bool,
}

/// What a client may use up.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// Largest request body, in bytes (default 1 MiB, at most 8 MiB).
    pub max_body_bytes: usize,
    /// Most bytes of request bodies held in memory at once.
    pub max_in_flight_bytes: usize,
    /// Most connections at once from one peer address.
    pub max_connections_per_peer: usize,
    /// Most connections at once.
    pub max_connections: usize,
    /// A request, from the first byte of its head to the last of its body, takes at most this long.
    pub request_deadline: Duration,
    /// An idle connection is kept this long.
    pub keep_alive: Duration,
    /// A stop waits this long for what is under way.
    pub shutdown_grace: Duration,
    /// The rate of an organization that sets none.
    pub default_rate_limit: RateLimit,
    /// Wrong credentials a second, from one peer address, before it gets 429.
    pub wrong_credentials_per_second: NonZeroU32,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// For a person or for a machine.
    pub format: LogFormat,
    /// A filter such as `info` or `streamgate=debug`.
    pub filter: String,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// Where spans are sent: a collector that speaks OTLP over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpSettings {
    /// Its address, to which `/v1/traces` is added.
    pub endpoint: Url,
    /// The share of traces that begin here and are sampled, from 0 to 1.
    pub sampling_ratio: f64,
    /// One request takes at most this long.
    pub timeout: Duration,
    /// What describes this gateway, `service.name` and `service.version` included.
    pub resource: Vec<(Box<str>, Box<str>)>,
    /// Header fields of each request.
    pub headers: Vec<(Box<str>, SecretText)>,
}

/// A secret text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Box<str>);

impl SecretText {
    /// This text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever sends it.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Everything that can change while the gateway runs, as one value.
#[derive(Debug, Clone)]
pub struct Effective {
    /// Organizations, work streams, entity configurations, queues.
    pub catalog: Arc<Catalog>,
    /// Who may call.
    pub credentials: Arc<CredentialSettings>,
    /// Where records can go.
    pub routing_queues: Arc<RoutingQueues>,
    /// When a delivery is tried again, and when it is given up.
    pub delivery: DeliverySettings,
    /// Who may subscribe to what, and how they are told.
    pub subscriptions: SubscriptionSettings,
    /// What the listeners that speak TLS identify themselves with.
    pub identities: Identities,
    /// Where each part of this comes from.
    pub layers: Layers,
}

/// Who may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// API keys, of which only the hash is known.
    pub api_keys: Vec<ApiKeySettings>,
    /// API keys that were made through the administration.
    pub stored_api_keys: Vec<ApiKeySettings>,
    /// Issuers of bearer tokens.
    pub issuers: Vec<IssuerSettings>,
}

impl CredentialSettings {
    /// Whether no file configures a credential: then, and only then, a development key counts. Keys made through the
    /// administration are made with it, and must not put an end to it.
    pub fn is_empty(&self) -> bool {
        self.api_keys.is_empty() && self.issuers.is_empty()
    }
}

/// One API key (contract §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeySettings {
    /// What it is called in logs.
    pub name: Arc<str>,
    /// SHA-256 of the whole key text, prefix included.
    pub sha256: [u8; 32],
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// For whom.
    pub organizations: OrganizationScope,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
}

/// One issuer of bearer tokens. The profile that its tokens must meet is in `docs/contract.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// What it is called in logs.
    pub name: Arc<str>,
    /// The exact `iss`.
    pub issuer: Box<str>,
    /// Where its keys are: https, or http on loopback.
    pub jwks_url: Url,
    /// The only algorithms its tokens may be signed with.
    pub algorithms: Vec<TokenAlgorithm>,
    /// `aud` must be, or hold, one of these.
    pub audiences: Vec<Box<str>>,
    /// The `tid` that its tokens must carry, where the issuer is a Microsoft Entra tenant.
    pub tenant: Option<Guid>,
    /// The `ver` that its tokens must carry, where set.
    pub version: Option<Box<str>>,
    /// The applications (`azp` or `appid`) that may call; empty means any that the issuer gives a permission to.
    pub clients: BTreeSet<Box<str>>,
    /// The most its tokens may do; `roles` or `scp` of the token says what they do.
    pub permissions: BTreeSet<Permission>,
    /// For whom.
    pub organizations: OrganizationScope,
    /// The longest lifetime (`exp` − `iat`) of a token.
    pub max_lifetime: Duration,
}

/// Algorithms that tokens may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// How the subscribers to queues are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionSettings {
    /// Networks that callbacks may be in although they are private or loopback.
    pub allow_networks: Vec<IpNet>,
    /// The most subscriptions that an organization may have at once.
    pub max_per_organization: NonZeroUsize,
    /// The most deliveries to one subscriber at once.
    pub concurrency: NonZeroUsize,
    /// One try takes at most this long.
    pub timeout: Duration,
}

/// When a delivery is tried again, and when it is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySettings {
    /// The first pause; each further one may be twice as long. The actual pause is random between zero and that.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Tries after which a record becomes a dead letter.
    pub max_attempts: u32,
    /// Age at which a record that was not delivered becomes a dead letter.
    pub give_up_after: Duration,
    /// Failures in a row after which a destination is left alone for a while.
    pub breaker_failures: u32,
    /// How long it is left alone before one try asks how it is.
    pub breaker_pause: Duration,
}
