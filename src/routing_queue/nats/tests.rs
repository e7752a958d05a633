//! What needs no server: subjects, headers, and a destination that nobody listens at.

use super::*;
use crate::config::settings::{NatsLogin, NatsServer, NatsTls, NewStream};
use crate::config::subject::{DEFAULT_TEMPLATE, SubjectTemplate};
use crate::routing_queue::testing::{install_tls_provider, samples};

fn settings(port: u16) -> NatsSettings {
    NatsSettings {
        servers: vec![NatsServer { host: "127.0.0.1".into(), port, tls: false }],
        login: NatsLogin::Nothing,
        tls: NatsTls::default(),
        stream: "RECORDS".into(),
        subject: SubjectTemplate::parse(DEFAULT_TEMPLATE).unwrap(),
        replicas: 1,
        create: None,
        monitoring_url: None,
        max_body_bytes: 1 << 20,
        retry_span: Duration::from_secs(60),
    }
}

fn queue(port: u16, timeout: Duration) -> NatsRoutingQueue {
    install_tls_provider();
    NatsRoutingQueue::new(RoutingQueueName::new("stream"), settings(port), timeout).unwrap()
}

fn delivery() -> Delivery {
    let record = samples::record_of(1, 1, "Very Urgent");
    Delivery {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        client_tracking_id: Some("two\r\nlines".into()),
        ..Delivery::event(&record, "{}".into())
    }
}

#[test]
fn a_message_says_where_it_belongs_and_what_it_is() {
    let queue = queue(1, Duration::from_secs(1));
    assert_eq!(
        queue.0.subject(&delivery()),
        "streamgate.00000000-0000-0000-0000-000000000a01.00000000-0000-0000-0000-000000000b01.Very%20Urgent"
    );
    assert_eq!(queue.0.subject(&event::test_delivery(false).unwrap()), "streamgate.test.test.test");
    let headers = queue.0.headers(&delivery());
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("Nats-Msg-Id"), Some(samples::receipt(1).to_string()));
    assert_eq!(header("Nats-Expected-Stream").as_deref(), Some("RECORDS"));
    assert_eq!(header("content-type").as_deref(), Some(event::MEDIA_TYPE));
    assert_eq!(header("traceparent"), delivery().traceparent);
    assert_eq!(header("x-ms-client-tracking-id"), None, "a line break is not forwarded");
    assert_eq!(headers.len(), 4);
}

#[test]
fn the_stream_to_make_is_one_that_fits() {
    let create = NewStream { work_queue: true, duplicate_window: Duration::from_secs(120) };
    let settings = NatsSettings { create: Some(create), ..settings(1) };
    let made = stream::to_make(&settings).unwrap();
    assert_eq!(stream::mismatches(&made, &stream::Wanted::of(&settings)), []);
    assert_eq!(stream::to_make(&self::settings(1)), None);
}

#[tokio::test]
async fn where_nobody_listens_it_is_down_at_once_and_a_stop_takes_no_time() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    drop(held);
    let queue = queue(port, Duration::from_secs(30));
    let begun = Instant::now();
    let verdict = queue.deliver(delivery()).await;
    assert!(matches!(&verdict, Err(DeliveryError::Temporary { destination_down: true, .. })), "{verdict:?}");
    assert_eq!(queue.deliver(delivery()).await, verdict, "not knocked at again in between");
    queue.close().await;
    let Err(DeliveryError::Temporary { reason, .. }) = queue.deliver(delivery()).await else { panic!() };
    assert!(reason.contains("stopping"), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// A server that takes connections and says this, whatever it is told.
fn server_saying(said: &'static str) -> u16 {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            let _written = (&stream).write_all(said.as_bytes());
            kept.push(stream);
        }
    });
    port
}

#[tokio::test]
async fn servers_that_talk_nonsense_or_nothing_are_down() {
    for said in ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "INFO {}\r\n", "INFO {}\r\n-ERR 'Authorization Violation'\r\n"]
    {
        let queue = queue(server_saying(said), Duration::from_secs(4));
        let verdict = queue.deliver(delivery()).await;
        assert!(
            matches!(&verdict, Err(DeliveryError::Temporary { destination_down: true, .. })),
            "{said:?}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_acknowledges_what_is_no_stream_takes_nothing() {
    // It greets, and answers a ping; the stream is never told about.
    let queue =
        queue(server_saying("INFO {\"headers\":true,\"max_payload\":1048576}\r\nPONG\r\n"), Duration::from_secs(2));
    let verdict = queue.deliver(delivery()).await;
    let Err(DeliveryError::Temporary { reason, destination_down: true, .. }) = verdict else { panic!("{verdict:?}") };
    assert!(reason.contains("no acknowledgement within 2s"), "{reason}");
}
