//! `GET /admin/v1/audit`: who changed what, when, from what to what.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::Desk;
use super::edits::with_editor;
use super::query::{self, LONGEST_PAGE, parameters};
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::OrganizationId;
use crate::domain::time::Timestamp;
use crate::editor::EditError;
use crate::http::answer::json;
use crate::http::problem::Problem;
use crate::store::catalog::{Action, AuditEntry, AuditQuery, Difference};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    sequence: i64,
    at: Timestamp,
    credential: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<OrganizationId>,
    action: Action,
    resource: String,
    catalog_generation: u64,
    differences: Vec<Difference>,
}

impl From<(i64, AuditEntry)> for Entry {
    fn from((sequence, entry): (i64, AuditEntry)) -> Self {
        Self {
            sequence,
            at: entry.at,
            credential: entry.credential.to_string(),
            organization_id: entry.organization,
            action: entry.action,
            resource: entry.resource,
            catalog_generation: entry.generation,
            differences: entry.differences,
        }
    }
}

/// Newest first. Whoever is bound to organizations sees what was done to those.
pub(super) async fn list(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Parameters {
        organization_id: Option<String>,
        resource: Option<String>,
        limit: Option<usize>,
        before: Option<i64>,
    }
    #[derive(Serialize)]
    struct Body {
        value: Vec<Entry>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<i64>,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let Parameters { organization_id, resource, limit, before } = parameters(&request)?;
    let named = query::guid("organizationId", organization_id.as_ref())?.map(OrganizationId::from);
    let organizations = match (&visit.caller().organizations, named) {
        (_, Some(named)) if !visit.caller().sees(&named) => return Err(super::edits::unknown("organization")),
        (_, Some(named)) => Some(vec![named]),
        (OrganizationScope::All, None) => None,
        (OrganizationScope::Only(own), None) => Some(own.iter().copied().collect()),
    };
    let query = AuditQuery { organizations, resource, before, limit: limit.unwrap_or(100).clamp(1, LONGEST_PAGE) };
    let page = with_editor(&desk, move |editor| editor.store().audit(&query).map_err(EditError::from)).await?;
    let body = Body { value: page.entries.into_iter().map(Entry::from).collect(), next: page.next };
    Ok(json(StatusCode::OK, &body))
}
