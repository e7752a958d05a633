//! Who is it: the first thing a handler asks, before a byte of the body is read (contract §5).
//!
//! A [`Visit`] is the answer: the caller, the one configuration that this request sees from beginning to end, and the
//! moment by which the request must have arrived. The credential is judged from cached snapshots, without I/O.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::dev::RequestHead;
use actix_web::http::header::{self, HeaderMap};
use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::frame::remark;
use super::keys::{AuthError, Authenticator, JwksService, Presented};
use super::limits::Limits;
use super::problem::{Code, Problem};
use super::transport::Connection;
use crate::config::settings::{ApiKeySettings, CredentialSettings, PublicHost};
use crate::config::{Effective, Live};
use crate::domain::access::{Caller, OrganizationScope, Permission};
use crate::domain::catalog::Catalog;
use crate::domain::time::Timestamp;

/// One authenticated request.
#[derive(Debug, Clone)]
pub struct Visit {
    caller: Arc<Caller>,
    effective: Arc<Effective>,
    deadline: Instant,
}

impl Visit {
    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Who asks, to be kept beyond the request.
    pub fn caller_to_keep(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }

    /// The configuration that this request sees.
    pub fn effective(&self) -> &Effective {
        &self.effective
    }

    /// The configuration that this request sees, to be kept beyond it.
    pub fn effective_to_keep(&self) -> Arc<Effective> {
        Arc::clone(&self.effective)
    }

    /// The catalog of that configuration.
    pub fn catalog(&self) -> &Catalog {
        &self.effective.catalog
    }

    /// When the whole request must have arrived.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// Judges credentials under the configuration of the moment.
pub struct Gate {
    live: Arc<Live>,
    jwks: Arc<JwksService>,
    /// Counts only while nobody has configured a credential.
    development_key: Option<ApiKeySettings>,
    public_host: Option<PublicHost>,
    current: ArcSwap<Current>,
}

/// What a gate is made of.
pub struct GateParts {
    /// The configuration.
    pub live: Arc<Live>,
    /// The issuers' keys.
    pub jwks: Arc<JwksService>,
    /// The key that counts while nobody has configured a credential.
    pub development_key: Option<ApiKeySettings>,
    /// Host names that name the organization.
    pub public_host: Option<PublicHost>,
}

/// An authenticator and the configuration that it was made from, swapped together.
struct Current {
    effective: Arc<Effective>,
    /// Shared while the credentials stay the same: the tokens that it has verified need not be verified again.
    authenticator: Arc<Authenticator>,
}

impl Gate {
    /// A gate that follows the live configuration.
    pub fn new(parts: GateParts) -> Self {
        let GateParts { live, jwks, development_key, public_host } = parts;
        let effective = live.snapshot();
        let authenticator = Arc::new(authenticator(&effective, development_key.as_ref(), &jwks));
        let current = ArcSwap::from_pointee(Current { effective, authenticator });
        Self { live, jwks, development_key, public_host, current }
    }

    /// The configuration and its authenticator: always the newest, since a change counts from the next request on.
    fn current(&self) -> Arc<Current> {
        let current = self.current.load_full();
        if Arc::ptr_eq(&current.effective, &self.live.current()) {
            return current;
        }
        let effective = self.live.snapshot();
        let authenticator = if Arc::ptr_eq(&current.effective.credentials, &effective.credentials) {
            Arc::clone(&current.authenticator)
        } else {
            Arc::new(authenticator(&effective, self.development_key.as_ref(), &self.jwks))
        };
        // Several requests may come by here at once; all make the same, and the last one stays.
        let made = Arc::new(Current { effective, authenticator });
        self.current.store(Arc::clone(&made));
        made
    }

    /// The refusal of a stranger, with what the log is to say; `None` for whoever may be somebody.
    pub fn turns_away(&self, head: &RequestHead, limits: &Limits) -> Option<(Problem, String)> {
        let current = self.current();
        match current.authenticate(&head.headers) {
            Err(cause @ AuthError::Unauthorized { .. }) => {
                let (problem, why) = refuse(cause, head.peer_addr, limits);
                Some((problem.under(current.effective.catalog.generation()), why))
            }
            Ok(_) | Err(AuthError::Ambiguous { .. } | AuthError::KeysUnavailable { .. }) => None,
        }
    }

