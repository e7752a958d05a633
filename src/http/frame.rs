//! What surrounds every request, whatever its path: the head is checked, the answer gets the headers that all answers
//! have, problems learn the request's ID, and one line is logged.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse};

use super::body::{self, Unread};
use super::problem::{Code, Problem};
use super::request_id::RequestId;
use super::transport::Connection;
use super::{followed, head};
use crate::domain::ids::{ReceiptId, excerpt};
use crate::intake::Accepted;
use crate::telemetry::spans::Span;
use crate::telemetry::{AcceptOutcome, Metrics};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_MS_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// The outermost middleware of every listener.
pub async fn frame(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    let connection = request.conn_data::<Rc<Connection>>().cloned();
    if let Some(connection) = &connection {
        connection.request_begins();
    }
    let metrics = request.app_data::<Data<Arc<Metrics>>>().cloned();
    let tracer = metrics.as_ref().and_then(|metrics| metrics.tracer());
    let span = tracer.and_then(|tracer| followed::request(tracer, request.headers()));
    if let Some(span) = &span {
        followed::note(request.request(), span);
    }
    let id = RequestId::new();
    let mut unanswered =
        Unanswered { id: Some(&id), method: request.method().clone(), peer: request.peer_addr(), began };
    let payload = request.take_payload();
    request.extensions_mut().insert(Unread(payload));

    let (http_request, response, refused) = match head::check(&request) {
        Err(problem) => {
            let refused = Refused::of(&problem);
            let response = closing(problem.into_response(id.as_str()));
            let (http_request, response) = request.into_response(response).into_parts();
            (http_request, response, Some(refused))
        }
        Ok(()) => answered(next.call(request).await?, &id),
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        body::drain(&http_request).await;
    }
    let response = echoing(with_common_headers(response, &id), &http_request);
    let route = http_request.match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let exchange = Exchange { request: &http_request, route, response: &response, refused, id: &id, began };
    if let Some(metrics) = &metrics {
        exchange.count(metrics);
    }
    let span = span.filter(|span| !exchange.asked_how_it_is() && followed::is_kept(&http_request, span));
    exchange.log(span.as_ref());
    unanswered.is_answered();
    if let Some(span) = span {
        exchange.end(span);
    }
    if let Some(connection) = connection {
        connection.request_ends();
    }
    Ok(ServiceResponse::new(http_request, response))
}

/// Something to be said in the request's one log line, besides what every line says. Never what the caller sent.
#[derive(Debug)]
struct Said {
    remark: Cow<'static, str>,
    accepted: Option<(AcceptOutcome, Option<ReceiptId>)>,
}

/// Adds a remark to the request's log line.
pub fn remark(request: &HttpRequest, text: impl Into<String>) {
    request.extensions_mut().insert(Said { remark: text.into().into(), accepted: None });
}

/// Says in the request's log line what was accepted.
pub fn accepted(request: &HttpRequest, accepted: &Accepted) {
    let (remark, receipt) = match accepted {
        Accepted::Test { .. } => ("test operation", None),
        Accepted::Stored { receipt, .. } => {
            let remark = match receipt.repeat() {
                None => "",
                Some(repeat) if repeat.details_differ => "repeat with other details",
                Some(_) => "repeat",
            };
            (remark, Some(receipt.id()))
        }
    };
    let accepted = Some((AcceptOutcome::of(accepted), receipt));
    request.extensions_mut().insert(Said { remark: remark.into(), accepted });
}

/// What the log says of a problem.
#[derive(Debug, Clone, Copy)]
struct Refused {
    code: Code,
    field: Option<&'static str>,
    catalog_generation: Option<u64>,
}

impl Refused {
    fn of(problem: &Problem) -> Self {
        Self { code: problem.code(), field: problem.field(), catalog_generation: problem.catalog_generation() }
    }
}

/// The answer of the application, where a problem has learnt the request's ID.
fn answered(
    response: ServiceResponse<impl MessageBody + 'static>,
    id: &RequestId,
) -> (HttpRequest, HttpResponse, Option<Refused>) {
    let (request, response) = response.into_parts();
    let problem = response.error().map(|error| match error.as_error::<Problem>() {
        Some(problem) => problem.clone(),
        // An error of the framework's own extractors.
        None => framework_problem(response.status()),
    });
    let refused = problem.as_ref().map(Refused::of);
    let response = match problem {
        Some(problem) => {
            // A body that was cut short leaves the connection in the middle of nowhere.
            let broken = matches!(problem.code(), Code::RequestTimeout | Code::BadRequest);
            let response = problem.into_response(id.as_str());
            if broken { closing(response) } else { response }
        }
        None => response.map_into_boxed_body(),
    };
    (request, response, refused)
}

