//! A destination that is away for long, and then there again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::load::{Load, eventually};
use crate::oracle::account_of;
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, Run, Scenario};
use crate::world::{Configuration, World, destination};

pub(crate) const ALL: &[Scenario] = &[Scenario {
    id: "N9",
    what: "a long outage with a backlog, then a destination that is there again, and a restart in between",
    required: "everything is delivered; memory stays bounded",
    needs: &[],
    how: How::Run(outage),
}];

fn outage(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    // Nobody listens at first, at an address that somebody will have.
    let address = {
        let reserved = std::net::TcpListener::bind("127.0.0.1:0")?;
        reserved.local_addr()?
    };
    let configuration = Configuration {
        destinations: destination("receiver", address, "concurrency = 16"),
        delivery: "breaker_pause_seconds = 1\nlongest_pause_seconds = 2".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let wanted = u64::try_from(run.times(1_500, 300_000))?;
    let gateway = world.start().up()?;
    let began = Instant::now();
    let (_, tally) =
        Load::new(&world, gateway.public, 16).during(|tally| tally.wait_for(wanted, Duration::from_secs(900)));
    let taking = began.elapsed();
    let full = gateway.memory_kib().0;
    gateway.kill()?;
    let gateway = world.start().up()?;
    let ready = gateway.ready_after;
    let receiver = Receiver::start_at(&address.to_string(), None, |_, _| Behave::take())?;
    let began = Instant::now();
    let drained = eventually(Duration::from_secs(900), || {
        (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
    });
    let draining = began.elapsed();
    findings.require(drained.is_some(), || "the backlog was not drained".to_owned());
    let found = account_of(gateway.public, &world.ledger, Some(&receiver))?;
    found.judge(&mut findings);
    let rate = |count: usize, took: Duration| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64();
    findings.figure(format!(
        "backlog {}: taken at {:.0}/s, start with it {:.2} s, drained at {:.0}/s",
        found.promised,
        rate(found.promised, taking),
        ready.as_secs_f64(),
        rate(found.promised, draining)
    ));
    let (now, most) = gateway.memory_kib();
    findings.figure(format!(
        "memory {} MiB while it grew, {} MiB after the drain, {} MiB at most",
        full >> 10,
        now >> 10,
        most >> 10
    ));
    findings.require(most < 512 << 10, || format!("{} MiB of memory", most >> 10));
    let copies: BTreeMap<String, usize> = receiver.copies();
    let extra: usize = copies.values().map(|count| count - 1).sum();
    findings.figure(format!("{extra} repeats, {} refused meanwhile", tally.count(503)));
    findings.runs = 1;
    Ok(findings)
}
