//! Certificates of the listeners: what is refused, with what advice, and what a reload does with them.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::*;
use crate::config::settings::PublicScheme;
use crate::config::{Live, ReloadOutcome};

const TLS: &str = "[tls]\ncertificate_file = \"c.pem\"\nprivate_key_file = \"k.pem\"\n";

fn with_pair() -> Files {
    let files = Files::new(TLS, &[("contoso.toml", CONTOSO)]);
    files.write_pair("c.pem", "k.pem");
    files
}

#[test]
fn a_pair_makes_a_listener_speak_tls() {
    let files = with_pair();
    let config = files.load().expect("no fault");
    assert!(config.process.tls && !config.process.admin_tls);
    assert_eq!(config.process.public_scheme, PublicScheme::Https, "callers see what the listener speaks");
    let identity = config.effective.identities.public.expect("an identity");
    assert_eq!(identity.validity().not_after.to_string(), "2999-01-01T00:00:00.000Z");
    assert!(config.effective.identities.admin.is_none());
}

#[test]
fn the_key_may_stand_in_the_environment() {
    let files = with_pair();
    let key = std::fs::read_to_string(files.path("k.pem")).expect("the key");
    files.write("streamgate.toml", &TLS.replace("private_key_file = \"k.pem\"", "private_key_env = \"KEY\""));
    assert!(files.faults()[0].starts_with("streamgate.toml:3: the environment variable `KEY` is not set"));
    let outside = Outside { environment: &|name| (name == "KEY").then(|| key.clone()), ..NOTHING_OUTSIDE };
    let config = read_with(&files.origin(), &files.overrides(), None, &outside).outcome.expect("no fault");
    assert!(config.effective.identities.public.is_some());
}

#[test]
fn what_cannot_be_used_is_a_fault_at_its_line() {
    let files = with_pair();
    let [pair, key] = ["c.pem", "k.pem"].map(|name| std::fs::read_to_string(files.path(name)).expect("PEM"));
    files.write_pair("other.pem", "other-key.pem");
    let other_key = std::fs::read_to_string(files.path("other-key.pem")).expect("PEM");
    for (certificate, private_key, expected) in [
        (&*pair, &*other_key, "streamgate.toml:3: the private key in FOLDER/k.pem does not belong to the certificate"),
        ("", &key, "streamgate.toml:2: the certificate file FOLDER/c.pem holds no certificate"),
        (&key, &key, "streamgate.toml:2: the certificate file FOLDER/c.pem holds no certificate"),
        (&pair, "", "streamgate.toml:3: the private key in FOLDER/k.pem is empty"),
        (&pair, &pair, "streamgate.toml:3: the private key in FOLDER/k.pem is no private key"),
        (&pair[..100], &key, "streamgate.toml:2: the certificate file FOLDER/c.pem is not valid PEM"),
    ] {
        files.write("c.pem", certificate);
        files.write("k.pem", private_key);
        let found = files.faults();
        let expected = expected.replace("FOLDER", files.path("").display().to_string().trim_end_matches('/'));
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{expected}: {found:?}");
    }
    std::fs::remove_file(files.path("c.pem")).expect("removed");
    std::fs::remove_file(files.path("k.pem")).expect("removed");
    let found = files.faults();
    assert!(found.len() == 2 && found.iter().all(|fault| fault.contains("cannot be read")), "{found:?}");

    files.write("streamgate.toml", "[tls]\n");
    let found = files.faults();
    assert_eq!(found.len(), 2, "{found:?}");
    files.write("streamgate.toml", "[admin_tls]\ncertificate = \"c.pem\"");
    assert!(files.faults().iter().any(|fault| fault.contains("unknown key `certificate` in [admin_tls]")));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let files = with_pair();
    let open =
        |mode| std::fs::set_permissions(files.path("k.pem"), std::fs::Permissions::from_mode(mode)).expect("set");
    open(0o644);
    let found = files.faults();
    assert!(found.len() == 1 && found[0].contains("others may read the private key file"), "{found:?}");
    open(0o400);
    assert_eq!(files.faults(), [""; 0]);
}

