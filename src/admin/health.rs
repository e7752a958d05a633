//! Is it alive, does it take records, and how much of everything.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{Desk, figures};
use crate::domain::access::Permission;
use crate::gateways::Standing;
use crate::http::answer;
use crate::http::problem::Problem;
use crate::store::Refusing;
use crate::telemetry::negotiated;

/// `GET /health/live`: the process answers.
pub(super) async fn live() -> HttpResponse {
    std::future::ready(answer::json(StatusCode::OK, &serde_json::json!({ "status": "live" }))).await
}

/// Why no records are taken; `None` when they are.
pub(super) fn obstacle(desk: &Desk) -> Option<&'static str> {
    if desk.door.is_draining() {
        return Some("draining");
    }
    if desk.fleet.standing() == Standing::Unreachable {
        // Where the catalog is, the records are.
        return Some("store-unreachable");
    }
    desk.door.store().stats().refusing.map(|refusing| match refusing {
        Refusing::Full => "store-full",
        Refusing::Broken => "store-broken",
        Refusing::Unreachable => "store-unreachable",
        Refusing::NotDurable => "store-not-durable",
        Refusing::Failing => "store-failing",
        Refusing::ClockApart => "clock-apart",
        Refusing::Closing => "draining",
    })
}

/// `GET /health/ready`: 200 while records are taken, 503 with the reason while they are not.
pub(super) async fn ready(desk: web::Data<Desk>) -> HttpResponse {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        catalog_generation: u64,
        configuration: &'static str,
        /// Whether what is stored is what is effective, where other gateways may change it.
        #[serde(skip_serializing_if = "Option::is_none")]
        catalog: Option<&'static str>,
    }
    let reason = obstacle(&desk);
    let body = Body {
        status: if reason.is_none() { "ready" } else { "not-ready" },
        reason,
        catalog_generation: desk.live.current().catalog.generation(),
        catalog: desk.fleet.is_shared().then(|| desk.fleet.standing().as_str()),
        configuration: if desk.live.status().ok { "good" } else { "last-good" },
    };
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    std::future::ready(answer::json(status, &body)).await
}

/// `GET /metrics`, as OpenMetrics for whoever asks for it, else as classic Prometheus text.
pub(super) async fn metrics(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    if !desk.loopback {
        desk.door.admit(&request, &[Permission::Admin])?;
    }
    for (listener, identity) in desk.live.current().identities.named() {
        desk.door.metrics().certificate_expires(listener, identity.validity().not_after.seconds());
    }
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = negotiated(accept);
    let text = desk.door.metrics().render(figures::moment(&desk).await, exposition);
    let response = HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(exposition.media_type())))
        .insert_header((header::VARY, HeaderValue::from_static("accept")))
        .body(text);
    Ok(response)
}
