//! `GET /admin/v1/openapi.json`: this interface, for whoever generates a client of it.
//!
//! Written by hand and compiled in. The tests hold it to the table of operations, and every answer that they get to what
//! it says of it.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::value::RawValue;

use super::Desk;
use crate::domain::access::Permission;
use crate::http::answer::json;
use crate::http::problem::{Code, Problem};

/// The description (OpenAPI 3.1).
pub const DESCRIPTION: &str = include_str!("../../openapi/administration.json");

/// As it is.
pub(super) async fn show(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    desk.door.admit(&request, &[Permission::Admin])?;
    let description: &RawValue = serde_json::from_str(DESCRIPTION).map_err(|fault| {
        Problem::new(
            Code::NotFound,
            format!("The description cannot be read: {fault}."),
            "Read docs/administration.md.",
        )
    })?;
    std::future::ready(Ok(json(StatusCode::OK, &description))).await
}
