//! `streamgate dead-letters …`: many at once, with progress.

use std::io::IsTerminal as _;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::{Desk, Exit, Failure, text, with};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DeadLettersArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    filter: Filter,
    #[command(subcommand)]
    command: DeadLettersCommand,
}

/// Which dead letters.
#[derive(Debug, Default, clap::Args)]
struct Filter {
    /// Only this organization's, by unique name or ID.
    #[arg(long, global = true, value_name = "NAME")]
    organization: Option<String>,
    /// Only this work stream's, by name or ID.
    #[arg(long, global = true, value_name = "NAME")]
    work_stream: Option<String>,
    /// Only of this entity.
    #[arg(long, global = true, value_name = "LOGICAL_NAME")]
    entity: Option<String>,
    /// Only of this queue.
    #[arg(long, global = true, value_name = "NAME")]
    queue: Option<String>,
    /// Only those with this in the reason they were given up for.
    #[arg(long, global = true, value_name = "PART")]
    reason_contains: Option<String>,
    /// Only those accepted at this moment or later: 2026-11-23T00:00:00Z.
    #[arg(long, global = true, value_name = "MOMENT")]
    since: Option<String>,
    /// Only those accepted before this moment.
    #[arg(long, global = true, value_name = "MOMENT")]
    until: Option<String>,
}

impl Filter {
    async fn members(&self, desk: &Desk<'_>) -> Result<Map<String, Value>, Failure> {
        let mut members = Map::new();
        let mut set = |name: &str, value: Option<String>| {
            members.extend(value.map(|value| (name.to_owned(), Value::from(value))))
        };
        if let Some(named) = &self.organization {
            set("organizationId", Some(text(&desk.organization(named).await?.resource, "id")));
        }
        if let Some(named) = &self.work_stream {
            let found = desk.work_stream(named, self.organization.as_deref()).await?.resource;
            set("workStreamId", Some(text(&found, "id")));
            set("organizationId", Some(text(&found, "organizationId")));
        }
        set("entityLogicalName", self.entity.clone());
        set("queue", self.queue.clone());
        set("reasonContains", self.reason_contains.clone());
        set("since", self.since.clone());
        set("until", self.until.clone());
        Ok(members)
    }
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List dead letters, newest first.
    List {
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Start before this position, as the last list said.
        #[arg(long, value_name = "POSITION")]
        before: Option<i64>,
    },
    /// Make dead letters pending again: due at once, with their attempts counted from zero.
    Requeue {
        /// Do it for all there are, although nothing narrows them.
        #[arg(long)]
        yes: bool,
    },
    /// Give dead letters up for good. Their details are let go; who did it and why stays.
    Discard {
        /// Why.
        #[arg(long)]
        reason: String,
        /// Do it for all there are, although nothing narrows them.
        #[arg(long)]
        yes: bool,
    },
}

const SHOWN: [(&str, &str); 6] = [
    ("ACCEPTED", "acceptedAt"),
    ("ENTITY", "entityLogicalName"),
    ("RECORD", "recordId"),
    ("QUEUE", "queue"),
    ("RECEIPT", "receiptId"),
    ("REASON", "lastError"),
];

pub(in crate::cli) fn run(args: &DeadLettersArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let members = args.filter.members(&desk).await?;
        match &args.command {
            DeadLettersCommand::List { limit, before } => {
                let mut list = with("/admin/v1/dead-letters", "limit", &limit.to_string());
                for (name, value) in &members {
                    list = with(&list, name, value.as_str().unwrap_or_default());
                }
                if let Some(before) = before {
                    list = with(&list, "before", &before.to_string());
                }
                let page = desk.ask(Method::GET, &list, None, None).await?.body;
                let records = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
                let exit = desk.table(&records, &SHOWN)?;
                if let Some(next) = page.get("next").and_then(Value::as_i64).filter(|_| !output.is_json()) {
                    output.note(format!("There are more: add --before {next}"))?;
                }
                Ok(exit)
            }
            DeadLettersCommand::Requeue { yes } => {
                sure(*yes, &members)?;
                let count = page_by_page(&desk, "requeue", members).await?;
                told(&desk, "requeued", count, "are pending again")
            }
            DeadLettersCommand::Discard { reason, yes } => {
                sure(*yes, &members)?;
                let mut members = members;
                members.insert("reason".to_owned(), reason.as_str().into());
                let count = page_by_page(&desk, "discard", members).await?;
                told(&desk, "discarded", count, "are given up for good")
            }
        }
    })
}

/// Everything at once is asked for twice.
fn sure(yes: bool, members: &Map<String, Value>) -> Result<(), Failure> {
    if yes || !members.is_empty() {
        return Ok(());
    }
    let message =
        "this would take every dead letter there is; narrow it (--organization, --reason-contains, …) or add --yes";
    Err(Failure::new(Exit::Usage, message))
}

async fn page_by_page(desk: &Desk<'_>, verb: &str, members: Map<String, Value>) -> Result<u64, Failure> {
    let path = super::path(&["dead-letters", verb]);
    let mut body = Value::Object(members);
    let (mut done, mut total) = (0, None);
    let shows_progress = std::io::stderr().is_terminal() && !desk.output().is_json();
    loop {
        let page = desk.ask(Method::POST, &path, Some(&body), None).await?.body;
        let number = |name: &str| page.get(name).and_then(Value::as_u64);
        done += number("count").unwrap_or(0);
        total = number("remaining").map(|remaining| remaining + done).or(total);
        let Some(next) = page.get("next").and_then(Value::as_i64) else { return Ok(done) };
        if shows_progress {
            let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
            desk.output().note(format!("{done}{of} …"))?;
        }
        if let Some(members) = body.as_object_mut() {
            members.insert("after".to_owned(), next.into());
        }
    }
}

fn told(desk: &Desk<'_>, member: &str, count: u64, words: &str) -> Result<Exit, Failure> {
    if desk.output().is_json() {
        desk.output().json(&json!({ member: count }))?;
    } else {
        desk.output().line(format!("{count} dead letters {words}."))?;
    }
    Ok(Exit::Done)
}
