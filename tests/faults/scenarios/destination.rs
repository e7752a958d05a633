//! Destinations that hang, refuse, ask for patience, process and die, close early, or never take one certain record.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::client::Client;
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::load::{Load, eventually, percentile};
use crate::oracle::account_of;
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, Run, Scenario};
use crate::world::{Configuration, Tenant, World, destination, id_of, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "N2",
        what: "a destination never answers, stops within its answer, sends a byte a second",
        required: "each try ends at its deadline; accepting and other destinations go on as usual",
        needs: &[],
        how: How::Run(hanging),
    },
    Scenario {
        id: "N3",
        what: "503 and 429 with Retry-After: seconds, a date, 0, -1, 10^9, garbage",
        required: "honoured between 1 s and 24 h; anything else is the usual pause",
        needs: &[],
        how: How::Run(retry_after),
    },
    Scenario {
        id: "N4",
        what: "a destination reads everything, then resets the connection",
        required: "tried again with the same message ID; nothing lost",
        needs: &[],
        how: How::Run(processes_and_dies),
    },
    Scenario {
        id: "N7",
        what: "a destination closes idle connections after half a second",
        required: "a stale connection costs no try",
        needs: &[],
        how: How::Run(closes_idle),
    },
    Scenario {
        id: "N8",
        what: "a destination never takes certain records (400)",
        required: "dead letters with the reason; those behind them do not wait",
        needs: &[],
        how: How::Run(poison),
    },
];

/// Two organizations with a destination each; the first one's misbehaves.
fn two_destinations(bad: &Receiver, good: &Receiver, more: &str) -> Configuration {
    Configuration {
        destinations: destination("bad", bad.address, more) + &destination("good", good.address, ""),
        delivery: "breaker_pause_seconds = 1\nlongest_pause_seconds = 1".to_owned(),
        contoso: "bad",
        fabrikam: "good",
        ..Configuration::default()
    }
}

fn never_ends(after: Vec<u8>, pause: Duration) -> Behave {
    Behave::Act(Box::new(move |stream| {
        let began = Instant::now();
        let _begun = stream.write_all(&after);
        while began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(pause);
            if stream.write_all(b"x").is_err() {
                return;
            }
        }
    }))
}

/// The ways to hang: without a byte, within the head, within the body of a refusal.
fn hang(way: usize) -> Behave {
    match way % 3 {
        0 => Behave::Act(Box::new(|stream| {
            // Ends when the gateway gives up.
            let _ended = std::io::Read::read(stream, &mut [0; 1]);
        })),
        1 => never_ends(b"HTTP/1.1 200 OK\r\nx-slow: ".to_vec(), Duration::from_secs(1)),
        _ => never_ends(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 100000\r\n\r\n".to_vec(),
            Duration::from_secs(1),
        ),
    }
}

/// Accepting, and from acceptance to delivery at the good destination, at the 99th percentile.
fn both_times(world: &World, gateway: &Gateway, good: &Receiver, seconds: u64) -> (Duration, Duration) {
    let before = good.notes().len();
    let mut load = Load::new(world, gateway.public, 2);
    (load.tenant, load.rest) = (Tenant::Fabrikam, Duration::from_millis(5));
    let known = world.ledger.len();
    let began = (Instant::now(), crate::seed::unix_now());
    let (_, tally) = load.during(|_| std::thread::sleep(Duration::from_secs(seconds)));
    let sent = world.ledger.all().split_off(known);
    let all_there = || (good.notes().len() - before >= sent.len()).then_some(());
    // A delivery that is late shows in the figure.
    let _late = eventually(Duration::from_secs(10), all_there);
    let notes = good.notes().split_off(before);
    let delivered: Vec<Duration> = sent
        .iter()
        .map(|promise| {
            let at = notes.iter().find(|note| note.receipts.contains(&promise.receipt)).map(|note| note.at);
            let accepted = began.0 + Duration::from_secs_f64((promise.answered - began.1).max(0.0));
            at.map_or(Duration::from_secs(10), |at| at.saturating_duration_since(accepted))
        })
        .collect();
    (percentile(&tally.times(), 0.99), percentile(&delivered, 0.99))
}

