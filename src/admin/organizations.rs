//! Organizations as wholes: made, taken in and compared as documents, and taken away.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Desk;
use super::body::object;
use super::edits::{Resource, answer, if_match, submission_faults, unknown, with_editor, with_parents};
use super::query::{self, ListParameters, parameters};
use super::resources::{deleted, resource};
use crate::config::stored::Document;
use crate::config::view;
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::{Guid, OrganizationId};
use crate::editor::address::Address;
use crate::editor::{DocumentEdit, DocumentEdited, Tag};
use crate::http::answer::json as json_answer;
use crate::http::caller::Visit;
use crate::http::problem::Problem;

/// GET /organizations.
pub(super) async fn list(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let parameters: ListParameters = parameters(&request)?;
    let organizations = visit.catalog().organizations_for(visit.caller());
    let resources = organizations.into_iter().map(|organization| {
        let resource = Resource { organization: organization.id, address: Address::organization() };
        (organization.id.to_string(), with_parents(view::organization(organization), &resource, visit.effective()))
    });
    std::future::ready(parameters.page(resources, visit.catalog().generation())).await
}

/// Creating and deleting organizations concerns all of them.
fn for_all(visit: &Visit) -> Result<(), Problem> {
    if visit.caller().organizations == OrganizationScope::All { Ok(()) } else { Err(Problem::unauthorized()) }
}

/// POST /organizations: `id`, `uniqueName`, `name` and so on.
pub(super) async fn create(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    for_all(&visit)?;
    let own = object(&visit, &request, &desk).await?;
    let organization = match own.get("id").filter(|id| !id.is_null()) {
        Some(id) => id.as_str().and_then(|id| Guid::parse(id).ok()).ok_or_else(|| {
            Problem::malformed(Some("id"), "`id` is not a GUID.", "Give a GUID, or leave it out and one is made.")
        })?,
        None => crate::editor::new_guid().map_err(|_| {
            Problem::malformed(Some("id"), "The operating system gives no random bits.", "Give an `id`.")
        })?,
    };
    let organization = OrganizationId::from(organization);
    let document = Document::from_iter([("organization".to_owned(), Value::Object(own))]);
    let who = visit.caller_to_keep();
    let edited = with_editor(&desk, move |editor| {
        editor.put_document(DocumentEdit {
            who: &who,
            organization,
            document,
            if_match: None,
            only_create: true,
            dry_run: false,
        })
    })
    .await
    .map_err(|problem| problem.pointers_within("/organization"))?;
    let resource = Resource { organization, address: Address::organization() };
    answer(StatusCode::CREATED, &edited.effective, &resource, &edited.warnings)
}

/// DELETE /organizations/{id}; `?storedCopy=true` for what stands behind a file.
pub(super) async fn delete(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Parameters {
        #[serde(default)]
        stored_copy: bool,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    for_all(&visit)?;
    query::only(&request, &["storedCopy"])?;
    let Parameters { stored_copy } = parameters(&request)?;
    let Resource { organization, .. } = resource(&visit, &request)?;
    let if_match = if_match(&request);
    let who = visit.caller_to_keep();
    let effective =
        with_editor(&desk, move |editor| editor.delete_organization(&who, organization, if_match, stored_copy)).await?;
    Ok(deleted(effective.catalog.generation()))
}

/// GET …/document: what the store holds, or what the file says with every default.
pub(super) async fn document(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let Resource { organization, .. } = resource(&visit, &request)?;
    let layers = &visit.effective().layers;
    let provided = layers.provisioned_from(&organization);
    let found = visit.catalog().organization(&organization).ok_or_else(|| unknown("organization"))?;
    let whole = view::document(found);
    let tag = Tag::of(&Value::Object(whole.clone()));
    let mut shown = match layers.stored.organizations.get(&organization).filter(|_| provided.is_none()) {
        Some(stored) => Document::clone(stored),
        None => whole,
    };
    if let Some(file) = provided {
        shown.insert("provisionedFrom".to_owned(), file.into());
    }
    let mut response = json_answer(StatusCode::OK, &shown);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    std::future::ready(Ok(response)).await
}

/// PUT …/document: the organization is exactly this from now on; `?dryRun=true` only compares.
pub(super) async fn put_document(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Parameters {
        #[serde(default)]
        dry_run: bool,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    query::only(&request, &["dryRun"])?;
    let Parameters { dry_run } = parameters(&request)?;
    let named = request.match_info().get("organizationId").unwrap_or_default();
    let organization = OrganizationId::from(Guid::parse(named).map_err(|_| unknown("organization"))?);
    if visit.catalog().organization_for(visit.caller(), &organization).is_none() {
        // Whoever is bound to organizations cannot make one, and learns no more than that there is none.
        for_all(&visit).map_err(|_| unknown("organization").under(visit.catalog().generation()))?;
    }
    let mut document = object(&visit, &request, &desk).await?;
    document.remove("provisionedFrom");
    let if_match = if_match(&request);
    let who = visit.caller_to_keep();
    let edited = with_editor(&desk, move |editor| {
        editor.put_document(DocumentEdit { who: &who, organization, document, if_match, only_create: false, dry_run })
    })
    .await?;
    let DocumentEdited { effective, created, shadowed, warnings, differences } = edited;
    let body = json!({
        "organizationId": organization,
        "created": created,
        "shadowed": shadowed,
        "dryRun": dry_run,
        "differences": differences,
        "warnings": submission_faults(&warnings),
        "catalogGeneration": effective.catalog.generation(),
    });
    let status = if created && !dry_run { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_answer(status, &body))
}
