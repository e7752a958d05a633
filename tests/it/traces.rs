//! Spans, as a collector gets them: from a flow's `traceparent` to the receiver's, in one tree.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::lifecycle::Receiver;
use crate::support::gateway::{KEY, ORGANIZATION, Setup, TestGateway};
use crate::support::raw::{Answer, exchange, request};
use crate::support::records::{incident, nth_incident, record_id};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";
/// What must never be seen outside.
const SECRET: &str = "Bearer collector-secret-that-nobody-sees";
const DETAILS: &str = r#"{"incidentid":"5e1f0c9a-7b2d-ea11-a810-000000000001","title":"private-title-of-the-record"}"#;

/// A gateway that delivers to the receiver and exports to the collector.
fn traced(receiver: &Receiver, collector: std::net::SocketAddr, more: &str) -> Setup {
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    setup.process.push_str(more);
    setup.process.push_str(&format!(
        "[delivery]\nfirst_pause_seconds = 0.01\nlongest_pause_seconds = 0.01\nbreaker_failures = 1000\n\
         [telemetry.otlp]\nendpoint = \"http://{collector}\"\nresource_attributes = [\"deployment.environment.name=test\"]\n\
         [[telemetry.otlp.headers]]\nname = \"authorization\"\nvalue_file = \"otlp.token\"\n"
    ));
    setup.organizations[0].1 =
        ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    setup
}

/// Starts it, with the collector's secret where it belongs.
fn start(setup: &Setup) -> TestGateway {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    crate::support::gateway::write_configuration(folder.path(), setup);
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    let token = folder.path().join("data/otlp.token");
    std::fs::write(&token, SECRET).expect("written");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("private");
    TestGateway::start_on(folder)
}

fn post(gateway: &TestGateway, body: &str, traceparent: Option<&str>) -> Answer {
    let mut headers = vec![("X-Api-Key", KEY), ("Content-Type", "application/json")];
    headers.extend(traceparent.map(|traceparent| ("traceparent", traceparent)));
    exchange(gateway.public, &request("POST", "/api/v1/records", &headers, body.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute as text.
fn attribute(span: &Span, name: &str) -> Option<String> {
    let pair = span.attributes.iter().find(|pair| pair.key == name)?;
    let value = pair.value.as_ref()?.value.as_ref()?;
    if let Value::StringValue(text) = value {
        return Some(text.clone());
    }
    if let Value::IntValue(number) = value {
        return Some(number.to_string());
    }
    if let Value::DoubleValue(number) = value {
        return Some(number.to_string());
    }
    panic!("{value:?}");
}

/// Everything that the collector got; the gateway has stopped.
fn collected(collector: &Receiver) -> Vec<Span> {
    let mut spans = Vec::new();
    for (headers, body) in collector.events.try_iter() {
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((header("authorization"), header("content-type")), (Some(SECRET), Some("application/x-protobuf")));
        let seen = String::from_utf8_lossy(&body).into_owned();
        for secret in [SECRET, KEY, "private-title-of-the-record", "not-to-travel", "whsec_"] {
            assert!(!seen.contains(secret), "{secret} is in a span");
        }
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("protocol buffers");
        for of_resource in request.resource_spans {
            let described = format!("{:?}", of_resource.resource);
            assert!(described.contains("service.name") && described.contains("deployment.environment.name"));
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans));
        }
    }
    spans
}

fn one<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    let first = named.next().unwrap_or_else(|| panic!("no span `{name}` among {spans:#?}"));
    assert!(named.next().is_none(), "several spans `{name}`");
    first
}

