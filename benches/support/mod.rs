//! What the benchmarks share: gateways of their own, and a load of unique records.

#![allow(dead_code, reason = "each benchmark uses another part of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The key that opens the gateways.
pub(crate) const KEY: &str = "sg_benchmark-key-that-opens-only-this-benchmark";
const CONNECTIONS: u32 = 16;
/// How many rounds there are.
pub(crate) const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_secs(1);

/// A gateway of its own, stopped when dropped.
pub(crate) struct Gateway {
    process: Child,
    /// The public listener.
    pub(crate) public: SocketAddr,
    /// The second listener.
    pub(crate) admin: SocketAddr,
    /// Its configuration and its data.
    pub(crate) folder: tempfile::TempDir,
}

impl Gateway {
    /// A gateway with so many organizations, and so many entity configurations in each.
    pub(crate) fn start(organizations: u32, entities: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sha256: String = streamgate::http::keys::hash(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
        let process = format!(
            "[limits]\nrequests_per_minute = 50_000_000\nburst = 50_000_000\n[[api_keys]]\nname = \"bench\"\nsha256 = \"{sha256}\"\n\
             permissions = [\"records.write\", \"records.read\", \"admin\"]\norganizations = \"*\"\n[subscriptions]\nallow_networks = [\"127.0.0.0/8\"]\n"
        );
        std::fs::write(folder.path().join("streamgate.toml"), process).expect("written");
        write_organizations(folder.path(), organizations, entities, 30);
        let mut process = Command::new(env!("CARGO_BIN_EXE_streamgate"))
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(folder.path().join("streamgate.toml"))
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the gateway starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its addresses");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let address = |name: &str| {
            let url = said[name].as_str().expect("a URL");
            url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
        };
        Self { public: address("publicUrl"), admin: address("adminUrl"), process, folder }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}

/// The ID of an organization.
pub(crate) fn organization(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-000000000001")
}

fn work_stream(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-000000000002")
}

/// One file an organization, one work stream each.
pub(crate) fn write_organizations(folder: &Path, organizations: u32, entities: u32, capacity: u32) {
    let dir = folder.join("organizations");
    std::fs::create_dir_all(&dir).expect("a folder");
    for number in 0..organizations {
        let mut text = format!(
            "[organization]\nid = \"{}\"\nunique_name = \"org-{number}\"\n[[work_streams]]\nid = \"{}\"\nname = \"Records\"\ncapacity = {capacity}\n",
            organization(number),
            work_stream(number)
        );
        for entity in 0..entities {
            text.push_str(&format!(
                "[[work_streams.entities]]\nid = \"{number:08x}-0000-4000-8001-{entity:012x}\"\nentity_logical_name = \"new_kind{entity}\"\nentity_set_name = \"new_kinds{entity}\"\n"
            ));
        }
        std::fs::write(dir.join(format!("{number}.toml")), text).expect("written");
    }
}

/// Record numbers, never used twice.
static RECORDS: AtomicU64 = AtomicU64::new(0);

/// One record's request, for one of the first `organizations` organizations and `entities` entities.
fn post(organizations: u32, entities: u32) -> Vec<u8> {
    let number = RECORDS.fetch_add(1, Ordering::Relaxed);
    let to = u32::try_from(number % u64::from(organizations)).expect("small");
    let kind = u32::try_from(number / 7 % u64::from(entities)).expect("small");
    let body = format!(
        "{{\"organizationId\":\"{}\",\"workStreamId\":\"{}\",\"entityLogicalName\":\"new_kind{kind}\",\"entitySetName\":\"new_kinds{kind}\",\
         \"recordId\":\"00000000-0000-4000-8000-{number:012x}\",\"relationshipName\":\"new_kind{kind}_msdyn_ocliveworkitems\",\
         \"recordDetails\":{{\"title\":\"{}\"}}}}",
        organization(to),
        work_stream(to),
        "x".repeat(600)
    );
    format!(
        "POST /api/v1/records HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one answer; its status.
pub(crate) fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> u16 {
    buffer.clear();
    let mut chunk = [0; 4_096];
    loop {
        let read = stream.read(&mut chunk).expect("an answer");
        assert!(read > 0, "the connection ended");
        buffer.extend_from_slice(&chunk[..read]);
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        if buffer.len() >= head + 4 + length.unwrap_or(0) {
            return text.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        }
    }
}

/// Accepts a second, and the longest any post took, while `done` is false.
pub(crate) fn load(gateway: &Gateway, (organizations, entities): (u32, u32), done: &AtomicBool) -> (f64, Duration) {
    let started = Instant::now();
    let outcomes: Vec<(u64, Duration)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(gateway.public).expect("connected");
                    stream.set_nodelay(true).expect("no delay");
                    let (mut accepted, mut longest, mut buffer) = (0, Duration::ZERO, Vec::new());
                    while !done.load(Ordering::Relaxed) {
                        let request = post(organizations, entities);
                        let sent = Instant::now();
                        stream.write_all(&request).expect("sent");
                        assert_eq!(answer(&mut stream, &mut buffer), 202, "{}", String::from_utf8_lossy(&buffer));
                        longest = longest.max(sent.elapsed());
                        accepted += 1;
                    }
                    (accepted, longest)
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let accepted: u64 = outcomes.iter().map(|(accepted, _)| accepted).sum();
    let longest = outcomes.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = accepted as f64 / started.elapsed().as_secs_f64();
    (rate, longest)
}

/// [`load`] for one round.
pub(crate) fn round(gateway: &Gateway, spread: (u32, u32)) -> (f64, Duration) {
    round_of(ROUND, gateway, spread)
}

/// [`load`] for so long.
pub(crate) fn round_of(duration: Duration, gateway: &Gateway, spread: (u32, u32)) -> (f64, Duration) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loaded = scope.spawn(|| load(gateway, spread, &done));
        let started = Instant::now();
        // It may be woken early, by the threads of the round before.
        while let Some(left) = duration.checked_sub(started.elapsed()) {
            std::thread::park_timeout(left);
        }
        done.store(true, Ordering::Relaxed);
        loaded.join().expect("the load")
    })
}

/// The middle one.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
