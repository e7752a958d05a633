//! `streamgate organizations …`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::fields::{Members, OrganizationFields, Source, Unset};
use super::{Desk, Exit, Failure, text, with};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct OrganizationsArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: OrganizationsCommand,
}

#[derive(Debug, Subcommand)]
enum OrganizationsCommand {
    /// List organizations, and where each comes from.
    List,
    /// Show an organization.
    Show {
        /// Its unique name or ID.
        organization: String,
    },
    /// Create an organization.
    ///
    /// Example: streamgate organizations create contoso --name "Contoso Ltd."
    Create {
        /// Its unique name: letters, digits and hyphens, as in host names.
        unique_name: String,
        /// Its GUID; made unless given.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        fields: OrganizationFields,
        #[command(flatten)]
        source: Source,
    },
    /// Change an organization.
    Update {
        /// Its unique name or ID.
        organization: String,
        /// Another unique name.
        #[arg(long)]
        unique_name: Option<String>,
        #[command(flatten)]
        fields: OrganizationFields,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        unset: Unset,
    },
    /// Delete an organization with everything that is configured for it. Its records stay.
    Delete {
        /// Its unique name or ID.
        organization: String,
        /// Delete what stands in the store behind the file that provides it.
        #[arg(long)]
        stored_copy: bool,
    },
}

const SHOWN: [(&str, &str); 4] =
    [("UNIQUE NAME", "uniqueName"), ("NAME", "name"), ("ID", "id"), ("FROM FILE", "provisionedFrom")];

pub(in crate::cli) fn run(args: &OrganizationsArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        match &args.command {
            OrganizationsCommand::List => desk.table(&desk.all("/admin/v1/organizations").await?, &SHOWN),
            OrganizationsCommand::Show { organization } => {
                desk.resource(&desk.organization(organization).await?.resource)
            }
            OrganizationsCommand::Create { unique_name, id, fields, source } => {
                let members = fields.members().with("uniqueName", Some(unique_name.as_str())).with("id", id.clone());
                let body = source.object(members)?;
                let made = desk.ask(Method::POST, "/admin/v1/organizations", Some(&body), None).await?.body;
                desk.done(&made, &format!("Organization `{unique_name}` ({}) is there.", text(&made, "id")))
            }
            OrganizationsCommand::Update { organization, unique_name, fields, source, unset } => {
                let members: Members = fields.members().with("uniqueName", unique_name.clone());
                let patch = source.patch(members, unset, OrganizationFields::DEFAULTED)?;
                let named = desk.organization(organization).await?;
                let tag = desk.tag_of(&named.path).await?;
                let changed = desk.ask(Method::PATCH, &named.path, Some(&patch), tag.as_deref()).await?.body;
                desk.done(&changed, &format!("Organization `{}` is changed.", text(&changed, "uniqueName")))
            }
            OrganizationsCommand::Delete { organization, stored_copy } => {
                let named = desk.organization(organization).await?;
                let path = if *stored_copy { with(&named.path, "storedCopy", "true") } else { named.path.clone() };
                let gone: Value = desk.ask(Method::DELETE, &path, None, None).await?.body;
                desk.done(
                    &gone,
                    &format!("Organization `{}` is gone; its records stay.", text(&named.resource, "uniqueName")),
                )
            }
        }
    })
}
