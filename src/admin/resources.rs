//! Organizations, queues, work streams, context variables, entity configurations and rules: all are parts of an
//! organization's document, so the same few handlers serve all of them. The path says which resource is meant.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use super::Desk;
use super::body::{object, optional_object};
use super::edits::{Resource, answer, change, submission_faults, unknown, with_parents};
use super::query::{self, ListParameters, parameters};
use crate::config::view;
use crate::domain::access::Permission;
use crate::domain::catalog::State;
use crate::domain::ids::{Guid, OrganizationId, WorkStreamId};
use crate::editor::EditKind;
use crate::editor::address::{Address, Collection, Identity};
use crate::http::answer::json;
use crate::http::caller::Visit;
use crate::http::problem::{Code, Problem};

/// The resource that the path names, for this caller.
///
/// # Errors
/// 404 for anything that is not there or not the caller's: the two look alike.
pub(super) fn resource(visit: &Visit, request: &HttpRequest) -> Result<Resource, Problem> {
    let path = request.match_info();
    let under = |problem: Problem| problem.under(visit.catalog().generation());
    let guid = |name: &str, noun: &str| -> Result<Option<Guid>, Problem> {
        let given = path.get(name);
        given.map(|text| Guid::parse(text).map_err(|_| under(unknown(noun)))).transpose()
    };
    let mut address = Address::organization();
    let organization = match guid("workStreamId", "work stream")?.map(WorkStreamId::from) {
        Some(work_stream) => {
            address = Address::work_stream(work_stream);
            organization_of(visit, request, work_stream)?
        }
        None => {
            let named = guid("organizationId", "organization")?.map(OrganizationId::from);
            let known = named.filter(|id| visit.catalog().organization_for(visit.caller(), id).is_some());
            known.ok_or_else(|| under(unknown("organization")))?
        }
    };
    if let Some(id) = guid("entityConfigurationId", "entity configuration")? {
        address = address.entity(id.into());
    }
    let named =
        [("queue", Collection::Queues), ("variable", Collection::ContextVariables), ("rule", Collection::Rules)];
    for (parameter, collection) in named {
        if let Some(name) = path.get(parameter) {
            let name = percent_decoded(name).ok_or_else(|| under(unknown(collection.noun())))?;
            address = address.then(collection, Identity::Name(name));
        }
    }
    Ok(Resource { organization, address })
}

/// A name in a path. What is no text is no name either.
fn percent_decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
    }
    String::from_utf8(bytes).ok().map(|name| name.trim().to_owned())
}

/// Whose work stream this is: `organizationId` where it is given, else the only one that has it.
fn organization_of(visit: &Visit, request: &HttpRequest, id: WorkStreamId) -> Result<OrganizationId, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Parameters {
        organization_id: Option<String>,
    }
    if request.method() != actix_web::http::Method::GET {
        query::only(request, &["organizationId"])?;
    }
    let Parameters { organization_id } = parameters(request)?;
    let named = query::guid("organizationId", organization_id.as_ref())?.map(OrganizationId::from);
    let visible = visit.catalog().organizations_for(visit.caller());
    let mut having = visible
        .into_iter()
        .filter(|organization| named.is_none_or(|named| named == organization.id))
        .filter(|organization| organization.work_streams.contains_key(&id))
        .map(|organization| organization.id);
    let generation = visit.catalog().generation();
    match (having.next(), having.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(unknown("work stream").under(generation)),
        (Some(_), Some(_)) => {
            let detail = "Several organizations have a work stream with this ID; say which one is meant.";
            Err(query::malformed("organizationId", detail).under(generation))
        }
    }
}

/// GET one resource.
pub(super) async fn show(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let resource = resource(&visit, &request)?;
    std::future::ready(answer(StatusCode::OK, visit.effective(), &resource, &[])).await
}

/// PATCH one resource.
pub(super) async fn patch(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let resource = resource(&visit, &request)?;
    let patch = object(&visit, &request, &desk).await?;
    let elsewhere = patch.get("organizationId").is_some_and(|id| {
        id.as_str().and_then(|id| Guid::parse(id).ok()).map(OrganizationId::from) != Some(resource.organization)
    });
    if elsewhere {
        let detail = "`organizationId` is not the organization that this resource is a part of, and it cannot move.";
        let action = "Leave `organizationId` out, or create the resource there.";
        return Err(Problem::new(Code::FieldLocked, detail, action).about("organizationId"));
    }
    changed(&desk, &visit, &request, (resource, EditKind::Patch(patch))).await
}

