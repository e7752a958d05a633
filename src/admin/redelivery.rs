//! `POST /records/redeliver`: records that were delivered in some time are pending again, for a destination that lost what
//! it had taken. A page at a time, so that whoever asks sees how far it is, and goes on where it was cut short.
//!
//! The end of the time is fixed by the first answer (`until`): what is delivered again meanwhile was delivered later, and
//! is not taken for what was lost, also not by somebody who starts anew with the same end.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Desk;
use super::body::object;
use super::dead_letters::{malformed, moment, read};
use super::figures::routing_queue_of;
use super::query::organization;
use crate::config::Effective;
use crate::config::stored::Document;
use crate::domain::access::Permission;
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::{Guid, OrganizationId, QueueName, ReceiptId, WorkStreamId, excerpt};
use crate::domain::time::Timestamp;
use crate::http::answer::json;
use crate::http::caller::Visit;
use crate::http::problem::Problem;
use crate::store::catalog::{Action, Difference};
use crate::store::{LaneBacklog, LaneId, MAX_HANDLED, Redelivered, Redelivery};

/// Which records.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    organization_id: Option<String>,
    work_stream_id: Option<String>,
    queue: Option<String>,
    /// Where they go as of now.
    routing_queue: Option<String>,
    /// Delivered at this moment or later.
    since: Option<String>,
    /// Delivered before this moment; now where it is not given.
    until: Option<String>,
    limit: Option<usize>,
    /// The `next` of the call before.
    after: Option<i64>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

/// A wish that was read.
struct Asked {
    organization: Option<OrganizationId>,
    work_stream: Option<WorkStreamId>,
    queue: Option<QueueName>,
    routing_queue: Option<String>,
    since: Timestamp,
    until: Timestamp,
    limit: usize,
    after: Option<i64>,
    dry_run: bool,
}

/// How far it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress<'a> {
    count: u64,
    /// Of those: work items, which come back to people.
    work_items: u64,
    without_details: u64,
    #[serde(skip_serializing_if = "<[ReceiptId]>::is_empty")]
    receipts_without_details: &'a [ReceiptId],
    since: Timestamp,
    until: Timestamp,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// The lanes that are meant, with where each leads.
type Lanes<'a> = HashMap<LaneId, &'a RoutingQueueName>;

impl Wish {
    fn of_body(body: Document) -> Result<Self, Problem> {
        serde_json::from_value(Value::Object(body)).map_err(|fault| {
            let action = "Correct it; docs/administration.md lists the members.";
            Problem::malformed(None, format!("The body is not what this operation takes: {fault}."), action)
        })
    }

    fn read(&self, visit: &Visit) -> Result<Asked, Problem> {
        let named = read("organizationId", self.organization_id.as_ref(), Guid::parse)?;
        let organization = organization(visit, named)?;
        let since = read("since", self.since.as_ref(), moment)?;
        let since =
            since.ok_or_else(|| malformed("since", "is missing: say since when the destination lost records"))?;
        let until = read("until", self.until.as_ref(), moment)?.unwrap_or_else(Timestamp::now);
        if since >= until {
            return Err(malformed("since", format!("is not before {until}, the end of the time that is meant")));
        }
        Ok(Asked {
            organization,
            work_stream: read("workStreamId", self.work_stream_id.as_ref(), Guid::parse)?.map(Into::into),
            queue: read("queue", self.queue.as_ref(), QueueName::parse)?,
            routing_queue: self.routing_queue.clone(),
            since,
            until,
            limit: self.limit.unwrap_or(MAX_HANDLED).clamp(1, MAX_HANDLED),
            after: self.after,
            dry_run: self.dry_run,
        })
    }
}

impl Asked {
    /// The lanes that are meant. What is not configured any more leads nowhere and would wait for ever, so it stays as it
    /// is.
    fn lanes<'e>(&self, backlogs: &[LaneBacklog], effective: &'e Effective) -> Result<Lanes<'e>, Problem> {
        let pull = RoutingQueueName::pull();
        let of_interest = backlogs.iter().filter(|backlog| {
            let lane = &backlog.lane;
            self.organization.is_none_or(|organization| organization == lane.organization)
                && self.work_stream.is_none_or(|work_stream| work_stream == lane.work_stream)
                && self.queue.as_ref().is_none_or(|queue| *queue == lane.queue)
        });
        let mut lanes: Lanes<'e> = of_interest
            .filter_map(|backlog| Some((backlog.id, routing_queue_of(&effective.catalog, &backlog.lane)?)))
            .filter(|(_, leads_to)| **leads_to == pull || effective.routing_queues.contains_key(*leads_to))
            .collect();
        if let Some(wanted) = &self.routing_queue {
            lanes.retain(|_, leads_to| leads_to.as_str() == wanted);
            if lanes.is_empty() {
                // A name that is spelt wrongly would otherwise look like a destination that lost nothing.
                let fault = format!("names `{}`, where none of these records goes", excerpt(wanted));
                return Err(malformed("routingQueue", fault));
            }
        }
        Ok(lanes)
    }

    /// What the trail says of it.
    fn differences(&self, count: u64) -> Vec<Difference> {
        let members = [
            ("count", Some(count.into())),
            ("since", Some(self.since.to_string().into())),
            ("until", Some(self.until.to_string().into())),
            ("workStreamId", self.work_stream.map(|work_stream| work_stream.to_string().into())),
            ("queue", self.queue.as_ref().map(|queue| queue.to_string().into())),
            ("routingQueue", self.routing_queue.clone().map(Value::from)),
        ];
        let known = members.into_iter().filter(|(_, to)| to.is_some());
        known.map(|(path, to)| Difference { path: path.to_owned(), from: None, to }).collect()
    }
}

/// POST /records/redeliver: a page of them is pending again.
pub(super) async fn redeliver(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let asked = Wish::of_body(object(&visit, &request, &desk).await?)?.read(&visit)?;
    let lanes = asked.lanes(&desk.door.store().lanes(), visit.effective())?;
    let which = Redelivery {
        lanes: lanes.keys().copied().collect(),
        since: asked.since,
        until: asked.until,
        after: asked.after,
        limit: asked.limit,
        dry_run: asked.dry_run,
    };
    let done = desk.door.store().redeliver(which).await?;
    let count = done.count();
    if count > 0 && !asked.dry_run {
        let (who, organization, differences) = (visit.caller_to_keep(), asked.organization, asked.differences(count));
        super::edits::with_editor(&desk, move |editor| {
            Ok(editor.note(&who, organization, (Action::Requeue, "records".to_owned()), &differences)?)
        })
        .await?;
    }
    Ok(progress(&asked, &lanes, &done))
}

fn progress(asked: &Asked, lanes: &Lanes<'_>, done: &Redelivered) -> HttpResponse {
    let pull = RoutingQueueName::pull();
    let is_pull = |lane: &LaneId| lanes.get(lane).is_some_and(|leads_to| **leads_to == pull);
    let body = Progress {
        count: done.count(),
        work_items: done.lanes.iter().filter(|(lane, _)| is_pull(lane)).map(|(_, count)| count).sum(),
        without_details: done.without_details,
        receipts_without_details: &done.named,
        since: asked.since,
        until: asked.until,
        dry_run: asked.dry_run,
        next: done.next,
    };
    json(StatusCode::OK, &body)
}
