//! `streamgate health`: does the gateway on this machine take records? For probes of containers and supervisors, which
//! have nothing else in the image to ask with.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::client::{Client, ClientArgs, Listener, block_on};
use super::output::{Output, printable};
use super::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Ask only whether the process answers, whether it takes records or not.
    #[arg(long)]
    live: bool,
}

pub(super) fn run(args: &HealthArgs, output: &Output) -> Result<Exit, Failure> {
    let client = Client::without_key(&args.client)?;
    let path = if args.live { "/health/live" } else { "/health/ready" };
    let answer = block_on(client.send(Listener::Admin, Method::GET, path, None))?;
    // A 503 is an answer as well: it says why.
    if !matches!(answer.status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
        return Err(answer.refusal());
    }
    if output.is_json() {
        output.json(&answer.body)?;
    } else {
        let text = |name: &str| answer.body.get(name).and_then(Value::as_str).map(printable);
        let reason = text("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
        output.line(format!("{}{reason}", text("status").unwrap_or_default()))?;
    }
    Ok(if answer.status == StatusCode::OK { Exit::Done } else { Exit::Refused })
}
