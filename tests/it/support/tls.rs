//! TLS as the tests' clients speak it: an authority of their own, pairs that it issued, and streams that know which
//! listener speaks TLS.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The settings with which both listeners speak TLS.
pub(crate) const SETTINGS: &str = "[tls]\ncertificate_file = \"tls/certificate.pem\"\nprivate_key_file = \"tls/key.pem\"\n\
    [admin_tls]\ncertificate_file = \"tls/certificate.pem\"\nprivate_key_file = \"tls/key.pem\"\n";

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// The authority that the tests' clients trust.
pub(crate) fn authority() -> &'static Authority {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);
    &AUTHORITY
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, "Authority of the tests");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.self_signed(&key).expect("signed");
        let (certificate, pem) = (signed.der().clone(), signed.pem());
        Self { issuer: Issuer::new(parameters, key), certificate, pem }
    }

    /// A certificate for 127.0.0.1 and `gateway.test` that expires at the beginning of this year, and its key, in PEM.
    pub(crate) fn issue(&self, last_year: i32) -> (String, String) {
        let names = vec!["127.0.0.1".to_owned(), "gateway.test".to_owned()];
        let mut parameters = CertificateParams::new(names).expect("parameters");
        parameters.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        (parameters.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    /// Puts a new pair where [`SETTINGS`] says, and the authority's certificate beside it.
    pub(crate) fn write_pair(&self, folder: &Path) {
        let (certificate, key) = self.issue(2_999);
        std::fs::create_dir_all(folder.join("tls")).expect("a folder");
        replace(&folder.join("tls/authority.pem"), &self.pem);
        replace(&folder.join("tls/key.pem"), &key);
        replace(&folder.join("tls/certificate.pem"), &certificate);
    }
}

/// An authority's certificate for 127.0.0.1 that is shown as a gateway's own, and its key.
pub(crate) fn own_authority() -> (String, String) {
    let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    (parameters.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

/// Puts a private file in the place of another, whole.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).expect("private");
    std::fs::rename(new, path).expect("replaced");
}

static LISTENERS: LazyLock<Mutex<HashSet<SocketAddr>>> = LazyLock::new(Mutex::default);

/// Remembers whether a listener speaks TLS. A port may have been another listener's before.
pub(crate) fn expect(address: SocketAddr, tls: bool) {
    let mut listeners = LISTENERS.lock().expect("no panic");
    if tls {
        listeners.insert(address);
    } else {
        listeners.remove(&address);
    }
}

/// Whether a listener speaks TLS.
pub(crate) fn speaks(address: SocketAddr) -> bool {
    LISTENERS.lock().expect("no panic").contains(&address)
}

/// A client that trusts the tests' authority, and takes a fresh handshake for every connection.
pub(crate) fn client() -> ClientConfig {
    client_of(&[&rustls::version::TLS13, &rustls::version::TLS12])
}

/// One that speaks these versions only.
pub(crate) fn client_of(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority().certificate.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    config.with_root_certificates(roots).with_no_client_auth()
}

/// A connection's bytes.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Makes the handshake, as a client of `gateway.test`.
    pub(crate) fn secured(tcp: TcpStream, config: ClientConfig) -> Self {
        Self::try_secured(tcp, config).expect("a handshake")
    }

    /// Tries to.
    pub(crate) fn try_secured(mut tcp: TcpStream, config: ClientConfig) -> io::Result<Self> {
        let name = ServerName::try_from("gateway.test").expect("a name");
        let mut session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(session, tcp))))
    }

    /// The TLS session.
    pub(crate) fn session(&self) -> &ClientConnection {
        match self {
            Self::Tls(stream) => &stream.conn,
            Self::Plain(_) => panic!("in the clear"),
        }
    }

    /// The socket.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Says that nothing follows, and ends the sending side.
    pub(crate) fn finish_sending(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _told = stream.flush();
        }
        let _shut = self.tcp().shutdown(Shutdown::Write);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
