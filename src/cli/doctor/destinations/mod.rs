//! The destinations: where a name leads, whether that is permitted, whether somebody takes connections there, how long the
//! certificate holds, and, when asked for, what is answered to a test event.
//!
//! Addresses are judged by the policy that deliveries have, certificates by the verifier that they use, and the test event
//! is delivered by what delivers. The callbacks of subscribers are not contacted: they are others' machines.

mod nats;
mod test_event;
mod tls;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Url;
use tokio::net::TcpStream;

use self::tls::Handshake;
use super::finding::{Check, Finding, Group, Severity, list_in_words};
use super::{Scene, Tell, certificate, without_configuration};
use crate::config::settings::{HttpSettings, RoutingQueueKind, RoutingQueues};
use crate::domain::catalog::{Catalog, Organization, RoutingQueueName};
use crate::domain::time::Timestamp;
use crate::routing_queue::outbound::AddressPolicy;

/// A name is looked up, and a connection made, within this time; deliveries have as much.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known about a destination.
#[derive(Debug)]
struct Facts {
    /// Where its name leads.
    resolved: Result<Vec<IpAddr>, String>,
    /// Those of them that may not be connected to.
    refused: Vec<IpAddr>,
    /// How long a connection took, and to where; `None` where there was nowhere to connect to.
    connected: Option<Result<(SocketAddr, Duration), String>>,
    /// `None` without a connection, and without TLS.
    handshake: Option<Result<Handshake, String>>,
}

/// How much longer than others this group may take.
pub(super) fn time_for_answers(scene: &Scene) -> Duration {
    let queues = scene.config().filter(|_| scene.args.send_test_event).map(|config| &config.effective.routing_queues);
    queues.and_then(|queues| queues.values().map(|queue| queue.timeout).max()).unwrap_or_default()
}

/// Tells about the destinations.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let Some(config) = scene.config() else { return tell.one(without_configuration(Group::Destinations)) };
    let queues = &config.effective.routing_queues;
    if !queues.values().any(|queue| matches!(queue.kind, RoutingQueueKind::Nats(_))) {
        let found = "no routing queue is of kind \"nats\"";
        tell.all([Check::Stream, Check::StreamSync].map(|check| Finding::ok(check, found)));
    }
    if queues.is_empty() {
        let found = "there is none: records wait in `pull` until somebody fetches them";
        return tell.all(
            [Check::Address, Check::Connection, Check::PeerCertificate, Check::TestEvent]
                .map(|check| Finding::ok(check, found)),
        );
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return tell.one(no_runtime(Group::Destinations, &fault)),
    };
    runtime.block_on(look_at(scene, queues, tell));
    // A handshake that hangs is not waited for.
    runtime.shutdown_background();
}

/// Says that nothing can be asked over the network.
pub(super) fn no_runtime(group: Group, fault: &std::io::Error) -> Finding {
    let found = format!("not looked at: the runtime cannot start ({fault})");
    let consequence = "a gateway needs one too, and would not start";
    Finding::of_group(group, Severity::Fault, [&found, consequence, "look at the limits of processes and files"])
}

async fn look_at(scene: &Scene, queues: &RoutingQueues, tell: &Tell) {
    let unmade = if scene.args.send_test_event { test_event::unmade_secrets(scene, queues) } else { Vec::new() };
    let used = scene.config().map(|config| used(&config.effective.catalog)).unwrap_or_default();
    let (unmade, used) = (&unmade, &used);
    let looks = queues.iter().map(|(name, settings)| async move {
        let is_used = used.contains(name);
        let about = |finding: Finding| if is_used { finding } else { unused(finding) }.about(name.as_str());
        let findings = match &settings.kind {
            RoutingQueueKind::Http(http) => judge(&gather(http).await, &http.url, Timestamp::now()),
            RoutingQueueKind::Nats(nats) => self::nats::examine(name, nats).await,
        };
        tell.all(findings.into_iter().map(about));
        let answer = match scene.args.send_test_event {
            true if unmade.contains(name) => test_event::without_secret(),
            true => test_event::deliver(name, settings).await,
            false => Finding::ok(Check::TestEvent, "none was sent")
                .so("--send-test-event delivers one, and tells the answer"),
        };
        tell.one(about(answer));
    });
    join_all(looks).await;
}

