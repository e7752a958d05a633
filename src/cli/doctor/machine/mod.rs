//! The machine and the process: open files, memory, processors, core dumps, the user, containers.
//!
//! Where a gateway runs, its own limits are told, from `/proc`; else those that a gateway started from here would have.
//! A supervisor may give others: `LimitNOFILE` and the like of a systemd unit.

mod process;

use std::path::Path;

use self::process::Limit;
use super::finding::{Check, Finding, bytes_in_words, list_in_words};
use super::{Scene, Tell};

/// Files that are open whoever is connected: the store's, the listeners', threads' pipes.
const OWN_FILES: u64 = 128;
/// With fewer nothing works well.
const FEWEST_FILES: u64 = 256;
/// Memory that a gateway takes besides request bodies: caches, index, stacks, the allocator.
const OWN_BYTES: u64 = 192 << 20;
/// What tells of a container.
const CONTAINER_FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// What is known about the process and where it runs.
#[derive(Debug, Clone)]
struct Facts {
    /// Whose limits these are.
    whose: String,
    open_files: Option<Limit>,
    core: Option<Limit>,
    /// `kernel.core_pattern`.
    core_pattern: String,
    user: Option<u32>,
    memory_limit: Option<u64>,
    memory_total: Option<u64>,
    /// Processors' worth of time, where a quota says.
    quota: Option<f64>,
    processors: usize,
    container: Vec<String>,
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy)]
struct Needs {
    connections: u64,
    requests_out: u64,
    in_flight_bytes: u64,
}

/// Tells about the machine.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let needs = scene.config().map(|config| {
        let queues = config.effective.routing_queues.values();
        let limits = &config.process.limits;
        Needs {
            connections: 2 * limits.max_connections as u64,
            requests_out: queues.map(|queue| queue.concurrency.get() as u64).sum::<u64>() + 256,
            in_flight_bytes: limits.max_in_flight_bytes as u64,
        }
    });
    tell.all(judge(&gather(scene.running), needs));
}

/// The process of the gateway that the lock file names, if that is one that can be looked at.
pub(super) fn running_gateway(holder: &str) -> Option<u32> {
    let id: u32 = holder.strip_prefix("process ")?.split(',').next()?.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
    (name.trim() == env!("CARGO_PKG_NAME")).then_some(id)
}

/// The libraries that are loaded into the gateway, or would be, before all others.
pub(super) fn preloaded(running: Option<u32>) -> Vec<String> {
    let of_gateway = running.and_then(|id| std::fs::read(format!("/proc/{id}/environ")).ok());
    let value = match of_gateway {
        Some(environment) => environment
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(b"LD_PRELOAD="))
            .map(|value| String::from_utf8_lossy(value).into_owned()),
        None => std::env::var("LD_PRELOAD").ok(),
    };
    let everywhere = std::fs::read_to_string("/etc/ld.so.preload").unwrap_or_default();
    let texts = [value.unwrap_or_default(), everywhere];
    let names = texts.iter().flat_map(|text| text.split([':', ' ', '\n']));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn gather(running: Option<u32>) -> Facts {
    let own = Path::new("/proc/self").to_owned();
    let place = running.map(|id| Path::new("/proc").join(id.to_string())).filter(|place| place.join("limits").exists());
    let whose = match (&place, running) {
        (Some(_), Some(id)) => format!("of the running gateway, process {id}"),
        _ => "of a gateway that is started from here".to_owned(),
    };
    let place = place.unwrap_or(own);
    let read = |name: &str| std::fs::read_to_string(place.join(name)).unwrap_or_default();
    let limits = read("limits");
    let groups = process::cgroups(&read("cgroup"));
    let mut container: Vec<String> =
        CONTAINER_FILES.into_iter().filter(|file| Path::new(file).exists()).map(str::to_owned).collect();
    container.extend(std::env::var("container").ok().map(|name| format!("container={name}")));
    container.extend(std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| "KUBERNETES_SERVICE_HOST".to_owned()));
    Facts {
        whose,
        open_files: process::limit(&limits, "Max open files"),
        core: process::limit(&limits, "Max core file size"),
        core_pattern: std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default().trim().to_owned(),
        user: process::effective_user(&read("status")),
        memory_limit: groups.memory_limit(Path::new("/sys/fs/cgroup")),
        memory_total: process::memory_total(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        quota: groups.processor_quota(Path::new("/sys/fs/cgroup")),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        container,
    }
}

