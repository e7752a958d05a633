//! One connection to a NATS cluster: made, published over, given up.
//!
//! The client reconnects by itself once round all servers when its connection breaks, and then gives up: whether and
//! when to go on is decided by the forwarder, whose breaker and pauses keep a gateway from knocking at servers that are down.
//! Only configured servers are connected to, never those that a server makes known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::{Client, ClientError, ConnectOptions, Event, HeaderMap, Request, RequestErrorKind, ServerAddr};
use bytes::Bytes;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_platform_verifier::Verifier;
use tokio::sync::watch;

use super::stream::{self, Mismatch, Wanted};
use crate::config::settings::{NatsLogin, NatsSettings};
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::excerpt;
use crate::routing_queue::SetupError;

/// A server is connected to within this time, greeting included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What is asked of JetStream itself is answered within this time.
const API_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection over which nothing comes is asked after this time; the second silence ends it.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// The pause before each attempt at a server, and what is added to it at random.
const KNOCK_PAUSE_MILLIS: u64 = 20;
const KNOCK_JITTER_MILLIS: u32 = 100;
/// There is no such stream, and there is one already (`server/errors.json`).
const STREAM_NOT_FOUND: u64 = 10_059;
const STREAM_NAME_IN_USE: u64 = 10_058;

/// What is heard of a connection besides answers.
#[derive(Debug, Clone, Default)]
struct News {
    /// How often it broke.
    breaks: u64,
    /// How often the server refused something.
    refusals: u64,
    /// What the server said to that.
    said: String,
    /// It will not come back.
    over: bool,
}

/// A connection.
pub(super) struct Link {
    client: Client,
    news: watch::Receiver<News>,
    heard: Mutex<Instant>,
    /// When the stream was looked at last; `None` where it is to be looked at.
    looked: Mutex<Option<Instant>>,
}

/// What became of a message.
pub(super) enum Published {
    /// Somebody answered.
    Answered(Bytes),
    /// The server takes no message of that size.
    TooLarge(String),
    /// The server said that it may not be published.
    Refused(String),
    /// There is no stream for the subject, or it has no leader.
    NobodyListens,
    /// Nobody knows.
    Unanswered(String),
    /// The connection is no more.
    Dead,
}

impl Link {
    /// Connects to one of the servers; the one in `turn` is tried first.
    pub(super) async fn connect(
        (name, settings): (&RoutingQueueName, &NatsSettings),
        tls: Option<ClientConfig>,
        turn: usize,
    ) -> Result<Self, String> {
        let mut servers = Vec::with_capacity(settings.servers.len());
        for server in &settings.servers {
            servers.push(server.to_string().parse::<ServerAddr>().map_err(|fault| fault.to_string())?);
        }
        let count = servers.len().max(1);
        servers.rotate_left(turn % count);
        let (tell, news) = watch::channel(News::default());
        let options = options(settings, tls, count)?.event_callback(listen(name.clone(), Arc::new(tell)));
        let client = options.connect(servers).await.map_err(|fault| in_words(&fault))?;
        tracing::info!(routing_queue = %name, server = client.server_info().server_name, "connected to NATS");
        Ok(Self { client, news, heard: Mutex::new(Instant::now()), looked: Mutex::new(None) })
    }

