//! `streamgate apply`: makes organizations of the store be exactly what files say, after showing what that changes.
//!
//! Every file is compared before the first is applied, and all faults of all files are told at once, as `streamgate check`
//! tells them. What is applied is what was compared: if somebody changes the organization in between, nothing happens.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{ClientArgs, block_on};
use super::super::output::{Output, printable};
use super::audit::difference_in_words;
use super::{Desk, Exit, Failure, path, read_bytes, with};
use crate::config::submission::Submission;
use crate::config::{Fault, Faults};
use crate::domain::ids::Guid;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  streamgate apply contoso.toml --dry-run    show what it would change\n  \
                        streamgate apply contoso.toml --yes\n\n\
                        Applying the same file again changes nothing.")]
pub(in crate::cli) struct ApplyArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Files in the form of those under organizations/; `-` for standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
}

/// A file and what it would do.
struct Plan {
    file: Submission,
    path: String,
    compared: Value,
    tag: Option<String>,
}

impl Plan {
    fn name(&self) -> String {
        printable(self.file.name())
    }

    fn differences(&self) -> &[Value] {
        self.compared.get("differences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a file provides the organization and says the same. The store may lack it then, and is asked to take it.
    fn is_behind_a_file(&self) -> bool {
        self.compared.get("shadowed") == Some(&Value::Bool(true))
    }

    /// Whether the gateway has it already, as far as it can.
    fn is_done(&self) -> bool {
        self.differences().is_empty() && !self.is_behind_a_file()
    }
}

pub(in crate::cli) fn run(args: &ApplyArgs, output: &Output) -> Result<Exit, Failure> {
    let files = read(&args.files).map_err(|faults| refused(&faults))?;
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let plans = compare(&desk, files).await?;
        if !output.is_json() {
            plans.iter().try_for_each(|plan| show(output, plan, args.dry_run))?;
        }
        if args.dry_run {
            return report(output, plans.iter().map(|plan| plan.compared.clone()).collect());
        }
        if plans.iter().any(|plan| !plan.differences().is_empty()) && !args.yes {
            confirm()?;
        }
        let mut done = Vec::new();
        for plan in plans.iter().filter(|plan| !plan.is_done()) {
            done.push(apply(&desk, plan).await?);
        }
        report(output, done)
    })
}

fn report(output: &Output, answers: Vec<Value>) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(&json!({ "value": answers }))?;
    }
    Ok(Exit::Done)
}

/// Reads every file; all faults at once.
fn read(files: &[PathBuf]) -> Result<Vec<(Submission, String)>, Faults> {
    let mut read: Vec<(Submission, String)> = Vec::new();
    let mut faults = Vec::new();
    for file in files {
        match submission(file).and_then(|submission| Ok((organization(&submission)?, submission))) {
            Err(found) => faults.extend(found.into_vec()),
            Ok((id, submission)) => match read.iter().find(|(_, other)| *other == id) {
                None => read.push((submission, id)),
                Some((first, _)) => {
                    let message = format!("organization {id} is in {} too", first.name());
                    faults.push(submission.fault(Some("/organization/id"), &message, Some("apply one of the two")));
                }
            },
        }
    }
    Faults::of(faults).map_or(Ok(read), Err)
}

fn submission(file: &Path) -> Result<Submission, Faults> {
    if file.as_os_str() != "-" {
        return Submission::read(file);
    }
    let unreadable = |failure: Failure| Fault {
        file: "standard input".to_owned(),
        line: 0,
        column: 0,
        pointer: None,
        message: failure.message,
        hint: None,
    };
    Submission::from_bytes("standard input", read_bytes(file).map_err(unreadable)?)
}

/// The ID of the organization that a file describes: without one, nobody knows which it is.
fn organization(file: &Submission) -> Result<String, Faults> {
    let id = file.document().get("organization").and_then(|own| own.get("id"));
    let parsed = id.and_then(Value::as_str).and_then(|id| Guid::parse(id).ok());
    parsed.map(|id| id.to_string()).ok_or_else(|| {
        let message = if id.is_some() { "`id` is not a GUID" } else { "`id` is missing in [organization]" };
        file.fault(Some("/organization/id"), message, Some("`uuidgen` makes one; the organization keeps it")).into()
    })
}

