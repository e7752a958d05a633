//! Every answer that is not a success: RFC 9457 problem bodies with a stable code, what was expected and what to do.
//!
//! The table of codes is [`Code`]; `docs/errors.md` has a section for each, and a test walks both. The rules inside
//! know nothing of HTTP: this is the one place where they become statuses.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;

use crate::domain::admission::NotAdmitted;
use crate::domain::record::Malformed;
use crate::domain::refusal::{Refusal, RefusalCode};
use crate::store::StoreError;

/// The stable code of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The configuration does not have it.
    Refused(RefusalCode),
    /// The request is not what the operation takes.
    Malformed,
    /// The head, the framing or the host name is not HTTP as it should be.
    BadRequest,
    /// Two credentials where one is due.
    CredentialAmbiguous,
    /// No credential, or not one that is accepted.
    Unauthorized,
    /// There is nothing at this path.
    NotFound,
    /// There is no such receipt, or not for this caller.
    ReceiptUnknown,
    /// There is no such work item, or not for this caller.
    WorkItemUnknown,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The request took too long to arrive.
    RequestTimeout,
    /// The lease has run out or was ended.
    LeaseLost,
    /// The work item does not wait.
    NotWaiting,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The path and query are longer than the limit.
    UriTooLong,
    /// The body is not plain JSON.
    UnsupportedMediaType,
    /// The head is larger than the limit.
    HeadTooLarge,
    /// Over the organization's rate.
    RateLimited,
    /// Too many wrong credentials from one address.
    TooManyWrongCredentials,
    /// The disk is down to its reserve.
    StoreFull,
    /// The store stopped after an error, or answered with one.
    StoreUnavailable,
    /// More is under way than may be.
    Overloaded,
    /// The gateway is stopping.
    Draining,
    /// The issuer's keys cannot be had, so its tokens cannot be judged.
    KeysUnavailable,
    /// The configuration on disk has faults; the last good one stays.
    ConfigurationInvalid,
}

impl Code {
    /// Every code, in the order of `docs/errors.md`.
    pub fn all() -> Vec<Self> {
        let refused = RefusalCode::ALL.into_iter().map(Self::Refused);
        refused
            .chain([
                Self::Malformed,
                Self::BadRequest,
                Self::CredentialAmbiguous,
                Self::Unauthorized,
                Self::NotFound,
                Self::ReceiptUnknown,
                Self::WorkItemUnknown,
                Self::MethodNotAllowed,
                Self::RequestTimeout,
                Self::LeaseLost,
                Self::NotWaiting,
                Self::BodyTooLarge,
                Self::UriTooLong,
                Self::UnsupportedMediaType,
                Self::HeadTooLarge,
                Self::RateLimited,
                Self::TooManyWrongCredentials,
                Self::StoreFull,
                Self::StoreUnavailable,
                Self::Overloaded,
                Self::Draining,
                Self::KeysUnavailable,
                Self::ConfigurationInvalid,
            ])
            .collect()
    }

