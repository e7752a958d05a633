//! What is compared with: a plain client of the same library, with the same settings, that posts the same body again and
//! again, as many at once. It reads nothing from a disk, encodes nothing and signs nothing.
//!
//! It is this very program, started once more with [`FLAG`], so that it is a process of its own on the core that the gateway has
//! otherwise.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Client;

use super::rig::machine::Cores;
use super::sink::Sink;

/// Starts the program as this client: URL, file with the body, milliseconds.
pub(crate) const FLAG: &str = "--plain-client";
/// As many as a routing queue has unless it is told otherwise.
const AT_ONCE: usize = 16;

/// Events a second that the client gets through.
pub(crate) fn measure(sink: &Sink, body: &Path, cores: Option<Cores>, duration: Duration) -> f64 {
    std::fs::write(body, sink.example()).expect("written");
    let program = std::env::current_exe().expect("its path");
    let mut command = match cores {
        Some(cores) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &cores.server.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    };
    let (events, requests) = (sink.events(), sink.requests());
    let output = command
        .args([FLAG, &format!("http://{}/", sink.address)])
        .arg(body)
        .arg(duration.as_millis().to_string())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let rate: f64 = said.trim().parse().unwrap_or_else(|fault| panic!("the client said `{said}` ({fault})"));
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let events_per_request = (sink.events() - events) as f64 / (sink.requests() - requests) as f64;
    rate * events_per_request
}

/// The client itself. Prints requests a second.
pub(crate) fn run(arguments: &[String]) {
    let [url, body, milliseconds] = arguments else { panic!("URL, file, milliseconds") };
    let body = Bytes::from(std::fs::read(body).expect("a body"));
    let duration = Duration::from_millis(milliseconds.parse().expect("a number"));
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // One thread has one core to itself: nothing is faster.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let done = Arc::new(AtomicU64::new(0));
    let took = runtime.block_on(async {
        let client = plain();
        post(&client, url, &body).await;
        let began = Instant::now();
        let posting: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (client, url, body, done) = (client.clone(), url.clone(), body.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    while began.elapsed() < duration {
                        post(&client, &url, &body).await;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for one in posting {
            one.await.expect("no panic");
        }
        began.elapsed()
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = done.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
    println!("{rate}");
}

/// As the gateway makes its own.
fn plain() -> Client {
    Client::builder()
        .connect_timeout(Duration::from_secs(3))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .pool_max_idle_per_host(32)
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
        .expect("a client")
}

async fn post(client: &Client, url: &str, body: &Bytes) {
    let request = client
        .post(url)
        .header("content-type", "application/cloudevents+json; charset=utf-8")
        .header("user-agent", "streamgate-plain-client")
        .header("webhook-id", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        .header("webhook-timestamp", "1793900000")
        .header("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let sent = tokio::time::timeout(Duration::from_secs(15), request.body(body.clone()).send());
    let answer = sent.await.expect("in time").expect("an answer");
    assert_eq!(answer.status(), 204);
    answer.bytes().await.expect("the rest of it");
}
