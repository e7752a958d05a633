//! Who subscribed to queues, for the operator: how each stands, ending one, and what could not be told.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Desk;
use super::body::object;
use super::dead_letters::{note_count, reason, requeued};
use super::query::{self, LONGEST_PAGE, parameters};
use crate::domain::access::Permission;
use crate::domain::ids::{OrganizationId, ReceiptId, SubscriptionId};
use crate::domain::time::Timestamp;
use crate::http::answer::json as json_answer;
use crate::http::caller::Visit;
use crate::http::problem::Problem;
use crate::http::subscriptions::{end_for, shown, unknown};
use crate::store::catalog::Action;
use crate::store::subscriptions::Subscription;

/// The subscription of this ID, for a caller who may administer its organization.
///
/// # Errors
/// 404 where there is none.
fn visible(desk: &Desk, visit: &Visit, id: &str) -> Result<Arc<Subscription>, Problem> {
    let id = SubscriptionId::parse(id).map_err(|_| unknown())?;
    let found = desk.door.subscriptions().known().get(&id).cloned();
    found.filter(|one| visit.caller().sees(&one.wish.organization)).ok_or_else(unknown)
}

fn resource(subscription: &Subscription) -> String {
    format!("subscriptions/{}", subscription.id)
}

/// GET /subscriptions.
pub(super) async fn list(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Parameters {
        organization_id: Option<String>,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let Parameters { organization_id } = parameters(&request)?;
    let named = query::guid("organizationId", organization_id.as_ref())?.map(OrganizationId::from);
    let listed = desk.door.subscriptions().list(visit.caller(), named).await?;
    let value: Vec<_> = listed.iter().map(|(subscription, standing)| shown(subscription, standing)).collect();
    Ok(json_answer(StatusCode::OK, &json!({ "value": value })))
}

/// GET /subscriptions/{subscriptionId}.
pub(super) async fn show(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let subscription = visible(&desk, &visit, &path)?;
    let listed = desk.door.subscriptions().list(visit.caller(), Some(subscription.wish.organization)).await?;
    let (subscription, standing) = listed.into_iter().find(|(one, _)| one.id == subscription.id).ok_or_else(unknown)?;
    Ok(json_answer(StatusCode::OK, &shown(&subscription, &standing)))
}

/// DELETE /subscriptions/{subscriptionId}: it is told nothing more.
pub(super) async fn end(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let subscription = visible(&desk, &visit, &path)?;
    let answer = end_for(&visit, &path, &desk.door).await?;
    if subscription.ended.is_none() {
        let organization = Some(subscription.wish.organization);
        note_count(&desk, &visit, organization, (Action::Delete, resource(&subscription)), (1, None)).await?;
    }
    Ok(answer)
}

/// GET /subscriptions/{subscriptionId}/dead-letters: what could not be told, oldest first.
pub(super) async fn dead_letters(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Parameters {
        limit: Option<usize>,
        after: Option<u64>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        receipt_id: ReceiptId,
        attempts: u32,
        given_up_at: Timestamp,
        reason: String,
    }
    #[derive(Serialize)]
    struct Body {
        value: Vec<Item>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<u64>,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let subscription = visible(&desk, &visit, &path)?;
    let Parameters { limit, after } = parameters(&request)?;
    let limit = limit.unwrap_or(100).clamp(1, LONGEST_PAGE);
    let found = desk.door.subscriptions().dead_letters(subscription.id, after, limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.number);
    let item = |dead: crate::store::subscriptions::DeadNotice| Item {
        receipt_id: dead.receipt,
        attempts: dead.attempts,
        given_up_at: dead.at,
        reason: dead.reason,
    };
    Ok(json_answer(StatusCode::OK, &Body { value: found.into_iter().map(item).collect(), next }))
}

/// POST /subscriptions/{subscriptionId}/dead-letters/requeue: they are told again.
pub(super) async fn requeue(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let subscription = visible(&desk, &visit, &path)?;
    let count = desk.door.subscriptions().requeue(subscription.id).await?;
    if count > 0 {
        let organization = Some(subscription.wish.organization);
        note_count(&desk, &visit, organization, (Action::Requeue, resource(&subscription)), (count, None)).await?;
    }
    Ok(requeued(count))
}

/// POST /subscriptions/{subscriptionId}/dead-letters/discard: they are forgotten.
pub(super) async fn discard(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let subscription = visible(&desk, &visit, &path)?;
    let body = object(&visit, &request, &desk).await?;
    let reason = reason(body.get("reason").and_then(Value::as_str))?;
    let count = desk.door.subscriptions().discard(subscription.id).await?;
    if count > 0 {
        let organization = Some(subscription.wish.organization);
        let what = (Action::Discard, resource(&subscription));
        note_count(&desk, &visit, organization, what, (count, Some(reason))).await?;
    }
    Ok(json_answer(StatusCode::OK, &json!({ "discarded": count })))
}
