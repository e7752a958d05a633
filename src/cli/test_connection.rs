//! `streamgate test-connection`: the connector's test operation, run until it earns a 202.
//!
//! The test operation is the real one with an entity configuration's own ID as `recordId`: every check runs, nothing is
//! stored (contract §1). Without arguments, every entity configuration that the credential can see is tested once it
//! answers; a configuration that is not active yet can be named and waited for.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Client, ClientArgs, Listener, block_on};
use super::output::{Output, printable};
use super::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct TestConnectionArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Test only this entity, by logical name.
    #[arg(long, value_name = "LOGICAL_NAME")]
    entity: Option<String>,
    /// Test an entity configuration that is not active yet: its ID …
    #[arg(long, value_name = "GUID", requires_all = ["organization_id", "work_stream_id", "entity", "entity_set"])]
    entity_configuration_id: Option<String>,
    /// … its organization …
    #[arg(long, value_name = "GUID")]
    organization_id: Option<String>,
    /// … its work stream …
    #[arg(long, value_name = "GUID")]
    work_stream_id: Option<String>,
    /// … its entity set name …
    #[arg(long, value_name = "NAME")]
    entity_set: Option<String>,
    /// … and its relationship name, where it is not the usual one.
    #[arg(long, value_name = "NAME")]
    relationship: Option<String>,
    /// Give up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    timeout: u64,
    /// Wait this many seconds between tries; 0 means a tenth of a second.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=3_600))]
    interval: u64,
}

pub(super) fn run(args: &TestConnectionArgs, output: &Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.client)?;
    block_on(async {
        let connection = client.send(Listener::Public, Method::GET, "/api/v1/connection", None).await?.success()?;
        if !output.is_json() {
            output.note(format!(
                "connected: gateway {}, organizations {}",
                printable(connection.get("version").and_then(Value::as_str).unwrap_or("?")),
                printable(&connection.get("organizations").map(Value::to_string).unwrap_or_default()),
            ))?;
        }
        let events = events(&client, args).await?;
        if events.is_empty() {
            return Err(Failure::new(
                Exit::Refused,
                "there is no active entity configuration to test. Activate one, or name one with --entity-configuration-id.",
            ));
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(args.timeout);
        let mut exit = Exit::Done;
        for event in &events {
            if !until_accepted(&client, event, args, deadline, output).await? {
                exit = Exit::Refused;
            }
        }
        Ok(exit)
    })
}

/// The bodies of the test operations to run.
async fn events(client: &Client, args: &TestConnectionArgs) -> Result<Vec<Value>, Failure> {
    if let Some(id) = &args.entity_configuration_id {
        return Ok(vec![json!({
            "organizationId": args.organization_id,
            "workStreamId": args.work_stream_id,
            "entityLogicalName": args.entity,
            "entitySetName": args.entity_set,
            "relationshipName": args.relationship,
            "recordId": id,
        })]);
    }
    let listed = client.send(Listener::Public, Method::GET, "/api/v1/entity-configurations", None).await?.success()?;
    let listed = listed.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = |entity: &&Value| {
        args.entity.as_deref().is_none_or(|name| entity.get("entityLogicalName").and_then(Value::as_str) == Some(name))
    };
    let event = |entity: &Value| {
        let member = |name: &str| entity.get(name).cloned().unwrap_or_default();
        json!({
            "organizationId": member("organizationId"),
            "workStreamId": member("workStreamId"),
            "entityLogicalName": member("entityLogicalName"),
            "entitySetName": member("entitySetName"),
            "relationshipName": member("relationshipName"),
            "recordId": member("id"),
        })
    };
    Ok(listed.iter().filter(wanted).map(event).collect())
}

/// Repeats one test operation until it earns a 202 or time is up, saying each time why not.
async fn until_accepted(
    client: &Client,
    event: &Value,
    args: &TestConnectionArgs,
    deadline: tokio::time::Instant,
    output: &Output,
) -> Result<bool, Failure> {
    let entity = printable(event.get("entityLogicalName").and_then(Value::as_str).unwrap_or_default());
    let mut tries = 0_u32;
    loop {
        tries += 1;
        let body = event.to_string().into_bytes();
        let answer = client.send(Listener::Public, Method::POST, "/api/v1/records", Some(body)).await?;
        let accepted = answer.status == StatusCode::ACCEPTED;
        if output.is_json() {
            output.json(&json!({ "entityLogicalName": entity, "try": tries, "status": answer.status.as_u16(), "answer": answer.body }))?;
        } else if accepted {
            output.line(format!("{entity}: 202 after {tries} {}", if tries == 1 { "try" } else { "tries" }))?;
        } else {
            output.line(format!("{entity}: {}", answer.problem()))?;
        }
        // What no change of configuration and no time can heal is not worth another try.
        let hopeless = matches!(answer.status.as_u16(), 400 | 401 | 405 | 413 | 415);
        if accepted || hopeless {
            return Ok(accepted);
        }
        let next = tokio::time::Instant::now() + Duration::from_secs(args.interval).max(Duration::from_millis(100));
        if next > deadline {
            return Ok(false);
        }
        tokio::time::sleep_until(next).await;
    }
}
