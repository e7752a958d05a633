//! A disk that fills up, and one that is full for a moment.

use std::time::{Duration, Instant};

use crate::Fallible;
use crate::disk::MemoryDisk;
use crate::load::{Load, eventually};
use crate::oracle::{account_of, whole_records};
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::trace::through;
use crate::world::{Configuration, World, destination};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "D8",
        what: "the disk fills up; then it is made larger",
        required: "503 before the disk is full, deliveries go on, nothing lost; it heals by itself",
        needs: &[Need::Mounts],
        how: How::Run(filling),
    },
    Scenario {
        id: "D8B",
        what: "writes fail with ENOSPC for a moment",
        required: "503 for what was not written, nothing lost, it goes on by itself",
        needs: &[Need::Strace],
        how: How::Run(full_for_a_moment),
    },
];

const RESERVE_BYTES: u64 = 8 << 20;
/// With its details in an event a record is about so large.
const PADDING: usize = 60_000;

fn filling(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let receiver = Receiver::start(|_, _| Behave::take())?;
    let configuration = Configuration {
        store: format!("disk_reserve_bytes = {RESERVE_BYTES}"),
        delivery: "breaker_pause_seconds = 1\nlongest_pause_seconds = 1".to_owned(),
        destinations: destination("receiver", receiver.address, ""),
        contoso: "receiver",
        ..Configuration::default()
    };
    for _ in 0..run.times(1, 5) {
        // Nothing is delivered while it fills up: what is delivered may be trimmed, and that makes room.
        receiver.behave(|_, _| Behave::status("503 Service Unavailable"));
        let world = World::new(run, &configuration)?;
        let disk = MemoryDisk::make(&world.folder, 64)?;
        let data = disk.at.join("data");
        let world = world.with_data(data);
        let gateway = world.start().up()?;
        let mut load = Load::new(&world, gateway.public, 4);
        load.padding = PADDING;
        let ((least, reason), tally) = load.during(|tally| {
            let full = eventually(Duration::from_secs(60), || (tally.count(503) > 20).then_some(()));
            // Whoever still posts must not get the disk any fuller.
            std::thread::sleep(Duration::from_secs(1));
            (disk.free(), full.map(|()| gateway.unready()))
        });
        let least = least?;
        let reason = reason.ok_or("the disk never got full")??;
        findings.figure(format!(
            "{} accepted until it was full, {} KiB left then, of {} KiB reserve",
            tally.accepted(),
            least >> 10,
            RESERVE_BYTES >> 10
        ));
        findings.require(least > RESERVE_BYTES / 4, || format!("only {least} bytes are left"));
        findings.require(reason == "store-full", || format!("readiness says {reason:?}"));
        findings.require(tally.count(202) + tally.count(503) == tally.outcomes().len(), || {
            "other answers than 202 and 503".to_owned()
        });
        heals(&world, &disk, &gateway, &mut findings)?;
        receiver.behave(|_, _| Behave::take());
        let drained = eventually(Duration::from_secs(60), || {
            (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
        });
        findings.require(drained.is_some(), || "what waited was not delivered".to_owned());
        let found = account_of(gateway.public, &world.ledger, Some(&receiver))?;
        found.judge(&mut findings);
        findings.figure(found.words());
        findings.runs += 1;
    }
    findings.control("as D6: the look counts 202s where the disk has room", true);
    Ok(findings)
}

/// With more room there are 202s again, by themselves.
fn heals(world: &World, disk: &MemoryDisk, gateway: &crate::gateway::Gateway, findings: &mut Findings) -> Fallible<()> {
    disk.resize(128)?;
    let began = Instant::now();
    let (healed, _) = Load::new(world, gateway.public, 1).during(|tally| tally.wait_for(1, Duration::from_secs(15)));
    findings.figure(format!("202 again {:.1} s after there was room", began.elapsed().as_secs_f64()));
    findings.require(healed, || "it does not heal".to_owned());
    Ok(())
}

fn full_for_a_moment(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..run.times(3, 20) {
        let world = World::new(run, &Configuration::default())?;
        let log = world.folder.join("calls");
        let first = chance.between(30, 300);
        let fault = [format!("pwrite64:error=ENOSPC:when={first}..{}", first + chance.between(0, 4))];
        world.start().up()?.terminate()?;
        let mut gateway = match world.start().through(through(&log, "pwrite64", &fault, None)).attempt()? {
            Ok(gateway) => gateway,
            Err(ended) => {
                // A start that meets a full disk may be refused, and says so.
                findings.require(ended.code == Some(5) && ended.said.contains("full"), || format!("{ended:?}"));
                world.start().up()?.kill()?;
                findings.runs += 1;
                continue;
            }
        };
        let (went_on, tally) = Load::new(&world, gateway.public, 4).during(|tally| {
            let met = || std::fs::read_to_string(&log).ok()?.contains("(INJECTED)").then_some(());
            let met = eventually(Duration::from_secs(15), met);
            met.is_some() && tally.wait_for(tally.accepted() + 50, Duration::from_secs(10))
        });
        findings.require(went_on && gateway.is_alive(), || {
            format!("it does not go on after write {first} found the disk full")
        });
        refused += tally.count(503);
        accepted += tally.count(202);
        findings.require(tally.count(0) == 0, || "connections broke".to_owned());
        gateway.kill()?;
        let gateway = world.start().up()?;
        account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
        whole_records(gateway.admin, 0)?.err().into_iter().for_each(|fault| findings.faults.push(fault));
        findings.runs += 1;
    }
    findings.figure(format!("{accepted} accepted, {refused} answers 503"));
    findings.control("writes really failed: somebody got a 503", refused > 0);
    Ok(findings)
}
