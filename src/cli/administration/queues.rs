//! `streamgate queues …`.

use clap::Subcommand;
use reqwest::Method;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::fields::{QueueFields, Source, Unset};
use super::{Desk, Exit, Failure, needed, under};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct QueuesArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The organization, by unique name or ID.
    #[arg(long, global = true, value_name = "NAME", default_value = "")]
    organization: String,
    #[command(subcommand)]
    command: QueuesCommand,
}

#[derive(Debug, Subcommand)]
enum QueuesCommand {
    /// List the queues of an organization.
    List,
    /// Show one.
    Show {
        /// Its name.
        queue: String,
    },
    /// Create a queue.
    ///
    /// Example: streamgate queues create Escalations --organization contoso --priority 1
    Create {
        /// Its name, which stays.
        queue: String,
        #[command(flatten)]
        fields: QueueFields,
        #[command(flatten)]
        source: Source,
    },
    /// Change a queue's priority, or make it the default.
    Update {
        /// Its name.
        queue: String,
        #[command(flatten)]
        fields: QueueFields,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        unset: Unset,
    },
    /// Delete a queue. Records in it stay; the default queue cannot be deleted.
    Delete {
        /// Its name.
        queue: String,
    },
}

const SHOWN: [(&str, &str); 3] = [("NAME", "name"), ("PRIORITY", "priority"), ("DEFAULT", "default")];

pub(in crate::cli) fn run(args: &QueuesArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let organization = desk.organization(needed("organization", &args.organization)?).await?;
        let list = under(&organization.path, &["queues"]);
        let one = |queue: &str| under(&list, &[queue]);
        match &args.command {
            QueuesCommand::List => desk.table(&desk.all(&list).await?, &SHOWN),
            QueuesCommand::Show { queue } => desk.resource(&desk.ask(Method::GET, &one(queue), None, None).await?.body),
            QueuesCommand::Create { queue, fields, source } => {
                let body = source.object(fields.members().with("name", Some(queue.as_str())))?;
                let made = desk.ask(Method::POST, &list, Some(&body), None).await?.body;
                desk.done(&made, &format!("Queue `{queue}` is there."))
            }
            QueuesCommand::Update { queue, fields, source, unset } => {
                let patch = source.patch(fields.members(), unset, QueueFields::DEFAULTED)?;
                let tag = desk.tag_of(&one(queue)).await?;
                let changed = desk.ask(Method::PATCH, &one(queue), Some(&patch), tag.as_deref()).await?.body;
                desk.done(&changed, &format!("Queue `{queue}` is changed."))
            }
            QueuesCommand::Delete { queue } => {
                let gone = desk.ask(Method::DELETE, &one(queue), None, None).await?.body;
                desk.done(&gone, &format!("Queue `{queue}` is gone."))
            }
        }
    })
}
