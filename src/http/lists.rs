//! The lists behind the connector's drop-downs, and the connection test (contract §3): only what the caller may see,
//! and only what is active.

use std::fmt::Display;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::answer::{self, ListBody};
use super::caller::Visit;
use super::door::Door;
use super::problem::Problem;
use crate::domain::access::Permission;
use crate::domain::catalog::{Organization, WorkStream};
use crate::domain::ids::{Guid, LogicalName, OrganizationId, WorkStreamId};
use crate::domain::refusal::{Refusal, RefusalCode};

/// Whoever hands over or reads records may see what they can be handed to.
pub(super) const READERS: &[Permission] = &[Permission::RecordsWrite, Permission::RecordsRead];

/// `GET /api/v1/organizations`.
pub async fn organizations(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, READERS)?;
    let value = visit.catalog().organizations_for(visit.caller()).into_iter().map(answer::organization).collect();
    Ok(list(&visit, value))
}

/// `GET /api/v1/work-streams?organizationId=…`.
pub async fn work_streams(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, READERS)?;
    let filter = Filter::read(&visit, &request)?;
    let value = filter
        .work_streams(&visit)?
        .into_iter()
        .map(|(organization, work_stream)| answer::work_stream(organization, work_stream))
        .collect();
    Ok(list(&visit, value))
}

/// `GET /api/v1/queues?organizationId=…`.
pub async fn queues(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, READERS)?;
    let filter = Filter::read(&visit, &request)?;
    let mut value = Vec::new();
    for organization in filter.organizations(&visit)? {
        value.extend(organization.queues.by_priority().into_iter().map(|queue| answer::queue(organization, queue)));
    }
    Ok(list(&visit, value))
}

/// `GET /api/v1/entity-configurations?organizationId=…&workStreamId=…&entityLogicalName=…`.
pub async fn entity_configurations(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, READERS)?;
    let filter = Filter::read(&visit, &request)?;
    let mut value = Vec::new();
    for (organization, work_stream) in filter.work_streams(&visit)? {
        let active = work_stream.entities_by_name().into_iter().filter(|entity| entity.state.is_active());
        let active =
            active.filter(|entity| filter.entity.as_ref().is_none_or(|name| *name == entity.entity_logical_name));
        value.extend(active.map(|entity| answer::entity_configuration(organization, work_stream, entity)));
    }
    Ok(list(&visit, value))
}

fn list<T: Serialize>(visit: &Visit, value: Vec<T>) -> HttpResponse {
    answer::json(StatusCode::OK, &ListBody { value, catalog_generation: Some(visit.catalog().generation()) })
}

/// The query parameters that narrow a list.
#[derive(Debug)]
struct Filter {
    organization: Option<OrganizationId>,
    work_stream: Option<WorkStreamId>,
    entity: Option<LogicalName>,
}

impl Filter {
    fn read(visit: &Visit, request: &HttpRequest) -> Result<Self, Problem> {
        let generation = visit.catalog().generation();
        Ok(Self {
            organization: parameter(request, "organizationId", Guid::parse)
                .map_err(|problem| problem.under(generation))?
                .map(OrganizationId::from),
            work_stream: parameter(request, "workStreamId", Guid::parse)
                .map_err(|problem| problem.under(generation))?
                .map(WorkStreamId::from),
            entity: parameter(request, "entityLogicalName", LogicalName::parse)
                .map_err(|problem| problem.under(generation))?,
        })
    }

    /// The organizations that the filter leaves.
    ///
    /// # Errors
    /// 404 for one that is named and not there for this caller.
    fn organizations<'v>(&self, visit: &'v Visit) -> Result<Vec<&'v Organization>, Problem> {
        let (catalog, caller) = (visit.catalog(), visit.caller());
        match &self.organization {
            None => Ok(catalog.organizations_for(caller)),
            Some(id) => match catalog.organization_for(caller, id) {
                Some(organization) => Ok(vec![organization]),
                None => Err(unknown(RefusalCode::OrganizationUnknown, id, "organization").under(catalog.generation())),
            },
        }
    }

    /// The active work streams that the filter leaves.
    ///
    /// # Errors
    /// 404 for an organization or work stream that is named and not there for this caller.
    fn work_streams<'v>(&self, visit: &'v Visit) -> Result<Vec<(&'v Organization, &'v WorkStream)>, Problem> {
        let all = self.organizations(visit)?.into_iter().flat_map(|organization| {
            organization.work_streams_by_name().into_iter().map(move |work_stream| (organization, work_stream))
        });
        let mut named: Vec<_> =
            all.filter(|(_, work_stream)| self.work_stream.is_none_or(|id| id == work_stream.id)).collect();
        if let (Some(id), true) = (&self.work_stream, named.is_empty()) {
            let generation = visit.catalog().generation();
            return Err(unknown(RefusalCode::WorkStreamUnknown, id, "work stream").under(generation));
        }
        named.retain(|(_, work_stream)| work_stream.state.is_active());
        Ok(named)
    }
}

fn unknown(code: RefusalCode, id: &dyn std::fmt::Display, what: &str) -> Problem {
    Refusal {
        code,
        detail: format!("There is no {what} {id} for this credential."),
        expected: None,
        action: format!("Leave the filter out to see every {what} there is."),
    }
    .into()
}

/// The value of a query parameter; an empty one counts as absent, since drop-downs send it before a choice is made.
pub(super) fn parameter<T, F: Display>(
    request: &HttpRequest,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, F>,
) -> Result<Option<T>, Problem> {
    let malformed =
        |detail: String| Problem::malformed(Some(name), detail, format!("Give `{name}` once, in its form."));
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| malformed("The query string is not valid.".to_owned()))?;
    let mut values = pairs.iter().filter(|(key, value)| key == name && !value.trim().is_empty());
    let Some((_, value)) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed(format!("`{name}` is given more than once.")));
    }
    let fault = |fault| malformed(format!("`{name}` `{}` {fault}.", crate::domain::ids::excerpt(value)));
    parse(value).map(Some).map_err(fault)
}

/// `GET /api/v1/connection`: the credential is accepted, and this is what it is good for.
pub async fn connection(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        status: &'static str,
        credential: &'a str,
        permissions: Vec<&'static str>,
        organizations: Vec<&'a str>,
        version: &'static str,
        catalog_generation: u64,
    }
    let visit = door.admit(&request, &Permission::ALL)?;
    let (catalog, caller) = (visit.catalog(), visit.caller());
    let body = Body {
        status: "connected",
        credential: &caller.credential,
        permissions: caller.permissions.iter().map(|permission| permission.name()).collect(),
        organizations: catalog.organizations_for(caller).into_iter().map(|o| &*o.unique_name).collect(),
        version: env!("CARGO_PKG_VERSION"),
        catalog_generation: catalog.generation(),
    };
    Ok(answer::json(StatusCode::OK, &body))
}
