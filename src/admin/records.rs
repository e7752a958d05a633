//! Stored records: list them, look at one.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Desk;
use super::query::{LONGEST_PAGE, guid, malformed, organization, parameters};
use crate::domain::access::Permission;
use crate::domain::ids::ReceiptId;
use crate::http::answer;
use crate::http::caller::Visit;
use crate::http::problem::{Code, Problem};
use crate::store::{DeliveryState, Details, ListQuery, Page, ReceiptStatus, RecordFilter};

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListParameters {
    organization_id: Option<String>,
    work_stream_id: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
    before: Option<i64>,
}

/// `GET /admin/v1/records`.
pub(super) async fn list(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let parameters: ListParameters = parameters(&request)?;
    let state = match parameters.state.as_deref() {
        None => None,
        Some(name) => Some(DeliveryState::ALL.into_iter().find(|state| state.name() == name).ok_or_else(|| {
            let known = DeliveryState::ALL.map(DeliveryState::name).join(", ");
            malformed("state", format!("`state` must be one of {known}."))
        })?),
    };
    let query = ListQuery {
        filter: RecordFilter {
            organization: organization(&visit, guid("organizationId", parameters.organization_id.as_ref())?)?,
            work_stream: guid("workStreamId", parameters.work_stream_id.as_ref())?.map(Into::into),
            ..RecordFilter::default()
        },
        state,
        discarded: false,
        before: parameters.before,
        limit: parameters.limit.unwrap_or(50).clamp(1, LONGEST_PAGE),
    };
    Ok(page(desk.door.store().list(query).await?))
}

/// A page of records.
pub(super) fn page(page: Page) -> HttpResponse {
    #[derive(Serialize)]
    struct Body<T> {
        value: Vec<T>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<i64>,
    }
    let Page { records, next } = page;
    answer::json(StatusCode::OK, &Body { value: records.iter().map(answer::receipt).collect(), next })
}

/// A receipt of the caller's, or the 404 that it does not exist.
pub(super) async fn visible(desk: &Desk, visit: &Visit, text: &str) -> Result<ReceiptStatus, Problem> {
    let unknown = || {
        Problem::new(
            Code::ReceiptUnknown,
            "There is no such receipt for this credential.",
            "`streamgate records list` shows the receipts there are.",
        )
    };
    let id = ReceiptId::parse(text).map_err(|_| unknown())?;
    let status = desk.door.store().receipt(id).await?;
    status.filter(|status| visit.caller().sees(&status.summary.organization)).ok_or_else(unknown)
}

/// `GET /admin/v1/records/{receiptId}?details=true`.
pub(super) async fn show(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    #[derive(serde::Deserialize)]
    struct Parameters {
        #[serde(default)]
        details: bool,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WithDetails<'a, T> {
        receipt: T,
        entity_set_name: &'a str,
        relationship_name: &'a str,
        /// `null` once they are trimmed.
        record_details: Option<&'a RawValue>,
        /// What is left of trimmed details.
        #[serde(skip_serializing_if = "Option::is_none")]
        record_details_sha256: Option<String>,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let Parameters { details } = parameters(&request)?;
    let status = visible(&desk, &visit, &path).await?;
    let receipt = answer::receipt(&status);
    if !details {
        return Ok(answer::json(StatusCode::OK, &receipt));
    }
    let record = desk.door.store().record(status.summary.receipt).await?.ok_or_else(Problem::nothing_here)?;
    let (record_details, record_details_sha256) = match &record.details {
        Details::Kept(details) => {
            let text = details.as_text().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
            (Some(text.ok_or_else(unreadable)?), None)
        }
        Details::Trimmed { sha256 } => (None, Some(sha256.iter().map(|byte| format!("{byte:02x}")).collect())),
    };
    let body = WithDetails {
        receipt,
        entity_set_name: record.entity_set_name.as_str(),
        relationship_name: record.relationship_name.as_str(),
        record_details,
        record_details_sha256,
    };
    Ok(answer::json(StatusCode::OK, &body))
}

fn unreadable() -> Problem {
    let detail = "The stored details cannot be read.";
    Problem::new(Code::StoreUnavailable, detail, "Stop the gateway and check its store.")
}
