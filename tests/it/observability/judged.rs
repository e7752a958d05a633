//! Judges from outside: Prometheus' own tool, and its Python library.
//!
//! `.ci/run` brings promtool to `target/promtool/`; `STREAMGATE_PROMTOOL` names another one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use streamgate::telemetry::Exposition;

use super::{delivering_to, everything, project, shown};
use crate::independent::{python, run};
use crate::lifecycle::Receiver;
use crate::support::gateway::TestGateway;
use crate::support::records::nth_incident;
use crate::support::skipped;

/// promtool, where it is. On CI there must be one.
fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("STREAMGATE_PROMTOOL").map(PathBuf::from);
    let fetched = project().join("target/promtool/usr/bin/promtool");
    let candidates = named.into_iter().chain([fetched, PathBuf::from("promtool")]);
    let runs = |path: &PathBuf| {
        let tried = Command::new(path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().find(runs);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "there is no promtool");
        skipped("promtool's judgement of metrics, alerts and their tests. It is in Debian's package `prometheus`");
    }
    found
}

/// Runs promtool with this on its standard input, which must succeed and complain about nothing.
fn judge(promtool: &Path, arguments: &[&str], input: &str) {
    let mut child = Command::new(promtool)
        .args(arguments)
        .current_dir(project())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("taken");
    let output = child.wait_with_output().expect("it ends");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {said}{complained}");
    assert!(complained.is_empty(), "{arguments:?}: {complained}");
}

#[test]
fn promtool_has_nothing_against_the_metrics() {
    let Some(promtool) = promtool() else { return };
    judge(&promtool, &["check", "metrics"], &everything(Exposition::Classic));
    let receiver = Receiver::start();
    let gateway = TestGateway::start_with(&delivering_to(&receiver));
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    gateway.wait_for_state(&receipt, "delivered");
    judge(&promtool, &["check", "metrics"], &shown(&gateway, "text/plain").1);
}

#[test]
fn promtool_has_nothing_against_the_alerts_and_they_do_what_their_tests_say() {
    let Some(promtool) = promtool() else { return };
    judge(&promtool, &["check", "rules", "deploy/prometheus/alerts.yml"], "");
    judge(&promtool, &["check", "config", "deploy/prometheus/prometheus.yml"], "");
    judge(&promtool, &["test", "rules", "deploy/prometheus/alerts_test.yml"], "");
}

#[test]
fn a_strict_parser_reads_both_formats_alike() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (open, classic) = (folder.path().join("open.txt"), folder.path().join("classic.txt"));
    std::fs::write(&open, everything(Exposition::OpenMetrics)).expect("written");
    std::fs::write(&classic, everything(Exposition::Classic)).expect("written");
    let said = run(&python, "metrics.py", &[&open, &classic]);
    let samples: usize = said.trim().strip_suffix(" samples").and_then(|count| count.parse().ok()).expect("a count");
    assert!(samples > 100, "{said}");
}
