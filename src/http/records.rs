//! `RouteRecord` and `ExplainRecord`: what a flow posts, and what would become of it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use tokio::time::timeout;

use super::answer;
use super::body::{self, Body};
use super::caller::Visit;
use super::door::Door;
use super::followed::Followed;
use super::frame;
use super::problem::{Code, Problem};
use crate::domain::access::Permission;
use crate::domain::admission::{Admission, Verdict, admit, examine};
use crate::domain::record::RecordCreated;
use crate::domain::refusal::RefusalCode;
use crate::domain::rules::RouteTrace;
use crate::intake::NotAccepted;
use crate::store::TraceContext;

/// How long a record waits for the disk. Callers that get no answer at all give up later, and know less: a 503 says that
/// repeating is safe, which it is, since a record that gets to the disk after all is recognized by its key.
const DISK_PATIENCE: Duration = Duration::from_secs(8);

/// `POST /api/v1/records` (contract §1, §2).
pub async fn route(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, &[Permission::RecordsWrite])?;
    let (event, _body) = read_event(&visit, &request, &door).await?;
    let generation = visit.catalog().generation();
    let caller = visit.caller();
    door.limits()
        .take(visit.catalog().organization_for(caller, &event.organization))
        .map_err(|p| p.under(generation))?;
    let mut trace = trace_context(request.headers());
    let followed = Followed::begin(&request);
    if let Some(followed) = &followed {
        trace.traceparent = Some(followed.traceparent());
    }
    let organization = event.organization;
    let accepted = timeout(DISK_PATIENCE, door.intake().accept(visit.catalog(), caller, event, trace)).await;
    if let (Some(followed), Ok(accepted)) = (followed, &accepted) {
        followed.ended(&organization, accepted);
    }
    let accepted = accepted
        .map_err(|_stalled| disk_stalled().under(generation))?
        .map_err(|cause| problem(cause).under(generation))?;
    door.metrics().accepted(&accepted);
    frame::accepted(&request, &accepted);
    Ok(answer::accepted(&accepted, &door.public_base(&request)))
}

/// The event in the body, with the body's share of the memory budget: it is held until the answer is made.
async fn read_event(visit: &Visit, request: &HttpRequest, door: &Door) -> Result<(RecordCreated, Body), Problem> {
    let generation = visit.catalog().generation();
    let body = body::read_json(visit, request, door.body_limits()).await.map_err(|p| p.under(generation))?;
    let event = RecordCreated::parse(body.bytes()).map_err(|fault| Problem::from(fault).under(generation))?;
    Ok((event, body))
}

fn disk_stalled() -> Problem {
    Problem::new(
        Code::Overloaded,
        format!("The disk has not taken the record within {} s.", DISK_PATIENCE.as_secs()),
        "Send the same record again later; repeating is safe, whether this one gets to the disk or not.",
    )
}

fn problem(cause: NotAccepted) -> Problem {
    match cause {
        NotAccepted::NotAdmitted(cause) => cause.into(),
        NotAccepted::NotStored(cause) => cause.into(),
    }
}

/// The two inbound headers that travel with a record (contract §6). What is not well formed is left out; nothing else
/// that came in goes out.
fn trace_context(headers: &HeaderMap) -> TraceContext {
    const LONGEST_BYTES: usize = 256;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let client_tracking_id = text("x-ms-client-tracking-id")
        .map(|id| id.get(..LONGEST_BYTES.min(id.len())).unwrap_or_default().to_owned())
        .filter(|id| !id.is_empty());
    TraceContext {
        traceparent: text("traceparent").filter(|text| is_traceparent(text)).map(str::to_owned),
        client_tracking_id,
    }
}

/// Whether this is a W3C Trace Context `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`, lower case, IDs not all zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else { return false };
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let not_zero = |part: &str| part.bytes().any(|byte| byte != b'0');
    hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && not_zero(trace)
        && not_zero(parent)
}

/// `POST /api/v1/records/explain` (contract §3): every check's verdict; nothing is stored.
pub async fn explain(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, &[Permission::RecordsWrite])?;
    let (event, _body) = read_event(&visit, &request, &door).await?;
    Ok(answer::json(StatusCode::OK, &explanation(&visit, event)))
}

/// What would become of a record, check by check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    /// `accepted`, `refused` (404) or `malformed` (400).
    outcome: &'static str,
    /// Whether it is the test operation.
    test: bool,
    checks: Vec<CheckBody>,
    /// Where it would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteBody>,
    catalog_generation: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckBody {
    /// The code that the 404 would have; `record-details` for the check behind the 400.
    code: &'static str,
    /// The property it looks at.
    field: &'static str,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteBody {
    queue: String,
    priority: u32,
    rule: Option<String>,
    /// Why this queue, in words.
    reason: String,
    /// Where there are rules: which were tried, and what they saw.
    #[serde(flatten)]
    decision: Option<RouteTrace>,
    /// The destination behind the queue.
    routing_queue: String,
}

fn explanation(visit: &Visit, event: RecordCreated) -> Explanation {
    let (catalog, caller) = (visit.catalog(), visit.caller());
    let mut checks: Vec<CheckBody> = examine(catalog, caller, &event).into_iter().map(check_body).collect();
    let destination = catalog
        .organization_for(caller, &event.organization)
        .and_then(|organization| Some((organization, organization.work_streams.get(&event.work_stream)?)))
        .map(|(organization, work_stream)| organization.routing_queue_of(work_stream).to_string());
    let mut details = CheckBody {
        code: "record-details",
        field: "recordDetails",
        verdict: "passed",
        detail: None,
        expected: None,
        action: None,
    };
    let (outcome, test, route) = match admit(catalog, caller, event) {
        Ok(Admission::Test { .. }) => ("accepted", true, None),
        Ok(Admission::Record(admitted)) => ("accepted", false, Some(admitted.route().clone())),
        Err(crate::domain::admission::NotAdmitted::Refused(_)) => {
            details.verdict = "not-reached";
            ("refused", false, None)
        }
        Err(crate::domain::admission::NotAdmitted::Malformed(fault)) => {
            details.verdict = "failed";
            details.detail = Some(fault.message);
            details.expected = fault.expected.map(str::to_owned);
            ("malformed", false, None)
        }
    };
    checks.push(details);
    let route = route.map(|route| RouteBody {
        queue: route.queue.to_string(),
        priority: route.priority,
        reason: route.reason(),
        rule: route.rule.map(String::from),
        decision: route.trace.map(Arc::unwrap_or_clone),
        routing_queue: destination.unwrap_or_default(),
    });
    Explanation { outcome, test, checks, route, catalog_generation: catalog.generation() }
}

fn check_body((code, verdict): (RefusalCode, Verdict)) -> CheckBody {
    let body = |verdict| CheckBody {
        code: code.name(),
        field: code.field(),
        verdict,
        detail: None,
        expected: None,
        action: None,
    };
    match verdict {
        Verdict::Passed => body("passed"),
        Verdict::NotReached => body("not-reached"),
        Verdict::Failed(refusal) => CheckBody {
            detail: Some(refusal.detail),
            expected: refusal.expected,
            action: Some(refusal.action),
            ..body("failed")
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_travels() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for garbage in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(!is_traceparent(garbage), "{garbage}");
        }
    }
}
