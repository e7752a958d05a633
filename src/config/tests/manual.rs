//! The files under `config/` tell the truth: every setting is in them, and every default is the real one.

use super::*;
use crate::config::keys;
use crate::config::load::{EXAMPLE_ORGANIZATION, MANUAL};
use crate::domain::access::{Caller, OrganizationScope};
use crate::domain::admission::{Admission, admit};
use crate::domain::record::RecordCreated;

/// The file with every default spelled out: `#key = value` without its `#`.
fn with_defaults(text: &str) -> String {
    let is_setting = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    text.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

/// The file with every example spelled out too: `#   key = value`, `#   [table]` or `#   [[table]]`.
fn with_everything(text: &str) -> String {
    let is_example = |line: &str| {
        let rest = line.strip_prefix("#   ").unwrap_or_default();
        (rest.starts_with('[') && rest.ends_with(']'))
            || (rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.contains(" = "))
    };
    let lines = with_defaults(text);
    lines.lines().map(|line| if is_example(line) { &line[4..] } else { line }).collect::<Vec<_>>().join("\n")
}

/// What a configuration means, all of it, as text.
fn meaning(main: &str, organization: &str) -> String {
    let files = Files::new(main, &[("contoso.toml", organization)]);
    for name in ["", "admin-"] {
        files.write_pair(&format!("tls/{name}certificate.pem"), &format!("tls/{name}private-key.pem"));
    }
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config = files.attempt(&overrides).outcome.unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.warnings, []);
    let organizations: Vec<_> = config
        .effective
        .catalog
        .organizations()
        .flat_map(|organization| {
            let own =
                format!("{:?} {:?} {:?}", organization.rate_limit, organization.routing_queue, organization.queues);
            let of_streams = organization.work_streams_by_name().into_iter().map(|stream| {
                let entities = format!("{:?}", stream.entities_by_name());
                let entities_apart =
                    crate::domain::catalog::WorkStream { entities: Default::default(), ..stream.clone() };
                format!("{entities_apart:#?}{entities}")
            });
            std::iter::once(own).chain(of_streams).collect::<Vec<_>>()
        })
        .collect();
    let effective = &config.effective;
    format!(
        "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{organizations:#?}",
        config.process, effective.delivery, effective.credentials, effective.routing_queues, effective.subscriptions
    )
}

#[test]
fn the_built_in_configuration_loads_without_a_fault_or_a_warning() {
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config = read_with(&Origin::BuiltIn, &overrides, None, &super::NOTHING_OUTSIDE).outcome.expect("no fault");
    assert_eq!(config.warnings, []);
    assert_eq!(config.process.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.process.admin_listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.process.limits.max_body_bytes, 1024 * 1024);
    assert!(config.effective.credentials.api_keys.is_empty());
    assert_eq!(config.effective.routing_queues.len(), 1);
}

#[test]
fn every_default_in_the_files_is_the_real_one() {
    assert_ne!(with_defaults(MANUAL), MANUAL.trim_end());
    assert_eq!(meaning(&with_defaults(MANUAL), EXAMPLE_ORGANIZATION), meaning(MANUAL, EXAMPLE_ORGANIZATION));
    assert_eq!(meaning(MANUAL, &with_defaults(EXAMPLE_ORGANIZATION)), meaning(MANUAL, EXAMPLE_ORGANIZATION));
}

#[test]
fn a_default_that_is_wrong_would_show() {
    for (default, other) in
        [("#burst = 2_500", "#burst = 2_501"), ("#keep_alive_seconds = 15", "#keep_alive_seconds = 16")]
    {
        assert!(MANUAL.contains(default));
        let wrong = with_defaults(&MANUAL.replace(default, other));
        assert_ne!(meaning(&wrong, EXAMPLE_ORGANIZATION), meaning(MANUAL, EXAMPLE_ORGANIZATION), "{other}");
    }
}

