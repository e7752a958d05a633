//! Figures of the process itself, under the names that every Prometheus client library gives them. Linux says them in
//! `/proc`; where it does not, they are left out.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Looks at the process when it is asked.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What was seen.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Seen {
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
}

/// Ticks of the processor's clock in a second, as `/proc/self/stat` counts: 100 on every architecture that Rust runs
/// Linux on (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: f64 = 100.0;

impl Seen {
    fn now() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
        Self {
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            ..Self::of(&read("self/stat"), &read("self/status"), &read("self/limits"), &read("stat"))
        }
    }

    /// Reads what the kernel wrote (proc(5)).
    fn of(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The name of the program stands in parentheses and may hold anything, so what follows is counted from its end;
        // the first field behind it is the third.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<f64>().ok();
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
        };
        let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        Self {
            resident_bytes: kibibytes("VmRSS:"),
            virtual_bytes: kibibytes("VmSize:"),
            threads: field(20).map(|threads| threads as u64),
            open_fds: None,
            max_fds: limits
                .lines()
                .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()),
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            start_seconds: boot.zip(field(22)).map(|(boot, ticks)| boot + ticks / TICKS_PER_SECOND),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let seen = Seen::now();
        let bytes = [
            ("process_resident_memory", "Memory in use", seen.resident_bytes),
            ("process_virtual_memory", "Address space in use", seen.virtual_bytes),
        ];
        for (name, help, value) in bytes {
            gauge(&mut encoder, (name, help), Some(&Unit::Bytes), value.map(|value| value as f64))?;
        }
        let counts = [
            ("process_threads", "Threads", seen.threads),
            ("process_open_fds", "Open file descriptors", seen.open_fds),
            ("process_max_fds", "File descriptors that may be open", seen.max_fds),
        ];
        for (name, help, value) in counts {
            gauge(&mut encoder, (name, help), None, value.map(|value| value as f64))?;
        }
        let start = ("process_start_time", "When the process started, in seconds since 1970");
        gauge(&mut encoder, start, Some(&Unit::Seconds), seen.start_seconds)?;
        if let Some(seconds) = seen.cpu_seconds {
            let help = "Time of processors that was used";
            let cpu = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
            ConstCounter::new(seconds).encode(cpu)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    value: Option<f64>,
) -> Result<(), std::fmt::Error> {
    let Some(value) = value else { return Ok(()) };
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 17 0 12300 99 88";
        let status = "Name:\ta\nVmSize:\t   10 kB\nVmRSS:\t    7 kB\n";
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096     files\n";
        let seen = Seen::of(stat, status, limits, "cpu 1\nbtime 1000\n");
        let expected = Seen {
            resident_bytes: Some(7 * 1_024),
            virtual_bytes: Some(10 * 1_024),
            threads: Some(17),
            open_fds: None,
            max_fds: Some(1_024),
            cpu_seconds: Some(3.0),
            start_seconds: Some(1_123.0),
        };
        assert_eq!(seen, expected);
        assert_eq!(Seen::of("", "", "", ""), Seen::default(), "what is not there is left out");
    }

    #[test]
    fn this_process_is_seen() {
        let seen = Seen::now();
        assert!(seen.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{seen:?}");
        assert!(seen.open_fds.is_some_and(|open| open >= 3) && seen.max_fds >= seen.open_fds, "{seen:?}");
        let now = super::super::moment::now_seconds() as f64;
        assert!(seen.start_seconds.is_some_and(|start| start > 1e9 && start <= now + 1.0), "{seen:?}");
    }
}
