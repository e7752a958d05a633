//! Where records can go: `[routing_queues.NAME]`, its address and its signing secrets.
//!
//! A record must not be posted into a network that nobody meant: an address that is not public is refused unless
//! `allow_networks` holds it, however it is spelled. Host names are judged again when they are resolved, by whoever
//! connects.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;

use super::nats;
use crate::config::keys;
use crate::config::load::Environment;
use crate::config::raw::{Field, Table};
use crate::config::secret::{self, SecretKind, SecretPlace, SecretSource};
use crate::config::settings::{
    BatchSettings, DeliverySettings, HttpSettings, Process, RoutingQueueKind, RoutingQueueSettings,
    SubscriptionSettings,
};
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::excerpt;

/// A routing queue that only lacks its secrets, which are read when everything else is known to be good.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    kind: DraftKind<'a>,
    concurrency: NonZeroUsize,
    batch: BatchSettings,
    timeout: Duration,
}

#[derive(Debug)]
enum DraftKind<'a> {
    Http {
        url: Url,
        allow_networks: Vec<IpNet>,
        /// Newest first.
        secrets: Vec<SecretSource<'a>>,
    },
    Nats(Box<nats::Draft<'a>>),
}

impl Draft<'_> {
    /// The files that hold secrets and certificates, to be looked at again.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match &self.kind {
            DraftKind::Http { secrets, .. } => secrets.iter().filter_map(|source| source.place.file()).collect(),
            DraftKind::Nats(draft) => draft.files(),
        }
    }

    /// The routing queue with its secrets. `may_write`: whether one that is missing may be made.
    pub(super) fn with_secrets(self, environment: Environment<'_>, may_write: bool) -> Option<RoutingQueueSettings> {
        let Self { kind, concurrency, batch, timeout } = self;
        let kind = match kind {
            DraftKind::Http { url, allow_networks, secrets } => {
                let secrets = secrets.iter().filter_map(|source| secret::read(source, environment, may_write));
                RoutingQueueKind::Http(HttpSettings { url, secrets: secrets.collect(), allow_networks })
            }
            DraftKind::Nats(draft) => RoutingQueueKind::Nats(Box::new(draft.with_secrets(environment)?)),
        };
        Some(RoutingQueueSettings { kind, concurrency, batch, timeout })
    }
}

/// The routing queues by name: all that are named, also those with a fault, so that naming one is no second fault.
pub(super) type Drafts<'a> = BTreeMap<RoutingQueueName, Option<Draft<'a>>>;

/// What else of the configuration a routing queue is checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'p> {
    /// Where relative paths of secrets begin.
    pub(super) data_dir: &'p Path,
    /// The largest body of a request.
    pub(super) max_body_bytes: usize,
    /// The longest pause between two tries.
    pub(super) longest_pause: Duration,
}

impl<'p> Around<'p> {
    /// What these settings say.
    pub(super) fn of(process: &'p Process, delivery: &DeliverySettings) -> Self {
        let Process { data_dir, limits, .. } = process;
        Self { data_dir, max_body_bytes: limits.max_body_bytes, longest_pause: delivery.longest_pause }
    }
}

/// Checks every `[routing_queues.NAME]`.
pub(super) fn routing_queues<'a>(main: &Table<'a>, around: Around<'_>) -> Drafts<'a> {
    let mut drafts = Drafts::new();
    for (name, table) in main.named_tables("routing_queues", keys::ROUTING_QUEUE) {
        if name.value == RoutingQueueName::pull().as_str() {
            name.at.hinted("`pull` is built in and cannot be configured", "give the routing queue another name");
        }
        let in_names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(in_names) {
            let message = format!("`{}` is not a name for a routing queue", excerpt(name.value));
            name.at.hinted(message, "use 1 to 64 lower-case letters, digits, hyphens and underscores");
        }
        drafts.insert(RoutingQueueName::new(name.value), routing_queue(&table, around));
    }
    drafts
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Http,
    Nats,
}

