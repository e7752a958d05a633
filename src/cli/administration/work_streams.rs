//! `streamgate work-streams …`.

use clap::Subcommand;
use reqwest::Method;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::fields::{Source, Unset, WorkStreamFields};
use super::{Desk, Exit, Failure, text, under, with};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WorkStreamsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The organization, by unique name or ID; needed to create, and where a name is not unique.
    #[arg(long, global = true, value_name = "NAME")]
    organization: Option<String>,
    #[command(subcommand)]
    command: WorkStreamsCommand,
}

#[derive(Debug, Subcommand)]
enum WorkStreamsCommand {
    /// List work streams.
    List,
    /// Show a work stream with everything that belongs to it.
    Show {
        /// Its name or ID.
        work_stream: String,
    },
    /// Create a work stream.
    ///
    /// Example: streamgate work-streams create Cases --organization contoso --capacity 20
    Create {
        /// Its name.
        name: String,
        /// Its GUID; made unless given.
        #[arg(long)]
        id: Option<String>,
        /// What it captures: entity-records (unless set) or live-chat. Locked after creation.
        #[arg(long)]
        stream_source: Option<String>,
        /// push (unless set) or pick. Locked after creation.
        #[arg(long)]
        distribution_mode: Option<String>,
        #[command(flatten)]
        fields: WorkStreamFields,
        #[command(flatten)]
        source: Source,
    },
    /// Change a work stream.
    Update {
        /// Its name or ID.
        work_stream: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        fields: WorkStreamFields,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        unset: Unset,
    },
    /// Delete a work stream with everything that is configured for it. Its records stay.
    Delete {
        /// Its name or ID.
        work_stream: String,
    },
    /// Let it take records.
    Activate {
        /// Its name or ID.
        work_stream: String,
    },
    /// Keep it configured and let it take none.
    Deactivate {
        /// Its name or ID.
        work_stream: String,
    },
}

const SHOWN: [(&str, &str); 6] = [
    ("NAME", "name"),
    ("STATE", "state"),
    ("SOURCE", "streamSource"),
    ("CAPACITY", "capacity"),
    ("ID", "id"),
    ("ORGANIZATION", "organizationId"),
];

pub(in crate::cli) fn run(args: &WorkStreamsArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    let organization = args.organization.as_deref();
    block_on(async {
        match &args.command {
            WorkStreamsCommand::List => {
                let mut list = "/admin/v1/work-streams".to_owned();
                if let Some(named) = organization {
                    list = with(&list, "organizationId", &text(&desk.organization(named).await?.resource, "id"));
                }
                desk.table(&desk.all(&list).await?, &SHOWN)
            }
            WorkStreamsCommand::Show { work_stream } => {
                desk.resource(&desk.work_stream(work_stream, organization).await?.resource)
            }
            WorkStreamsCommand::Create { name, id, stream_source, distribution_mode, fields, source } => {
                let named = organization.ok_or_else(|| {
                    Failure::new(Exit::Usage, "say with --organization whose work stream it is to be")
                })?;
                let owner = text(&desk.organization(named).await?.resource, "id");
                let members = fields
                    .members()
                    .with("organizationId", Some(owner))
                    .with("name", Some(name.as_str()))
                    .with("id", id.clone())
                    .with("streamSource", stream_source.clone())
                    .with("distributionMode", distribution_mode.clone());
                let body = source.object(members)?;
                let made = desk.ask(Method::POST, "/admin/v1/work-streams", Some(&body), None).await?.body;
                desk.done(&made, &format!("Work stream `{name}` ({}) is there.", text(&made, "id")))
            }
            WorkStreamsCommand::Update { work_stream, name, fields, source, unset } => {
                let patch =
                    source.patch(fields.members().with("name", name.clone()), unset, WorkStreamFields::DEFAULTED)?;
                let named = desk.work_stream(work_stream, organization).await?;
                let tag = desk.tag_of(&named.path).await?;
                let changed = desk.ask(Method::PATCH, &named.path, Some(&patch), tag.as_deref()).await?.body;
                desk.done(&changed, &format!("Work stream `{}` is changed.", text(&changed, "name")))
            }
            WorkStreamsCommand::Delete { work_stream } => {
                let named = desk.work_stream(work_stream, organization).await?;
                let gone = desk.ask(Method::DELETE, &named.path, None, None).await?.body;
                desk.done(&gone, &format!("Work stream `{}` is gone; its records stay.", text(&named.resource, "name")))
            }
            WorkStreamsCommand::Activate { work_stream } | WorkStreamsCommand::Deactivate { work_stream } => {
                let activates = matches!(args.command, WorkStreamsCommand::Activate { .. });
                let verb = if activates { "activate" } else { "deactivate" };
                let named = desk.work_stream(work_stream, organization).await?;
                let changed = desk.ask(Method::POST, &under(&named.path, &[verb]), None, None).await?.body;
                desk.done(
                    &changed,
                    &format!("Work stream `{}` is {}.", text(&changed, "name"), text(&changed, "state")),
                )
            }
        }
    })
}
