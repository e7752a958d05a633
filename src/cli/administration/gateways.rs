//! `streamgate gateways`: who is there on the same catalog, and which configuration each of them serves.

use reqwest::Method;
use serde_json::Value;

use super::super::client::{ClientArgs, block_on};
use super::super::output::{Output, columns};
use super::{Desk, Exit, Failure, text};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GatewaysArgs {
    #[command(flatten)]
    client: ClientArgs,
}

pub(in crate::cli) fn run(args: &GatewaysArgs, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(&args.client, output)?;
    block_on(async {
        let answer = desk.ask(Method::GET, "/admin/v1/gateways", None, None).await?.body;
        if output.is_json() {
            output.json(&answer)?;
            return Ok(Exit::Done);
        }
        let gateways = answer.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
        let title = ["NAME", "VERSION", "GENERATION", "FILES", "UP", "HEARD", ""].map(str::to_owned).to_vec();
        let row = |gateway: &Value| {
            let answers = gateway.get("answers").and_then(Value::as_bool).unwrap_or(false);
            vec![
                text(gateway, "name"),
                text(gateway, "version"),
                text(gateway, "catalogGeneration"),
                text(gateway, "files"),
                format!("{} s", text(gateway, "upSeconds")),
                format!("{} s ago", text(gateway, "heardSecondsAgo")),
                if answers { "answers here".to_owned() } else { String::new() },
            ]
        };
        let rows: Vec<_> = std::iter::once(title).chain(gateways.iter().map(row)).collect();
        for line in columns(&rows) {
            output.line(line)?;
        }
        for behind in gateways.iter().filter(|gateway| gateway.get("behind").is_some()) {
            output.note(format!("{} is behind: {}", text(behind, "name"), text(behind, "behind")))?;
        }
        if answer.get("filesDiffer").and_then(Value::as_bool).unwrap_or(false) {
            output.note("The files of the gateways differ: give all of them the same.")?;
        }
        Ok(Exit::Done)
    })
}
