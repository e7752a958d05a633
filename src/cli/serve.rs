//! `streamgate serve`, the default command: start the gateway and say how to use it.

use std::net::SocketAddr;
use std::path::PathBuf;

use actix_web::rt::System;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::Output;
use super::{Exit, Failure, with_causes};
use crate::app::{App, BuildError};
use crate::config::identity::TlsIdentity;
use crate::config::{self, Config, Overrides, ReloadOutcome};
use crate::domain::catalog::{Catalog, EntityConfiguration, Organization, StreamSource, WorkStream};
use crate::telemetry;

#[derive(Debug, Default, clap::Args)]
pub(super) struct ServeArgs {
    /// The configuration file. Without it: config/streamgate.toml where there is one, else a built-in example.
    #[arg(long, env = "STREAMGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where records are kept.
    #[arg(long, env = "STREAMGATE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The public address; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The address for health, metrics and administration; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
}

pub(super) fn run(args: &ServeArgs, output: &Output) -> Result<Exit, Failure> {
    let overrides = Overrides {
        data_dir: args.data_dir.clone(),
        listen: args.listen,
        admin_listen: args.admin_listen,
        read_only: false,
    };
    let config = match crate::app::load_config(args.config.as_deref(), &overrides) {
        Ok(config) => config,
        Err(faults) => {
            return Err(Failure::new(Exit::Configuration, format!("the configuration has faults\n{faults}")));
        }
    };
    telemetry::start_log(&config.process.log).map_err(|fault| Failure::new(Exit::Configuration, fault))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // What this process makes, nobody else reads.
    let _previous = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    no_core_dumps();
    System::new().block_on(async { start(config, output).await })
}

/// A core would hold records and keys. Where the limit cannot be lowered, the operator's own stays.
fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(fault) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%fault, "core dumps cannot be switched off; a core would hold records and keys");
    }
}

async fn start(config: Config, output: &Output) -> Result<Exit, Failure> {
    let greeting = Greeting::new(&config);
    let data_dir = config.process.data_dir.clone();
    let app = App::build(config).map_err(|fault| {
        let exit = match fault {
            BuildError::Store(_)
            | BuildError::Database(_)
            | BuildError::DataDirectory(_)
            | BuildError::Catalog(_)
            | BuildError::Subscriptions(_)
            | BuildError::Following(_) => Exit::Store,
            BuildError::Configuration(_) | BuildError::Exporter(_) => Exit::Configuration,
            BuildError::Listen { .. }
            | BuildError::DevelopmentKey(_)
            | BuildError::Tls(_)
            | BuildError::Gateways(_)
            | BuildError::System { .. } => Exit::Refused,
        };
        let advice = fault.advice(&data_dir).map(|advice| format!("\n{advice}")).unwrap_or_default();
        Failure::new(exit, format!("{}{advice}", with_causes(&fault)))
    })?;
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    let hang_up = signal(SignalKind::hangup())?;
    greeting.print(&app, output)?;
    let live = app.live().clone();
    let reloader = actix_web::rt::spawn(reload_on(hang_up, live));
    app.run(until_told(terminate, interrupt)).await?;
    reloader.abort();
    Ok(Exit::Done)
}

/// Ends with the first signal to stop; a second one ends the process at once.
async fn until_told(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    actix_web::rt::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // What was answered with 202 is on disk; everything else may be cut short when somebody insists.
        std::process::exit(Exit::Refused as i32);
    });
}

/// SIGHUP reads the configuration again.
async fn reload_on(mut hang_up: Signal, live: std::sync::Arc<config::Live>) {
    while hang_up.recv().await.is_some() {
        let live = live.clone();
        match actix_web::rt::task::spawn_blocking(move || live.reload()).await {
            Ok(Ok(ReloadOutcome::Unchanged)) => tracing::info!("reload: nothing changed"),
            Ok(Ok(ReloadOutcome::Applied { generation, .. })) => tracing::info!(generation, "reload: applied"),
            Ok(Err(faults)) => tracing::error!("reload: the last good configuration stays\n{faults}"),
            Err(fault) => tracing::error!(%fault, "reload: cut short"),
        }
    }
}

/// What a newcomer needs to see: the addresses, the key, a request that earns a 202 and one that earns a 404.
struct Greeting {
    origin: String,
    example: Option<Example>,
    host: Option<String>,
}

/// The bodies of two requests against the first entity configuration that takes records.
struct Example {
    accepted: String,
    refused: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    public_url: String,
    admin_url: String,
    configuration: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    development_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curl_accepted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curl_refused: Option<String>,
}

impl Greeting {
    fn new(config: &Config) -> Self {
        let found = first_that_takes_records(&config.effective.catalog);
        let host = found.and_then(|(organization, _, _)| {
            config.process.public_host.as_ref().map(|pattern| pattern.host_of(&organization.unique_name))
        });
        Self { origin: config.origin.to_string(), example: found.map(example), host }
    }

