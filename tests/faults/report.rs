//! The report: a table for whoever watches, Markdown for the documentation, JSON for machines.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::args::Args;
use crate::scenario::{Findings, Scenario};

/// What came of a scenario.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It ran to its end.
    Ran(Findings),
    /// It broke off.
    Failed(String),
    /// Something that it needs is missing.
    Skipped(String),
    /// Tests of `cargo test` hold it.
    Held(String),
    /// Nothing holds it.
    NotCovered(String),
}

impl Verdict {
    /// Whether the programme fails because of it.
    pub(crate) const fn is_failure(&self) -> bool {
        match self {
            Self::Ran(findings) => !findings.faults.is_empty(),
            Self::Failed(_) => true,
            Self::Skipped(_) | Self::Held(_) | Self::NotCovered(_) => false,
        }
    }

    /// The verdict in a word.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Ran(_) | Self::Failed(_) if self.is_failure() => "FAILED",
            Self::Ran(_) | Self::Failed(_) => "passed",
            Self::Skipped(_) => "SKIPPED",
            Self::Held(_) => "held by tests",
            Self::NotCovered(_) => "not covered",
        }
    }

    /// What is to be said about it: runs, figures, the control, and what failed.
    fn cells(&self) -> [String; 4] {
        match self {
            Self::Ran(found) => [
                found.runs.to_string(),
                found.figures.join("; "),
                found.control.clone().unwrap_or_default(),
                found.faults.join("; "),
            ],
            Self::Failed(why) => [String::new(), String::new(), String::new(), why.clone()],
            Self::Skipped(why) | Self::NotCovered(why) => [String::new(), String::new(), String::new(), why.clone()],
            Self::Held(tests) => [String::new(), tests.clone(), String::new(), String::new()],
        }
    }
}

/// A scenario and what came of it.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
}

/// The short table.
pub(crate) fn print(entries: &[Entry<'_>], args: &Args, took: Duration) {
    crate::say(&format!("\n{:5} {:13} {:>7}  {:52} remarks", "id", "verdict", "seconds", "fault"));
    for Entry { scenario, verdict, seconds } in entries {
        let [_, figures, _, why] = verdict.cells();
        let remark = if why.is_empty() { figures } else { why };
        let what: String = scenario.what.chars().take(52).collect();
        let remark: String = remark.chars().take(120).collect();
        crate::say(&format!("{:5} {:13} {seconds:7.1}  {what:52} {remark}", scenario.id, verdict.word()));
    }
    let count = |word: &str| entries.iter().filter(|entry| entry.verdict.word() == word).count();
    crate::say(&format!(
        "\n{} passed, {} failed, {} held by tests, {} skipped, {} not covered; seed {}, {:.0} s",
        count("passed"),
        count("FAILED"),
        count("held by tests"),
        count("SKIPPED"),
        count("not covered"),
        args.seed,
        took.as_secs_f64(),
    ));
}

/// The same, with everything that was found.
pub(crate) fn json(entries: &[Entry<'_>], args: &Args) -> Value {
    let of_one = |Entry { scenario, verdict, seconds }: &Entry<'_>| {
        let (found, why) = match verdict {
            Verdict::Ran(findings) => (findings.to_json(), None),
            Verdict::Held(tests) => (json!({"tests": tests.split(", ").collect::<Vec<_>>()}), None),
            Verdict::Failed(why) | Verdict::Skipped(why) | Verdict::NotCovered(why) => (Value::Null, Some(why)),
        };
        json!({
            "id": scenario.id, "fault": scenario.what, "required": scenario.required, "verdict": verdict.word(),
            "found": found, "why": why, "seconds": seconds,
        })
    };
    json!({"seed": args.seed, "long": args.long, "scenarios": entries.iter().map(of_one).collect::<Vec<_>>()})
}

/// As a table of Markdown.
pub(crate) fn markdown(entries: &[Entry<'_>], args: &Args) -> String {
    let length = if args.long { "long" } else { "short" };
    let mut text = format!(
        "Seed {}, {length} version.\n\n| id | fault | required | runs | figures | control | verdict |\n|---|---|---|---|---|---|---|\n",
        args.seed
    );
    for Entry { scenario, verdict, .. } in entries {
        let [runs, figures, control, why] = verdict.cells().map(|cell| cell.replace('|', "\\|"));
        let figures = match (&figures[..], &why[..]) {
            (_, "") => figures,
            ("", _) => why,
            _ => format!("{figures}; {why}"),
        };
        let word = verdict.word();
        let Scenario { id, what, required, .. } = scenario;
        // Writing to a string cannot fail.
        let _written = writeln!(text, "| {id} | {what} | {required} | {runs} | {figures} | {control} | {word} |");
    }
    text
}
