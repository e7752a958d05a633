//! Deliveries over real sockets: to a well-behaved receiver, and to one that does everything wrong.

use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::config::settings::{RoutingQueueKind, RoutingQueueSettings};
use crate::routing_queue::signature::SignedHeaders;
use crate::routing_queue::testing::fault_server::{Fault, FaultServer, OK};
use crate::routing_queue::testing::{install_tls_provider, samples};

fn queue_with(settings: &RoutingQueueSettings) -> HttpRoutingQueue {
    install_tls_provider();
    HttpRoutingQueue::new(RoutingQueueName::new("hook"), http(settings), settings.timeout).unwrap()
}

fn queue_at(url: &str) -> HttpRoutingQueue {
    queue_with(&samples::http_settings(url))
}

fn http(settings: &RoutingQueueSettings) -> &HttpSettings {
    settings.http().unwrap()
}

fn delivery() -> Delivery {
    Delivery {
        id: samples::receipt(1).to_string(),
        content: Content::Event,
        body: bytes::Bytes::from_static(b"{\"specversion\":\"1.0\"}"),
        traceparent: None,
        client_tracking_id: None,
        lane: None,
    }
}

async fn server_answering(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/events")).respond_with(answer).mount(&server).await;
    server
}

fn url_of(server: &MockServer) -> String {
    format!("{}/events", server.uri())
}

async fn verdict_on(answer: ResponseTemplate) -> Result<Taken, DeliveryError> {
    let server = server_answering(answer).await;
    queue_at(&url_of(&server)).deliver(delivery()).await
}

/// The verdict on a destination that breaks the rules; a bound here is a hang in the code.
async fn verdict_on_fault(fault: Fault) -> Result<Taken, DeliveryError> {
    let server = FaultServer::start(fault).await;
    let queue = queue_at(&server.url);
    tokio::time::timeout(Duration::from_secs(30), queue.deliver(delivery())).await.unwrap()
}

#[track_caller]
fn assert_down(verdict: Result<Taken, DeliveryError>, in_reason: &str) {
    match verdict {
        Err(DeliveryError::Temporary { reason, destination_down: true, retry_after: None }) => {
            assert!(reason.contains(in_reason), "{reason}");
        }
        other => panic!("not a destination that is down: {other:?}"),
    }
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn a_2xx_is_delivered_and_exactly_these_headers_leave() {
    let server = server_answering(ResponseTemplate::new(204)).await;
    let event = Delivery {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        client_tracking_id: Some("track-me".into()),
        ..delivery()
    };
    queue_at(&url_of(&server)).deliver(event.clone()).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let [request] = &requests[..] else { panic!("{} requests", requests.len()) };
    let mut names: Vec<&str> = request.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "user-agent",
            "webhook-id",
            "webhook-signature",
            "webhook-timestamp",
            "x-ms-client-tracking-id",
        ]
    );
    assert_eq!(request.body, event.body);
    assert_eq!(header(request, "content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(header(request, "user-agent"), format!("streamgate/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(header(request, "webhook-id"), event.id);
    assert_eq!(header(request, "traceparent"), event.traceparent.unwrap());
    assert_eq!(header(request, "x-ms-client-tracking-id"), "track-me");
}

#[tokio::test]
async fn a_batch_says_that_it_is_one() {
    let server = server_answering(ResponseTemplate::new(204)).await;
    let batch = Delivery {
        id: "batch_1".to_owned(),
        content: Content::Batch,
        body: bytes::Bytes::from_static(b"[{},{}]"),
        ..delivery()
    };
    queue_at(&url_of(&server)).deliver(batch.clone()).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[0].body, batch.body);
    assert_eq!(header(&requests[0], "content-type"), "application/cloudevents-batch+json; charset=utf-8");
    assert_eq!(header(&requests[0], "webhook-id"), "batch_1");
    let (timestamp, signature) = (header(&requests[0], "webhook-timestamp"), header(&requests[0], "webhook-signature"));
    let secret = WebhookSecret::parse(samples::SECRET).unwrap();
    let signed = SignedHeaders { id: "batch_1", timestamp, signature };
    assert_eq!(signed.verify(&batch.body, &[secret], Timestamp::now()), Ok(()));
}

#[tokio::test]
async fn the_signature_verifies_with_either_secret() {
    let server = server_answering(ResponseTemplate::new(200)).await;
    let next = WebhookSecret::parse("whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0").unwrap();
    let old = WebhookSecret::parse(samples::SECRET).unwrap();
    let mut settings = samples::http_settings(&url_of(&server));
    let RoutingQueueKind::Http(http) = &mut settings.kind else { panic!() };
    http.secrets = vec![next.clone(), old.clone()];
    queue_with(&settings).deliver(delivery()).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let signed = SignedHeaders {
        id: header(&requests[0], "webhook-id"),
        timestamp: header(&requests[0], "webhook-timestamp"),
        signature: header(&requests[0], "webhook-signature"),
    };
    for secret in [next, old] {
        assert_eq!(signed.verify(&requests[0].body, &[secret], Timestamp::now()), Ok(()));
    }
}

