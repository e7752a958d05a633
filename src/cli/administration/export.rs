//! `streamgate export`: organizations as the files that they could be.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::Value;

use super::super::client::{ClientArgs, block_on};
use super::super::output::{Output, printable};
use super::{Desk, Exit, Failure, Named, path, text, toml_form, under};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  streamgate export contoso > config/organizations/contoso.toml\n  \
                        streamgate export --out backup/ --force\n\n\
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
    /// Overwrite files that say something else, with their comments.
    #[arg(long, requires = "out")]
    force: bool,
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
            let Some(folder) = &args.out else {
                print(output, document)?;
                continue;
            };
            let toml = toml(&mut document);
            let file = folder.join(file_name(&text(&one.resource, "uniqueName"))?);
            let written = write(&file, &toml, args.force)?;
            if output.is_json() {
                output.json(&serde_json::json!({ "file": file.display().to_string(), "written": written }))?;
            } else {
                output.line(file.display().to_string())?;
            }
        }
        Ok(Exit::Done)
    })
}

/// Prints an organization: for machines as the API answers it.
fn print(output: &Output, mut document: Value) -> Result<(), Failure> {
    if output.is_json() {
        output.json(&document)?;
    } else {
        output.line(toml(&mut document).trim_end())?;
    }
    Ok(())
}

/// The document as TOML. Which file provides it is no part of it.
fn toml(document: &mut Value) -> String {
    let mut members = document.as_object_mut().map(std::mem::take).unwrap_or_default();
    members.remove("provisionedFrom");
    toml_form::write(&members)
}

/// The file of an organization. A name that is none comes from something that is no Streamgate, and could lead anywhere.
fn file_name(unique_name: &str) -> Result<String, Failure> {
    let is_name =
        !unique_name.is_empty() && unique_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_name {
        return Ok(format!("{unique_name}.toml"));
    }
    let message =
        format!("`{}` is no unique name, so no file is called so. Is that a Streamgate?", printable(unique_name));
    Err(Failure::new(Exit::Refused, message))
}

/// Writes a file, whole or not at all. Answers whether there was anything to write.
fn write(file: &Path, toml: &str, force: bool) -> Result<bool, Failure> {
    let failed = |fault: std::io::Error| {
        let message = format!("{} cannot be written: {fault}. Name another folder with --out.", file.display());
        Failure::new(Exit::Refused, message)
    };
    match std::fs::read(file) {
        Ok(present) if present == toml.as_bytes() => return Ok(false),
        Ok(_) if !force => {
            let message = format!(
                "{} is there and says something else. --force overwrites it, with its comments; --out names another folder.",
                file.display()
            );
            return Err(Failure::new(Exit::Refused, message));
        }
        Ok(_) | Err(_) => {}
    }
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A gateway that watches the folder never sees half a file, nor this one: its name does not end as those do.
    let draft = file.with_extension(format!("toml.{}", std::process::id()));
    let mut open = std::fs::File::create_new(&draft).map_err(failed)?;
    let done = open.write_all(toml.as_bytes()).and_then(|()| open.sync_all());
    done.and_then(|()| std::fs::rename(&draft, file)).map_err(|fault| {
        // The failure is told; a file that cannot be removed either changes nothing about it.
        let _removed = std::fs::remove_file(&draft);
        failed(fault)
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_never_overwritten_by_accident() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("new/contoso.toml");
        assert!(write(&file, "a = 1\n", false).expect("written"));
        assert!(!write(&file, "a = 1\n", false).expect("the same"));
        let refused = write(&file, "a = 2\n", false).expect_err("another content");
        assert!(refused.message.contains("--force"), "{}", refused.message);
        assert!(write(&file, "a = 2\n", true).expect("overwritten"));
        assert_eq!(std::fs::read_to_string(&file).expect("readable"), "a = 2\n");
        assert_eq!(std::fs::read_dir(folder.path().join("new")).expect("a folder").count(), 1);
    }

    #[test]
    fn only_names_become_files() {
        assert_eq!(file_name("contoso-2").expect("a name"), "contoso-2.toml");
        for name in ["", "../x", "a/b", ".", "a.b"] {
            file_name(name).expect_err(name);
        }
    }

    #[test]
    fn where_it_comes_from_is_not_exported() {
        let mut body = serde_json::json!({ "provisionedFrom": "f.toml", "organization": { "id": "a" } });
        assert_eq!(toml(&mut body), "[organization]\nid = \"a\"\n");
    }
}
