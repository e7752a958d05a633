//! A gateway that runs already: does it take records, by which configuration, and what is on its hands.
//!
//! Health and, on loopback, metrics need no key, so none is read and none is sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{StatusCode, Url};
use serde_json::Value;

use super::finding::{Check, Finding, Group};
use super::{Scene, Tell, without_configuration};
use crate::cli::client::{Client, Listener, block_on};
use crate::cli::output::printable;

/// What answered.
#[derive(Debug)]
enum Answer {
    Nobody,
    /// Something that is no gateway.
    Stranger(String),
    /// A gateway, with what it says of its health.
    Gateway(Value),
}

#[derive(Debug)]
struct Facts {
    url: Url,
    answer: Answer,
    /// Metrics without labels, and the largest of those with some; `None` where they are not shown.
    metrics: Option<BTreeMap<String, f64>>,
    /// Whether somebody has the data directory.
    is_held: bool,
}

/// Tells about a running gateway.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let configured = scene.config().map(|config| url_of(config.process.admin_listen, config.process.admin_tls));
    let url = match scene.args.admin_url.clone().map_or(configured, |url| Some(Some(url))) {
        Some(Some(url)) => url,
        Some(None) => {
            let consequence = "whether a gateway runs is not told";
            let found = "not looked at: `admin_listen` has port 0, which may be any";
            return tell.one(Finding::note(Check::Ready, found, consequence).mend("name its address with --admin-url"));
        }
        None => return tell.one(without_configuration(Group::Gateway)),
    };
    let is_held = scene.inspection.as_ref().is_some_and(|inspection| matches!(inspection.holder, Ok(Some(_))));
    match block_on(gather(url, is_held, scene)) {
        Ok(facts) => tell.all(judge(&facts)),
        Err(failure) => {
            let mend = "give an address such as http://127.0.0.1:8081";
            tell.one(Finding::fault(Check::Ready, failure.message, "whether a gateway runs is not told", mend));
        }
    }
}

/// Where a listener can be reached from this machine.
fn url_of(listener: SocketAddr, by_tls: bool) -> Option<Url> {
    let scheme = if by_tls { "https" } else { "http" };
    let address = match listener.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    };
    let reachable = SocketAddr::new(address, listener.port());
    if listener.port() == 0 { None } else { Url::parse(&format!("{scheme}://{reachable}")).ok() }
}

async fn gather(url: Url, is_held: bool, scene: &Scene) -> Result<Facts, crate::cli::Failure> {
    // Sooner than the group's deadline, so that what is told is this.
    let client = Client::at_second_listener(&url, scene.admin_certificate(), scene.deadline().mul_f32(0.4))?;
    let answer = match client.text(Listener::Admin, "/health/ready").await {
        Err(_) => Answer::Nobody,
        Ok((status, text)) => match serde_json::from_str::<Value>(&text) {
            Ok(body) if body.get("catalogGeneration").is_some() => Answer::Gateway(body),
            Ok(_) | Err(_) => Answer::Stranger(status.to_string()),
        },
    };
    let metrics = match &answer {
        Answer::Gateway(_) => client.text(Listener::Admin, "/metrics").await.ok(),
        Answer::Nobody | Answer::Stranger(_) => None,
    };
    let metrics = metrics.filter(|(status, _)| *status == StatusCode::OK).map(|(_, text)| figures(&text));
    Ok(Facts { url, answer, metrics, is_held })
}

/// The figures of an OpenMetrics text; of those with labels the largest.
fn figures(text: &str) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        // A label may hold blanks, so the value is what is behind the last one.
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or_default();
        let Ok(value) = value.parse::<f64>() else { continue };
        let largest = figures.entry(name.to_owned()).or_insert(value);
        *largest = largest.max(value);
    }
    figures
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts { url, answer, metrics, is_held } = facts;
    let body = match answer {
        Answer::Gateway(body) => body,
        Answer::Nobody if *is_held => {
            let found = format!("a gateway has the data directory, but nobody answers at {url}");
            let consequence = "it is starting or hanging, or listens elsewhere; if it hangs, records are not taken";
            let mend = "name its address with --admin-url; if it is that one already, look at its log";
            return vec![Finding::warning(Check::Ready, found, consequence, mend)];
        }
        Answer::Nobody => {
            let others = [Check::Reload, Check::Backlog].map(|check| Finding::ok(check, "no gateway runs"));
            let ready = Finding::ok(Check::Ready, format!("none runs: nobody answers at {url}"));
            return [ready].into_iter().chain(others).collect();
        }
        Answer::Stranger(said) => {
            let found = format!("something else answers at {url} ({said})");
            let consequence = "a gateway of this configuration cannot listen there, and does not start";
            let mend = "end it, or take another port (`admin_listen`)";
            return vec![Finding::fault(Check::Ready, found, consequence, mend)];
        }
    };
    let mut findings = vec![readiness(body, url, *is_held), reload(body)];
    match metrics {
        Some(metrics) => findings.push(backlog(metrics)),
        None => findings.push(Finding::note(
            Check::Backlog,
            "not shown: metrics need a key beyond loopback",
            "what waits, and what was given up, is not told",
        )),
    }
    findings
}

