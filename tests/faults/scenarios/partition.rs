//! A NATS cluster that falls apart: its leader cut off from the others, no majority anywhere, the gateway cut off from all of
//! them. In namespaces of its own.
//!
//! Each server runs as a user of its own, so that what one of them says to the others can be dropped: a server that says
//! nothing is not there for them, while clients still reach it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::Fallible;
use crate::disk::run as program;
use crate::gateway::{Gateway, write_line};
use crate::load::{Load, eventually};
use crate::namespace::{GATEWAY_ADDRESS, OUTSIDE_ADDRESS, through};
use crate::nats::{self, NatsServer};
use crate::nats_consumer::Consumer;
use crate::oracle::account_of;
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::world::{Configuration, World};

pub(crate) const ALL: &[Scenario] = &[Scenario {
    id: "N11",
    what: "three NATS servers: the stream's leader is cut off from the others, then two of them, then the gateway from all",
    required: "202s go on; with a majority deliveries go on, too; every acknowledged record is in the stream afterwards",
    needs: &[Need::Namespace, Need::Nats],
    how: How::Run(partitions),
}];

/// The user of the first server; the others have the numbers behind it.
const FIRST_USER: u32 = 61_700;
/// Where they talk to each other: each on a port of its own.
const ROUTES: std::ops::Range<u16> = 6_222..6_225;
const CLIENTS: std::ops::Range<u16> = 4_222..4_225;
const DELIVERED: &str = "streamgate_records_delivered_total{routing_queue=\"stream\"}";

/// Who is cut off.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The leader, from the other servers.
    Leader,
    /// Two of them, from everybody else: none has a majority.
    Majority,
    /// The gateway, from all.
    Gateway,
}

fn partitions(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let servers = cluster(folder.path())?;
    let leads = eventually(Duration::from_secs(60), || {
        servers.iter().all(|server| Consumer::connect(server.address).ask("INFO", &json!({})).is_some()).then_some(())
    });
    leads.ok_or("the cluster has no leader after 60 s")?;
    let shown: Vec<String> = servers.iter().map(|server| format!("\"nats://{}\"", server.address)).collect();
    let configuration = Configuration {
        destinations: format!(
            "\n[routing_queues.stream]\nkind = \"nats\"\nservers = [{}]\nallow_clear_text = true\nstream = \"RECORDS\"\n\
             create_stream = true\ntimeout_seconds = 5\n",
            shown.join(", ")
        ),
        delivery: "breaker_pause_seconds = 1\nlongest_pause_seconds = 2".to_owned(),
        contoso: "stream",
        ..Configuration::default()
    };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().through(through()?).listen(GATEWAY_ADDRESS).up()?;
    for _ in 0..run.times(1, 5) {
        for cut in [Cut::Leader, Cut::Majority, Cut::Gateway] {
            one(cut, &servers, (&world, &gateway), &mut findings)?;
            findings.runs += 1;
        }
    }
    account_of(gateway.public, &world.ledger, None)?.judge(&mut findings);
    let leads = leader(&servers).ok_or("the stream has no leader in the end")?;
    let mut consumer = Consumer::connect(servers[leads].address);
    let (lost, messages) = missing(&world, &mut consumer);
    let promised = world.ledger.all().len();
    findings.figure(format!("{lost} of {promised} promised are not in the stream, which has {messages} messages"));
    findings.require(lost == 0, || format!("{lost} of {promised} promised records are not in the stream"));
    findings.require(promised > 100, || format!("only {promised} records were promised"));
    // What the judge has to object to: somebody takes a message out.
    consumer.ask("STREAM.MSG.DELETE.RECORDS", &json!({"seq": 1})).ok_or("the message was not taken out")?;
    let (lost, _) = missing(&world, &mut consumer);
    findings.control(format!("a message is taken out of the stream: {lost} missed"), lost == 1);
    Ok(findings)
}

fn cluster(folder: &Path) -> Fallible<[NatsServer; 3]> {
    // Other users may not reach where it is installed.
    let program = folder.join("nats-server");
    std::fs::copy(nats::program().ok_or("nats-server is not installed")?, &program)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let at = |port: u16| -> Fallible<SocketAddr> { Ok(format!("{OUTSIDE_ADDRESS}:{port}").parse()?) };
    let mut ports = Vec::new();
    for port in CLIENTS.chain(8_222..8_225).chain(ROUTES) {
        ports.push(at(port)?);
    }
    let ports = ports.try_into().map_err(|_ports| "nine ports")?;
    Ok(NatsServer::cluster_on(&program, folder, ports, [0, 1, 2].map(|n| Some(FIRST_USER + n))))
}