#[test]
fn one_record_is_one_tree_from_the_callers_span_to_the_receivers() {
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let receiver = Receiver::answering(move |_| {
        let first = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        if first { "503 Service Unavailable" } else { "204 No Content" }
    });
    let collector = Receiver::answering(|_| "200 OK");
    let gateway = start(&traced(&receiver, collector.address, ""));
    let inbound = format!("00-{TRACE}-{CALLERS_SPAN}-01");
    let answer = post(&gateway, &incident(&record_id(1), DETAILS), Some(&inbound));
    assert_eq!(answer.status, 202);
    let receipt = answer.text("receiptId");
    let status = gateway.wait_for_state(&receipt, "delivered").json();
    let stored = status["trace"]["traceparent"].as_str().expect("stored").to_owned();
    gateway.stop();

    let spans = collected(&collector);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE || span.name != "deliver receiver"), "{spans:#?}");
    let spans: Vec<Span> = spans.into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let server = one(&spans, "POST /api/v1/records");
    assert_eq!((hex(&server.parent_span_id).as_str(), server.kind), (CALLERS_SPAN, 2));
    assert_eq!(attribute(server, "http.response.status_code").as_deref(), Some("202"));
    assert_eq!(stored, format!("00-{TRACE}-{}-01", hex(&server.span_id)), "deliveries find it after a restart too");
    let (admission, commit) = (one(&spans, "admission"), one(&spans, "commit"));
    for span in [admission, commit] {
        assert_eq!((&span.parent_span_id, span.kind), (&server.span_id, 1));
        assert!(server.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= server.end_time_unix_nano);
    }
    assert!(admission.end_time_unix_nano <= commit.start_time_unix_nano);
    assert_eq!(attribute(commit, "streamgate.receipt"), Some(receipt.clone()));
    assert_eq!(attribute(commit, "streamgate.commit.records").as_deref(), Some("1"));

    let tries: BTreeMap<String, &Span> = spans
        .iter()
        .filter(|span| span.name == "deliver receiver")
        .map(|span| (attribute(span, "streamgate.attempt").expect("a number"), span))
        .collect();
    assert_eq!(tries.keys().collect::<Vec<_>>(), ["1", "2"], "a span for each try");
    for span in tries.values() {
        assert_eq!((&span.parent_span_id, span.kind), (&server.span_id, 3));
        assert_eq!(attribute(span, "messaging.message.id"), Some(receipt.clone()));
    }
    assert_eq!(attribute(tries["1"], "streamgate.outcome").as_deref(), Some("temporary"));
    assert_eq!(tries["1"].status.as_ref().map(|status| status.code), Some(2));
    assert_eq!(attribute(tries["2"], "streamgate.outcome").as_deref(), Some("delivered"));
    // What the receiver got names the try; the event names the request.
    for number in ["1", "2"] {
        let (headers, body) = receiver.events.recv().expect("a try");
        let outbound = headers.iter().find(|(name, _)| name == "traceparent").map(|(_, value)| value.clone());
        assert_eq!(outbound, Some(format!("00-{TRACE}-{}-01", hex(&tries[number].span_id))));
        let event: serde_json::Value = serde_json::from_slice(&body).expect("an event");
        assert_eq!(event["traceparent"], stored.as_str());
    }
}

