//! Three servers and a stream with three replicas, whose leader is killed again and again while records come in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::consumer::Consumer;
use super::{figure, program, publishing_to};
use crate::support::eventually;
use crate::support::gateway::TestGateway;
use crate::support::nats::NatsServer;
use crate::support::records::nth_incident;

/// How often the leader is killed.
const KILLS: usize = 4;
/// Records around each kill.
const RECORDS: usize = 300;

/// The number of the server that leads the stream, as those that answer say, when all replicas that are to be there are.
fn leader(servers: &[NatsServer; 3], current: usize) -> Option<usize> {
    servers.iter().find_map(|server| {
        std::net::TcpStream::connect(server.address).ok()?;
        let stream = Consumer::connect(server.address).stream("RECORDS")?;
        let there = stream["cluster"]["replicas"]
            .as_array()?
            .iter()
            .filter(|one| one["current"] == true && one["offline"] != true);
        let name = stream["cluster"]["leader"].as_str()?.strip_prefix('n')?.parse().ok()?;
        (there.count() + 1 >= current).then_some(name)
    })
}

#[test]
fn no_record_is_lost_when_the_leader_is_killed_again_and_again() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut servers = NatsServer::cluster(&program, folder.path());
    eventually("a leader of the cluster", || {
        servers.iter().all(|server| Consumer::connect(server.address).ask("INFO", &json!({})).is_some()).then_some(())
    });
    let gateway = TestGateway::start_with(&publishing_to(&servers, "create_stream = true\n"));
    let mut receipts = Vec::new();
    let mut post = |count: usize| {
        for _ in 0..count {
            let accepted = gateway.post(nth_incident(receipts.len()));
            assert_eq!(accepted.status, 202, "{accepted:?}");
            receipts.push(accepted.text("receiptId"));
        }
    };
    post(RECORDS / 3);
    let mut out = Duration::ZERO;
    for _ in 0..KILLS {
        let leads = eventually("a whole stream", || leader(&servers, 3));
        post(RECORDS / 3);
        servers[leads].kill();
        let killed = Instant::now();
        let before = figure(&gateway, "streamgate_records_delivered_total{routing_queue=\"stream\"}");
        post(RECORDS / 3);
        let next = eventually("another leader", || leader(&servers, 2).filter(|next| *next != leads));
        post(RECORDS / 3);
        eventually("deliveries to go on", || {
            (figure(&gateway, "streamgate_records_delivered_total{routing_queue=\"stream\"}") > before).then_some(())
        });
        out = out.max(killed.elapsed());
        assert_ne!(next, leads);
        servers[leads].run();
    }
    receipts.iter().for_each(|receipt| drop(gateway.wait_for_state(receipt, "delivered")));
    eventually("a whole stream", || leader(&servers, 3));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for message in Consumer::connect(servers[0].address).read_all("RECORDS") {
        *seen.entry(message.header("Nats-Msg-Id").to_owned()).or_default() += 1;
    }
    let lost: Vec<_> = receipts.iter().filter(|id| !seen.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), receipts.len());
    assert_eq!(seen.len(), receipts.len(), "and nothing else is in it");
    let twice = seen.values().filter(|count| **count > 1).count();
    println!(
        "{} records, {KILLS} leaders killed, longest until deliveries went on {out:?}, {twice} twice in the stream",
        receipts.len()
    );
}

#[test]
fn the_configuration_to_try_it_with_is_one_that_servers_take() {
    let Some(program) = program() else { return };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = std::process::Command::new(program)
        .args(["-t", "-n", "nats-1", "-c"])
        .arg(root.join("deploy/nats/nats.conf"))
        .output()
        .expect("ran");
    assert!(checked.status.success(), "{checked:?}");
    let compose = std::fs::read_to_string(root.join("deploy/nats/compose.yaml")).expect("readable");
    for server in ["nats-1", "nats-2", "nats-3"] {
        assert!(compose.contains(&format!("  {server}:\n    image: nats:2.15.1\n")), "{server}");
        assert!(compose.contains(&format!("\"-n\", \"{server}\"]")), "{server}");
    }
    assert!(!compose.contains("\"0.0.0.0") && compose.matches("\"127.0.0.1:").count() == 4, "only this machine");
}
