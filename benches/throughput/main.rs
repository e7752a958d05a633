//! How many records a second are accepted **and on disk**, and how long does each take? Measured against the same door
//! without a store (the ceiling), and in front of a mere append and sync (raw), in the same run.
//!
//! `cargo bench --bench throughput` takes some minutes, `-- --quick` less than one, and `-- --write` also writes
//! `docs/benchmarks/throughput.json` and `docs/benchmarks/throughput.svg`. `-- --rest SECONDS` rests before each open
//! loop, for a disk whose allowance the closed ones have used up. The last line is JSON. `docs/benchmarks.md` explains the
//! method and the figures.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark reports, and stops where it cannot run"
)]

mod chart;
mod report;
#[path = "../rig/mod.rs"]
mod rig;

use std::time::{Duration, Instant};

use report::{AtRate, Closed, Report, Single};
use rig::contestant::{self, Contestant, Kind};
use rig::figures::median;
use rig::fill::{Filler, SMALL};
use rig::load::{Loader, Measured};
use rig::machine::{self, Cores, LogWatch, SyncProbe, Used};
use rig::{place, records};

/// One warm-up of each gateway, which is not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long syncs are measured before each open loop.
const SYNCS: Duration = Duration::from_millis(150);

/// How much is measured.
struct Plan {
    prior_keys: u64,
    rounds: usize,
    round_duration: Duration,
    /// Who is loaded at how many connections, each in every round.
    closed: &'static [(Kind, usize)],
    /// At how many connections which percentages of the maximum are sent.
    open: &'static [(usize, &'static [u32])],
    open_rounds: usize,
    open_duration: Duration,
    /// One connection, and syncs, in turns.
    single_rounds: usize,
    single_duration: Duration,
}

const FULL: Plan = Plan {
    prior_keys: 1_000_000,
    rounds: 7,
    round_duration: Duration::from_secs(4),
    closed: &[
        (Kind::Ceiling, 64),
        (Kind::Durable, 64),
        (Kind::Raw, 64),
        (Kind::Ceiling, 256),
        (Kind::Durable, 256),
        (Kind::Raw, 256),
    ],
    open: &[(64, &[25, 50, 75, 100]), (256, &[25, 50, 75, 100])],
    open_rounds: 5,
    open_duration: Duration::from_secs(4),
    single_rounds: 10,
    single_duration: Duration::from_secs(1),
};

const QUICK: Plan = Plan {
    prior_keys: 100_000,
    rounds: 5,
    round_duration: Duration::from_secs(1),
    closed: &[(Kind::Ceiling, 64), (Kind::Durable, 64), (Kind::Raw, 64), (Kind::Ceiling, 256), (Kind::Durable, 256)],
    open: &[(64, &[50])],
    open_rounds: 5,
    open_duration: Duration::from_millis(1_200),
    single_rounds: 7,
    single_duration: Duration::from_millis(200),
};

fn main() {
    let asked_for = |flag: &str| std::env::args().any(|argument| argument == flag);
    let plan = if asked_for("--quick") { QUICK } else { FULL };
    let rest = std::env::args().skip_while(|argument| argument != "--rest").nth(1);
    let rest = Duration::from_secs(rest.map_or(0, |seconds| seconds.parse().expect("--rest SECONDS")));
    contestant::build();
    let began = Instant::now();
    let cores = Cores::find();
    let folder = place::folder("throughput");
    records::configure(folder.path());
    let (config, data_dir) = (folder.path().join("streamgate.toml"), folder.path().join(Kind::Durable.name()));
    let filler = Filler::open(&config, &data_dir);
    filler.append(0..plan.prior_keys, SMALL);
    filler.close();
    println!("{} keys were put in within {:.1} s", plan.prior_keys, began.elapsed().as_secs_f64());
    let contestants =
        [Kind::Ceiling, Kind::Durable, Kind::Raw].map(|kind| Contestant::start(kind, folder.path(), cores));
    if let Some(cores) = cores {
        cores.move_to_load();
    } else {
        println!("NOT PINNED: there is one core, or no taskset; gateway and load take processor time from each other");
    }
    let alone = Alone::since_now(&contestants);
    let loader = Loader::new(folder.path(), records::DETAILS_BYTES, cores.is_some());
    if loader.tool() != "wrk" {
        println!("WRK IS NOT INSTALLED: the own generator loads instead of an outside tool");
    }
    let mut report = Report::new(plan.prior_keys, cores, loader.tool());
    let log = LogWatch::start(&data_dir);
    closed_loops(&plan, &contestants, &loader, &mut report);
    let [ceiling, durable, _] = &contestants;
    report.resident_mb = machine::resident_mb(durable.pid());
    let mut probe = SyncProbe::new(folder.path());
    one_connection(&plan, (durable, &mut probe), &loader, &mut report);
    open_loops((&plan, rest), (durable, ceiling, &mut probe), &loader, &mut report);
    report.log_most_bytes = log.most_bytes();
    report.took_seconds = began.elapsed().as_secs_f64();
    report.others_cores = alone.others_cores(&contestants);
    report.print();
    if asked_for("--write") {
        report.write();
    }
    println!("{}", report.ratios());
}

