//! Everything the handlers share, behind the few questions they ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::HttpRequest;
use actix_web::dev::RequestHead;
use actix_web::http::header;

use super::body::{BodyLimits, Budget};
use super::caller::{Gate, GateParts, Visit};
use super::followed;
use super::keys::JwksService;
use super::limits::Limits;
use super::problem::{Code, Problem};
use crate::config::settings::{ApiKeySettings, LimitSettings, PublicHost, PublicScheme};
use crate::config::{Live, Process};
use crate::domain::access::Permission;
use crate::intake::Intake;
use crate::routing_queue::pull::PullQueue;
use crate::store::Store;
use crate::subscriptions::Subscriptions;
use crate::telemetry::Metrics;

/// What the handlers share.
pub struct Door {
    gate: Gate,
    limits: Limits,
    body_limits: BodyLimits,
    intake: Intake,
    store: Arc<dyn Store>,
    pull: PullQueue,
    subscriptions: Arc<Subscriptions>,
    metrics: Arc<Metrics>,
    public_scheme: PublicScheme,
    public_host: Option<PublicHost>,
    draining: AtomicBool,
}

/// What a door is made of.
pub struct DoorParts {
    /// The configuration.
    pub live: Arc<Live>,
    /// The issuers' keys.
    pub jwks: Arc<JwksService>,
    /// The key that counts while nobody has configured a credential.
    pub development_key: Option<ApiKeySettings>,
    /// Where records go in.
    pub intake: Intake,
    /// Where receipts are read.
    pub store: Arc<dyn Store>,
    /// Who is told of records.
    pub subscriptions: Arc<Subscriptions>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl Door {
    /// A door for this process.
    pub fn new(process: &Process, parts: DoorParts) -> Self {
        let LimitSettings {
            max_body_bytes, max_in_flight_bytes, default_rate_limit, wrong_credentials_per_second, ..
        } = process.limits;
        let gate = GateParts {
            live: parts.live,
            jwks: parts.jwks,
            development_key: parts.development_key,
            public_host: process.public_host.clone(),
        };
        Self {
            gate: Gate::new(gate),
            limits: Limits::new(default_rate_limit, wrong_credentials_per_second),
            body_limits: BodyLimits { max_bytes: max_body_bytes, budget: Budget::new(max_in_flight_bytes) },
            intake: parts.intake,
            pull: PullQueue::new(Arc::clone(&parts.store)),
            store: parts.store,
            subscriptions: parts.subscriptions,
            metrics: parts.metrics,
            public_scheme: process.public_scheme,
            public_host: process.public_host.clone(),
            draining: AtomicBool::new(false),
        }
    }

    /// Lets a request in whose credential has any of these permissions; see [`Gate::admit`].
    ///
    /// # Errors
    /// Besides the gate's: 503 while the gateway stops.
    pub fn admit(&self, request: &HttpRequest, any_of: &[Permission]) -> Result<Visit, Problem> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Problem::new(
                Code::Draining,
                "The gateway is stopping.",
                "Send the same request again in a moment; repeating is safe.",
            ));
        }
        let visit = self.gate.admit(request, &self.limits, any_of)?;
        if self.metrics.tracer().is_some() {
            followed::let_in(request);
        }
        Ok(visit)
    }

    /// The refusal of a stranger who asks before sending the body of an operation that takes one, counted and with what
    /// the log is to say. `None` lets the client go on, and be judged in full then: whether there is such a path, and
    /// whether it takes the method, comes before any credential.
    pub fn turns_away(&self, head: &RequestHead) -> Option<(Problem, String)> {
        let takes_a_body = super::takes_a_body(head.method.as_str(), head.uri.path());
        let refusal = takes_a_body.then(|| self.gate.turns_away(head, &self.limits)).flatten();
        if let Some((problem, _)) = &refusal {
            self.metrics.request("expectation", problem.code().status().as_u16(), std::time::Duration::ZERO);
            self.metrics.problem(problem.code().name());
        }
        refusal
    }

    /// Answers new requests with 503 from now on; those under way go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it answers new requests with 503.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The rate limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The bounds on bodies.
    pub const fn body_limits(&self) -> &BodyLimits {
        &self.body_limits
    }

    /// Where records go in.
    pub const fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Where receipts are read.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Where consumers lease work items.
    pub const fn pull(&self) -> &PullQueue {
        &self.pull
    }

    /// Who is told of records.
    pub const fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.subscriptions
    }

    /// Where it is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Scheme and host at which the callers of an organization reach the gateway: as `public_host` says, else as this
    /// caller wrote them.
    pub fn public_address(&self, request: &HttpRequest, unique_name: &str) -> (PublicScheme, String) {
        let configured = self.public_host.as_ref().map(|pattern| pattern.host_of(unique_name));
        (self.public_scheme, configured.unwrap_or_else(|| host_of(request).to_owned()))
    }

    /// Scheme and host as this caller wrote them: where it can ask again. The host has been checked and goes back to
    /// the caller only.
    pub fn public_base(&self, request: &HttpRequest) -> String {
        format!("{}://{}", self.public_scheme.as_str(), host_of(request))
    }
}

fn host_of(request: &HttpRequest) -> &str {
    request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
}
