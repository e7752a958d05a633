//! `GET /admin/v1/gateways`: who is there on this catalog, and which generation each of them serves.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::Desk;
use super::query;
use crate::domain::access::{OrganizationScope, Permission};
use crate::http::answer::json;
use crate::http::problem::{Code, Problem};
use crate::store::gateways::{LiveGateway, Presence};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gateway {
    id: String,
    name: String,
    version: String,
    /// Whether it is the one that answers.
    answers: bool,
    catalog_generation: u64,
    /// Made of what its files say.
    files: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<String>,
    up_seconds: u64,
    heard_seconds_ago: f64,
}

/// All that are there. It concerns every organization, so the credential must be bound to all of them.
pub(super) async fn list(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        value: Vec<Gateway>,
        /// Whether their files say different things.
        files_differ: bool,
        catalog_generation: u64,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    if visit.caller().organizations != OrganizationScope::All {
        return Err(Problem::unauthorized());
    }
    query::only(&request, &[])?;
    let fleet = Arc::clone(&desk.fleet);
    let live = web::block(move || fleet.live())
        .await
        .map_err(|fault| Problem::new(Code::Draining, format!("The look was cut short: {fault}."), "Try again."))?;
    let live = live.map_err(|fault| {
        tracing::error!(%fault, "which gateways are there could not be found out");
        Problem::new(
            Code::StoreUnavailable,
            "Which gateways are there cannot be found out: the store does not answer.",
            "Try again later; the log says more.",
        )
    })?;
    let mut files = live.iter().map(|one| &one.presence.files);
    let first = files.next();
    let body = Body {
        files_differ: files.any(|one| Some(one) != first),
        value: live.iter().map(|one| shown(&desk, one)).collect(),
        catalog_generation: desk.live.current().catalog.generation(),
    };
    Ok(json(StatusCode::OK, &body))
}

fn shown(desk: &Desk, gateway: &LiveGateway) -> Gateway {
    let Presence { id, name, version, generation, files, behind } = gateway.presence.clone();
    Gateway {
        id: id.to_string(),
        name,
        version,
        answers: id == desk.fleet.id(),
        catalog_generation: generation,
        files,
        behind,
        up_seconds: gateway.up.as_secs(),
        // To the tenth: more would pass for more than it is.
        heard_seconds_ago: (gateway.heard.as_secs_f64() * 10.0).round() / 10.0,
    }
}