/// The number of the server that leads the stream, when all three replicas are there.
fn leader(servers: &[NatsServer; 3]) -> Option<usize> {
    servers.iter().find_map(|server| {
        let stream = Consumer::connect(server.address).stream("RECORDS")?;
        let replicas = stream["cluster"]["replicas"].as_array()?;
        let there = replicas.iter().filter(|one| one["current"] == true && one["offline"] != true).count();
        let name = stream["cluster"]["leader"].as_str()?.strip_prefix('n')?.parse().ok()?;
        (there == 2).then_some(name)
    })
}

fn one(
    cut: Cut,
    servers: &[NatsServer; 3],
    (world, gateway): (&World, &Gateway),
    findings: &mut Findings,
) -> Fallible<()> {
    let whole = eventually(Duration::from_secs(90), || leader(servers));
    let leads = whole.ok_or_else(|| format!("{cut:?}: the stream was not whole within 90 s"))?;
    let silent = |server: usize| {
        let user = FIRST_USER + u32::try_from(server).unwrap_or(0);
        let (first, last) = (ROUTES.start, ROUTES.end - 1);
        format!("meta skuid {user} tcp dport {first}-{last} drop\n meta skuid {user} tcp sport {first}-{last} drop")
    };
    let (hook, rules) = match cut {
        Cut::Leader => ("output", silent(leads)),
        Cut::Majority => ("output", format!("{}\n {}", silent(leads), silent((leads + 1) % 3))),
        Cut::Gateway => {
            ("input", format!("ip saddr {GATEWAY_ADDRESS} tcp dport {}-{} drop", CLIENTS.start, CLIENTS.end - 1))
        }
    };
    let mut load = Load::new(world, gateway.public, 2);
    load.rest = Duration::from_millis(20);
    let before = gateway.metric("streamgate_records_accepted_total{kind=\"new\"}").unwrap_or(0.0);
    let (meanwhile, tally) = load.during(|_| -> Fallible<(f64, bool)> {
        block(hook, &rules, &world.folder)?;
        // What was on its way has arrived by then; from here on, whatever is delivered needs a leader.
        std::thread::sleep(Duration::from_secs(2));
        let from = gateway.metric(DELIVERED).unwrap_or(0.0);
        let goes_on = match cut {
            Cut::Leader => {
                eventually(Duration::from_secs(60), || (gateway.metric(DELIVERED).ok()? > from + 50.0).then_some(()))
            }
            Cut::Majority | Cut::Gateway => {
                std::thread::sleep(Duration::from_secs(15));
                None
            }
        };
        Ok((gateway.metric(DELIVERED).unwrap_or(from) - from, goes_on.is_some()))
    });
    let (delivered, goes_on) = meanwhile?;
    let accepted = tally.accepted();
    findings.figure(format!("{cut:?}: {accepted} accepted and {delivered:.0} delivered meanwhile"));
    findings.require(accepted > 20 && tally.count(503) + tally.count(0) == 0, || {
        format!("{cut:?}: {accepted} accepted, {} answers 503, {} broken", tally.count(503), tally.count(0))
    });
    match cut {
        Cut::Leader => findings.require(goes_on, || format!("{cut:?}: nothing was delivered within 60 s")),
        // Where nobody can acknowledge, nothing may count as delivered.
        Cut::Majority | Cut::Gateway => findings.require(delivered < 0.5, || {
            format!("{cut:?}: {delivered:.0} counted as delivered (after {before:.0} had been accepted)")
        }),
    }
    program("nft", &["flush", "ruleset"])?;
    let drained = eventually(Duration::from_secs(120), || {
        (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
    });
    findings.require(drained.is_some(), || format!("{cut:?}: what waited was not delivered within 120 s"));
    Ok(())
}

fn block(hook: &str, rules: &str, folder: &Path) -> Fallible<()> {
    let file = folder.join("rules");
    let text = format!(
        "table inet faults {{\n chain cut {{\n type filter hook {hook} priority 0; policy accept;\n {rules}\n }}\n}}"
    );
    write_line(&file, &text)?;
    program("nft", &["-f", file.to_str().unwrap_or_default()]).map(drop)
}

/// How many promised records the stream lacks, and how many messages it has.
fn missing(world: &World, consumer: &mut Consumer) -> (usize, usize) {
    let messages = consumer.read_all("RECORDS");
    let there: BTreeSet<&str> = messages.iter().map(|message| message.header("Nats-Msg-Id")).collect();
    let lost = world.ledger.all().iter().filter(|promise| !there.contains(promise.receipt.as_str())).count();
    (lost, messages.len())
}