fn routing_queue<'a>(table: &Table<'a>, around: Around<'_>) -> Option<Draft<'a>> {
    table.require("kind");
    let known = table.choice("kind", &[("http", Kind::Http), ("nats", Kind::Nats)]);
    // A kind that is wrong is one fault; what it lacks would be another for each key.
    let kind = match known {
        Some(kind) => kind,
        None if table.has("servers") => return None,
        None => Kind::Http,
    };
    match kind {
        Kind::Http => only_of(table, keys::ONLY_NATS, "nats"),
        Kind::Nats => only_of(table, keys::ONLY_HTTP, "http"),
    }
    let default_timeout = Duration::from_secs(15);
    let timeout = table.duration("timeout_seconds", Duration::from_secs(1), 0.01..=300.0).unwrap_or(default_timeout);
    let (kind, batch, default_concurrency) = match kind {
        Kind::Http => (http(table, around.data_dir)?, batch(table), 16),
        Kind::Nats => {
            let draft = nats::draft(table, around, timeout)?;
            (DraftKind::Nats(Box::new(draft)), BatchSettings::SINGLE, 256)
        }
    };
    let concurrency = table.integer("concurrency", 1..=1_024).and_then(NonZeroUsize::new);
    Some(Draft { kind, concurrency: concurrency.or_else(|| NonZeroUsize::new(default_concurrency))?, batch, timeout })
}

/// Keys of the other kind are faults: they would do nothing.
fn only_of(table: &Table<'_>, others: &[&str], kind: &str) {
    for key in others.iter().filter(|key| table.has(key)) {
        table.place_of(key).fault(format!("`{key}` is for routing queues of kind `{kind}`"));
    }
}

fn http<'a>(table: &Table<'a>, data_dir: &Path) -> Option<DraftKind<'a>> {
    let allow_networks = allow_networks(table);
    let url = url(table, &allow_networks);
    let secrets = secrets(table, data_dir);
    Some(DraftKind::Http { url: url?, allow_networks, secrets })
}

fn batch(table: &Table<'_>) -> BatchSettings {
    let default = BatchSettings::SINGLE;
    let max_events = table.integer("batch_max_events", 1..=1_000).and_then(NonZeroUsize::new);
    let max_bytes = table.integer("batch_max_bytes", 16 * 1_024..=16 * 1_024 * 1_024);
    BatchSettings {
        max_events: max_events.unwrap_or(default.max_events),
        max_bytes: max_bytes.unwrap_or(default.max_bytes),
    }
}

/// Checks `[subscriptions]`.
pub(super) fn subscriptions(main: &Table<'_>) -> SubscriptionSettings {
    let at_most = |most: usize| NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
    let second = Duration::from_secs(1);
    let default = SubscriptionSettings {
        allow_networks: Vec::new(),
        max_per_organization: at_most(100),
        concurrency: at_most(4),
        timeout: second * 15,
    };
    let Some(table) = main.table("subscriptions", keys::SUBSCRIPTIONS) else { return default };
    let number = |key, most| table.integer(key, 1..=most).and_then(NonZeroUsize::new);
    SubscriptionSettings {
        allow_networks: allow_networks(&table),
        max_per_organization: number("max_per_organization", 10_000).unwrap_or(default.max_per_organization),
        concurrency: number("concurrency", 64).unwrap_or(default.concurrency),
        timeout: table.duration("timeout_seconds", second, 0.01..=300.0).unwrap_or(default.timeout),
    }
}

fn allow_networks(table: &Table<'_>) -> Vec<IpNet> {
    let networks = table.strings("allow_networks").unwrap_or_default().into_iter().filter_map(|field| {
        let network = field.value.parse().or_else(|_| field.value.parse::<IpAddr>().map(IpNet::from)).ok();
        if network.is_none() {
            let message = format!("`allow_networks`: `{}` is not a network", excerpt(field.value));
            field.at.hinted(message, "write an address and a prefix length, such as \"10.1.0.0/16\" or \"::1/128\"");
        }
        network
    });
    networks.collect()
}

/// Where the current and the previous secret come from.
fn secrets<'a>(table: &Table<'a>, data_dir: &Path) -> Vec<SecretSource<'a>> {
    let create = table.boolean("create_secret").unwrap_or(false);
    let current = secret_source(table, data_dir, ["secret_file", "secret_env"]);
    if current.is_none() && !table.has("secret_file") && !table.has("secret_env") {
        let hint =
            "name the file (`secret_file`) or the environment variable (`secret_env`) that holds the signing secret";
        table.at.hinted(format!("`secret_file` or `secret_env` is missing in {}", keys::ROUTING_QUEUE.table), hint);
    }
    if create && table.has("secret_env") {
        table.place_of("create_secret").fault("`create_secret` needs a `secret_file`");
    }
    let previous = secret_source(table, data_dir, ["previous_secret_file", "previous_secret_env"]);
    current
        .map(|(place, at)| SecretSource { kind: SecretKind::Signing, place, at, create, previous: false })
        .into_iter()
        .chain(previous.map(|(place, at)| SecretSource {
            kind: SecretKind::Signing,
            place,
            at,
            create: false,
            previous: true,
        }))
        .collect()
}

