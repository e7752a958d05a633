//! kill -9: at any moment, and at every single sync.

use std::time::Duration;

use crate::Fallible;
use crate::load::Load;
use crate::oracle::{account, account_of, whole_records};
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::trace::through;
use crate::world::{Configuration, World, destination};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "D1",
        what: "kill -9 under load",
        required: "0 promised records lost; the next start needs no repair",
        needs: &[],
        how: How::Run(under_load),
    },
    Scenario {
        id: "D2",
        what: "kill -9 at the Nth sync, and at the Nth write",
        required: "0 promised records lost; never half a record",
        needs: &[Need::Strace],
        how: How::Run(at_every_sync),
    },
];

fn under_load(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    let receiver = Receiver::start(|_, _| Behave::take())?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let mut slowest = Duration::ZERO;
    for round in 0..run.times(6, 100) {
        let gateway = world.start().up()?;
        slowest = slowest.max(gateway.ready_after);
        let moment = chance.millis(100, if run.long { 3_000 } else { 900 });
        Load::new(&world, gateway.public, 6).during(|tally| {
            tally.wait_for(5, Duration::from_secs(10));
            std::thread::sleep(moment);
            gateway.strike();
        });
        gateway.kill()?;
        findings.runs += 1;
        if round % 10 == 9 {
            run.progress(&format!("{} kills, {} promises", round + 1, world.ledger.len()));
        }
    }
    let gateway = world.start().up()?;
    slowest = slowest.max(gateway.ready_after);
    let found = account_of(gateway.public, &world.ledger, Some(&receiver))?;
    found.judge(&mut findings);
    findings.figure(found.words());
    findings.figure(format!("slowest start {:.2} s", slowest.as_secs_f64()));
    let copies = receiver.copies();
    let extra: usize = copies.values().map(|count| count - 1).sum();
    findings.figure(format!("{} of {} deliveries were repeats", extra, extra + copies.len()));
    drop(gateway);
    control(run, &mut findings)?;
    Ok(findings)
}

/// Acknowledged before the commit, a kill must cost records.
fn control(run: &Run, findings: &mut Findings) -> Fallible<()> {
    let world = World::new(run, &Configuration::default())?.with_binary(Run::control_binary());
    for _ in 0..run.times(2, 5) {
        let gateway = world.start().fault("acknowledge-before-commit").up()?;
        Load::new(&world, gateway.public, 6).during(|tally| {
            tally.wait_for(12, Duration::from_secs(10));
            gateway.strike();
        });
        gateway.kill()?;
    }
    let gateway = world.start().up()?;
    let found = account_of(gateway.public, &world.ledger, None)?;
    let (lost, promised) = (found.lost(), found.promised);
    findings.control(format!("acknowledging before the commit: {lost} of {promised} lost"), lost > 0);
    Ok(())
}

/// Where a kill is to strike.
#[derive(Debug, Clone, Copy)]
struct Point {
    calls: &'static str,
    number: u64,
    /// On a directory that does not exist yet.
    fresh: bool,
}

fn points(run: &Run) -> Vec<Point> {
    const SYNCS: &str = "fdatasync,fsync";
    let mut chance = run.chance();
    let at = |number, fresh| Point { calls: SYNCS, number, fresh };
    let mut points: Vec<Point> = if run.long {
        (1..=200).map(|number| at(number, false)).chain((1..=20).map(|number| at(number, true))).collect()
    } else {
        [1, 2, 3, 5, 9, 30]
            .map(|number| at(number, false))
            .into_iter()
            .chain([2, 4, 6, 8].map(|number| at(number, true)))
            .collect()
    };
    for _ in 0..run.times(3, 40) {
        points.push(Point { calls: "pwrite64", number: chance.between(1, 300), fresh: false });
    }
    points
}

fn at_every_sync(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let world = World::new(run, &Configuration::default())?;
    let mut struck = 0;
    for (index, point) in points(run).into_iter().enumerate() {
        let fresh = World::new(run, &Configuration::default())?;
        let stage = if point.fresh { &fresh } else { &world };
        let before = stage.ledger.len();
        struck += usize::from(strike(stage, point)?);
        // The start after it must succeed as it is.
        let gateway = stage.start().up().map_err(|fault| format!("after {point:?}: {fault}"))?;
        let promises = stage.ledger.all().split_off(before.saturating_sub(50));
        let found = account(gateway.public, &promises, None)?;
        found.judge(&mut findings);
        if point.fresh {
            whole_records(gateway.admin, 0)?.err().into_iter().for_each(|fault| findings.faults.push(fault));
        }
        gateway.kill()?;
        findings.runs += 1;
        if index % 25 == 24 {
            run.progress(&format!("{} points", index + 1));
        }
    }
    let gateway = world.start().up()?;
    let found = account_of(gateway.public, &world.ledger, None)?;
    found.judge(&mut findings);
    match whole_records(gateway.admin, 0)? {
        Ok(stored) => findings.figure(format!("{}, {stored} stored, none of them half", found.words())),
        Err(fault) => findings.faults.push(fault),
    }
    let runs = findings.runs;
    findings.figure(format!("{struck} of {runs} points were reached"));
    findings.require(struck * 10 >= runs * 8, || format!("only {struck} of {runs} points were reached"));
    findings.control("as D1: the same oracle, the same store", true);
    Ok(findings)
}

/// Runs a gateway under load until the call that is its last. Whether it got there.
fn strike(world: &World, point: Point) -> Fallible<bool> {
    let Point { calls, number, .. } = point;
    let injection = format!("{calls}:signal=SIGKILL:when={number}");
    let log = world.folder.join("calls");
    let start = world.start().through(through(&log, calls, &[injection], None));
    let mut gateway = match start.attempt()? {
        Err(ended) => return Ok(ended.signal == Some(9)),
        Ok(gateway) => gateway,
    };
    let (reached, _) = Load::new(world, gateway.public, 4).during(|_| gateway.await_end(Duration::from_secs(15)));
    let reached = reached?;
    gateway.kill()?;
    Ok(reached)
}
