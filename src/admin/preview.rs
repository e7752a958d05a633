//! `POST …/rules/preview`: what a draft list of rules would change, tried over the records that are stored. Nothing
//! changes.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::Value;

use super::Desk;
use super::body::object;
use super::edits::{Resource, submission_faults, unknown, with_editor};
use super::resources::resource;
use crate::domain::access::Permission;
use crate::domain::catalog::Organization;
use crate::domain::ids::{LogicalName, WorkStreamId};
use crate::domain::routing::{Route, RoutingTables, decide};
use crate::domain::rules::{RuleSet, Subject};
use crate::editor::address::{Collection, Identity};
use crate::http::answer::json;
use crate::http::problem::{Problem, SubmissionFault};
use crate::store::{ListQuery, RecordFilter, StoredRecord};

/// Records that a preview runs over where it does not say how many.
const USUAL_RECORDS: u64 = 100;
/// Most records that a preview runs over.
const MOST_RECORDS: u64 = 5_000;
/// Most changes that it lists one by one.
const MOST_LISTED: usize = 1_000;
/// Most pages that it looks through for records of the work stream: each is of thousands of records.
const MOST_PAGES: usize = 64;

/// What would change.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    examined: u64,
    changed: u64,
    changes: Vec<Change>,
    queues: Vec<QueueCount>,
    /// Records whose details are not kept any more, so that nothing can be said of them.
    without_details: u64,
    warnings: Vec<SubmissionFault>,
    catalog_generation: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    receipt_id: String,
    record_id: String,
    entity_logical_name: String,
    from: Where,
    to: Where,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Where {
    queue: String,
    rule: Option<String>,
}

impl From<Route> for Where {
    fn from(route: Route) -> Self {
        Self { queue: route.queue.to_string(), rule: route.rule.map(String::from) }
    }
}

#[derive(Debug, Serialize)]
struct QueueCount {
    queue: String,
    before: u64,
    after: u64,
}

/// The rules that are in force and those of the draft, for one work stream.
struct Trial<'a> {
    work_stream: WorkStreamId,
    now: &'a Organization,
    draft: &'a Organization,
}

impl Trial<'_> {
    /// Where a record goes, now and under the draft.
    fn of(&self, record: &StoredRecord) -> Option<(Where, Where)> {
        Some((self.under(self.now, record)?, self.under(self.draft, record)?))
    }

    fn under(&self, organization: &Organization, record: &StoredRecord) -> Option<Where> {
        let work_stream = organization.work_streams.get(&self.work_stream)?;
        let none = RuleSet::default();
        let entity = work_stream.entities.get(&record.entity_logical_name);
        let tables = RoutingTables {
            entity_rules: entity.map_or(&none, |entity| &entity.rules),
            work_stream_rules: &work_stream.rules,
            default_queue: organization.queues.default_queue(),
        };
        let subject = Subject {
            entity_logical_name: &record.entity_logical_name,
            entity_set_name: &record.entity_set_name,
            record_id: record.record_id,
            relationship_name: &record.relationship_name,
            details: &record.details,
        };
        Some(decide(&tables, &subject).into())
    }
}

/// Runs a draft over the last records.
pub(super) async fn preview(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let Resource { organization, address } = resource(&visit, &request)?;
    let mut body = object(&visit, &request, &desk).await?;
    let Some(Value::Array(rules)) = body.remove("rules") else {
        return Err(Problem::malformed(
            Some("rules"),
            "`rules` is not a list of rules.",
            "Send {\"rules\": [rule, …]}.",
        ));
    };
    let last = match body.get("last") {
        None => USUAL_RECORDS,
        Some(last) => last.as_u64().filter(|last| (1..=MOST_RECORDS).contains(last)).ok_or_else(|| {
            let detail = format!("`last` is not a whole number from 1 to {MOST_RECORDS}.");
            Problem::malformed(Some("last"), detail, "Say how many of the last records to try.")
        })?,
    };
    let generation = visit.catalog().generation();
    let now = visit.catalog().organization(&organization).cloned().ok_or_else(|| unknown("organization"))?;
    let work_stream = request.match_info().get("workStreamId").and_then(|id| crate::domain::ids::Guid::parse(id).ok());
    let work_stream = work_stream.map(WorkStreamId::from).ok_or_else(|| unknown("work stream"))?;
    let only = match address.last() {
        Some((Collection::Entities, Identity::Guid(id))) => {
            let stream = now.work_streams.get(&work_stream).ok_or_else(|| unknown("work stream").under(generation))?;
            let entity = stream.entities.values().find(|entity| entity.id.guid() == *id);
            Some(entity.ok_or_else(|| unknown("entity configuration").under(generation))?.entity_logical_name.clone())
        }
        _ => None,
    };
    let (who, effective) = (visit.caller_to_keep(), visit.effective_to_keep());
    let (draft, warnings) =
        with_editor(&desk, move |editor| editor.draft_rules(&effective, &who, (organization, &address), rules)).await?;
    let trial = Trial { work_stream, now: &now, draft: &draft };
    let mut found = run(&desk, &trial, (only, last)).await?;
    found.warnings = submission_faults(&warnings);
    found.catalog_generation = generation;
    Ok(json(StatusCode::OK, &found))
}

/// Tries the last records of the work stream, newest first.
async fn run(desk: &Desk, trial: &Trial<'_>, (only, last): (Option<LogicalName>, u64)) -> Result<Preview, Problem> {
    let mut found = Preview::default();
    let mut queues: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut query = ListQuery {
        filter: RecordFilter {
            organization: Some(trial.now.id),
            work_stream: Some(trial.work_stream),
            entity_logical_name: only,
            ..RecordFilter::default()
        },
        limit: 500,
        ..ListQuery::default()
    };
    for _ in 0..MOST_PAGES {
        let page = desk.door.store().list(query.clone()).await?;
        for status in &page.records {
            let summary = &status.summary;
            if found.examined == last {
                break;
            }
            // What was deleted meanwhile is none any more; what has lost its details cannot be tried.
            let Some(kept) = desk.door.store().record(summary.receipt).await? else { continue };
            let Some(record) = kept.whole() else {
                found.without_details += 1;
                continue;
            };
            let Some((from, to)) = trial.of(&record) else { continue };
            found.examined += 1;
            queues.entry(from.queue.clone()).or_default().0 += 1;
            queues.entry(to.queue.clone()).or_default().1 += 1;
            if from == to {
                continue;
            }
            found.changed += 1;
            if found.changes.len() < MOST_LISTED {
                found.changes.push(Change {
                    receipt_id: record.receipt.to_string(),
                    record_id: record.record_id.to_string(),
                    entity_logical_name: record.entity_logical_name.to_string(),
                    from,
                    to,
                });
            }
        }
        query.before = page.next;
        if page.next.is_none() || found.examined == last {
            break;
        }
    }
    let counted = queues.into_iter().map(|(queue, (before, after))| QueueCount { queue, before, after });
    found.queues = counted.collect();
    Ok(found)
}
