//! Power cuts on ext4 and xfs: in the middle of the load, during checkpoints, during changes of the configuration, twice in
//! a row, and in the first second of a gateway's life. And a disk that lies about its syncs.

use std::sync::Mutex;
use std::time::Duration;

use crate::Fallible;
use crate::client::Client;
use crate::disk::LoopDisk;
use crate::ledger::Promise;
use crate::load::Load;
use crate::oracle::{account, account_of};
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::seed::{Chance, unix_now};
use crate::trace::through;
use crate::world::{Configuration, World};

const NEEDS: &[Need] = &[Need::Mounts, Need::Tool("mkfs.ext4"), Need::Tool("mkfs.xfs"), Need::Tool("xfs_io")];

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "D3",
        what: "power cuts under load, during checkpoints and during changes of the configuration, ext4 and xfs",
        required: "0 promised records and 0 acknowledged changes lost",
        needs: NEEDS,
        how: How::Run(cuts),
    },
    Scenario {
        id: "D4",
        what: "the power fails again within 200 ms of the start after a cut",
        required: "0 promised records lost; the recovery can be repeated",
        needs: NEEDS,
        how: How::Run(twice),
    },
    Scenario {
        id: "D5",
        what: "the power fails in the first second of a new gateway",
        required: "0 promised records lost: folders and files are synced before the first 202",
        needs: NEEDS,
        how: How::Run(first_second),
    },
    Scenario {
        id: "D9",
        what: "the disk acknowledges syncs of the log that it does not do, and the power fails",
        required: "the next start is refused and says which records are lost, or which file is damaged; only what is younger than the last sync of the mark can go unseen",
        needs: &[Need::Mounts, Need::Tool("mkfs.ext4"), Need::Tool("mkfs.xfs"), Need::Tool("xfs_io"), Need::Strace],
        how: How::Run(lying_disk),
    },
];

/// What the gateway is busy with when the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    /// Small records, many commits.
    Small,
    /// Large records: the log is folded in all the time.
    Large,
    /// Changes of the configuration beside the load.
    Configuring,
}

/// Queues that were acknowledged, and when.
type Queues = Mutex<Vec<(String, f64)>>;

const ORGANIZATION: &str = "4d1c0ffe-0000-4000-8000-00000000c0de";

