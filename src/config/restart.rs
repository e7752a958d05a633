//! What a running gateway cannot take over: settings of the process, which need a restart.

use std::fmt::Debug;

use super::settings::Process;

/// The settings in which two processes differ, as they stand in `streamgate.toml`.
///
/// The default rate limit is not among them: organizations take it when they are read, so a change is effective at
/// once.
pub(super) fn settings_that_differ(running: &Process, wanted: &Process) -> Vec<String> {
    let Process {
        listen,
        admin_listen,
        public_host,
        public_scheme,
        tls,
        admin_tls,
        data_dir,
        store,
        database,
        retention,
        limits,
        log,
        otlp,
    } = wanted;
    let mut differing = Vec::new();
    let mut compare = |name: &str, is: &dyn Debug, should_be: &dyn Debug| {
        // Plain data, of which the debug text says everything but secrets.
        if format!("{is:?}") != format!("{should_be:?}") {
            differing.push(name.to_owned());
        }
    };
    let (store_now, limits_now, log_now) = (&running.store, &running.limits, &running.log);
    compare("listen", &running.listen, listen);
    compare("admin_listen", &running.admin_listen, admin_listen);
    compare("public_host", &running.public_host, public_host);
    compare("public_scheme", &running.public_scheme, public_scheme);
    compare("tls", &running.tls, tls);
    compare("admin_tls", &running.admin_tls, admin_tls);
    compare("data_dir", &running.data_dir, data_dir);
    compare("store.kind", &running.database.is_some(), &database.is_some());
    // Whether they are the same, since the password is not in the debug text.
    let is_another = running.database.is_some() && database.is_some() && running.database != *database;
    compare("store.postgres", &false, &is_another);
    compare("store.disk_reserve_bytes", &store_now.disk_reserve_bytes, &store.disk_reserve_bytes);
    compare("store.duplicate_window_days", &store_now.duplicate_window, &store.duplicate_window);
    compare("store.max_waiting_appends", &store_now.max_waiting_appends, &store.max_waiting_appends);
    let kept_now = &running.retention;
    compare("retention.delivered_days", &kept_now.delivered, &retention.delivered);
    compare("retention.delivered_details_days", &kept_now.delivered_details, &retention.delivered_details);
    compare("retention.dead_letters_days", &kept_now.dead_letters, &retention.dead_letters);
    compare("retention.accepted_days", &kept_now.accepted, &retention.accepted);
    compare("retention.audit_days", &kept_now.audit, &retention.audit);
    compare("retention.trim_when_full", &kept_now.trim_when_full, &retention.trim_when_full);
    compare("limits.max_body_bytes", &limits_now.max_body_bytes, &limits.max_body_bytes);
    compare("limits.max_in_flight_bytes", &limits_now.max_in_flight_bytes, &limits.max_in_flight_bytes);
    compare("limits.max_connections_per_peer", &limits_now.max_connections_per_peer, &limits.max_connections_per_peer);
    compare("limits.max_connections", &limits_now.max_connections, &limits.max_connections);
    compare("limits.request_deadline_seconds", &limits_now.request_deadline, &limits.request_deadline);
    compare("limits.keep_alive_seconds", &limits_now.keep_alive, &limits.keep_alive);
    compare("limits.shutdown_grace_seconds", &limits_now.shutdown_grace, &limits.shutdown_grace);
    let wrong = "limits.wrong_credentials_per_second";
    compare(wrong, &limits_now.wrong_credentials_per_second, &limits.wrong_credentials_per_second);
    compare("log.format", &log_now.format, &log.format);
    compare("log.filter", &log_now.filter, &log.filter);
    compare("telemetry.otlp", &running.otlp, otlp);
    differing
}
