//! `streamgate entities …`: entity configurations, by which records of an entity may enter a work stream.

use clap::Subcommand;
use reqwest::Method;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::fields::{EntityFields, Source, Unset};
use super::{Desk, Exit, Failure, text, under};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct EntitiesArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The organization, by unique name or ID; needed where the work stream's name is not unique.
    #[arg(long, global = true, value_name = "NAME")]
    organization: Option<String>,
    /// The work stream, by name or ID.
    #[arg(long, global = true, value_name = "NAME", default_value = "")]
    work_stream: String,
    #[command(subcommand)]
    command: EntitiesCommand,
}

#[derive(Debug, Subcommand)]
enum EntitiesCommand {
    /// List the entity configurations of a work stream.
    List,
    /// Show one.
    Show {
        /// The entity's logical name, or the configuration's ID.
        entity: String,
    },
    /// Let records of an entity enter a work stream.
    ///
    /// Example: streamgate entities add incident --work-stream Cases --set incidents
    Add {
        /// The entity's logical name, such as `incident`.
        entity: String,
        /// The configuration's GUID; made unless given. As a `recordId` it makes a call the test operation.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        fields: EntityFields,
        #[command(flatten)]
        source: Source,
    },
    /// Change one.
    Update {
        /// The entity's logical name, or the configuration's ID.
        entity: String,
        #[command(flatten)]
        fields: EntityFields,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        unset: Unset,
    },
    /// Take one out of the work stream.
    Remove {
        /// The entity's logical name, or the configuration's ID.
        entity: String,
    },
    /// Let its records enter.
    Activate {
        /// The entity's logical name, or the configuration's ID.
        entity: String,
    },
    /// Keep it configured and let no records enter.
    Deactivate {
        /// The entity's logical name, or the configuration's ID.
        entity: String,
    },
}

const SHOWN: [(&str, &str); 5] = [
    ("ENTITY", "entityLogicalName"),
    ("SET", "entitySetName"),
    ("STATE", "state"),
    ("ID", "id"),
    ("RELATIONSHIP", "relationshipName"),
];

pub(in crate::cli) fn run(args: &EntitiesArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let stream =
            desk.work_stream(super::needed("work-stream", &args.work_stream)?, args.organization.as_deref()).await?;
        let list = under(&stream.path, &["entity-configurations"]);
        match &args.command {
            EntitiesCommand::List => desk.table(&desk.all(&list).await?, &SHOWN),
            EntitiesCommand::Show { entity } => desk.resource(&desk.entity(&stream, entity).await?.resource),
            EntitiesCommand::Add { entity, id, fields, source } => {
                let members = fields.members().with("entityLogicalName", Some(entity.as_str())).with("id", id.clone());
                let made = desk.ask(Method::POST, &list, Some(&source.object(members)?), None).await?.body;
                desk.done(
                    &made,
                    &format!("Records of `{entity}` may enter ({}, {}).", text(&made, "id"), text(&made, "state")),
                )
            }
            EntitiesCommand::Update { entity, fields, source, unset } => {
                let patch = source.patch(fields.members(), unset, EntityFields::DEFAULTED)?;
                let named = desk.entity(&stream, entity).await?;
                let tag = desk.tag_of(&named.path).await?;
                let changed = desk.ask(Method::PATCH, &named.path, Some(&patch), tag.as_deref()).await?.body;
                desk.done(
                    &changed,
                    &format!("The configuration of `{}` is changed.", text(&changed, "entityLogicalName")),
                )
            }
            EntitiesCommand::Remove { entity } => {
                let named = desk.entity(&stream, entity).await?;
                let gone = desk.ask(Method::DELETE, &named.path, None, None).await?.body;
                let name = text(&named.resource, "entityLogicalName");
                desk.done(&gone, &format!("Records of `{name}` enter no more; those that are there stay."))
            }
            EntitiesCommand::Activate { entity } | EntitiesCommand::Deactivate { entity } => {
                let activates = matches!(args.command, EntitiesCommand::Activate { .. });
                let verb = if activates { "activate" } else { "deactivate" };
                let named = desk.entity(&stream, entity).await?;
                let changed = desk.ask(Method::POST, &under(&named.path, &[verb]), None, None).await?.body;
                let (name, state) = (text(&changed, "entityLogicalName"), text(&changed, "state"));
                desk.done(&changed, &format!("The configuration of `{name}` is {state}."))
            }
        }
    })
}
