//! The request body: JSON only, bounded in size, in time and in what all requests hold together.
//!
//! Whoever reads one shows a [`Visit`]: the caller is known before a byte of the body is looked at (contract §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpMessage as _, HttpRequest};
use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::caller::Visit;
use super::problem::{Code, Problem};

/// The body of a request that nobody has read yet, kept with the request until somebody does.
pub struct Unread(pub Payload);

/// Bytes of bodies that all requests together hold in memory, of which no credential holds more than half: one busy
/// caller leaves room for the others. Counted is what has arrived, never what was announced.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    held_bytes: AtomicUsize,
    /// By credential, while it holds anything; credentials are configured, so there are not many.
    held_by: DashMap<Arc<str>, usize>,
}

impl Budget {
    /// At most this many bytes at once.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, held_bytes: AtomicUsize::new(0), held_by: DashMap::new() })
    }

    /// How many bytes may be held.
    pub const fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// How many bytes are held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// A share of the [`Budget`], given back when dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    credential: Arc<str>,
    bytes: usize,
}

impl Share {
    fn none(budget: &Arc<Budget>, credential: &Arc<str>) -> Self {
        Self { budget: Arc::clone(budget), credential: Arc::clone(credential), bytes: 0 }
    }

    /// Grows to `bytes`.
    fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        let Budget { limit_bytes, held_bytes, held_by } = &*self.budget;
        let others = held_bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more).saturating_sub(self.bytes);
        let own = {
            let mut held = held_by.entry(Arc::clone(&self.credential)).or_insert(0);
            *held += more;
            *held
        };
        // A single body always fits: the limits are on what is held *besides* it.
        let all_too_much = others > 0 && others.saturating_add(self.bytes) > *limit_bytes;
        let own_too_much = own > self.bytes && own > limit_bytes / 2;
        if all_too_much || own_too_much {
            return Err(Problem::new(
                Code::Overloaded,
                "Too many request bodies are under way at once.",
                "Send the same record again later; repeating is safe.",
            ));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(mut held) = self.budget.held_by.get_mut(&self.credential) {
            *held = held.saturating_sub(self.bytes);
        }
        self.budget.held_by.remove_if(&self.credential, |_, held| *held == 0);
    }
}

/// A body in memory, with its share of the budget.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    _share: Share,
}

impl Body {
    /// What the caller sent.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Bounds on one body.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    /// Largest body, in bytes.
    pub max_bytes: usize,
    /// What all bodies may hold together.
    pub budget: Arc<Budget>,
}

/// Reads the body of a request whose caller is known.
///
/// # Errors
/// 415 for anything but plain JSON, 413 over the limit (at once where the length is declared), 408 past the request's
/// deadline, 400 for broken framing, 503 where too much is under way.
pub async fn read_json(visit: &Visit, request: &HttpRequest, limits: &BodyLimits) -> Result<Body, Problem> {
    check_media_type(request.headers(), request.method() == Method::PATCH)?;
    let declared = declared_length(request.headers());
    if declared.is_some_and(|bytes| bytes > limits.max_bytes) {
        return Err(too_large(limits.max_bytes));
    }
    let mut share = Share::none(&limits.budget, &visit.caller().credential);
    let Some(Unread(mut payload)) = request.extensions_mut().remove::<Unread>() else {
        return Ok(Body { bytes: Bytes::new(), _share: share });
    };
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut payload, visit.deadline()).await? {
        let read = first.len() + all.len() + chunk.len();
        if read > limits.max_bytes {
            return Err(too_large(limits.max_bytes));
        }
        share.grow_to(read)?;
        // Most bodies arrive in one piece, which is then used as it is.
        if first.is_empty() && all.is_empty() {
            first = chunk;
            continue;
        }
        if all.is_empty() {
            // Room for what has arrived and as much again; what was only announced gets none.
            all.reserve(read.saturating_mul(2).min(limits.max_bytes));
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&chunk);
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Body { bytes, _share: share })
}

/// What is wrong with a body, as far as it can be said without handing back what the caller sent.
fn malformed(fault: serde_json::Error) -> Problem {
    const KNOWN: [&str; 8] =
        ["organizationId", "workStreamId", "queue", "callbackUrl", "secret", "max", "leaseSeconds", "leaseToken"];
    const ACTION: &str = "Send the properties that docs/contract.md lists for this operation.";
    let text = fault.to_string();
    let named = |start: &str| text.strip_prefix(start)?.split('`').next().map(crate::domain::ids::excerpt);
    let (name, what) = if let Some(name) = named("missing field `") {
        (name, "is missing")
    } else if let Some(name) = named("duplicate field `") {
        (name, "is given twice")
    } else if let Some(name) = named("unknown field `") {
        (name, "is not a property of this operation")
    } else if fault.is_data() {
        return Problem::malformed(
            None,
            "A property of the body is of another type than this operation takes.",
            ACTION,
        );
    } else {
        return Problem::malformed(None, "The body is not JSON.", ACTION);
    };
    let field = KNOWN.into_iter().find(|known| *known == name);
    Problem::malformed(field, format!("`{name}` {what}."), ACTION)
}

/// The JSON object in the body.
///
/// What the parser says about it stays inside: it would hand back whatever the caller sent, however long.
///
/// # Errors
/// As [`read_json`], and 400 for what is not the object that the operation takes.
pub async fn read_object<T: DeserializeOwned>(
    visit: &Visit,
    request: &HttpRequest,
    limits: &BodyLimits,
) -> Result<T, Problem> {
    let body = read_json(visit, request, limits).await?;
    // A struct would take a positional array as well; only an object names its properties.
    let raw: &RawValue = serde_json::from_slice(body.bytes()).map_err(malformed)?;
    if !raw.get().starts_with('{') {
        return Err(Problem::malformed(None, "The body must be a JSON object.", "See docs/contract.md."));
    }
    serde_json::from_str(raw.get()).map_err(malformed)
}

