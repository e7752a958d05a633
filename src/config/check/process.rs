//! What is fixed while the process runs: listeners, limits, the store and what it keeps, the log. Also how often deliveries are tried.
//!
//! Each line names a setting, its range and its default; the reasons are in `config/streamgate.toml`.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::keys;
use crate::config::load::Overrides;
use crate::config::raw::Table;
use crate::config::settings::{
    DeliverySettings, LimitSettings, LogFormat, LogSettings, Process, PublicHost, PublicScheme, RetentionSettings,
    StoreSettings,
};
use crate::domain::catalog::RateLimit;

const MIB: u64 = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Requests a minute, or at once, that can be asked for.
pub(super) const RATES: std::ops::RangeInclusive<u32> = 1..=60_000_000;

/// The settings of the process. What the command line says counts more than what the file says.
pub(super) fn process(main: &Table<'_>, store: Option<Table<'_>>, overrides: &Overrides) -> Process {
    let listen = overrides.listen.unwrap_or_else(|| listener(main, "listen", 8080));
    let admin_listen = overrides.admin_listen.unwrap_or_else(|| listener(main, "admin_listen", 8081));
    if listen == admin_listen && listen.port() != 0 {
        let message = format!("`listen` and `admin_listen` are both {listen}");
        main.place_of("admin_listen").hinted(message, "give each a port of its own");
    }
    let store = self::store(store);
    let tls = main.has("tls");
    Process {
        listen,
        admin_listen,
        public_host: public_host(main),
        public_scheme: main
            .choice("public_scheme", &[("http", PublicScheme::Http), ("https", PublicScheme::Https)])
            .unwrap_or(if tls { PublicScheme::Https } else { PublicScheme::Http }),
        tls,
        admin_tls: main.has("admin_tls"),
        data_dir: overrides.data_dir.clone().unwrap_or_else(|| data_dir(main)),
        retention: retention(main, store.duplicate_window),
        store,
        // With its secret.
        database: None,
        limits: limits(main),
        log: log(main),
        // With its secrets, which come last.
        otlp: None,
    }
}

fn listener(main: &Table<'_>, key: &str, default_port: u16) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], default_port));
    let Some(field) = main.string(key) else { return default };
    field.value.parse().unwrap_or_else(|_| {
        let message = format!("`{key}`: `{}` is not an address and a port", crate::domain::ids::excerpt(field.value));
        field.at.hinted(message, "write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"");
        default
    })
}

fn data_dir(main: &Table<'_>) -> PathBuf {
    let field = main.string("data_dir");
    if let Some(field) = field.filter(|field| field.value.trim().is_empty()) {
        field.at.fault("`data_dir` is empty");
    }
    PathBuf::from(field.map_or("streamgate-data", |field| field.value))
}

fn public_host(main: &Table<'_>) -> Option<PublicHost> {
    const PLACEHOLDER: &str = "{organization}";
    let field = main.string("public_host")?;
    let parts: Vec<_> = field.value.split(PLACEHOLDER).collect();
    let &[prefix, suffix] = parts.as_slice() else {
        let hint = format!("such as \"{PLACEHOLDER}-public.gateway.example.com\"");
        field.at.hinted(format!("`public_host` must hold {PLACEHOLDER} exactly once"), hint);
        return None;
    };
    let in_host_names = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !prefix.chars().chain(suffix.chars()).all(in_host_names) {
        let hint = "no scheme, no port, no path: letters, digits, hyphens and dots";
        field.at.hinted("`public_host` is not a host name", hint);
        return None;
    }
    let lower = |text: &str| text.to_ascii_lowercase().into_boxed_str();
    Some(PublicHost { prefix: lower(prefix), suffix: lower(suffix) })
}

fn days(days: u64) -> Duration {
    DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX))
}

