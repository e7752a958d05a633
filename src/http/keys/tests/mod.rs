//! What all tests of this room share: an issuer with keys made once per process, settings, and shortcuts.

mod api_keys;
mod documents;
mod rotation;
mod tokens;

#[path = "../../../../tests/support/issuer.rs"]
mod issuer;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::config::settings::{ApiKeySettings, TokenAlgorithm};
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::Guid;
use issuer::SigningKey;

/// The product's times, but with a deadline that a busy machine keeps too.
const PATIENT: Timings = Timings { fetch_deadline: Duration::from_secs(60), ..Timings::DEFAULT };

/// Seconds since 1970 at which all tokens here are judged, unless a test says otherwise.
const NOW: i64 = 1_800_000_000;
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const ISSUER: &str = "https://login.example.com/11111111-2222-3333-4444-555555555555/v2.0";
const AUDIENCE: &str = "api://streamgate";

static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("rsa-1"));
static OTHER_RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("rsa-2"));
static P256: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::p256("p256-1"));

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

/// An Entra-like issuer whose keys are at this address.
fn entra(address: &str) -> IssuerSettings {
    IssuerSettings {
        name: "entra".into(),
        issuer: ISSUER.into(),
        jwks_url: Url::parse(address).expect("is an address"),
        algorithms: vec![TokenAlgorithm::Rs256],
        audiences: vec![AUDIENCE.into(), "6b1c7a52-0c0f-4f0a-9a52-3d6f2f3f9d11".into()],
        tenant: Some(Guid::parse(TENANT).expect("is a GUID")),
        version: Some("2.0".into()),
        clients: BTreeSet::from(["client-1".into()]),
        permissions: BTreeSet::from([Permission::RecordsWrite, Permission::RecordsRead]),
        organizations: OrganizationScope::All,
        max_lifetime: Duration::from_secs(24 * 60 * 60),
    }
}

/// An issuer that asks for as little as possible.
fn plain(address: &str) -> IssuerSettings {
    IssuerSettings {
        name: "plain".into(),
        issuer: "https://plain.example.com".into(),
        algorithms: vec![TokenAlgorithm::Rs256, TokenAlgorithm::Es256],
        tenant: None,
        version: None,
        clients: BTreeSet::new(),
        ..entra(address)
    }
}

/// The claims of a good token, changed: `null` takes a claim away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 3600, "nbf": NOW, "iat": NOW, "tid": TENANT, "ver": "2.0",
        "azp": "client-1", "idtyp": "app", "sub": "somebody", "roles": ["records.write", "something.else"],
    });
    merge(&mut claims, changes);
    claims
}

fn merge(object: &mut Value, changes: Value) {
    let (Value::Object(object), Value::Object(changes)) = (object, changes) else { panic!("both are objects") };
    for (name, value) in changes {
        if value.is_null() {
            object.remove(&name)
        } else {
            object.insert(name, value)
        };
    }
}

fn header(changes: Value) -> String {
    let mut header = RSA.header();
    merge(&mut header, changes);
    header.to_string()
}

fn bearer(authenticator: &Authenticator, token: &str, now: i64) -> Result<Arc<Caller>, AuthError> {
    let authorization = format!("Bearer {token}");
    authenticator.authenticate(Presented { api_keys: &[], authorization: &[authorization.as_bytes()] }, at(now))
}

/// The fault of a token that is refused with 401.
fn fault(authenticator: &Authenticator, token: &str) -> Option<TokenFault> {
    match bearer(authenticator, token, NOW) {
        Err(AuthError::Unauthorized { cause: Cause::Token { fault, .. } }) => Some(fault),
        Err(AuthError::Unauthorized { .. } | AuthError::Ambiguous { .. } | AuthError::KeysUnavailable { .. })
        | Ok(_) => None,
    }
}

/// A server that publishes these keys.
async fn publish(keys: &[Value]) -> MockServer {
    install_tls_provider();
    let server = MockServer::start().await;
    republish(&server, ResponseTemplate::new(200).set_body_json(issuer::jwks(keys))).await;
    server
}

async fn republish(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    Mock::given(method("GET")).respond_with(answer).mount(server).await;
}

fn install_tls_provider() {
    // Another test of this process may have been first.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Everything that stays alive together in a test.
struct Gate {
    authenticator: Authenticator,
    jwks: Arc<JwksService>,
}

impl Gate {
    /// An authenticator whose issuers have been asked once.
    async fn open(issuers: Vec<IssuerSettings>, timings: Timings) -> Self {
        install_tls_provider();
        let jwks = JwksService::with_timings(Handle::current(), timings);
        let credentials = Arc::new(CredentialSettings { issuers, ..CredentialSettings::default() });
        let authenticator = Authenticator::new(credentials, Arc::clone(&jwks));
        jwks.tried().await;
        Self { authenticator, jwks }
    }

    /// Waits until at least this many fetches of the first issuer's keys have ended.
    async fn fetched(&self, count: u64) {
        let waiting = self.watched().fetched(count);
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the keys are fetched so often");
    }

    /// The first issuer's keys.
    fn watched(&self) -> &WatchedIssuer {
        &self.authenticator.issuers[0].keys
    }
}
