//! Dead letters: listed, made pending again, or given up for good; one, or many a page at a time, so that whoever asks
//! sees how far it is. What was done is in the audit trail.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Desk;
use super::body::{object, optional_object};
use super::query::{LONGEST_PAGE, organization, parameters};
use super::records::{page, visible};
use crate::config::stored::Document;
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::{Guid, LogicalName, OrganizationId, QueueName};
use crate::domain::time::Timestamp;
use crate::http::answer::json as json_answer;
use crate::http::caller::Visit;
use crate::http::problem::Problem;
use crate::store::catalog::{Action, Difference};
use crate::store::{DeadLetters, DeliveryState, Discarded, Handled, ListQuery, MAX_HANDLED, RecordFilter};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// Which dead letters: the same members in a query and in a body.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    organization_id: Option<String>,
    work_stream_id: Option<String>,
    entity_logical_name: Option<String>,
    queue: Option<String>,
    reason_contains: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
    /// In a list: the `next` of the page before.
    before: Option<i64>,
    /// In a bulk operation: the `next` of the call before.
    after: Option<i64>,
    /// Why they are discarded.
    reason: Option<String>,
}

/// A member of no use.
pub(super) fn malformed(field: &'static str, fault: impl std::fmt::Display) -> Problem {
    Problem::malformed(Some(field), format!("`{field}` {fault}."), format!("Correct `{field}`."))
}

/// Reads a member where it is given.
///
/// # Errors
/// 400, naming it.
pub(super) fn read<T, E: std::fmt::Display>(
    field: &'static str,
    text: Option<&String>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(text).map_err(|fault| malformed(field, fault))).transpose()
}

/// A moment as in RFC 3339.
pub(super) fn moment(text: &str) -> Result<Timestamp, &'static str> {
    let parsed = text.parse::<jiff::Timestamp>();
    parsed
        .map(|moment| Timestamp::from_millis(moment.as_millisecond()))
        .map_err(|_| "is not a moment as in RFC 3339, such as 2027-01-31T00:00:00Z")
}

impl Filter {
    fn of_body(body: Document) -> Result<Self, Problem> {
        serde_json::from_value(Value::Object(body)).map_err(|fault| {
            let action = "Correct it; docs/administration.md lists the members.";
            Problem::malformed(None, format!("The body is not what this operation takes: {fault}."), action)
        })
    }

    fn records(&self, visit: &Visit) -> Result<RecordFilter, Problem> {
        let named = read("organizationId", self.organization_id.as_ref(), Guid::parse)?;
        Ok(RecordFilter {
            organization: organization(visit, named)?,
            work_stream: read("workStreamId", self.work_stream_id.as_ref(), Guid::parse)?.map(Into::into),
            queue: read("queue", self.queue.as_ref(), QueueName::parse)?,
            entity_logical_name: read("entityLogicalName", self.entity_logical_name.as_ref(), LogicalName::parse)?,
            reason_contains: self.reason_contains.clone().filter(|part| !part.is_empty()),
            accepted_since: read("since", self.since.as_ref(), moment)?,
            accepted_until: read("until", self.until.as_ref(), moment)?,
        })
    }

    fn dead_letters(&self, visit: &Visit) -> Result<DeadLetters, Problem> {
        let limit = self.limit.unwrap_or(MAX_HANDLED).clamp(1, MAX_HANDLED);
        Ok(DeadLetters::Matching { filter: self.records(visit)?, after: self.after, limit })
    }
}

/// Why dead letters are discarded: it must be said.
///
/// # Errors
/// 400 where it is not.
pub(super) fn reason(given: Option<&str>) -> Result<String, Problem> {
    let reason = given.map(str::trim).unwrap_or_default();
    let fault = if reason.is_empty() {
        "is missing: whoever asks later must find out why"
    } else if reason.chars().any(|character| character == '\0') {
        // The one character that PostgreSQL cannot keep.
        "must not hold the character NUL"
    } else if reason.chars().count() > LONGEST_REASON {
        "is longer than 500 characters"
    } else {
        return Ok(reason.to_owned());
    };
    Err(malformed("reason", fault))
}

/// GET /dead-letters: newest first.
pub(super) async fn list(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let filter: Filter = parameters(&request)?;
    let query = ListQuery {
        filter: filter.records(&visit)?,
        state: Some(DeliveryState::DeadLettered),
        before: filter.before,
        limit: filter.limit.unwrap_or(100).clamp(1, LONGEST_PAGE),
        ..ListQuery::default()
    };
    Ok(page(desk.door.store().list(query).await?))
}

