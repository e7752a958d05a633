//! A TLS handshake with a destination, as a delivery would have it, and nothing after it.
//!
//! The verifier is the one that deliveries use, with the authorities of this machine. It is only listened to: what it
//! decides is what counts, and the chain that it saw is kept, since a handshake that is refused shows none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;

use crate::cli::doctor::finding::capped;

/// A handshake takes so long at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a handshake showed.
#[derive(Debug)]
pub(super) struct Handshake {
    /// The certificates as they were sent, the destination's own first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Why they are not accepted, if they are not.
    pub(super) refused: Option<Refused>,
}

/// Why a certificate is not accepted.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) what: String,
    pub(super) mend: &'static str,
}

/// Shakes hands.
///
/// # Errors
/// There was no handshake, for another reason than the certificate.
pub(super) async fn shake_hands(stream: TcpStream, url: &Url) -> Result<Handshake, String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let stream = stream.into_std().map_err(|fault| fault.to_string())?;
    let shaking = tokio::task::spawn_blocking(move || blocking(&stream, &host));
    // The steps are bounded, but somebody may take many.
    let shaken = tokio::time::timeout(PATIENCE, shaking).await.map_err(|_| too_slow())?;
    shaken.map_err(|fault| fault.to_string())?
}

fn too_slow() -> String {
    format!("no handshake within {} s", PATIENCE.as_secs())
}

fn blocking(stream: &std::net::TcpStream, host: &str) -> Result<Handshake, String> {
    let provider = CryptoProvider::get_default().ok_or("no TLS provider is installed")?;
    let inner = Verifier::new(Arc::clone(provider)).map_err(|fault| fault.to_string())?;
    let listener = Arc::new(Listener { inner, seen: Mutex::default() });
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&listener) as _;
    let mut config =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(|fault| fault.to_string())?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|fault| fault.to_string())?;
    let prepared = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    prepared.map_err(|fault| fault.to_string())?;
    let mut through = stream;
    while connection.is_handshaking() {
        if let Err(fault) = connection.complete_io(&mut through) {
            return refused(&listener, &fault).ok_or_else(|| in_words(&fault));
        }
    }
    Ok(Handshake { chain: listener.chain(), refused: None })
}

fn in_words(fault: &std::io::Error) -> String {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    if matches!(fault.kind(), WouldBlock | TimedOut) { too_slow() } else { fault.to_string() }
}

/// The handshake, where it was the certificate that was refused.
fn refused(listener: &Listener, fault: &std::io::Error) -> Option<Handshake> {
    let Error::InvalidCertificate(why) = fault.get_ref()?.downcast_ref::<Error>()? else { return None };
    let is = |kinds: &[CertificateError]| kinds.contains(why);
    let mend = if is(&[CertificateError::Expired]) || matches!(why, CertificateError::ExpiredContext { .. }) {
        "have the receiver renew it"
    } else if is(&[CertificateError::NotValidForName]) || matches!(why, CertificateError::NotValidForNameContext { .. })
    {
        "use the host name in `url` that the certificate is for, or have one issued for this name"
    } else if is(&[CertificateError::UnknownIssuer]) {
        "have the receiver send its whole chain; where the authority is your own, install its certificate on this machine"
    } else if is(&[CertificateError::NotValidYet]) || matches!(why, CertificateError::NotValidYetContext { .. }) {
        "look at the clocks, this machine's and the receiver's"
    } else {
        "have the receiver get a proper certificate"
    };
    Some(Handshake { chain: listener.chain(), refused: Some(Refused { what: capped(&fault.to_string()), mend }) })
}

/// The verifier of deliveries, and what it has been shown.
#[derive(Debug)]
struct Listener {
    inner: Verifier,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl Listener {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Listener {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = std::iter::once(end_entity).chain(intermediates).map(|shown| shown.clone().into_owned());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = shown.collect();
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