#[tokio::test]
async fn a_line_break_never_becomes_a_header() {
    let server = server_answering(ResponseTemplate::new(200)).await;
    let event = Delivery {
        traceparent: Some("00-a\r\nx-internal: 1".into()),
        client_tracking_id: Some("a\nx-internal: 1".into()),
        ..delivery()
    };
    queue_at(&url_of(&server)).deliver(event).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    for name in ["x-internal", "traceparent", "x-ms-client-tracking-id"] {
        assert!(!requests[0].headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn every_status_has_its_verdict() {
    for status in [400, 413, 414, 415, 422, 431] {
        let verdict = verdict_on(ResponseTemplate::new(status)).await;
        assert!(matches!(verdict, Err(DeliveryError::Permanent { .. })), "{status}: {verdict:?}");
    }
    for status in [401, 402, 403, 404, 405, 407, 408, 425, 429, 500, 502, 503, 504, 599] {
        assert_down(verdict_on(ResponseTemplate::new(status)).await, &status.to_string());
    }
    let gone = verdict_on(ResponseTemplate::new(410)).await;
    assert!(matches!(gone, Err(DeliveryError::Gone { .. })), "{gone:?}");
    for status in [406, 409, 412, 423, 451] {
        let verdict = verdict_on(ResponseTemplate::new(status)).await;
        let unclear = matches!(verdict, Err(DeliveryError::Temporary { destination_down: false, .. }));
        assert!(unclear, "{status}: {verdict:?}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_on_429_and_503_only() {
    for (status, value, expected) in [
        (429, "17", Some(17)),
        (503, "1000000000", Some(86_400)),
        (503, "-5", None),
        (429, "soon", None),
        (500, "17", None),
    ] {
        let verdict = verdict_on(ResponseTemplate::new(status).insert_header("retry-after", value)).await;
        let Err(DeliveryError::Temporary { retry_after, .. }) = verdict else { panic!("{verdict:?}") };
        assert_eq!(retry_after.map(|pause| pause.as_secs()), expected, "{status} {value}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_name_only_the_host() {
    let target = server_answering(ResponseTemplate::new(200)).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}?token=secret", url_of(&target));
        let verdict = verdict_on(ResponseTemplate::new(status).insert_header("location", location.as_str())).await;
        let Err(DeliveryError::Permanent { reason }) = verdict else { panic!("{status}: {verdict:?}") };
        assert!(reason.contains("host `127.0.0.1`") && !reason.contains("secret"), "{reason}");
    }
    let nowhere = verdict_on(ResponseTemplate::new(304)).await;
    assert!(matches!(nowhere, Err(DeliveryError::Permanent { .. })), "{nowhere:?}");
    assert_eq!(target.received_requests().await.unwrap().len(), 0);
}

#[tokio::test]
async fn refused_addresses_are_not_connected_to() {
    let server = server_answering(ResponseTemplate::new(200)).await;
    let port = server.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1"] {
        let mut settings = samples::http_settings(&format!("http://{host}:{port}/events"));
        let RoutingQueueKind::Http(http) = &mut settings.kind else { panic!() };
        http.allow_networks = Vec::new();
        let verdict = queue_with(&settings).deliver(delivery()).await;
        assert_down(verdict, "`allow_networks`");
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
    // The control: allowed, the same name is reached.
    queue_at(&format!("http://localhost:{port}/events")).deliver(delivery()).await.unwrap();
}

#[tokio::test]
async fn no_receiver_is_down() {
    let free_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let queue = queue_at(&format!("http://127.0.0.1:{free_port}/secret-path"));
    let verdict = queue.deliver(delivery()).await;
    assert!(!format!("{verdict:?}").contains("secret-path"));
    assert_down(verdict, "no connection");
    let verdict = queue_at("http://no-such-name.invalid/").deliver(delivery()).await;
    assert_down(verdict, "could not be resolved");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    assert_down(verdict_on_fault(Fault::Hang).await, "no answer within 400ms");
    let half_a_head = b"HTTP/1.1 200 OK\r\ncontent-".to_vec();
    assert_down(verdict_on_fault(Fault::SayAndHang(half_a_head.clone())).await, "no answer within");
    assert_down(verdict_on_fault(Fault::SayAndDrip(half_a_head)).await, "no answer within");
    let informational = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
    assert_down(verdict_on_fault(Fault::Repeat(informational)).await, "no answer within");
}

#[tokio::test]
async fn broken_answers_are_down() {
    assert_down(verdict_on_fault(Fault::Reset).await, "no proper answer");
    assert_down(verdict_on_fault(Fault::SayAndClose(b"HTTP/1.1 2".to_vec())).await, "no proper answer");
    assert_down(verdict_on_fault(Fault::SayAndClose(b"SSH-2.0-OpenSSH\r\n".to_vec())).await, "no proper answer");
    assert_down(verdict_on_fault(Fault::SayAndHang(b"HTTP/1.1 101 Switching\r\n\r\n".to_vec())).await, "101");
}

#[tokio::test]
async fn hostile_heads_are_bounded() {
    let mut many_headers = b"HTTP/1.1 200 OK\r\n".to_vec();
    (0..100_000).for_each(|n| many_headers.extend_from_slice(format!("x-{n}: y\r\n").as_bytes()));
    many_headers.extend_from_slice(b"content-length: 0\r\n\r\n");
    assert_down(verdict_on_fault(Fault::SayAndHang(many_headers)).await, "no proper answer");
    let mut long_header = b"HTTP/1.1 200 OK\r\nset-cookie: ".to_vec();
    long_header.resize(8 * 1024 * 1024, b'x');
    assert_down(verdict_on_fault(Fault::SayAndHang(long_header)).await, "no proper answer");
}

#[tokio::test]
async fn once_a_2xx_is_in_its_body_changes_nothing() {
    let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    assert_eq!(verdict_on_fault(Fault::SayAndDrip(endless.clone())).await, Ok(Taken::Now));
    assert_eq!(verdict_on_fault(Fault::SayAndHang(endless)).await, Ok(Taken::Now));
    let too_short = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec();
    assert_eq!(verdict_on_fault(Fault::SayAndClose(too_short)).await, Ok(Taken::Now));
    let huge = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n".to_vec();
    assert_eq!(verdict_on_fault(Fault::SayAndDrip(huge)).await, Ok(Taken::Now));
    let zipped = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc".to_vec();
    assert_eq!(verdict_on_fault(Fault::SayAndClose(zipped)).await, Ok(Taken::Now));
}

#[tokio::test]
async fn no_more_than_64_kib_of_a_body_are_read() {
    for (size, whole) in [(65_536, true), (65_537, false), (1_048_576, false)] {
        let mut answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n").into_bytes();
        answer.resize(answer.len() + size, b'x');
        answer.extend_from_slice(b"\r\n0\r\n\r\n");
        let server = FaultServer::start(Fault::Say(answer)).await;
        let answer = queue_at(&server.url).send(&delivery()).await.unwrap();
        assert_eq!(drained(answer).await, whole, "{size}");
    }
    // One that never ends is given up by its size, too.
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 65_536]].concat();
    assert_eq!(verdict_on_fault(Fault::Repeat(endless)).await, Ok(Taken::Now));
}

#[tokio::test]
async fn a_pooled_connection_that_closed_gets_one_more_try_at_once() {
    let server = FaultServer::start(Fault::OnceThenClose(OK.to_vec())).await;
    let queue = queue_at(&server.url);
    queue.deliver(delivery()).await.unwrap();
    // The second request of the first connection fails; the immediate retry has a new one.
    queue.deliver(delivery()).await.unwrap();
    assert_eq!(server.seen(), vec![samples::receipt(1).to_string(); 3]);
}

#[tokio::test]
async fn a_receiver_that_dies_on_a_new_connection_gets_no_second_copy() {
    let server = FaultServer::start(Fault::Reset).await;
    let queue = queue_at(&server.url);
    assert_down(queue.deliver(delivery()).await, "no proper answer");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = FaultServer::start(Fault::Say(OK.to_vec())).await;
    let queue = queue_at(&server.url);
    for _ in 0..3 {
        queue.deliver(delivery()).await.unwrap();
        assert_eq!(queue.may_be_idle.load(Ordering::Relaxed), 1);
    }
}

/// Proxies come from the environment, which only a process of its own can have changed: this test runs itself.
#[tokio::test]
async fn proxies_in_the_environment_are_ignored() {
    const TARGET: &str = "STREAMGATE_TEST_PROXY_TARGET";
    if let Ok(url) = std::env::var(TARGET) {
        queue_at(&url).deliver(delivery()).await.unwrap();
        return;
    }
    let proxy = server_answering(ResponseTemplate::new(200)).await;
    let target = server_answering(ResponseTemplate::new(200)).await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "routing_queue::http::tests::proxies_in_the_environment_are_ignored"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, proxy.uri()).env(name.to_ascii_lowercase(), proxy.uri());
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").env(TARGET, url_of(&target));
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(target.received_requests().await.unwrap().len(), 1);
    assert_eq!(proxy.received_requests().await.unwrap().len(), 0);
}
