//! `streamgate records …`: what is stored, what became of it, what would become of it, and another chance for dead
//! letters, or for what a destination has lost. Works over the running gateway's interfaces, which alone may touch the store.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::Value;

use super::administration::Desk;
use super::client::{Client, ClientArgs, Listener, block_on};
use super::output::{Output, columns, printable};
use super::redelivery::{self, RedeliveryArgs};
use super::{Exit, Failure};
use crate::domain::ids::ReceiptId;

#[derive(Debug, clap::Args)]
pub(super) struct RecordsArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: RecordsCommand,
}

#[derive(Debug, Subcommand)]
enum RecordsCommand {
    /// List records, newest first.
    List {
        /// Only this organization's (GUID).
        #[arg(long, value_name = "GUID")]
        organization_id: Option<String>,
        /// Only those that stand here.
        #[arg(long)]
        state: Option<StateArg>,
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Start after this position, as the last list said.
        #[arg(long, value_name = "POSITION")]
        before: Option<i64>,
    },
    /// Show one record: where it stands, and why it went where it went.
    Show {
        /// The receipt ID of a 202.
        // One in 64 starts with a hyphen.
        #[arg(allow_hyphen_values = true)]
        receipt_id: String,
        /// Print the record details too, byte for byte.
        #[arg(long)]
        details: bool,
    },
    /// Ask what would become of a record, check by check, without storing it.
    Explain {
        /// A file with the body that a flow would post; `-` for standard input.
        file: PathBuf,
    },
    /// Make dead letters pending again; or, with --since, what was delivered.
    Requeue {
        /// The receipt ID of one dead letter.
        #[arg(required_unless_present_any = ["all", "since"], allow_hyphen_values = true)]
        receipt_id: Option<String>,
        /// Requeue all dead letters, of one organization where --organization-id is given.
        #[arg(long, conflicts_with = "receipt_id")]
        all: bool,
        /// Only this organization's (GUID).
        #[arg(long, value_name = "GUID", requires = "all")]
        organization_id: Option<String>,
        #[command(flatten)]
        delivered: RedeliveryArgs,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateArg {
    Accepted,
    Delivering,
    Delivered,
    DeadLettered,
}

impl StateArg {
    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::DeadLettered => "dead-lettered",
        }
    }
}

pub(super) fn run(args: &RecordsArgs, output: &Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.client)?;
    block_on(async {
        match &args.command {
            RecordsCommand::List { organization_id, state, limit, before } => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(organization_id.clone().map(|id| ("organizationId", id)));
                query.extend(state.map(|state| ("state", state.name().to_owned())));
                query.extend(before.map(|before| ("before", before.to_string())));
                list(&client, &query, output).await
            }
            RecordsCommand::Show { receipt_id, details } => show(&client, receipt_id, *details, output).await,
            RecordsCommand::Explain { file } => explain(&client, file, output).await,
            RecordsCommand::Requeue { delivered, .. } if delivered.is_meant() => {
                redelivery::run(&Desk::new(&args.client, output)?, delivered).await
            }
            RecordsCommand::Requeue { receipt_id, organization_id, .. } => {
                requeue(&client, receipt_id.as_deref(), organization_id.as_deref(), output).await
            }
        }
    })
}

/// A path with its query, escaped.
fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let mut url = reqwest::Url::parse("http://gateway").map(|mut url| {
        url.set_path(path);
        url
    });
    if let Ok(url) = &mut url {
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        return url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    }
    path.to_owned()
}

/// A text member of an answer, safe to print.
fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => printable(&other.to_string()),
    }
}

