//! What does telling subscribers cost those who post? Accept throughput with nobody subscribed, with somebody who is
//! subscribed to a queue that nothing reaches, and with somebody who is told of every record.
//!
//! `cargo bench --bench subscriptions` starts three gateways, loads them in turns, and prints medians and ratios; the last
//! line is JSON. The subscriber is on the same machine, and takes its share of it.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark reports, and stops where it cannot run")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use support::{Gateway, KEY, ROUNDS, answer, median, organization, round};

/// A receiver that takes everything, and counts it.
fn receiver() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let told = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || take(stream, &counted));
        }
    });
    (address, told)
}

/// Answers every request on a connection.
fn take(mut stream: TcpStream, told: &AtomicU64) {
    let (mut pending, mut chunk) = (Vec::new(), [0; 16_384]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        pending.extend_from_slice(&chunk[..read]);
        while let Some(head) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&pending[..head]).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            let end = head + 4 + length.unwrap_or(0);
            if pending.len() < end {
                break;
            }
            pending.drain(..end);
            told.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

/// Subscribes a callback to a queue of the one organization, or to all of them.
fn subscribe(gateway: &Gateway, callback: SocketAddr, queue: Option<&str>) {
    let wish = serde_json::json!({
        "organizationId": organization(0), "callbackUrl": format!("http://{callback}/told"), "queue": queue,
    })
    .to_string();
    let request = format!(
        "POST /api/v1/subscriptions HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{wish}",
        wish.len()
    );
    let mut stream = TcpStream::connect(gateway.public).expect("connected");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut said = Vec::new();
    assert_eq!(answer(&mut stream, &mut said), 201, "{}", String::from_utf8_lossy(&said));
}

fn main() {
    let gateways =
        ["nobody subscribed", "subscribed elsewhere", "told of everything"].map(|what| (what, Gateway::start(1, 10)));
    let (address, told) = receiver();
    let other_queue = "[[queues]]\nname = \"Elsewhere\"\n[[queues]]\nname = \"Default queue\"\ndefault = true\n";
    let [nobody, elsewhere, everything] = &gateways;
    add_queue(&elsewhere.1, other_queue);
    subscribe(&elsewhere.1, address, Some("Elsewhere"));
    subscribe(&everything.1, address, None);
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    let mut accepted = 0.0;
    for number in 0..ROUNDS {
        for turn in 0..3 {
            let at = (turn + number) % 3;
            let (rate, _) = round(&gateways[at].1, (1, 10));
            rates[at].push(rate);
            if at == 2 {
                accepted += rate;
                drain(&told, &everything.1);
            }
        }
        println!("round {} of {ROUNDS}", number + 1);
    }
    for ((what, _), rates) in [nobody, elsewhere, everything].into_iter().zip(&rates) {
        println!("{:>8.0}/s  {what}", median(rates.clone()));
    }
    let alone = median(rates[0].clone());
    let told_alone = measure_telling(&everything.1, &told);
    let report = serde_json::json!({
        "rounds": ROUNDS,
        "elsewhere_over_nobody": median(rates[1].clone()) / alone,
        "told_over_nobody": median(rates[2].clone()) / alone,
        "told_alone_over_nobody": told_alone / alone,
        "accepted_and_told": accepted,
    });
    println!("{report}");
}

/// Gives the one organization another queue, and waits until that counts.
fn add_queue(gateway: &Gateway, queues: &str) {
    let file = gateway.folder.path().join("organizations/0.toml");
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, text.replacen("[[work_streams]]", &format!("{queues}[[work_streams]]"), 1)).expect("written");
    let reload =
        format!("POST /admin/v1/reload HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nContent-Length: 0\r\n\r\n");
    let mut stream = TcpStream::connect(gateway.admin).expect("connected");
    stream.write_all(reload.as_bytes()).expect("sent");
    assert_eq!(answer(&mut stream, &mut Vec::new()), 200);
}

/// How many records a gateway has accepted so far, and how many nobody was told of yet.
fn left(gateway: &Gateway) -> u64 {
    let mut stream = TcpStream::connect(gateway.public).expect("connected");
    let request = format!("GET /api/v1/subscriptions HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut said = Vec::new();
    assert_eq!(answer(&mut stream, &mut said), 200);
    let head = said.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let listed: serde_json::Value = serde_json::from_slice(&said[head + 4..]).expect("JSON");
    listed["value"][0]["pending"].as_u64().expect("a number")
}

/// Waits until everybody was told: the next round is for others.
fn drain(told: &AtomicU64, gateway: &Gateway) {
    let mut before = u64::MAX;
    loop {
        let now = told.load(Ordering::Relaxed);
        if left(gateway) == 0 && now == before {
            return;
        }
        before = now;
        std::thread::yield_now();
    }
}

/// How many are told in a second while nobody posts: after one more round, what is left of it.
fn measure_telling(gateway: &Gateway, told: &AtomicU64) -> f64 {
    round(gateway, (1, 10));
    let (began, before) = (Instant::now(), told.load(Ordering::Relaxed));
    while left(gateway) > 0 {
        std::thread::yield_now();
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let count = (told.load(Ordering::Relaxed) - before) as f64;
    count / began.elapsed().as_secs_f64()
}
