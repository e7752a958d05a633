//! Which threads of a process used the processor: who to blame.

use std::collections::BTreeMap;

use serde_json::Value;

/// The kernel counts in hundredths of a second, on every machine that Rust's standard library runs on.
const MICROSECONDS_PER_TICK: u64 = 10_000;

/// Microseconds of processor time by the name of the thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads(BTreeMap<String, u64>);

impl Threads {
    /// What the threads of a process have used so far.
    pub(crate) fn of(pid: u32) -> Self {
        let mut used = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
            // The second field is the name in parentheses, which may hold anything.
            let Some((head, fields)) = stat.rsplit_once(')') else { continue };
            let name = head.split_once('(').map_or(head, |(_, name)| name);
            let ticks: u64 =
                fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
            *used.entry(name.to_owned()).or_default() += ticks * MICROSECONDS_PER_TICK;
        }
        Self(used)
    }

    /// What was used since then.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        for (name, used) in &mut self.0 {
            *used = used.saturating_sub(before.0.get(name).copied().unwrap_or(0));
        }
        self
    }

    /// Adds another measurement.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, used) in &other.0 {
            *self.0.entry(name.clone()).or_default() += used;
        }
    }

    fn sorted(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.0.iter().map(|(name, used)| (name.as_str(), *used)).collect();
        all.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        all.retain(|(_, used)| *used > 0);
        all
    }

    /// Each thread's part of the whole, the largest first.
    pub(crate) fn shares(&self) -> String {
        let total: u64 = self.0.values().sum::<u64>().max(1);
        let share = |(name, used): (&str, u64)| format!("{name} {} %", used * 100 / total);
        self.sorted().into_iter().map(share).collect::<Vec<_>>().join(", ")
    }

    /// Microseconds of each thread for one of so many records, in tenths.
    pub(crate) fn per_record(&self, records: u64) -> String {
        let each = |(name, used): (&str, u64)| {
            let tenths = used * 10 / records.max(1);
            format!("{name} {}.{}", tenths / 10, tenths % 10)
        };
        self.sorted().into_iter().map(each).collect::<Vec<_>>().join(", ")
    }

    /// Seconds by thread.
    pub(crate) fn json(&self) -> Value {
        self.sorted()
            .into_iter()
            .map(|(name, used)| (name.to_owned(), Value::from(used / 1_000)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}
