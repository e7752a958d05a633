//! The door: everything that speaks HTTP to flows, integrators and consumers.
//!
//! This page has all routes. Around every request, outermost first:
//!
//! 1. [`peers`] and [`transport`]: a place among the connections; deadlines for heads; framework errors as JSON
//! 2. [`frame`]: the head is checked, common headers, one log line
//! 3. the route and its method: 404 and 405 come before anything is asked of a credential
//! 4. [`caller`]: the credential, from cached snapshots, before a byte of the body is read
//! 5. [`body`]: media type, size, memory and time
//! 6. the handler: translates, calls once, translates back
//! 7. [`limits`]: the organization's rate, once the record says whose it is
//!
//! Nothing here decides whether a record may enter: that is `domain::admission`. Nothing here makes a 202 without what
//! `intake` proved.

pub mod answer;
pub mod body;
pub mod caller;
pub mod door;
pub mod frame;
pub mod head;
pub mod keys;
pub mod limits;
pub mod lists;
pub mod peers;
pub mod problem;
pub mod receipts;
pub mod records;
pub mod request_id;
pub mod server;
pub mod transport;
pub mod work_items;

use actix_web::web;

use problem::{Code, Problem};

/// Every operation of the public listener.
pub fn routes(app: &mut web::ServiceConfig) {
    app.service(resource("/api/v1/records", "POST").route(web::post().to(records::route)))
        .service(resource("/api/v1/records/explain", "POST").route(web::post().to(records::explain)))
        .service(resource("/api/v1/receipts/{receiptId}", "GET").route(web::get().to(receipts::get)))
        .service(resource("/api/v1/organizations", "GET").route(web::get().to(lists::organizations)))
        .service(resource("/api/v1/work-streams", "GET").route(web::get().to(lists::work_streams)))
        .service(resource("/api/v1/entity-configurations", "GET").route(web::get().to(lists::entity_configurations)))
        .service(resource("/api/v1/connection", "GET").route(web::get().to(lists::connection)))
        .service(resource("/api/v1/work-items/lease", "POST").route(web::post().to(work_items::lease)))
        .service(resource("/api/v1/work-items/{id}/complete", "POST").route(web::post().to(work_items::complete)))
        .service(resource("/api/v1/work-items/{id}/release", "POST").route(web::post().to(work_items::release)))
        .service(resource("/api/v1/work-items/{id}/wait", "POST").route(web::post().to(work_items::wait)))
        .service(resource("/api/v1/work-items/{id}/revive", "POST").route(web::post().to(work_items::revive)))
        .default_service(web::to(nothing_here));
}

/// Whether a path belongs to an operation that takes a body.
pub fn takes_a_body(path: &str) -> bool {
    let of_work_items = path.starts_with("/api/v1/work-items/") && !path.ends_with("/revive");
    matches!(path, "/api/v1/records" | "/api/v1/records/explain") || of_work_items
}

/// A path that answers other methods with 405 and the ones it takes.
pub fn resource(path: &str, methods: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move || async move {
        Err::<actix_web::HttpResponse, _>(
            Problem::new(Code::MethodNotAllowed, format!("This path takes {methods} only."), format!("Use {methods}."))
                .allowing(methods),
        )
    }))
}

/// The answer of a path that is not there.
pub async fn nothing_here() -> Result<actix_web::HttpResponse, Problem> {
    std::future::ready(Err(Problem::nothing_here())).await
}