/// Makes queues until the power fails, noting each that was acknowledged.
fn configure(admin: std::net::SocketAddr, queues: &Queues, label: usize) {
    let mut client = Client::new(admin, Duration::from_secs(5));
    let organization = format!(r#"{{"id":"{ORGANIZATION}","uniqueName":"litware","name":"Litware"}}"#);
    // There already in every round but the first.
    let _made = client.call("POST", "/admin/v1/organizations", organization.as_bytes());
    for number in 0.. {
        let name = format!("Queue {label} {number}");
        let body = format!(r#"{{"name":"{name}","priority":{}}}"#, 3 + number % 1_000);
        let path = format!("/admin/v1/organizations/{ORGANIZATION}/queues");
        match client.call("POST", &path, body.as_bytes()) {
            Ok(answer) if answer.status == 201 => {
                queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((name, unix_now()));
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// How a gateway is cut off.
#[derive(Debug, Clone, Copy)]
struct Plan {
    busy: Busy,
    /// The round, for names.
    label: usize,
    /// How long after the first records.
    moment: Duration,
    /// Whether it is stopped in the middle of what it does, and then the power fails. Otherwise it goes on while the file
    /// system is shut down. Then a sync that is under way at that moment may report success for what is not kept, whoever
    /// asks for it (a program of ten lines shows the same), so that answers of that moment prove nothing.
    frozen: bool,
}

/// When the power failed: between these two moments, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Cut {
    began: f64,
    ended: f64,
    frozen: bool,
}

impl Cut {
    /// Whether an answer of this moment counts.
    fn judges(self, answered: f64) -> bool {
        self.frozen || answered < self.began
    }
}

/// One life of a gateway on this disk that ends with a cut.
fn live_and_die(world: &World, disk: &LoopDisk, plan: Plan, queues: &Queues) -> Fallible<Cut> {
    let Plan { busy, label, moment, frozen } = plan;
    let gateway = world.start().up()?;
    let mut load = Load::new(world, gateway.public, 8);
    load.padding = if busy == Busy::Large { 20_000 } else { 0 };
    let admin = gateway.admin;
    let (cut, _) = load.during(|tally| {
        std::thread::scope(|scope| {
            if busy == Busy::Configuring {
                scope.spawn(|| configure(admin, queues, label));
            }
            tally.wait_for(3, Duration::from_secs(10));
            std::thread::sleep(moment);
            let stopped = if frozen { gateway.freeze(true) } else { Ok(()) };
            let began = unix_now();
            let cut = stopped.and_then(|()| disk.cut());
            let ended = unix_now();
            gateway.strike();
            cut.map(|()| Cut { began, ended, frozen })
        })
    });
    let cut = cut?;
    gateway.kill()?;
    Ok(cut)
}

/// Says of each lost promise how it lay to the cut that took it.
fn explain(findings: &mut Findings, missing: &[Promise], cuts: &[Cut]) {
    for Promise { number, sent, answered, .. } in missing.iter().take(5) {
        let cut = cuts.iter().find(|cut| cut.ended > *sent);
        let times = cut.map(|cut| [*sent, *answered, cut.ended].map(|moment| (moment - cut.began) * 1_000.0));
        findings.figure(format!(
            "lost record {number}: sent, answered and cut off at {times:.1?} ms from the beginning of the cut"
        ));
    }
}

fn on_disk(run: &Run, kind: &str) -> Fallible<(World, LoopDisk)> {
    let world = World::new(run, &Configuration::default())?;
    let disk = LoopDisk::make(&world.folder, kind)?;
    let data = disk.at.join("data");
    Ok((world.with_data(data), disk))
}

fn cuts(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    for kind in ["ext4", "xfs"] {
        let (world, mut disk) = on_disk(run, kind)?;
        let queues = Queues::default();
        let (rounds, mut cuts) = (run.times(4, 24), Vec::new());
        for round in 0..rounds {
            let plan = Plan {
                busy: [Busy::Small, Busy::Large, Busy::Configuring][round % 3],
                label: round,
                moment: chance.millis(50, if run.long { 2_500 } else { 600 }),
                frozen: round % 4 != 3,
            };
            cuts.push(live_and_die(&world, &disk, plan, &queues)?);
            disk.power_on()?;
            findings.runs += 1;
            if round % 6 == 5 {
                run.progress(&format!("{kind}: {} cuts, {} promises", round + 1, world.ledger.len()));
            }
        }
        let gateway = world.start().up()?;
        let judged =
            |sent: f64, answered: f64| cuts.iter().find(|cut| cut.ended > sent).is_none_or(|cut| cut.judges(answered));
        let all = world.ledger.all();
        let promises: Vec<Promise> = all.iter().filter(|one| judged(one.sent, one.answered)).cloned().collect();
        let found = account(gateway.public, &promises, None)?;
        found.judge(&mut findings);
        explain(&mut findings, &found.missing, &cuts);
        let queues = queues.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        // An answer is at most as old as the whole round.
        let queues: Vec<String> =
            queues.into_iter().filter(|(_, at)| judged(*at - 0.001, *at)).map(|(name, _)| name).collect();
        let lost = lost_queues(gateway.admin, &queues)?;
        findings.require(lost.is_empty(), || format!("{kind}: queues that were acknowledged are gone: {lost:?}"));
        let (words, open) = (found.words(), all.len() - promises.len());
        let (lost, changes) = (lost.len(), queues.len());
        findings.figure(format!(
            "{kind}, {rounds} cuts: {words}; {open} answered during a cut, not judged; {lost} of {changes} changes lost"
        ));
        drop(gateway);
        control(run, kind, &mut findings, &mut chance)?;
    }
    Ok(findings)
}

fn lost_queues(admin: std::net::SocketAddr, queues: &[String]) -> Fallible<Vec<String>> {
    let mut client = Client::patient(admin);
    let mut lost = Vec::new();
    for name in queues {
        let path = format!("/admin/v1/organizations/{ORGANIZATION}/queues/{}", name.replace(' ', "%20"));
        if client.get(&path)?.status != 200 {
            lost.push(name.clone());
        }
    }
    Ok(lost)
}

/// A store that never syncs must lose records, or nothing was cut.
fn control(run: &Run, kind: &str, findings: &mut Findings, chance: &mut Chance) -> Fallible<()> {
    let (mut lost, mut promised, mut refused) = (0, 0, 0);
    for _ in 0..run.times(1, 5) {
        let (world, mut disk) = on_disk(run, kind)?;
        let world = world.with_binary(Run::control_binary());
        let gateway = world.start().fault("never-sync").up()?;
        let (cut, _) = Load::new(&world, gateway.public, 8).during(|tally| {
            tally.wait_for(20, Duration::from_secs(10));
            std::thread::sleep(chance.millis(100, 1_500));
            let cut = disk.cut();
            gateway.strike();
            cut
        });
        cut?;
        gateway.kill()?;
        disk.power_on()?;
        promised += world.ledger.len();
        match world.start().attempt()? {
            Ok(gateway) => lost += account_of(gateway.public, &world.ledger, None)?.lost(),
            Err(ended) => {
                refused += 1;
                lost += said_to_be_lost(&ended.said).ok_or_else(|| format!("a start was refused: {}", ended.said))?;
            }
        }
    }
    findings.control(format!("{kind}, never syncing: {lost} of {promised} lost, {refused} starts refused"), lost > 0);
    Ok(())
}

/// How many records a refused start says are lost.
fn said_to_be_lost(said: &str) -> Option<usize> {
    let (_, rest) = said.split_once("has lost records ")?;
    let (from, rest) = rest.split_once(" to ")?;
    let to: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let (from, to) = (from.trim().parse::<usize>().ok()?, to.parse::<usize>().ok()?);
    Some(to + 1 - from)
}

fn twice(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    for kind in ["ext4", "xfs"] {
        let (world, mut disk) = on_disk(run, kind)?;
        for round in 0..run.times(2, 10) {
            let moment = chance.millis(50, 800);
            let plan = Plan { busy: Busy::Large, label: round, moment, frozen: true };
            live_and_die(&world, &disk, plan, &Queues::default())?;
            disk.power_on()?;
            // Again, while it recovers: it may be up by then, or not.
            let moment = chance.millis(0, 200);
            let at = disk.at.clone();
            let cut = std::thread::spawn(move || {
                std::thread::sleep(moment);
                crate::disk::run("xfs_io", &["-x", "-c", "shutdown", at.to_str().unwrap_or_default()])
            });
            let started = world.start().attempt()?;
            cut.join().map_err(|_| "the cut panicked")??;
            if let Ok(gateway) = started {
                gateway.kill()?;
            }
            disk.power_on()?;
            findings.runs += 1;
        }
        let gateway = world.start().up()?;
        let found = account_of(gateway.public, &world.ledger, None)?;
        found.judge(&mut findings);
        findings.figure(format!("{kind}: {}", found.words()));
    }
    findings.control("as D3: the same rig", true);
    Ok(findings)
}

fn first_second(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    let (mut lost, mut promised) = (0, 0);
    for kind in ["ext4", "xfs"] {
        for _ in 0..run.times(2, 10) {
            let (world, mut disk) = on_disk(run, kind)?;
            // A folder that is made two levels deep: each of them has to be synced.
            let data = disk.at.join("made/by/the/gateway");
            let world = world.with_data(data);
            let moment = chance.millis(0, 300);
            let plan = Plan { busy: Busy::Small, label: 0, moment, frozen: true };
            live_and_die(&world, &disk, plan, &Queues::default())?;
            disk.power_on()?;
            let gateway = world.start().up()?;
            let found = account_of(gateway.public, &world.ledger, None)?;
            found.judge(&mut findings);
            lost += found.lost();
            promised += found.promised;
            findings.runs += 1;
        }
    }
    findings.figure(format!("lost {lost} of {promised} promised"));
    findings.control("as D3: the same rig", true);
    Ok(findings)
}

/// The mark that tells is synced about once a second, by a thread that looks once a second.
const UNSEEN: f64 = 2.5;

fn lying_disk(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    let (mut lost, mut promised, mut named, mut damaged, mut unseen) = (0, 0, 0, 0, 0);
    for round in 0..run.times(2, 10) {
        let kind = ["ext4", "xfs"][round % 2];
        let (world, mut disk) = on_disk(run, kind)?;
        // The store is made on a disk that is still honest.
        let (code, _) = world.start().up()?.terminate()?;
        findings.require(code == Some(0), || format!("a stop ended with {code:?}"));
        let cut = lie(&world, &disk, chance.millis(3_500, 6_000))?;
        disk.power_on()?;
        findings.runs += 1;
        promised += world.ledger.len();
        match world.start().attempt()? {
            Ok(gateway) => {
                let found = account_of(gateway.public, &world.ledger, None)?;
                let old = found.missing.iter().filter(|one| one.answered < cut - UNSEEN).count();
                findings
                    .require(old == 0, || format!("{kind}: {old} records older than {UNSEEN} s are lost in silence"));
                unseen += found.lost();
                lost += found.lost();
            }
            Err(ended) => {
                let said = said_to_be_lost(&ended.said);
                // Where the log was folded in without having been on the disk, the database contradicts itself.
                let refused = ended.code == Some(5) && (said.is_some() || ended.said.contains("records.db"));
                findings.require(refused, || format!("{kind}: {ended:?}"));
                named += usize::from(said.is_some());
                damaged += usize::from(said.is_none());
                lost += said.unwrap_or(0);
            }
        }
    }
    let runs = findings.runs;
    findings.figure(format!(
        "{lost} of {promised} lost; {named} of {runs} starts refused with the extent, {damaged} as damaged; lost without a word: {unseen}, none older than {UNSEEN} s"
    ));
    findings.control("the lie itself loses records", lost > 0);
    Ok(findings)
}

/// A gateway under load on a disk that acknowledges syncs of the log without doing them, until the power fails. Answers when.
fn lie(world: &World, disk: &LoopDisk, moment: Duration) -> Fallible<f64> {
    let (log, only) = (world.folder.join("calls"), world.data.join("records.db-wal"));
    let lie = ["fdatasync,fsync:retval=0".to_owned()];
    let gateway = world.start().through(through(&log, "fdatasync,fsync", &lie, Some(&only))).up()?;
    let (cut, _) = Load::new(world, gateway.public, 4).during(|_| {
        std::thread::sleep(moment);
        let stopped = gateway.freeze(true);
        let at = unix_now();
        let cut = stopped.and_then(|()| disk.cut());
        gateway.strike();
        cut.map(|()| at)
    });
    let at = cut?;
    gateway.kill()?;
    Ok(at)
}