fn judge(facts: &Facts, needs: Option<Needs>) -> Vec<Finding> {
    vec![
        file_descriptors(facts, needs),
        memory(facts, needs),
        processors(facts),
        core_dumps(facts),
        user(facts),
        container(facts),
    ]
}

fn file_descriptors(facts: &Facts, needs: Option<Needs>) -> Finding {
    let check = Check::FileDescriptors;
    let Some(Limit { soft, hard }) = facts.open_files else {
        return Finding::note(check, "unknown", "how many connections fit cannot be told");
    };
    let shown = |number: u64| if number == u64::MAX { "unlimited".to_owned() } else { number.to_string() };
    let found = format!("{} open files ({})", shown(soft), facts.whose);
    let measured = serde_json::json!({ "soft": soft, "hard": hard });
    let needed = needs.map(|needs| needs.connections + needs.requests_out + OWN_FILES);
    let mend = |needed: u64| {
        let how = format!("set LimitNOFILE={needed} in the systemd unit, or `ulimit -n {needed}`");
        match hard < needed {
            true => format!("{how} (the hard limit is {} too), or lower limits.max_connections", shown(hard)),
            false => format!("{how}, or lower limits.max_connections"),
        }
    };
    let finding = if soft < FEWEST_FILES {
        let consequence = "connections are refused and files of the store cannot be opened: records get 503 long before any other limit";
        Finding::fault(check, found, consequence, mend(needed.unwrap_or(16_384)))
    } else if let Some(needed) = needed.filter(|needed| soft < *needed) {
        let consequence = format!(
            "the configured connections, deliveries and files can take {needed}: when they do, connections wait or fail, \
             and the store may fail to open a file"
        );
        Finding::warning(check, found, consequence, mend(needed))
    } else {
        Finding::ok(check, found)
    };
    finding.measured(measured)
}

fn memory(facts: &Facts, needs: Option<Needs>) -> Finding {
    let check = Check::Memory;
    let Some(available) = facts.memory_limit.into_iter().chain(facts.memory_total).min() else {
        return Finding::note(check, "unknown", "whether what the limits allow fits cannot be told");
    };
    let limited = facts.memory_limit.is_some_and(|limit| Some(limit) != facts.memory_total && limit == available);
    let what = if limited { "a limit of the control group" } else { "the machine's" };
    let found = format!("{} ({what})", bytes_in_words(available));
    let needed = needs.map_or(OWN_BYTES, |needs| needs.in_flight_bytes + OWN_BYTES);
    let mend = "raise the limit, or lower limits.max_in_flight_bytes";
    if available < needed {
        let consequence = format!(
            "request bodies and what a gateway needs besides can take {}: the kernel would end the process under load. \
             Nothing that was answered is lost, but everything under way is cut",
            bytes_in_words(needed)
        );
        return Finding::warning(check, found, consequence, mend);
    }
    Finding::ok(check, found)
}

fn processors(facts: &Facts) -> Finding {
    let check = Check::Processors;
    let plural = if facts.processors == 1 { "" } else { "s" };
    let found = format!("{} processor{plural}", facts.processors);
    match facts.quota.filter(|quota| *quota < facts.processors as f64) {
        Some(quota) if quota < 1.0 => {
            let found = format!("{found}, with a quota of {quota:.2}");
            let consequence =
                "the process is stopped for parts of each tenth of a second: answers and syncs wait for it";
            Finding::warning(check, found, consequence, "give it a processor or more (CPUQuota, cpu limit)")
        }
        Some(quota) => {
            let consequence = "there is a worker thread for each processor, and all of them share the quota";
            Finding::note(check, format!("{found}, with a quota of {quota:.2}"), consequence)
        }
        None => Finding::ok(check, found),
    }
}

