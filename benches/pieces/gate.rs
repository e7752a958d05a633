//! Credentials: an authenticator with an API key and an issuer, whose keys were fetched from a server on loopback that is
//! gone by then.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use streamgate::config::settings::CredentialSettings;
use streamgate::domain::time::Timestamp;
use streamgate::http::keys::{Authenticator, JwksService, Presented, Timings};

use super::issuer::{SigningKey, jwks};

/// What the issuer calls itself.
pub(crate) const ISSUER: &str = "https://issuer.example.com";
/// Whom its tokens are for.
pub(crate) const AUDIENCE: &str = "api://streamgate";

/// The product's times, but with a deadline that a fetch keeps under valgrind too.
const PATIENT: Timings = Timings { fetch_deadline: Duration::from_secs(120), ..Timings::DEFAULT };

/// Whoever made a token, and where its keys are.
pub(crate) struct Issuer {
    key: SigningKey,
    listener: TcpListener,
}

impl Issuer {
    /// A new one, with a key of its own.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { key: SigningKey::rsa("key-1"), listener }
    }

    /// Where its keys are.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The value of `Authorization` that it vouches for.
    fn authorization(&self, now: Timestamp) -> String {
        let now = now.seconds();
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 3_600, "azp": "bench",
            "sub": "bench", "roles": ["records.write"],
        });
        format!("Bearer {}", self.key.token(&claims))
    }

    /// Answers one request with its keys.
    fn publish_once(&self) {
        let (mut stream, _) = self.listener.accept().expect("a request");
        let (mut request, mut chunk) = (Vec::new(), [0; 4_096]);
        while !request.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut chunk).expect("a request");
            assert!(read > 0, "a whole request");
            request.extend_from_slice(&chunk[..read]);
        }
        let body = jwks(&[self.key.jwk()]).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("answered");
    }
}

/// Authenticators that share the issuer's keys.
pub(crate) struct Gate {
    credentials: Arc<CredentialSettings>,
    jwks: Arc<JwksService>,
    /// Has verified the token already.
    pub(crate) seasoned: Authenticator,
    /// A bearer token, as it stands in the header.
    pub(crate) authorization: String,
    /// The moment at which everything is judged.
    pub(crate) now: Timestamp,
    /// Kept, or the keys would not be watched.
    _runtime: tokio::runtime::Runtime,
}

impl Gate {
    /// Fetches the keys, and has the token verified once.
    pub(crate) fn open(credentials: Arc<CredentialSettings>, issuer: &Issuer) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let jwks = JwksService::with_timings(runtime.handle().clone(), PATIENT);
        let seasoned = Authenticator::new(Arc::clone(&credentials), Arc::clone(&jwks));
        std::thread::scope(|scope| {
            scope.spawn(|| issuer.publish_once());
            runtime.block_on(jwks.tried());
        });
        let now = Timestamp::now();
        let gate =
            Self { credentials, jwks, seasoned, authorization: issuer.authorization(now), now, _runtime: runtime };
        gate.bearer(&gate.seasoned);
        gate
    }

    /// An authenticator that has seen no token yet.
    pub(crate) fn fresh(&self) -> Authenticator {
        Authenticator::new(Arc::clone(&self.credentials), Arc::clone(&self.jwks))
    }

    /// Lets an authenticator judge the token.
    pub(crate) fn bearer(&self, authenticator: &Authenticator) {
        let presented = Presented { api_keys: &[], authorization: &[self.authorization.as_bytes()] };
        authenticator.authenticate(presented, self.now).expect("a good token");
    }

    /// Lets it judge an API key.
    pub(crate) fn api_key(&self, key: &str) {
        let presented = Presented { api_keys: &[key.as_bytes()], authorization: &[] };
        self.seasoned.authenticate(presented, self.now).expect("a good key");
    }
}
