//! What grows, and what does it cost? Backlogs, prior keys, catalogs, connections, sizes of records, starts, disk space,
//! memory: each as ratios within one run, against the small case, in turns.
//!
//! `cargo bench --bench growth` measures all of it and needs about 30 GB of disk for a while; `-- --quick` takes a tenth of
//! every amount (300,000 at most) and some minutes, `-- --only NAME,NAME` some charts, and `-- --write` also writes
//! `docs/benchmarks/growth-NAME.json` and `.svg`. The last line is JSON. `docs/benchmarks.md` explains the method.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark reports, and stops where it cannot run"
)]

mod backlog;
mod catalog;
mod chart;
mod connections;
mod ground;
mod keys;
#[path = "../rig/mod.rs"]
mod rig;
mod sizes;
mod space;
mod starts;
mod stock;
#[path = "../support/mod.rs"]
mod support;
mod turns;

use std::time::Instant;

use chart::Chart;
use ground::Ground;

/// A chart's name, and what measures it.
type Measurement = (&'static str, fn(&mut Ground) -> Vec<Chart>);

/// In this order: what needs prefilled stores comes last, each building on the one before.
const MEASUREMENTS: [Measurement; 7] = [
    ("catalog", catalog::measure),
    ("connections", connections::measure),
    ("sizes", sizes::measure),
    ("space", space::measure),
    ("keys", keys::measure),
    ("starts", starts::measure),
    ("backlog", backlog::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked_for = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let only = arguments.iter().position(|argument| argument == "--only").map(|at| {
        let wanted = arguments.get(at + 1).map_or("", String::as_str);
        // The backlog's gateways are also those whose memory is looked at.
        let wanted: Vec<_> = wanted.split(',').map(|name| if name == "memory" { "backlog" } else { name }).collect();
        let is_known = |name: &&str| MEASUREMENTS.iter().any(|(known, _)| known == name);
        assert!(wanted.iter().all(is_known), "--only NAME,NAME: {}", names().join(", "));
        wanted
    });
    rig::contestant::build();
    let began = Instant::now();
    let mut ground = Ground::new(asked_for("--quick"));
    let mut ratios = serde_json::Map::new();
    for (name, measure) in MEASUREMENTS.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only.contains(name)))
    {
        let started = Instant::now();
        for chart in measure(&mut ground) {
            chart.print();
            if asked_for("--write") {
                chart.write(ground.scale.quick);
            }
            ratios.extend(chart.ratios());
        }
        println!("({name}: {:.0} s)", started.elapsed().as_secs_f64());
    }
    ratios.insert("quick".to_owned(), ground.scale.quick.into());
    ratios.insert("rounds".to_owned(), ground.scale.rounds.into());
    ratios.insert("seconds".to_owned(), began.elapsed().as_secs().into());
    println!("{}", serde_json::Value::Object(ratios));
}

fn names() -> Vec<&'static str> {
    MEASUREMENTS.iter().map(|(name, _)| *name).chain(["memory"]).collect()
}
