//! Too little of everything: files, memory, processor, patience.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::client::{Client, request};
use crate::disk::{Group, run as program};
use crate::gateway::Gateway;
use crate::load::{Load, eventually, percentile};
use crate::oracle::account_of;
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::world::{Configuration, Tenant, World, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "R1",
        what: "no file descriptors are left: the limit is lowered while it runs, and more sockets come",
        required: "no crash and no spinning; what is promised stays; it recovers by itself",
        needs: &[Need::Root, Need::Tool("prlimit")],
        how: How::Run(no_files),
    },
    Scenario {
        id: "R2",
        what: "memory for 256 MiB, and clients that would fill more with bodies",
        required: "503 or 413 before memory is out: 0 kills for lack of memory",
        needs: &[Need::Group("memory")],
        how: How::Run(little_memory),
    },
    Scenario {
        id: "R3",
        what: "a tenth of a processor",
        required: "health still answers, nothing breaks, nothing lost",
        needs: &[Need::Group("cpu")],
        how: How::Run(little_processor),
    },
    Scenario {
        id: "R7",
        what: "slow clients: heads and bodies by the byte, second requests that never end, hundreds of them",
        required: "each is cut at its deadline; others notice nothing",
        needs: &[],
        how: How::Run(slow_clients),
    },
];

/// Sockets that only stand there.
fn idle(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).filter_map(|_| TcpStream::connect_timeout(&to, Duration::from_millis(20)).ok()).collect()
}

/// Processor time used so far, in ticks of the system.
fn ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.id())).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn no_files(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?;
    let mut gateway = world.start().up()?;
    Load::new(&world, gateway.public, 2).during(|tally| tally.wait_for(50, Duration::from_secs(10)));
    let limit = gateway.files() + 8;
    program("prlimit", &["--pid", &gateway.id().to_string(), &format!("--nofile={limit}:20000")])?;
    let before = ticks(&gateway);
    let sockets = idle(gateway.public, 200);
    let count = sockets.len();
    let (given_back, meanwhile) = Load::new(&world, gateway.public, 2).during(|_| {
        std::thread::sleep(Duration::from_secs(3));
        let spent = ticks(&gateway) - before;
        drop(sockets);
        program("prlimit", &["--pid", &gateway.id().to_string(), "--nofile=20000:20000"]).map(|_| spent)
    });
    let spent = given_back?;
    let meanwhile = meanwhile.accepted();
    findings.figure(format!(
        "{count} sockets at a limit of {limit} files: {meanwhile} accepted meanwhile, {spent} ticks of 300 in 3 s"
    ));
    findings.require(spent < 150, || format!("it spins: {spent} ticks of 300 in 3 s"));
    findings.require(gateway.is_alive(), || "it ended".to_owned());
    let began = Instant::now();
    let (recovered, _) =
        Load::new(&world, gateway.public, 2).during(|tally| tally.wait_for(20, Duration::from_secs(15)));
    findings.figure(format!("accepting again after {:.1} s", began.elapsed().as_secs_f64()));
    findings.require(recovered, || "it does not recover within 15 s".to_owned());
    let reason = gateway.unready()?;
    findings.figure(if reason.is_empty() {
        "ready afterwards".to_owned()
    } else {
        format!("afterwards not ready: {reason}")
    });
    account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
    findings.runs = 1;
    Ok(findings)
}

/// A body of which all but the last byte is sent.
fn unfinished(to: SocketAddr, number: u64, padding: usize) -> Option<TcpStream> {
    let bytes = request("POST", "/api/v1/records", record(Tenant::Contoso, number, padding).as_bytes());
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(2))).ok()?;
    // The gateway may refuse it in the middle.
    let _sent = stream.write_all(bytes.get(..bytes.len() - 1)?);
    Some(stream)
}

fn little_memory(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(
        run,
        &Configuration { limits: "max_connections_per_peer = 2000".to_owned(), ..Configuration::default() },
    )?;
    let group = Group::make("memory")?;
    group.set(&[("memory.limit_in_bytes", "268435456"), ("memory.max", "268435456")])?;
    let mut gateway = world.start().up()?;
    group.take_in(gateway.id())?;
    let bodies = u64::try_from(run.times(400, 1_200))?;
    let streams: Vec<TcpStream> =
        (0..bodies).filter_map(|_| unfinished(gateway.public, world.number(), 1_000_000)).collect();
    let held = gateway.metric("streamgate_in_flight_body_bytes").unwrap_or(0.0);
    let mut refused = 0;
    for mut stream in streams {
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut head = [0; 12];
        if stream.read_exact(&mut head).is_ok() && (head.ends_with(b"503") || head.ends_with(b"408")) {
            refused += 1;
        }
    }
    let most = gateway.memory_kib().1 >> 10;
    findings.figure(format!(
        "{bodies} bodies of 1 MB: {refused} refused, {:.0} MiB held, {most} MiB of memory at most",
        held / 1_048_576.0
    ));
    findings.require(gateway.is_alive(), || "it was killed for lack of memory".to_owned());
    let (went_on, _) = Load::new(&world, gateway.public, 2).during(|tally| tally.wait_for(20, Duration::from_secs(20)));
    findings.require(went_on, || "it does not go on".to_owned());
    account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
    gateway.kill()?;
    findings.control("bodies were really refused", refused > 0);
    findings.runs = 1;
    Ok(findings)
}