fn core_dumps(facts: &Facts) -> Finding {
    let check = Check::CoreDumps;
    let Some(limit) = facts.core else {
        return Finding::note(check, "unknown", "a crash may write memory to the disk");
    };
    // A pattern that is a pipe leads to a program, which goes by the limit itself.
    if limit.soft == 0 || facts.core_pattern.is_empty() {
        return Finding::ok(check, "off");
    }
    let found = format!("on ({}), to `{}`", facts.whose, facts.core_pattern);
    let consequence = "a crash writes the process's memory to the disk: record details, signing secrets, keys";
    Finding::warning(check, found, consequence, "set LimitCORE=0 in the systemd unit, or `ulimit -c 0`")
}

fn user(facts: &Facts) -> Finding {
    let check = Check::User;
    match facts.user {
        Some(0) => {
            let found = format!("root ({})", facts.whose);
            let consequence = "a fault in the gateway is a fault with every right on the machine, and permissions of files are not checked";
            let mend = "make a user for it (User= in the systemd unit); it needs no right but its data directory";
            Finding::warning(check, found, consequence, mend)
        }
        Some(user) => Finding::ok(check, format!("user {user} ({})", facts.whose)),
        None => Finding::note(check, "unknown", "whether it is root cannot be told"),
    }
}

fn container(facts: &Facts) -> Finding {
    let check = Check::Container;
    if facts.container.is_empty() {
        return Finding::ok(check, "no sign of one");
    }
    let found = format!("this looks like one ({})", list_in_words(&facts.container));
    let consequence = "what is not in a volume goes with it; a lock is seen only by gateways on the same machine";
    Finding::note(check, found, consequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Severity;

    fn facts() -> Facts {
        Facts {
            whose: "of a gateway that is started from here".to_owned(),
            open_files: Some(Limit { soft: 16_384, hard: 16_384 }),
            core: Some(Limit { soft: 0, hard: u64::MAX }),
            core_pattern: "core".to_owned(),
            user: Some(1_000),
            memory_limit: None,
            memory_total: Some(8 << 30),
            quota: None,
            processors: 4,
            container: Vec::new(),
        }
    }

    const NEEDS: Needs = Needs { connections: 8_192, requests_out: 272, in_flight_bytes: 64 << 20 };

    #[test]
    fn a_good_machine_is_fine() {
        for finding in judge(&facts(), Some(NEEDS)) {
            assert_eq!(finding.severity, Severity::Ok, "{finding:?}");
        }
    }

    #[test]
    fn each_shortage_says_what_follows_and_what_to_do() {
        let files = |soft| Facts { open_files: Some(Limit { soft, hard: 4_096 }), ..facts() };
        let limited = |bytes| Facts { memory_limit: Some(bytes), ..facts() };
        let cases = [
            (files(64), Check::FileDescriptors, Severity::Fault),
            (files(1_024), Check::FileDescriptors, Severity::Warning),
            (files(u64::MAX), Check::FileDescriptors, Severity::Ok),
            (limited(100 << 20), Check::Memory, Severity::Warning),
            (limited(1 << 30), Check::Memory, Severity::Ok),
            (Facts { quota: Some(0.5), ..facts() }, Check::Processors, Severity::Warning),
            (Facts { quota: Some(2.0), ..facts() }, Check::Processors, Severity::Note),
            (
                Facts { core: Some(Limit { soft: u64::MAX, hard: u64::MAX }), ..facts() },
                Check::CoreDumps,
                Severity::Warning,
            ),
            (Facts { user: Some(0), ..facts() }, Check::User, Severity::Warning),
            (Facts { container: vec!["/.dockerenv".to_owned()], ..facts() }, Check::Container, Severity::Note),
        ];
        for (facts, check, severity) in cases {
            let findings = judge(&facts, Some(NEEDS));
            let finding = findings.iter().find(|finding| finding.check == Some(check)).expect("told");
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert_eq!(finding.mend.is_some(), severity > Severity::Note, "{finding:?}");
        }
    }

    #[test]
    fn without_a_configuration_the_figures_are_told_all_the_same() {
        let findings = judge(&Facts { open_files: Some(Limit { soft: 1_024, hard: 1_024 }), ..facts() }, None);
        assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:?}");
    }

    #[test]
    fn a_process_that_is_no_gateway_is_none() {
        assert_eq!(running_gateway(&format!("process {}, since today", std::process::id())), None);
        assert_eq!(running_gateway("one that is just starting"), None);
    }
}