async fn next_chunk(payload: &mut Payload, deadline: Instant) -> Result<Option<Bytes>, Problem> {
    match timeout_at(deadline, payload.next()).await {
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(None) => Ok(None),
        Ok(Some(Err(fault))) => Err(Problem::new(
            Code::BadRequest,
            format!("The body could not be read: {fault}."),
            "Send one well-formed body with either Content-Length or Transfer-Encoding: chunked.",
        )),
        Err(_) => Err(Problem::new(
            Code::RequestTimeout,
            "The request's body did not arrive in time.",
            "Send the whole request without pauses; repeating is safe.",
        )),
    }
}

fn too_large(limit_bytes: usize) -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("The body is larger than the limit of {limit_bytes} bytes."),
        "Send a smaller record, or raise `limits.max_body_bytes` (to 8 MiB at most).",
    )
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Exactly one `Content-Type: application/json`, in UTF-8 where it says, and not encoded. A patch may say what kind of one
/// it is (RFC 7396).
fn check_media_type(headers: &HeaderMap, is_patch: bool) -> Result<(), Problem> {
    let unsupported = |detail: String| {
        Err(Problem::new(
            Code::UnsupportedMediaType,
            detail,
            "Send plain UTF-8 JSON with `Content-Type: application/json`.",
        ))
    };
    let mut types = headers.get_all(header::CONTENT_TYPE);
    let Some(media_type) = types.next().and_then(|value| value.to_str().ok()) else {
        return unsupported("The Content-Type header field is missing.".to_owned());
    };
    if types.next().is_some() {
        return unsupported("There is more than one Content-Type header field.".to_owned());
    }
    let mut parts = media_type.split(';').map(str::trim);
    let accepted = |essence: &str| {
        essence.eq_ignore_ascii_case("application/json")
            || (is_patch && essence.eq_ignore_ascii_case("application/merge-patch+json"))
    };
    if !parts.next().is_some_and(accepted) {
        return unsupported(format!("The media type is `{}`.", crate::domain::ids::excerpt(media_type)));
    }
    for parameter in parts {
        let charset = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        let other =
            charset.map(|(_, value)| value.trim().trim_matches('"')).filter(|v| !v.eq_ignore_ascii_case("utf-8"));
        if let Some(other) = other {
            return unsupported(format!("The charset is `{}`.", crate::domain::ids::excerpt(other)));
        }
    }
    let encoded = headers
        .get_all(header::CONTENT_ENCODING)
        .any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return unsupported("The body is encoded (Content-Encoding).".to_owned());
    }
    Ok(())
}

/// Reads and forgets what is left of a small body, so that an early refusal does not cost its caller the connection:
/// the framework closes one whose body nobody read.
pub async fn drain(request: &HttpRequest) {
    const WORTH_BYTES: usize = 64 * 1_024;
    const WORTH_WAITING: Duration = Duration::from_millis(500);
    let Some(Unread(mut payload)) = request.extensions_mut().remove::<Unread>() else { return };
    if declared_length(request.headers()).is_some_and(|bytes| bytes > WORTH_BYTES) {
        return;
    }
    let deadline = Instant::now() + WORTH_WAITING;
    let mut drained_bytes = 0;
    while let Ok(Some(Ok(chunk))) = timeout_at(deadline, payload.next()).await {
        drained_bytes += chunk.len();
        if drained_bytes > WORTH_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Budget::new(100);
        let share = |credential: &str| Share::none(&budget, &Arc::from(credential));
        let (mut one, mut other) = (share("a"), share("b"));
        assert!(one.grow_to(60).is_ok(), "a single body may be larger than half");
        assert!(one.grow_to(50).is_ok(), "shrinking is no growth");
        assert!(other.grow_to(40).is_ok());
        assert!(other.grow_to(41).is_err(), "together they hold too much");
        drop((one, other));
        assert_eq!(budget.held_bytes(), 0);
        assert!(budget.held_by.is_empty());
        assert!(share("a").grow_to(101).is_ok(), "a single body always fits");
    }

    #[test]
    fn no_credential_holds_more_than_half() {
        let budget = Budget::new(100);
        let share = |credential: &str| Share::none(&budget, &Arc::from(credential));
        let (mut first, mut second, mut third) = (share("busy"), share("busy"), share("busy"));
        assert!(first.grow_to(25).is_ok() && second.grow_to(25).is_ok());
        assert!(third.grow_to(1).is_err());
        assert!(share("other").grow_to(40).is_ok(), "there is room for others");
    }

    #[test]
    fn only_plain_json_is_taken() {
        let check = |fields: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name = header::HeaderName::try_from(*name).expect("a name");
                headers.append(name, header::HeaderValue::from_str(value).expect("a value"));
            }
            check_media_type(&headers, false).is_ok()
        };
        let json = ("content-type", "application/json");
        assert!(check(&[json]));
        assert!(check(&[("content-type", "APPLICATION/JSON; charset=UTF-8")]));
        assert!(check(&[("content-type", "application/json; charset=\"utf-8\"; x=y")]));
        assert!(check(&[json, ("content-encoding", "identity")]));
        for other in [
            "text/plain",
            ";;;",
            "application/ld+json",
            "application/json; charset=utf-16",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!check(&[("content-type", other)]), "{other}");
        }
        assert!(!check(&[]));
        assert!(!check(&[json, json]));
        for encoding in ["gzip", "br", "gzip, gzip, gzip"] {
            assert!(!check(&[json, ("content-encoding", encoding)]), "{encoding}");
        }
    }
}
