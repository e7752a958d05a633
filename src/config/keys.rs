//! Every key that the configuration files know, table by table, on one screen. A key that is not here is refused; a
//! test holds the files under `config/` to having every key that is.

/// The keys of one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// The table as it is written, for messages.
    pub(super) table: &'static str,
    /// What may stand in it.
    pub(super) keys: &'static [&'static str],
}

const fn keys(table: &'static str, keys: &'static [&'static str]) -> Keys {
    Keys { table, keys }
}

/// Whether an organization's file has a key of this name.
pub(super) fn is_key(word: &str) -> bool {
    let tables = [ORGANIZATION_FILE, ORGANIZATION, QUEUE, WORK_STREAM, CONTEXT_VARIABLE, ENTITY, API_KEY];
    tables.iter().any(|table| table.keys.contains(&word))
}

// streamgate.toml

pub(super) const PROCESS: Keys = keys(
    "streamgate.toml",
    &[
        "listen",
        "admin_listen",
        "public_host",
        "public_scheme",
        "tls",
        "admin_tls",
        "data_dir",
        "organizations",
        "store",
        "retention",
        "limits",
        "log",
        "telemetry",
        "delivery",
        "api_keys",
        "issuers",
        "routing_queues",
        "subscriptions",
    ],
);
const OF_TLS: &[&str] = &["certificate_file", "private_key_file", "private_key_env"];
pub(super) const TLS: Keys = keys("[tls]", OF_TLS);
pub(super) const ADMIN_TLS: Keys = keys("[admin_tls]", OF_TLS);
pub(super) const STORE: Keys =
    keys("[store]", &["kind", "disk_reserve_bytes", "duplicate_window_days", "max_waiting_appends", "postgres"]);
pub(super) const POSTGRES: Keys = keys(
    "[store.postgres]",
    &["url", "url_file", "url_env", "tls", "ca_file", "max_connections", "statement_timeout_seconds"],
);
pub(super) const RETENTION: Keys = keys(
    "[retention]",
    &["delivered_days", "delivered_details_days", "dead_letters_days", "accepted_days", "audit_days", "trim_when_full"],
);
pub(super) const LIMITS: Keys = keys(
    "[limits]",
    &[
        "max_body_bytes",
        "max_in_flight_bytes",
        "max_connections_per_peer",
        "max_connections",
        "request_deadline_seconds",
        "keep_alive_seconds",
        "shutdown_grace_seconds",
        "requests_per_minute",
        "burst",
        "wrong_credentials_per_second",
    ],
);
pub(super) const LOG: Keys = keys("[log]", &["format", "filter"]);
pub(super) const TELEMETRY: Keys = keys("[telemetry]", &["otlp"]);
pub(super) const OTLP: Keys =
    keys("[telemetry.otlp]", &["endpoint", "sampling_ratio", "timeout_seconds", "resource_attributes", "headers"]);
pub(super) const OTLP_HEADER: Keys = keys("[[telemetry.otlp.headers]]", &["name", "value_file", "value_env"]);
pub(super) const DELIVERY: Keys = keys(
    "[delivery]",
    &[
        "first_pause_seconds",
        "longest_pause_seconds",
        "max_attempts",
        "give_up_after_hours",
        "breaker_failures",
        "breaker_pause_seconds",
    ],
);
pub(super) const SUBSCRIPTIONS: Keys =
    keys("[subscriptions]", &["allow_networks", "max_per_organization", "concurrency", "timeout_seconds"]);
pub(super) const API_KEY: Keys = keys("[[api_keys]]", &["name", "sha256", "permissions", "organizations", "expires"]);
/// What asks a running gateway for an API key: as in a file, without the hash, which is made with the key.
pub(super) const NEW_API_KEY: Keys =
    keys("the request for an API key", &["name", "permissions", "organizations", "expires"]);
pub(super) const ISSUER: Keys = keys(
    "[[issuers]]",
    &[
        "name",
        "issuer",
        "jwks_url",
        "algorithms",
        "audiences",
        "tenant",
        "version",
        "clients",
        "permissions",
        "organizations",
        "max_lifetime_hours",
    ],
);
pub(super) const ROUTING_QUEUE: Keys = keys(
    "[routing_queues.…]",
    &[
        "kind",
        "url",
        "secret_file",
        "secret_env",
        "create_secret",
        "previous_secret_file",
        "previous_secret_env",
        "allow_networks",
        "concurrency",
        "batch_max_events",
        "batch_max_bytes",
        "timeout_seconds",
    ],
);

// organizations/*.toml

pub(super) const ORGANIZATION_FILE: Keys = keys("an organization's file", &["organization", "queues", "work_streams"]);
pub(super) const ORGANIZATION: Keys =
    keys("[organization]", &["id", "unique_name", "name", "routing_queue", "requests_per_minute", "burst"]);
pub(super) const QUEUE: Keys = keys("[[queues]]", &["name", "priority", "default"]);
pub(super) const WORK_STREAM: Keys = keys(
    "[[work_streams]]",
    &[
        "id",
        "name",
        "capacity",
        "stream_source",
        "auto_close_after_inactivity_minutes",
        "distribution_mode",
        "notification",
        "screen_pop_timeout_seconds",
        "assign_after_decline_minutes",
        "allowed_presences",
        "context_variables",
        "rules",
        "state",
        "routing_queue",
        "entities",
    ],
);
pub(super) const CONTEXT_VARIABLE: Keys =
    keys("[[work_streams.context_variables]]", &["display_name", "name", "kind", "column", "label", "state"]);
pub(super) const ENTITY: Keys = keys(
    "[[work_streams.entities]]",
    &["id", "entity_logical_name", "entity_set_name", "relationship_name", "rules", "state"],
);
const OF_RULE: &[&str] = &["name", "queue", "state", "when"];
pub(super) const RULE: Keys = keys("[[work_streams.rules]]", OF_RULE);
pub(super) const ENTITY_RULE: Keys = keys("[[work_streams.entities.rules]]", OF_RULE);
/// What a `when` holds, and each element of its groups.
pub(super) const CONDITION: Keys = keys(
    "{ column = …, operator = …, value = … }",
    &["all", "any", "column", "label", "record", "variable", "operator", "value"],
);
