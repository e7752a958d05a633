//! The stable codes of problems, and what goes with each: one table.

use actix_web::http::StatusCode;
use serde::Serialize;

use crate::domain::refusal::RefusalCode;

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
    /// The record behind the receipt was lost to damage.
    ReceiptLost,
    /// There is no such work item, or not for this caller.
    WorkItemUnknown,
    /// There is no such subscription, or not for this caller.
    SubscriptionUnknown,
    /// The organization has no such queue.
    QueueUnknown,
    /// A callback that the gateway may not call.
    CallbackRefused,
    /// There is no such resource of the administration, or not for this caller.
    ResourceUnknown,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The request took too long to arrive.
    RequestTimeout,
    /// The lease has run out or was ended.
    LeaseLost,
    /// The work item does not wait.
    NotWaiting,
    /// The organization has as many subscriptions as it may have.
    SubscriptionLimit,
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
    /// Nobody knows, at the moment, where a callback leads.
    CallbackUnresolved,
    /// The configuration on disk has faults; the last good one stays.
    ConfigurationInvalid,
    /// What was submitted to the administration has faults.
    ResourceInvalid,
    /// There is one already.
    ResourceExists,
    /// A file provides it, and only the file can change it.
    Provisioned,
    /// The field keeps the value that it was created with.
    FieldLocked,
    /// The default queue cannot go.
    DefaultQueue,
    /// Something else needs it.
    InUse,
    /// It is not what `If-Match` says it is.
    PreconditionFailed,
    /// The change is made, and not every gateway serves it yet.
    NotEverywhere,
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
                Self::ReceiptLost,
                Self::WorkItemUnknown,
                Self::SubscriptionUnknown,
                Self::QueueUnknown,
                Self::CallbackRefused,
                Self::ResourceUnknown,
                Self::MethodNotAllowed,
                Self::RequestTimeout,
                Self::LeaseLost,
                Self::NotWaiting,
                Self::SubscriptionLimit,
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
                Self::CallbackUnresolved,
                Self::ConfigurationInvalid,
                Self::ResourceInvalid,
                Self::ResourceExists,
                Self::Provisioned,
                Self::FieldLocked,
                Self::DefaultQueue,
                Self::InUse,
                Self::PreconditionFailed,
                Self::NotEverywhere,
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
            Self::ReceiptLost => "receipt-lost",
            Self::WorkItemUnknown => "work-item-unknown",
            Self::SubscriptionUnknown => "subscription-unknown",
            Self::QueueUnknown => "queue-unknown",
            Self::CallbackRefused => "callback-refused",
            Self::ResourceUnknown => "resource-unknown",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::LeaseLost => "lease-lost",
            Self::NotWaiting => "not-waiting",
            Self::SubscriptionLimit => "subscription-limit",
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
            Self::CallbackUnresolved => "callback-unresolved",
            Self::ConfigurationInvalid => "configuration-invalid",
            Self::ResourceInvalid => "resource-invalid",
            Self::ResourceExists => "resource-exists",
            Self::Provisioned => "provisioned",
            Self::FieldLocked => "field-locked",
            Self::DefaultQueue => "default-queue",
            Self::InUse => "in-use",
            Self::PreconditionFailed => "precondition-failed",
            Self::NotEverywhere => "not-everywhere",
        }
    }

    /// The status that goes with the code: the one table of the door.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::BadRequest | Self::CredentialAmbiguous | Self::CallbackRefused => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Refused(_)
            | Self::NotFound
            | Self::ReceiptUnknown
            | Self::ReceiptLost
            | Self::WorkItemUnknown
            | Self::SubscriptionUnknown
            | Self::QueueUnknown
            | Self::ResourceUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::LeaseLost
            | Self::NotWaiting
            | Self::SubscriptionLimit
            | Self::ResourceExists
            | Self::Provisioned
            | Self::FieldLocked
            | Self::DefaultQueue
            | Self::InUse => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::NotEverywhere => StatusCode::GATEWAY_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ConfigurationInvalid | Self::ResourceInvalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimited | Self::TooManyWrongCredentials => StatusCode::TOO_MANY_REQUESTS,
            Self::StoreFull
            | Self::StoreUnavailable
            | Self::Overloaded
            | Self::Draining
            | Self::KeysUnavailable
            | Self::CallbackUnresolved => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::ReceiptLost => "The record behind the receipt was lost",
            Self::WorkItemUnknown => "The work item is not known",
            Self::SubscriptionUnknown => "The subscription is not known",
            Self::QueueUnknown => "The queue is not known",
            Self::CallbackRefused => "The callback may not be called",
            Self::ResourceUnknown => "The resource is not known",
            Self::MethodNotAllowed => "The path does not take this method",
            Self::RequestTimeout => "The request took too long to arrive",
            Self::LeaseLost => "The lease has ended",
            Self::NotWaiting => "The work item does not wait",
            Self::SubscriptionLimit => "The organization has too many subscriptions",
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
            Self::CallbackUnresolved => "Nobody knows at the moment where the callback leads",
            Self::ConfigurationInvalid => "The configuration has faults",
            Self::ResourceInvalid => "What was submitted has faults",
            Self::ResourceExists => "It exists already",
            Self::Provisioned => "It is provisioned from a file",
            Self::FieldLocked => "The field is locked",
            Self::DefaultQueue => "The default queue stays",
            Self::InUse => "It is in use",
            Self::PreconditionFailed => "It has changed in the meantime",
            Self::NotEverywhere => "Not every gateway serves the change yet",
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
            | Self::KeysUnavailable
            | Self::CallbackUnresolved => Retry::Safe,
            Self::Refused(_)
            | Self::Unauthorized
            | Self::ReceiptUnknown
            | Self::QueueUnknown
            | Self::CallbackRefused
            | Self::SubscriptionLimit
            | Self::ResourceUnknown
            | Self::ConfigurationInvalid
            | Self::ResourceExists
            | Self::Provisioned
            | Self::DefaultQueue
            | Self::InUse
            | Self::PreconditionFailed => Retry::AfterChange,
            Self::Malformed
            | Self::BadRequest
            | Self::CredentialAmbiguous
            | Self::NotFound
            | Self::ReceiptLost
            | Self::WorkItemUnknown
            | Self::SubscriptionUnknown
            | Self::MethodNotAllowed
            | Self::LeaseLost
            | Self::NotWaiting
            | Self::ResourceInvalid
            | Self::FieldLocked
            | Self::BodyTooLarge
            | Self::UriTooLong
            | Self::UnsupportedMediaType
            | Self::HeadTooLarge
            | Self::NotEverywhere => Retry::Never,
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