    /// The stable text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused(code) => code.name(),
            Self::Malformed => "malformed",
            Self::BadRequest => "bad-request",
            Self::CredentialAmbiguous => "credential-ambiguous",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not-found",
            Self::ReceiptUnknown => "receipt-unknown",
            Self::WorkItemUnknown => "work-item-unknown",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::LeaseLost => "lease-lost",
            Self::NotWaiting => "not-waiting",
            Self::BodyTooLarge => "body-too-large",
            Self::UriTooLong => "uri-too-long",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::HeadTooLarge => "head-too-large",
            Self::RateLimited => "rate-limited",
            Self::TooManyWrongCredentials => "too-many-wrong-credentials",
            Self::StoreFull => "store-full",
            Self::StoreUnavailable => "store-unavailable",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::KeysUnavailable => "keys-unavailable",
            Self::ConfigurationInvalid => "configuration-invalid",
        }
    }

    /// The status that goes with the code: the one table of the door.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::BadRequest | Self::CredentialAmbiguous => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Refused(_) | Self::NotFound | Self::ReceiptUnknown | Self::WorkItemUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::LeaseLost | Self::NotWaiting => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ConfigurationInvalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimited | Self::TooManyWrongCredentials => StatusCode::TOO_MANY_REQUESTS,
            Self::StoreFull | Self::StoreUnavailable | Self::Overloaded | Self::Draining | Self::KeysUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// One line for people, the same for every problem of this code.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Refused(code) => code.title(),
            Self::Malformed => "The request body is not what the operation takes",
            Self::BadRequest => "The request is not valid HTTP",
            Self::CredentialAmbiguous => "More than one credential",
            Self::Unauthorized => "No valid credential",
            Self::NotFound => "There is nothing at this path",
            Self::ReceiptUnknown => "The receipt is not known",
            Self::WorkItemUnknown => "The work item is not known",
            Self::MethodNotAllowed => "The path does not take this method",
            Self::RequestTimeout => "The request took too long to arrive",
            Self::LeaseLost => "The lease has ended",
            Self::NotWaiting => "The work item does not wait",
            Self::BodyTooLarge => "The body is too large",
            Self::UriTooLong => "The path and query are too long",
            Self::UnsupportedMediaType => "The body is not plain JSON",
            Self::HeadTooLarge => "The request's head is too large",
            Self::RateLimited => "Too many requests for this organization",
            Self::TooManyWrongCredentials => "Too many wrong credentials",
            Self::StoreFull => "The disk is full",
            Self::StoreUnavailable => "The store is not available",
            Self::Overloaded => "Too much at once",
            Self::Draining => "The gateway is stopping",
            Self::KeysUnavailable => "The token cannot be judged at the moment",
            Self::ConfigurationInvalid => "The configuration has faults",
        }
    }

    /// Whether repeating the same request may help.
    pub const fn retry(self) -> Retry {
        match self {
            Self::RequestTimeout
            | Self::RateLimited
            | Self::TooManyWrongCredentials
            | Self::StoreFull
            | Self::StoreUnavailable
            | Self::Overloaded
            | Self::Draining
            | Self::KeysUnavailable => Retry::Safe,
            Self::Refused(_) | Self::Unauthorized | Self::ReceiptUnknown | Self::ConfigurationInvalid => {
                Retry::AfterChange
            }
            Self::Malformed
            | Self::BadRequest
            | Self::CredentialAmbiguous
            | Self::NotFound
            | Self::WorkItemUnknown
            | Self::MethodNotAllowed
            | Self::LeaseLost
            | Self::NotWaiting
            | Self::BodyTooLarge
            | Self::UriTooLong
            | Self::UnsupportedMediaType
            | Self::HeadTooLarge => Retry::Never,
        }
    }
}

/// Whether repeating the same request may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// As it is, after a while.
    Safe,
    /// Once somebody has changed the configuration.
    AfterChange,
    /// Not as it is.
    Never,
}

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

    /// Its code.
    pub const fn code(&self) -> Code {
        self.0.code
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

impl From<StoreError> for Problem {
    /// The caller learns that it is safe to repeat; the cause is for the log.
    fn from(cause: StoreError) -> Self {
        const AGAIN: &str = "Nothing was stored. Send the same record again later; repeating is safe.";
        match cause {
            StoreError::Full { .. } => Self::new(Code::StoreFull, "There is no room for more records.", AGAIN)
                .retry_after(Duration::from_secs(30)),
            StoreError::Overloaded { .. } => {
                Self::new(Code::Overloaded, "More records wait for the disk than may wait.", AGAIN)
            }
            StoreError::Unavailable => Self::new(Code::Draining, "The gateway is stopping.", AGAIN),
            StoreError::Broken { .. } | StoreError::Damaged(_) | StoreError::Engine(_) => {
                tracing::error!(cause = &cause as &dyn std::error::Error, "the store did not answer as it should");
                Self::new(Code::StoreUnavailable, "The record could not be made durable.", AGAIN)
                    .retry_after(Duration::from_secs(30))
            }
        }
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
