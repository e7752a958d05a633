//! What `/proc` and `/sys/fs/cgroup` say about a process (proc(5), cgroups(7)).

use std::path::{Path, PathBuf};

/// A limit that is larger than any machine is none: version 1 of control groups has no word for it.
const NO_LIMIT: u64 = 1 << 60;

/// A resource limit; `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// The limit of this name in `/proc/PID/limits`.
pub(super) fn limit(limits: &str, name: &str) -> Option<Limit> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut numbers = rest.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some(Limit { soft: numbers.next()??, hard: numbers.next()?? })
}

/// The effective user ID in `/proc/PID/status`.
pub(super) fn effective_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// All memory of the machine, in bytes, in `/proc/meminfo`.
pub(super) fn memory_total(meminfo: &str) -> Option<u64> {
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kibibytes.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// The control groups of a process, by where they are under `/sys/fs/cgroup`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    unified: Option<String>,
    memory: Option<String>,
    processors: Option<(String, String)>,
}

/// Reads `/proc/PID/cgroup`.
pub(super) fn cgroups(text: &str) -> Groups {
    let mut groups = Groups::default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            groups.unified = Some(path.to_owned());
        }
        for controller in controllers.split(',') {
            match controller {
                "memory" => groups.memory = Some(path.to_owned()),
                "cpu" => groups.processors = Some((controllers.to_owned(), path.to_owned())),
                _ => {}
            }
        }
    }
    groups
}

/// A folder and those above it, up to the root of the control groups. A limit of each of them counts. Within a container
/// the path may be one of the host's, which is not there; then the root says what counts.
fn upwards(root: &Path, path: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative.ancestors().map(|above| root.join(above)).filter(|folder| folder.is_dir()).collect()
}

impl Groups {
    /// The smallest memory limit that counts, in bytes; `None` where there is none.
    pub(super) fn memory_limit(&self, root: &Path) -> Option<u64> {
        let number = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let unified = self.unified.iter().flat_map(|path| upwards(root, path)).map(|folder| folder.join("memory.max"));
        let memory = self.memory.iter().flat_map(|path| upwards(&root.join("memory"), path));
        let memory = memory.map(|folder| folder.join("memory.limit_in_bytes"));
        unified.chain(memory).filter_map(number).filter(|limit| *limit < NO_LIMIT).min()
    }

    /// The smallest quota of processor time that counts, in processors; `None` where there is none.
    pub(super) fn processor_quota(&self, root: &Path) -> Option<f64> {
        let unified = self.unified.iter().flat_map(|path| upwards(root, path));
        let unified = unified.filter_map(|folder| {
            let text = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            share(quota, period)
        });
        let older = self.processors.iter().flat_map(|(controllers, path)| {
            let named =
                [controllers.as_str(), "cpu"].into_iter().map(|name| root.join(name)).find(|root| root.is_dir());
            named.map(|root| upwards(&root, path)).unwrap_or_default()
        });
        let older = older.filter_map(|folder| {
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
            share(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
        });
        unified.chain(older).min_by(f64::total_cmp)
    }
}

/// Processors that a quota is worth; `max` and -1 are none.
fn share(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max core file size        0                    unlimited            bytes     \n\
        Max open files            1024                 1048576              files     \n";

    #[test]
    fn limits_and_users_are_read() {
        assert_eq!(limit(LIMITS, "Max open files"), Some(Limit { soft: 1_024, hard: 1_048_576 }));
        assert_eq!(limit(LIMITS, "Max core file size"), Some(Limit { soft: 0, hard: u64::MAX }));
        assert_eq!(limit(LIMITS, "Max nonsense"), None);
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t33\t33\t33\n"), Some(33));
        assert_eq!(memory_total("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16_384));
    }

    #[test]
    fn the_tightest_limit_of_the_unified_groups_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("system.slice/streamgate.service");
        std::fs::create_dir_all(&inner).expect("made");
        let write = |folder: &Path, name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
        write(&inner, "memory.max", "max\n");
        write(&inner, "cpu.max", "max 100000\n");
        write(&root.path().join("system.slice"), "memory.max", "536870912\n");
        write(&root.path().join("system.slice"), "cpu.max", "50000 100000\n");
        let groups = cgroups("0::/system.slice/streamgate.service\n");
        assert_eq!(groups.memory_limit(root.path()), Some(512 << 20));
        assert_eq!(groups.processor_quota(root.path()), Some(0.5));
        let elsewhere = cgroups("0::/system.slice/not-there\n");
        assert_eq!(elsewhere.memory_limit(root.path()), Some(512 << 20), "the folders that are there count");
    }

    #[test]
    fn older_control_groups_are_read_too() {
        let root = tempfile::tempdir().expect("a folder");
        let memory = root.path().join("memory/docker/x");
        let processors = root.path().join("cpu,cpuacct/docker/x");
        std::fs::create_dir_all(&memory).expect("made");
        std::fs::create_dir_all(&processors).expect("made");
        std::fs::write(memory.join("memory.limit_in_bytes"), "1048576\n").expect("written");
        std::fs::write(root.path().join("memory/memory.limit_in_bytes"), "9223372036854771712\n").expect("written");
        std::fs::write(processors.join("cpu.cfs_quota_us"), "200000\n").expect("written");
        std::fs::write(processors.join("cpu.cfs_period_us"), "100000\n").expect("written");
        let groups = cgroups("4:memory:/docker/x\n1:cpu,cpuacct:/docker/x\nnonsense\n");
        assert_eq!(groups.memory_limit(root.path()), Some(1 << 20));
        assert_eq!(groups.processor_quota(root.path()), Some(2.0));
        assert_eq!(cgroups("4:memory:/elsewhere\n").memory_limit(root.path()), None);
    }
}
