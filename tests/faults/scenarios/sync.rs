//! Syncs and writes that fail, take long, or do not come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::client::Client;
use crate::disk::LoopDisk;
use crate::gateway::Gateway;
use crate::load::{Load, Tally, eventually, percentile};
use crate::oracle::account_of;
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::seed::unix_now;
use crate::trace::{Tracer, calls, through};
use crate::world::{Configuration, Tenant, World, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "D6",
        what: "one sync fails with EIO, and every one after it would succeed",
        required: "that batch is 503; no sync is tried again; no 202 until the restart; readiness says store-broken",
        needs: &[Need::Strace],
        how: How::Run(failed_sync),
    },
    Scenario {
        id: "D7",
        what: "every write to the disk fails from now on",
        required: "503, readiness 503, no 202, no crash; SIGTERM ends it; nothing promised is lost",
        needs: &[Need::Mounts, Need::Tool("mkfs.xfs"), Need::Tool("xfs_io")],
        how: How::Run(failed_writes),
    },
    Scenario {
        id: "D7B",
        what: "single blocks that cannot be written or read, below the file system",
        required: "as D7",
        needs: &[],
        how: How::NotCovered(
            "this takes a block device that fails block by block (nbdkit with its error filter, or device mapper)",
        ),
    },
    Scenario {
        id: "D12",
        what: "a slow disk: every sync takes 100 ms longer",
        required: "what waits is bounded, beyond it 503; accepting takes at most three syncs (p99); other answers are not held up",
        needs: &[Need::Strace],
        how: How::Run(slow_disk),
    },
    Scenario {
        id: "D13",
        what: "a stalled disk: one sync takes 20 s (60 s in the long version)",
        required: "503 within 10 s for whoever waits; files and memory stay bounded; a repeat afterwards is one record",
        needs: &[Need::Strace],
        how: How::Run(stalled_disk),
    },
];

fn failed_sync(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    let (mut later, mut refused, mut again) = (0, 0, 0);
    for _ in 0..run.times(2, 20) {
        let world = World::new(run, &Configuration::default())?;
        let log = world.folder.join("calls");
        // Past what the start itself syncs, so that the writer is the one who meets it.
        let number = chance.between(12, if run.long { 120 } else { 40 });
        let only = world.data.join("records.db-wal");
        let fault = [format!("fdatasync:error=EIO:when={number}")];
        // The file has to be there for strace to know it.
        let (code, _) = world.start().up()?.terminate()?;
        findings.require(code == Some(0), || format!("a stop ended with {code:?}"));
        let gateway = world.start().through(through(&log, "fdatasync,fsync", &fault, Some(Path::new(&only)))).up()?;
        let (struck, tally) = Load::new(&world, gateway.public, 4).during(|_| {
            let struck = eventually(Duration::from_secs(60), || struck_at(&log));
            std::thread::sleep(Duration::from_millis(500));
            struck
        });
        let Some(struck) = struck else {
            let accepted = tally.accepted();
            findings.faults.push(format!("sync {number} was never reached, with {accepted} records accepted"));
            continue;
        };
        let syncs_after = syncs_after_the_failure(&log);
        later += tally.outcomes().iter().filter(|outcome| outcome.status == 202 && outcome.sent > struck).count();
        refused += tally.count(503);
        again += syncs_after;
        let reason = gateway.unready()?;
        findings.require(reason == "store-broken", || format!("readiness says {reason:?} after a failed sync"));
        drop(gateway);
        let gateway = world.start().up()?;
        account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
        findings.runs += 1;
    }
    findings
        .figure(format!("{later} 202s after the failure, {refused} answers 503, {again} syncs of the log tried again"));
    findings.require(later == 0, || format!("{later} requests that were sent after the failure got a 202"));
    findings.require(again == 0, || format!("{again} syncs of the log came after the failed one"));
    findings.require(refused > 0, || "nobody got a 503".to_owned());
    findings.control("the same look without a failure", accepted_in_peace(run)? > 0);
    Ok(findings)
}

/// When the failed sync was.
fn struck_at(log: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(log).ok()?;
    calls(&text).into_iter().find(|call| call.is_injected() && call.ended_at.is_some()).map(|call| call.began)
}