    /// Publishes a message and waits for the answer.
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Published {
        let mut news = self.news.clone();
        let before = news.borrow_and_update().clone();
        let request = Request::new().headers(headers).payload(body).timeout(Some(patience));
        let answering = self.client.send_request(subject, request);
        tokio::pin!(answering);
        loop {
            let answered = tokio::select! {
                biased;
                answered = &mut answering => answered,
                changed = news.changed() => {
                    let now = news.borrow_and_update().clone();
                    if changed.is_err() || now.over {
                        return Published::Dead;
                    }
                    if now.breaks > before.breaks {
                        return Published::Unanswered("the connection broke".to_owned());
                    }
                    if now.refusals > before.refusals {
                        return Published::Refused(format!("the server said: {}", excerpt(&now.said)));
                    }
                    continue;
                }
            };
            return match answered {
                Ok(message) => {
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    Published::Answered(message.payload)
                }
                Err(fault) => match fault.kind() {
                    RequestErrorKind::NoResponders => Published::NobodyListens,
                    RequestErrorKind::TimedOut => Published::Unanswered("no answer".to_owned()),
                    RequestErrorKind::MaxPayloadExceeded => {
                        let most = self.client.max_payload();
                        Published::TooLarge(format!("the event is larger than the {most} bytes that the server takes"))
                    }
                    // The template's subjects are valid, so it is the connection.
                    RequestErrorKind::InvalidSubject | RequestErrorKind::Other => Published::Dead,
                },
            };
        }
    }

    /// Looks at the stream, and makes it where that is wanted and there is none.
    ///
    /// # Errors
    /// Why nothing is known about it.
    pub(super) async fn stream(&self, settings: &NatsSettings) -> Result<Vec<Mismatch>, String> {
        let config = match self.find(&settings.stream).await? {
            Some(config) => config,
            None => self.make(settings).await?,
        };
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let wanted = Wanted::of(settings);
        let mut mismatches = stream::mismatches(&config, &wanted);
        mismatches.extend(stream::payload(self.client.max_payload(), &wanted));
        mismatches.sort_by_key(|mismatch| mismatch.weight);
        Ok(mismatches)
    }

    /// Whether the stream was looked at so long ago. Whoever learns so is to look.
    pub(super) fn looked_before(&self, age: Duration) -> bool {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|looked| looked.elapsed() >= age)
    }

    /// The stream is to be looked at before anything more is published.
    pub(super) fn look_again(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The stream's settings, if there is one.
    pub(super) async fn find(&self, name: &str) -> Result<Option<jetstream::stream::Config>, String> {
        match jetstream::new(self.client.clone()).get_stream(name).await {
            Ok(found) => Ok(Some(found.cached_info().config.clone())),
            Err(fault) => match fault.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code().0 == STREAM_NOT_FOUND => Ok(None),
                GetStreamErrorKind::JetStream(error) => {
                    Err(format!("JetStream answered {}", excerpt(&error.to_string())))
                }
                GetStreamErrorKind::Request | GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                    Err(format!("the stream `{name}` could not be looked at: {}", in_words(&fault)))
                }
            },
        }
    }

    async fn make(&self, settings: &NatsSettings) -> Result<jetstream::stream::Config, String> {
        let Some(config) = stream::to_make(settings) else {
            let mend = "make it, or say create_stream = true";
            return Err(format!("there is no stream `{}` ({mend})", settings.stream));
        };
        match jetstream::new(self.client.clone()).create_stream(config).await {
            Ok(made) => {
                tracing::info!(stream = &*settings.stream, "made a stream");
                Ok(made.cached_info().config.clone())
            }
            Err(fault) => {
                let kind = fault.kind();
                // Another gateway was faster.
                if matches!(&kind, CreateStreamErrorKind::JetStream(error) if error.error_code().0 == STREAM_NAME_IN_USE)
                {
                    return self.find(&settings.stream).await?.ok_or_else(|| "the stream came and went".to_owned());
                }
                Err(format!("the stream `{}` could not be made: {}", settings.stream, in_words(&fault)))
            }
        }
    }

    /// What the server says of itself.
    pub(super) fn server_info(&self) -> async_nats::ServerInfo {
        self.client.server_info()
    }

    /// Whether it will never come back.
    pub(super) fn is_dead(&self) -> bool {
        self.news.borrow().over || self.news.has_changed().is_err()
    }

    /// For how long nothing has been answered.
    pub(super) fn silent_for(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Says goodbye, and waits until that is said.
    pub(super) async fn close(&self) {
        let mut news = self.news.clone();
        if self.client.drain().await.is_ok() {
            // An error means that nobody is left to tell, which is as good.
            let _ended = news.wait_for(|news| news.over).await;
        }
    }
}

