//! Ends: SIGTERM in the middle of everything, and a thread that panics.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::Fallible;
use crate::client::{Client, request};
use crate::load::{Load, eventually};
use crate::oracle::account_of;
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, Run, Scenario};
use crate::world::{Configuration, Tenant, World, destination, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "R4",
        what: "SIGTERM under load, with a stalled body and a destination that hangs",
        required: "exit 0 within 10 s, 0 promised records lost, nobody gets half an answer",
        needs: &[],
        how: How::Run(terminated),
    },
    Scenario {
        id: "R5",
        what: "the thread that writes panics",
        required: "503 and never 500, readiness 503, receipts can still be read, SIGTERM ends it, nothing lost",
        needs: &[],
        how: How::Run(panicking),
    },
];

fn terminated(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    let receiver = Receiver::start(|_, number| {
        if number % 3 == 0 {
            Behave::Act(Box::new(|stream| {
                // Until the gateway gives up.
                let _ended = std::io::Read::read(stream, &mut [0; 1]);
            }))
        } else {
            Behave::take()
        }
    })?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        delivery: "breaker_failures = 100000".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let mut slowest = Duration::ZERO;
    for round in 0..run.times(1, 20) {
        let gateway = world.start().up()?;
        let mut stalled = TcpStream::connect(gateway.public)?;
        let whole = request(
            "POST",
            "/api/v1/records",
            record(Tenant::Contoso, 900_000 + u64::try_from(round)?, 100).as_bytes(),
        );
        stalled.write_all(whole.get(..whole.len() - 20).unwrap_or_default())?;
        let moment = chance.millis(100, 1_000);
        let (ended, tally) = Load::new(&world, gateway.public, 4).during(|tally| {
            tally.wait_for(10, Duration::from_secs(10));
            std::thread::sleep(moment);
            gateway.terminate()
        });
        let (code, took) = ended?;
        slowest = slowest.max(took);
        findings
            .require(code == Some(0) && took <= Duration::from_secs(10), || format!("exit {code:?} after {took:?}"));
        let odd = tally.outcomes().iter().filter(|outcome| !matches!(outcome.status, 0 | 202 | 503)).count();
        findings.require(odd == 0, || format!("{odd} answers other than 202 and 503"));
        findings.runs += 1;
    }
    let gateway = world.start().up()?;
    let found = account_of(gateway.public, &world.ledger, Some(&receiver))?;
    // A receiver that took a record and hung had it; the gateway does not count it as delivered.
    found.judge(&mut findings);
    findings.figure(format!("slowest exit {:.1} s; {}", slowest.as_secs_f64(), found.words()));
    Ok(findings)
}

fn panicking(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?.with_binary(Run::control_binary());
    let mut gateway = world.start().fault("panic-in-writer").up()?;
    let (_, tally) = Load::new(&world, gateway.public, 4).during(|tally| {
        eventually(Duration::from_secs(60), || (tally.count(503) > 20).then_some(()));
    });
    let odd = tally.outcomes().iter().filter(|outcome| !matches!(outcome.status, 202 | 503)).count();
    findings.figure(format!(
        "{} accepted before it, {} answers 503 after it, {odd} other answers",
        tally.accepted(),
        tally.count(503)
    ));
    findings.require(odd == 0, || format!("{odd} answers other than 202 and 503"));
    findings.require(gateway.is_alive(), || "the process ended".to_owned());
    let reason = gateway.unready()?;
    findings.require(reason == "store-broken", || format!("readiness says {reason:?}"));
    account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
    let health = Client::patient(gateway.admin).get("/health/live")?.status;
    findings.require(health == 200, || format!("live says {health}"));
    let (_, took) = gateway.terminate()?;
    findings.figure(format!("SIGTERM ends it after {:.1} s", took.as_secs_f64()));
    findings.require(took <= Duration::from_secs(10), || format!("SIGTERM took {took:?}"));
    let gateway = world.start().up()?;
    account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
    findings.control("it really panicked: nothing was accepted any more", tally.count(503) > 0);
    findings.runs = 1;
    Ok(findings)
}