#[test]
fn a_refusal_ends_in_its_admission_and_what_is_not_sampled_goes_through_untouched() {
    let receiver = Receiver::start();
    let collector = Receiver::answering(|_| "200 OK");
    let gateway = start(&traced(&receiver, collector.address, ""));
    let refused = nth_incident(1).replace("\"incidents\"", "\"x\"");
    assert_eq!(post(&gateway, &refused, None).status, 404);
    // A stranger that samples its requests does not fill the queue.
    let headers = [("X-Api-Key", "sg_nobody"), ("traceparent", &format!("00-{TRACE}-{CALLERS_SPAN}-01"))];
    assert_eq!(exchange(gateway.public, &request("GET", "/api/v1/connection", &headers, b"")).status, 401);
    let unsampled = format!("00-{TRACE}-{CALLERS_SPAN}-00");
    let receipt = post(&gateway, &nth_incident(1), Some(&unsampled)).text("receiptId");
    gateway.wait_for_state(&receipt, "delivered");
    gateway.stop();
    let spans = collected(&collector);
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "one is a stranger's, the other not to be sampled");
    let admission = one(&spans, "admission");
    assert_eq!(attribute(admission, "error.type").as_deref(), Some("entity-set-mismatch"));
    assert_eq!(admission.status.as_ref().map(|status| status.code), Some(2));
    let server = one(&spans, "POST /api/v1/records");
    assert_eq!((&server.trace_id, &server.span_id), (&admission.trace_id, &admission.parent_span_id));
    assert_eq!(attribute(server, "error.type").as_deref(), Some("entity-set-mismatch"));
    assert!(server.parent_span_id.is_empty() && server.status.is_none(), "a 404 is no error of the gateway's");
    assert!(!spans.iter().any(|span| span.name == "commit"));
    let (headers, _) = receiver.events.recv().expect("an event");
    assert!(headers.contains(&("traceparent".to_owned(), unsampled)), "{headers:?}");
}

#[test]
fn a_batch_has_a_trace_of_its_own_with_links_to_its_records() {
    let receiver = Receiver::start();
    let collector = Receiver::answering(|_| "200 OK");
    let mut setup = traced(&receiver, collector.address, "batch_max_events = 8\n");
    // First they gather.
    let led = std::mem::replace(&mut setup.organizations[0].1, ORGANIZATION.to_owned());
    let gateway = start(&setup);
    let inbound = format!("00-{TRACE}-{CALLERS_SPAN}-01");
    let receipts: Vec<String> =
        (0..3).map(|n| post(&gateway, &nth_incident(n), Some(&inbound)).text("receiptId")).collect();
    std::fs::write(gateway.organization_file("contoso.toml"), led).expect("written");
    assert_eq!(gateway.administer("POST", "/admin/v1/reload").status, 200);
    for receipt in &receipts {
        gateway.wait_for_state(receipt, "delivered");
    }
    gateway.stop();
    let (headers, _) = receiver.events.recv().expect("a batch");
    assert!(headers.iter().all(|(name, _)| name != "traceparent"), "each event has its own");
    let spans = collected(&collector);
    let batch = one(&spans, "deliver receiver");
    assert_ne!(hex(&batch.trace_id), TRACE);
    assert_eq!(attribute(batch, "messaging.batch.message_count").as_deref(), Some("3"));
    let requests: Vec<&[u8]> =
        spans.iter().filter(|span| span.name == "POST /api/v1/records").map(|span| span.span_id.as_slice()).collect();
    assert_eq!((batch.links.len(), requests.len()), (3, 3));
    for link in &batch.links {
        assert!(hex(&link.trace_id) == TRACE && requests.contains(&link.span_id.as_slice()), "{link:?}");
    }
}

#[test]
fn a_collector_that_is_away_costs_no_record_and_no_time() {
    let receiver = Receiver::start();
    // Nobody listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nowhere = listener.local_addr().expect("an address");
    drop(listener);
    let gateway = start(&traced(&receiver, nowhere, ""));
    // 3 spans for each: more than the queue holds.
    let posts = 2_000;
    std::thread::scope(|scope| {
        for part in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                for n in (part..posts).step_by(4) {
                    assert_eq!(post(gateway, &nth_incident(n), None).status, 202);
                }
            });
        }
    });
    let metrics = exchange(gateway.admin, &request("GET", "/metrics", &[], b""));
    let text = String::from_utf8(metrics.body).expect("text");
    let dropped: f64 = text
        .lines()
        .filter(|line| line.starts_with("streamgate_spans_dropped_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert!(dropped > 0.0, "{text}");
    assert!(text.contains("streamgate_spans_exported_total 0"), "{text}");
    let begun = Instant::now();
    gateway.stop();
    assert!(begun.elapsed() < Duration::from_secs(15), "the stop does not wait for a collector that is away");
}