/// Takes in what happens to a connection.
fn listen(name: RoutingQueueName, tell: Arc<watch::Sender<News>>) -> impl Fn(Event) -> std::future::Ready<()> {
    move |event| {
        match event {
            Event::Disconnected => {
                tracing::warn!(routing_queue = %name, "the connection to NATS broke");
                tell.send_modify(|news| news.breaks += 1);
            }
            Event::ServerError(said) => {
                tracing::warn!(routing_queue = %name, %said, "a NATS server refused something");
                tell.send_modify(|news| {
                    news.refusals += 1;
                    news.said = said.to_string();
                });
            }
            Event::ClientError(ClientError::MaxReconnects) | Event::Closed => {
                tell.send_modify(|news| news.over = true);
            }
            Event::LameDuckMode => tracing::info!(routing_queue = %name, "a NATS server is about to stop"),
            Event::Connected | Event::Draining | Event::SlowConsumer(_) | Event::ClientError(_) => {}
        }
        std::future::ready(())
    }
}

fn options(settings: &NatsSettings, tls: Option<ClientConfig>, servers: usize) -> Result<ConnectOptions, String> {
    let options = ConnectOptions::new()
        .name(concat!("streamgate/", env!("CARGO_PKG_VERSION")))
        .retain_servers_order()
        .ignore_discovered_servers()
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(API_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .max_reconnects(servers)
        .reconnect_delay_callback(|_| {
            let jitter = u64::from(getrandom::u32().unwrap_or(0) % KNOCK_JITTER_MILLIS);
            Duration::from_millis(KNOCK_PAUSE_MILLIS + jitter)
        });
    let options = match tls {
        // Whoever configures TLS means it, whatever the server says of itself.
        Some(config) => options.tls_client_config(config).require_tls(true),
        None => options,
    };
    match &settings.login {
        NatsLogin::Nothing => Ok(options),
        NatsLogin::Token(token) => Ok(options.token(token.text().to_owned())),
        NatsLogin::Password { user, password } => {
            Ok(options.user_and_password(user.to_string(), password.text().to_owned()))
        }
        NatsLogin::NkeySeed(seed) => Ok(options.nkey(seed.text().to_owned())),
        NatsLogin::Credentials(credentials) => {
            options.credentials(credentials.text()).map_err(|_| "the NATS credentials cannot be read".to_owned())
        }
    }
}

/// What TLS to the servers is made with; `None` where none is configured, and the client's own counts if a server insists.
pub(super) fn tls_config(settings: &NatsSettings) -> Result<Option<ClientConfig>, SetupError> {
    let is_wanted = settings.servers.iter().any(|server| server.tls)
        || settings.tls.authorities.is_some()
        || settings.tls.identity.is_some();
    if !is_wanted {
        return Ok(None);
    }
    let provider = CryptoProvider::get_default().ok_or(SetupError::NoTlsProvider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?;
    let builder = match &settings.tls.authorities {
        Some(authorities) => {
            let mut roots = rustls::RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).map_err(SetupError::Tls)?;
            }
            builder.with_root_certificates(roots)
        }
        None => {
            let verifier = Verifier::new(Arc::clone(provider)).map_err(SetupError::Tls)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    Ok(Some(match &settings.tls.identity {
        Some(identity) => {
            let shown = rustls::sign::SingleCertAndKey::from(Arc::clone(identity.certified_key()));
            builder.with_client_cert_resolver(Arc::new(shown))
        }
        None => builder.with_no_client_auth(),
    }))
}

/// A fault with its causes, as one line.
fn in_words(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut words = fault.to_string();
    let mut cause = fault.source();
    while let Some(source) = cause {
        let text = source.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = source.source();
    }
    excerpt(&words)
}
