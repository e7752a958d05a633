//! `streamgate records requeue --since …`: what was delivered in some time is pending again, for a destination that lost
//! what it had taken.
//!
//! It goes page by page. The first answer says up to which moment it goes, and every later page goes up to the same: what
//! is delivered again meanwhile is not taken twice. A run that is cut short says how another one goes on.

use std::io::IsTerminal as _;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::administration::{Desk, path, text};
use super::{Exit, Failure};

/// Receipts that could not be put back, of those that the gateway names: the most that are told.
const MOST_NAMED: usize = 1_000;
/// The same for people.
const MOST_SHOWN: usize = 10;

/// What asks for dead letters. Each flag names them: of two that exclude each other, clap demands neither, so that
/// `--all --dry-run` would requeue every dead letter.
const NOT_WITH: [&str; 2] = ["receipt_id", "all"];

/// Which delivered records.
#[derive(Debug, Default, clap::Args)]
pub(super) struct RedeliveryArgs {
    /// Requeue what was delivered at this moment or later: 2026-11-23T06:00:00Z. For a destination that lost it.
    #[arg(long, value_name = "MOMENT", conflicts_with_all = NOT_WITH)]
    since: Option<String>,
    /// Only what was delivered before this moment; before now, unless given.
    #[arg(long, value_name = "MOMENT", requires = "since", conflicts_with_all = NOT_WITH)]
    until: Option<String>,
    /// Only this organization's, by unique name or ID.
    #[arg(long, value_name = "NAME", requires = "since", conflicts_with_all = NOT_WITH)]
    organization: Option<String>,
    /// Only this work stream's, by name or ID.
    #[arg(long, value_name = "NAME", requires = "since", conflicts_with_all = NOT_WITH)]
    work_stream: Option<String>,
    /// Only of this queue.
    #[arg(long, value_name = "NAME", requires = "since", conflicts_with_all = NOT_WITH)]
    queue: Option<String>,
    /// Only what goes to this routing queue now: the destination that lost it.
    #[arg(long, value_name = "NAME", requires = "since", conflicts_with_all = NOT_WITH)]
    routing_queue: Option<String>,
    /// Only say how many there are, and how many of them are work items that come back to people.
    #[arg(long, requires = "since", conflicts_with_all = NOT_WITH)]
    dry_run: bool,
}

impl RedeliveryArgs {
    /// Whether delivered records are asked for at all.
    pub(super) const fn is_meant(&self) -> bool {
        self.since.is_some()
    }

    async fn members(&self, desk: &Desk<'_>) -> Result<Map<String, Value>, Failure> {
        let mut members = Map::new();
        if let Some(named) = &self.organization {
            members.insert("organizationId".to_owned(), text(&desk.organization(named).await?.resource, "id").into());
        }
        if let Some(named) = &self.work_stream {
            let found = desk.work_stream(named, self.organization.as_deref()).await?.resource;
            members.insert("workStreamId".to_owned(), text(&found, "id").into());
            members.insert("organizationId".to_owned(), text(&found, "organizationId").into());
        }
        let others = [
            ("queue", &self.queue),
            ("routingQueue", &self.routing_queue),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let given = others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())));
        members.extend(given);
        members.insert("dryRun".to_owned(), self.dry_run.into());
        Ok(members)
    }
}

/// What came of all pages so far.
#[derive(Debug, Default)]
struct Total {
    count: u64,
    work_items: u64,
    without_details: u64,
    named: Vec<Value>,
    since: String,
    until: String,
}

impl Total {
    fn add(&mut self, page: &Value) {
        let number = |name: &str| page.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.count += number("count");
        self.work_items += number("workItems");
        self.without_details += number("withoutDetails");
        let named = page.get("receiptsWithoutDetails").and_then(Value::as_array).into_iter().flatten();
        self.named.extend(named.take(MOST_NAMED - self.named.len()).cloned());
        (self.since, self.until) = (text(page, "since"), text(page, "until"));
    }
}

pub(super) async fn run(desk: &Desk<'_>, args: &RedeliveryArgs) -> Result<Exit, Failure> {
    let mut body = Value::Object(args.members(desk).await?);
    let mut total = Total::default();
    let shows_progress = std::io::stderr().is_terminal() && !desk.output().is_json();
    loop {
        let asked = desk.ask(Method::POST, &path(&["records", "redeliver"]), Some(&body), None).await;
        let page = asked.map_err(|failure| cut_short(failure, &total, args.dry_run))?.body;
        total.add(&page);
        let Some(next) = page.get("next").and_then(Value::as_i64) else { break };
        if shows_progress {
            desk.output().note(format!("{} …", total.count))?;
        }
        if let Some(members) = body.as_object_mut() {
            members.insert("after".to_owned(), next.into());
            members.insert("until".to_owned(), total.until.clone().into());
        }
    }
    told(desk, &total, args.dry_run)
}

/// A failure in the middle, with how to go on.
fn cut_short(failure: Failure, total: &Total, dry_run: bool) -> Failure {
    if total.until.is_empty() || dry_run {
        return failure;
    }
    let Total { count, until, .. } = total;
    let message = format!(
        "{} {count} records were pending again before that. The same command with --until {until} goes on with the rest.",
        failure.message
    );
    Failure { message, ..failure }
}

fn told(desk: &Desk<'_>, total: &Total, dry_run: bool) -> Result<Exit, Failure> {
    let Total { count, work_items, without_details, named, since, until } = total;
    let output = desk.output();
    if output.is_json() {
        output.json(&json!({
            "count": count, "workItems": work_items, "withoutDetails": without_details,
            "receiptsWithoutDetails": named, "since": since, "until": until, "dryRun": dry_run,
        }))?;
        return Ok(Exit::Done);
    }
    let (verb, would) = if dry_run { ("would be", "would come") } else { ("are", "come") };
    output.line(format!("{count} records that were delivered from {since} to {until} {verb} pending again."))?;
    if *work_items > 0 {
        output.line(format!("{work_items} of them are work items of `pull`, and {would} back to people."))?;
    }
    if *without_details > 0 {
        let (first, behind) = named.split_at(named.len().min(MOST_SHOWN));
        output.line(format!("{without_details} stay delivered: their details were let go. Their receipts:"))?;
        for receipt in first {
            output.line(format!("  {}", receipt.as_str().unwrap_or_default()))?;
        }
        if *without_details > first.len() as u64 {
            let more = if behind.is_empty() { "" } else { " (--json has more of them)" };
            output.line(format!("  and {} more{more}", without_details - first.len() as u64))?;
        }
    }
    Ok(Exit::Done)
}
