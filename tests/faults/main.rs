//! The fault programme: kills, power cuts, failing disks, hostile destinations, wrong clocks and scarce resources, each
//! with what must come out (`docs/reliability.md`).
//!
//! `cargo test --test faults -- [--long] [--only D3,N2] [--seed N] [--list] [--json FILE] [--report FILE]`
//!
//! Every fault is a [`scenario`] with a seed, so that what was found can be found again. One oracle judges all of them
//! ([`oracle`]): clients note every 202 in a file outside the disk that suffers ([`ledger`]), a receiver written by hand
//! notes every delivery ([`receiver`]), and set arithmetic says what is missing. An oracle that never objects proves
//! nothing, so each class of faults also runs against a gateway that is known to lose records; a control that loses
//! nothing fails the programme.
//!
//! What a scenario makes (processes, mounts, namespaces, folders) is owed to [`cleanup`], which settles it also after a
//! failure and after Ctrl-C.

mod args;
mod cleanup;
mod client;
mod disk;
mod gateway;
mod ledger;
mod load;
mod namespace;
#[expect(dead_code, clippy::expect_used, reason = "shared with the black-box tests, which use the rest")]
#[path = "../support/nats.rs"]
mod nats;
#[expect(dead_code, clippy::expect_used, clippy::panic, reason = "shared with the black-box tests, which use the rest")]
#[path = "../it/nats/consumer.rs"]
mod nats_consumer;
mod oracle;
mod receiver;
#[expect(dead_code, reason = "shared with the black-box tests, which use the rest")]
#[path = "../it/support/records.rs"]
mod records;
mod report;
mod scenario;
mod scenarios;
mod seed;
mod trace;
mod world;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use args::Args;
use report::{Entry, Verdict};
use scenario::{Findings, How, Lack, Run, Scenario};

/// What may go wrong with the programme itself, as opposed to with the gateway.
type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Tells whoever watches.
fn say(text: &str) {
    let _told = writeln!(std::io::stderr(), "{text}");
}

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(fault) => {
            say(&fault);
            return ExitCode::from(2);
        }
    };
    cleanup::on_interrupt();
    let chosen: Vec<&Scenario> = scenarios::ALL.iter().copied().flatten().filter(|s| args.wants(s.id)).collect();
    if args.list {
        for scenario in chosen {
            say(&format!("{:4} {}", scenario.id, scenario.what));
        }
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        say("no scenario has such an id; --list names them");
        return ExitCode::from(2);
    }
    match run(&args, &chosen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            say(&format!("the programme itself failed: {fault}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, chosen: &[&Scenario]) -> Fallible<bool> {
    if args.inside {
        return inside(args, verdict(args, chosen.first().ok_or("nothing to run inside")?));
    }
    say(&format!("seed {}, {}, {}", args.seed, if args.long { "long" } else { "short" }, args.binary.display()));
    let began = Instant::now();
    let mut entries = Vec::new();
    for scenario in chosen {
        say(&format!("== {} {}", scenario.id, scenario.what));
        let started = Instant::now();
        let verdict = verdict(args, scenario);
        match &verdict {
            Verdict::Ran(findings) => findings.tell(),
            Verdict::Failed(why) => say(&format!("   FAILED: {why}")),
            Verdict::Skipped(_) | Verdict::Held(_) | Verdict::NotCovered(_) => {}
        }
        say(&format!("   {} in {:.1} s", verdict.word(), started.elapsed().as_secs_f64()));
        entries.push(Entry { scenario, verdict, seconds: started.elapsed().as_secs_f64() });
        // What a scenario forgot must not disturb the next one.
        cleanup::settle_all();
    }
    report::print(&entries, args, began.elapsed());
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report::json(&entries, args))?)?;
    }
    if let Some(file) = &args.report {
        std::fs::write(file, report::markdown(&entries, args))?;
    }
    Ok(entries.iter().all(|entry| !entry.verdict.is_failure()))
}

/// Within a namespace only the findings count: the programme outside reports them.
fn inside(args: &Args, verdict: Verdict) -> Fallible<bool> {
    let findings = match verdict {
        Verdict::Ran(findings) => findings,
        Verdict::Failed(fault) => Findings::of_a_failure(&fault),
        Verdict::Skipped(_) | Verdict::Held(_) | Verdict::NotCovered(_) => return Err("it did not run".into()),
    };
    let file = args.json.as_ref().ok_or("--inside needs --json")?;
    std::fs::write(file, serde_json::to_vec(&findings.to_json())?)?;
    Ok(true)
}

fn verdict(args: &Args, scenario: &Scenario) -> Verdict {
    let body = match scenario.how {
        How::Held(tests) => return scenario::held(tests),
        How::NotCovered(why) => return Verdict::NotCovered(why.to_owned()),
        How::Run(body) => body,
    };
    let lacking: Vec<Lack> = scenario.needs.iter().filter_map(|need| need.lacking()).collect();
    if !lacking.is_empty() {
        let words = |lack: &Lack| match lack {
            Lack::Tool(what) | Lack::Right(what) => what.clone(),
        };
        let why = lacking.iter().map(words).collect::<Vec<_>>().join(", ");
        say(&format!("   SKIPPED: {why}"));
        // Where everything can be installed, a missing tool is a hole in the net. What a machine does not allow is not.
        let installable = lacking.iter().any(|lack| matches!(lack, Lack::Tool(_)));
        return if installable && std::env::var_os("CI").is_some() {
            Verdict::Failed(format!("skipped because {why}, which must not be where CI is set"))
        } else {
            Verdict::Skipped(why)
        };
    }
    let run = Run::new(args, scenario);
    let body =
        if scenario.needs.contains(&scenario::Need::Namespace) && !args.inside { namespace::inside } else { body };
    match std::panic::catch_unwind(|| body(&run)) {
        Ok(Ok(findings)) => Verdict::Ran(findings),
        Ok(Err(fault)) => Verdict::Failed(fault.to_string()),
        Err(_) => Verdict::Failed("the scenario panicked".to_owned()),
    }
}
