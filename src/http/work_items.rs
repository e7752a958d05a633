//! The built-in `pull` routing queue over HTTP: lease, complete, release, wait, revive (contract §6).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::answer::{self, ListBody};
use super::body;
use super::caller::Visit;
use super::door::Door;
use super::problem::{Code, Problem};
use crate::domain::access::Permission;
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::{Guid, QueueName, ReceiptId};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::routing_queue::pull::{Holder, LeaseCall, PullError};
use crate::store::{DeliveryState, LeaseToken, ReceiptStatus};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LeaseBody {
    organization_id: String,
    queue: Option<String>,
    max: Option<u64>,
    lease_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettleBody {
    lease_token: String,
}

/// `POST /api/v1/work-items/lease`.
pub async fn lease(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, &[Permission::WorkHandle])?;
    let generation = visit.catalog().generation();
    let body: LeaseBody =
        body::read_object(&visit, &request, door.body_limits()).await.map_err(|problem| problem.under(generation))?;
    let malformed = |field: &'static str, fault: String| {
        Problem::malformed(Some(field), format!("`{field}` {fault}."), format!("Correct `{field}`.")).under(generation)
    };
    let call = LeaseCall {
        organization: Guid::parse(&body.organization_id)
            .map_err(|fault| malformed("organizationId", fault.to_string()))?
            .into(),
        queue: body
            .queue
            .map(|name| QueueName::parse(&name).map_err(|fault| malformed("queue", fault.to_string())))
            .transpose()?,
        max: body.max,
        lease_seconds: body.lease_seconds,
    };
    let value = door
        .pull()
        .lease(visit.effective(), visit.caller(), call, Timestamp::now())
        .await
        .map_err(|cause| problem(cause).under(generation))?;
    Ok(answer::json(StatusCode::OK, &ListBody { value, catalog_generation: Some(generation) }))
}

/// `POST /api/v1/work-items/{id}/complete`.
pub async fn complete(
    request: HttpRequest,
    path: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    end_lease(&request, &path, &door, LeaseEnd::Completed).await
}

/// `POST /api/v1/work-items/{id}/release`.
pub async fn release(
    request: HttpRequest,
    path: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    end_lease(&request, &path, &door, LeaseEnd::Released).await
}

/// `POST /api/v1/work-items/{id}/wait`.
pub async fn wait(
    request: HttpRequest,
    path: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    end_lease(&request, &path, &door, LeaseEnd::Waiting).await
}

/// `POST /api/v1/work-items/{id}/revive`: no lease token, since nobody has the item on lease, and no body.
pub async fn revive(
    request: HttpRequest,
    path: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, &[Permission::WorkHandle])?;
    let receipt = ReceiptId::parse(&path).map_err(|_| problem(PullError::NotFound))?;
    door.pull().revive(visit.caller(), receipt, Timestamp::now()).await.map_err(problem)?;
    let status = status_of(&door, receipt).await?;
    Ok(standing(&visit, receipt, &status, None))
}

/// How a consumer ends its lease.
enum LeaseEnd {
    Completed,
    Released,
    Waiting,
}

/// Ends a lease, and answers where the work item stands now.
async fn end_lease(request: &HttpRequest, id: &str, door: &Door, end: LeaseEnd) -> Result<HttpResponse, Problem> {
    let visit = door.admit(request, &[Permission::WorkHandle])?;
    let holder = holder(&visit, request, id, door).await?;
    let (pull, now) = (door.pull(), Timestamp::now());
    let closes_at = match end {
        LeaseEnd::Completed => pull.complete(holder, now).await.map(|()| None),
        LeaseEnd::Released => pull.release(holder, now).await.map(|()| None),
        LeaseEnd::Waiting => pull.wait(visit.effective(), holder, now).await.map(Some),
    }
    .map_err(problem)?;
    let status = status_of(door, holder.receipt).await?;
    if matches!(end, LeaseEnd::Completed) {
        let age = now.since(status.summary.accepted_at);
        door.metrics().records_delivered(RoutingQueueName::pull().as_str(), &mut std::iter::once(age));
    }
    Ok(standing(&visit, holder.receipt, &status, closes_at))
}

/// Where a work item stands now.
async fn status_of(door: &Door, id: ReceiptId) -> Result<ReceiptStatus, Problem> {
    door.store().receipt(id).await.map_err(Problem::unread)?.ok_or_else(|| problem(PullError::NotFound))
}

/// The answer that says where a work item stands.
fn standing(visit: &Visit, id: ReceiptId, status: &ReceiptStatus, closes_at: Option<Timestamp>) -> HttpResponse {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        id: ReceiptId,
        state: DeliveryState,
        #[serde(skip_serializing_if = "Option::is_none")]
        closes_at: Option<Timestamp>,
        catalog_generation: u64,
    }
    let body = Body { id, state: status.state, closes_at, catalog_generation: visit.catalog().generation() };
    answer::json(StatusCode::OK, &body)
}

/// Who shows which token for which work item.
async fn holder<'v>(visit: &'v Visit, request: &HttpRequest, id: &str, door: &Door) -> Result<Holder<'v>, Problem> {
    let body: SettleBody = body::read_object(visit, request, door.body_limits()).await?;
    let receipt = ReceiptId::parse(id).map_err(|_| problem(PullError::NotFound))?;
    let token = LeaseToken::parse(&body.lease_token).ok_or_else(|| {
        Problem::malformed(
            Some("leaseToken"),
            "`leaseToken` is not a lease token.",
            "Send the `leaseToken` of the lease.",
        )
    })?;
    Ok(Holder { caller: visit.caller(), receipt, token })
}

fn problem(cause: PullError) -> Problem {
    let detail = cause.to_string();
    match cause {
        PullError::OrganizationUnknown(organization) => Refusal::organization_unknown(organization, None).into(),
        PullError::QueueUnknown { .. } => {
            let detail = detail.replacen("there", "There", 1);
            Problem::malformed(Some("queue"), format!("{detail}."), "Name one of them.")
        }
        PullError::OutOfRange { property, .. } => {
            Problem::malformed(Some(property), format!("{detail}."), format!("Correct `{property}`."))
        }
        PullError::NotFound => Problem::new(
            Code::WorkItemUnknown,
            "There is no such work item for this credential.",
            "Use the `id` of a work item that was leased.",
        ),
        PullError::LeaseLost => Problem::new(
            Code::LeaseLost,
            "The lease has run out or was ended; the work item may be with somebody else.",
            "Lease again; nothing was changed.",
        ),
        PullError::NotWaiting => Problem::new(
            Code::NotWaiting,
            "The work item does not wait: it is offered, on lease, done, or closed.",
            "Look at its receipt; a work item that is offered can be leased.",
        ),
        PullError::Store(cause) => cause.into(),
    }
}
