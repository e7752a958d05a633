//! `streamgate apply`: makes organizations of the store be exactly what files say, after showing what that changes.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{Answer, ClientArgs, block_on};
use super::super::output::{Output, printable};
use super::audit::difference_in_words;
use super::{Desk, Exit, Failure, path, read_file, text, toml_form, with};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  streamgate apply contoso.toml --dry-run    show what it would change\n  \
                        streamgate apply contoso.toml --yes\n\n\
                        Applying the same file again changes nothing.")]
pub(in crate::cli) struct ApplyArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Files in the form of those under organizations/.
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
    name: String,
    path: String,
    document: Value,
    compared: Value,
    tag: Option<String>,
}

impl Plan {
    fn differences(&self) -> &[Value] {
        self.compared.get("differences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the gateway has it already, as far as it can.
    fn is_done(&self) -> bool {
        self.differences().is_empty() && self.compared.get("shadowed") != Some(&Value::Bool(true))
    }
}

pub(in crate::cli) fn run(args: &ApplyArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        // All of them are checked before the first is applied.
        let mut plans = Vec::new();
        for file in &args.files {
            plans.push(plan(&desk, file).await?);
        }
        if !output.is_json() {
            plans.iter().try_for_each(|plan| show(output, plan))?;
        }
        if args.dry_run {
            return report(output, plans.iter().map(|plan| plan.compared.clone()).collect());
        }
        let to_do: Vec<_> = plans.iter().filter(|plan| !plan.is_done()).collect();
        if to_do.iter().any(|plan| !plan.differences().is_empty()) && !args.yes {
            confirm()?;
        }
        let mut done = Vec::new();
        for plan in to_do {
            let answer = desk.ask(Method::PUT, &plan.path, Some(&plan.document), plan.tag.as_deref()).await?.body;
            if !output.is_json() {
                output.line(format!(
                    "{}: applied. It counts from generation {} on.",
                    plan.name,
                    text(&answer, "catalogGeneration")
                ))?;
                if answer.get("shadowed") == Some(&Value::Bool(true)) {
                    output.note("A file provides the same organization and counts first: remove the file, and the store's takes over.")?;
                }
            }
            done.push(answer);
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

/// Compares a file with what the gateway has.
async fn plan(desk: &Desk<'_>, file: &Path) -> Result<Plan, Failure> {
    let name = file.display().to_string();
    let content = read_file(file)?;
    let document = toml_form::parse(&name, &content)?;
    let id = document.pointer("/organization/id").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    let id = crate::domain::ids::Guid::parse(id).map_err(|_| {
        let message = format!("{name}: [organization] has no `id` that is a GUID; `uuidgen` makes one");
        Failure::new(Exit::Configuration, message)
    })?;
    let path = path(&["organizations", &id.to_string(), "document"]);
    let present = desk.attempt(Method::GET, &path, None, None).await?;
    let tag = if present.status.is_success() { present.etag } else { None };
    let compared = desk.attempt(Method::PUT, &with(&path, "dryRun", "true"), Some(&document), None).await?;
    if !compared.status.is_success() {
        return Err(refused(&name, &content, compared));
    }
    Ok(Plan { name, path, document, compared: compared.body, tag })
}

/// The refusal of a file, each fault with its line.
fn refused(name: &str, content: &str, answer: Answer) -> Failure {
    let faults = answer.body.get("faults").and_then(Value::as_array).cloned().unwrap_or_default();
    if faults.is_empty() {
        return answer.success().err().unwrap_or_else(|| Failure::new(Exit::Refused, "refused"));
    }
    let lines = faults.iter().map(|fault| {
        let member = |member: &str| fault.get(member).and_then(Value::as_str).map(printable);
        let place = member("pointer").and_then(|pointer| toml_form::place(content, &pointer));
        let place = place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
        let hint = member("hint").map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        format!("{name}{place}: {}{hint}", member("message").unwrap_or_default())
    });
    let lines: Vec<_> = lines.collect();
    let count = lines.len();
    let message =
        format!("{}\n{count} faults; nothing was applied. Correct the file and apply it again.", lines.join("\n"));
    Failure::new(Exit::Configuration, message)
}

fn show(output: &Output, plan: &Plan) -> Result<(), Failure> {
    if plan.is_done() {
        output.line(format!("{}: nothing to change", plan.name))?;
        return Ok(());
    }
    output.line(format!("{}:", plan.name))?;
    for difference in plan.differences() {
        output.line(format!("  {}", difference_in_words(difference)))?;
    }
    if plan.differences().is_empty() {
        output.line("  the store takes in what the file of the gateway says")?;
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
