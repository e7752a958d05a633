//! TLS on a listener: versions 1.2 and 1.3, HTTP/1.1 inside, no renegotiation, no early data.
//!
//! The certificate is asked for anew at every handshake, from the configuration that is effective then. So a new one
//! counts at the next handshake, and connections that are open go on with what they agreed upon.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::problem::{Code, Problem};
use super::transport::raw_answer;
use crate::config::Live;
use crate::config::identity::{Identities, TlsIdentity};

/// Sessions that are remembered, so that a client that comes again saves a round trip and a signature. They are kept here
/// and not in tickets: each can be resumed once, and there is no ticket key whose loss would open what was recorded.
const SESSIONS: usize = 2_048;

/// Which of the identities is a listener's.
pub type Which = fn(&Identities) -> Option<&Arc<TlsIdentity>>;

/// How a listener speaks TLS, beginning with this identity and following the configuration from there.
///
/// # Errors
/// When the crypto provider lacks what these versions need, which would be a fault of the build.
pub fn server_config(first: &TlsIdentity, live: &Arc<Live>, which: Which) -> Result<Arc<ServerConfig>, rustls::Error> {
    let current = Current { live: Arc::clone(live), which, latest: ArcSwap::new(Arc::clone(first.certified_key())) };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(current));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The certificate that is configured now; the last one, should there be none any more.
struct Current {
    live: Arc<Live>,
    which: Which,
    latest: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(identity) = (self.which)(&self.live.current().identities) {
            let configured = identity.certified_key();
            if !Arc::ptr_eq(&self.latest.load(), configured) {
                self.latest.store(Arc::clone(configured));
            }
        }
        Some(self.latest.load_full())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

/// Makes the handshake. Whoever calls bounds the time that it takes.
///
/// # Errors
/// When there is no TLS to be had with this peer. It has been told, as far as that is possible.
pub async fn handshake(config: Arc<ServerConfig>, mut io: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
    let mut first = [0];
    let seen = io.peek(&mut first).await?;
    // A TLS connection begins with the byte 0x16, a request with the letters of its method.
    if seen == 1 && first.iter().all(u8::is_ascii_alphabetic) {
        tell_to_use_tls(&mut io).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is in the clear"));
    }
    TlsAcceptor::from(config).accept(io).await.map(Box::new)
}

/// Answers a request in the clear in the clear: its sender understands nothing else.
async fn tell_to_use_tls(io: &mut TcpStream) -> io::Result<()> {
    // What was sent is taken off the socket, as far as it is there: closing over unread bytes would reset the connection,
    // and the answer could be lost with it.
    let mut sent = vec![0; 16 * 1_024];
    let _read = io.try_read(&mut sent);
    let answer = raw_answer(Problem::new(
        Code::BadRequest,
        "This port speaks TLS, and the request came in the clear. Whatever credential it carried could be read on its way.",
        "Use https:// in the address. If a key was sent, replace it.",
    ));
    io.write_all(&answer).await?;
    io.shutdown().await
}