    fn print(&self, app: &App, output: &Output) -> Result<(), Failure> {
        let (public_identity, admin_identity) = (app.public_identity(), app.admin_identity());
        let public_url = url(app.public_address()?, public_identity.is_some());
        let admin_url = url(app.admin_address()?, admin_identity.is_some());
        let (called, trust) = match public_identity {
            None => (public_url.clone(), String::new()),
            Some(identity) => called(&identity, app.public_address()?),
        };
        let key = app.development_key();
        let shown_key = key.map_or("$STREAMGATE_API_KEY", |key| key.text.as_str());
        let curl = |body: &str| {
            let host = self.host.as_ref().map(|host| format!(" -H 'Host: {host}'")).unwrap_or_default();
            format!(
                "curl -i{trust} {called}/api/v1/records{host} -H \"X-Api-Key: {shown_key}\" -H 'Content-Type: application/json' -d '{body}'"
            )
        };
        let started = Started {
            configuration: &self.origin,
            development_key: key.map(|key| key.text.as_str()),
            curl_accepted: self.example.as_ref().map(|example| curl(&example.accepted)),
            curl_refused: self.example.as_ref().map(|example| curl(&example.refused)),
            public_url,
            admin_url,
        };
        if output.is_json() {
            return Ok(output.json(&started)?);
        }
        output.line(format!("Streamgate {} is listening.", env!("CARGO_PKG_VERSION")))?;
        output.line(format!("  public          {}", started.public_url))?;
        output.line(format!("  administration  {}", started.admin_url))?;
        output.line(format!("  interface       {}/openapi", started.public_url))?;
        output.line(format!("  configuration   {}", started.configuration))?;
        if let Some(key) = key {
            output.line(format!("  development key {} (kept in {})", key.text, key.file.display()))?;
        }
        if let (Some(accepted), Some(refused)) = (&started.curl_accepted, &started.curl_refused) {
            output.line(format!("\nThis earns a 202:\n\n{accepted}\n"))?;
            output.line(format!("This earns a 404 that says why:\n\n{refused}\n"))?;
        }
        Ok(())
    }
}

fn url(address: SocketAddr, encrypted: bool) -> String {
    format!("{}://{address}", if encrypted { "https" } else { "http" })
}

/// How curl reaches a listener with this certificate: the address in the URL, and the options that make it trusted.
fn called(identity: &TlsIdentity, address: SocketAddr) -> (String, String) {
    let mut options = String::new();
    if identity.is_self_issued() {
        options = format!(" --cacert {}", identity.certificate_file().display());
    }
    let Some(name) = identity.name_other_than(address.ip()) else { return (url(address, true), options) };
    // The name may lead elsewhere, or nowhere yet.
    let port = address.port();
    options.push_str(&format!(" --connect-to {name}:{port}:{address}"));
    (format!("https://{name}:{port}"), options)
}

fn first_that_takes_records(catalog: &Catalog) -> Option<(&Organization, &WorkStream, &EntityConfiguration)> {
    let mut organizations: Vec<_> = catalog.organizations().map(std::sync::Arc::as_ref).collect();
    organizations.sort_by(|a, b| a.unique_name.cmp(&b.unique_name));
    organizations.into_iter().find_map(|organization| {
        let open = organization
            .work_streams_by_name()
            .into_iter()
            .filter(|stream| stream.state.is_active() && stream.stream_source == StreamSource::EntityRecords);
        open.into_iter().find_map(|work_stream| {
            let entity = work_stream.entities_by_name().into_iter().find(|entity| entity.state.is_active())?;
            Some((organization, work_stream, entity))
        })
    })
}

fn example((organization, work_stream, entity): (&Organization, &WorkStream, &EntityConfiguration)) -> Example {
    let record_id = uuid::Uuid::from_u64_pair(rand_bits(), rand_bits());
    let logical_name = &entity.entity_logical_name;
    // Written out, so that the properties stand in the order of the contract. None of the values needs an escape.
    let body = |entity_set_name: &str| {
        format!(
            r#"{{"organizationId":"{}","workStreamId":"{}","entityLogicalName":"{logical_name}","entitySetName":"{entity_set_name}","recordId":"{record_id}","relationshipName":"{}","recordDetails":{{"{logical_name}id":"{record_id}","title":"Card payment declined twice"}}}}"#,
            organization.id, work_stream.id, entity.relationship_name,
        )
    };
    let name = entity.entity_set_name.as_str();
    Example { accepted: body(name), refused: body(&format!("{name}s")) }
}

/// Random bits for an example's record ID: with the same ones at every start, the printed request would be a repeat.
fn rand_bits() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}
