//! The configuration: every fault and warning that `streamgate check` finds, and settings that are right but carry a risk.
//!
//! Whether a risk is taken knowingly only the operator knows; so a setting is a fault only where nobody can want it.

mod credentials;
mod destinations;
mod files;
mod process;

use super::finding::{Check, Finding, Group, Severity};
use super::{Scene, Tell};
use crate::config::{Config, Fault};
use crate::domain::time::Timestamp;

/// Tells about the configuration.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let config = match &scene.loaded {
        None => {
            let words = [
                "reading the configuration came to no end",
                "a gateway could not start either",
                "look at the disk that the files are on",
            ];
            return tell.one(Finding::of_group(Group::Configuration, Severity::Fault, words));
        }
        Some(Err(faults)) => return tell.all(faults.iter().map(of_fault)),
        Some(Ok(config)) => config,
    };
    tell.all(judge(config, Timestamp::now()));
    tell.all(files::judge(&files::gather(&config.sources)));
}

/// A fault of a file, as `streamgate check` shows it.
fn of_fault(fault: &Fault) -> Finding {
    let consequence = "a gateway does not start with it; one that runs keeps the last good configuration";
    let mend = fault.hint.clone().unwrap_or_else(|| "correct the line".to_owned());
    Finding::fault(Check::Faults, fault.message.clone(), consequence, mend).about(place(fault))
}

fn of_warning(warning: &Fault) -> Finding {
    let consequence = "it works, and is probably not what is meant";
    let mend = warning.hint.clone().unwrap_or_else(|| "look at the line".to_owned());
    Finding::warning(Check::Faults, warning.message.clone(), consequence, mend).about(place(warning))
}

fn place(fault: &Fault) -> String {
    match fault.line {
        0 => fault.file.clone(),
        line => format!("{}:{line}:{}", fault.file, fault.column),
    }
}

fn judge(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings: Vec<_> = config.warnings.iter().map(of_warning).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(Check::Faults, "none"));
    }
    let effective = &config.effective;
    findings.extend(process::judge(&config.process));
    findings.extend(credentials::judge(&effective.credentials, now));
    findings.extend(destinations::routing_queues(&effective.routing_queues));
    findings.push(destinations::callbacks(&effective.subscriptions));
    findings.push(process::retention(&config.process.retention, &effective.delivery));
    findings
}

/// These, or that nothing is to be said.
fn or_ok(findings: Vec<Finding>, check: Check, fine: &str) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::ok(check, fine)] } else { findings }
}

#[cfg(test)]
mod tests;