/// Compares every file with what the gateway has.
async fn compare(desk: &Desk<'_>, files: Vec<(Submission, String)>) -> Result<Vec<Plan>, Failure> {
    let mut plans = Vec::new();
    let mut faults = Vec::new();
    for (file, id) in files {
        let path = path(&["organizations", &id, "document"]);
        let present = desk.attempt(Method::GET, &path, None, None).await?;
        let tag = if present.status.is_success() { present.etag } else { None };
        let document = Value::Object(file.document().clone());
        let dry_run = with(&path, "dryRun", "true");
        let compared = desk.attempt(Method::PUT, &dry_run, Some(&document), tag.as_deref()).await?;
        match faults_of(&file, &compared.body) {
            Some(found) => faults.extend(found.into_vec()),
            None => {
                let compared = compared.success().map_err(|failure| of_file(failure, &file))?;
                plans.push(Plan { file, path, compared, tag });
            }
        }
    }
    Faults::of(faults).map_or(Ok(plans), |faults| Err(refused(&faults)))
}

/// What the gateway found in a file, at its lines; `None` where it found nothing.
pub(super) fn faults_of(file: &Submission, answer: &Value) -> Option<Faults> {
    let found = answer.get("faults").and_then(Value::as_array).into_iter().flatten();
    Faults::of(found.map(|found| as_fault(file, found)).collect())
}

fn as_fault(file: &Submission, found: &Value) -> Fault {
    let text = |name: &str| found.get(name).and_then(Value::as_str).map(printable);
    file.fault(text("pointer").as_deref(), &text("message").unwrap_or_default(), text("hint").as_deref())
}

fn refused(faults: &Faults) -> Failure {
    let message = format!("{faults}; nothing was applied. Correct every fault and apply again.");
    let problem = serde_json::to_value(faults).map(|faults| Box::new(json!({ "faults": faults }))).ok();
    Failure { problem, ..Failure::new(Exit::Configuration, message) }
}

fn of_file(failure: Failure, file: &Submission) -> Failure {
    Failure { message: format!("{}: {}", printable(file.name()), failure.message), ..failure }
}

/// Applies one file.
async fn apply(desk: &Desk<'_>, plan: &Plan) -> Result<Value, Failure> {
    let document = Value::Object(plan.file.document().clone());
    let answer = desk.attempt(Method::PUT, &plan.path, Some(&document), plan.tag.as_deref()).await?;
    let answer = answer.success().map_err(|failure| of_file(failure, &plan.file))?;
    let generation = |answer: &Value| answer.get("catalogGeneration").and_then(Value::as_u64).unwrap_or(0);
    let (name, counts) = (plan.name(), generation(&answer));
    if !desk.output().is_json() {
        desk.output().line(match (plan.is_behind_a_file(), counts == generation(&plan.compared)) {
            (true, true) => format!("{name}: nothing to change; the store has it, behind the file that provides it"),
            (true, false) => {
                format!("{name}: in the store now, behind the file that provides it; without that file it counts")
            }
            (false, _) => format!("{name}: applied. It counts from generation {counts} on."),
        })?;
    }
    Ok(answer)
}

fn show(output: &Output, plan: &Plan, dry_run: bool) -> Result<(), Failure> {
    let name = plan.name();
    if plan.is_done() {
        output.line(format!("{name}: nothing to change"))?;
    } else if !plan.differences().is_empty() {
        output.line(format!("{name}:"))?;
    } else if dry_run {
        output.line(format!(
            "{name}: says what the file says that provides the organization; the store would have it too"
        ))?;
    }
    for difference in plan.differences() {
        output.line(format!("  {}", difference_in_words(difference)))?;
    }
    for warning in plan.compared.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        output.note(format!("warning: {}", as_fault(&plan.file, warning)))?;
    }
    Ok(())
}

/// Asks whether to go on; without a person to ask, it does not.
fn confirm() -> Result<(), Failure> {
    let refusal =
        || Failure::new(Exit::Usage, "nothing was applied: add --yes to apply this, or --dry-run to look only");
    if !std::io::stdin().is_terminal() {
        return Err(refusal());
    }
    let mut asked = std::io::stderr().lock();
    write!(asked, "Apply this? [y/N] ").and_then(|()| asked.flush())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(refusal()) }
}
