//! What is exported, as OpenTelemetry's own decoder reads it; and what becomes of spans that nobody takes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Decoded;
use opentelemetry_proto::tonic::trace::v1::Span as DecodedSpan;
use proptest::prelude::*;
use prost::Message as _;
use tokio::runtime::Handle;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::config::settings::{OtlpSettings, SecretText};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A tracer whose spans nobody takes from the queue but the test.
fn tracer(ratio: f64, places: usize) -> (Tracer, mpsc::Receiver<Finished>, SpanMeters) {
    let (queue, finished) = mpsc::channel(places);
    let meters = SpanMeters::new();
    (Tracer::new(ratio, queue, meters.clone()), finished, meters)
}

fn dropped(meters: &SpanMeters, reason: Dropped) -> u64 {
    meters.dropped.get_or_create(&ReasonLabel { reason: reason.name() }).get()
}

/// What a collector reads of one request.
fn decoded(body: &[u8]) -> (Vec<(String, Decoded)>, Vec<DecodedSpan>) {
    let mut request = ExportTraceServiceRequest::decode(body).expect("protocol buffers");
    let mut of_resource = request.resource_spans.remove(0);
    assert!(request.resource_spans.is_empty());
    let attributes = of_resource.resource.expect("a resource").attributes;
    let attributes = attributes.into_iter().map(|pair| (pair.key, pair.value.unwrap().value.unwrap())).collect();
    let of_scope = of_resource.scope_spans.remove(0);
    assert_eq!(of_scope.scope.expect("a scope").name, "streamgate");
    (attributes, of_scope.spans)
}