/// DELETE one resource.
pub(super) async fn delete(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let resource = resource(&visit, &request)?;
    let edited = change(&desk, &visit, &request, (resource, EditKind::Delete)).await?;
    Ok(deleted(edited.effective.catalog.generation()))
}

/// The answer of what is gone.
pub(super) fn deleted(catalog_generation: u64) -> HttpResponse {
    json(StatusCode::OK, &serde_json::json!({ "deleted": true, "catalogGeneration": catalog_generation }))
}

/// POST …/activate.
pub(super) async fn activate(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    set_state(request, desk, State::Active).await
}

/// POST …/deactivate.
pub(super) async fn deactivate(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    set_state(request, desk, State::Inactive).await
}

async fn set_state(request: HttpRequest, desk: web::Data<Desk>, state: State) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let resource = resource(&visit, &request)?;
    optional_object(&visit, &request, &desk).await?;
    changed(&desk, &visit, &request, (resource, EditKind::SetState(state))).await
}

async fn changed(
    desk: &Desk,
    visit: &Visit,
    request: &HttpRequest,
    (resource, kind): (Resource, EditKind),
) -> Result<HttpResponse, Problem> {
    let organization = resource.organization;
    let edited = change(desk, visit, request, (resource, kind)).await?;
    let resource = Resource { organization, address: edited.address };
    answer(StatusCode::OK, &edited.effective, &resource, &edited.warnings)
}

/// POST to a list: `position` counts from 1.
async fn create(request: HttpRequest, desk: web::Data<Desk>, collection: Collection) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let parent = resource(&visit, &request)?;
    let body = object(&visit, &request, &desk).await?;
    create_in(&desk, &visit, &request, (parent, collection, body)).await
}

async fn create_in(
    desk: &Desk,
    visit: &Visit,
    request: &HttpRequest,
    (parent, collection, mut body): (Resource, Collection, crate::config::stored::Document),
) -> Result<HttpResponse, Problem> {
    let position = body.remove("position").filter(|_| collection == Collection::Rules);
    let position = position.map(|position| place(&position)).transpose()?;
    let organization = parent.organization;
    let kind = EditKind::Create { collection, resource: body, position };
    let edited = change(desk, visit, request, (parent, kind)).await?;
    let resource = Resource { organization, address: edited.address };
    answer(StatusCode::CREATED, &edited.effective, &resource, &edited.warnings)
}

/// A `position`, from 1, as an index.
fn place(position: &Value) -> Result<usize, Problem> {
    let number = position.as_u64().and_then(|number| usize::try_from(number).ok());
    number.and_then(|number| number.checked_sub(1)).ok_or_else(|| {
        Problem::malformed(
            Some("position"),
            "`position` is not a whole number from 1.",
            "Give the place in the list, from 1.",
        )
    })
}

/// POST …/queues.
pub(super) async fn create_queue(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    create(request, desk, Collection::Queues).await
}

/// POST …/context-variables.
pub(super) async fn create_variable(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    create(request, desk, Collection::ContextVariables).await
}

/// POST …/entity-configurations.
pub(super) async fn create_entity(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    create(request, desk, Collection::Entities).await
}

/// POST …/rules.
pub(super) async fn create_rule(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    create(request, desk, Collection::Rules).await
}

/// POST /work-streams: `organizationId` in the body says whose, or the credential's only one.
pub(super) async fn create_work_stream(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let body = object(&visit, &request, &desk).await?;
    let malformed = |detail: &str| {
        Problem::malformed(
            Some("organizationId"),
            detail,
            "Give the GUID of the organization that the work stream is for.",
        )
    };
    let named = match body.get("organizationId") {
        None => None,
        Some(id) => Some(
            id.as_str()
                .and_then(|id| Guid::parse(id).ok())
                .ok_or_else(|| malformed("`organizationId` is not a GUID."))?,
        ),
    };
    if named.is_some_and(|id| !visit.caller().sees(&id.into())) {
        return Err(unknown("organization").under(visit.catalog().generation()));
    }
    let organization = query::organization(&visit, named)?.ok_or_else(|| malformed("`organizationId` is missing."))?;
    if visit.catalog().organization_for(visit.caller(), &organization).is_none() {
        return Err(unknown("organization").under(visit.catalog().generation()));
    }
    let parent = Resource { organization, address: Address::organization() };
    create_in(&desk, &visit, &request, (parent, Collection::WorkStreams, body)).await
}