async fn list(client: &Client, query: &[(&str, String)], output: &Output) -> Result<Exit, Failure> {
    let path = with_query("/admin/v1/records", query);
    let body = client.send(Listener::Admin, Method::GET, &path, None).await?.success()?;
    if output.is_json() {
        output.json(&body)?;
        return Ok(Exit::Done);
    }
    let records = body.get("value").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if records.is_empty() {
        output.note("No records.")?;
        return Ok(Exit::Done);
    }
    let names = ["acceptedAt", "state", "attempts", "entityLogicalName", "recordId", "queue", "receiptId", "lastError"];
    let mut rows = vec![
        ["ACCEPTED", "STATE", "TRIES", "ENTITY", "RECORD", "QUEUE", "RECEIPT", "LAST ERROR"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(records.iter().map(|record| names.map(|name| text(record, name)).to_vec()));
    for line in columns(&rows) {
        output.line(line)?;
    }
    if let Some(next) = body.get("next").and_then(Value::as_i64) {
        output.note(format!("There are more: add --before {next}"))?;
    }
    Ok(Exit::Done)
}

/// A receipt ID as it may stand in a path: anything else, such as `requeue#`, would be another path.
fn receipt_path(text: &str, rest: &str) -> Result<String, Failure> {
    let id = ReceiptId::parse(text)
        .map_err(|fault| Failure::new(Exit::Usage, format!("`{}` {fault}; a 202 has one.", printable(text))))?;
    Ok(format!("/admin/v1/records/{id}{rest}"))
}

async fn show(client: &Client, receipt_id: &str, details: bool, output: &Output) -> Result<Exit, Failure> {
    let path = with_query(&receipt_path(receipt_id, "")?, &[("details", details.to_string())]);
    let body = client.send(Listener::Admin, Method::GET, &path, None).await?.success()?;
    if output.is_json() {
        output.json(&body)?;
        return Ok(Exit::Done);
    }
    // With details, the receipt stands beside them.
    let receipt = body.get("receipt").unwrap_or(&body);
    let mut rows = Vec::new();
    for (name, value) in receipt.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| name == "trace") {
            Some(inner) => {
                let plain = inner.keys().filter(|key| !DECISION.contains(&key.as_str()));
                rows.extend(plain.map(|key| vec![format!("{name}.{key}"), text(value, key)]));
            }
            None => rows.push(vec![name.clone(), text(receipt, name)]),
        }
    }
    if body.get("receipt").is_some() {
        let besides = body.as_object().into_iter().flatten().filter(|(name, _)| *name != "receipt");
        rows.extend(besides.map(|(name, _)| vec![name.clone(), text(&body, name)]));
    }
    for line in columns(&rows) {
        output.line(line)?;
    }
    for line in receipt.get("trace").map(decision).unwrap_or_default() {
        output.line(line)?;
    }
    Ok(Exit::Done)
}

/// The members of a trace that say how the rules decided.
const DECISION: [&str; 3] = ["rulesTried", "values", "shortened"];

/// How the rules decided, a line for each rule and for each value that they saw. No lines where there were no rules.
fn decision(trace: &Value) -> Vec<String> {
    let rules = trace.get("rulesTried").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if rules.is_empty() {
        return Vec::new();
    }
    let rule_rows = rules.iter().map(|rule| {
        let mark = if rule.get("matched").and_then(Value::as_bool) == Some(true) { "match" } else { "no" };
        vec![format!("  {mark}"), text(rule, "rule"), format!("({})", text(rule, "on"))]
    });
    let mut lines = vec!["Rules tried:".to_owned()];
    lines.extend(columns(&rule_rows.collect::<Vec<_>>()));
    let values = trace.get("values").and_then(Value::as_object);
    let value_rows: Vec<_> = values
        .into_iter()
        .flatten()
        .map(|(operand, value)| {
            vec![format!("  {}", printable(operand)), printable(value.as_str().unwrap_or_default())]
        })
        .collect();
    if !value_rows.is_empty() {
        lines.push("Values seen:".to_owned());
        lines.extend(columns(&value_rows));
    }
    if trace.get("shortened").and_then(Value::as_bool) == Some(true) {
        lines.push("  (shortened: there were more rules or values than a record keeps)".to_owned());
    }
    lines
}