/// The routing queues that somebody's records go to.
fn used(catalog: &Catalog) -> BTreeSet<RoutingQueueName> {
    let of_organization = |organization: &Organization| {
        let streams = organization.work_streams.values().map(|stream| organization.routing_queue_of(stream).clone());
        streams.chain([organization.routing_queue.clone()]).collect::<Vec<_>>()
    };
    catalog.organizations().flat_map(|organization| of_organization(organization)).collect()
}

/// What nobody's records go to hurts nobody.
fn unused(finding: Finding) -> Finding {
    if finding.severity <= Severity::Note {
        return finding;
    }
    let consequence = "nothing follows now: no organization and no work stream routes to it".to_owned();
    Finding { severity: Severity::Note, consequence: Some(consequence), ..finding }
}

async fn gather(settings: &HttpSettings) -> Facts {
    let policy = AddressPolicy::new(&settings.allow_networks);
    let resolved = resolve(&settings.url).await;
    let all = resolved.as_deref().unwrap_or_default();
    let (permitted, refused): (Vec<IpAddr>, Vec<IpAddr>) = all.iter().partition(|address| policy.permits(**address));
    let port = settings.url.port_or_known_default().unwrap_or(443);
    let connected = if permitted.is_empty() { None } else { Some(connect(&permitted, port).await) };
    let (connected, stream) = match connected {
        None => (None, None),
        Some(Ok((stream, to, took))) => (Some(Ok((to, took))), Some(stream)),
        Some(Err(fault)) => (Some(Err(fault)), None),
    };
    let handshake = match stream.filter(|_| settings.url.scheme() == "https") {
        Some(stream) => Some(tls::shake_hands(stream, &settings.url).await),
        None => None,
    };
    Facts { resolved, refused, connected, handshake }
}

async fn resolve(url: &Url) -> Result<Vec<IpAddr>, String> {
    let host = url.host_str().unwrap_or_default();
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let looked_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, 0))).await;
    let found = looked_up.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    Ok(found.map_err(|fault| fault.to_string())?.map(|address| address.ip()).collect())
}