/// Whether nobody else uses the machine.
struct Alone {
    began: Instant,
    others_seconds: f64,
}

impl Alone {
    fn since_now(contestants: &[Contestant; 3]) -> Self {
        Self { began: Instant::now(), others_seconds: Self::others_seconds(contestants) }
    }

    /// What nobody here has used, so far.
    fn others_seconds(contestants: &[Contestant; 3]) -> f64 {
        let gateways: f64 = contestants.iter().map(|it| Used::by(it.pid()).cpu_seconds).sum();
        machine::busy_seconds() - machine::own_seconds() - gateways
    }

    /// How many cores others kept busy since then.
    fn others_cores(&self, contestants: &[Contestant; 3]) -> f64 {
        (Self::others_seconds(contestants) - self.others_seconds) / self.began.elapsed().as_secs_f64()
    }
}

/// The most that each can do, in turns.
fn closed_loops(plan: &Plan, contestants: &[Contestant; 3], loader: &Loader, report: &mut Report) {
    let contestant = |kind| contestants.iter().find(|it| it.kind == kind).expect("everybody takes part");
    for it in contestants {
        loader.closed(it, 64, WARM_UP);
    }
    let mut order = plan.closed.to_vec();
    for round in 0..plan.rounds {
        for &(kind, connections) in &order {
            let measured = loader.closed(contestant(kind), connections, plan.round_duration);
            report.closed.push(Closed { round, kind, connections, measured });
        }
        // Another one begins each round: whoever follows the disk's pause has it easier.
        order.rotate_left(1);
        println!("round {} of {}", round + 1, plan.rounds);
    }
}

/// One connection, and what a sync takes meanwhile.
fn one_connection(plan: &Plan, (to, probe): (&Contestant, &mut SyncProbe), loader: &Loader, report: &mut Report) {
    for _ in 0..plan.single_rounds {
        let sync_us = median(probe.measure(plan.single_duration / 2));
        report.single.push(Single { measured: loader.precise(to, 1, plan.single_duration), sync_us });
    }
}

/// Latencies at parts of the maximum, each beside what a sync took just before it; at half of it also beside the
/// ceiling's at the same rate, which says how much of them is the machine's.
fn open_loops(
    (plan, rest): (&Plan, Duration),
    (to, ceiling, probe): (&Contestant, &Contestant, &mut SyncProbe),
    loader: &Loader,
    report: &mut Report,
) {
    for _ in 0..plan.open_rounds {
        for &(connections, percentages) in plan.open {
            let maximum = report.median_of(to.kind, connections, |measured: &Measured| measured.seen.rate());
            for &percent in percentages {
                let rate = maximum * f64::from(percent) / 100.0;
                std::thread::sleep(rest);
                let sync_us = median(probe.measure(SYNCS));
                let measured = loader.open(to, connections, rate, plan.open_duration);
                if (connections, percent) == (64, 50) {
                    let beside = loader.open(ceiling, connections, rate, plan.open_duration);
                    report.half_load.push((measured.seen.p99_us, beside.seen.p99_us));
                }
                report.open.push(AtRate { connections, percent, measured, sync_us });
            }
        }
    }
}
