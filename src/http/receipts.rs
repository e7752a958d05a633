//! `GetReceipt`: what became of a record (contract §3).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer;
use super::door::Door;
use super::problem::{Code, Problem};
use crate::domain::access::Permission;
use crate::domain::ids::ReceiptId;

/// `GET /api/v1/receipts/{receiptId}`.
pub async fn get(
    request: HttpRequest,
    path: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, &[Permission::RecordsRead])?;
    let generation = visit.catalog().generation();
    // What is no receipt ID, what was never handed out and what belongs to somebody else look alike.
    let unknown = || {
        Problem::new(
            Code::ReceiptUnknown,
            "There is no such receipt for this credential.",
            "Use the `receiptId` of a 202 that this organization got.",
        )
        .under(generation)
    };
    let id = ReceiptId::parse(&path).map_err(|_| unknown())?;
    let status = door.store().receipt(id).await.map_err(|cause| Problem::unread(cause).under(generation))?;
    let status = status.filter(|status| visit.caller().sees(&status.summary.organization)).ok_or_else(unknown)?;
    Ok(answer::json(StatusCode::OK, &answer::receipt(&status)))
}