#[test]
fn a_reload_takes_another_pair_and_refuses_a_bad_one() {
    let files = with_pair();
    let live = Live::new(files.load().expect("no fault"));
    let in_use = || live.current().identities.public.clone().expect("an identity");
    let first = in_use();
    assert_eq!(live.reload(), Ok(ReloadOutcome::Unchanged));
    assert!(Arc::ptr_eq(first.certified_key(), in_use().certified_key()));

    files.write_pair("c.pem", "k.pem");
    assert!(matches!(live.reload(), Ok(ReloadOutcome::Applied { restart_needed, .. }) if restart_needed.is_empty()));
    let second = in_use();
    assert_ne!(first.certified_key().cert, second.certified_key().cert);

    files.write_pair("c.pem", "elsewhere.pem");
    assert!(live.reload().expect_err("a fault").to_string().contains("does not belong"));
    assert!(!live.status().ok);
    assert!(Arc::ptr_eq(second.certified_key(), in_use().certified_key()));

    files.write_pair_until("c.pem", "k.pem", 2_001);
    let faults = live.reload().expect_err("a fault").to_string();
    assert!(faults.contains("has expired at 2001-01-01T00:00:00.000Z, and the one in use still counts"), "{faults}");
    assert!(Arc::ptr_eq(second.certified_key(), in_use().certified_key()));

    files.write_pair("c.pem", "k.pem");
    assert!(live.reload().is_ok() && live.status().ok);
}

#[test]
fn an_expired_certificate_is_a_warning_at_a_start() {
    let files = with_pair();
    files.write_pair_until("c.pem", "k.pem", 2_001);
    let config = files.load().expect("no fault");
    assert!(files.short(&config.warnings[0]).contains("has expired at 2001-01-01"), "{:?}", config.warnings);
    let live = Live::new(config);
    assert!(live.reload().is_ok(), "it is in use already, so a reload goes on with it");
}

#[test]
fn to_speak_tls_or_not_needs_a_restart() {
    let files = with_pair();
    let live = Live::new(files.load().expect("no fault"));
    files.write("streamgate.toml", "public_scheme = \"https\"");
    let Ok(ReloadOutcome::Applied { restart_needed, .. }) = live.reload() else { panic!("applied") };
    assert_eq!(restart_needed, ["tls"]);
}

#[test]
fn keys_in_the_clear_are_warned_of() {
    let key = format!(
        "[[api_keys]]\nname = \"a\"\nsha256 = \"{}\"\npermissions = [\"records.write\"]\norganizations = \"*\"\n",
        "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    );
    let warnings = |settings: &str, rest: &str| -> Vec<String> {
        let files = Files::new(&format!("{settings}{rest}{key}"), &[("contoso.toml", CONTOSO)]);
        files.write_pair("c.pem", "k.pem");
        let config = files.load().expect("no fault");
        config.warnings.iter().map(|warning| files.short(warning)).collect()
    };
    let both = "listen = \"0.0.0.0:8080\"\nadmin_listen = \"[::]:8081\"\n";
    let found = warnings(both, "");
    assert!(found[0].starts_with("streamgate.toml:1: `listen` is 0.0.0.0:8080, and keys travel to it in the clear"));
    assert!(found[1].starts_with("streamgate.toml:2: `admin_listen` is [::]:8081"), "{found:?}");
    assert_eq!(warnings(both, TLS).len(), 1);
    assert_eq!(warnings(&format!("{both}public_scheme = \"https\"\n"), "").len(), 1, "something in front ends TLS");
    assert_eq!(warnings(both, &format!("{TLS}{}", TLS.replace("[tls]", "[admin_tls]"))), [""; 0]);
    assert_eq!(warnings("listen = \"127.0.0.2:8080\"\n", ""), [""; 0]);
    let wrong = warnings("public_scheme = \"http\"\n", TLS);
    assert!(wrong.len() == 1 && wrong[0].starts_with("streamgate.toml:1: `public_scheme` is \"http\""), "{wrong:?}");
}
