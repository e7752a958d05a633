//! How fast is a backlog delivered, and what can the whole product do: accept, store, sign, deliver?
//!
//! `cargo bench --bench drain` takes some minutes, `-- --quick` less than half of one once it is built. The real binary on
//! one core delivers to a sink on the other, one event a request and in batches of 100; in turns with it, on the same core, a plain
//! client of the same library posts the same bodies to the same sink. The last line is JSON. `docs/benchmarks.md` explains
//! the method and the figures.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark reports, and stops where it cannot run"
)]

mod backlog;
mod client;
mod gateway;
#[path = "../rig/mod.rs"]
mod rig;
mod sink;
mod threads;

use std::path::Path;
use std::time::{Duration, Instant};

use gateway::{Delivering, Mode};
use rig::contestant::{self, Contestant, Kind};
use rig::figures::{median, rounded};
use rig::generator::{Generator, Pace};
use rig::load::Seen;
use rig::machine::Cores;
use rig::records::{DETAILS_BYTES, Run, Template};
use serde_json::{Value, json};
use sink::Sink;
use threads::Threads;

/// How many connections post in a closed loop.
const CONNECTIONS: usize = 64;

/// How much is measured.
struct Plan {
    rounds: usize,
    /// Records that wait when a drain begins.
    single_records: u64,
    batch_records: u64,
    /// How long the plain client posts.
    client: Duration,
    /// How long records are posted to the whole product.
    whole: Duration,
}

const FULL: Plan = Plan {
    rounds: 7,
    single_records: 60_000,
    batch_records: 150_000,
    client: Duration::from_secs(3),
    whole: Duration::from_secs(5),
};
const QUICK: Plan = Plan {
    rounds: 5,
    single_records: 10_000,
    batch_records: 25_000,
    client: Duration::from_millis(400),
    whole: Duration::from_millis(900),
};

/// What the rounds gave.
#[derive(Default)]
struct Figures {
    /// Records a second of a drain, and of the plain client in the same round, by mode.
    drained: [Vec<(f64, f64)>; 2],
    /// Requests a second, events a request, the ceiling's requests a second, by mode.
    whole: [Vec<Whole>; 2],
    /// Processor time of threads during the drains, by mode.
    drain_threads: [Threads; 2],
    whole_threads: [Threads; 2],
    drain_records: [u64; 2],
}

/// One round of the whole product.
struct Whole {
    ceiling: f64,
    accepted: f64,
    delivered: f64,
    /// What was accepted and not delivered when the load ended, as a part of what was accepted.
    backlog: f64,
    events_per_request: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == client::FLAG) {
        return client::run(&arguments[at + 1..]);
    }
    let plan = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { FULL };
    contestant::build();
    let began = Instant::now();
    let cores = Cores::find();
    let sink = Sink::start();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    gateway::configure(folder.path(), sink.address);
    for (mode, count) in [(Mode::Single, plan.single_records), (Mode::Batches, plan.batch_records)] {
        backlog::fill(&folder.path().join("streamgate.toml"), &folder.path().join(mode.name()), count);
    }
    println!("backlogs were put in within {:.1} s", began.elapsed().as_secs_f64());
    let ceiling = Contestant::start(Kind::Ceiling, folder.path(), cores);
    match cores {
        Some(cores) => cores.move_to_load(),
        None => println!("NOT PINNED: there is one core, or no taskset; everybody takes time from everybody"),
    }
    let (templates, mut figures) = (Template::all(DETAILS_BYTES), Figures::default());
    let load = |to, duration| {
        Generator::connect(to, CONNECTIONS, (&templates, Run::next().first())).run(Pace::Closed, duration)
    };
    // Whoever is loaded for the first time is slower.
    let _warmed: Seen = load(ceiling.address, Duration::from_millis(300));
    let place = Place { plan: &plan, folder: folder.path(), cores, sink: &sink };
    for round in 0..plan.rounds {
        for mode in [Mode::Single, Mode::Batches] {
            drain(place, mode, &mut figures);
        }
        let at_ceiling = load(ceiling.address, plan.whole).rate();
        for mode in [Mode::Single, Mode::Batches] {
            let seen = whole(place, (mode, at_ceiling), &load, &mut figures);
            figures.whole[mode as usize].push(seen);
        }
        println!("round {} of {}", round + 1, plan.rounds);
    }
    report(&figures, cores.is_some(), began.elapsed());
}

/// Where it is measured.
#[derive(Clone, Copy)]
struct Place<'a> {
    plan: &'a Plan,
    folder: &'a Path,
    cores: Option<Cores>,
    sink: &'a Sink,
}

