//! Gateways on a Citus cluster: what is accepted for organizations that live on different workers is neither lost nor stored
//! twice, whichever of the servers and gateways is killed, and the store is sound in the end.
//!
//! Citus is not in Debian, so this is not part of the usual run: `tests/citus/run.sh`.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::thread::scope;

use tempfile::TempDir;

use crate::gateways::{Load, nothing_is_lost_or_doubled};
use crate::lifecycle::Receiver;
use crate::support::gateway::{Setup, write_configuration};
use crate::support::postgres::Server;
use crate::support::process::Process;
use crate::support::records::{ORGANIZATION_ID, WORK_STREAM_ID, nth_incident};
use crate::support::store;

const FABRIKAM: (&str, &str) = ("b7a5c9d0-2222-4b6f-8f7a-9c0de1f2a3b4", "8d3fae65-52b9-4b22-b923-111e4b68ad42");

/// Records of two organizations, in turn.
fn of_two_organizations(n: usize) -> String {
    let record = nth_incident(n);
    if n.is_multiple_of(2) {
        record
    } else {
        record.replace(ORGANIZATION_ID, FABRIKAM.0).replace(WORK_STREAM_ID, FABRIKAM.1)
    }
}

fn folders(url: &str, receiver: &Receiver) -> Vec<TempDir> {
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    setup.process.push_str("timeout_seconds = 1\n");
    for (_, organization) in &mut setup.organizations {
        *organization = organization.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    }
    let make = |_| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("database.url"), url).expect("written");
        write_configuration(folder.path(), &setup);
        folder
    };
    (0..2).map(make).collect()
}

/// How many workers hold records of the two.
fn workers_in_use(server: &Server, database: &str) -> String {
    let shard = |id: &str| format!("get_shard_id_for_distribution_column('records', '{id}'::uuid)");
    let (one, other) = (shard(ORGANIZATION_ID), shard(FABRIKAM.0));
    let placed = "select count(distinct nodeport) from pg_dist_shard_placement where shardid";
    server.psql(database, &format!("{placed} in ({one}, {other})"))
}

#[test]
#[ignore = "needs Citus; tests/citus/run.sh"]
fn whatever_of_a_cluster_is_killed_nothing_is_lost_and_nothing_is_stored_twice() {
    let mut server = Server::start(&[]).expect("a server");
    assert!(server.is_cluster(), "STREAMGATE_TEST_CITUS is not set");
    let database = store::fresh(&server);
    assert_eq!(workers_in_use(&server, &database), "2", "commits are to span the workers");
    let receiver = Receiver::start();
    let folders = folders(&store::url(&server, &database), &receiver);
    let start = |folder: &TempDir| Process::start(folder.path(), None);
    let mut gateways: Vec<Process> = folders.iter().map(start).collect();
    let addresses: Mutex<Vec<Option<SocketAddr>>> = Mutex::new(gateways.iter().map(|one| Some(one.public)).collect());
    let load = Load::of(of_two_organizations, &addresses);
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load.client());
        }
        for round in 0..4 {
            load.wait_for_more(60 + 7 * round);
            let worker = &mut server.workers()[round % 2];
            worker.stop(if round < 2 { "KILL" } else { "INT" });
            worker.run();
            load.wait_for_more(40);
            server.stop("KILL");
            server.run();
            load.wait_for_more(40);
            let at = round % gateways.len();
            let again = {
                gateways.remove(at).kill();
                start(&folders[at])
            };
            addresses.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(again.public);
            gateways.insert(at, again);
        }
        load.wait_for_more(40);
        load.stop.store(true, Ordering::Relaxed);
    });
    nothing_is_lost_or_doubled(&gateways[0], &server, &folders[0], &load, &receiver);
    drop(gateways);
    let config = folders[0].path().join("streamgate.toml");
    let verified = Command::new(env!("CARGO_BIN_EXE_streamgate")).arg("verify").arg("--config").arg(config).output();
    let verified = verified.expect("run");
    let told = String::from_utf8_lossy(&verified.stdout).into_owned() + &String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{told}");
}
