//! What a request's head must be before anything else looks at it: sizes, host, path, method, upgrades.
//!
//! actix accepts heads up to 128 KiB, any text as host, and decodes escapes in paths. A proxy in front may read the
//! same head in another way, so whatever is ambiguous is refused here.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, Version};

use super::problem::{Code, Problem};

/// Longest path and query, in bytes.
pub const MAX_URI_BYTES: usize = 4 * 1_024;
/// Largest head, in bytes: request line and header fields.
pub const MAX_HEAD_BYTES: usize = 16 * 1_024;

/// Refuses heads that no caller of this interface sends.
pub fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let head = request.head();
    let uri_bytes = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if uri_bytes > MAX_URI_BYTES {
        return Err(Problem::new(
            Code::UriTooLong,
            format!("The path and query have {uri_bytes} bytes; the limit is {MAX_URI_BYTES}."),
            "Send the record in the body; no operation needs a long query.",
        ));
    }
    let fields_bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if uri_bytes + fields_bytes > MAX_HEAD_BYTES {
        return Err(Problem::new(
            Code::HeadTooLarge,
            format!("The request's head is larger than {MAX_HEAD_BYTES} bytes."),
            "Send fewer or shorter header fields.",
        ));
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(method_not_taken("The gateway neither tunnels nor echoes."));
    }
    check_host(&head.headers, head.version)?;
    check_upgrade(&head.headers)?;
    check_path(head.uri.path())
}

fn method_not_taken(detail: &str) -> Problem {
    Problem::new(Code::MethodNotAllowed, detail, "Use the method that docs/contract.md names for the path.")
        .allowing("GET, POST")
}

/// One `Host`, made of the characters of a host and a port, and of nothing else.
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Problem> {
    let bad = |detail: &str| {
        Err(Problem::new(Code::BadRequest, detail, "Send one Host header field with the gateway's host and port."))
    };
    let mut hosts = headers.get_all(header::HOST);
    let Some(host) = hosts.next() else {
        return if version < Version::HTTP_11 { Ok(()) } else { bad("The Host header field is missing.") };
    };
    if hosts.next().is_some() {
        return bad("There is more than one Host header field.");
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    if host.is_empty() || !host.as_bytes().iter().all(allowed) {
        return bad("The Host header field is not a host.");
    }
    Ok(())
}

/// With `Upgrade: websocket` the framework would ignore the length and read the body to the end of the connection.
/// `h2c` is an offer that may be ignored.
fn check_upgrade(headers: &HeaderMap) -> Result<(), Problem> {
    let refused =
        headers.get_all(header::UPGRADE).any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c"));
    if refused {
        return Err(Problem::new(
            Code::BadRequest,
            "The gateway speaks HTTP/1.1 only and does not upgrade.",
            "Leave the Upgrade header field out.",
        ));
    }
    Ok(())
}

/// Where people's own names stand in paths, and so what they may hold.
const NAMES_UNDER: &str = "/admin/v1/";

/// A path has one spelling, so that a proxy's rule on it cannot be walked around. No path of ours needs an escape, but for
/// the names in those of the administration, whose letters may not be escaped either (RFC 3986 §2.3): what decodes to text
/// otherwise is simply not there. What decodes to control characters or to no text is malformed.
fn check_path(path: &str) -> Result<(), Problem> {
    if !path.contains('%') {
        return Ok(());
    }
    match decoded(path).and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text)
            if path.starts_with(NAMES_UNDER) && !text.chars().any(char::is_control) && !escapes_letters(path) =>
        {
            Ok(())
        }
        Some(text) if !text.chars().any(char::is_control) => Err(Problem::nothing_here()),
        Some(_) | None => Err(Problem::new(
            Code::BadRequest,
            "The path holds an escape that is no character, or a control character.",
            "Send the path as docs/contract.md writes it.",
        )),
    }
}

/// Whether something is escaped that needs no escape.
fn escapes_letters(path: &str) -> bool {
    let escapes = path.split('%').skip(1).filter_map(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
    escapes.into_iter().any(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut out = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn status(request: TestRequest) -> Option<u16> {
        check(&request.to_srv_request()).err().map(|problem| problem.code().status().as_u16())
    }

    fn get(path: &str) -> TestRequest {
        TestRequest::get().uri(path).insert_header(("host", "gateway.example.com:8080"))
    }

    #[test]
    fn ordinary_heads_pass() {
        assert_eq!(status(get("/api/v1/records?x=%20")), None);
        assert_eq!(status(get("/").insert_header(("upgrade", "h2c"))), None);
        assert_eq!(status(TestRequest::get().insert_header(("host", "[::1]:80"))), None);
    }

    #[test]
    fn odd_heads_do_not() {
        assert_eq!(status(TestRequest::get()), Some(400), "no host");
        for host in ["x y", "a@b", "", "a/b", "a\u{e9}"] {
            assert_eq!(status(TestRequest::get().insert_header(("host", host))), Some(400), "{host:?}");
        }
        assert_eq!(status(get("/").append_header(("host", "other"))), Some(400));
        assert_eq!(status(get("/").insert_header(("upgrade", "websocket"))), Some(400));
        assert_eq!(status(get(&format!("/{}", "a".repeat(5_000)))), Some(414));
        assert_eq!(status(get("/").insert_header(("x", "a".repeat(17_000)))), Some(431));
        assert_eq!(status(get("/").method(Method::TRACE)), Some(405));
    }

    #[test]
    fn escapes_in_paths_are_no_second_spelling() {
        assert_eq!(status(get("/api/v1/%72ecords")), Some(404));
        assert_eq!(status(get("/api/v1%2frecords")), Some(404));
        assert_eq!(status(get("/admin/v1/organizations/x/queues/A%2FB%20%C3%9C")), None);
        assert_eq!(status(get("/admin/v1/%6frganizations")), Some(404));
        assert_eq!(status(get("/admin/v1/organizations/%2e%2e/audit")), Some(404));
        assert_eq!(status(get("/admin/v1/organizations/%0a")), Some(400));
        for malformed in ["/%00", "/%0d%0a", "/%ff", "/%4", "/%zz"] {
            assert_eq!(status(get(malformed)), Some(400), "{malformed}");
        }
    }
}
