//! Listeners, limits, retention and the log.

use std::net::SocketAddr;
use std::time::Duration;

use super::or_ok;
use crate::cli::doctor::finding::{Check, Finding};
use crate::config::settings::{DeliverySettings, LimitSettings, LogSettings, Process, PublicScheme, RetentionSettings};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A request that may take longer holds its connection against others.
const LONG_REQUEST: Duration = Duration::from_secs(60);
/// No flow and no set of flows sends more in a minute through one gateway: such a limit is none.
const UNLIMITED_A_MINUTE: u32 = 1_000_000;
/// More wrong guesses in a second than this from one address are no mistake of a caller.
const MANY_GUESSES: u32 = 10_000;
/// The log beside the records grows to this size from the start on.
const LOG_BYTES: u64 = 32 << 20;

/// What the settings of the process mean.
pub(super) fn judge(process: &Process) -> Vec<Finding> {
    let mut findings = listeners(process);
    findings.extend(or_ok(limits(&process.limits), Check::Limits, "all are in force"));
    findings.extend(reserve(process.store.disk_reserve_bytes));
    findings.push(log(&process.log));
    findings
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whoever can reach a listener beyond this machine can read what goes there, unless something ends TLS.
fn listeners(process: &Process) -> Vec<Finding> {
    let check = Check::Listeners;
    let Process { listen, admin_listen, public_scheme, tls, admin_tls, .. } = process;
    let mut findings = Vec::new();
    if is_local(*listen) {
        findings.push(Finding::ok(check, format!("`listen` is {listen}: only this machine can connect")));
    } else if *tls {
        findings.push(Finding::ok(check, format!("`listen` is {listen}, by TLS")));
    } else if *public_scheme == PublicScheme::Http {
        let found = format!("`listen` is {listen}, which other machines can reach, without TLS");
        let consequence = "keys, tokens and record details can be read and changed on the way";
        let mend = "set [tls], or put something in front that ends TLS and set public_scheme = \"https\" (docs/operating.md, section 15)";
        findings.push(Finding::warning(check, found, consequence, mend));
    } else {
        let found = format!("`listen` is {listen}, and `public_scheme` says that TLS ends in front of it");
        let consequence = "whoever reaches this address past the proxy talks in the clear: let only the proxy reach it";
        findings.push(Finding::note(check, found, consequence));
    }
    if is_local(*admin_listen) {
        findings.push(Finding::ok(check, format!("`admin_listen` is {admin_listen}: only this machine can connect")));
    } else if *admin_tls {
        let found = format!("`admin_listen` is {admin_listen}, by TLS");
        let consequence = "anybody who reaches it can ask for health";
        findings.push(Finding::note(check, found, consequence));
    } else {
        let found = format!("`admin_listen` is {admin_listen}, which other machines can reach, without TLS");
        let consequence = "keys with the permission `admin` travel in the clear there, and anybody can ask for health";
        let mend = "set [admin_tls], or listen on 127.0.0.1, or on an address of a network that only administrators and monitoring reach";
        findings.push(Finding::warning(check, found, consequence, mend));
    }
    findings
}

fn limits(limits: &LimitSettings) -> Vec<Finding> {
    let check = Check::Limits;
    let mut findings = Vec::new();
    let rate = limits.default_rate_limit;
    if rate.requests_per_minute.get() >= UNLIMITED_A_MINUTE {
        let found = format!("limits.requests_per_minute is {}, which is no limit", rate.requests_per_minute);
        let consequence = "one organization's runaway flow takes the disk from all others";
        let mend = "leave it at 10,000, and raise it for single organizations";
        findings.push(Finding::warning(check, found, consequence, mend));
    }
    if limits.wrong_credentials_per_second.get() > MANY_GUESSES {
        let found = format!("limits.wrong_credentials_per_second is {}", limits.wrong_credentials_per_second);
        let consequence = "keys can be guessed at that pace from one address";
        findings.push(Finding::warning(check, found, consequence, "leave it at 100"));
    }
    if limits.request_deadline > LONG_REQUEST {
        let found = format!("limits.request_deadline_seconds is {}", limits.request_deadline.as_secs());
        let consequence = "clients that send slowly, or on purpose, hold their connections so long";
        findings.push(Finding::warning(check, found, consequence, "leave it at 10, or not far above"));
    }
    if limits.max_connections_per_peer >= limits.max_connections {
        let found = format!(
            "limits.max_connections_per_peer ({}) is not less than max_connections ({})",
            limits.max_connections_per_peer, limits.max_connections
        );
        let consequence =
            "one address can take every connection; right where a proxy stands in front, which has its own limits";
        findings.push(Finding::note(check, found, consequence));
    }
    findings
}

fn reserve(bytes: u64) -> Option<Finding> {
    (bytes < LOG_BYTES).then(|| {
        let found = format!("store.disk_reserve_bytes is {bytes}, less than the store's log takes");
        let consequence = "on a full disk deliveries cannot be written down either, and are made again later";
        Finding::warning(Check::Limits, found, consequence, "leave it at 67,108,864 (64 MiB)")
    })
}

fn log(log: &LogSettings) -> Finding {
    let check = Check::Log;
    let words: Vec<_> = log.filter.split([',', '=']).map(str::trim).collect();
    let first = words.first().copied().unwrap_or_default();
    if words.contains(&"trace") || words.contains(&"debug") {
        let consequence = "the log grows by several lines a request, and tells more of the callers than is needed";
        return Finding::note(check, format!("the filter is `{}`", log.filter), consequence);
    }
    if matches!(first, "off" | "error") {
        let found = format!("the filter is `{}`", log.filter);
        let consequence =
            "deliveries that are given up, faults of a reload and full disks are logged as warnings, and not seen";
        return Finding::warning(check, found, consequence, "leave it at `info`, or at least at `warn`");
    }
    Finding::ok(check, format!("the filter is `{}`", log.filter))
}

/// How long things are kept and tried. What contradicts itself (less than the duplicate window) is a fault already.
pub(super) fn retention(retention: &RetentionSettings, delivery: &DeliverySettings) -> Finding {
    let check = Check::Retention;
    if delivery.give_up_after < Duration::from_secs(60 * 60) || delivery.max_attempts < 5 {
        let found = format!(
            "deliveries are given up after {} tries or {:.1} hours",
            delivery.max_attempts,
            delivery.give_up_after.as_secs_f64() / 3_600.0
        );
        let consequence = "a receiver that is down for so long leaves dead letters, which somebody has to requeue";
        return Finding::warning(check, found, consequence, "leave it at 100 tries and 72 hours ([delivery])");
    }
    if !retention.trim_when_full {
        let consequence = "a full disk heals by room that somebody makes, and not by itself";
        return Finding::note(check, "retention.trim_when_full is off", consequence);
    }
    if retention.audit < DAY * 30 {
        let found = format!("retention.audit_days is {}", retention.audit.as_secs() / DAY.as_secs());
        return Finding::note(check, found, "who changed what is forgotten within weeks");
    }
    if retention.accepted.is_none() {
        let days = retention.delivered.as_secs() / DAY.as_secs();
        return Finding::ok(check, format!("delivered records go after {days} days"))
            .so("what nobody fetches stays for ever, and takes room: retention.accepted_days ends that");
    }
    Finding::ok(check, "everything is forgotten in its time")
}