fn store(table: Option<Table<'_>>) -> StoreSettings {
    let default =
        StoreSettings { disk_reserve_bytes: 64 * MIB, duplicate_window: days(30), max_waiting_appends: 4_096 };
    let Some(table) = table else { return default };
    StoreSettings {
        disk_reserve_bytes: table
            .integer("disk_reserve_bytes", MIB..=1024 * 1024 * MIB)
            .unwrap_or(default.disk_reserve_bytes),
        duplicate_window: table.integer("duplicate_window_days", 1..=3_650).map_or(default.duplicate_window, days),
        max_waiting_appends: table.integer("max_waiting_appends", 1..=1_000_000).unwrap_or(default.max_waiting_appends),
    }
}

/// What is settled stays at least as long as repeats count: a repeat must find its first receipt.
fn retention(main: &Table<'_>, duplicate_window: Duration) -> RetentionSettings {
    let table = main.table("retention", keys::RETENTION);
    // A longer window alone takes the times that nobody set along; with a shorter one they stay what they are.
    let default = |usual: u64| days(usual).max(duplicate_window);
    let settled = |key: &str, usual: u64| {
        let set = table.and_then(|table| table.integer(key, 1..=36_500).map(|set| (table, days(set))));
        if let Some((table, _)) = set.filter(|(_, set)| *set < duplicate_window) {
            let message = format!("`{key}` is less than `store.duplicate_window_days`");
            table
                .place_of(key)
                .hinted(message, "a repeated record must find its first receipt for as long as it counts");
        }
        set.map_or_else(|| default(usual), |(_, set)| set)
    };
    let delivered = settled("delivered_days", 30);
    let details = table.and_then(|table| table.integer("delivered_details_days", 0..=36_500).map(days));
    if let Some(table) = table.filter(|_| details.is_some_and(|details| details > delivered)) {
        let message = "`delivered_details_days` is more than `delivered_days`";
        table.place_of("delivered_details_days").hinted(message, "the details go with their record at the latest");
    }
    RetentionSettings {
        delivered,
        delivered_details: details.unwrap_or(delivered),
        dead_letters: settled("dead_letters_days", 90),
        accepted: table.and_then(|table| table.integer("accepted_days", 1..=36_500).map(days)),
        audit: table.and_then(|table| table.integer("audit_days", 1..=36_500)).map_or_else(|| days(365), days),
        trim_when_full: table.and_then(|table| table.boolean("trim_when_full")).unwrap_or(true),
    }
}

/// What an organization may send where nobody says otherwise: above what custom connectors are throttled to.
pub(super) fn default_rate_limit() -> RateLimit {
    RateLimit { requests_per_minute: non_zero(10_000), burst: non_zero(2_500) }
}

fn limits(main: &Table<'_>) -> LimitSettings {
    let default = LimitSettings {
        max_body_bytes: 1024 * 1024,
        max_in_flight_bytes: 64 * 1024 * 1024,
        max_connections_per_peer: 1_024,
        max_connections: 4_096,
        request_deadline: SECOND * 10,
        keep_alive: SECOND * 15,
        shutdown_grace: SECOND * 8,
        default_rate_limit: default_rate_limit(),
        wrong_credentials_per_second: non_zero(100),
    };
    let Some(table) = main.table("limits", keys::LIMITS) else { return default };
    let limits = LimitSettings {
        max_body_bytes: table.integer("max_body_bytes", 1024..=8 * 1024 * 1024).unwrap_or(default.max_body_bytes),
        max_in_flight_bytes: table
            .integer("max_in_flight_bytes", 1024..=64 * 1024 * 1024 * 1024)
            .unwrap_or(default.max_in_flight_bytes),
        max_connections_per_peer: table
            .integer("max_connections_per_peer", 1..=1_000_000)
            .unwrap_or(default.max_connections_per_peer),
        max_connections: table.integer("max_connections", 1..=1_000_000).unwrap_or(default.max_connections),
        request_deadline: table
            .duration("request_deadline_seconds", SECOND, 0.1..=300.0)
            .unwrap_or(default.request_deadline),
        keep_alive: table.duration("keep_alive_seconds", SECOND, 0.1..=3_600.0).unwrap_or(default.keep_alive),
        shutdown_grace: table.duration("shutdown_grace_seconds", SECOND, 0.0..=300.0).unwrap_or(default.shutdown_grace),
        default_rate_limit: rate_limit(&table, default.default_rate_limit),
        wrong_credentials_per_second: table
            .integer("wrong_credentials_per_second", 1..=1_000_000)
            .map_or(default.wrong_credentials_per_second, non_zero),
    };
    if limits.max_in_flight_bytes < limits.max_body_bytes {
        let message = format!("`max_in_flight_bytes` is less than one body ({} bytes)", limits.max_body_bytes);
        table.place_of("max_in_flight_bytes").hinted(message, "it must hold at least `max_body_bytes`");
    }
    limits
}

