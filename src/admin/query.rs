//! Query parameters of the administration, and lists a page at a time.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Serialize;
use serde_json::Value;

use super::everywhere::WAIT;
use crate::domain::access::OrganizationScope;
use crate::domain::ids::{Guid, OrganizationId};
use crate::http::answer;
use crate::http::caller::Visit;
use crate::http::problem::Problem;

/// Most elements on one page.
pub(super) const LONGEST_PAGE: usize = 500;
/// Elements on a page that does not say how many.
const USUAL_PAGE: usize = 100;

/// The query parameters of a request; one that is given twice is refused.
///
/// # Errors
/// 400.
pub(super) fn parameters<T: serde::de::DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    web::Query::<T>::from_query(request.query_string()).map(web::Query::into_inner).map_err(|_| {
        let detail = "A query parameter is given twice, or has a value of another type than this operation takes.";
        Problem::malformed(None, detail, "Correct the query parameters; docs/administration.md lists them.")
    })
}

/// Refuses query parameters that an operation does not know: one that is spelt wrongly could be the one that mattered.
///
/// # Errors
/// 400.
pub(super) fn only(request: &HttpRequest, known: &[&str]) -> Result<(), Problem> {
    let names = request.query_string().split('&').filter_map(|pair| pair.split('=').next());
    // What asks to wait was judged before the operation began.
    let waits = |name: &str| name == WAIT && request.method() != actix_web::http::Method::GET;
    match names.filter(|name| !name.is_empty() && !waits(name)).find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(unknown) => {
            let detail = format!("There is no query parameter `{}` here.", crate::domain::ids::excerpt(unknown));
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(Problem::malformed(None, detail, format!("This operation knows: {known}.")))
        }
    }
}

/// A query parameter of no use.
pub(super) fn malformed(field: &'static str, detail: impl Into<String>) -> Problem {
    Problem::malformed(Some(field), detail, format!("Correct the query parameter `{field}`."))
}

/// A GUID in a query parameter.
///
/// # Errors
/// 400.
pub(super) fn guid(field: &'static str, text: Option<&String>) -> Result<Option<Guid>, Problem> {
    text.map(|text| Guid::parse(text).map_err(|fault| malformed(field, format!("`{field}` {fault}.")))).transpose()
}

/// The organization that a request is limited to: the one it names, or the only one that the credential has.
///
/// # Errors
/// 404 for one that is not the caller's, 400 where the caller has several and names none.
pub(super) fn organization(visit: &Visit, named: Option<Guid>) -> Result<Option<OrganizationId>, Problem> {
    let named = named.map(OrganizationId::from);
    match (&visit.caller().organizations, named) {
        (OrganizationScope::All, named) => Ok(named),
        (OrganizationScope::Only(_), Some(named)) if visit.caller().sees(&named) => Ok(Some(named)),
        (OrganizationScope::Only(_), Some(_)) => Err(Problem::nothing_here()),
        (OrganizationScope::Only(own), None) => match (own.len(), own.first()) {
            (1, Some(only)) => Ok(Some(*only)),
            _ => Err(malformed("organizationId", "This credential has several organizations; say which one.")),
        },
    }
}

/// What narrows a list.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListParameters {
    /// Only this organization's.
    pub(super) organization_id: Option<String>,
    /// Only those in this state.
    state: Option<String>,
    /// Only those with this in their name, in any case.
    name: Option<String>,
    /// How many at most.
    limit: Option<usize>,
    /// Only those after this one: the `next` of the page before.
    after: Option<String>,
}

impl ListParameters {
    fn lets_through(&self, resource: &Value) -> bool {
        let text = |member: &str| resource.get(member).and_then(Value::as_str);
        let names = ["name", "uniqueName", "displayName", "entityLogicalName"];
        let state = self.state.as_deref().is_none_or(|state| text("state") == Some(state));
        let named = self.name.as_ref().is_none_or(|part| {
            let part = part.to_lowercase();
            names.iter().filter_map(|member| text(member)).any(|name| name.to_lowercase().contains(&part))
        });
        state && named
    }

    /// One page of these resources, each with what stands for it in `next`.
    ///
    /// # Errors
    /// 400 where `after` is none of them any more: what follows it is not known.
    pub(super) fn page(
        &self,
        resources: impl Iterator<Item = (String, Value)>,
        generation: u64,
    ) -> Result<HttpResponse, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            value: Vec<Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next: Option<String>,
            catalog_generation: u64,
        }
        if self.state.as_deref().is_some_and(|state| !matches!(state, "active" | "inactive")) {
            return Err(malformed("state", "`state` must be active or inactive.").under(generation));
        }
        let mut resources = resources.peekable();
        if let Some(after) = &self.after {
            while resources.next_if(|(cursor, _)| cursor != after).is_some() {}
            if resources.next().is_none() {
                let detail = "`after` is not in the list any more; start again without it.";
                return Err(malformed("after", detail).under(generation));
            }
        }
        let limit = self.limit.unwrap_or(USUAL_PAGE).clamp(1, LONGEST_PAGE);
        let wanted = resources.filter(|(_, resource)| self.lets_through(resource)).take(limit + 1);
        let (mut cursors, mut value): (Vec<_>, Vec<_>) = wanted.unzip();
        let more = value.len() > limit;
        cursors.truncate(limit);
        value.truncate(limit);
        let next = cursors.pop().filter(|_| more);
        Ok(answer::json(StatusCode::OK, &Body { value, next, catalog_generation: generation }))
    }
}