#[test]
fn a_span_is_read_as_it_was_made() {
    let (tracer, mut queue, _) = tracer(1.0, 10);
    let began = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    let span = tracer.request(Some(PARENT)).expect("sampled").named("POST /x").begun(began);
    let (own, child) = (*span.context(), tracer.child(span.context(), "commit", Kind::Internal).expect("random bits"));
    let span = span.with("a", "text").with("b", -7_i64).with("c", 0.5).failed(&"ä".repeat(200));
    child.end_at(began);
    span.end_at(began + Duration::from_millis(2));
    let finished = [queue.try_recv().unwrap(), queue.try_recv().unwrap()];
    let resource = [("service.name".into(), "streamgate".into())];
    let (attributes, spans) = decoded(&protobuf::request(&resource, &finished));
    assert_eq!(attributes, [("service.name".to_owned(), Decoded::StringValue("streamgate".to_owned()))]);
    let [child, span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((&*child.trace_id, &*child.parent_span_id), (own.trace_id().as_slice(), own.span_id().as_slice()));
    assert_eq!((child.name.as_str(), child.kind), ("commit", 1));
    assert_eq!((span.trace_id.as_slice(), span.span_id.as_slice()), (&own.trace_id()[..], &own.span_id()[..]));
    assert_eq!(span.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_eq!((span.kind, span.flags), (2, 0x301), "a server, under somebody remote");
    assert_eq!(span.start_time_unix_nano, 1_700_000_000_123_456_789);
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 2_000_000);
    let values: Vec<_> = span.attributes.iter().map(|pair| pair.value.clone().unwrap().value.unwrap()).collect();
    assert_eq!(values, [Decoded::StringValue("text".to_owned()), Decoded::IntValue(-7), Decoded::DoubleValue(0.5)]);
    let status = span.status.as_ref().expect("a status");
    assert_eq!((status.code, status.message.as_str()), (2, &*"ä".repeat(128)), "cut, and not within a letter");
}

#[test]
fn the_caller_decides_for_its_own_trace_and_the_ratio_for_the_others() {
    let (never, ..) = tracer(0.0, 1);
    assert!(never.request(None).is_none());
    assert_eq!(never.request(Some(PARENT)).unwrap().context().trace_id_text(), &PARENT[3..35]);
    let (always, ..) = tracer(1.0, 1);
    assert!(always.request(Some(&PARENT.replace("-01", "-00"))).is_none(), "whoever came here does not want it");
    assert!(always.request(Some("nonsense")).is_some_and(|span| span.finished.parent.is_none()));
    let (half, ..) = tracer(0.5, 1);
    let sampled = (0..400).filter(|_| half.request(None).is_some()).count();
    assert!((120..280).contains(&sampled), "{sampled} of 400");
}

#[test]
fn a_try_soon_after_belongs_to_the_trace_and_a_late_one_or_a_batch_links_to_it() {
    let (tracer, ..) = tracer(1.0, 1);
    let attempt = |records: &[(Option<&'static str>, Duration)]| tracer.attempt(records.iter().copied());
    let span = attempt(&[(Some(PARENT), NEAR)]).unwrap();
    assert_eq!((span.context().trace_id_text().as_str(), span.finished.links.len()), (&PARENT[3..35], 0));
    let late = attempt(&[(Some(PARENT), NEAR + Duration::from_secs(1))]).unwrap();
    assert_ne!(late.context().trace_id_text(), &PARENT[3..35]);
    assert_eq!((late.finished.parent, late.finished.links[0].to_traceparent()), (None, PARENT.to_owned()));
    let batch = attempt(&[(None, NEAR), (Some(PARENT), NEAR), (Some(PARENT), NEAR)]).unwrap();
    assert_eq!((batch.finished.parent, batch.finished.links.len()), (None, 2));
    let many = attempt(&vec![(Some(PARENT), Duration::ZERO); 1_000]).unwrap();
    assert_eq!(many.finished.links.len(), MAX_LINKS);
    let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    for nobody in [&[][..], &[(None, NEAR)], &[(Some("x"), NEAR)], &[(Some(unsampled), NEAR)]] {
        assert!(attempt(nobody).is_none(), "{nobody:?}");
    }
}

#[test]
fn what_finds_no_place_is_dropped_and_counted() {
    let (tracer, queue, meters) = tracer(1.0, 2);
    (0..5).for_each(|_| tracer.request(None).unwrap().end());
    assert_eq!((queue.len(), dropped(&meters, Dropped::QueueFull)), (2, 3));
    drop(queue);
    tracer.request(None).unwrap().end();
    assert_eq!(dropped(&meters, Dropped::QueueFull), 4, "also when nobody takes any more");
}

fn settings(endpoint: &str) -> OtlpSettings {
    OtlpSettings {
        endpoint: endpoint.parse().unwrap(),
        sampling_ratio: 1.0,
        timeout: Duration::from_secs(5),
        resource: vec![("service.name".into(), "test".into())],
        headers: vec![("authorization".into(), SecretText::new("Bearer secret"))],
    }
}

fn start(endpoint: &str) -> (Tracer, export::Exporter, SpanMeters) {
    crate::routing_queue::testing::install_tls_provider();
    let meters = SpanMeters::new();
    let (tracer, exporter) = export::start(&Handle::current(), &settings(endpoint), meters.clone()).unwrap();
    (tracer, exporter, meters)
}

async fn collector(answers: ResponseTemplate) -> MockServer {
    let server = MockServer::builder().start().await;
    Mock::given(method("POST"))
        .and(path("/base/v1/traces"))
        .and(header("content-type", "application/x-protobuf"))
        .and(header("authorization", "Bearer secret"))
        .respond_with(answers)
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn spans_arrive_at_the_collector_and_a_stop_takes_the_last_ones_there() {
    let server = collector(ResponseTemplate::new(200)).await;
    let (tracer, exporter, meters) = start(&format!("{}/base/", server.uri()));
    (0..1_000).for_each(|_| tracer.request(None).unwrap().named("x").end());
    exporter.stop().await;
    let requests = server.received_requests().await.unwrap();
    let spans: usize = requests.iter().map(|request| decoded(&request.body).1.len()).sum();
    assert_eq!((spans, meters.exported.get()), (1_000, 1_000));
    assert!(requests.len() <= 4, "they go together: {}", requests.len());
}

#[tokio::test]
async fn what_the_collector_rejects_is_counted() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let server = collector(ResponseTemplate::new(200).set_body_raw(answer, "application/x-protobuf")).await;
    let (tracer, exporter, meters) = start(&format!("{}/base", server.uri()));
    (0..5).for_each(|_| tracer.request(None).unwrap().end());
    exporter.stop().await;
    assert_eq!((meters.exported.get(), dropped(&meters, Dropped::Refused)), (3, 2));
    let server = collector(ResponseTemplate::new(400)).await;
    let (tracer, exporter, meters) = start(&format!("{}/base", server.uri()));
    (0..5).for_each(|_| tracer.request(None).unwrap().end());
    exporter.stop().await;
    assert_eq!((meters.exported.get(), dropped(&meters, Dropped::Refused)), (0, 5));
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_no_stop() {
    let server = collector(ResponseTemplate::new(200).set_delay(Duration::from_secs(60))).await;
    let (tracer, exporter, _) = start(&format!("{}/base", server.uri()));
    tracer.request(None).unwrap().end();
    let begun = SystemTime::now();
    exporter.stop().await;
    assert!(begun.elapsed().unwrap() < Duration::from_secs(10), "it is not waited for");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    // Nobody listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (tracer, exporter, meters) = start(&endpoint);
    for _ in 0..2 * QUEUE_SPANS {
        tracer.request(None).unwrap().end();
    }
    let queue_full = dropped(&meters, Dropped::QueueFull);
    assert_eq!(queue_full, QUEUE_SPANS as u64, "nobody waited for a place");
    exporter.stop().await;
    let unreachable = dropped(&meters, Dropped::Unreachable);
    assert_eq!((unreachable, meters.exported.get()), (QUEUE_SPANS as u64, 0), "every span is accounted for");
}

proptest! {
    #[test]
    fn any_answer_is_read_or_ignored(answer in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _rejected = protobuf::rejected_spans(&answer);
    }

    #[test]
    fn rejections_are_read(rejected in 0_i64..1 << 40, message in "\\PC{0,20}") {
        let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: message };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        prop_assert_eq!(protobuf::rejected_spans(&answer) as i64, rejected);
    }
}
