//! What is said about settings, read from real files.

use super::*;
use crate::config::{Overrides, load};

/// The findings for a `streamgate.toml` of these lines.
fn judged(lines: &str) -> Vec<Finding> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("streamgate.toml");
    std::fs::write(&file, lines).expect("written");
    std::fs::create_dir(folder.path().join("organizations")).expect("made");
    let organization = "[organization]\nid = \"0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10\"\nunique_name = \"contoso\"\n";
    std::fs::write(folder.path().join("organizations/contoso.toml"), organization).expect("written");
    let overrides = Overrides { read_only: true, data_dir: Some(folder.path().join("data")), ..Overrides::default() };
    let config = load(Some(&file), &overrides).expect("a configuration without faults");
    judge(&config, Timestamp::from_millis(1_790_000_000_000))
}

/// The worst that is said by one check.
fn worst(findings: &[Finding], check: Check) -> Severity {
    for finding in findings.iter().filter(|finding| finding.severity > Severity::Note) {
        assert!(finding.consequence.is_some() && finding.mend.is_some(), "{finding:?}");
    }
    let of_check = findings.iter().filter(|finding| finding.check == Some(check));
    of_check.map(|finding| finding.severity).max().expect("told")
}

fn key(more: &str) -> String {
    let hash = "0".repeat(64);
    format!(
        "[[api_keys]]\nname = \"k\"\nsha256 = \"{hash}\"\npermissions = [\"records.write\"]\norganizations = [\"contoso\"]\n{more}"
    )
}

#[test]
fn an_empty_configuration_works_on_this_machine() {
    let findings = judged("");
    assert_eq!(worst(&findings, Check::DevelopmentKey), Severity::Warning);
    for check in Check::ALL.iter().filter(|check| check.group() == Group::Configuration) {
        if !matches!(check, Check::DevelopmentKey | Check::ConfigurationFiles) {
            assert_eq!(worst(&findings, *check), Severity::Ok, "{check:?}");
        }
    }
}

#[test]
fn listeners_beyond_this_machine_are_told() {
    let public = format!("listen = \"0.0.0.0:8080\"\n{}", key(""));
    assert_eq!(worst(&judged(&public), Check::Listeners), Severity::Warning);
    let behind = format!("listen = \"0.0.0.0:8080\"\npublic_scheme = \"https\"\n{}", key(""));
    assert_eq!(worst(&judged(&behind), Check::Listeners), Severity::Note);
    let admin = format!("admin_listen = \"[::]:8081\"\n{}", key(""));
    assert_eq!(worst(&judged(&admin), Check::Listeners), Severity::Warning);
}

#[test]
fn credentials_are_judged_by_what_there_is_to_lose() {
    let all = r#"permissions = ["records.write", "records.read", "work.handle", "admin"]"#;
    let example = key("").replace(&"0".repeat(64), "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5");
    for (lines, severity) in [
        (key(""), Severity::Note),
        (key("expires = 2027-01-01T00:00:00Z\n"), Severity::Ok),
        (key("expires = 2026-09-25T00:00:00Z\n"), Severity::Warning),
        (key("expires = 2020-01-01T00:00:00Z\n"), Severity::Note),
        (key("").replace("permissions = [\"records.write\"]", all), Severity::Warning),
        (example, Severity::Fault),
    ] {
        assert_eq!(worst(&judged(&lines), Check::Credentials), severity, "{lines}");
    }
}

#[test]
fn issuers_that_may_do_much_are_told() {
    let issuer = |permissions: &str, more: &str| {
        format!(
            "[[issuers]]\nname = \"i\"\nissuer = \"https://i.example.com\"\njwks_url = \"https://i.example.com/keys\"\nalgorithms = [\"RS256\"]\naudiences = [\"a\"]\npermissions = [\"{permissions}\"]\n{more}"
        )
    };
    let (all, one) = ("organizations = \"*\"\n", "organizations = [\"contoso\"]\n");
    for (lines, severity) in [
        (issuer("admin", all), Severity::Warning),
        (issuer("records.write", all), Severity::Note),
        (issuer("records.write", one), Severity::Ok),
        (issuer("admin", &format!("clients = [\"c\"]\n{all}")), Severity::Ok),
    ] {
        assert_eq!(worst(&judged(&lines), Check::Credentials), severity, "{lines}");
    }
}

#[test]
fn destinations_are_judged_by_who_could_read_along() {
    let queue = |url: &str, networks: &str| {
        format!(
            "[routing_queues.q]\nkind = \"http\"\nurl = \"{url}\"\nsecret_file = \"q.secret\"\ncreate_secret = true\nallow_networks = [{networks}]\n"
        )
    };
    for (lines, severity) in [
        (queue("https://q.example.com/", ""), Severity::Ok),
        (queue("http://127.0.0.1:9/", "\"127.0.0.0/8\""), Severity::Ok),
        (queue("http://10.1.2.3/", "\"10.1.2.0/24\""), Severity::Warning),
        (queue("https://q.example.com/", "\"10.0.0.0/8\""), Severity::Note),
        (queue("https://q.example.com/", "\"0.0.0.0/0\""), Severity::Warning),
        (queue("https://q.example.com/", "\"169.254.0.0/16\""), Severity::Warning),
    ] {
        assert_eq!(worst(&judged(&lines), Check::RoutingQueues), severity, "{lines}");
    }
    let callbacks = "[subscriptions]\nallow_networks = [\"192.168.7.0/24\"]\n";
    assert_eq!(worst(&judged(callbacks), Check::Callbacks), Severity::Warning);
}

#[test]
fn limits_that_are_none_are_told() {
    for (lines, check, severity) in [
        ("[limits]\nrequests_per_minute = 60_000_000\n", Check::Limits, Severity::Warning),
        ("[limits]\nwrong_credentials_per_second = 1_000_000\n", Check::Limits, Severity::Warning),
        ("[limits]\nrequest_deadline_seconds = 300\n", Check::Limits, Severity::Warning),
        ("[limits]\nmax_connections_per_peer = 4_096\n", Check::Limits, Severity::Note),
        ("[store]\ndisk_reserve_bytes = 1_048_576\n", Check::Limits, Severity::Warning),
        ("[delivery]\ngive_up_after_hours = 0.5\n", Check::Retention, Severity::Warning),
        ("[delivery]\nmax_attempts = 1\n", Check::Retention, Severity::Warning),
        ("[retention]\ntrim_when_full = false\n", Check::Retention, Severity::Note),
        ("[retention]\naudit_days = 7\n", Check::Retention, Severity::Note),
        ("[log]\nfilter = \"off\"\n", Check::Log, Severity::Warning),
        ("[log]\nfilter = \"info,streamgate=debug\"\n", Check::Log, Severity::Note),
    ] {
        assert_eq!(worst(&judged(lines), check), severity, "{lines}");
    }
}

#[test]
fn faults_and_warnings_keep_their_place_and_hint() {
    let fault = Fault {
        file: "a.toml".to_owned(),
        line: 3,
        column: 4,
        pointer: None,
        message: "is wrong".to_owned(),
        hint: Some("mend it".to_owned()),
    };
    let finding = of_fault(&fault);
    assert_eq!((finding.severity, finding.subject.as_deref()), (Severity::Fault, Some("a.toml:3:4")));
    assert_eq!(finding.mend.as_deref(), Some("mend it"));
    assert_eq!(of_warning(&Fault { line: 0, ..fault }).subject.as_deref(), Some("a.toml"));
}
