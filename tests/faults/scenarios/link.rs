//! The way to a destination: refused, swallowed, reset, unplugged. In namespaces of its own.

use std::time::{Duration, Instant};

use crate::Fallible;
use crate::disk::run as program;
use crate::gateway::write_line;
use crate::load::{Load, eventually};
use crate::namespace::{GATEWAY_ADDRESS, OUTSIDE_ADDRESS, through};
use crate::oracle::account_of;
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::world::{Configuration, World, destination};

pub(crate) const ALL: &[Scenario] = &[Scenario {
    id: "N1",
    what: "a destination's port refuses, its packets are dropped or reset, 30 % of them vanish, the cable is out",
    required: "202s go on, few tries, nothing lost; everything is delivered afterwards",
    needs: &[Need::Namespace],
    how: How::Run(broken_way),
}];

/// What is done to the way, in the receiver's namespace.
const WAYS: &[(&str, &str)] = &[
    ("dropped", "tcp dport 9000 drop"),
    ("reset", "tcp dport 9000 reject with tcp reset"),
    ("hanging after the connection", "tcp dport 9000 ct state established drop"),
    ("a third lost", "tcp dport 9000 numgen random mod 100 < 30 drop"),
];

fn block(rule: &str, folder: &std::path::Path) -> Fallible<()> {
    let file = folder.join("rules");
    write_line(
        &file,
        &format!(
            "table inet faults {{\n chain in {{\n type filter hook input priority 0; policy accept;\n {rule}\n }}\n}}"
        ),
    )?;
    program("nft", &["-f", file.to_str().unwrap_or_default()]).map(drop)
}

fn unblock() -> Fallible<()> {
    program("nft", &["flush", "ruleset"]).map(drop)
}

fn broken_way(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let address = format!("{OUTSIDE_ADDRESS}:9000");
    let mut receivers = vec![Receiver::start_at(&address, None, |_, _| Behave::take())?];
    let configuration = Configuration {
        destinations: destination("receiver", address.parse()?, "timeout_seconds = 2\nconcurrency = 4"),
        delivery: "breaker_pause_seconds = 1\nlongest_pause_seconds = 2".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().through(through()?).listen(GATEWAY_ADDRESS).up()?;
    let seconds = u64::try_from(run.times(2, 30))?;
    for (name, rule) in WAYS.iter().copied().chain([("refused", ""), ("unplugged", "")]) {
        let tries_before = tries(&gateway)?;
        match name {
            "refused" => receivers.iter().for_each(Receiver::close),
            "unplugged" => {}
            _ => block(rule, &world.folder)?,
        }
        let began = Instant::now();
        let mut load = Load::new(&world, gateway.public, 2);
        load.rest = Duration::from_millis(10);
        let (unplugged, tally) = load.during(|tally| -> Fallible<()> {
            std::thread::sleep(Duration::from_secs(seconds));
            // Clients are on the same cable: what they get while it is out is no 202, and nobody's fault.
            if name == "unplugged" {
                tally.wait_for(50, Duration::from_secs(10));
            }
            Ok(())
        });
        unplugged?;
        if name == "unplugged" {
            program("ip", &["link", "set", "cable", "down"])?;
            std::thread::sleep(Duration::from_secs(seconds));
            program("ip", &["link", "set", "cable", "up"])?;
        }
        let tried = tries(&gateway).unwrap_or(tries_before) - tries_before;
        findings.figure(format!(
            "{name}: {} accepted, {tried:.0} tries in {:.0} s",
            tally.accepted(),
            began.elapsed().as_secs_f64()
        ));
        findings.require(tally.accepted() > 10 && tally.count(503) + tally.count(0) == 0, || {
            format!(
                "{name}: {} accepted, {} answers 503, {} broken",
                tally.accepted(),
                tally.count(503),
                tally.count(0)
            )
        });
        unblock()?;
        if name == "refused" {
            receivers.push(Receiver::start_at(&address, None, |_, _| Behave::take())?);
        }
        let drained = eventually(Duration::from_secs(60), || {
            (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
        });
        findings.require(drained.is_some(), || format!("{name}: what waited was not delivered within 60 s"));
        findings.runs += 1;
    }
    let taken: std::collections::BTreeSet<String> = receivers.iter().flat_map(Receiver::taken).collect();
    let promises = world.ledger.all();
    let never = promises.iter().filter(|promise| !taken.contains(&promise.receipt)).count();
    let found = account_of(gateway.public, &world.ledger, None)?;
    found.judge(&mut findings);
    findings.figure(format!("{} of {} promised were never received", never, promises.len()));
    findings.require(never == 0, || format!("{never} of {} promised records were never received", promises.len()));
    control(run, &mut findings)?;
    Ok(findings)
}

/// Tries so far, however they ended.
fn tries(gateway: &crate::gateway::Gateway) -> Fallible<f64> {
    let of = |outcome: &str| {
        gateway.metric(&format!("streamgate_delivery_tries_total{{routing_queue=\"receiver\",outcome=\"{outcome}\"}}"))
    };
    Ok(of("temporary")? + of("permanent")?)
}

/// A receiver that takes records and forgets some: the oracle has to miss them.
fn control(run: &Run, findings: &mut Findings) -> Fallible<()> {
    let receiver = Receiver::start_at(&format!("{OUTSIDE_ADDRESS}:9001"), None, |_, number| {
        if number % 5 == 4 { Behave::Forget } else { Behave::take() }
    })?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().through(through()?).listen(GATEWAY_ADDRESS).up()?;
    Load::new(&world, gateway.public, 2).during(|tally| tally.wait_for(100, Duration::from_secs(10)));
    eventually(Duration::from_secs(30), || {
        (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
    });
    let found = account_of(gateway.public, &world.ledger, Some(&receiver))?;
    findings
        .control(format!("a receiver that forgets: {} of {} missed", found.lost(), found.promised), found.lost() > 0);
    Ok(())
}
