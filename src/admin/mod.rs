//! The second listener: health, metrics, and the administration of a running gateway.
//!
//! Health answers anyone who can reach the listener, since probes carry no credentials and learn only "yes" or "no".
//! Metrics are open on loopback and need the `admin` permission elsewhere. Everything under `/admin/v1` needs `admin`,
//! and shows only what the credential's organizations own.

mod health;
mod records;
mod reload;

use std::sync::Arc;

use actix_web::web;

use crate::config::Live;
use crate::http::door::Door;
use crate::http::{nothing_here, resource};

/// What the administration shares.
pub struct Desk {
    /// The door, for its credentials, store and state.
    pub door: web::Data<Door>,
    /// The configuration.
    pub live: Arc<Live>,
    /// Whether the listener can be reached from this machine only.
    pub loopback: bool,
}

/// Every operation of the second listener.
pub fn routes(app: &mut web::ServiceConfig) {
    app.service(resource("/health/live", "GET").route(web::get().to(health::live)))
        .service(resource("/health/ready", "GET").route(web::get().to(health::ready)))
        .service(resource("/metrics", "GET").route(web::get().to(health::metrics)))
        .service(resource("/admin/v1/reload", "POST").route(web::post().to(reload::reload)))
        .service(resource("/admin/v1/records", "GET").route(web::get().to(records::list)))
        .service(resource("/admin/v1/records/requeue", "POST").route(web::post().to(records::requeue_all)))
        .service(resource("/admin/v1/records/{receiptId}", "GET").route(web::get().to(records::show)))
        .service(resource("/admin/v1/records/{receiptId}/requeue", "POST").route(web::post().to(records::requeue_one)))
        .default_service(web::to(nothing_here));
}