#[test]
fn every_setting_is_in_the_files() {
    /// The tables at the end of a path, through lists and through tables that people name.
    fn at<'v>(value: &'v toml::Value, path: &[&str]) -> Vec<&'v toml::Value> {
        let Some((step, rest)) = path.split_first() else { return vec![value] };
        let next: Vec<&toml::Value> = match (value, *step) {
            (toml::Value::Array(list), _) => return list.iter().flat_map(|element| at(element, path)).collect(),
            (toml::Value::Table(table), "*") => table.values().collect(),
            (toml::Value::Table(table), step) => table.get(step).into_iter().collect(),
            _ => Vec::new(),
        };
        next.into_iter().flat_map(|value| at(value, rest)).collect()
    }
    let main: toml::Value = toml::from_str(&with_everything(MANUAL)).expect("TOML");
    let organization: toml::Value = toml::from_str(&with_everything(EXAMPLE_ORGANIZATION)).expect("TOML");
    let tables: [(&toml::Value, &[&str], keys::Keys); 25] = [
        (&main, &[], keys::PROCESS),
        (&main, &["tls"], keys::TLS),
        (&main, &["admin_tls"], keys::ADMIN_TLS),
        (&main, &["store"], keys::STORE),
        (&main, &["store", "postgres"], keys::POSTGRES),
        (&main, &["retention"], keys::RETENTION),
        (&main, &["limits"], keys::LIMITS),
        (&main, &["log"], keys::LOG),
        (&main, &["telemetry"], keys::TELEMETRY),
        (&main, &["telemetry", "otlp"], keys::OTLP),
        (&main, &["telemetry", "otlp", "headers"], keys::OTLP_HEADER),
        (&main, &["delivery"], keys::DELIVERY),
        (&main, &["subscriptions"], keys::SUBSCRIPTIONS),
        (&main, &["api_keys"], keys::API_KEY),
        (&main, &["issuers"], keys::ISSUER),
        (&main, &["routing_queues", "*"], keys::ROUTING_QUEUE),
        (&organization, &[], keys::ORGANIZATION_FILE),
        (&organization, &["organization"], keys::ORGANIZATION),
        (&organization, &["queues"], keys::QUEUE),
        (&organization, &["work_streams"], keys::WORK_STREAM),
        (&organization, &["work_streams", "context_variables"], keys::CONTEXT_VARIABLE),
        (&organization, &["work_streams", "entities"], keys::ENTITY),
        (&organization, &["work_streams", "entities", "rules"], keys::ENTITY_RULE),
        (&organization, &["work_streams", "rules"], keys::RULE),
        (&organization, &["work_streams", "rules", "when"], keys::CONDITION),
    ];
    for (file, path, known) in tables {
        for key in known.keys {
            let with_key: Vec<&str> = path.iter().copied().chain([*key]).collect();
            assert!(!at(file, &with_key).is_empty(), "`{key}` of {} is not in the file", known.table);
        }
    }
}

#[test]
fn everything_in_the_files_is_accepted_when_spelled_out() {
    // What cannot stand together: a secret in a file and in the environment.
    let main = with_everything(MANUAL).replace("\nsecret_env = \"LISTENER_SECRET\"", "");
    // What cannot be meant together: TLS, and callers that are told http.
    let main = main.replace("public_scheme = \"http\"", "public_scheme = \"https\"");
    let main = main.replace("\nprivate_key_env = \"STREAMGATE_PRIVATE_KEY\"", "");
    let main = main.replace("\nprivate_key_env = \"STREAMGATE_ADMIN_PRIVATE_KEY\"", "");
    let main = main.replace("\nprevious_secret_file = \"listener.previous-secret\"", "");
    let main = main.replace("\nvalue_file = \"otlp.token\"", "").replace("OTLP_TOKEN", "SECRET");
    let main = main.replace("LISTENER_PREVIOUS_SECRET", "SECRET");
    let meant = meaning(&main, &with_everything(EXAMPLE_ORGANIZATION));
    for part in ["contoso-flows", "contoso-entra", "-public.gateway.example.com", "Rs256"] {
        assert!(meant.contains(part), "{part}");
    }
}

#[test]
fn the_example_admits_the_sample_records() {
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config = read_with(&Origin::BuiltIn, &overrides, None, &super::NOTHING_OUTSIDE).outcome.expect("no fault");
    let caller =
        Caller { credential: "test".into(), permissions: Default::default(), organizations: OrganizationScope::All };
    for (entity, set) in [("incident", "incidents"), ("lead", "leads"), ("new_inspection", "new_inspections")] {
        let body = format!(
            r#"{{"organizationId":"0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10",
                "workStreamId":"7c2e9d54-41a8-ea11-a812-000d3a579c31",
                "entityLogicalName":"{entity}","entitySetName":"{set}",
                "recordId":"5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5",
                "relationshipName":"{entity}_msdyn_ocliveworkitems","recordDetails":{{"a":1}}}}"#
        );
        let record = RecordCreated::parse(body.as_bytes()).expect("well formed");
        let admission = admit(&config.effective.catalog, &caller, record);
        assert!(matches!(admission, Ok(Admission::Record(_))), "{entity}: {admission:?}");
    }
}