fn little_processor(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?;
    let group = Group::make("cpu")?;
    let mut gateway = world.start().up()?;
    group.set(&[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "10000"), ("cpu.max", "10000 100000")])?;
    group.take_in(gateway.id())?;
    let seconds = u64::try_from(run.times(5, 30))?;
    let mut asked = Vec::new();
    let (_, tally) = Load::new(&world, gateway.public, 16).during(|_| {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline {
            let began = Instant::now();
            if Client::new(gateway.admin, Duration::from_secs(10))
                .get("/health/live")
                .is_ok_and(|answer| answer.status == 200)
            {
                asked.push(began.elapsed());
            }
        }
    });
    let slowest = asked.iter().max().copied().unwrap_or(Duration::from_secs(99));
    findings.figure(format!(
        "16 clients: {} accepted, {} answers 503; health after {} ms at most",
        tally.accepted(),
        tally.count(503),
        slowest.as_millis()
    ));
    findings.require(slowest < Duration::from_secs(10) && !asked.is_empty(), || format!("health took {slowest:?}"));
    findings.require(gateway.is_alive() && tally.accepted() > 0, || "it does nothing any more".to_owned());
    let others = tally.outcomes().iter().filter(|outcome| !matches!(outcome.status, 202 | 408 | 503)).count();
    findings.require(others == 0, || format!("{others} other answers"));
    gateway.kill()?;
    drop(group);
    let gateway = world.start().up()?;
    account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
    findings.runs = 1;
    Ok(findings)
}

/// A client that takes its time until it is cut off. Answers how long that took.
fn crawl(to: SocketAddr, kind: usize) -> Option<Duration> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(400))).ok()?;
    let whole = request("POST", "/api/v1/records", record(Tenant::Contoso, 1, 5_000).as_bytes());
    let body_at = whole.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let began = match kind % 3 {
        // The head by the byte.
        0 => 0,
        // The body by the byte.
        1 => body_at + 10,
        // A good request first, then a head that never ends.
        _ => {
            stream.write_all(&whole).ok()?;
            std::thread::sleep(Duration::from_millis(300));
            let _answer = stream.read(&mut [0; 4_096]);
            0
        }
    };
    let mut left = whole.get(began..)?.iter();
    stream.write_all(whole.get(..began)?).ok()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(40) {
        let byte = left.next().copied().unwrap_or(b'x');
        if stream.write_all(&[byte]).is_err() {
            return Some(start.elapsed());
        }
        match stream.read(&mut [0; 1_024]) {
            Ok(_) => return Some(start.elapsed()),
            Err(fault) if matches!(fault.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return Some(start.elapsed()),
        }
    }
    None
}

fn slow_clients(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?;
    let gateway = world.start().up()?;
    let good = || {
        let mut load = Load::new(&world, gateway.public, 1);
        (load.tenant, load.rest) = (Tenant::Fabrikam, Duration::from_millis(5));
        let (_, tally) = load.during(|_| std::thread::sleep(Duration::from_secs(4)));
        percentile(&tally.times(), 0.99)
    };
    let usual = good();
    let count = run.times(150, 600);
    let (beside, cut) = std::thread::scope(|scope| {
        let crawlers: Vec<_> = (0..count).map(|kind| scope.spawn(move || crawl(gateway.public, kind))).collect();
        std::thread::sleep(Duration::from_secs(1));
        let beside = good();
        let cut: Vec<Option<Duration>> = crawlers.into_iter().map(|crawler| crawler.join().ok().flatten()).collect();
        (beside, cut)
    });
    let never = cut.iter().filter(|cut| cut.is_none()).count();
    let slowest = cut.iter().flatten().max().copied().unwrap_or_default();
    let ratio = beside.as_secs_f64() / usual.as_secs_f64().max(1e-6);
    findings
        .figure(format!("{count} slow clients: {never} were never cut, the last after {:.1} s", slowest.as_secs_f64()));
    findings.figure(format!(
        "a good client's p99 {:.1} ms, beside them {:.1} ms: {ratio:.2} times",
        usual.as_secs_f64() * 1e3,
        beside.as_secs_f64() * 1e3
    ));
    findings.require(never == 0 && slowest < Duration::from_secs(17), || {
        format!("{never} were never cut; the last after {slowest:?}")
    });
    findings.require(ratio < 5.0 || beside < Duration::from_millis(100), || format!("{ratio:.1} times as slow"));
    let settled = eventually(Duration::from_secs(5), || (gateway.files() < 80).then_some(()));
    findings.require(settled.is_some(), || format!("{} files are still open", gateway.files()));
    findings.runs = count;
    Ok(findings)
}
