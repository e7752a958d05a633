//! From a request to a change by the editor and back: the one place where its errors become answers.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Desk;
use crate::config::keeper::NotFollowed;
use crate::config::{Effective, Fault, view};
use crate::domain::access::Caller;
use crate::domain::ids::OrganizationId;
use crate::editor::address::{Address, Collection};
use crate::editor::{Edit, EditError, EditKind, Edited, Editor, Tag};
use crate::http::answer;
use crate::http::caller::Visit;
use crate::http::problem::{Code, Problem, SubmissionFault};
use crate::store::StoreError;

/// A resource of an organization.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) organization: OrganizationId,
    pub(super) address: Address,
}

/// Lets the editor do something on a thread that may block.
///
/// # Errors
/// What the editor says, as a problem.
pub(super) async fn with_editor<T: Send + 'static>(
    desk: &Desk,
    work: impl FnOnce(&Editor) -> Result<T, EditError> + Send + 'static,
) -> Result<T, Problem> {
    let editor = desk.editor.clone();
    let done = web::block(move || work(&editor))
        .await
        .map_err(|fault| Problem::new(Code::Draining, format!("The change was cut short: {fault}."), "Try again."))?;
    done.map_err(|fault| problem(fault).under(desk.live.current().catalog.generation()))
}

/// Makes one change of one resource.
///
/// # Errors
/// As [`with_editor`].
pub(super) async fn change(
    desk: &Desk,
    visit: &Visit,
    request: &HttpRequest,
    (resource, kind): (Resource, EditKind),
) -> Result<Edited, Problem> {
    let who: Arc<Caller> = visit.caller_to_keep();
    let if_match = if_match(request);
    with_editor(desk, move |editor| {
        let Resource { organization, address } = resource;
        editor.edit(Edit { who: &who, organization, address, if_match, kind })
    })
    .await
}

/// `If-Match`, where it is given.
pub(super) fn if_match(request: &HttpRequest) -> Option<Tag> {
    // What is no text is no tag of ours either: it matches nothing.
    let values = request.headers().get_all(header::IF_MATCH).map(|value| value.to_str().unwrap_or("\"\""));
    let values: Vec<_> = values.collect();
    if values.is_empty() { None } else { Some(Tag::parse(&values.join(","))) }
}

