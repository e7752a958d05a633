//! Clocks that jump, and a process that is stopped for a while.

use std::time::{Duration, Instant};

use crate::Fallible;
use crate::client::Client;
use crate::gateway::{Gateway, write_line};
use crate::load::{Load, eventually};
use crate::oracle::account_of;
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, LIBFAKETIME, Need, Run, Scenario, first_of};
use crate::world::{Configuration, Tenant, World, destination, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "C1",
        what: "the clock jumps while it runs: an hour on, an hour back, to 1970, ten years on",
        required: "202s and deliveries go on, retries are neither missed nor early, nothing is given up or forgotten; repeats are known while the clock is within the window",
        needs: &[Need::Library(LIBFAKETIME)],
        how: How::Run(jumps),
    },
    Scenario {
        id: "C2",
        what: "the process is stopped for a while (SIGSTOP) and goes on",
        required: "no herd of retries, requests under way are answered, nothing lost",
        needs: &[],
        how: How::Run(pause),
    },
];

fn jumps(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let library = first_of(LIBFAKETIME).ok_or("libfaketime is not installed")?;
    // Each event fails once, so that its second try goes by a timer.
    let receiver = Receiver::start(fail_once())?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        delivery: "breaker_failures = 1000\nlongest_pause_seconds = 2".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let offset = world.folder.join("offset");
    write_line(&offset, "+0")?;
    let start = world.start().variable("LD_PRELOAD", library).variable("FAKETIME_TIMESTAMP_FILE", &offset);
    let gateway = start.variable("FAKETIME_NO_CACHE", "1").variable("FAKETIME_DONT_FAKE_MONOTONIC", "1").up()?;
    let mut receipts = std::collections::BTreeSet::from([accept(&world, &gateway)?]);
    let since_1970 = crate::seed::unix_now();
    for (name, seconds) in [
        ("one hour on", 3_600.0),
        ("one hour back", -3_600.0),
        ("1970", 10.0 - since_1970),
        ("ten years on", 315_576_000.0),
        ("back again", 0.0),
    ] {
        let before = accept(&world, &gateway)?;
        write_line(&offset, &format!("{seconds:+.0}"))?;
        let date = date_of(&gateway)?;
        let after = accept(&world, &gateway)?;
        for receipt in [&before, &after] {
            let delivered = eventually(Duration::from_secs(15), || receiver.taken().contains(receipt).then_some(()));
            findings.require(delivered.is_some(), || format!("{name}: {receipt} was not delivered within 15 s"));
        }
        let repeat = Client::patient(gateway.public).post(&record(Tenant::Contoso, 1, 0))?;
        let known = repeat.status == 202 && repeat.json()["duplicate"] == true;
        let receipt = repeat.text("receiptId");
        if name == "ten years on" {
            // Whether a repeat still counts is judged by the wall clock, which says that the window is long over.
            findings.figure(format!("ten years on, a repeat is known: {known}"));
            receipts.insert(receipt);
        } else {
            let one = receipts.contains(&receipt);
            findings.require(known && one, || {
                format!("{name}: a repeat is not known: {}", String::from_utf8_lossy(&repeat.body))
            });
        }
        findings.figure(format!("{name}: {date}"));
        findings.runs += 1;
    }
    let early = receiver.copies().values().filter(|copies| **copies > 2).count();
    findings.require(early == 0, || format!("{early} events were tried more often than they failed"));
    let given_up = gateway.metric("streamgate_store_dead_letters")?;
    findings.require(given_up < 0.5, || format!("{given_up} records were given up"));
    account_of(gateway.public, &world.ledger, Some(&receiver))?.judge(&mut findings);
    let distinct: std::collections::BTreeSet<&str> =
        findings.figures.iter().filter_map(|text| text.get(text.len().saturating_sub(24)..)).collect();
    let jumped = distinct.len() >= 4;
    findings.control("the gateway really saw each of these dates", jumped);
    Ok(findings)
}

/// Refuses the first try of each event, takes the second.
fn fail_once() -> impl Fn(&crate::receiver::Delivered, usize) -> Behave + Send + Sync {
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    move |delivered, _| {
        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.insert(delivered.receipts.clone()) {
            Behave::status("500 Internal Server Error")
        } else {
            Behave::take()
        }
    }
}

/// Posts the next record, which has to be accepted, and notes the promise.
fn accept(world: &World, gateway: &Gateway) -> Fallible<String> {
    let number = world.number();
    let (sent, answer) =
        (crate::seed::unix_now(), Client::patient(gateway.public).post(&record(Tenant::Contoso, number, 0))?);
    if answer.status != 202 {
        return Err(
            format!("a record was answered with {}: {}", answer.status, String::from_utf8_lossy(&answer.body)).into()
        );
    }
    let receipt = answer.text("receiptId");
    let answered = crate::seed::unix_now();
    world.ledger.note(crate::ledger::Promise { receipt: receipt.clone(), number, sent, answered });
    Ok(receipt)
}

/// The moment at which the gateway says that it has just accepted a record.
fn date_of(gateway: &Gateway) -> Fallible<String> {
    let probe = Client::patient(gateway.public).post(&record(Tenant::Fabrikam, crate::seed::from_the_clock(), 0))?;
    let status = Client::patient(gateway.public).get(&format!("/api/v1/receipts/{}", probe.text("receiptId")))?;
    Ok(status.text("acceptedAt"))
}

fn pause(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let receiver = Receiver::start(|_, _| Behave::status("503 Service Unavailable"))?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        delivery: "breaker_pause_seconds = 1\nlongest_pause_seconds = 2".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().up()?;
    let seconds = u64::try_from(run.times(5, 60))?;
    let (told, tally) = Load::new(&world, gateway.public, 4).during(|tally| -> Fallible<Instant> {
        tally.wait_for(300, Duration::from_secs(10));
        gateway.signal(rustix::process::Signal::STOP)?;
        std::thread::sleep(Duration::from_secs(seconds));
        let goes_on = Instant::now();
        gateway.signal(rustix::process::Signal::CONT)?;
        let accepted = tally.accepted();
        tally.wait_for(accepted + 20, Duration::from_secs(5));
        std::thread::sleep(Duration::from_secs(1));
        Ok(goes_on)
    });
    let goes_on = told?;
    let tries =
        receiver.notes().iter().filter(|note| note.at >= goes_on && note.at < goes_on + Duration::from_secs(1)).count();
    findings.figure(format!(
        "stopped for {seconds} s: {tries} tries in the first second afterwards; {} requests broke",
        tally.count(0)
    ));
    // Five failures open the breaker; one probe a second, and what was under way, may come on top.
    findings.require(tries <= 32, || format!("a herd: {tries} tries in the first second"));
    // A request that waited that long is answered in the end, be it with a 408.
    findings.require(seconds > 25 || tally.count(0) == 0, || format!("{} requests got no answer", tally.count(0)));
    receiver.behave(|_, _| Behave::take());
    let drained = eventually(Duration::from_secs(90), || {
        (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
    });
    findings.require(drained.is_some(), || "what waited was not delivered".to_owned());
    let found = account_of(gateway.public, &world.ledger, Some(&receiver))?;
    found.judge(&mut findings);
    findings.figure(found.words());
    findings.runs = 1;
    Ok(findings)
}