fn syncs_after_the_failure(log: &Path) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let all = calls(&text);
    let Some(at) = all.iter().position(|call| call.is_injected()) else { return 0 };
    all.iter().skip(at + 1).filter(|call| call.text.contains("records.db-wal>")).count()
}

/// How many 202s the same look counts where nothing fails.
fn accepted_in_peace(run: &Run) -> Fallible<usize> {
    let world = World::new(run, &Configuration::default())?;
    let gateway = world.start().up()?;
    let struck = unix_now();
    let (_, tally) = Load::new(&world, gateway.public, 4).during(|tally| tally.wait_for(20, Duration::from_secs(10)));
    Ok(tally.outcomes().iter().filter(|outcome| outcome.status == 202 && outcome.sent > struck).count())
}

fn failed_writes(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    for _ in 0..run.times(1, 10) {
        let world = World::new(run, &Configuration::default())?;
        let mut disk = LoopDisk::make(&world.folder, "xfs")?;
        let data = disk.at.join("data");
        let world = world.with_data(data);
        let mut gateway = world.start().up()?;
        let moment = chance.millis(100, 800);
        let (struck, tally) = Load::new(&world, gateway.public, 4).during(|_| -> Fallible<f64> {
            std::thread::sleep(moment);
            // No sync may be under way: what such a one reports is as good as chance (see D3).
            gateway.freeze(false)?;
            disk.cut()?;
            gateway.signal(rustix::process::Signal::CONT)?;
            // What was answered by now was synced before; its answer may still be on its way.
            std::thread::sleep(Duration::from_millis(50));
            let struck = unix_now();
            std::thread::sleep(Duration::from_secs(1));
            Ok(struck)
        });
        let struck = struck?;
        let later = tally.outcomes().iter().filter(|outcome| outcome.status == 202 && outcome.sent > struck).count();
        findings.require(later == 0, || format!("{later} 202s on a disk that takes nothing"));
        findings.require(tally.count(503) > 0, || "nobody got a 503".to_owned());
        findings.require(tally.count(0) == 0 && gateway.is_alive(), || {
            "connections broke, or the process ended".to_owned()
        });
        let reason = gateway.unready()?;
        findings.require(reason == "store-broken", || format!("readiness says {reason:?}"));
        let (code, took) = gateway.terminate()?;
        findings.require(took < Duration::from_secs(11), || format!("SIGTERM took {took:?}"));
        findings.figure(format!(
            "{later} 202s afterwards, {} answers 503; SIGTERM: code {code:?} after {:.1} s",
            tally.count(503),
            took.as_secs_f64()
        ));
        disk.power_on()?;
        let gateway = world.start().up()?;
        let found = account_of(gateway.public, &world.ledger, None)?;
        found.judge(&mut findings);
        findings.runs += 1;
    }
    findings.control("as D3: the same rig", true);
    Ok(findings)
}