fn hanging(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let (bad, good) = (Receiver::start(|_, _| Behave::take())?, Receiver::start(|_, _| Behave::take())?);
    let world = World::new(run, &two_destinations(&bad, &good, "timeout_seconds = 2\nconcurrency = 8"))?;
    let gateway = world.start().up()?;
    let elsewhere = Ledger::create(&world.folder.join("organizations"))?;
    let seconds = u64::try_from(run.times(1, 5))?;
    let (mut usual, mut while_hanging) = (Vec::new(), Vec::new());
    // The hanging destination has work all the while, in the usual rounds too; the two kinds of rounds take turns.
    for round in 0..5 {
        for hangs in [false, true] {
            if hangs {
                bad.behave(|_, number| hang(number))
            } else {
                bad.behave(|_, _| Behave::take())
            }
            let mut background = Load::new(&world, gateway.public, 1);
            background.ledger = &elsewhere;
            background.rest = Duration::from_millis(20);
            let (times, _) = background.during(|_| both_times(&world, &gateway, &good, seconds));
            if hangs { while_hanging.push(times) } else { usual.push(times) }
        }
        run.progress(&format!("round {} of 5", round + 1));
    }
    let median = |times: &[(Duration, Duration)], which: fn(&(Duration, Duration)) -> Duration| {
        percentile(&times.iter().map(which).collect::<Vec<_>>(), 0.5).as_secs_f64() * 1_000.0
    };
    for (name, which) in [
        ("accept", (|times| times.0) as fn(&(Duration, Duration)) -> Duration),
        ("delivery elsewhere", |times| times.1),
    ] {
        let (usual, hanging) = (median(&usual, which), median(&while_hanging, which));
        let ratio = hanging / usual.max(0.001);
        findings.figure(format!(
            "{name} p99 {usual:.1} ms, while the other hangs {hanging:.1} ms: {ratio:.2} times (median of 5)"
        ));
        // Only what no noise explains: other programs share this machine.
        findings.require(ratio < 5.0 || hanging < 100.0, || format!("{name}: {ratio:.1} times as slow"));
    }
    bad.behave(|_, _| Behave::take());
    let drained = eventually(Duration::from_secs(60), || {
        (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
    });
    findings.require(drained.is_some(), || "what waited was not delivered".to_owned());
    account_of(gateway.public, &world.ledger, Some(&good))?.judge(&mut findings);
    account_of(gateway.public, &elsewhere, Some(&bad))?.judge(&mut findings);
    let hung = gateway.metric("streamgate_delivery_tries_total{routing_queue=\"bad\",outcome=\"temporary\"}")?;
    findings.control(format!("{hung:.0} tries really ended at their deadline"), hung > 0.5);
    findings.runs = 10;
    Ok(findings)
}

fn retry_after(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let receiver = Receiver::start(|_, _| Behave::take())?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        delivery: "breaker_failures = 1000\nlongest_pause_seconds = 2".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().up()?;
    let day = 86_400;
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(600));
    let cases: [(&str, String, (u64, u64)); 8] = [
        ("120 seconds", "120".to_owned(), (118, 121)),
        ("a date in 600 s", date, (590, 601)),
        ("a date in 1994", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), (0, 3)),
        ("0", "0".to_owned(), (0, 3)),
        ("-1", "-1".to_owned(), (0, 3)),
        ("10^9", "1000000000".to_owned(), (day - 3, day + 1)),
        ("10^30", "1".to_owned() + &"0".repeat(30), (0, day + 1)),
        ("garbage", "soon\u{7f}".to_owned(), (0, 3)),
    ];
    let mut client = Client::patient(gateway.public);
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        for (name, value, (low, high)) in &cases {
            let answer = format!("HTTP/1.1 {status}\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
            receiver.behave(move |_, _| Behave::Answer(answer.clone().into_bytes()));
            // The usual pause is a chance one, and may be over before anybody looks: then another record is looked at.
            let due = (0..5).find_map(|_| {
                let receipt = client.post(&record(Tenant::Contoso, world.number(), 0)).ok()?.text("receiptId");
                let look = || first_pause(gateway.public, &receipt);
                eventually(Duration::from_secs(5), look)
            });
            let due = due.ok_or("no pause after a first try, of five records")?;
            let pause = due.duration_since(jiff::Timestamp::now()).as_secs();
            let holds = u64::try_from(pause).map_or(*low == 0 && pause > -3, |pause| (*low..=*high).contains(&pause));
            findings.require(holds, || format!("{status} with {name}: the next try is in {pause} s"));
            findings.runs += 1;
        }
    }
    findings.figure("every pause within its bounds");
    Ok(findings)
}

