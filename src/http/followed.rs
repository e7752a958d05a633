//! Spans of what happens within one request, where it is sampled ([`crate::telemetry::spans`]).

use std::time::SystemTime;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage as _, HttpRequest};

use super::problem::{Code, Problem, code_of};
use crate::domain::ids::OrganizationId;
use crate::intake::{Accepted, NotAccepted};
use crate::telemetry::spans::{Kind, Span, SpanContext, Tracer};

/// The span of a request, for whoever makes further ones under it.
#[derive(Debug, Clone)]
struct OfRequest {
    context: SpanContext,
    tracer: Tracer,
    /// Whether the caller is known.
    let_in: bool,
}

/// Begins the span of a request, which continues the trace that the caller names. `None` where it is not sampled.
pub(super) fn request(tracer: &Tracer, headers: &HeaderMap) -> Option<Span> {
    let mut named = headers.get_all("traceparent");
    let traceparent = named.next().and_then(|value| value.to_str().ok());
    // More than one is none (W3C Trace Context, 3.2.1).
    tracer.request(traceparent.filter(|_| named.next().is_none()))
}

/// Leaves word of a request's span with the request.
pub(super) fn note(request: &HttpRequest, span: &Span) {
    let of_request = OfRequest { context: *span.context(), tracer: span.tracer().clone(), let_in: false };
    request.extensions_mut().insert(of_request);
}

/// The caller of this request is known.
pub(super) fn let_in(request: &HttpRequest) {
    if let Some(of_request) = request.extensions_mut().get_mut::<OfRequest>() {
        of_request.let_in = true;
    }
}

/// Whether a request's span is to be kept. Strangers do not decide what is sampled: that a trace is theirs counts only for
/// callers that were let in.
pub(super) fn is_kept(request: &HttpRequest, span: &Span) -> bool {
    !span.is_continued() || request.extensions().get::<OfRequest>().is_some_and(|of_request| of_request.let_in)
}

/// Follows a record from the question whether it may enter to the proof that it is kept.
pub(super) struct Followed {
    of_request: OfRequest,
    began: SystemTime,
}

impl Followed {
    /// From here on; `None` where the request is not sampled.
    pub(super) fn begin(request: &HttpRequest) -> Option<Self> {
        let of_request = request.extensions().get::<OfRequest>()?.clone();
        Some(Self { of_request, began: SystemTime::now() })
    }

    /// What is stored with the record, so that its deliveries find the trace.
    pub(super) fn traceparent(&self) -> String {
        self.of_request.context.to_traceparent()
    }

    /// What became of it.
    pub(super) fn ended(self, organization: &OrganizationId, accepted: &Result<Accepted, NotAccepted>) {
        let Self { of_request: OfRequest { context, tracer, .. }, began } = self;
        let begin = |name, at| {
            let span = tracer.child(&context, name, Kind::Internal)?.begun(at);
            Some(span.with("streamgate.organization", organization.to_string()))
        };
        let (Some(admission), Some(commit)) = (begin("admission", began), begin("commit", began)) else { return };
        match accepted {
            Err(NotAccepted::NotAdmitted(cause)) => {
                let code = Problem::from(cause.clone()).code().name();
                admission.with("error.type", code).failed(code).end();
            }
            Err(NotAccepted::NotStored(cause)) => {
                let code = code_of(cause).name();
                commit.with("error.type", code).failed(code).end();
            }
            Ok(Accepted::Test { .. }) => admission.end(),
            Ok(Accepted::Stored { receipt, admitted_at, .. }) => {
                admission.end_at(*admitted_at);
                let commit = commit.begun(*admitted_at).with("streamgate.receipt", receipt.id().to_string());
                commit.with("streamgate.commit.records", i64::from(receipt.commit_records())).end();
            }
        }
    }
}

/// What every span of a request says at its end.
pub(super) fn end(span: Span, method: &str, route: &str, (status, code): (u16, Option<Code>)) {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    // The caller chooses the method: anything but a usual one is called what OpenTelemetry calls it.
    let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("_OTHER");
    let mut span = span
        .named(format!("{method} {route}"))
        .with("http.request.method", method)
        .with("http.route", route.to_owned())
        .with("http.response.status_code", i64::from(status));
    if let Some(code) = code {
        span = span.with("error.type", code.name());
    }
    // A refusal is the caller's affair; an error of a server is one that it has made itself.
    if status >= 500 { span.failed(code.map_or("", Code::name)).end() } else { span.end() }
}
