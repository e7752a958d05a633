//! `streamgate subscriptions …`: who is told of records, and what could not be told.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::{Desk, Exit, Failure, path, text, with};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SubscriptionsArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: SubscriptionsCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionsCommand {
    /// List who is subscribed, how each stands, and who was until lately.
    List {
        /// Only this organization's, by unique name or ID.
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
    },
    /// Show everything about one.
    Show {
        /// Its ID.
        id: String,
    },
    /// End one: it is told nothing more. Flows do this by themselves when they are switched off.
    End {
        /// Its ID.
        id: String,
    },
    /// List what a subscriber could not be told, oldest first.
    DeadLetters {
        /// The subscription's ID.
        id: String,
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Start after this position, as the last list said.
        #[arg(long, value_name = "POSITION")]
        after: Option<u64>,
    },
    /// Tell a subscriber again what could not be told.
    Requeue {
        /// The subscription's ID.
        id: String,
    },
    /// Forget what a subscriber could not be told.
    Discard {
        /// The subscription's ID.
        id: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

const SHOWN: [(&str, &str); 8] = [
    ("ID", "id"),
    ("STATE", "state"),
    ("QUEUE", "queue"),
    ("HOST", "callbackHost"),
    ("TOLD", "delivered"),
    ("PENDING", "pending"),
    ("GIVEN UP", "deadLettered"),
    ("LAST ERROR", "lastError"),
];

const DEAD: [(&str, &str); 4] =
    [("GIVEN UP", "givenUpAt"), ("RECEIPT", "receiptId"), ("TRIES", "attempts"), ("REASON", "reason")];

pub(in crate::cli) fn run(args: &SubscriptionsArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    let at = |id: &str, more: &[&str]| path(&[&["subscriptions", id], more].concat());
    block_on(async {
        match &args.command {
            SubscriptionsCommand::List { organization } => {
                let mut list = path(&["subscriptions"]);
                if let Some(named) = organization {
                    list = with(&list, "organizationId", &text(&desk.organization(named).await?.resource, "id"));
                }
                desk.table(&values(desk.ask(Method::GET, &list, None, None).await?.body), &SHOWN)
            }
            SubscriptionsCommand::Show { id } => {
                desk.resource(&desk.ask(Method::GET, &at(id, &[]), None, None).await?.body)
            }
            SubscriptionsCommand::End { id } => {
                let ended = desk.ask(Method::DELETE, &at(id, &[]), None, None).await?.body;
                if output.is_json() {
                    output.json(&ended)?;
                } else {
                    output.line(format!("Subscription {id} ended at {}.", text(&ended, "endedAt")))?;
                }
                Ok(Exit::Done)
            }
            SubscriptionsCommand::DeadLetters { id, limit, after } => {
                let mut list = with(&at(id, &["dead-letters"]), "limit", &limit.to_string());
                if let Some(after) = after {
                    list = with(&list, "after", &after.to_string());
                }
                let page = desk.ask(Method::GET, &list, None, None).await?.body;
                let next = page.get("next").and_then(Value::as_u64);
                let exit = desk.table(&values(page), &DEAD)?;
                if let Some(next) = next.filter(|_| !output.is_json()) {
                    output.note(format!("There may be more: add --after {next}"))?;
                }
                Ok(exit)
            }
            SubscriptionsCommand::Requeue { id } => {
                let answer = desk.ask(Method::POST, &at(id, &["dead-letters", "requeue"]), None, None).await?.body;
                told(output, &answer, &format!("{} records are told again.", text(&answer, "requeued")))
            }
            SubscriptionsCommand::Discard { id, reason } => {
                let body = json!({ "reason": reason });
                let path = at(id, &["dead-letters", "discard"]);
                let answer = desk.ask(Method::POST, &path, Some(&body), None).await?.body;
                told(output, &answer, &format!("{} dead letters are forgotten.", text(&answer, "discarded")))
            }
        }
    })
}

fn values(mut page: Value) -> Vec<Value> {
    match page.get_mut("value").map(Value::take) {
        Some(Value::Array(values)) => values,
        Some(_) | None => Vec::new(),
    }
}

fn told(output: &Output, answer: &Value, words: &str) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(answer)?;
    } else {
        output.line(words)?;
    }
    Ok(Exit::Done)
}