fn readiness(body: &Value, url: &Url, is_held: bool) -> Finding {
    let check = Check::Ready;
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(printable);
    let reason = text("reason");
    match (text("status").as_deref(), reason.as_deref()) {
        (Some("ready"), _) if !is_held => {
            let found = format!("a gateway at {url} takes records, and does not have this data directory");
            let mend = "name with --config and --data-dir what it was started with";
            Finding::note(check, found, "it is another one, started with other settings").mend(mend)
        }
        (Some("ready"), _) => Finding::ok(check, format!("the gateway at {url} takes records")),
        (_, Some("draining")) => {
            let mend = "start it again once it has ended";
            Finding::warning(
                check,
                format!("the gateway at {url} is stopping"),
                "new records get 503 until it is started again",
                mend,
            )
        }
        (_, reason) => {
            let mend = match reason {
                Some("store-full") => "make room on the disk of the data directory, or on that of the database",
                _ => "check the disk, then restart it: docs/operating.md, section 10",
            };
            let found = format!("the gateway at {url} takes no records: {}", reason.unwrap_or("it does not say why"));
            Finding::fault(check, found, "callers get 503 and try again", mend)
        }
    }
}

fn reload(body: &Value) -> Finding {
    let check = Check::Reload;
    let generation = body.get("catalogGeneration").and_then(Value::as_u64).unwrap_or(0);
    let measured = serde_json::json!({ "catalogGeneration": generation });
    let finding = if body.get("configuration").and_then(Value::as_str) == Some("last-good") {
        let consequence = format!("what was changed last does not count; generation {generation} does");
        let mend = "`streamgate check` shows every fault; mend the files, and they count at once";
        Finding::warning(check, "the files have faults", consequence, mend)
    } else {
        Finding::ok(check, format!("the files are in force, as generation {generation}"))
    };
    finding.measured(measured)
}

fn backlog(metrics: &BTreeMap<String, f64>) -> Finding {
    let check = Check::Backlog;
    let of = |name: &str| metrics.get(&format!("streamgate_{name}")).copied().unwrap_or(0.0).max(0.0) as u64;
    let (pending, waiting, dead) = (of("store_pending_records"), of("store_waiting_records"), of("store_dead_letters"));
    let (lost, behind) = (of("unconfigured_pending_records"), of("subscriptions_behind_records"));
    let measured = serde_json::json!({
        "pending": pending, "waiting": waiting, "deadLetters": dead, "unconfigured": lost, "subscriptionsBehind": behind,
    });
    let found = format!("{pending} records to be delivered, {waiting} that wait, {dead} dead letters");
    let finding = if lost > 0 {
        let consequence = format!(
            "{lost} of them belong to a work stream or routing queue that is not configured (any more): they wait"
        );
        Finding::warning(
            check,
            found,
            consequence,
            "configure it again, or see what was taken out by mistake (`streamgate audit`)",
        )
    } else if of("breaker_open") > 0 {
        let consequence = "a destination is left alone after failures in a row; its records wait";
        Finding::warning(check, found, consequence, "see what is told about destinations, and their logs")
    } else if dead > 0 {
        let consequence = "nobody tries dead letters again, until somebody asks for it";
        let mend = "`streamgate dead-letters list` says why each was given up; then requeue or discard them";
        Finding::warning(check, found, consequence, mend)
    } else if behind > 1_000 {
        let consequence = format!("{behind} records are not looked at yet for those who are subscribed");
        Finding::warning(check, found, consequence, "look at the log: subscriptions.db may not be writable")
    } else {
        Finding::ok(check, found)
    };
    finding.measured(measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Severity;

    fn facts(answer: Answer, is_held: bool) -> Facts {
        Facts { url: Url::parse("http://127.0.0.1:8081").expect("a URL"), answer, metrics: None, is_held }
    }

    fn health(status: &str, reason: &str, configuration: &str) -> Answer {
        Answer::Gateway(serde_json::json!({
            "status": status, "reason": reason, "configuration": configuration, "catalogGeneration": 7,
        }))
    }

    #[test]
    fn whoever_answers_or_does_not_is_told() {
        for (facts, severity) in [
            (facts(Answer::Nobody, false), Severity::Ok),
            (facts(Answer::Nobody, true), Severity::Warning),
            (facts(Answer::Stranger("200 OK".to_owned()), false), Severity::Fault),
            (facts(health("ready", "", "good"), true), Severity::Ok),
            (facts(health("ready", "", "good"), false), Severity::Note),
            (facts(health("ready", "", "last-good"), true), Severity::Warning),
            (facts(health("not-ready", "draining", "good"), true), Severity::Warning),
            (facts(health("not-ready", "store-full", "good"), true), Severity::Fault),
            (facts(health("not-ready", "store-broken", "good"), true), Severity::Fault),
        ] {
            let findings = judge(&facts);
            let of_interest = findings.iter().filter(|finding| finding.check != Some(Check::Backlog));
            assert_eq!(of_interest.map(|finding| finding.severity).max(), Some(severity), "{findings:?}");
        }
    }

    #[test]
    fn backlogs_are_judged_by_what_moves() {
        let judged = |text: &str| backlog(&figures(text));
        let quiet = judged("# TYPE x gauge\nstreamgate_store_pending_records 12\nstreamgate_store_dead_letters 0\n");
        assert_eq!((quiet.severity, &quiet.measured.expect("figures")["pending"]), (Severity::Ok, &12.into()));
        for text in [
            "streamgate_store_dead_letters 1",
            "streamgate_unconfigured_pending_records 3",
            "streamgate_breaker_open{routing_queue=\"a b\"} 1\nstreamgate_breaker_open{routing_queue=\"c\"} 0",
            "streamgate_subscriptions_behind_records 5000",
        ] {
            assert_eq!(judged(text).severity, Severity::Warning, "{text}");
        }
    }

    #[test]
    fn listeners_are_reached_from_this_machine() {
        let url =
            |address: &str, by_tls| url_of(address.parse().expect("an address"), by_tls).map(|url| url.to_string());
        assert_eq!(url("0.0.0.0:8081", false).as_deref(), Some("http://127.0.0.1:8081/"));
        assert_eq!(url("[::]:8081", true).as_deref(), Some("https://[::1]:8081/"));
        assert_eq!(url("127.0.0.1:0", false), None);
    }
}
