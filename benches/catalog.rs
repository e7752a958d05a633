//! Does reading cost grow with the catalog? Accept throughput with 10 and with 100,000 entity configurations over 1,000
//! organizations, and what a whole-catalog change does to those who post meanwhile.
//!
//! `cargo bench --bench catalog` starts four gateways, loads them in turns (several rounds, so that a slow moment of the
//! machine hits both), and prints medians and ratios; the last line is JSON. Absolute figures say more about the machine
//! than about the gateway.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark reports, and stops where it cannot run")]

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Gateway, KEY, ROUNDS, answer, load, median, round, write_organizations};

const ORGANIZATIONS: u32 = 1_000;
const ENTITIES_EACH: u32 = 100;

/// Writes every organization anew and has them read; how long that took, and the longest post meanwhile.
fn whole_change(gateway: &Gateway, spread: (u32, u32), capacity: u32) -> (Duration, Duration) {
    write_organizations(gateway.folder.path(), ORGANIZATIONS, ENTITIES_EACH, capacity);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loaded = scope.spawn(|| load(gateway, spread, &done));
        let started = Instant::now();
        let mut stream = TcpStream::connect(gateway.admin).expect("connected");
        let request = format!(
            "POST /admin/v1/reload HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        assert_eq!(answer(&mut stream, &mut Vec::new()), 200);
        let took = started.elapsed();
        done.store(true, Ordering::Relaxed);
        let (_, longest) = loaded.join().expect("the load");
        (took, longest)
    })
}

/// What is compared: a gateway of its own, so that each has stored as much as the others, and what is posted to it.
struct Contestant {
    what: &'static str,
    gateway: Gateway,
    spread: (u32, u32),
    rates: Vec<f64>,
}

impl Contestant {
    fn new(what: &'static str, (organizations, entities): (u32, u32), spread: (u32, u32)) -> Self {
        Self { what, gateway: Gateway::start(organizations, entities), spread, rates: Vec::new() }
    }
}

fn main() {
    let mut contestants = [
        Contestant::new("10 configurations in 1 organization", (1, 10), (1, 10)),
        Contestant::new("100,000 in 1,000, posts to one", (ORGANIZATIONS, ENTITIES_EACH), (1, 10)),
        Contestant::new("1,000 in 1,000, posts to all", (ORGANIZATIONS, 1), (ORGANIZATIONS, 1)),
        Contestant::new(
            "100,000 in 1,000, posts to all",
            (ORGANIZATIONS, ENTITIES_EACH),
            (ORGANIZATIONS, ENTITIES_EACH),
        ),
    ];
    let mut quiet = Vec::new();
    for number in 0..ROUNDS {
        // Another one begins each round: whoever follows the disk's pause has it easier.
        contestants.rotate_left(1);
        for contestant in &mut contestants {
            let (rate, longest) = round(&contestant.gateway, contestant.spread);
            contestant.rates.push(rate);
            quiet.push(longest.as_secs_f64() * 1e3);
        }
        println!("round {} of {ROUNDS}", number + 1);
    }
    contestants.sort_by_key(|contestant| (contestant.what.starts_with("100,000"), contestant.what.ends_with("all")));
    for contestant in &contestants {
        println!("{:>8.0}/s  {}", median(contestant.rates.clone()), contestant.what);
    }
    let [small, small_to_all, large, large_to_all] = contestants;
    let changes: Vec<_> = (0..5).map(|n| whole_change(&large.gateway, large.spread, 40 + n)).collect();
    let took = median(changes.iter().map(|(took, _)| took.as_secs_f64()).collect());
    let longest = median(changes.iter().map(|(_, longest)| longest.as_secs_f64() * 1e3).collect());
    println!("whole-catalog change: {took:.2} s; longest post meanwhile {longest:.1} ms");
    let ratio = |one: &Contestant, other: &Contestant| median(one.rates.clone()) / median(other.rates.clone());
    let report = serde_json::json!({
        "rounds": ROUNDS,
        "large_over_small": ratio(&large, &small),
        "large_over_small_posts_to_all": ratio(&large_to_all, &small_to_all),
        "thousand_organizations_over_one": ratio(&small_to_all, &small),
        "whole_change_seconds": took,
        "longest_post_ms_during_change": longest,
        "longest_post_ms_otherwise": median(quiet),
    });
    println!("{report}");
}