/// When a record is due again that was tried once.
fn first_pause(gateway: SocketAddr, receipt: &str) -> Option<jiff::Timestamp> {
    let stand = Client::patient(gateway).get(&format!("/api/v1/receipts/{receipt}")).ok()?.json();
    let due: jiff::Timestamp = stand["nextAttemptAt"].as_str()?.parse().ok()?;
    (stand["attempts"] == 1 && stand["lastError"].is_string()).then_some(due)
}

fn processes_and_dies(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    // Each event's first try dies.
    let seen = Mutex::new(BTreeSet::new());
    let receiver = Receiver::start(move |delivered, _| {
        let fresh = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(delivered.receipts.clone());
        if fresh { Behave::Reset } else { Behave::take() }
    })?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        delivery: "breaker_failures = 100000\nlongest_pause_seconds = 1".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().up()?;
    let wanted = u64::try_from(run.times(50, 1_000))?;
    Load::new(&world, gateway.public, 2).during(|tally| tally.wait_for(wanted, Duration::from_secs(60)));
    let drained = eventually(Duration::from_secs(120), || {
        (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
    });
    findings.require(drained.is_some(), || "not everything was delivered within 120 s".to_owned());
    account_of(gateway.public, &world.ledger, Some(&receiver))?.judge(&mut findings);
    let most = receiver.copies().values().copied().max().unwrap_or(0);
    let notes = receiver.notes();
    let same = notes.iter().all(|note| {
        note.receipts.len() == 1
            && notes.iter().filter(|other| other.message == note.message).all(|other| other.receipts == note.receipts)
    });
    let messages: BTreeSet<&str> = notes.iter().map(|note| note.message.as_str()).collect();
    findings
        .require(same && messages.len() == world.ledger.len(), || "a repeat came under another message ID".to_owned());
    findings.require(most <= 2, || format!("an event came {most} times"));
    findings.figure(format!(
        "{} events, each processed twice under one ID, none more often than {most} times",
        messages.len()
    ));
    findings.runs = messages.len();
    findings.control("connections were really reset", most == 2);
    Ok(findings)
}

fn closes_idle(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let idle = Duration::from_millis(500);
    let receiver = Receiver::start_at("127.0.0.1:0", Some(idle), |_, _| Behave::take())?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, ""),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().up()?;
    let mut client = Client::patient(gateway.public);
    let mut chance = run.chance();
    let records = run.times(12, 100);
    for _ in 0..records {
        client.post(&record(Tenant::Contoso, world.number(), 0))?;
        // Around the moment at which the destination closes.
        std::thread::sleep(chance.millis(480, 540));
    }
    let delivered = eventually(Duration::from_secs(10), || (receiver.taken().len() == records).then_some(()));
    let failed = gateway.metric("streamgate_delivery_tries_total{routing_queue=\"receiver\",outcome=\"temporary\"}")?;
    findings.figure(format!("{records} records over {} connections, {failed:.0} failed tries", receiver.connections()));
    findings.require(delivered.is_some() && failed < 0.5, || format!("{failed} tries failed"));
    findings.runs = records;
    findings.control("connections were really closed in between", receiver.connections() > records / 4);
    Ok(findings)
}

fn poison(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    // Every tenth record is poison.
    let is_poison = |id: &str| id.ends_with('0');
    let receiver = Receiver::start(move |delivered, _| {
        if delivered.records.iter().any(|id| is_poison(id)) {
            Behave::status("400 Bad Request")
        } else {
            Behave::take()
        }
    })?;
    let configuration = Configuration {
        destinations: destination("receiver", receiver.address, "concurrency = 4"),
        contoso: "receiver",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().up()?;
    let wanted = u64::try_from(run.times(300, 10_000))?;
    let began = Instant::now();
    Load::new(&world, gateway.public, 2).during(|tally| tally.wait_for(wanted, Duration::from_secs(120)));
    let drained = eventually(Duration::from_secs(60), || {
        (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
    });
    findings.require(drained.is_some(), || "those behind the poison wait".to_owned());
    let promises = world.ledger.all();
    let poisoned = promises.iter().filter(|promise| is_poison(&id_of(promise.number))).count();
    let found = account_of(gateway.public, &world.ledger, Some(&receiver))?;
    found.judge(&mut findings);
    let dead = found.states.get("dead-lettered").copied().unwrap_or(0);
    findings.require(dead == poisoned, || format!("{poisoned} records are poison, {dead} are dead letters"));
    findings.figure(format!(
        "{dead} dead letters, {} delivered, all settled {:.1} s after the first",
        promises.len() - dead,
        began.elapsed().as_secs_f64()
    ));
    findings.runs = promises.len();
    Ok(findings)
}
