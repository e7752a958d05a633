//! Destinations of kind `nats`: whether each server lets the gateway in, whether the stream keeps what it acknowledges, and
//! when that is on disk.
//!
//! When is the server's own affair: `sync_interval` is two minutes by default, so what was acknowledged since the last
//! sync is gone when the power fails on all replicas at once. Only a server's monitoring port tells it (`monitoring_url`).

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::{PATIENCE, WAITS};
use crate::cli::doctor::finding::{Check, Finding, capped, list_in_words};
use crate::config::settings::NatsSettings;
use crate::domain::catalog::RoutingQueueName;
use crate::routing_queue::nats::stream::{Mismatch, Weight};
use crate::routing_queue::nats::{Found, Look, Server, look};

/// What a server tells about itself is some kilobytes.
const LARGEST_ANSWER_BYTES: u64 = 1 << 20;

/// Looks at one destination.
pub(super) async fn examine(name: &RoutingQueueName, settings: &NatsSettings) -> Vec<Finding> {
    let (looked, sync) = tokio::join!(look(name, settings, PATIENCE), sync_of(settings));
    let mut findings = vec![servers(settings, &looked)];
    findings.extend(stream(settings, &looked));
    findings.push(synced(settings, sync));
    findings
}

fn servers(settings: &NatsSettings, looked: &Look) -> Finding {
    let check = Check::Connection;
    let answered: Vec<&Server> = looked.servers.iter().filter_map(|server| server.as_ref().ok()).collect();
    let away: Vec<String> = settings
        .servers
        .iter()
        .zip(&looked.servers)
        .filter_map(|(server, looked)| Some(format!("{server}: {}", looked.as_ref().err()?)))
        .collect();
    let mend = "is the server running, are host and port right, does a firewall let this machine through, and may this user \
                log in?";
    if answered.is_empty() {
        return Finding::fault(check, capped(&format!("no server lets us in: {}", away.join("; "))), WAITS, mend);
    }
    if !away.is_empty() {
        let consequence = "deliveries go through the others; there are fewer to turn to when those fail";
        let found = capped(&format!("not all servers let us in: {}", away.join("; ")));
        return Finding::warning(check, found, consequence, mend);
    }
    let shown: Vec<String> = answered
        .iter()
        .map(|server| format!("{} ({}, {} ms)", capped(&server.name), capped(&server.version), server.took.as_millis()))
        .collect();
    if !answered.iter().any(|server| server.jetstream) {
        let found = format!("{} let us in, and have no JetStream", list_in_words(&shown));
        let mend = "start them with JetStream (`-js`), unless another server of their cluster has it";
        return Finding::warning(check, found, "without JetStream nothing is acknowledged, and records wait", mend);
    }
    Finding::ok(check, format!("let in by {}", list_in_words(&shown)))
}

fn stream(settings: &NatsSettings, looked: &Look) -> Vec<Finding> {
    let (check, name) = (Check::Stream, &settings.stream);
    if !looked.servers.iter().any(Result::is_ok) {
        return vec![Finding::note(check, "not looked at", "no server lets us in")];
    }
    let found = match &looked.stream {
        Err(fault) => {
            let mend = "may this user ask JetStream (`$JS.API.STREAM.INFO.…`), and has the cluster a leader?";
            let found = format!("nothing is known about `{name}`: {}", capped(fault));
            return vec![Finding::fault(check, found, WAITS, mend)];
        }
        Ok(None) if settings.create.is_some() => {
            let consequence = "the first connection of a gateway makes it";
            return vec![Finding::note(check, format!("there is no `{name}` yet"), consequence)];
        }
        Ok(None) => {
            let mend = "make it, or say create_stream = true";
            return vec![Finding::fault(check, format!("there is no `{name}`"), WAITS, mend)];
        }
        Ok(Some(found)) => found,
    };
    if found.mismatches.is_empty() {
        return vec![fits(settings, found)];
    }
    let of = |Mismatch { weight, found, mend }: &Mismatch| match weight {
        Weight::Refuse => Finding::fault(check, found.clone(), WAITS, mend.clone()),
        Weight::Risk => {
            let consequence = "records that are larger become dead letters at once; all others are delivered";
            Finding::warning(check, found.clone(), consequence, mend.clone())
        }
        Weight::Tell => Finding::note(check, found.clone(), "it works; this is to be known").mend(mend.clone()),
    };
    found.mismatches.iter().map(of).collect()
}

fn fits(settings: &NatsSettings, Found { replicas, .. }: &Found) -> Finding {
    let times = if *replicas == 1 { "once".to_owned() } else { format!("{replicas} times") };
    Finding::ok(Check::Stream, format!("`{}` keeps what it acknowledges, {times}", settings.stream))
}

/// What a server's monitoring port says about its syncs.
#[derive(Debug, PartialEq, Eq)]
struct Sync {
    interval: Duration,
    always: bool,
}

/// The part of `/varz` that matters here.
#[derive(Deserialize)]
struct Varz {
    #[serde(default)]
    jetstream: VarzJetStream,
}

