//! What the gateway says of itself: its interface as a page and in OpenAPI 3.1, for everybody, and the connector package of
//! an organization, for whoever may hand over or read its records.

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};

use super::caller::Visit;
use super::door::Door;
use super::lists::{READERS, parameter};
use super::problem::{Code, Problem};
use crate::config::settings::PublicScheme;
use crate::connector::package::{Host, Package, Scheme, Subject, for_organization};
use crate::connector::{OPENAPI_3, page};
use crate::domain::catalog::Organization;
use crate::domain::ids::Guid;
use crate::domain::refusal::{Refusal, RefusalCode};

const CONTENT_SECURITY_POLICY: HeaderName = HeaderName::from_static("content-security-policy");

/// `GET /openapi`: the interface as a page. It asks nobody for anything, and its policy would not let it.
pub async fn show_page() -> HttpResponse {
    let mut response = file("text/html; charset=utf-8", page::html().into());
    if let Ok(policy) = HeaderValue::from_str(page::content_security_policy()) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    std::future::ready(response).await
}

/// `GET /openapi/openapi.json`: the interface in OpenAPI 3.1.
pub async fn describe() -> HttpResponse {
    std::future::ready(file("application/json", OPENAPI_3.into())).await
}

/// `GET /openapi/connector.json?organization=…`: what custom connectors are imported from.
pub async fn connector(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let package = package(&request, &door)?;
    std::future::ready(Ok(file("application/json", package.definition().to_vec()))).await
}

/// `GET /openapi/connector.zip?organization=…&certification=…`: the whole package.
pub async fn archive(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let archive = package(&request, &door)?.zip().map_err(|fault| {
        tracing::error!(%fault, "the connector package could not be packed");
        Problem::new(Code::Overloaded, "The package could not be packed.", "Ask for it again; repeating is safe.")
    })?;
    let mut response = file("application/zip", archive);
    let name = HeaderValue::from_static("attachment; filename=\"connector.zip\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    std::future::ready(Ok(response)).await
}

fn file(media_type: &'static str, bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, HeaderValue::from_static(media_type))).body(bytes)
}

/// The package that a request asks for.
fn package(request: &HttpRequest, door: &Door) -> Result<Package, Problem> {
    let visit = door.admit(request, READERS)?;
    asked_for(&visit, request, door).map_err(|problem| problem.under(visit.catalog().generation()))
}

fn asked_for(visit: &Visit, request: &HttpRequest, door: &Door) -> Result<Package, Problem> {
    let named = parameter(request, "organization", |text| Ok::<_, std::convert::Infallible>(text.trim().to_owned()))?;
    let certification = parameter(request, "certification", |text| {
        text.trim().parse::<bool>().map_err(|_| "is neither true nor false")
    })?;
    let organization = organization(visit, named.as_deref())?;
    let (scheme, host) = door.public_address(request, &organization.unique_name);
    let host = Host::parse(&host).map_err(|fault| {
        let detail = format!("The host of this request {fault}.");
        Problem::malformed(None, detail, "Ask by the host name that flows will use, or set `public_host`.")
    })?;
    let scheme = match scheme {
        PublicScheme::Http => Scheme::Http,
        PublicScheme::Https => Scheme::Https,
    };
    Ok(for_organization(&Subject {
        organization: organization.id,
        unique_name: &organization.unique_name,
        name: &organization.name,
        scheme,
        host,
        certification: certification.unwrap_or(false),
    }))
}

/// The organization of this unique name or ID, or the only one that the caller has.
fn organization<'v>(visit: &'v Visit, named: Option<&str>) -> Result<&'v Organization, Problem> {
    let own = visit.catalog().organizations_for(visit.caller());
    let Some(named) = named else {
        return match own.as_slice() {
            [only] => Ok(only),
            _ => {
                let detail = "This credential has several organizations, or none; say which one.";
                Err(Problem::malformed(Some("organization"), detail, "Add `?organization=` and its unique name."))
            }
        };
    };
    let id = Guid::parse(named).ok();
    let found = own
        .into_iter()
        .find(|one| one.unique_name.eq_ignore_ascii_case(named) || id.is_some_and(|id| one.id.guid() == id));
    found.ok_or_else(|| {
        let refusal = Refusal {
            code: RefusalCode::OrganizationUnknown,
            detail: format!("There is no organization `{}` for this credential.", crate::domain::ids::excerpt(named)),
            expected: None,
            action: "Take its unique name or its ID from `GET /api/v1/organizations`.".to_owned(),
        };
        Problem::from(refusal).about("organization")
    })
}
