//! `streamgate audit`: who changed what, when, from what to what.

use reqwest::Method;
use serde_json::Value;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::{Desk, Exit, Failure, text, with};
use crate::domain::ids::Guid;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct AuditArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Only what was done to this organization, by unique name or ID.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Only what was done to resources with this in their path: `api-keys`, `rules`, an ID.
    #[arg(long, value_name = "PART")]
    resource: Option<String>,
    /// How many entries.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Start before this entry, as the last list said.
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
}

pub(in crate::cli) fn run(args: &AuditArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let mut list = with("/admin/v1/audit", "limit", &args.limit.to_string());
        if let Some(named) = &args.organization {
            // One that is gone has its ID still.
            let id = match Guid::parse(named.trim()) {
                Ok(id) => id.to_string(),
                Err(_) => text(&desk.organization(named).await?.resource, "id"),
            };
            list = with(&list, "organizationId", &id);
        }
        if let Some(part) = &args.resource {
            list = with(&list, "resource", part);
        }
        if let Some(before) = args.before {
            list = with(&list, "before", &before.to_string());
        }
        let page = desk.ask(Method::GET, &list, None, None).await?.body;
        if output.is_json() {
            output.json(&page)?;
            return Ok(Exit::Done);
        }
        let entries = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
        if entries.is_empty() {
            output.note("There are none.")?;
        }
        for entry in &entries {
            let words = ["at", "credential", "action", "resource"].map(|member| text(entry, member)).join("  ");
            output.line(words)?;
            for difference in entry.get("differences").and_then(Value::as_array).into_iter().flatten() {
                output.line(format!("  {}", difference_in_words(difference)))?;
            }
        }
        if let Some(next) = page.get("next").and_then(Value::as_i64) {
            output.note(format!("There are more: add --before {next}"))?;
        }
        Ok(Exit::Done)
    })
}

/// A difference on one line: `+` something new, `-` something gone, `~` something changed.
pub(super) fn difference_in_words(difference: &Value) -> String {
    const LONGEST_CHARS: usize = 200;
    let shown = |side: &str| {
        let text = text(difference, side);
        let short: String = text.chars().take(LONGEST_CHARS).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    };
    let path = text(difference, "path");
    match (difference.get("from"), difference.get("to")) {
        (None, _) => format!("+ {path}: {}", shown("to")),
        (_, None) => format!("- {path}: {}", shown("from")),
        (Some(_), Some(_)) => format!("~ {path}: {} → {}", shown("from"), shown("to")),
    }
}
