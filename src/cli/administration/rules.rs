//! `streamgate rules …`: routing rules of a work stream, or of an entity configuration with `--entity`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{ClientArgs, block_on};
use super::super::output::{Output, columns};
use super::apply::faults_of;
use super::condition::condition;
use super::fields::{RuleFields, Source, Unset};
use super::{Desk, Exit, Failure, needed, read_json, text, under};
use crate::config::Faults;
use crate::config::submission::Submission;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RulesArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The organization, by unique name or ID; needed where the work stream's name is not unique.
    #[arg(long, global = true, value_name = "NAME")]
    organization: Option<String>,
    /// The work stream, by name or ID.
    #[arg(long, global = true, value_name = "NAME", default_value = "")]
    work_stream: String,
    /// The rules of this entity's configuration, which come before those of the work stream.
    #[arg(long, global = true, value_name = "NAME")]
    entity: Option<String>,
    #[command(subcommand)]
    command: RulesCommand,
}

/// When a rule matches.
#[derive(Debug, Default, clap::Args)]
struct When {
    /// The condition as JSON: {"column":"prioritycode","operator":"equals","value":1}.
    #[arg(long, value_name = "JSON", conflicts_with = "conditions")]
    when: Option<String>,
    /// A condition in words: `prioritycode equals 1`. Operands: a column, `label:column`, `variable:name`, `record:name`.
    /// May be given more than once.
    #[arg(long = "if", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// How several --if are joined: all or any.
    #[arg(long = "match", value_name = "all|any", default_value = "all", value_parser = ["all", "any"])]
    join: String,
}

impl When {
    fn json(&self) -> Result<Option<Value>, Failure> {
        condition(self.when.as_deref(), &self.conditions, &self.join)
    }
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// List rules in the order in which they are tried.
    List,
    /// Show one, with its condition.
    Show {
        /// Its name.
        rule: String,
    },
    /// Add a rule, at the end unless --position says where. Without a condition it matches every record.
    ///
    /// Example: streamgate rules add Escalated --work-stream Cases --queue Escalations --if 'isescalated equals true'
    #[command(verbatim_doc_comment)]
    Add {
        /// Its name.
        rule: String,
        #[command(flatten)]
        when: When,
        /// Its place in the list, from 1.
        #[arg(long)]
        position: Option<u32>,
        #[command(flatten)]
        fields: RuleFields,
        #[command(flatten)]
        source: Source,
    },
    /// Change a rule; its condition is replaced as a whole.
    Update {
        /// Its name.
        rule: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        when: When,
        #[command(flatten)]
        fields: RuleFields,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        unset: Unset,
    },
    /// Delete a rule.
    Remove {
        /// Its name.
        rule: String,
    },
    /// Give a rule another place.
    Move {
        /// Its name.
        rule: String,
        /// Its place in the list, from 1.
        position: u32,
    },
    /// Replace all rules by those of a file.
    Replace {
        /// JSON (a list, or {"rules": […]}) or TOML (`[[rules]]`); `-` for JSON on standard input.
        file: PathBuf,
    },
    /// Say what the rules of a file would change for the last records. Changes nothing.
    Preview {
        /// JSON (a list, or {"rules": […]}) or TOML (`[[rules]]`); `-` for JSON on standard input.
        file: PathBuf,
        /// How many of the last records to try them on.
        #[arg(long, default_value_t = 100)]
        last: u32,
    },
}

const SHOWN: [(&str, &str); 4] = [("NAME", "name"), ("QUEUE", "queue"), ("STATE", "state"), ("WHEN", "when")];

pub(in crate::cli) fn run(args: &RulesArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let stream = desk.work_stream(needed("work-stream", &args.work_stream)?, args.organization.as_deref()).await?;
        let of = match &args.entity {
            None => stream.path.clone(),
            Some(entity) => desk.entity(&stream, entity).await?.path,
        };
        let list = under(&of, &["rules"]);
        act(&desk, &list, &args.command).await
    })
}