/// Delivers a backlog, then has the plain client post as much.
fn drain(place: Place<'_>, mode: Mode, figures: &mut Figures) {
    let Place { plan, folder, cores, sink } = place;
    let count = if mode == Mode::Single { plan.single_records } else { plan.batch_records };
    let data_dir = folder.join("drained");
    backlog::copy(&folder.join(mode.name()), &data_dir);
    sink.reset();
    let gateway = Delivering::start(folder, mode, &data_dir, cores);
    let first = sink.wait_for(1);
    let before = Threads::of(gateway.pid());
    let last = sink.wait_for(count);
    let used = Threads::of(gateway.pid()).since(&before);
    gateway.stop();
    assert_eq!(sink.events(), count, "each record is delivered once while nothing fails");
    std::fs::remove_dir_all(&data_dir).expect("removed");
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = count as f64 / (last - first).as_secs_f64();
    let plain = client::measure(sink, &folder.join("body"), cores, plan.client);
    figures.drained[mode as usize].push((rate, plain));
    figures.drain_threads[mode as usize].add(&used);
    figures.drain_records[mode as usize] += count;
}

/// Posts for a while, while everything is delivered.
fn whole(
    place: Place<'_>,
    (mode, ceiling): (Mode, f64),
    load: &impl Fn(std::net::SocketAddr, Duration) -> Seen,
    figures: &mut Figures,
) -> Whole {
    let Place { plan, folder, cores, sink } = place;
    let data_dir = folder.join("whole");
    let gateway = Delivering::start(folder, mode, &data_dir, cores);
    load(gateway.public, plan.whole / 5);
    let warmed = sink.settle();
    let (began, before) = (Instant::now(), Threads::of(gateway.pid()));
    let seen = load(gateway.public, plan.whole);
    assert_eq!(seen.failed, 0, "every record is accepted");
    let (delivered, requests, took) =
        (sink.events() - warmed.events, sink.requests() - warmed.requests, began.elapsed());
    figures.whole_threads[mode as usize].add(&Threads::of(gateway.pid()).since(&before));
    sink.wait_for(warmed.events + seen.requests);
    gateway.stop();
    std::fs::remove_dir_all(&data_dir).expect("removed");
    #[expect(clippy::cast_precision_loss, reason = "rates")]
    Whole {
        ceiling,
        accepted: seen.rate(),
        delivered: delivered as f64 / took.as_secs_f64(),
        backlog: (seen.requests - delivered.min(seen.requests)) as f64 / seen.requests as f64,
        events_per_request: delivered as f64 / requests.max(1) as f64,
    }
}

fn report(figures: &Figures, pinned: bool, took: Duration) {
    let mut all = json!({ "pinned": pinned, "seconds": rounded(took.as_secs_f64(), 1) });
    println!(
        "\n           drained/s   plain client/s   ratio   |   accepted/s   delivered/s   backlog   ceiling/s   ratio"
    );
    for mode in [Mode::Single, Mode::Batches] {
        let (drained, whole) = (&figures.drained[mode as usize], &figures.whole[mode as usize]);
        let middle = |figure: &dyn Fn(&Whole) -> f64| median(whole.iter().map(figure));
        let drain_ratio = median(drained.iter().map(|(rate, plain)| rate / plain));
        let whole_ratio = middle(&|it| it.delivered / it.ceiling);
        println!(
            "{:10} {:>9.0} {:>16.0} {:>7.2}   | {:>12.0} {:>13.0} {:>8.1}% {:>11.0} {:>7.3}",
            mode.name(),
            median(drained.iter().map(|it| it.0)),
            median(drained.iter().map(|it| it.1)),
            drain_ratio,
            middle(&|it| it.accepted),
            middle(&|it| it.delivered),
            middle(&|it| it.backlog * 100.0),
            middle(&|it| it.ceiling),
            whole_ratio,
        );
        all[mode.name()] = json!({
            "drain_over_plain_client": rounded(drain_ratio, 3),
            "drained_per_second": median(drained.iter().map(|it| it.0)).round(),
            "plain_client_per_second": median(drained.iter().map(|it| it.1)).round(),
            "whole_over_ceiling": rounded(whole_ratio, 3),
            "accepted_per_second": middle(&|it| it.accepted).round(),
            "delivered_per_second": middle(&|it| it.delivered).round(),
            "backlog_at_the_end": rounded(middle(&|it| it.backlog), 3),
            "events_per_request": rounded(middle(&|it| it.events_per_request), 1),
            "ceiling_per_second": middle(&|it| it.ceiling).round(),
        });
    }
    for mode in [Mode::Single, Mode::Batches] {
        let (drain, whole) = (&figures.drain_threads[mode as usize], &figures.whole_threads[mode as usize]);
        println!("\n{}: processor time by thread", mode.name());
        println!(
            "  drain: {} (µs a record: {})",
            drain.shares(),
            drain.per_record(figures.drain_records[mode as usize])
        );
        println!("  whole: {}", whole.shares());
        all[mode.name()]["drain_threads"] = drain.json();
        all[mode.name()]["whole_threads"] = whole.json();
    }
    println!("\n{}", all_in_one_line(&all));
}

fn all_in_one_line(all: &Value) -> String {
    all.to_string()
}
