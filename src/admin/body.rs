//! Bodies of the administration: one JSON object, read strictly.

use actix_web::HttpRequest;
use serde_json::Value;

use super::Desk;
use crate::config::stored::Document;
use crate::config::strict;
use crate::http::body::{BodyLimits, read_json};
use crate::http::caller::Visit;
use crate::http::problem::Problem;

/// Largest body, in bytes: an organization with some tens of thousands of entity configurations.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Reads the body of a change: one JSON object.
///
/// # Errors
/// As [`read_json`], and 400 for anything but one object.
pub(super) async fn object(visit: &Visit, request: &HttpRequest, desk: &Desk) -> Result<Document, Problem> {
    let budget = desk.door.body_limits().budget.clone();
    let body = read_json(visit, request, &BodyLimits { max_bytes: MAX_BYTES, budget }).await?;
    let malformed =
        |detail: String| Problem::malformed(None, detail, "Send one JSON object; docs/administration.md says which.");
    match strict::parse(body.bytes()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(malformed("The body is not a JSON object.".to_owned())),
        Err(fault) => Err(malformed(format!("The body {fault}."))),
    }
}

/// As [`object`], for operations that may come without a body.
pub(super) async fn optional_object(visit: &Visit, request: &HttpRequest, desk: &Desk) -> Result<Document, Problem> {
    let length = request.headers().get("content-length").and_then(|length| length.to_str().ok());
    let is_empty =
        length.is_none_or(|length| length.trim() == "0") && !request.headers().contains_key("transfer-encoding");
    if is_empty { Ok(Document::new()) } else { object(visit, request, desk).await }
}
