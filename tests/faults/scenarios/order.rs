//! The promise itself, call by call: the sync that covers a record has returned before the first byte of its 202 is sent.
//!
//! One client posts records one after the other while strace writes down what the gateway asks of the system. Between the
//! write of a record to the log and the write of its 202 to the socket there must be a sync of the log that began after the
//! first and had returned, with success, before the second.

use crate::Fallible;
use crate::client::Client;
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::trace::{Call, calls, through};
use crate::world::{Configuration, Tenant, World, record};

pub(crate) const ALL: &[Scenario] = &[Scenario {
    id: "P1",
    what: "the order of system calls: write, sync, 202",
    required: "each 202 is sent after the sync of its record has returned",
    needs: &[Need::Strace],
    how: How::Run(order),
}];

const TRACED: &str = "fdatasync,fsync,pwrite64,read,recvfrom,readv,write,writev,sendto,sendmsg";

fn order(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let records = run.times(40, 400);
    let world = World::new(run, &Configuration::default())?;
    let (answers, early) = observe(&world, records, None)?;
    findings.runs = answers;
    findings.figure(format!("{answers} answers, {early} sent before their sync"));
    findings.require(answers == records, || format!("{records} records got {answers} answers in the trace"));
    findings.require(early == 0, || format!("{early} of {answers} answers were sent before their sync"));

    let world = World::new(run, &Configuration::default())?.with_binary(Run::control_binary());
    let (answers, early) = observe(&world, 10, Some("acknowledge-before-commit"))?;
    findings.control(format!("acknowledging before the commit: {early} of {answers} answers too early"), early > 0);
    Ok(findings)
}

/// Posts records and looks at the order. Answers how many 202s there were, and how many of them came too early.
fn observe(world: &World, records: usize, fault: Option<&str>) -> Fallible<(usize, usize)> {
    let log = world.folder.join("calls");
    let mut start = world.start().through(through(&log, TRACED, &[], None));
    if let Some(name) = fault {
        start = start.fault(name);
    }
    let gateway = start.up()?;
    let mut client = Client::patient(gateway.public);
    for _ in 0..records {
        let answer = client.post(&record(Tenant::Contoso, world.number(), 0))?;
        if answer.status != 202 {
            return Err(format!("a record was answered with {}", answer.status).into());
        }
    }
    gateway.kill()?;
    let text = std::fs::read_to_string(&log)?;
    Ok(judge(&calls(&text)))
}

/// What happens to the log, and what leaves, in the order in which it happened.
enum Step {
    Asked,
    Written,
    SyncBegan(usize),
    Synced(usize),
    Answered,
}

fn judge(calls: &[Call]) -> (usize, usize) {
    let mut steps = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let first_argument = call.text.split(',').next().unwrap_or_default();
        let to_log = first_argument.contains("records.db-wal>");
        let is_sync = matches!(call.name.as_str(), "fdatasync" | "fsync");
        if to_log && is_sync {
            steps.push((call.began_at, Step::SyncBegan(index)));
            if let Some(ended) = call.ended_at.filter(|_| call.returned("0")) {
                steps.push((ended, Step::Synced(index)));
            }
        } else if to_log {
            steps.push((call.began_at, Step::Written));
        } else if call.text.contains("\"POST /api/v1/records") {
            steps.push((call.ended_at.unwrap_or(call.began_at), Step::Asked));
        } else if call.text.contains("\"HTTP/1.1 202") {
            steps.push((call.began_at, Step::Answered));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    // A sync counts for what was written before it began.
    let (mut unsynced, mut covering, mut ready) = (false, None, false);
    let (mut answers, mut early) = (0, 0);
    for (_, step) in steps {
        match step {
            // What was written before belongs to somebody else.
            Step::Asked => (unsynced, covering, ready) = (false, None, false),
            Step::Written => (unsynced, covering, ready) = (true, None, false),
            Step::SyncBegan(index) if unsynced => covering = Some(index),
            Step::Synced(index) if covering == Some(index) => (unsynced, ready) = (false, true),
            Step::SyncBegan(_) | Step::Synced(_) => {}
            Step::Answered => {
                answers += 1;
                early += usize::from(!ready);
            }
        }
    }
    (answers, early)
}