#[derive(Deserialize, Default)]
struct VarzJetStream {
    config: Option<VarzConfig>,
}

#[derive(Deserialize)]
struct VarzConfig {
    /// In nanoseconds.
    #[serde(default)]
    sync_interval: u64,
    #[serde(default)]
    sync_always: bool,
}

async fn sync_of(settings: &NatsSettings) -> Option<Result<Sync, String>> {
    let url = settings.monitoring_url.as_ref()?;
    let asking = tokio::time::timeout(PATIENCE, ask(url));
    Some(asking.await.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))))
}

async fn ask(url: &Url) -> Result<Sync, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err("no TLS provider is installed".to_owned());
    }
    let mut url = url.clone();
    url.set_path(&format!("{}/varz", url.path().trim_end_matches('/')));
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    let client = client.map_err(|fault| crate::cli::with_causes(&fault))?;
    let mut answer = client.get(url).send().await.map_err(|fault| crate::cli::with_causes(&fault.without_url()))?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|fault| fault.without_url().to_string())? {
        body.extend_from_slice(&part);
        if body.len() as u64 > LARGEST_ANSWER_BYTES {
            return Err("its answer is too long for a NATS server's".to_owned());
        }
    }
    read(&body)
}

fn read(body: &[u8]) -> Result<Sync, String> {
    let varz: Varz = serde_json::from_slice(body).map_err(|_| "what answers is no NATS server".to_owned())?;
    let config = varz.jetstream.config.ok_or("this server has no JetStream")?;
    Ok(Sync { interval: Duration::from_nanos(config.sync_interval), always: config.sync_always })
}

fn synced(settings: &NatsSettings, sync: Option<Result<Sync, String>>) -> Finding {
    let check = Check::StreamSync;
    let several = settings.replicas > 1;
    let consequence = if several {
        "one replica that loses its power loses nothing that a majority has; all of them at once lose what they acknowledged \
         since their last sync, and records that count as delivered with it"
    } else {
        "when this server loses its power, what it acknowledged since its last sync is gone, and records that count as \
         delivered with it"
    };
    let mend =
        "set `sync_interval: always` in the servers' `jetstream` block, or keep replicas where power fails apart";
    match sync {
        None => {
            let found = "not known: `monitoring_url` is not set (by default servers sync every two minutes)";
            let told = Finding::note(check, found, consequence);
            told.mend("say monitoring_url = \"http://SERVER:8222\", or look at the servers' configuration")
        }
        Some(Err(fault)) => {
            let found = format!("not known: the monitoring port could not be asked: {}", capped(&fault));
            Finding::warning(check, found, consequence, "correct `monitoring_url`: it is the server's `http` port")
        }
        Some(Ok(Sync { always: true, .. })) => {
            Finding::ok(check, "the server that was asked syncs before it acknowledges (`sync_interval: always`)")
        }
        Some(Ok(Sync { interval, .. })) => {
            let found = format!("the server that was asked syncs every {interval:?}, not before it acknowledges");
            let told = if several {
                Finding::note(check, found, consequence).mend(mend)
            } else {
                Finding::warning(check, found, consequence, mend)
            };
            told.measured(serde_json::json!({ "syncIntervalSeconds": interval.as_secs_f64() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Severity;

    #[test]
    fn the_sync_interval_is_read_as_servers_tell_it() {
        let of =
            |config: &str| read(format!(r#"{{"max_payload":1048576,"jetstream":{{"config":{config}}}}}"#).as_bytes());
        let two_minutes = of(r#"{"max_memory":1,"sync_interval":120000000000,"strict":true}"#);
        assert_eq!(two_minutes, Ok(Sync { interval: Duration::from_secs(120), always: false }));
        assert!(of(r#"{"sync_interval":120000000000,"sync_always":true}"#).is_ok_and(|sync| sync.always));
        for other in ["{}", r#"{"jetstream":{}}"#, "<html>", "[]"] {
            assert!(read(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn what_the_server_does_not_sync_is_told_by_how_much_it_matters() {
        let settings = |replicas| NatsSettings {
            servers: Vec::new(),
            login: crate::config::settings::NatsLogin::Nothing,
            tls: crate::config::settings::NatsTls::default(),
            stream: "S".into(),
            subject: crate::config::subject::SubjectTemplate::parse("a.{queue}").unwrap(),
            replicas,
            create: None,
            monitoring_url: None,
            max_body_bytes: 1,
            retry_span: Duration::ZERO,
        };
        let interval = |always| Some(Ok(Sync { interval: Duration::from_secs(120), always }));
        for (replicas, sync, severity) in [
            (1, interval(false), Severity::Warning),
            (3, interval(false), Severity::Note),
            (1, interval(true), Severity::Ok),
            (3, None, Severity::Note),
            (3, Some(Err("no".to_owned())), Severity::Warning),
        ] {
            assert_eq!(synced(&settings(replicas), sync).severity, severity);
        }
    }
}
