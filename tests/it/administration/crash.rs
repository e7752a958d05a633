//! kill -9 in the middle of changes: every change that was answered is there afterwards, with its entry in the trail, and
//! none is there by half.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::crash::try_exchange;
use crate::support::eventually;
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::process::Process;
use crate::support::raw::request;

const ORGANIZATION: &str = "44444444-aaaa-4bbb-8ccc-000000000000";

/// One administrator of one work stream: which change was sent last, and which was answered last.
#[derive(Default)]
struct Client {
    sent: AtomicU64,
    answered: AtomicU64,
}

fn stream(number: usize) -> String {
    format!("44444444-aaaa-4bbb-8ccc-{:012}", number + 1)
}

fn ask(gateway: &Process, method: &str, path: &str, body: &Value) -> Option<Value> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    try_exchange(gateway.admin, &request(method, &format!("/admin/v1{path}"), &headers, &body))
}

/// Counts the capacity of a work stream up, one change after the other, until the gateway dies. The name says the same
/// number: a change by half would show.
fn change(gateway: &Process, number: usize, client: &Client) {
    loop {
        let next = client.answered.load(Ordering::Relaxed) + 1;
        client.sent.store(next, Ordering::Relaxed);
        let patch = json!({ "capacity": next, "name": format!("Stream {next}") });
        let path = format!("/work-streams/{}?organizationId={ORGANIZATION}", stream(number));
        match ask(gateway, "PATCH", &path, &patch) {
            Some(answer) if answer["capacity"] == next => client.answered.store(next, Ordering::Relaxed),
            Some(other) => panic!("{other}"),
            None => return,
        }
    }
}

#[test]
fn no_answered_change_is_lost_to_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &Setup::default());
    let clients: [Client; 4] = Default::default();
    let mut made = false;
    for round in 0..6 {
        let process = Process::start(folder.path(), None);
        let gateway = &process;
        if !made {
            let organization = json!({ "id": ORGANIZATION, "uniqueName": "crash" });
            ask(gateway, "POST", "/organizations", &organization).expect("made");
            for number in 0..clients.len() {
                let stream = json!({ "organizationId": ORGANIZATION, "id": stream(number), "name": "Stream 0" });
                ask(gateway, "POST", "/work-streams", &stream).expect("made");
            }
            made = true;
        }
        let before: u64 = clients.iter().map(|client| client.answered.load(Ordering::Relaxed)).sum();
        std::thread::scope(|scope| {
            for (number, client) in clients.iter().enumerate() {
                scope.spawn(move || change(gateway, number, client));
            }
            // Another amount of work each round, so the kill meets a change at another moment.
            let enough = before + 15 + 7 * round;
            eventually("enough changes", || {
                let answered: u64 = clients.iter().map(|client| client.answered.load(Ordering::Relaxed)).sum();
                (answered >= enough).then_some(())
            });
            gateway.strike();
        });
        process.kill();
        check(folder.path(), &clients);
    }
}

/// What is there after a kill: the last answered change, or the one that was under way.
fn check(folder: &std::path::Path, clients: &[Client]) {
    let gateway = Process::start(folder, None);
    for (number, client) in clients.iter().enumerate() {
        let path = format!("/work-streams/{}?organizationId={ORGANIZATION}", stream(number));
        let shown = ask(&gateway, "GET", &path, &Value::Null).expect("an answer");
        let capacity = shown["capacity"].as_u64().expect("a number");
        let (answered, sent) = (client.answered.load(Ordering::Relaxed), client.sent.load(Ordering::Relaxed));
        assert!((answered..=sent).contains(&capacity) || answered == 0, "{capacity} is there, {answered} was answered");
        let expected =
            if capacity == 30 && answered == 0 { "Stream 0".to_owned() } else { format!("Stream {capacity}") };
        assert_eq!(shown["name"], expected.as_str(), "a change is there by half");
        let trail = format!("/audit?limit=1&organizationId={ORGANIZATION}&resource={}", stream(number));
        let newest = ask(&gateway, "GET", &trail, &Value::Null).expect("an answer")["value"][0].clone();
        let told = newest["differences"].as_array().expect("differences").iter().find_map(|d| d["to"].as_u64());
        assert!(answered == 0 || told == Some(capacity), "{newest}");
        // The change that was under way counts as answered from here on.
        client.answered.store(if answered == 0 && capacity == 30 { 0 } else { capacity }, Ordering::Relaxed);
    }
    gateway.kill();
}
