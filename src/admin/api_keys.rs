//! API keys: made, shown once, listed, revoked.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Desk;
use super::body::object;
use super::edits::{unknown, with_editor};
use super::query::{ListParameters, parameters};
use super::resources::deleted;
use crate::config::settings::ApiKeySettings;
use crate::domain::access::{OrganizationScope, Permission};
use crate::editor::NewKey;
use crate::http::answer::json as json_answer;
use crate::http::caller::Visit;
use crate::http::keys;
use crate::http::problem::{Code, Problem};

/// What a key is worth.
fn worth(key: &ApiKeySettings) -> Value {
    let organizations = match &key.organizations {
        OrganizationScope::All => json!("*"),
        OrganizationScope::Only(ids) => json!(ids),
    };
    let permissions: Vec<_> = key.permissions.iter().map(|permission| permission.name()).collect();
    let prefix: String = key.sha256.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    json!({
        "name": *key.name,
        "sha256Prefix": prefix,
        "permissions": permissions,
        "organizations": organizations,
        "expires": key.expires,
    })
}

/// The keys that the caller may know of, by name: of the files and of the store.
fn known(visit: &Visit) -> Vec<(String, Value)> {
    let effective = visit.effective();
    let of_files = effective.credentials.api_keys.iter().map(|key| {
        let mut shown = worth(key);
        if let Some(members) = shown.as_object_mut() {
            members.insert("provisionedFrom".to_owned(), "the configuration file".into());
        }
        (key, shown)
    });
    let of_store = effective.layers.stored.api_keys.values().map(|key| {
        let mut shown = worth(&key.settings);
        if let Some(members) = shown.as_object_mut() {
            members.insert("createdAt".to_owned(), json!(key.created_at));
            members.insert("createdBy".to_owned(), json!(*key.created_by));
        }
        (&key.settings, shown)
    });
    let mut known: Vec<_> = of_files
        .chain(of_store)
        .filter(|(key, _)| visit.caller().covers(&key.organizations))
        .map(|(key, shown)| (key.name.to_string(), shown))
        .collect();
    known.sort_by(|a, b| a.0.cmp(&b.0));
    known
}

/// GET /api-keys.
pub(super) async fn list(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let parameters: ListParameters = parameters(&request)?;
    std::future::ready(parameters.page(known(&visit).into_iter(), visit.catalog().generation())).await
}

/// GET /api-keys/{name}.
pub(super) async fn show(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let found = known(&visit).into_iter().find(|(name, _)| *name == *path);
    let (_, shown) = found.ok_or_else(|| unknown("API key").under(visit.catalog().generation()))?;
    std::future::ready(Ok(json_answer(StatusCode::OK, &shown))).await
}

/// POST /api-keys. The answer is the only place where the key itself is ever shown.
pub(super) async fn create(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let asked = object(&visit, &request, &desk).await?;
    let made = keys::generate().map_err(|fault| {
        let detail = format!("The operating system gives no random bits: {fault}.");
        Problem::new(Code::StoreUnavailable, detail, "Nothing has changed. Try again later.")
    })?;
    let who = visit.caller_to_keep();
    let sha256 = made.sha256;
    let created =
        with_editor(&desk, move |editor| editor.create_key(NewKey { who: &who, request: asked, sha256 })).await?;
    let mut shown = worth(&created.key.settings);
    if let Some(members) = shown.as_object_mut() {
        members.insert("key".to_owned(), made.text.into());
        members.insert("createdAt".to_owned(), json!(created.key.created_at));
        members.insert("createdBy".to_owned(), json!(*created.key.created_by));
        members.insert("catalogGeneration".to_owned(), created.generation.into());
    }
    Ok(json_answer(StatusCode::CREATED, &shown))
}

/// DELETE /api-keys/{name}: it counts no more, from the next request on.
pub(super) async fn revoke(
    request: HttpRequest,
    path: web::Path<String>,
    desk: web::Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    let who = visit.caller_to_keep();
    let name = path.into_inner();
    let generation = with_editor(&desk, move |editor| editor.revoke_key(&who, &name)).await?;
    Ok(deleted(generation))
}
