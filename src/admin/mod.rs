//! The second listener: health, metrics, and the administration of a running gateway.
//!
//! Health answers anyone who can reach the listener, since probes carry no credentials and learn only "yes" or "no".
//! Metrics are open on loopback and need the `admin` permission elsewhere. Everything under `/admin/v1` needs `admin`,
//! and shows only what the credential's organizations own.
//!
//! This page has all operations, as one table: the routes are made of it, and so are the tests that try each one as a
//! stranger and as another organization's administrator.

mod api_keys;
mod audit;
mod body;
mod dead_letters;
mod edits;
mod everywhere;
mod figures;
mod gateways;
mod health;
mod openapi;
mod organizations;
mod preview;
mod query;
mod records;
mod redelivery;
mod reload;
mod resources;
mod subscriptions;

use std::sync::Arc;

pub use everywhere::everywhere;
pub use figures::Figures;
pub use openapi::DESCRIPTION;

use actix_web::{guard, web};

use crate::config::Live;
use crate::editor::Editor;
use crate::gateways::Fleet;
use crate::http::door::Door;
use crate::http::keys::JwksService;
use crate::http::peers::Peers;
use crate::http::{nothing_here, resource};

/// What the administration shares.
pub struct Desk {
    /// The door, for its credentials, store and state.
    pub door: web::Data<Door>,
    /// The configuration.
    pub live: Arc<Live>,
    /// What changes it.
    pub editor: Editor,
    /// The gateways on the same catalog.
    pub fleet: Arc<Fleet>,
    /// Whether the listener can be reached from this machine only.
    pub loopback: bool,
    /// The keys of token issuers.
    pub jwks: Arc<JwksService>,
    /// Where the connections of each listener are counted.
    pub listeners: Vec<(&'static str, Arc<Peers>)>,
    /// What metrics had to ask the disk for.
    pub figures: Figures,
}

/// One operation of the second listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The method.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
}

/// Makes the table of operations and the routes of the same lines.
macro_rules! operations {
    ($($path:literal $methods:literal { $($method:ident $handler:path),+ $(,)? })+) => {
        /// Every operation of the second listener.
        pub const OPERATIONS: &[Operation] = &[
            $($(Operation { method: stringify!($method), path: $path }),+),+
        ];

        /// The routes of every operation.
        pub fn routes(app: &mut web::ServiceConfig) {
            $(
                let methods = [$(stringify!($method)),+];
                let mut served = resource($path, $methods);
                if is_word_among_names($path) {
                    served = served.guard(guard::fn_guard(move |request| methods.contains(&request.head().method.as_str())));
                }
                $(served = served.route(web::route().guard(guard::fn_guard(|request| {
                    request.head().method.as_str() == stringify!($method)
                })).to($handler));)+
                app.service(served);
            )+
            app.default_service(web::to(nothing_here));
        }
    };
}

/// Whether a path ends with a word where other paths have a name that people choose: a rule may be called `preview`, and
/// its other methods must get through to it.
fn is_word_among_names(path: &str) -> bool {
    path.ends_with("/rules/preview")
}

