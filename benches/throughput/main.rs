//! How many records a second are accepted **and on disk**, and how long does each take? Measured against the same door
//! without a store (the ceiling), and in front of a mere append and sync (raw), in the same run.
//!
//! `cargo bench --bench throughput` takes some minutes, `-- --quick` less than one, and `-- --write` also writes
//! `docs/benchmarks/throughput.json` and `docs/benchmarks/throughput.svg`. The last line is JSON. `docs/benchmarks.md`
//! explains the method and the figures.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark reports, and stops where it cannot run"
)]

mod chart;
mod contestant;
mod generator;
mod load;
mod machine;
mod records;
mod report;

use std::time::{Duration, Instant};

use contestant::{Contestant, Kind};
use load::{Loader, Measured};
use machine::{Cores, SyncProbe, Used};
use report::{AtRate, Closed, Report};

/// How much is measured.
struct Plan {
    prior_keys: u64,
    rounds: usize,
    round_seconds: u64,
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
    round_seconds: 4,
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
    prior_keys: 200_000,
    rounds: 5,
    round_seconds: 1,
    closed: &[(Kind::Ceiling, 64), (Kind::Durable, 64), (Kind::Raw, 64), (Kind::Ceiling, 256), (Kind::Durable, 256)],
    open: &[(64, &[50])],
    open_rounds: 5,
    open_duration: Duration::from_millis(1_200),
    single_rounds: 4,
    single_duration: Duration::from_millis(300),
};

fn main() {
    let asked_for = |flag: &str| std::env::args().any(|argument| argument == flag);
    let plan = if asked_for("--quick") { QUICK } else { FULL };
    contestant::build();
    let began = Instant::now();
    let cores = Cores::find();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    records::configure(folder.path());
    let durable = folder.path().join(Kind::Durable.name());
    records::fill(&folder.path().join("streamgate.toml"), &durable, plan.prior_keys);
    println!("{} keys were put in within {:.1} s", plan.prior_keys, began.elapsed().as_secs_f64());
    let contestants =
        [Kind::Ceiling, Kind::Durable, Kind::Raw].map(|kind| Contestant::start(kind, folder.path(), cores));
    if let Some(cores) = cores {
        cores.move_to_load();
    } else {
        println!("NOT PINNED: there is one core, or no taskset; gateway and load take processor time from each other");
    }
    let alone = Alone::since_now(&contestants);
    let mut loader = Loader::new(folder.path(), cores.is_some());
    if loader.tool() != "wrk" {
        println!("WRK IS NOT INSTALLED: the own generator loads instead of an outside tool");
    }
    let mut report = Report::new(plan.prior_keys, cores, loader.tool());
    closed_loops(&plan, &contestants, &mut loader, &mut report);
    let [_, durable, _] = &contestants;
    report.resident_mb = machine::resident_mb(durable.pid());
    one_connection(&plan, (durable, &mut SyncProbe::new(folder.path())), &mut loader, &mut report);
    open_loops(&plan, durable, &mut loader, &mut report);
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
fn closed_loops(plan: &Plan, contestants: &[Contestant; 3], loader: &mut Loader, report: &mut Report) {
    let contestant = |kind| contestants.iter().find(|it| it.kind == kind).expect("everybody takes part");
    for it in contestants {
        loader.closed(it, 64, 1);
    }
    let mut order = plan.closed.to_vec();
    for round in 0..plan.rounds {
        for &(kind, connections) in &order {
            let measured = loader.closed(contestant(kind), connections, plan.round_seconds);
            report.closed.push(Closed { round, kind, connections, measured });
        }
        // Another one begins each round: whoever follows the disk's pause has it easier.
        order.rotate_left(1);
        println!("round {} of {}", round + 1, plan.rounds);
    }
}

/// One connection, and what a sync takes meanwhile.
fn one_connection(plan: &Plan, (to, probe): (&Contestant, &mut SyncProbe), loader: &mut Loader, report: &mut Report) {
    for _ in 0..plan.single_rounds {
        report.syncs_us.extend(probe.measure(plan.single_duration / 2));
        report.single.push(loader.precise(to, 1, plan.single_duration));
    }
}

/// Latencies at parts of the maximum.
fn open_loops(plan: &Plan, to: &Contestant, loader: &mut Loader, report: &mut Report) {
    for _ in 0..plan.open_rounds {
        for &(connections, percentages) in plan.open {
            let maximum = report.median_of(to.kind, connections, |measured: &Measured| measured.seen.rate());
            for &percent in percentages {
                let rate = maximum * f64::from(percent) / 100.0;
                let measured = loader.open(to, connections, rate, plan.open_duration);
                report.open.push(AtRate { connections, percent, measured });
            }
        }
    }
}
