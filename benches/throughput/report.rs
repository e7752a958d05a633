//! What was measured, as a table, as JSON and as a chart.

use std::path::Path;

use serde_json::{Value, json};

use super::chart;
use super::rig::contestant::Kind;
use super::rig::figures::{median, rounded};
use super::rig::load::Measured;
use super::rig::machine::{self, Cores};
use super::rig::records;

/// A closed loop.
pub(crate) struct Closed {
    /// Of which round.
    pub(crate) round: usize,
    /// Who was loaded.
    pub(crate) kind: Kind,
    /// By how many.
    pub(crate) connections: usize,
    /// What came of it.
    pub(crate) measured: Measured,
}

/// An open loop on the durable gateway.
pub(crate) struct AtRate {
    /// By how many.
    pub(crate) connections: usize,
    /// At which part of the maximum.
    pub(crate) percent: u32,
    /// What came of it.
    pub(crate) measured: Measured,
    /// What a sync took just before, in microseconds.
    pub(crate) sync_us: f64,
}

/// A closed loop on one connection to the durable gateway.
pub(crate) struct Single {
    /// What came of it.
    pub(crate) measured: Measured,
    /// What a sync took just before, in microseconds.
    pub(crate) sync_us: f64,
}

/// Everything.
pub(crate) struct Report {
    prior_keys: u64,
    cores: Option<Cores>,
    tool: &'static str,
    /// Closed loops.
    pub(crate) closed: Vec<Closed>,
    /// Open loops.
    pub(crate) open: Vec<AtRate>,
    /// The 99th percentile at half of the maximum with 64 connections, and the ceiling's at the same rate, in µs.
    pub(crate) half_load: Vec<(f64, f64)>,
    /// Closed loops on one connection.
    pub(crate) single: Vec<Single>,
    /// Memory of the durable gateway after the closed loops.
    pub(crate) resident_mb: f64,
    /// The most bytes that the durable gateway's write-ahead logs took up, over all loops.
    pub(crate) log_most_bytes: u64,
    /// How long everything took.
    pub(crate) took_seconds: f64,
    /// How many cores others kept busy meanwhile.
    pub(crate) others_cores: f64,
}

/// A figure as it stands in a table.
fn cell(figure: &Value) -> String {
    figure.to_string().trim_end_matches(".0").to_owned()
}

impl Report {
    /// An empty one.
    pub(crate) const fn new(prior_keys: u64, cores: Option<Cores>, tool: &'static str) -> Self {
        Self {
            prior_keys,
            cores,
            tool,
            closed: Vec::new(),
            open: Vec::new(),
            half_load: Vec::new(),
            single: Vec::new(),
            resident_mb: 0.0,
            log_most_bytes: 0,
            took_seconds: 0.0,
            others_cores: 0.0,
        }
    }

    fn closed_of(&self, kind: Kind, connections: usize) -> impl Iterator<Item = &Closed> {
        self.closed.iter().filter(move |it| it.kind == kind && it.connections == connections)
    }

    /// The median over the rounds of a figure of closed loops.
    pub(crate) fn median_of(&self, kind: Kind, connections: usize, figure: impl Fn(&Measured) -> f64) -> f64 {
        median(self.closed_of(kind, connections).map(|it| figure(&it.measured)))
    }

    /// The median over the rounds of the durable gateway's rate by that of another in the same round.
    fn over(&self, other: Kind, connections: usize) -> f64 {
        let rate = |it: &Closed| it.measured.seen.rate();
        median(self.closed_of(Kind::Durable, connections).flat_map(|durable| {
            let others = self.closed_of(other, connections).filter(|it| it.round == durable.round);
            others.map(move |it| rate(durable) / rate(it))
        }))
    }

    fn open_median(&self, connections: usize, percent: u32, figure: impl Fn(&Measured) -> f64) -> f64 {
        let such = self.open.iter().filter(|it| it.connections == connections && it.percent == percent);
        median(such.map(|it| figure(&it.measured)))
    }

