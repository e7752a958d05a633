//! `streamgate variables …`: context variables, whose values rules may use.

use clap::Subcommand;
use reqwest::Method;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::fields::{Source, Unset, VariableFields};
use super::{Desk, Exit, Failure, needed, text, under};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct VariablesArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The organization, by unique name or ID; needed where the work stream's name is not unique.
    #[arg(long, global = true, value_name = "NAME")]
    organization: Option<String>,
    /// The work stream, by name or ID.
    #[arg(long, global = true, value_name = "NAME", default_value = "")]
    work_stream: String,
    #[command(subcommand)]
    command: VariablesCommand,
}

#[derive(Debug, Subcommand)]
enum VariablesCommand {
    /// List the context variables of a work stream.
    List,
    /// Show one.
    Show {
        /// The name that rules use.
        variable: String,
    },
    /// Add a context variable.
    ///
    /// Example: streamgate variables add "Order value" --work-stream Cases --kind number --column new_value
    Add {
        /// The name shown to people.
        display_name: String,
        /// The name that rules use; made of the display name unless given.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        fields: VariableFields,
        #[command(flatten)]
        source: Source,
    },
    /// Change one.
    Update {
        /// The name that rules use.
        variable: String,
        /// Another name shown to people.
        #[arg(long)]
        display_name: Option<String>,
        #[command(flatten)]
        fields: VariableFields,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        unset: Unset,
    },
    /// Delete one. Not while a rule uses it.
    Remove {
        /// The name that rules use.
        variable: String,
    },
    /// Let it have its values.
    Activate {
        /// The name that rules use.
        variable: String,
    },
    /// Let it have none, as if every record lacked them.
    Deactivate {
        /// The name that rules use.
        variable: String,
    },
}

const SHOWN: [(&str, &str); 6] = [
    ("NAME", "name"),
    ("DISPLAY NAME", "displayName"),
    ("KIND", "kind"),
    ("COLUMN", "column"),
    ("LABEL", "label"),
    ("STATE", "state"),
];

pub(in crate::cli) fn run(args: &VariablesArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let stream = desk.work_stream(needed("work-stream", &args.work_stream)?, args.organization.as_deref()).await?;
        let list = under(&stream.path, &["context-variables"]);
        let one = |variable: &str| under(&list, &[variable]);
        match &args.command {
            VariablesCommand::List => desk.table(&desk.all(&list).await?, &SHOWN),
            VariablesCommand::Show { variable } => {
                desk.resource(&desk.ask(Method::GET, &one(variable), None, None).await?.body)
            }
            VariablesCommand::Add { display_name, name, fields, source } => {
                let members =
                    fields.members().with("displayName", Some(display_name.as_str())).with("name", name.clone());
                let made = desk.ask(Method::POST, &list, Some(&source.object(members)?), None).await?.body;
                desk.done(&made, &format!("Rules may use the variable `{}`.", text(&made, "name")))
            }
            VariablesCommand::Update { variable, display_name, fields, source, unset } => {
                let patch = source.patch(
                    fields.changed_members().with("displayName", display_name.clone()),
                    unset,
                    VariableFields::DEFAULTED,
                )?;
                let tag = desk.tag_of(&one(variable)).await?;
                let changed = desk.ask(Method::PATCH, &one(variable), Some(&patch), tag.as_deref()).await?.body;
                desk.done(&changed, &format!("The variable `{variable}` is changed."))
            }
            VariablesCommand::Remove { variable } => {
                let gone = desk.ask(Method::DELETE, &one(variable), None, None).await?.body;
                desk.done(&gone, &format!("The variable `{variable}` is gone."))
            }
            VariablesCommand::Activate { variable } | VariablesCommand::Deactivate { variable } => {
                let activates = matches!(args.command, VariablesCommand::Activate { .. });
                let verb = if activates { "activate" } else { "deactivate" };
                let changed = desk.ask(Method::POST, &under(&one(variable), &[verb]), None, None).await?.body;
                desk.done(&changed, &format!("The variable `{variable}` is {}.", text(&changed, "state")))
            }
        }
    })
}
