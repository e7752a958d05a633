//! `streamgate verify`: whether every receipt that was ever handed out is accounted for. Reads all of a store that no
//! gateway has open, and changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::output::{Output, printable};
use super::progress::Line;
use super::{Exit, Failure, with_causes};
use crate::app::upkeep::{self, Counts, Finding, Options, Report, Severity};
use crate::config::Overrides;
use crate::config::settings::Process;

/// Findings of each kind that are shown unless all are wanted.
const SHOWN: usize = 20;
/// Receipts of one finding that are shown unless all are wanted.
const RECEIPTS_SHOWN: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// The configuration file, to verify the store that it names: files, or a database, whose gateways may run.
    #[arg(long, env = "STREAMGATE_CONFIG", value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
}

/// Which store, and how much is wanted of what is found.
#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    /// The data directory of a gateway that does not run.
    #[arg(long, env = "STREAMGATE_DATA_DIR", value_name = "DIR", default_value = "streamgate-data")]
    pub(super) data_dir: PathBuf,
    /// Show every finding, not only the first of each kind.
    #[arg(long)]
    pub(super) all: bool,
    /// For how long repeats are recognized, where it is configured other than by default (store.duplicate_window_days).
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub(super) duplicate_window_days: u32,
}

impl StoreArgs {
    pub(super) fn options(&self) -> Options {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Options {
            findings: if self.all { usize::MAX } else { SHOWN },
            duplicate_window: DAY.saturating_mul(self.duplicate_window_days),
        }
    }
}

pub(super) fn run(args: &VerifyArgs, output: &Output) -> Result<Exit, Failure> {
    let process = args.config.as_deref().map(configured).transpose()?;
    let mut options = args.store.options();
    let mut line = Line::start(output.is_json());
    let mut show = |progress| line.show(progress);
    let unusable = |fault: &dyn std::error::Error| Failure::new(Exit::Store, with_causes(fault));
    let database = process.as_ref().and_then(|process| process.database.as_ref());
    let data_dir = process.as_ref().map_or(&args.store.data_dir, |process| &process.data_dir);
    if let Some(process) = &process {
        options.duplicate_window = process.store.duplicate_window;
    }
    let report = match database {
        Some(database) => upkeep::verify_database(database, &options, &mut show).map_err(|fault| unusable(&fault)),
        None => upkeep::verify(data_dir, &options, &mut show).map_err(|fault| unusable(&fault)),
    };
    line.end();
    let report = report?;
    if output.is_json() {
        output.json(&with_advice(&report))?;
    } else {
        print(&report, args.store.all, output)?;
    }
    Ok(if report.sound { Exit::Done } else { Exit::Refused })
}

/// What the configuration says of its store.
fn configured(file: &Path) -> Result<Process, Failure> {
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config = crate::app::load_config(Some(file), &overrides);
    let faults = |faults| Failure::new(Exit::Configuration, format!("the configuration has faults\n{faults}"));
    config.map(|config| config.process).map_err(faults)
}

/// The report, each finding with what it means and what to do.
pub(super) fn with_advice(report: &Report) -> serde_json::Value {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    let findings = value.get_mut("findings").and_then(serde_json::Value::as_array_mut);
    for (member, finding) in findings.into_iter().flatten().zip(&report.findings) {
        if let Some(members) = member.as_object_mut() {
            members.insert("meaning".to_owned(), finding.kind.meaning().into());
            members.insert("action".to_owned(), finding.action().into());
        }
    }
    value
}

/// The report for a person.
pub(super) fn print(report: &Report, all: bool, output: &Output) -> Result<(), Failure> {
    let Report { counts, findings, totals, .. } = report;
    let verdict = if report.sound { "sound" } else { "NOT SOUND" };
    output.line(format!("{}: {verdict}", report.store))?;
    for (name, count) in rows(counts) {
        output.line(format!("  {name:<28} {count:>12}"))?;
    }
    let mut told = None;
    for finding in findings {
        if told != Some(finding.kind) {
            output.line(format!("\n{}", finding.kind.meaning()))?;
            output.line(format!("  what to do: {}", finding.action()))?;
            told = Some(finding.kind);
        }
        output.line(format!("  - {}", in_words(finding, all)))?;
    }
    let shown = u64::try_from(findings.len()).unwrap_or(u64::MAX);
    let found: u64 = totals.values().map(|total| total.findings).sum();
    if found > shown {
        output.note(format!("{} more findings are not shown; --all shows them", found - shown))?;
    }
    if !report.written_down.is_empty() {
        output.line("")?;
    }
    for lost in &report.written_down {
        output.line(format!(
            "written down as lost on {}: {} ({})",
            lost.at,
            records(lost.from, lost.to),
            printable(&lost.why)
        ))?;
    }
    Ok(())
}

fn rows(counts: &Counts) -> [(&'static str, u64); 10] {
    [
        ("records accepted", counts.accepted),
        ("there, with their receipts", counts.verified),
        ("pending", counts.pending),
        ("waiting", counts.waiting),
        ("delivered", counts.delivered),
        ("dead letters", counts.dead_lettered),
        ("discarded dead letters", counts.discarded),
        ("deleted by retention", counts.deleted),
        ("lost, and written down", counts.lost_and_written_down),
        ("duplicate keys in the index", counts.duplicate_keys),
    ]
}

/// Records of these numbers, in words.
pub(super) fn records(from: i64, to: i64) -> String {
    if from == to { format!("record {from}") } else { format!("records {from} to {to}") }
}

fn in_words(finding: &Finding, all: bool) -> String {
    let which = match (finding.from, finding.to) {
        (Some(from), Some(to)) => format!(", {}", records(from, to)),
        _ => String::new(),
    };
    let remark = if finding.severity == Severity::Remark { " (a remark)" } else { "" };
    let shown = if all { usize::MAX } else { RECEIPTS_SHOWN };
    let mut receipts = finding.receipts.iter().take(shown).map(String::as_str).collect::<Vec<_>>().join(", ");
    if finding.receipts.len() > shown {
        receipts.push_str(", …");
    }
    let receipts = if receipts.is_empty() { receipts } else { format!(" [{receipts}]") };
    // What stands in a damaged file is anything at all.
    format!("{}{which}: {}{receipts}{remark}", finding.file, printable(&finding.what))
}