/// Where the secret is that one of two keys names.
pub(super) fn secret_source<'a>(
    table: &Table<'a>,
    folder: &Path,
    [file_key, env_key]: [&str; 2],
) -> Option<(SecretPlace, crate::config::source::Place<'a>)> {
    let file = table.string(file_key);
    let variable = table.string(env_key);
    if file.is_some() && table.has(env_key) {
        table.place_of(env_key).fault(format!("`{file_key}` and `{env_key}` are both set; only one can be"));
        return None;
    }
    for (key, field) in [(file_key, file), (env_key, variable)] {
        if let Some(field) = field.filter(|field| field.value.trim().is_empty()) {
            field.at.fault(format!("`{key}` is empty"));
            return None;
        }
    }
    // Joining an absolute path gives that path.
    let file = file.map(|field| (SecretPlace::File(folder.join(PathBuf::from(field.value))), field.at));
    file.or_else(|| variable.map(|field| (SecretPlace::Variable(field.value.to_owned()), field.at)))
}

fn url(table: &Table<'_>, allow_networks: &[IpNet]) -> Option<Url> {
    let field = table.required_string("url")?;
    let url = match Url::parse(field.value) {
        Ok(url) => url,
        Err(error) => {
            field.at.fault(format!("`url`: `{}` is not a URL: {error}", excerpt(field.value)));
            return None;
        }
    };
    check_url(Field { value: &url, at: field.at }, allow_networks);
    Some(url)
}

fn check_url(url: Field<'_, &Url>, allow_networks: &[IpNet]) {
    let Field { value: url, at } = url;
    if !matches!(url.scheme(), "http" | "https") {
        at.fault(format!("`url` must be https or http, not {}", excerpt(url.scheme())));
        return;
    }
    if !url.username().is_empty() || url.password().is_some() {
        at.hinted("`url` holds a user name or a password", "deliveries are signed; leave it out");
    }
    if url.fragment().is_some() {
        at.fault("`url` has a fragment (`#…`), which is never sent");
    }
    // The parser has turned 127.1 and 0x7f.1 into 127.0.0.1 by now, so this is the host that will be connected to.
    let host = url.host_str().unwrap_or_default();
    let allowed = |address: IpAddr| {
        let meant = address.to_canonical();
        allow_networks.iter().any(|network| network.contains(&address) || network.contains(&meant))
    };
    match literal(host) {
        Some(address) if !allowed(address) && !is_public(address) => {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            let message = format!("`url`: {address} is not a public address");
            at.hinted(message, format!("if it is meant, add it: allow_networks = [\"{address}/{prefix}\"]"));
        }
        None if is_localhost(host) && !allow_networks.iter().any(|network| network.addr().is_loopback()) => {
            let hint = "if it is meant: allow_networks = [\"127.0.0.0/8\", \"::1/128\"]";
            at.hinted(format!("`url`: {} is this machine", excerpt(host)), hint);
        }
        literal => {
            let stays_near = literal.map_or_else(|| is_localhost(host), allowed);
            if url.scheme() == "http" && !stays_near {
                let hint = "only an address in `allow_networks`, or this machine, may be reached in the clear";
                at.hinted("`url` must be https", hint);
            }
        }
    }
}

/// The address that a URL's host is, if it is one.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// Whether a host name always means this machine (RFC 6761 §6.3).
pub(super) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether anybody on the internet could have this address: not so those of IANA's special-purpose registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = match first {
        // "This network", private, loopback; multicast, reserved, broadcast.
        0 | 10 | 127 | 224..=255 => true,
        // Shared by carriers.
        100 => (64..128).contains(&second),
        // Link-local, with the metadata services of clouds.
        169 => second == 254,
        172 => (16..32).contains(&second),
        // Protocol assignments, documentation, private.
        192 => second == 168 || (second == 0 && matches!(third, 0 | 2)),
        // Benchmarks, documentation.
        198 => matches!(second, 18 | 19) || (second == 51 && third == 100),
        203 => second == 0 && third == 113,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is handed out. Of it: 2001::/23 (protocols, Teredo), 2001:db8::/32 and 3fff::/20 (documentation),
    // 2002::/16 (6to4, an IPv4 address in disguise). IPv4-mapped and translated addresses are outside of it.
    let handed_out = first & 0xe000 == 0x2000;
    let special = (first == 0x2001 && (second < 0x0200 || second == 0x0db8))
        || first == 0x2002
        || (first == 0x3fff && second < 0x1000);
    handed_out && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_meant_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(address.parse().expect(address)), "{address}");
        }
        for address in ["8.8.8.8", "100.63.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2001:4860::8888"] {
            assert!(is_public(address.parse().expect(address)), "{address}");
        }
    }
}