/// GET a list of parts of a resource.
async fn list(request: HttpRequest, desk: web::Data<Desk>, collection: Collection) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let parent = resource(&visit, &request)?;
    let parameters: ListParameters = parameters(&request)?;
    let generation = visit.catalog().generation();
    let organization = visit.catalog().organization(&parent.organization).ok_or_else(|| unknown("organization"))?;
    let document = view::document(organization);
    let of_parent = if parent.address.last().is_none() {
        document.get(collection.member())
    } else {
        let found = parent.address.find(&document).ok_or_else(|| unknown(parent.address.noun()).under(generation))?;
        found.get(collection.member())
    };
    let elements = of_parent.and_then(Value::as_array).into_iter().flatten();
    let resources = elements.filter_map(|element| {
        let identity = element.get(if collection.has_ids() { "id" } else { "name" })?.as_str()?.to_owned();
        let address = parent.address.clone().then(collection, Identity::Name(identity.clone()));
        let shown = with_parents(element.clone(), &Resource { address, ..parent.clone() }, visit.effective());
        Some((identity, shown))
    });
    std::future::ready(parameters.page(resources, generation)).await
}

/// GET …/queues.
pub(super) async fn list_queues(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    list(request, desk, Collection::Queues).await
}

/// GET …/context-variables.
pub(super) async fn list_variables(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    list(request, desk, Collection::ContextVariables).await
}

/// GET …/entity-configurations.
pub(super) async fn list_entities(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    list(request, desk, Collection::Entities).await
}

/// GET …/rules, in the order in which they are tried.
pub(super) async fn list_rules(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    list(request, desk, Collection::Rules).await
}

/// GET /work-streams, of every organization of the caller's or of one.
pub(super) async fn list_work_streams(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let parameters: ListParameters = parameters(&request)?;
    let generation = visit.catalog().generation();
    let named = query::guid("organizationId", parameters.organization_id.as_ref())?.map(OrganizationId::from);
    let organizations = match named {
        Some(id) => {
            let found = visit.catalog().organization_for(visit.caller(), &id);
            vec![found.ok_or_else(|| unknown("organization").under(generation))?]
        }
        None => visit.catalog().organizations_for(visit.caller()),
    };
    let resources = organizations.into_iter().flat_map(|organization| {
        let visit = &visit;
        organization.work_streams_by_name().into_iter().map(move |work_stream| {
            let address = Address::work_stream(work_stream.id);
            let resource = Resource { organization: organization.id, address };
            let shown = with_parents(view::work_stream(work_stream), &resource, visit.effective());
            (format!("{}:{}", organization.id, work_stream.id), shown)
        })
    });
    std::future::ready(parameters.page(resources, generation)).await
}

/// PUT …/rules: the whole list, as `value`.
pub(super) async fn replace_rules(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let parent = resource(&visit, &request)?;
    let mut body = object(&visit, &request, &desk).await?;
    let Some(Value::Array(rules)) = body.remove("value") else {
        return Err(Problem::malformed(
            Some("value"),
            "`value` is not a list of rules.",
            "Send {\"value\": [rule, …]}.",
        ));
    };
    let address = parent.address.clone();
    let organization = parent.organization;
    let kind = EditKind::ReplaceList(Collection::Rules, rules);
    let edited = change(&desk, &visit, &request, (parent, kind)).await?;
    let generation = edited.effective.catalog.generation();
    let found = edited.effective.catalog.organization(&organization).ok_or_else(|| unknown("organization"))?;
    let document = view::document(found);
    let rules = address.find(&document).and_then(|parent| parent.get("rules")).cloned().unwrap_or_default();
    let warnings = submission_faults(&edited.warnings);
    let body = serde_json::json!({ "value": rules, "warnings": warnings, "catalogGeneration": generation });
    Ok(json(StatusCode::OK, &body))
}

/// POST …/rules/{rule}/move.
pub(super) async fn move_rule(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let resource = resource(&visit, &request)?;
    let body = object(&visit, &request, &desk).await?;
    let position = place(body.get("position").unwrap_or(&Value::Null))?;
    changed(&desk, &visit, &request, (resource, EditKind::Move(position))).await
}