/// A connection to the first of the addresses that takes one.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<(TcpStream, SocketAddr, Duration), String> {
    let trying = async {
        let mut last = "there is no address".to_owned();
        for address in addresses {
            let (to, begun) = (SocketAddr::new(*address, port), Instant::now());
            match TcpStream::connect(to).await {
                Ok(stream) => return Ok((stream, to, begun.elapsed())),
                Err(fault) => last = format!("{to}: {fault}"),
            }
        }
        Err(last)
    };
    let out_of_time = |_| Err(format!("no connection within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, trying).await.unwrap_or_else(out_of_time)
}

/// What happens to records that cannot be delivered.
const WAITS: &str = "records for it wait, are tried again, and become dead letters in the end ([delivery])";

fn judge(facts: &Facts, url: &Url, now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![address(facts, url)];
    match &facts.connected {
        None => return findings,
        Some(Err(fault)) => {
            let mend = "is the receiver running, is the port right, does a firewall let this machine through? No proxy is used, \
                        whatever the environment says";
            findings.push(Finding::fault(Check::Connection, format!("no connection: {fault}"), WAITS, mend));
        }
        Some(Ok((to, took))) => {
            findings.push(Finding::ok(Check::Connection, format!("{to} takes connections ({} ms)", took.as_millis())));
        }
    }
    match &facts.handshake {
        Some(handshake) => findings.push(peer_certificate(handshake, now)),
        None if url.scheme() == "http" => findings.push(Finding::ok(Check::PeerCertificate, "none: plain http")),
        None => {}
    }
    findings
}

fn address(facts: &Facts, url: &Url) -> Finding {
    let check = Check::Address;
    let host = url.host_str().unwrap_or_default();
    let shown = |addresses: &[IpAddr]| list_in_words(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
    let resolved = match &facts.resolved {
        Ok(resolved) => resolved,
        Err(fault) => {
            let mend = "correct `url`, or the name service of this machine (/etc/resolv.conf)";
            return Finding::fault(check, format!("{host} leads nowhere: {fault}"), WAITS, mend);
        }
    };
    let narrow = "if that is meant, name its network in `allow_networks`; if not, somebody's name service answers what it should not";
    match facts.refused.len() {
        0 => Finding::ok(check, format!("{host} leads to {}, which is permitted", shown(resolved))),
        refused if refused == resolved.len() => {
            let found = format!("{host} leads to {}, which is private or special and not allowed", shown(resolved));
            Finding::fault(check, found, WAITS, narrow)
        }
        _ => {
            let found =
                format!("{host} leads to {} too, which is private or special and not allowed", shown(&facts.refused));
            Finding::warning(check, found, "these addresses are left out; deliveries go to the others", narrow)
        }
    }
}

fn peer_certificate(handshake: &Result<Handshake, String>, now: Timestamp) -> Finding {
    let check = Check::PeerCertificate;
    let Handshake { chain, refused } = match handshake {
        Ok(handshake) => handshake,
        Err(fault) => {
            let mend = "does the receiver speak TLS 1.2 or 1.3 on this port?";
            return Finding::fault(check, format!("no TLS connection: {fault}"), WAITS, mend);
        }
    };
    let read: Vec<_> = chain.iter().filter_map(|der| certificate::read(der).ok()).collect();
    if let Some(refused) = refused {
        let names = read.first().map(|own| format!("; it is for {}", list_in_words(&own.names))).unwrap_or_default();
        return Finding::fault(check, format!("{}{names}", refused.what), WAITS, refused.mend);
    }
    if read.is_empty() {
        return Finding::note(check, "trusted, but cannot be read here", "when it ends is not told");
    }
    certificate::life(check, &read, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            resolved: Ok(vec![IpAddr::from([203, 0, 113, 7])]),
            refused: Vec::new(),
            connected: Some(Ok((SocketAddr::from(([203, 0, 113, 7], 443)), Duration::from_millis(12)))),
            handshake: None,
        }
    }

    #[test]
    fn each_step_is_told_with_what_follows() {
        let url = Url::parse("https://q.example.com/").expect("a URL");
        let address = IpAddr::from([10, 0, 0, 1]);
        let both = vec![IpAddr::from([203, 0, 113, 7]), address];
        for (facts, severity, count) in [
            (facts(), Severity::Ok, 2),
            (Facts { resolved: Err("no".to_owned()), connected: None, ..facts() }, Severity::Fault, 1),
            (
                Facts { resolved: Ok(vec![address]), refused: vec![address], connected: None, ..facts() },
                Severity::Fault,
                1,
            ),
            (Facts { resolved: Ok(both), refused: vec![address], ..facts() }, Severity::Warning, 2),
            (Facts { connected: Some(Err("refused".to_owned())), ..facts() }, Severity::Fault, 2),
            (Facts { handshake: Some(Err("no TLS".to_owned())), ..facts() }, Severity::Fault, 3),
        ] {
            let findings = judge(&facts, &url, Timestamp::from_millis(0));
            let worst = findings.iter().map(|finding| finding.severity).max();
            assert_eq!((worst, findings.len()), (Some(severity), count), "{findings:?}");
            let told: Vec<_> = findings.into_iter().map(unused).collect();
            assert!(told.iter().all(|finding| finding.severity <= Severity::Note), "{told:?}");
        }
    }
}