/// The answer with a resource as it is now.
pub(super) fn answer(
    status: StatusCode,
    effective: &Effective,
    resource: &Resource,
    warnings: &[Fault],
) -> Result<HttpResponse, Problem> {
    let unknown = || unknown(resource.address.noun()).under(effective.catalog.generation());
    let organization = effective.catalog.organization(&resource.organization).ok_or_else(unknown)?;
    let document = view::part(organization, resource.address.in_work_stream().as_ref());
    let found = resource.address.find(&document).ok_or_else(unknown)?;
    let tag = Tag::of(found);
    let mut shown = with_parents(found.clone(), resource, effective);
    if let Some(members) = shown.as_object_mut() {
        members.insert("catalogGeneration".to_owned(), effective.catalog.generation().into());
        if !warnings.is_empty() {
            members.insert("warnings".to_owned(), json!(submission_faults(warnings)));
        }
    }
    let mut response = answer::json(status, &shown);
    if let Ok(tag) = header::HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// A resource with what it belongs to, and where it comes from.
pub(super) fn with_parents(mut shown: Value, resource: &Resource, effective: &Effective) -> Value {
    let Some(members) = shown.as_object_mut() else { return shown };
    let parents = resource.address.parents();
    if resource.address.last().is_some() {
        members.insert("organizationId".to_owned(), resource.organization.to_string().into());
    }
    for (collection, identity) in parents {
        let member = match collection {
            Collection::WorkStreams => "workStreamId",
            Collection::Entities => "entityConfigurationId",
            Collection::Queues | Collection::ContextVariables | Collection::Rules => continue,
        };
        members.insert(member.to_owned(), identity.to_string().into());
    }
    if let Some(file) = effective.layers.provisioned_from(&resource.organization) {
        members.insert("provisionedFrom".to_owned(), file.into());
    }
    shown
}

/// Faults as problems and warnings show them.
pub(super) fn submission_faults(faults: &[Fault]) -> Vec<SubmissionFault> {
    const SHOWN: usize = 100;
    let shown = faults.iter().take(SHOWN).map(|fault| SubmissionFault {
        pointer: fault.pointer.clone(),
        message: fault.message.clone(),
        hint: fault.hint.clone(),
    });
    let more = faults.len().checked_sub(SHOWN).filter(|more| *more > 0).map(|more| SubmissionFault {
        pointer: None,
        message: format!("and {more} more, or more than that; mend these first"),
        hint: None,
    });
    shown.chain(more).collect()
}

/// The 404 of what is not there, or not for this caller.
pub(super) fn unknown(noun: &str) -> Problem {
    Problem::new(
        Code::ResourceUnknown,
        format!("There is no such {noun} for this credential."),
        "List what there is: GET the path one level up.",
    )
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u', 'A']) { "an" } else { "a" }
}

fn problem(fault: EditError) -> Problem {
    match fault {
        EditError::Unknown(noun) => unknown(noun),
        EditError::Exists { noun, identity } => Problem::new(
            Code::ResourceExists,
            format!("There is {} {noun} `{}` already.", article(noun), crate::domain::ids::excerpt(&identity)),
            "Change the one that is there with PATCH, or choose another ID or name.",
        ),
        EditError::Provisioned(file) => Problem::new(
            Code::Provisioned,
            format!("It is provisioned from {file} and can only be changed there."),
            "Edit the file; or take the organization into the store with `streamgate apply` and then remove the file.",
        ),
        EditError::Locked { field, reason } => Problem::new(
            Code::FieldLocked,
            format!("`{field}` cannot be changed: {reason}."),
            format!("Leave `{field}` as it is."),
        )
        .about(field),
        EditError::DefaultQueue(name) => Problem::new(
            Code::DefaultQueue,
            format!("`{}` is the default queue, and there is always one.", crate::domain::ids::excerpt(&name)),
            "Make another queue the default first: PATCH it with {\"default\": true}.",
        ),
        EditError::InUse(detail) => {
            Problem::new(Code::InUse, detail, "Take it out of the configuration files first, then try again.")
        }
        EditError::TooLarge(detail) => {
            Problem::new(Code::BodyTooLarge, detail, "Delete what is not needed, or share it out among organizations.")
        }
        EditError::PreconditionFailed => Problem::new(
            Code::PreconditionFailed,
            "The resource is not the one that `If-Match` names: somebody else has changed it.",
            "Read it again, decide again, and send its new ETag.",
        ),
        EditError::Invalid(faults) => {
            let shown = submission_faults(&faults);
            let first = faults.first().map(|fault| fault.message.clone()).unwrap_or_default();
            let detail = match faults.len() {
                1 => first,
                count => format!("{count} faults; the first: {first}"),
            };
            Problem::new(Code::ResourceInvalid, detail, "Correct every fault in `faults` and submit again.")
                .with_faults(shown)
        }
        EditError::Behind(fault) => behind(&fault),
        EditError::Store(fault) => not_stored(&fault),
        EditError::Random(fault) => {
            let detail = format!("The operating system gives no random bits: {fault}.");
            Problem::new(Code::StoreUnavailable, detail, "Nothing has changed. Try again later.")
        }
    }
}

/// What another gateway has stored cannot be followed, so nothing can be changed on it.
fn behind(fault: &NotFollowed) -> Problem {
    match fault {
        NotFollowed::Faults(_) => Problem::new(
            Code::ConfigurationInvalid,
            // Not which ones: they may be of organizations that are none of the caller's.
            "Nothing has changed: what another gateway has stored does not go with the files of this one.",
            "Correct the files of this gateway, which the log and `GET /admin/v1/gateways` say more of; or make the change \
             through another gateway.",
        ),
        NotFollowed::Unreadable(_) | NotFollowed::Overtaken => {
            tracing::error!(%fault, "what other gateways have stored cannot be followed");
            let detail = "What is configured through the administration cannot be read or written.";
            Problem::new(Code::StoreUnavailable, detail, "Nothing has changed. Try again later; the log says more.")
        }
    }
}

fn not_stored(fault: &StoreError) -> Problem {
    match fault {
        StoreError::Changed => Problem::new(
            Code::Overloaded,
            "Nothing has changed: other gateways change the configuration faster than this one can follow.",
            "Send the change again.",
        ),
        StoreError::Full { .. } | StoreError::DatabaseFull(_) => {
            tracing::warn!(%fault, "a change of the configuration was refused");
            let disk = if matches!(fault, StoreError::DatabaseFull(_)) { "database" } else { "data directory" };
            let again = format!("Make room on the disk of the {disk} and send the change again; nothing has changed.");
            Problem::new(Code::StoreFull, "There is no room for changes of the configuration.", again)
        }
        StoreError::Overloaded { .. }
        | StoreError::Broken { .. }
        | StoreError::Unavailable
        | StoreError::Damaged(_)
        | StoreError::Lost { .. }
        | StoreError::Engine(_) => {
            tracing::error!(%fault, "the configuration's store did not answer as it should");
            Problem::new(
                Code::StoreUnavailable,
                "What is configured through the administration cannot be read or written.",
                "Read the resource before you send the change again. The log says what is wrong with the catalog's store.",
            )
        }
    }
}