async fn act(desk: &Desk<'_>, list: &str, command: &RulesCommand) -> Result<Exit, Failure> {
    let one = |rule: &str| under(list, &[rule]);
    match command {
        RulesCommand::List => desk.table(&desk.all(list).await?, &SHOWN),
        RulesCommand::Show { rule } => desk.resource(&desk.ask(Method::GET, &one(rule), None, None).await?.body),
        RulesCommand::Add { rule, when, position, fields, source } => {
            let members = fields
                .members()
                .with("name", Some(rule.as_str()))
                .with("when", when.json()?)
                .with("position", *position);
            let made = desk.ask(Method::POST, list, Some(&source.object(members)?), None).await?.body;
            desk.done(&made, &format!("Rule `{rule}` sends what it matches to `{}`.", text(&made, "queue")))
        }
        RulesCommand::Update { rule, name, when, fields, source, unset } => {
            let members = fields.members().with("name", name.clone()).with("when", when.json()?);
            let patch = source.patch(members, unset, RuleFields::DEFAULTED)?;
            let tag = desk.tag_of(&one(rule)).await?;
            let changed = desk.ask(Method::PATCH, &one(rule), Some(&patch), tag.as_deref()).await?.body;
            desk.done(&changed, &format!("Rule `{}` is changed.", text(&changed, "name")))
        }
        RulesCommand::Remove { rule } => {
            let gone = desk.ask(Method::DELETE, &one(rule), None, None).await?.body;
            desk.done(&gone, &format!("Rule `{rule}` is gone."))
        }
        RulesCommand::Move { rule, position } => {
            let body = json!({ "position": position });
            let moved = desk.ask(Method::POST, &under(&one(rule), &["move"]), Some(&body), None).await?.body;
            desk.done(&moved, &format!("Rule `{rule}` has another place."))
        }
        RulesCommand::Replace { file } => {
            let draft = Draft::read(file)?;
            let done = draft.send(desk, (Method::PUT, list), &json!({ "value": draft.rules() })).await?;
            let count = done.get("value").and_then(Value::as_array).map_or(0, Vec::len);
            desk.done(&done, &format!("There are {count} rules now."))
        }
        RulesCommand::Preview { file, last } => {
            let draft = Draft::read(file)?;
            let body = json!({ "rules": draft.rules(), "last": last });
            let told = draft.send(desk, (Method::POST, &under(list, &["preview"])), &body).await?;
            show_preview(desk, &told)
        }
    }
}

/// A list of rules in a file.
enum Draft {
    Json(Value),
    Toml(Box<Submission>),
}

impl Draft {
    fn read(file: &Path) -> Result<Self, Failure> {
        let no_rules = || {
            let message =
                format!("{} holds no rules: write a list, {{\"rules\": […]}}, or [[rules]] in TOML", file.display());
            Failure::new(Exit::Usage, message)
        };
        if file.extension().is_some_and(|extension| extension == "toml") {
            let read = Submission::read(file).map_err(|faults| Self::faulty(&faults))?;
            let has_rules = read.document().get("rules").is_some_and(Value::is_array);
            return if has_rules { Ok(Self::Toml(Box::new(read))) } else { Err(no_rules()) };
        }
        let rules = match read_json(file)? {
            Value::Object(mut members) => members.remove("rules").or_else(|| members.remove("value")),
            list @ Value::Array(_) => Some(list),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        rules.filter(Value::is_array).map(Self::Json).ok_or_else(no_rules)
    }

    fn rules(&self) -> Value {
        match self {
            Self::Json(rules) => rules.clone(),
            Self::Toml(read) => read.document().get("rules").cloned().unwrap_or_default(),
        }
    }

    /// Sends the rules as this member; faults that are found in them are told at the lines of the file.
    async fn send(&self, desk: &Desk<'_>, (method, path): (Method, &str), body: &Value) -> Result<Value, Failure> {
        let mut answer = desk.attempt(method, path, Some(body), None).await?;
        let Self::Toml(read) = self else { return answer.success() };
        for fault in answer.body.get_mut("faults").and_then(Value::as_array_mut).into_iter().flatten() {
            // A replaced list is sent as `value`, and is `rules` in the file.
            let pointer = fault.get("pointer").and_then(Value::as_str).and_then(|at| at.strip_prefix("/value"));
            if let (Some(rest), Some(members)) = (pointer.map(str::to_owned), fault.as_object_mut()) {
                members.insert("pointer".to_owned(), format!("/rules{rest}").into());
            }
        }
        match faults_of(read, &answer.body) {
            Some(faults) => Err(Self::faulty(&faults)),
            None => answer.success(),
        }
    }

    fn faulty(faults: &Faults) -> Failure {
        Failure::new(Exit::Configuration, format!("{faults}; nothing has changed. Correct every fault and try again."))
    }
}

fn show_preview(desk: &Desk<'_>, told: &Value) -> Result<Exit, Failure> {
    let output = desk.output();
    if output.is_json() {
        output.json(told)?;
        return Ok(Exit::Done);
    }
    let list = |name: &str| told.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let place = |change: &Value, side: &str| {
        let at = change.get(side).cloned().unwrap_or_default();
        let rule = text(&at, "rule");
        let rule = if rule.is_empty() { "no rule".to_owned() } else { rule };
        format!("{} ({rule})", text(&at, "queue"))
    };
    output.line(format!(
        "{} of the last {} records would go elsewhere.",
        text(told, "changed"),
        text(told, "examined")
    ))?;
    let mut rows = vec![["ENTITY", "RECORD", "FROM", "TO"].map(str::to_owned).to_vec()];
    rows.extend(list("changes").iter().map(|change| {
        vec![text(change, "entityLogicalName"), text(change, "recordId"), place(change, "from"), place(change, "to")]
    }));
    let mut queues = vec![["QUEUE", "NOW", "THEN"].map(str::to_owned).to_vec()];
    queues.extend(
        list("queues").iter().map(|queue| ["queue", "before", "after"].map(|member| text(queue, member)).to_vec()),
    );
    for table in [rows, queues].iter().filter(|table| table.len() > 1) {
        output.line("")?;
        for line in columns(table) {
            output.line(line)?;
        }
    }
    output.note("Nothing has changed. `streamgate rules replace` with the same file makes it so.")?;
    desk.warnings(told)
}
