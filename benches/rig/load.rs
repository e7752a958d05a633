//! The load: wrk for the most that a closed loop can get, and a generator of our own for latencies at a given rate.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::contestant::Contestant;
use super::generator::{Generator, Pace};
use super::machine::Used;
use super::records::{Run, Template, write_templates};

/// What a load saw.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Seen {
    /// Answers.
    pub(crate) requests: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What was not answered with success.
    pub(crate) failed: u64,
    /// The latency of half of them.
    pub(crate) p50_us: f64,
    /// Of 99 in 100.
    pub(crate) p99_us: f64,
    /// Of 999 in 1,000.
    pub(crate) p999_us: f64,
}

impl Seen {
    /// Requests a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// What a load saw, and what it cost the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Seen from outside.
    pub(crate) seen: Seen,
    /// Used by the gateway.
    pub(crate) used: Used,
}

impl Measured {
    /// Microseconds of processor time that a request took.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn cpu_us_per_request(&self) -> f64 {
        self.used.cpu_seconds * 1e6 / self.seen.requests as f64
    }

    /// How much of a core the gateway used.
    pub(crate) fn busy(&self) -> f64 {
        self.used.cpu_seconds / self.seen.seconds
    }
}

/// Makes loads.
pub(crate) struct Loader {
    templates: Vec<Template>,
    /// What wrk reads; `None` where wrk is not installed.
    wrk: Option<PathBuf>,
    /// Whether nobody else needs the core that the load runs on.
    has_a_core: bool,
}

impl Loader {
    /// Records with details of this size. Writes what wrk needs into this folder.
    pub(crate) fn new(folder: &Path, details_bytes: usize, has_a_core: bool) -> Self {
        let templates = Template::all(details_bytes);
        let found = Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        let wrk = found.then(|| folder.join(format!("requests-{details_bytes}")));
        if let Some(file) = &wrk {
            write_templates(&templates, file);
        }
        Self { templates, wrk, has_a_core }
    }

    /// What makes the closed loops.
    pub(crate) const fn tool(&self) -> &'static str {
        if self.wrk.is_some() { "wrk" } else { "own" }
    }

    /// As many requests as so many connections can get, each sent after the answer to the one before. The outside tool
    /// counts in whole seconds, so anything else is the own generator's.
    pub(crate) fn closed(&self, to: &Contestant, connections: usize, duration: Duration) -> Measured {
        let run = Run::next();
        let before = Used::by(to.pid());
        let seen = match &self.wrk {
            Some(requests) if duration.subsec_nanos() == 0 => wrk(to, connections, duration.as_secs(), (requests, run)),
            Some(_) | None => self.generate(to, connections, Pace::Closed, (run, duration)),
        };
        checked(to, Measured { seen, used: Used::by(to.pid()).since(before) })
    }

    /// A closed loop in the middle of which the gateway is killed.
    pub(crate) fn until_killed(&self, to: &Contestant, connections: usize, after: Duration) {
        let run = Run::next();
        let seen = std::thread::scope(|scope| {
            let loaded = scope.spawn(|| self.generate(to, connections, Pace::Closed, (run, after * 100)));
            let began = Instant::now();
            // It may be woken early.
            while let Some(left) = after.checked_sub(began.elapsed()) {
                std::thread::park_timeout(left);
            }
            to.kill();
            loaded.join().expect("the load")
        });
        assert!(seen.requests > seen.failed, "it was killed before it had answered anything");
    }

    /// The same by the own generator, which tells microseconds apart.
    pub(crate) fn precise(&self, to: &Contestant, connections: usize, duration: Duration) -> Measured {
        self.paced(to, connections, Pace::Closed, duration)
    }

    /// So many requests a second, whatever becomes of them; latency counts from when each should have been sent.
    pub(crate) fn open(&self, to: &Contestant, connections: usize, rate: f64, duration: Duration) -> Measured {
        self.paced(to, connections, Pace::Open { per_second: rate }, duration)
    }

    fn paced(&self, to: &Contestant, connections: usize, pace: Pace, duration: Duration) -> Measured {
        let run = Run::next();
        let before = Used::by(to.pid());
        let seen = self.generate(to, connections, pace, (run, duration));
        checked(to, Measured { seen, used: Used::by(to.pid()).since(before) })
    }

    fn generate(&self, to: &Contestant, connections: usize, pace: Pace, (run, duration): (Run, Duration)) -> Seen {
        Generator::connect(to.address, connections, (&self.templates, run.first()))
            .on_a_core_of_its_own(self.has_a_core)
            .run(pace, duration)
    }
}

/// A load in which something was refused measures something else.
fn checked(to: &Contestant, measured: Measured) -> Measured {
    let Seen { requests, failed, .. } = measured.seen;
    assert!(failed == 0 && requests > 0, "{}: {failed} of {requests} requests failed", to.kind.name());
    measured
}

fn wrk(to: &Contestant, connections: usize, seconds: u64, (requests, run): (&Path, Run)) -> Seen {
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/rig/wrk.lua"))
        .arg(format!("http://{}", to.address))
        .arg("--")
        .arg(requests)
        .arg(run.prefix())
        .stderr(Stdio::inherit())
        .output()
        .expect("wrk runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|fault| panic!("wrk said something else ({fault}):\n{said}"))
}
