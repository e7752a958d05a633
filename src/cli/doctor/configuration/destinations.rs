//! Where records and notices are posted, as configured. Whether it can be reached is another group's question.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::cli::doctor::finding::{Check, Finding, list_in_words};
use crate::config::settings::{
    HttpSettings, NatsLogin, NatsSettings, RoutingQueueKind, RoutingQueues, SubscriptionSettings,
};

/// Where clouds keep their machines' credentials, for whoever asks from inside.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// What is said about each routing queue, worst first.
pub(super) fn routing_queues(queues: &RoutingQueues) -> Vec<Finding> {
    if queues.is_empty() {
        return vec![Finding::ok(Check::RoutingQueues, "only `pull`, which is built in")];
    }
    let judged = queues.iter().flat_map(|(name, settings)| {
        let findings = match &settings.kind {
            RoutingQueueKind::Http(http) => self::http(http),
            RoutingQueueKind::Nats(nats) => vec![self::nats(nats)],
        };
        findings.into_iter().map(move |finding| finding.about(name.as_str()))
    });
    judged.collect()
}

fn http(settings: &HttpSettings) -> Vec<Finding> {
    let check = Check::RoutingQueues;
    let mut findings = Vec::new();
    if settings.url.scheme() == "http" && !is_this_machine(settings) {
        let found = format!("posts to {} over plain http", settings.url.host_str().unwrap_or_default());
        let consequence =
            "record details can be read on the way; the signature keeps them from being changed, and from nothing else";
        findings.push(Finding::warning(check, found, consequence, "use https"));
    }
    findings.extend(networks(check, &settings.allow_networks, "`allow_networks`"));
    if settings.secrets.len() > 1 {
        let consequence = "whoever has the old secret can still sign in the gateway's name";
        let mend = "when every receiver has the new one, take `previous_secret_file` or `previous_secret_env` out";
        findings.push(Finding::note(check, "signs with two secrets: a rotation is under way", consequence).mend(mend));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, "signed, and protected on the way"));
    }
    findings
}

fn is_this_machine(settings: &HttpSettings) -> bool {
    is_loopback(settings.url.host_str().unwrap_or_default())
}

fn nats(settings: &NatsSettings) -> Finding {
    let check = Check::RoutingQueues;
    let in_the_clear = settings.servers.iter().find(|server| !server.tls && !is_loopback(&server.host));
    match (in_the_clear, &settings.login) {
        (Some(server), _) => {
            let consequence =
                "record details, and the secret of a password or a token, can be read and changed on the way";
            Finding::warning(check, format!("publishes to {server} in the clear"), consequence, "use tls://")
        }
        (None, NatsLogin::Nothing) if settings.tls.identity.is_none() => {
            let consequence = "where the servers let anybody in, anybody can read and remove what is in the stream";
            Finding::note(check, "logs in to NATS as nobody", consequence)
                .mend("give the gateway a user of its own that may publish only")
        }
        (None, _) => Finding::ok(check, "identifies itself, and protected on the way"),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// What networks that are allowed besides public ones open.
fn networks(check: Check, networks: &[IpNet], setting: &str) -> Option<Finding> {
    let shown = |networks: &[&IpNet]| list_in_words(&networks.iter().map(ToString::to_string).collect::<Vec<_>>());
    let with_metadata: Vec<_> = networks.iter().filter(|network| network.contains(&METADATA)).collect();
    if !with_metadata.is_empty() {
        let found = format!("{setting} holds {}", shown(&with_metadata));
        let consequence = "a host name that leads there reaches the cloud's metadata service (169.254.169.254), link-local \
                           and inner addresses: the protection against forged addresses is off";
        return Some(Finding::warning(
            check,
            found,
            consequence,
            "name the networks that are meant, as narrow as can be",
        ));
    }
    let wide: Vec<_> = networks
        .iter()
        .filter(|network| !network.addr().to_canonical().is_loopback())
        .filter(|network| network.prefix_len() <= if network.addr().is_ipv4() { 12 } else { 32 })
        .collect();
    (!wide.is_empty()).then(|| {
        let found = format!("{setting} holds {}", shown(&wide));
        let consequence = "a host name that leads to any machine in there is posted to";
        Finding::note(check, found, consequence).mend("name the networks that are meant, as narrow as can be")
    })
}

/// Callers choose their callbacks, so every network that is named is one that callers can make the gateway post to.
pub(super) fn callbacks(settings: &SubscriptionSettings) -> Finding {
    let check = Check::Callbacks;
    let name = "subscriptions.allow_networks";
    if let Some(wide) = networks(check, &settings.allow_networks, name) {
        return wide;
    }
    if settings.allow_networks.is_empty() {
        return Finding::ok(check, "only public addresses");
    }
    let found = format!(
        "{name} holds {}",
        list_in_words(&settings.allow_networks.iter().map(ToString::to_string).collect::<Vec<_>>())
    );
    let consequence = "everyone who has `records.read` can make the gateway post to whatever listens there";
    Finding::warning(check, found, consequence, "leave it empty unless flows inside really subscribe")
}