fn framework_problem(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::nothing_here(),
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::BodyTooLarge, "The body is too large.", "Send a smaller record.")
        }
        _ => Problem::new(
            Code::BadRequest,
            "The request could not be read.",
            "Send the request as docs/contract.md writes it.",
        ),
    }
}

/// The same answer, as the last one on its connection.
pub fn closing(mut response: HttpResponse) -> HttpResponse {
    response.head_mut().set_connection_type(actix_http::ConnectionType::Close);
    response
}

/// What every answer says, whatever else it says.
pub fn with_common_headers(mut response: HttpResponse, id: &RequestId) -> HttpResponse {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
    response
}

/// Flows find their own request again by the ID that they gave it.
fn echoing(mut response: HttpResponse, request: &HttpRequest) -> HttpResponse {
    const LONGEST_BYTES: usize = 256;
    let id = request.headers().get(X_MS_CLIENT_REQUEST_ID);
    let safe = |value: &&HeaderValue| value.len() <= LONGEST_BYTES && value.as_bytes().iter().all(u8::is_ascii_graphic);
    if let Some(value) = id.filter(safe) {
        response.headers_mut().insert(X_MS_CLIENT_REQUEST_ID, value.clone());
    }
    response
}

/// A request without an answer yet. Where the client leaves, the framework drops the request as it is: its line of the log
/// says so then, since what it sent may have been stored meanwhile.
struct Unanswered<'a> {
    /// `None` once it is answered.
    id: Option<&'a RequestId>,
    method: Method,
    peer: Option<SocketAddr>,
    began: Instant,
}

impl Unanswered<'_> {
    const fn is_answered(&mut self) {
        self.id = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        tracing::info!(
            request.id = %id,
            http.method = %excerpt(self.method.as_str()),
            remark = "the client left before its answer was ready",
            took_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            peer = self.peer.map(|peer| tracing::field::display(peer.ip())),
            "request"
        );
    }
}

/// One request and what became of it.
struct Exchange<'a> {
    request: &'a HttpRequest,
    /// The pattern of the route, which is one of a few whatever the path was.
    route: String,
    response: &'a HttpResponse,
    refused: Option<Refused>,
    id: &'a RequestId,
    began: Instant,
}

impl Exchange<'_> {
    fn count(&self, metrics: &Metrics) {
        let (status, took) = (self.response.status().as_u16(), self.began.elapsed());
        metrics.request(&self.route, status, took);
        if let Some(refused) = self.refused {
            metrics.problem(refused.code.name());
        }
        if self.route == "/api/v1/records" {
            let accepted = self.request.extensions().get::<Said>().and_then(|said| said.accepted);
            let outcome = accepted.map_or_else(|| AcceptOutcome::of_refusal(status), |(outcome, _)| outcome);
            metrics.handed_over(outcome, took);
        }
    }

    /// Whether the request only asked how the gateway is: nobody wants to follow that.
    fn asked_how_it_is(&self) -> bool {
        self.route.starts_with("/health/") || self.route == "/metrics"
    }

    /// The request's span is over.
    fn end(&self, span: Span) {
        let answer = (self.response.status().as_u16(), self.refused.map(|refused| refused.code));
        let span = span.with("streamgate.request_id", self.id.to_string());
        followed::end(span, self.request.method().as_str(), &self.route, answer);
    }

    /// One line per request: no bodies, no credentials, no query; text from outside is bounded and escaped.
    fn log(&self, span: Option<&Span>) {
        let text = |name: &str| {
            let value = self.request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            excerpt(value)
        };
        let extensions = self.request.extensions();
        let said = extensions.get::<Said>();
        let remark = said.map(|said| &*said.remark).filter(|remark| !remark.is_empty());
        let receipt = said.and_then(|said| said.accepted).and_then(|(_, receipt)| receipt);
        let refused = self.refused;
        tracing::info!(
            request.id = %self.id,
            http.method = %excerpt(self.request.method().as_str()),
            http.route = self.route.as_str(),
            http.status = self.response.status().as_u16(),
            code = refused.map(|refused| refused.code.name()),
            field = refused.and_then(|refused| refused.field),
            catalog_generation = refused.and_then(|refused| refused.catalog_generation),
            receipt = receipt.map(tracing::field::display),
            remark,
            took_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            peer = self.request.peer_addr().map(|peer| tracing::field::display(peer.ip())),
            user_agent = %text("user-agent"),
            client_request.id = %text("x-ms-client-request-id"),
            trace.id = span.map(|span| span.context().trace_id_text()),
            "request"
        );
    }
}
