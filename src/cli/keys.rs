//! `streamgate keys …`: a fresh API key with the lines to configure; and the keys of a running gateway.

use clap::Subcommand;
use serde::Serialize;

use super::administration::keys as live;
use super::client::ClientArgs;
use super::output::Output;
use super::{Exit, Failure};
use crate::domain::access::Permission;
use crate::http::keys;

#[derive(Debug, clap::Args)]
pub(super) struct KeysArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key: print it once, with the lines that configure its hash.
    New {
        /// What the key is called in logs.
        #[arg(long, default_value = "my-connector")]
        name: String,
        /// What it may do: records.write, records.read, work.handle, admin.
        #[arg(long = "permission", value_name = "PERMISSION", default_values = ["records.write", "records.read"])]
        permissions: Vec<String>,
        /// The organizations it is for, by unique name or GUID; "*" for all.
        #[arg(long = "organization", value_name = "NAME", default_values = ["*"])]
        organizations: Vec<String>,
    },
    /// Make a key that counts in a running gateway at once: print it once.
    ///
    /// Example: streamgate keys create my-flow --organization contoso --permission records.write
    Create(live::CreateKey),
    /// List the keys of a running gateway; the keys themselves are nowhere.
    List,
    /// End a key of a running gateway.
    Revoke {
        /// Its name.
        name: String,
    },
}

pub(super) fn run(args: &KeysArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        KeysCommand::New { name, permissions, organizations } => new(name, permissions, organizations, output),
        KeysCommand::Create(new) => live::create(&args.client, new, output),
        KeysCommand::List => live::list(&args.client, output),
        KeysCommand::Revoke { name } => live::revoke(&args.client, name, output),
    }
}

fn new(name: &str, permissions: &[String], organizations: &[String], output: &Output) -> Result<Exit, Failure> {
    if name.trim().is_empty() || organizations.iter().any(|name| name.trim().is_empty()) {
        return Err(Failure::new(Exit::Usage, "--name and --organization must not be empty."));
    }
    if let Some(unknown) = permissions.iter().find(|permission| Permission::named(permission).is_none()) {
        let known = Permission::ALL.map(Permission::name).join(", ");
        return Err(Failure::new(Exit::Usage, format!("`{unknown}` is no permission. There are: {known}.")));
    }
    let made = keys::generate()
        .map_err(|fault| Failure::new(Exit::Refused, format!("the system gave no random bits: {fault}")))?;
    let sha256: String = made.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = |items: &[String]| items.iter().map(|item| toml_string(item)).collect::<Vec<_>>().join(", ");
    let lines = format!(
        "[[api_keys]]\nname = {}\nsha256 = \"{sha256}\"\npermissions = [{}]\norganizations = {}",
        toml_string(name),
        list(permissions),
        if organizations.iter().any(|name| name == "*") {
            toml_string("*")
        } else {
            format!("[{}]", list(organizations))
        },
    );
    if output.is_json() {
        #[derive(Serialize)]
        struct Body<'a> {
            key: &'a str,
            sha256: &'a str,
            configuration: &'a str,
        }
        output.json(&Body { key: &made.text, sha256: &sha256, configuration: &lines })?;
        return Ok(Exit::Done);
    }
    output
        .note("The key, shown this once. Whoever has it can use it; give it to the connector and to nobody else:\n")?;
    output.line(&made.text)?;
    output.note("\nPut these lines into streamgate.toml. They hold only a hash of the key; a running gateway takes them at once:\n")?;
    output.line(&lines)?;
    Ok(Exit::Done)
}

/// A text as a TOML basic string.
fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
