//! The scripts with curl, run by `sh` as the page says.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use super::{files, folder, json, sample_gateway};
use crate::support::gateway::TestGateway;
use crate::support::skipped;

fn curl_is_there() -> bool {
    if Command::new("curl").arg("--version").output().is_ok() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "curl is missing");
    skipped("curl is not installed, so the scripts were not run");
    false
}

/// Runs scripts, and keeps in mind which.
struct Scripts<'a> {
    gateway: &'a TestGateway,
    key: &'a str,
    run: BTreeSet<String>,
}

impl Scripts<'_> {
    fn output(&mut self, script: &str, arguments: &[&str]) -> Output {
        self.run.insert(format!("curl/{script}"));
        let mut shell = Command::new("sh");
        shell.arg(folder().join("curl").join(script)).args(arguments);
        shell.env("STREAMGATE_URL", format!("http://{}", self.gateway.public)).env("STREAMGATE_API_KEY", self.key);
        shell.output().expect("sh runs")
    }

    /// Runs a script that must succeed; its output.
    fn succeed(&mut self, script: &str, arguments: &[&str]) -> String {
        let output = self.output(script, arguments);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a script whose answer is a problem; its output.
    fn refuse(&mut self, script: &str, arguments: &[&str]) -> String {
        let output = self.output(script, arguments);
        assert_eq!(output.status.code(), Some(22), "{script}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// The text of a member in an answer.
fn member(answer: &str, name: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}

#[test]
fn the_scripts_do_what_they_say() {
    if !curl_is_there() {
        return;
    }
    let (gateway, key) = sample_gateway();
    let mut scripts = Scripts { gateway: &gateway, key: &key, run: BTreeSet::from(["curl/call.sh".to_owned()]) };
    assert!(scripts.succeed("connection.sh", &[]).contains(r#""status":"connected""#));
    assert_eq!(scripts.succeed("lists.sh", &[]).lines().count(), 3);
    assert!(scripts.succeed("queues.sh", &[]).contains("Escalations"));
    assert!(scripts.succeed("test-operation.sh", &[]).contains(r#""test":true"#));
    assert!(scripts.succeed("explain-record.sh", &[]).contains(r#""outcome":"accepted""#));
    let receipt = member(&scripts.succeed("route-record.sh", &[]), "receiptId");
    assert!(scripts.succeed("route-record.sh", &[]).contains(r#""duplicate":true"#));
    assert_eq!(member(&scripts.succeed("receipt.sh", &[&receipt]), "state"), "accepted");
    assert!(scripts.refuse("receipt.sh", &["unknown"]).contains(r#""code":"receipt-unknown""#));
    assert!(scripts.succeed("work-item.sh", &[]).contains(r#""state":"delivered""#));
    assert_eq!(scripts.output("work-item.sh", &[]).status.code(), Some(1), "nothing is left");

    let mut refused = json("curl/record.json");
    refused["entitySetName"] = "cases".into();
    let file = gateway.folder().join("refused.json");
    std::fs::write(&file, refused.to_string()).expect("written");
    let refused = scripts.refuse("route-record.sh", &[&file.to_string_lossy()]);
    assert!(refused.contains(r#""code":"entity-set-mismatch""#), "{refused}");

    let address = "http://127.0.0.1:1880/streamgate";
    let subscription = member(&scripts.succeed("subscribe.sh", &[address, "Escalations"]), "id");
    let other = member(&scripts.succeed("subscribe.sh", &[address]), "id");
    assert_ne!(subscription, other, "one queue, and every queue");
    assert!(scripts.succeed("subscriptions.sh", &[]).contains(&subscription));
    assert_eq!(member(&scripts.succeed("unsubscribe.sh", &[&subscription]), "state"), "ended");
    assert!(scripts.refuse("unsubscribe.sh", &["unknown"]).contains(r#""status":404"#));
    assert_eq!(scripts.run, files("curl", ".sh").into_iter().collect(), "every script was run");
}