    /// Bytes that the durable gateway had written for a record, over all closed loops: what a round leaves to be folded
    /// in is paid for in a later one.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn bytes_per_record(&self) -> f64 {
        let durable = || self.closed.iter().filter(|it| it.kind == Kind::Durable).map(|it| it.measured);
        let written: u64 = durable().map(|it| it.used.written_bytes).sum();
        let records: u64 = durable().map(|it| it.seen.requests).sum();
        written as f64 / records as f64
    }

    /// The median over the rounds of p99 at half of the maximum by what a sync took just before.
    fn p99_over_sync_half_load(&self) -> f64 {
        let such = self.open.iter().filter(|it| it.connections == 64 && it.percent == 50);
        median(such.map(|it| it.measured.seen.p99_us / it.sync_us))
    }

    /// In megabytes.
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    fn log_most_mb(&self) -> f64 {
        self.log_most_bytes as f64 / 1e6
    }

    fn sync_us(&self) -> f64 {
        median(self.single.iter().map(|it| it.sync_us))
    }

    fn single_p50_us(&self) -> f64 {
        median(self.single.iter().map(|it| it.measured.seen.p50_us))
    }

    /// The median over the rounds of p50 on one connection by what a sync took just before.
    fn single_p50_over_sync(&self) -> f64 {
        median(self.single.iter().map(|it| it.measured.seen.p50_us / it.sync_us))
    }

    /// The figures that targets are set for. Without a number behind it, a figure is of 64 connections.
    pub(crate) fn ratios(&self) -> Value {
        let durable = |figure: &dyn Fn(&Measured) -> f64| self.median_of(Kind::Durable, 64, figure);
        json!({
            "durable_over_ceiling": rounded(self.over(Kind::Ceiling, 64), 3),
            "durable_over_ceiling_256": rounded(self.over(Kind::Ceiling, 256), 3),
            "durable_over_raw": rounded(self.over(Kind::Raw, 64), 3),
            "durable_per_second": durable(&|it| it.seen.rate()).round(),
            "ceiling_p99_ms_half_load": rounded(median(self.half_load.iter().map(|it| it.1 / 1e3)), 2),
            "p99_half_load_over_ceiling": rounded(median(self.half_load.iter().map(|it| it.0 / it.1)), 2),
            "p99_ms_half_load": rounded(self.open_median(64, 50, |it| it.seen.p99_us / 1e3), 2),
            "p99_over_fsync_half_load": rounded(self.p99_over_sync_half_load(), 1),
            "p50_one_connection_us": self.single_p50_us().round(),
            "p50_one_connection_over_fsync": rounded(self.single_p50_over_sync(), 2),
            "fsync_us": self.sync_us().round(),
            "p999_ms": rounded(durable(&|it| it.seen.p999_us / 1e3), 2),
            "cpu_us_per_request": rounded(durable(&Measured::cpu_us_per_request), 1),
            "bytes_per_record": self.bytes_per_record().round(),
            "rss_mb": self.resident_mb.round(),
            "log_most_mb": rounded(self.log_most_mb(), 1),
            "prior_keys": self.prior_keys,
            "pinned": self.cores.is_some(),
            "tool": self.tool,
            "others_cores": rounded(self.others_cores, 2),
            "rounds": self.closed.iter().map(|it| it.round + 1).max(),
            "seconds": rounded(self.took_seconds, 1),
        })
    }

    /// The rows of the table of closed loops.
    fn closed_rows(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        for connections in [64, 256] {
            for kind in [Kind::Ceiling, Kind::Durable, Kind::Raw] {
                let rounds = self.closed_of(kind, connections).count();
                if rounds == 0 {
                    continue;
                }
                let middle = |figure: &dyn Fn(&Measured) -> f64| self.median_of(kind, connections, figure);
                let rates = || self.closed_of(kind, connections).map(|it| it.measured.seen.rate());
                rows.push(json!({
                    "engine": kind.name(),
                    "connections": connections,
                    "rounds": rounds,
                    "per_second": middle(&|it| it.seen.rate()).round(),
                    "per_second_lowest": rates().fold(f64::INFINITY, f64::min).round(),
                    "per_second_highest": rates().fold(0.0, f64::max).round(),
                    "p50_ms": rounded(middle(&|it| it.seen.p50_us / 1e3), 2),
                    "p99_ms": rounded(middle(&|it| it.seen.p99_us / 1e3), 2),
                    "p999_ms": rounded(middle(&|it| it.seen.p999_us / 1e3), 2),
                    "cpu_us_per_request": rounded(middle(&Measured::cpu_us_per_request), 1),
                    "cores_busy": rounded(middle(&Measured::busy), 2),
                }));
            }
        }
        rows
    }

    /// The rows of the table of open loops.
    fn open_rows(&self) -> Vec<Value> {
        let mut kinds: Vec<_> = self.open.iter().map(|it| (it.connections, it.percent)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let row = |(connections, percent)| {
            let middle = |figure: &dyn Fn(&Measured) -> f64| self.open_median(connections, percent, figure);
            json!({
                "connections": connections,
                "percent": percent,
                "per_second": middle(&|it| it.seen.rate()).round(),
                "p50_ms": rounded(middle(&|it| it.seen.p50_us / 1e3), 2),
                "p99_ms": rounded(middle(&|it| it.seen.p99_us / 1e3), 2),
                "p999_ms": rounded(middle(&|it| it.seen.p999_us / 1e3), 2),
                "cores_busy": rounded(middle(&Measured::busy), 2),
            })
        };
        kinds.into_iter().map(row).collect()
    }

    /// For people.
    pub(crate) fn print(&self) {
        println!("\nThe most that they can do (medians):");
        println!("  engine   conns   requests/s  (lowest–highest)   p50 ms   p99 ms p99.9 ms   CPU µs   cores");
        for row in self.closed_rows() {
            println!(
                "  {:8} {:>5} {:>12} ({:>6}–{:>6}) {:>11} {:>8} {:>8} {:>8} {:>7}",
                row["engine"].as_str().unwrap_or_default(),
                cell(&row["connections"]),
                cell(&row["per_second"]),
                cell(&row["per_second_lowest"]),
                cell(&row["per_second_highest"]),
                cell(&row["p50_ms"]),
                cell(&row["p99_ms"]),
                cell(&row["p999_ms"]),
                cell(&row["cpu_us_per_request"]),
                cell(&row["cores_busy"]),
            );
        }
        println!("\nDurable at parts of its maximum, latency from the intended send on (medians):");
        println!("  conns   load   answered/s   p50 ms   p99 ms p99.9 ms   cores");
        for row in self.open_rows() {
            println!(
                "  {:>5} {:>5}% {:>12} {:>8} {:>8} {:>8} {:>7}",
                cell(&row["connections"]),
                cell(&row["percent"]),
                cell(&row["per_second"]),
                cell(&row["p50_ms"]),
                cell(&row["p99_ms"]),
                cell(&row["p999_ms"]),
                cell(&row["cores_busy"]),
            );
        }
        println!(
            "At half load the ceiling's p99 at the same rate is {:.2} ms: the machine's own pauses",
            median(self.half_load.iter().map(|it| it.1 / 1e3))
        );
        println!(
            "\nOne connection: p50 {:.0} µs; a sync of one block {:.0} µs (medians of {} rounds)",
            self.single_p50_us(),
            self.sync_us(),
            self.single.len()
        );
        println!(
            "Written: {:.0} bytes per record; memory {:.0} MB; the write-ahead logs took up at most {:.1} MB",
            self.bytes_per_record(),
            self.resident_mb,
            self.log_most_mb()
        );
        if self.sync_us() < 30.0 {
            println!("A SYNC TOOK NO TIME: this is memory, or a disk that does not wait; nothing here is durable");
        }
        if self.others_cores > 0.1 {
            println!(
                "NOT ALONE: others kept {:.2} cores busy; trust the ratios, and rather repeat it",
                self.others_cores
            );
        }
        println!();
    }

    /// For the documentation.
    pub(crate) fn write(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
        std::fs::create_dir_all(&folder).expect("a folder");
        let (closed, open) = (self.closed_rows(), self.open_rows());
        let everything = json!({
            "machine": machine::description(),
            "entity_configurations": records::ENTITIES,
            "figures": self.ratios(),
            "closed_loops": closed,
            "open_loops": open,
            "one_connection_p50_us": rounded(self.single_p50_us(), 1),
            "fsync_us": rounded(self.sync_us(), 1),
        });
        let text = serde_json::to_string_pretty(&everything).expect("JSON");
        std::fs::write(folder.join("throughput.json"), format!("{text}\n")).expect("written");
        std::fs::write(folder.join("throughput.svg"), chart::draw(&closed, &open)).expect("written");
    }
}
