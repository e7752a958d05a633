//! What success looks like: the bodies of the door's answers, and the one way to a 202.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use serde::Serialize;

use crate::domain::catalog::{EntityConfiguration, Organization, Queue, WorkStream};
use crate::domain::ids::ReceiptId;
use crate::domain::rules::RouteTrace;
use crate::intake::Accepted;
use crate::store::{DeliveryState, Discarded, ReceiptStatus, Waiting};

/// Any answer but a problem: JSON with this status.
pub fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    // Our own types always serialize; should one ever not, its answer is an empty object and not a panic.
    let body = serde_json::to_vec(body).unwrap_or_else(|_| b"{}".to_vec());
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(body)
}

/// The only 202 (contract §2). It takes what intake proved, and has no `Location`, `Retry-After` or the like: Logic
/// Apps would start to poll.
pub fn accepted(accepted: &Accepted, public_base: &str) -> HttpResponse {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(skip_serializing_if = "Option::is_none")]
        receipt_id: Option<ReceiptId>,
        status: &'static str,
        duplicate: bool,
        test: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        status_url: Option<String>,
        catalog_generation: u64,
    }
    let body = match accepted {
        Accepted::Stored { receipt, catalog_generation, .. } => Body {
            receipt_id: Some(receipt.id()),
            status: "accepted",
            duplicate: receipt.repeat().is_some(),
            test: false,
            status_url: Some(format!("{public_base}/api/v1/receipts/{}", receipt.id())),
            catalog_generation: *catalog_generation,
        },
        Accepted::Test { catalog_generation } => Body {
            receipt_id: None,
            status: "accepted",
            duplicate: false,
            test: true,
            status_url: None,
            catalog_generation: *catalog_generation,
        },
    };
    json(StatusCode::ACCEPTED, &body)
}

/// `{"value": [...]}`, with the configuration that gave it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListBody<T> {
    /// The items.
    pub value: Vec<T>,
    /// The configuration that gave them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_generation: Option<u64>,
}

/// A receipt's state, for whoever holds it.
pub fn receipt(status: &ReceiptStatus) -> impl Serialize {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        receipt_id: String,
        state: DeliveryState,
        organization_id: String,
        work_stream_id: String,
        entity_logical_name: String,
        record_id: String,
        queue: String,
        trace: Trace<'a>,
        attempts: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        accepted_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_attempt_at: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        settled_at: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        waiting: Option<WaitingBody>,
        #[serde(skip_serializing_if = "Option::is_none")]
        remark: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        discarded: Option<DiscardedBody>,
    }
    /// Why the record went where it went.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Trace<'a> {
        catalog_generation: u64,
        queue: String,
        priority: u32,
        rule: Option<String>,
        /// Where there were rules: which were tried, and what they saw.
        #[serde(flatten)]
        decision: Option<&'a RouteTrace>,
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_tracking_id: Option<String>,
    }
    let summary = &status.summary;
    Body {
        receipt_id: summary.receipt.to_string(),
        state: status.state,
        organization_id: summary.organization.to_string(),
        work_stream_id: summary.work_stream.to_string(),
        entity_logical_name: summary.entity_logical_name.to_string(),
        record_id: summary.record_id.to_string(),
        queue: summary.route.queue.to_string(),
        trace: Trace {
            catalog_generation: summary.catalog_generation,
            queue: summary.route.queue.to_string(),
            priority: summary.route.priority,
            rule: summary.route.rule.as_deref().map(str::to_owned),
            decision: summary.route.trace.as_deref(),
            traceparent: summary.trace.traceparent.clone(),
            client_tracking_id: summary.trace.client_tracking_id.clone(),
        },
        attempts: status.attempts,
        last_error: status.last_error.clone(),
        accepted_at: summary.accepted_at.to_string(),
        next_attempt_at: status.next_attempt_at.map(|at| at.to_string()),
        settled_at: status.settled_at.map(|at| at.to_string()),
        waiting: status.waiting.as_ref().map(WaitingBody::of),
        remark: status.closed_after_minutes.map(closed_after),
        discarded: status.discarded.as_ref().map(DiscardedBody::of),
    }
}

/// How long its consumer lets a record wait.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WaitingBody {
    since: String,
    closes_at: String,
}

impl WaitingBody {
    fn of(waiting: &Waiting) -> Self {
        Self { since: waiting.since.to_string(), closes_at: waiting.closes_at.to_string() }
    }
}

/// How a dead letter was put away.
#[derive(Serialize)]
struct DiscardedBody {
    at: String,
    by: String,
    reason: String,
}

impl DiscardedBody {
    fn of(discarded: &Discarded) -> Self {
        Self { at: discarded.at.to_string(), by: discarded.by.clone(), reason: discarded.reason.clone() }
    }
}

/// That a record was delivered by closing while it waited.
fn closed_after(minutes: u64) -> String {
    let unit = if minutes == 1 { "minute" } else { "minutes" };
    format!("closed after {minutes} {unit} of inactivity")
}

/// An organization as the drop-downs need it.
pub fn organization(organization: &Organization) -> impl Serialize + use<> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        id: String,
        unique_name: String,
        name: String,
    }
    Item {
        id: organization.id.to_string(),
        unique_name: organization.unique_name.to_string(),
        name: organization.name.to_string(),
    }
}

/// A work stream as the drop-downs need it.
pub fn work_stream(organization: &Organization, work_stream: &WorkStream) -> impl Serialize + use<> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        id: String,
        organization_id: String,
        name: String,
        stream_source: crate::domain::catalog::StreamSource,
        state: crate::domain::catalog::State,
    }
    Item {
        id: work_stream.id.to_string(),
        organization_id: organization.id.to_string(),
        name: work_stream.name.to_string(),
        stream_source: work_stream.stream_source,
        state: work_stream.state,
    }
}

/// A queue as the drop-downs need it.
pub fn queue(organization: &Organization, queue: &Queue) -> impl Serialize + use<> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        organization_id: String,
        name: String,
        priority: u32,
        default: bool,
    }
    Item {
        organization_id: organization.id.to_string(),
        name: queue.name.to_string(),
        priority: queue.priority,
        default: queue.name == organization.queues.default_queue().name,
    }
}

/// An entity configuration as the drop-downs need it.
pub fn entity_configuration(
    organization: &Organization,
    work_stream: &WorkStream,
    entity: &EntityConfiguration,
) -> impl Serialize + use<> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        id: String,
        organization_id: String,
        work_stream_id: String,
        entity_logical_name: String,
        entity_set_name: String,
        relationship_name: String,
        state: crate::domain::catalog::State,
    }
    Item {
        id: entity.id.to_string(),
        organization_id: organization.id.to_string(),
        work_stream_id: work_stream.id.to_string(),
        entity_logical_name: entity.entity_logical_name.to_string(),
        entity_set_name: entity.entity_set_name.to_string(),
        relationship_name: entity.relationship_name.to_string(),
        state: entity.state,
    }
}
