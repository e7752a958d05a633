//! Every answer that is not a success: RFC 9457 problem bodies with a stable code, what was expected and what to do.
//!
//! The table of codes is [`Code`]; `docs/errors.md` has a section for each, and a test walks both. The rules inside
//! know nothing of HTTP: this is the one place where they become statuses.

mod code;

use std::time::Duration;

pub use code::{Code, Retry};

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::admission::NotAdmitted;
use crate::domain::record::Malformed;
use crate::domain::refusal::Refusal;
use crate::store::StoreError;

/// A problem, ready to be answered with.
#[derive(Debug, Clone)]
pub struct Problem(Box<Content>);

#[derive(Debug, Clone)]
struct Content {
    code: Code,
    detail: String,
    field: Option<&'static str>,
    expected: Option<String>,
    action: String,
    catalog_generation: Option<u64>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    faults: Vec<SubmissionFault>,
    change: Option<Box<RawValue>>,
}

/// One thing that is wrong with what was submitted.
#[derive(Debug, Clone, Serialize)]
pub struct SubmissionFault {
    /// Where in it (RFC 6901); absent where it concerns something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of this code: what happened, and what to do about it.
    pub fn new(code: Code, detail: impl Into<String>, action: impl Into<String>) -> Self {
        Self(Box::new(Content {
            code,
            detail: detail.into(),
            field: None,
            expected: None,
            action: action.into(),
            catalog_generation: None,
            retry_after: match code.status() {
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some(SHORTEST_RETRY_AFTER),
                _ => None,
            },
            allow: None,
            faults: Vec::new(),
            change: None,
        }))
    }

    /// 401: the same for every cause, so that nothing can be learnt from it.
    pub fn unauthorized() -> Self {
        Self::new(
            Code::Unauthorized,
            "The request carries no credential that is accepted here.",
            "Send an API key in `X-Api-Key` or a bearer token in `Authorization`, valid and with the permission for this operation.",
        )
    }

    /// 404 outside the operation: nothing is here.
    pub fn nothing_here() -> Self {
        Self::new(Code::NotFound, "There is nothing at this path.", "See docs/contract.md for the paths there are.")
    }

    /// A malformed request with the property or parameter at fault.
    pub fn malformed(field: Option<&'static str>, detail: impl Into<String>, action: impl Into<String>) -> Self {
        let mut problem = Self::new(Code::Malformed, detail, action);
        problem.0.field = field;
        problem
    }

    /// Says which configuration gave this answer.
    #[must_use]
    pub fn under(mut self, catalog_generation: u64) -> Self {
        self.0.catalog_generation = Some(catalog_generation);
        self
    }

    /// Says how long to wait; never less than five seconds (contract §2).
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait.max(SHORTEST_RETRY_AFTER));
        self
    }

    /// Says which methods the path takes.
    #[must_use]
    pub fn allowing(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn about(mut self, field: &'static str) -> Self {
        self.0.field = Some(field);
        self
    }

    /// Says everything that is wrong with what was submitted.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<SubmissionFault>) -> Self {
        self.0.faults = faults;
        self
    }

    /// What would have been answered of a change that was made although this is a problem.
    #[must_use]
    pub fn with_change(mut self, change: Option<Box<RawValue>>) -> Self {
        self.0.change = change;
        self
    }

    /// Pointers of faults from this part of a document on, where only the part was submitted.
    #[must_use]
    pub fn pointers_within(mut self, part: &str) -> Self {
        for pointer in self.0.faults.iter_mut().filter_map(|fault| fault.pointer.as_mut()) {
            if let Some(rest) = pointer.strip_prefix(part) {
                *pointer = rest.to_owned();
            }
        }
        self
    }

    /// Its code.
    pub const fn code(&self) -> Code {
        self.0.code
    }

    /// The field at fault, if one is.
    pub fn field(&self) -> Option<&'static str> {
        self.0.field
    }

    /// The configuration that gave this answer, where one did.
    pub fn catalog_generation(&self) -> Option<u64> {
        self.0.catalog_generation
    }

    /// What happened, for the log.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The body, naming the request it answers.
    pub fn body(&self, request_id: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            instance: String,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            field: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expected: Option<&'a str>,
            action: &'a str,
            retry: Retry,
            #[serde(skip_serializing_if = "Option::is_none")]
            catalog_generation: Option<u64>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            faults: &'a [SubmissionFault],
            #[serde(skip_serializing_if = "Option::is_none")]
            change: Option<&'a RawValue>,
            request_id: &'a str,
        }
        let content = &self.0;
        let body = Body {
            r#type: format!("urn:streamgate:problem:{}", content.code.name()),
            title: content.code.title(),
            status: content.code.status().as_u16(),
            detail: &content.detail,
            instance: format!("urn:streamgate:request:{request_id}"),
            code: content.code.name(),
            field: content.field,
            expected: content.expected.as_deref(),
            action: &content.action,
            retry: content.code.retry(),
            catalog_generation: content.catalog_generation,
            faults: &content.faults,
            change: content.change.as_deref(),
            request_id,
        };
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The answer, naming the request. The headers that every answer has are added by the door.
    pub fn into_response(self, request_id: &str) -> HttpResponse {
        let content = &self.0;
        let mut response = HttpResponseBuilder::new(content.code.status());
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        if let Some(wait) = content.retry_after {
            response.insert_header((header::RETRY_AFTER, wait.as_secs()));
        }
        if content.code == Code::Unauthorized {
            response
                .insert_header((header::WWW_AUTHENTICATE, r#"Bearer realm="streamgate", ApiKey realm="streamgate""#));
        }
        if let Some(methods) = content.allow {
            response.insert_header((header::ALLOW, methods));
        }
        response.body(self.body(request_id))
    }
}

/// Callers are never asked to come back sooner (contract §2).
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(5);

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.code.name(), self.0.detail)
    }
}

