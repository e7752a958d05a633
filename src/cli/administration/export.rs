//! `streamgate export`: organizations as the files that they could be.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::Value;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::{Desk, Exit, Failure, Named, path, text, toml_form, under};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  streamgate export contoso > config/organizations/contoso.toml\n  \
                        streamgate export --out backup/\n\n\
                        The organizations of the store, as TOML that `streamgate apply` and the folder of organizations take.")]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The organizations, by unique name or ID; all of the store unless given.
    organizations: Vec<String>,
    /// Write a file for each, named by its unique name, into this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Those that come from files too.
    #[arg(long)]
    all: bool,
}

pub(in crate::cli) fn run(args: &ExportArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let mut wanted = Vec::new();
        for named in &args.organizations {
            wanted.push(desk.organization(named).await?);
        }
        if args.organizations.is_empty() {
            let all = desk.all("/admin/v1/organizations").await?;
            let of_store = all.into_iter().filter(|one| args.all || one.get("provisionedFrom").is_none());
            wanted.extend(
                of_store.map(|resource| Named { path: path(&["organizations", &text(&resource, "id")]), resource }),
            );
        }
        if wanted.is_empty() {
            output.note("The store holds no organization; --all exports those of files too.")?;
            return Ok(Exit::Done);
        }
        if wanted.len() > 1 && args.out.is_none() {
            let message =
                format!("{} organizations do not fit into one file; say with --out FOLDER where they go", wanted.len());
            return Err(Failure::new(Exit::Usage, message));
        }
        for one in &wanted {
            let mut document = desk.ask(Method::GET, &under(&one.path, &["document"]), None, None).await?.body;
            let members = document.as_object_mut().map(std::mem::take).unwrap_or_default();
            let name = text(&one.resource, "uniqueName");
            write(output, args.out.as_ref(), (&name, toml_form::write(&members)))?;
        }
        Ok(Exit::Done)
    })
}

fn write(output: &Output, folder: Option<&PathBuf>, (name, toml): (&str, String)) -> Result<(), Failure> {
    let Some(folder) = folder else {
        if output.is_json() {
            output.json(&serde_json::json!({ "uniqueName": name, "toml": toml }))?;
        } else {
            output.line(toml.trim_end())?;
        }
        return Ok(());
    };
    let file = folder.join(format!("{name}.toml"));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, toml));
    written.map_err(|fault| Failure::new(Exit::Refused, format!("{} cannot be written: {fault}", file.display())))?;
    if output.is_json() {
        output.json(&Value::from(file.display().to_string()))?;
    } else {
        output.line(file.display().to_string())?;
    }
    Ok(())
}