async fn explain(client: &Client, file: &PathBuf, output: &Output) -> Result<Exit, Failure> {
    let mut body = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut body)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut body))
    };
    read.map_err(|fault| Failure::new(Exit::Usage, format!("{} cannot be read: {fault}", file.display())))?;
    let body = client.send(Listener::Public, Method::POST, "/api/v1/records/explain", Some(body)).await?.success()?;
    let accepted = body.get("outcome").and_then(Value::as_str) == Some("accepted");
    let exit = if accepted { Exit::Done } else { Exit::Refused };
    if output.is_json() {
        output.json(&body)?;
        return Ok(exit);
    }
    for check in body.get("checks").and_then(Value::as_array).into_iter().flatten() {
        let mark = match check.get("verdict").and_then(Value::as_str) {
            Some("passed") => "ok  ",
            Some("failed") => "FAIL",
            _ => "-   ",
        };
        output.line(format!("{mark} {}", text(check, "code")))?;
        for name in ["detail", "expected", "action"] {
            if check.get(name).is_some() {
                output.line(format!("       {name}: {}", text(check, name)))?;
            }
        }
    }
    match body.get("route") {
        Some(route) => {
            output.line(format!(
                "It would go to queue `{}` (priority {}) by routing queue `{}`. {}",
                text(route, "queue"),
                text(route, "priority"),
                text(route, "routingQueue"),
                text(route, "reason")
            ))?;
            for line in decision(route) {
                output.line(line)?;
            }
        }
        None if accepted => output.line("This is the test operation: it passes, and nothing would be stored.")?,
        None => output.line(format!("It would be {}.", text(&body, "outcome")))?,
    }
    Ok(exit)
}

async fn requeue(
    client: &Client,
    receipt_id: Option<&str>,
    organization_id: Option<&str>,
    output: &Output,
) -> Result<Exit, Failure> {
    let path = match receipt_id {
        Some(id) => receipt_path(id, "/requeue")?,
        None => {
            let query: Vec<_> = organization_id.map(|id| ("organizationId", id.to_owned())).into_iter().collect();
            with_query("/admin/v1/records/requeue", &query)
        }
    };
    let body = client.send(Listener::Admin, Method::POST, &path, None).await?.success()?;
    if output.is_json() {
        output.json(&body)?;
    } else {
        output.line(format!("{} dead letters are pending again.", text(&body, "requeued")))?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        records: RecordsArgs,
    }

    #[test]
    fn a_receipt_may_start_with_a_hyphen_and_flags_stay_flags() {
        let read = |arguments: &[&str]| {
            Line::try_parse_from(["records"].iter().chain(arguments)).map(|line| line.records.command)
        };
        for arguments in
            [&["show", "-Ev", "--details"][..], &["show", "--details", "-Ev"], &["show", "--details", "--x"]]
        {
            match read(arguments) {
                Ok(RecordsCommand::Show { receipt_id, details: true }) => assert!(receipt_id.starts_with('-')),
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
        assert!(matches!(
            read(&["requeue", "-Ev"]),
            Ok(RecordsCommand::Requeue { receipt_id: Some(_), all: false, .. })
        ));
        assert!(matches!(read(&["requeue", "--all"]), Ok(RecordsCommand::Requeue { receipt_id: None, all: true, .. })));
    }

    #[test]
    fn dead_letters_and_what_was_delivered_are_not_asked_for_at_once() {
        let read = |line: &str| Line::try_parse_from(["records", "requeue"].into_iter().chain(line.split(' ')));
        for good in ["--since T", "--since T --until T --queue Q --work-stream W --dry-run", "--all", "-receipt"] {
            assert!(read(good).is_ok(), "{good}: {:?}", read(good).err());
        }
        for bad in
            ["--since T --all", "receipt --since T", "--until T", "--all --dry-run", "receipt --queue Q", "--dry-run"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