operations! {
    "/health/live" "GET" { GET health::live }
    "/health/ready" "GET" { GET health::ready }
    "/metrics" "GET" { GET health::metrics }
    "/admin/v1/reload" "POST" { POST reload::reload }
    "/admin/v1/organizations" "GET, POST" { GET organizations::list, POST organizations::create }
    "/admin/v1/organizations/{organizationId}" "GET, PATCH, DELETE" {
        GET resources::show, PATCH resources::patch, DELETE organizations::delete,
    }
    "/admin/v1/organizations/{organizationId}/document" "GET, PUT" {
        GET organizations::document, PUT organizations::put_document,
    }
    "/admin/v1/organizations/{organizationId}/queues" "GET, POST" {
        GET resources::list_queues, POST resources::create_queue,
    }
    "/admin/v1/organizations/{organizationId}/queues/{queue}" "GET, PATCH, DELETE" {
        GET resources::show, PATCH resources::patch, DELETE resources::delete,
    }
    "/admin/v1/work-streams" "GET, POST" { GET resources::list_work_streams, POST resources::create_work_stream }
    "/admin/v1/work-streams/{workStreamId}" "GET, PATCH, DELETE" {
        GET resources::show, PATCH resources::patch, DELETE resources::delete,
    }
    "/admin/v1/work-streams/{workStreamId}/activate" "POST" { POST resources::activate }
    "/admin/v1/work-streams/{workStreamId}/deactivate" "POST" { POST resources::deactivate }
    "/admin/v1/work-streams/{workStreamId}/context-variables" "GET, POST" {
        GET resources::list_variables, POST resources::create_variable,
    }
    "/admin/v1/work-streams/{workStreamId}/context-variables/{variable}" "GET, PATCH, DELETE" {
        GET resources::show, PATCH resources::patch, DELETE resources::delete,
    }
    "/admin/v1/work-streams/{workStreamId}/context-variables/{variable}/activate" "POST" { POST resources::activate }
    "/admin/v1/work-streams/{workStreamId}/context-variables/{variable}/deactivate" "POST" { POST resources::deactivate }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations" "GET, POST" {
        GET resources::list_entities, POST resources::create_entity,
    }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations/{entityConfigurationId}" "GET, PATCH, DELETE" {
        GET resources::show, PATCH resources::patch, DELETE resources::delete,
    }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations/{entityConfigurationId}/activate" "POST" {
        POST resources::activate,
    }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations/{entityConfigurationId}/deactivate" "POST" {
        POST resources::deactivate,
    }
    "/admin/v1/work-streams/{workStreamId}/rules" "GET, POST, PUT" {
        GET resources::list_rules, POST resources::create_rule, PUT resources::replace_rules,
    }
    "/admin/v1/work-streams/{workStreamId}/rules/preview" "POST" { POST preview::preview }
    "/admin/v1/work-streams/{workStreamId}/rules/{rule}" "GET, PATCH, DELETE" {
        GET resources::show, PATCH resources::patch, DELETE resources::delete,
    }
    "/admin/v1/work-streams/{workStreamId}/rules/{rule}/move" "POST" { POST resources::move_rule }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations/{entityConfigurationId}/rules" "GET, POST, PUT" {
        GET resources::list_rules, POST resources::create_rule, PUT resources::replace_rules,
    }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations/{entityConfigurationId}/rules/preview" "POST" {
        POST preview::preview,
    }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations/{entityConfigurationId}/rules/{rule}" "GET, PATCH, DELETE" {
        GET resources::show, PATCH resources::patch, DELETE resources::delete,
    }
    "/admin/v1/work-streams/{workStreamId}/entity-configurations/{entityConfigurationId}/rules/{rule}/move" "POST" {
        POST resources::move_rule,
    }
    "/admin/v1/api-keys" "GET, POST" { GET api_keys::list, POST api_keys::create }
    "/admin/v1/api-keys/{name}" "GET, DELETE" { GET api_keys::show, DELETE api_keys::revoke }
    "/admin/v1/gateways" "GET" { GET gateways::list }
    "/admin/v1/openapi.json" "GET" { GET openapi::show }
    "/admin/v1/audit" "GET" { GET audit::list }
    "/admin/v1/records" "GET" { GET records::list }
    "/admin/v1/records/requeue" "POST" { POST dead_letters::requeue_all }
    "/admin/v1/records/redeliver" "POST" { POST redelivery::redeliver }
    "/admin/v1/records/{receiptId}" "GET" { GET records::show }
    "/admin/v1/records/{receiptId}/requeue" "POST" { POST dead_letters::requeue_one }
    "/admin/v1/records/{receiptId}/discard" "POST" { POST dead_letters::discard_one }
    "/admin/v1/dead-letters" "GET" { GET dead_letters::list }
    "/admin/v1/dead-letters/requeue" "POST" { POST dead_letters::requeue }
    "/admin/v1/dead-letters/discard" "POST" { POST dead_letters::discard }
    "/admin/v1/subscriptions" "GET" { GET subscriptions::list }
    "/admin/v1/subscriptions/{subscriptionId}" "GET, DELETE" { GET subscriptions::show, DELETE subscriptions::end }
    "/admin/v1/subscriptions/{subscriptionId}/dead-letters" "GET" { GET subscriptions::dead_letters }
    "/admin/v1/subscriptions/{subscriptionId}/dead-letters/requeue" "POST" { POST subscriptions::requeue }
    "/admin/v1/subscriptions/{subscriptionId}/dead-letters/discard" "POST" { POST subscriptions::discard }
}