/// Handlers return a problem as their error; the door turns it into an answer, since only it knows the request ID.
impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.clone().into_response("")
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Self::new(Code::Refused(refusal.code), refusal.detail, refusal.action);
        problem.0.field = Some(refusal.code.field());
        problem.0.expected = refusal.expected;
        problem
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        let action = match malformed.property {
            Some(property) => format!("Correct `{property}` and send the record again."),
            None => "Send one JSON object with the seven properties of the operation.".to_owned(),
        };
        let mut problem = Self::new(Code::Malformed, malformed.message, action);
        problem.0.field = malformed.property.map(crate::domain::record::Property::name);
        problem.0.expected = malformed.expected.map(str::to_owned);
        problem
    }
}

impl From<NotAdmitted> for Problem {
    fn from(cause: NotAdmitted) -> Self {
        match cause {
            NotAdmitted::Refused(refusal) => refusal.into(),
            NotAdmitted::Malformed(malformed) => malformed.into(),
        }
    }
}

/// The code of a record that could not be stored.
pub(super) const fn code_of(cause: &StoreError) -> Code {
    match cause {
        StoreError::Full { .. } | StoreError::DatabaseFull(_) => Code::StoreFull,
        StoreError::Overloaded { .. } | StoreError::Changed => Code::Overloaded,
        StoreError::Unavailable => Code::Draining,
        StoreError::Lost { .. } => Code::ReceiptLost,
        StoreError::Broken { .. } | StoreError::Damaged(_) | StoreError::Engine(_) => Code::StoreUnavailable,
    }
}

impl Problem {
    /// What is asked for could not be read.
    pub(super) fn unread(cause: StoreError) -> Self {
        if !matches!(cause, StoreError::Damaged(_) | StoreError::Broken { .. } | StoreError::Engine(_)) {
            return cause.into();
        }
        tracing::error!(cause = &cause as &dyn std::error::Error, "the store did not answer as it should");
        let again = "Ask again later. If it stays so, the gateway's operator finds the cause in its log.";
        Self::new(code_of(&cause), "What became of the record cannot be read.", again)
            .retry_after(Duration::from_secs(30))
    }
}

impl From<StoreError> for Problem {
    /// The caller learns that it is safe to repeat; the cause is for the log.
    fn from(cause: StoreError) -> Self {
        const AGAIN: &str = "Nothing was stored. Send the same record again later; repeating is safe.";
        const LOST: &str = "Send the record again. It is taken as a new one, with a receipt of its own.";
        let detail = match &cause {
            StoreError::Full { .. } | StoreError::DatabaseFull(_) => "There is no room for more records.",
            StoreError::Overloaded { .. } => "More records wait for the disk than may wait.",
            StoreError::Unavailable => "The gateway is stopping.",
            StoreError::Changed => "Other gateways change the same all the time.",
            StoreError::Lost { at, why } => {
                let detail = format!(
                    "The record behind this receipt was accepted, and was lost to damage: {why}. That was written down on {at}."
                );
                return Self::new(code_of(&cause), detail, LOST);
            }
            StoreError::Broken { .. } | StoreError::Damaged(_) | StoreError::Engine(_) => {
                tracing::error!(cause = &cause as &dyn std::error::Error, "the store did not answer as it should");
                "The record could not be made durable."
            }
        };
        let (code, problem) = (code_of(&cause), Self::new(code_of(&cause), detail, AGAIN));
        let takes_longer = matches!(code, Code::StoreFull | Code::StoreUnavailable);
        if takes_longer { problem.retry_after(Duration::from_secs(30)) } else { problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_differ_and_only_configuration_is_404() {
        let all = Code::all();
        let names: std::collections::BTreeSet<_> = all.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), all.len());
        for code in all {
            assert_ne!(code.status(), StatusCode::FORBIDDEN);
            assert_ne!(code.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let heals_with_time = matches!(code.retry(), Retry::Safe);
            assert_eq!(heals_with_time, matches!(code.status().as_u16(), 408 | 429 | 503), "{}", code.name());
        }
    }

    #[test]
    fn a_wait_is_never_shorter_than_five_seconds() {
        let problem = Problem::new(Code::RateLimited, "d", "a").retry_after(Duration::from_millis(10));
        let response = problem.into_response("r");
        assert_eq!(response.headers().get("retry-after").map(HeaderValue::as_bytes), Some(&b"5"[..]));
    }
}
