//! A look at a NATS destination without publishing anything, for `doctor`: with the connection and the checks that
//! deliveries have. It never makes a stream.

use std::time::{Duration, Instant};

use super::link::{self, Link};
use super::stream::{self, Mismatch, Wanted};
use crate::config::settings::NatsSettings;
use crate::domain::catalog::RoutingQueueName;

/// A server that let us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it has JetStream, as it says of itself; a stream may be on another server of its cluster.
    pub jetstream: bool,
    /// The largest message it takes, in bytes.
    pub max_payload: usize,
    /// How long it took to get in.
    pub took: Duration,
}

/// What a look found.
#[derive(Debug)]
pub struct Look {
    /// Each configured server, in order, and whether it let us in.
    pub servers: Vec<Result<Server, String>>,
    /// The stream: `None` where there is none, why not where that could not be found out. Only what does not fit is told.
    pub stream: Result<Option<Found>, String>,
}

/// A stream that is there.
#[derive(Debug)]
pub struct Found {
    /// Copies that are kept.
    pub replicas: usize,
    /// What does not fit, the worst first.
    pub mismatches: Vec<Mismatch>,
}

/// Looks at the servers one by one, and at the stream through the first that lets us in. Everything within `patience`.
pub async fn look(name: &RoutingQueueName, settings: &NatsSettings, patience: Duration) -> Look {
    let mut found = Look { servers: Vec::new(), stream: Err("no server let us in".to_owned()) };
    let tls = match link::tls_config(settings) {
        Ok(tls) => tls,
        Err(fault) => {
            found.servers = settings.servers.iter().map(|_| Err(fault.to_string())).collect();
            return found;
        }
    };
    let looks = settings.servers.iter().map(|server| {
        let alone = NatsSettings { servers: vec![server.clone()], ..settings.clone() };
        let tls = tls.clone();
        async move {
            let begun = Instant::now();
            let connecting = tokio::time::timeout(patience, Link::connect((name, &alone), tls, 0));
            let link = connecting.await.unwrap_or_else(|_| Err(format!("no connection within {patience:?}")))?;
            let info = link.server_info();
            let server = Server {
                name: info.server_name,
                version: info.version,
                jetstream: info.jetstream,
                max_payload: info.max_payload,
                took: begun.elapsed(),
            };
            Ok((server, link))
        }
    });
    let mut links = Vec::new();
    for looked in futures_util::future::join_all(looks).await {
        found.servers.push(looked.map(|(server, link)| {
            links.push(link);
            server
        }));
    }
    if let Some(link) = links.first() {
        let asking = tokio::time::timeout(patience, of_stream(link, settings));
        found.stream = asking.await.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")));
    }
    // A server that says no goodbye is not waited for.
    let _ended = tokio::time::timeout(patience, futures_util::future::join_all(links.iter().map(Link::close))).await;
    found
}

async fn of_stream(link: &Link, settings: &NatsSettings) -> Result<Option<Found>, String> {
    let Some(config) = link.find(&settings.stream).await? else { return Ok(None) };
    let wanted = Wanted::of(settings);
    let mut mismatches = stream::mismatches(&config, &wanted);
    mismatches.extend(stream::payload(link.server_info().max_payload, &wanted));
    mismatches.sort_by_key(|mismatch| mismatch.weight);
    Ok(Some(Found { replicas: config.num_replicas.max(1), mismatches }))
}