/// `requests_per_minute` and `burst` of a table.
pub(super) fn rate_limit(table: &Table<'_>, default: RateLimit) -> RateLimit {
    RateLimit {
        requests_per_minute: table.integer("requests_per_minute", RATES).map_or(default.requests_per_minute, non_zero),
        burst: table.integer("burst", RATES).map_or(default.burst, non_zero),
    }
}

/// The server underneath announces each of its threads at `info`, and each request that does not parse at `error`, which
/// the door logs already: one line per request, and nobody fills a log with garbage.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_http=off";

fn log(main: &Table<'_>) -> LogSettings {
    let table = main.table("log", keys::LOG);
    let chosen = table.and_then(|table| {
        let formats = [("auto", None), ("human", Some(LogFormat::Human)), ("json", Some(LogFormat::Json))];
        table.choice("format", &formats).flatten()
    });
    // `auto`: a person looks at a terminal, a machine reads everything else.
    let by_itself = || if std::io::stderr().is_terminal() { LogFormat::Human } else { LogFormat::Json };
    let filter = table.and_then(|table| {
        table.parsed("filter", |text| {
            let read = tracing_subscriber::EnvFilter::try_new(text);
            read.map(|_| text.to_owned()).map_err(|error| format!("is not a log filter: {error}"))
        })
    });
    LogSettings {
        format: chosen.unwrap_or_else(by_itself),
        filter: filter.unwrap_or_else(|| DEFAULT_FILTER.to_owned()),
    }
}

/// When a delivery is tried again, and when it is given up.
pub(super) fn delivery(main: &Table<'_>) -> DeliverySettings {
    let default = DeliverySettings {
        first_pause: SECOND,
        longest_pause: HOUR,
        max_attempts: 100,
        give_up_after: HOUR * 72,
        breaker_failures: 5,
        breaker_pause: SECOND * 10,
    };
    let Some(table) = main.table("delivery", keys::DELIVERY) else { return default };
    let delivery = DeliverySettings {
        first_pause: table.duration("first_pause_seconds", SECOND, 0.01..=3_600.0).unwrap_or(default.first_pause),
        longest_pause: table
            .duration("longest_pause_seconds", SECOND, 0.01..=86_400.0)
            .unwrap_or(default.longest_pause),
        max_attempts: table.integer("max_attempts", 1..=1_000_000).unwrap_or(default.max_attempts),
        give_up_after: table.duration("give_up_after_hours", HOUR, 0.01..=8_760.0).unwrap_or(default.give_up_after),
        breaker_failures: table.integer("breaker_failures", 1..=1_000_000).unwrap_or(default.breaker_failures),
        breaker_pause: table.duration("breaker_pause_seconds", SECOND, 0.01..=3_600.0).unwrap_or(default.breaker_pause),
    };
    if delivery.longest_pause < delivery.first_pause {
        let message = "`longest_pause_seconds` is less than `first_pause_seconds`";
        table.place_of("longest_pause_seconds").fault(message);
    }
    delivery
}

/// A number that its range keeps above zero.
pub(super) fn non_zero(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}
