//! Running groups of checks beside each other, each with a deadline of its own.
//!
//! A check that hangs (a network file system whose server is gone, a host that swallows packets) must not keep the others
//! from being told. Its thread is left behind; the process ends without it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::finding::{Finding, Group, Severity};

/// Where a group tells what it finds, as it finds it.
#[derive(Debug)]
pub(super) struct Tell(Sender<Finding>);

impl Tell {
    pub(super) fn one(&self, finding: Finding) {
        // Where nobody listens any more, the deadline has passed and that was said.
        let _told = self.0.send(finding);
    }

    pub(super) fn all(&self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.one(finding));
    }
}

/// A group that is to be looked at.
pub(super) struct Round {
    pub(super) group: Group,
    pub(super) deadline: Duration,
    pub(super) work: Box<dyn FnOnce(&Tell) + Send>,
}

struct Running {
    group: Group,
    begun: Instant,
    deadline: Duration,
    told: Receiver<Finding>,
    thread: JoinHandle<()>,
}

/// Runs all of them at once, and brings together what they find, in their order.
pub(super) fn run(rounds: Vec<Round>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut running = Vec::new();
    for Round { group, deadline, work } in rounds {
        let (sender, told) = mpsc::channel();
        let tell = Tell(sender);
        match std::thread::Builder::new().name(format!("doctor-{}", group.name())).spawn(move || work(&tell)) {
            Ok(thread) => running.push(Running { group, begun: Instant::now(), deadline, told, thread }),
            Err(fault) => findings.push(not_begun(group, &fault)),
        }
    }
    findings.extend(running.into_iter().flat_map(collected));
    findings
}

/// What one group has found, until it ends or its deadline passes.
fn collected(running: Running) -> Vec<Finding> {
    let Running { group, begun, deadline, told, thread } = running;
    let mut findings = Vec::new();
    loop {
        match told.recv_timeout(deadline.saturating_sub(begun.elapsed())) {
            Ok(finding) => findings.push(finding),
            Err(RecvTimeoutError::Timeout) => {
                findings.push(stuck(group, deadline));
                return findings;
            }
            Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    findings.push(panicked(group));
                }
                return findings;
            }
        }
    }
}

/// What this comes to, if it does in time.
pub(super) fn within<T: Send + 'static>(deadline: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, done) = mpsc::channel();
    let begun = std::thread::Builder::new().spawn(move || {
        let _waited_for = sender.send(work());
    });
    begun.ok().and_then(|_left_behind| done.recv_timeout(deadline).ok())
}

fn stuck(group: Group, deadline: Duration) -> Finding {
    let found = format!("did not come to an end within {} s", deadline.as_secs());
    let consequence = "something that it asks does not answer: a disk, a file system or the network; the gateway would wait for it too";
    let mend = "look at what is not told above; with --skip the rest can be looked at, --timeout gives it longer";
    Finding::of_group(group, Severity::Fault, [&found, consequence, mend])
}

fn panicked(group: Group) -> Finding {
    let words = ["ended with a fault of its own", "what is not told above was not looked at", "report this as a fault"];
    Finding::of_group(group, Severity::Fault, words)
}

fn not_begun(group: Group, fault: &std::io::Error) -> Finding {
    let found = format!("could not be looked at: no thread can be started ({fault})");
    let consequence = "a gateway needs threads too, and would not start";
    Finding::of_group(group, Severity::Fault, [&found, consequence, "raise the limit of processes (ulimit -u)"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Check;

    const LONG: Duration = Duration::from_secs(60);

    fn round(group: Group, deadline: Duration, work: impl FnOnce(&Tell) + Send + 'static) -> Round {
        Round { group, deadline, work: Box::new(work) }
    }

    #[test]
    fn a_stuck_group_is_told_with_what_it_had_found_and_stops_nobody() {
        let (_held, never) = mpsc::channel::<()>();
        let stuck = round(Group::Disk, Duration::ZERO, move |tell| {
            tell.one(Finding::ok(Check::FileSystem, "ext4"));
            let _never = never.recv();
        });
        let fine = round(Group::Clock, LONG, |tell| tell.one(Finding::ok(Check::WallClock, "fine")));
        let told = run(vec![stuck, fine]);
        let of = |group: Group| told.iter().filter(move |finding| finding.group == group);
        let last = of(Group::Disk).next_back().expect("told");
        assert_eq!((last.severity, last.check), (Severity::Fault, None));
        assert!(last.found.contains("did not come to an end") && last.mend.is_some(), "{last:?}");
        assert_eq!(of(Group::Clock).count(), 1);
    }

    #[test]
    fn a_panic_is_a_finding_and_not_the_end() {
        let told = run(vec![round(Group::Disk, LONG, |_| panic!("on purpose"))]);
        assert_eq!(told.len(), 1);
        assert!(told.iter().all(|finding| finding.severity == Severity::Fault), "{told:?}");
    }

    #[test]
    fn within_gives_up() {
        assert_eq!(within(LONG, || 1), Some(1));
        let (_held, never) = mpsc::channel::<()>();
        assert!(within(Duration::ZERO, move || never.recv()).is_none());
    }
}
