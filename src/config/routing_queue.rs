//! Checked settings of the routing queues: what all have in common, and what each kind has besides.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use rustls::pki_types::CertificateDer;

use super::identity::TlsIdentity;
use super::settings::{SecretText, WebhookSecret};
use super::subject::SubjectTemplate;
use crate::domain::catalog::RoutingQueueName;

/// The routing queues by name. The built-in `pull` is always there and not listed.
pub type RoutingQueues = BTreeMap<RoutingQueueName, RoutingQueueSettings>;

/// A routing queue that records are pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingQueueSettings {
    /// Where to, and how.
    pub kind: RoutingQueueKind,
    /// Most tries at once.
    pub concurrency: NonZeroUsize,
    /// How much one try may hold.
    pub batch: BatchSettings,
    /// One try takes at most this long.
    pub timeout: Duration,
}

impl RoutingQueueSettings {
    /// The settings of kind `http`, if it is of that kind.
    pub const fn http(&self) -> Option<&HttpSettings> {
        match &self.kind {
            RoutingQueueKind::Http(http) => Some(http),
            RoutingQueueKind::Nats(_) => None,
        }
    }
}

/// What kind of destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutingQueueKind {
    /// Events are posted to a URL.
    Http(HttpSettings),
    /// Events are published into a JetStream stream.
    Nats(Box<NatsSettings>),
}

impl RoutingQueueKind {
    /// Everything that is read from elsewhere and decides what the configuration means: secrets and certificates.
    pub(super) fn secret_parts(&self, part: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Http(http) => http.secrets.iter().for_each(|secret| part(secret.key())),
            Self::Nats(nats) => {
                match &nats.login {
                    NatsLogin::Nothing => {}
                    NatsLogin::Token(secret)
                    | NatsLogin::Password { password: secret, .. }
                    | NatsLogin::NkeySeed(secret)
                    | NatsLogin::Credentials(secret) => part(secret.text().as_bytes()),
                }
                nats.tls.authorities.iter().flatten().for_each(|authority| part(authority));
                nats.tls.identity.iter().for_each(|identity| part(identity.fingerprint()));
            }
        }
    }
}

/// What only the kind `http` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where events are posted.
    pub url: Url,
    /// Signing secrets, newest first: one, or two during a rotation.
    pub secrets: Vec<WebhookSecret>,
    /// Networks that may be connected to although they are private or loopback.
    pub allow_networks: Vec<IpNet>,
}

/// How much one request to a routing queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSettings {
    /// Most events; with one, requests hold a single event and not a batch.
    pub max_events: NonZeroUsize,
    /// Most bytes of a batch. An event that is larger by itself goes alone.
    pub max_bytes: usize,
}

impl BatchSettings {
    /// One event a request.
    pub const SINGLE: Self = Self { max_events: NonZeroUsize::MIN, max_bytes: 1 << 20 };

    /// Whether requests hold batches.
    pub fn wanted(&self) -> bool {
        self.max_events.get() > 1
    }
}

/// What only the kind `nats` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSettings {
    /// The servers, any of which will do; at least one.
    pub servers: Vec<NatsServer>,
    /// Who the gateway is to them.
    pub login: NatsLogin,
    /// What is trusted, and shown, on the way.
    pub tls: NatsTls,
    /// The stream that takes the records, and whose acknowledgement settles them.
    pub stream: Box<str>,
    /// How subjects are made.
    pub subject: SubjectTemplate,
    /// Copies that the stream must have, at least.
    pub replicas: usize,
    /// How the stream is made where there is none; without it a missing one is a fault.
    pub create: Option<NewStream>,
    /// Where a server tells `doctor` about itself: its monitoring port.
    pub monitoring_url: Option<Url>,
    /// The largest body of a request that is accepted, in bytes; the events are somewhat larger.
    pub max_body_bytes: usize,
    /// A repeat follows the try before it by at most this, while the gateway runs and the destination answers.
    pub retry_span: Duration,
}

/// One NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServer {
    /// Its name or address, as in a URL: IPv6 in brackets.
    pub host: Box<str>,
    /// Its port for clients.
    pub port: u16,
    /// Whether nothing is said to it but by TLS.
    pub tls: bool,
}

impl fmt::Display for NatsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// How the gateway identifies itself to NATS servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsLogin {
    /// Not at all, or by its certificate.
    Nothing,
    /// A token.
    Token(SecretText),
    /// A user and a password.
    Password {
        /// The user.
        user: Box<str>,
        /// The password.
        password: SecretText,
    },
    /// The seed of an NKey, which signs a challenge and is never sent.
    NkeySeed(SecretText),
    /// What is in a `.creds` file: a JWT, and the seed that it belongs to.
    Credentials(SecretText),
}

/// TLS to NATS servers.
#[derive(Debug, Clone, Default)]
pub struct NatsTls {
    /// The only authorities to trust; without, those of this machine.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// The certificate to show, if any.
    pub identity: Option<Arc<TlsIdentity>>,
}

impl PartialEq for NatsTls {
    fn eq(&self, other: &Self) -> bool {
        let shown = |tls: &Self| tls.identity.as_ref().map(|identity| *identity.fingerprint());
        self.authorities == other.authorities && shown(self) == shown(other)
    }
}

impl Eq for NatsTls {}

/// A stream that is yet to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewStream {
    /// Whether a message goes when a consumer has acknowledged it; otherwise it stays.
    pub work_queue: bool,
    /// How long the stream recognizes a message that it has already.
    pub duplicate_window: Duration,
}