/// How far a bulk operation is. What is left is told to those alone who may see all of it.
fn progress(desk: &Desk, visit: &Visit, handled: Handled) -> HttpResponse {
    #[derive(Serialize)]
    struct Progress {
        count: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        remaining: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<i64>,
    }
    let sees_all = visit.caller().organizations == OrganizationScope::All;
    let remaining = sees_all.then(|| desk.door.store().stats().dead_lettered);
    json_answer(StatusCode::OK, &Progress { count: handled.count, remaining, next: handled.next })
}

/// Writes into the trail what was done to how many.
async fn note(
    desk: &Desk,
    visit: &Visit,
    (action, which): (Action, &DeadLetters),
    (count, reason): (u64, Option<String>),
) -> Result<(), Problem> {
    if count == 0 {
        return Ok(());
    }
    let (organization, resource) = match which {
        DeadLetters::One(receipt) => {
            let status = desk.door.store().receipt(*receipt).await?;
            (status.map(|status| status.summary.organization), format!("records/{receipt}"))
        }
        DeadLetters::Matching { filter, .. } => (filter.organization, "dead-letters".to_owned()),
    };
    note_count(desk, visit, organization, (action, resource), (count, reason)).await
}

/// Writes into the trail what was done to how many of something.
pub(super) async fn note_count(
    desk: &Desk,
    visit: &Visit,
    organization: Option<OrganizationId>,
    (action, resource): (Action, String),
    (count, reason): (u64, Option<String>),
) -> Result<(), Problem> {
    let difference = |path: &str, to: Value| Difference { path: path.to_owned(), from: None, to: Some(to) };
    let mut differences = vec![difference("count", count.into())];
    differences.extend(reason.map(|reason| difference("reason", reason.into())));
    let who = visit.caller_to_keep();
    super::edits::with_editor(desk, move |editor| {
        Ok(editor.note(&who, organization, (action, resource), &differences)?)
    })
    .await
}

/// POST /dead-letters/requeue: a page of them is pending again.
pub(super) async fn requeue(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let filter = Filter::of_body(optional_object(&visit, &request, &desk).await?)?;
    let which = filter.dead_letters(&visit)?;
    let handled = desk.door.store().requeue(which.clone()).await?;
    note(&desk, &visit, (Action::Requeue, &which), (handled.count, None)).await?;
    Ok(progress(&desk, &visit, handled))
}

/// POST /dead-letters/discard: a page of them is given up for good.
pub(super) async fn discard(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let filter = Filter::of_body(object(&visit, &request, &desk).await?)?;
    let reason = reason(filter.reason.as_deref())?;
    let which = filter.dead_letters(&visit)?;
    let handled = put_away(&desk, &visit, &which, reason).await?;
    Ok(progress(&desk, &visit, handled))
}

async fn put_away(desk: &Desk, visit: &Visit, which: &DeadLetters, reason: String) -> Result<Handled, Problem> {
    let by = visit.caller().credential.to_string();
    let how = Discarded { at: Timestamp::now(), by, reason: reason.clone() };
    let handled = desk.door.store().discard(which.clone(), how).await?;
    note(desk, visit, (Action::Discard, which), (handled.count, Some(reason))).await?;
    Ok(handled)
}

/// POST /records/{receiptId}/discard.
pub(super) async fn discard_one(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let status = visible(&desk, &visit, &path).await?;
    let body = object(&visit, &request, &desk).await?;
    let reason = reason(body.get("reason").and_then(Value::as_str))?;
    let handled = put_away(&desk, &visit, &DeadLetters::One(status.summary.receipt), reason).await?;
    Ok(json_answer(StatusCode::OK, &json!({ "discarded": handled.count })))
}

/// The answer of what made so many pending again.
pub(super) fn requeued(count: u64) -> HttpResponse {
    json_answer(StatusCode::OK, &json!({ "requeued": count }))
}

/// POST /records/{receiptId}/requeue.
pub(super) async fn requeue_one(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let status = visible(&desk, &visit, &path).await?;
    let which = DeadLetters::One(status.summary.receipt);
    let handled = desk.door.store().requeue(which.clone()).await?;
    note(&desk, &visit, (Action::Requeue, &which), (handled.count, None)).await?;
    Ok(requeued(handled.count))
}

/// POST /records/requeue?organizationId=…: every dead letter, in one call.
pub(super) async fn requeue_all(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let mut filter: Filter = parameters(&request)?;
    let mut count = 0;
    loop {
        let which = filter.dead_letters(&visit)?;
        let handled = desk.door.store().requeue(which.clone()).await?;
        count += handled.count;
        // Page by page, so that what is done is in the trail whatever becomes of the rest.
        note(&desk, &visit, (Action::Requeue, &which), (handled.count, None)).await?;
        if handled.next.is_none() {
            return Ok(requeued(count));
        }
        filter.after = handled.next;
    }
}