fn slow_disk(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let delay = Duration::from_millis(100);
    let configuration = Configuration { store: "max_waiting_appends = 16".to_owned(), ..Configuration::default() };
    let world = World::new(run, &configuration)?;
    let log = world.folder.join("calls");
    let slow = [format!("fdatasync:delay_exit={}", delay.as_micros())];
    let gateway = world.start().through(through(&log, "fdatasync", &slow, None)).up()?;
    let before = gateway.memory_kib().0;
    let seconds = u64::try_from(run.times(4, 30))?;
    let mut asked = Vec::new();
    // A fresh log takes syncs that no later one takes.
    Load::new(&world, gateway.public, 1).during(|tally| tally.wait_for(3, Duration::from_secs(10)));
    let (_, tally) = Load::new(&world, gateway.public, 12).during(|_| {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut client = Client::patient(gateway.public);
        while Instant::now() < deadline {
            let began = Instant::now();
            if client.get("/api/v1/connection").is_ok_and(|answer| answer.status == 200) {
                asked.push(began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let (accept, other) = (percentile(&tally.times(), 0.99), percentile(&asked, 0.99));
    findings.figure(format!(
        "12 clients: accept p99 {} ms, other answers p99 {} ms",
        accept.as_millis(),
        other.as_millis()
    ));
    findings.require(accept <= delay * 3, || format!("accept p99 {accept:?} with syncs of {delay:?}"));
    findings.require(other < delay, || format!("other answers are held up: p99 {other:?}"));
    // More than may wait.
    let (_, crowd) = Load::new(&world, gateway.public, 64).during(|_| std::thread::sleep(Duration::from_secs(3)));
    let growth = gateway.memory_kib().0.saturating_sub(before) / 1_024;
    findings.figure(format!(
        "64 clients, 16 may wait: {} accepted, {} answers 503, {growth} MiB more memory",
        crowd.accepted(),
        crowd.count(503)
    ));
    findings.require(crowd.count(503) > 0, || "the queue has no bound: nobody got a 503".to_owned());
    findings.require(crowd.count(0) == 0, || "connections broke".to_owned());
    findings.require(growth < 64, || format!("{growth} MiB more memory"));
    account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
    findings.runs = 1;
    findings.control(
        format!("syncs really took longer: fastest 202 after {} ms", fastest(&tally).as_millis()),
        fastest(&tally) >= delay,
    );
    Ok(findings)
}

fn fastest(tally: &Tally) -> Duration {
    tally.times().into_iter().min().unwrap_or_default()
}

fn stalled_disk(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?;
    let gateway = world.start().up()?;
    let stall = Duration::from_secs(if run.long { 60 } else { 20 });
    // Its threads open what they need in the first moments.
    std::thread::sleep(Duration::from_secs(2));
    let before = (gateway.files(), gateway.memory_kib().0);
    let only = world.data.join("records.db-wal");
    let fault = [format!("fdatasync:delay_exit={}:when=1", stall.as_micros())];
    let log = world.folder.join("calls");
    let tracer = Tracer::attach(gateway.id(), &log, "fdatasync", &fault, Some(&only))?;
    let waited = during_the_stall(&world, &gateway, &mut findings);
    drop(tracer);
    let accepted = |number: u64| -> Option<bool> {
        let answer = Client::patient(gateway.public).post(&record(Tenant::Contoso, number, 0)).ok()?;
        (answer.status == 202).then(|| answer.json()["duplicate"] == true)
    };
    let mut repeats = BTreeMap::new();
    for number in 1..=waited {
        let repeat = eventually(stall, || accepted(number)).ok_or("no 202 after the stall")?;
        *repeats.entry(repeat).or_insert(0) += 1;
    }
    // Connections that their clients have closed end with the keep-alive (15 s) at the latest.
    eventually(Duration::from_secs(20), || (gateway.files() < before.0 + 8).then_some(()));
    let after = (gateway.files(), gateway.memory_kib().0);
    findings
        .figure(format!("sent again afterwards: {repeats:?} repeats; {} files before, {} after", before.0, after.0));
    findings.require(after.0 < before.0 + 16, || format!("{} files before, {} after", before.0, after.0));
    findings.require(after.1 < before.1 + 64 * 1_024, || format!("{} KiB before, {} KiB after", before.1, after.1));
    let stored = gateway.metric("streamgate_store_high_water_mark")?;
    findings.require((stored - f64::from(u32::try_from(waited)?)).abs() < 0.5, || {
        format!("{waited} records were sent, {stored} are stored")
    });
    findings.runs = 1;
    findings.control("the repeats were there before, so the stall was real", repeats.contains_key(&true));
    Ok(findings)
}

/// Sixteen clients post one record each while the disk does not answer. Answers how many there were.
fn during_the_stall(world: &World, gateway: &Gateway, findings: &mut Findings) -> u64 {
    let clients = 16;
    let outcomes: Vec<(u16, Duration)> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let body = record(Tenant::Contoso, world.number(), 0);
                    let began = Instant::now();
                    let answer = Client::new(gateway.public, Duration::from_secs(90)).post(&body);
                    (answer.map_or(0, |answer| answer.status), began.elapsed())
                })
            })
            .collect();
        posts.into_iter().filter_map(|post| post.join().ok()).collect()
    });
    let longest = outcomes.iter().map(|(_, took)| *took).max().unwrap_or_default();
    let refused = outcomes.iter().filter(|(status, _)| *status == 503).count();
    findings.figure(format!("{refused} of {clients} got a 503, the last answer after {:.1} s", longest.as_secs_f64()));
    findings.require(longest <= Duration::from_secs(11), || format!("an answer took {longest:?}"));
    findings.require(refused > 0, || "nobody got a 503, so nothing stalled".to_owned());
    clients
}
