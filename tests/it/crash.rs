//! kill -9 under load: nothing that was answered with 202 is missing afterwards (promise P1, fault D1).
//!
//! The real binary runs as a process of its own. Load clients write the receipt of every 202 to a file outside the data
//! directory; after each kill the gateway starts again on what is on disk. In the end every noted receipt must be known,
//! and its record delivered or pending. The positive control runs the same with acknowledgement before the commit (a
//! fault point that only debug builds have) and must lose records, or the test proves nothing.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::lifecycle::Receiver;
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::process::Process;
use crate::support::raw::request;
use crate::support::records::nth_incident;

/// One request on a connection of its own. `None` when the gateway died meanwhile.
pub(crate) fn try_exchange(address: SocketAddr, bytes: &[u8]) -> Option<serde_json::Value> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(bytes).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer).ok()?;
        if read == 0 {
            return None;
        }
        answer.extend_from_slice(&buffer[..read]);
        let Some(head_end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        // The connection stays open, so the body is whole when it parses.
        if let Ok(body) = serde_json::from_slice(&answer[head_end + 4..]) {
            return Some(body);
        }
    }
}

/// Posts records until told to stop, noting the receipt of every 202 before anything else happens to it.
fn load(address: SocketAddr, next: &AtomicUsize, noted: &Path, stop: &AtomicBool, done: &AtomicUsize) {
    let mut file = OpenOptions::new().append(true).create(true).open(noted).expect("a file");
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    while !stop.load(Ordering::Relaxed) {
        let body = nth_incident(next.fetch_add(1, Ordering::Relaxed));
        let answer = try_exchange(address, &request("POST", "/api/v1/records", &headers, body.as_bytes()));
        if let Some(receipt) = answer.as_ref().and_then(|body| body["receiptId"].as_str()) {
            // One write: the lines of several clients must not mix.
            file.write_all(format!("{receipt}\n").as_bytes()).expect("noted");
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Kills a gateway under load this many times. Answers how many receipts were noted and how many of them are missing.
fn lost_after_kills(kills: usize, fault: Option<&str>) -> (usize, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    let noted: PathBuf = outside.path().join("receipts");
    write_configuration(folder.path(), &Setup::default());
    let next = AtomicUsize::new(0);
    for round in 0..kills {
        let gateway = Process::start(folder.path(), fault);
        let address = gateway.public;
        let (stop, done) = (&AtomicBool::new(false), &AtomicUsize::new(0));
        let (next, noted) = (&next, &noted);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || load(address, next, noted, stop, done));
            }
            // Each round kills after another amount of work, so the kill meets the commit at different moments.
            let enough = 20 + 13 * round;
            crate::support::eventually("enough answers", || (done.load(Ordering::Relaxed) >= enough).then_some(()));
            gateway.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }
    let receipts: BTreeSet<String> =
        std::fs::read_to_string(&noted).expect("readable").lines().map(str::to_owned).collect();
    let gateway = Process::start(folder.path(), None);
    let missing = receipts
        .iter()
        .filter(|receipt| {
            let path = format!("/api/v1/receipts/{receipt}");
            let answer =
                try_exchange(gateway.public, &request("GET", &path, &[("X-Api-Key", KEY)], b"")).expect("an answer");
            !matches!(answer["state"].as_str(), Some("accepted" | "delivering" | "delivered"))
        })
        .count();
    gateway.kill();
    (receipts.len(), missing)
}

#[test]
fn d1_no_accepted_record_is_lost_to_kill_9() {
    let (noted, missing) = lost_after_kills(10, None);
    assert!(noted > 500, "only {noted} receipts were noted");
    assert_eq!(missing, 0, "of {noted} receipts");
}

/// kill -9 while batches go out: every noted record has reached the receiver or is still to be delivered, and none was given
/// up. (Those whose leases a kill left behind are delivered when these end: the forwarder's own tests have a clock for that.)
#[test]
fn d1_kill_9_in_the_middle_of_batches_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    let noted: PathBuf = outside.path().join("receipts");
    let receiver = Receiver::start();
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    setup.process.push_str("batch_max_events = 20\n");
    setup.organizations[0].1 =
        setup.organizations[0].1.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    write_configuration(folder.path(), &setup);
    let (next, mut seen, mut largest) = (&AtomicUsize::new(0), BTreeSet::new(), 0);
    let mut look = |(_, body): (Vec<(String, String)>, Vec<u8>)| {
        let events: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("a batch");
        largest = largest.max(events.len());
        seen.extend(events.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)));
    };
    for round in 0..6 {
        let gateway = Process::start(folder.path(), None);
        let address = gateway.public;
        let (stop, done, noted) = (&AtomicBool::new(false), &AtomicUsize::new(0), &noted);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(move || load(address, next, noted, stop, done));
            }
            // Each round strikes after another number of deliveries.
            for _ in 0..(30 + 17 * round) {
                look(receiver.events.recv_timeout(Duration::from_secs(30)).expect("another batch"));
            }
            gateway.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }
    let receipts: BTreeSet<String> =
        std::fs::read_to_string(&noted).expect("readable").lines().map(str::to_owned).collect();
    assert!(receipts.len() > 100, "only {} receipts were noted", receipts.len());
    let gateway = Process::start(folder.path(), None);
    let state = |receipt: &str| {
        let path = format!("/api/v1/receipts/{receipt}");
        let asked = request("GET", &path, &[("X-Api-Key", KEY)], b"");
        try_exchange(gateway.public, &asked).expect("an answer")["state"].as_str().unwrap_or("none").to_owned()
    };
    // First the states, then what was received by then: what is delivered has been received before.
    let states: Vec<(&String, String)> = receipts.iter().map(|receipt| (receipt, state(receipt))).collect();
    receiver.events.try_iter().for_each(&mut look);
    for (receipt, state) in states {
        match state.as_str() {
            "delivered" => assert!(seen.contains(receipt), "{receipt} counts as delivered and never was"),
            "accepted" | "delivering" => {}
            other => panic!("{receipt} is {other}"),
        }
    }
    assert!(largest > 1, "no batch was one");
    gateway.kill();
}

#[test]
fn d1_control_without_durability_records_are_lost() {
    if crate::support::store::is_postgres() {
        // The fault point is in the engine on files.
        return;
    }
    let (noted, missing) = lost_after_kills(3, Some("acknowledge-before-commit"));
    assert!(missing > 0, "all {noted} receipts survived although nothing was durable: the test above proves nothing");
}

#[test]
fn d14_a_second_gateway_on_the_same_records_names_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &Setup::default());
    let first = Process::start(folder.path(), None);
    let second = Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--config")
        .arg(folder.path().join("streamgate.toml"))
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .output()
        .expect("ran");
    assert_eq!(second.status.code(), Some(5));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains(&first.id().to_string()), "the holder is not named: {told}");
    first.kill();
    // What a killed process left behind holds nobody up.
    Process::start(folder.path(), None).kill();
}