    /// Admits a request whose credential has any of these permissions.
    ///
    /// # Errors
    /// 400 for two credentials, 401 for none that counts (a missing permission included: 403 would say that the
    /// credential exists), 429 after too many wrong ones, 503 where the issuer's keys cannot be had.
    pub fn admit(&self, request: &HttpRequest, limits: &Limits, any_of: &[Permission]) -> Result<Visit, Problem> {
        let current = self.current();
        let generation = current.effective.catalog.generation();
        let caller = current.authenticate(request.headers()).map_err(|cause| {
            let (problem, why) = refuse(cause, request.peer_addr(), limits);
            remark(request, why);
            problem.under(generation)
        })?;
        if !any_of.iter().any(|permission| caller.may(*permission)) {
            remark(request, format!("credential `{}` lacks the permission", caller.credential));
            return Err(Problem::unauthorized().under(generation));
        }
        let deadline =
            request.conn_data::<Rc<Connection>>().map_or_else(Instant::now, |connection| connection.request_deadline());
        let caller = match &self.public_host {
            Some(pattern) => narrowed_by_host(request, pattern, &current.effective.catalog, caller),
            None => caller,
        };
        Ok(Visit { caller, effective: Arc::clone(&current.effective), deadline })
    }
}

impl Current {
    fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Caller>, AuthError> {
        let api_keys: Vec<&[u8]> = headers.get_all("x-api-key").map(|value| value.as_bytes()).collect();
        let authorization: Vec<&[u8]> = headers.get_all(header::AUTHORIZATION).map(|value| value.as_bytes()).collect();
        let presented = Presented { api_keys: &api_keys, authorization: &authorization };
        self.authenticator.authenticate(presented, Timestamp::now())
    }
}

/// Tells callers from strangers, under this configuration.
fn authenticator(
    effective: &Effective,
    development_key: Option<&ApiKeySettings>,
    jwks: &Arc<JwksService>,
) -> Authenticator {
    let configured = &effective.credentials;
    let credentials = match development_key {
        Some(key) if configured.is_empty() => {
            Arc::new(CredentialSettings { api_keys: vec![key.clone()], ..CredentialSettings::clone(configured) })
        }
        Some(_) | None => Arc::clone(configured),
    };
    Authenticator::new(credentials, Arc::clone(jwks))
}

/// The refusal, and why in words for the log. A wrong credential counts towards its address's allowance.
fn refuse(cause: AuthError, peer: Option<SocketAddr>, limits: &Limits) -> (Problem, String) {
    let why = cause.to_string();
    let problem = match cause {
        AuthError::Ambiguous { message } => Problem::new(
            Code::CredentialAmbiguous,
            message,
            "Send either one `X-Api-Key` or one `Authorization: Bearer`.",
        ),
        AuthError::Unauthorized { .. } => match peer.map(|peer| limits.wrong_credential(peer.ip())) {
            Some(Err(flooded)) => flooded,
            Some(Ok(())) | None => Problem::unauthorized(),
        },
        AuthError::KeysUnavailable { .. } => Problem::new(
            Code::KeysUnavailable,
            "The keys of the token's issuer cannot be had at the moment.",
            "Send the same request again later; repeating is safe. API keys work meanwhile.",
        ),
    };
    (problem, why)
}

/// Where the host name names an organization (contract §7), no other exists for this request.
fn narrowed_by_host(
    request: &HttpRequest,
    pattern: &PublicHost,
    catalog: &Catalog,
    caller: Arc<Caller>,
) -> Arc<Caller> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let Some(unique_name) = pattern.unique_name_in(host) else { return caller };
    let named = catalog.organization_named(&unique_name).filter(|named| caller.sees(&named.id));
    let only: BTreeSet<_> = named.map(|organization| organization.id).into_iter().collect();
    Arc::new(Caller { organizations: OrganizationScope::Only(only), ..Caller::clone(&caller) })
}
