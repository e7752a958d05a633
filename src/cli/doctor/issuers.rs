//! The token issuers: are their keys to be had, by the client and the rules of the gateway, and does what they say about
//! themselves fit the configuration.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Url;

use super::finding::{Check, Finding, Group, capped, list_in_words};
use super::{Scene, Tell, destinations, without_configuration};
use crate::config::settings::IssuerSettings;
use crate::http::keys::{JwksService, JwksStatus, Metadata, discover};

/// Variables that name a proxy, for others.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// A fetch that takes longer is near its deadline, five seconds.
const SLOW: Duration = Duration::from_secs(2);
/// How long the metadata is waited for.
const METADATA_DEADLINE: Duration = Duration::from_secs(3);

/// Tells about the issuers.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let set: Vec<_> =
        PROXIES.into_iter().filter(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty())).collect();
    tell.one(proxy(&set));
    let Some(config) = scene.config() else { return tell.one(without_configuration(Group::Issuers)) };
    let issuers = &config.effective.credentials.issuers;
    if issuers.is_empty() {
        let found = "no issuer is configured: callers use API keys";
        return tell.all([Check::IssuerKeys, Check::IssuerMetadata].map(|check| Finding::ok(check, found)));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return tell.one(destinations::no_runtime(Group::Issuers, &fault)),
    };
    runtime.block_on(join_all(issuers.iter().map(|issuer| look_at(issuer, tell))));
    runtime.shutdown_background();
}

async fn look_at(issuer: &IssuerSettings, tell: &Tell) {
    let begun = Instant::now();
    // A service of its own, so that the time is this issuer's.
    let watched = JwksService::new(tokio::runtime::Handle::current()).watch(issuer);
    watched.fetched(1).await;
    tell.one(keys(&watched.status(), begun.elapsed()).about(issuer.name.to_string()));
    let said = discover(&issuer.issuer, METADATA_DEADLINE).await;
    tell.one(metadata(issuer, said).about(issuer.name.to_string()));
}

fn proxy(set: &[&str]) -> Finding {
    if set.is_empty() {
        return Finding::ok(Check::Proxy, "the environment names none");
    }
    let consequence =
        "it is ignored for keys and deliveries: they connect directly, and fail where only the proxy gets out";
    Finding::note(Check::Proxy, format!("{} is set", list_in_words(set)), consequence)
        .mend("let the gateway's machine reach issuers and destinations directly")
}

fn keys(status: &JwksStatus, took: Duration) -> Finding {
    let check = Check::IssuerKeys;
    let millis = took.as_millis();
    let measured = serde_json::json!({
        "usable": status.keys, "skipped": status.skipped_keys, "milliseconds": u64::try_from(millis).unwrap_or(u64::MAX),
    });
    let finding = if let Some(fault) = status.last_error.as_deref().filter(|_| !status.usable) {
        let consequence =
            "its bearer tokens get 503 keys-unavailable; a gateway that runs goes by the keys it has for 24 hours";
        let mend =
            "is `jwks_url` right, and can this machine reach it directly? Redirects are not followed, proxies not used";
        Finding::fault(check, format!("none from {}: {fault}", shown(&status.jwks_url)), consequence, mend)
    } else {
        let skipped = match status.skipped_keys {
            0 => String::new(),
            skipped => format!(", {skipped} that are not for this issuer or algorithm"),
        };
        let found = format!("{} usable{skipped}; fetched in {millis} ms", status.keys);
        if took > SLOW {
            let consequence = "a fetch is given up after 5 s; then its tokens go by old keys, or get 503";
            Finding::warning(check, found, consequence, "look at the way to the issuer, and at the name service")
        } else {
            Finding::ok(check, found)
        }
    };
    finding.measured(measured)
}

/// An address without its query, which may hold a key.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.to_string()
}

/// Whether an issuer's metadata (OpenID Connect Discovery 1.0, section 3) says what the configuration says.
fn metadata(issuer: &IssuerSettings, said: Result<Option<Metadata>, String>) -> Finding {
    let check = Check::IssuerMetadata;
    let said = match said {
        Ok(Some(said)) => said,
        Ok(None) => return Finding::ok(check, "not asked: `issuer` is no https address"),
        Err(fault) => {
            let found = format!("not to be had: {fault}");
            let consequence = "the gateway does without; whether `issuer` and `jwks_url` belong together is not told";
            return Finding::note(check, found, consequence);
        }
    };
    if said.issuer.as_deref().is_some_and(|named| *named != *issuer.issuer) {
        let found =
            format!("names itself `{}`, and `issuer` is `{}`", capped(&said.issuer.unwrap_or_default()), issuer.issuer);
        let consequence = "its tokens carry its own name, and get 401";
        return Finding::warning(check, found, consequence, "put the exact `iss` of its tokens into `issuer`");
    }
    if said.jwks_uri.as_deref().is_some_and(|uri| uri != issuer.jwks_url.as_str()) {
        let theirs = capped(&said.jwks_uri.unwrap_or_default());
        let found = format!("its keys are at {theirs}, and `jwks_url` is {}", shown(&issuer.jwks_url));
        let consequence = "keys that it signs with may be missing there, now or after its next rotation";
        return Finding::warning(
            check,
            found,
            consequence,
            "put that address into `jwks_url`, unless another one is meant",
        );
    }
    Finding::ok(check, "it names the configured issuer and keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Severity;
    use crate::config::settings::TokenAlgorithm;
    use crate::domain::access::OrganizationScope;

    fn issuer() -> IssuerSettings {
        IssuerSettings {
            name: "i".into(),
            issuer: "https://i.example.com".into(),
            jwks_url: "https://i.example.com/keys".parse().expect("a URL"),
            algorithms: vec![TokenAlgorithm::Rs256],
            audiences: Vec::new(),
            tenant: None,
            version: None,
            clients: std::collections::BTreeSet::new(),
            permissions: std::collections::BTreeSet::new(),
            organizations: OrganizationScope::All,
            max_lifetime: Duration::from_secs(1),
        }
    }

    #[test]
    fn keys_are_counted_and_failures_explained() {
        let status = JwksStatus {
            issuer: "https://i.example.com".into(),
            jwks_url: issuer().jwks_url,
            last_success: None,
            age: Some(Duration::ZERO),
            usable: true,
            keys: 2,
            skipped_keys: 5,
            fetches: 1,
            failures: 0,
            last_error: None,
        };
        let quick = Duration::from_millis(80);
        assert_eq!(
            keys(&status, quick).found,
            "2 usable, 5 that are not for this issuer or algorithm; fetched in 80 ms"
        );
        assert_eq!(keys(&status, Duration::from_secs(4)).severity, Severity::Warning);
        let failed =
            JwksStatus { usable: false, keys: 0, last_error: Some("the answer has status 404".into()), ..status };
        let finding = keys(&failed, quick);
        assert!(finding.severity == Severity::Fault && finding.found.contains("status 404"), "{finding:?}");
    }

    #[test]
    fn what_an_issuer_says_about_itself_is_compared() {
        let said = |issuer: &str, uri: &str| {
            Ok(Some(Metadata { issuer: Some(issuer.to_owned()), jwks_uri: Some(uri.to_owned()) }))
        };
        for (said, severity) in [
            (said("https://i.example.com", "https://i.example.com/keys"), Severity::Ok),
            (said("https://other.example.com", "https://i.example.com/keys"), Severity::Warning),
            (said("https://i.example.com", "https://i.example.com/others"), Severity::Warning),
            (Ok(Some(Metadata { issuer: None, jwks_uri: None })), Severity::Ok),
            (Ok(None), Severity::Ok),
            (Err("404".to_owned()), Severity::Note),
        ] {
            assert_eq!(metadata(&issuer(), said.clone()).severity, severity, "{said:?}");
        }
        assert_eq!(proxy(&["HTTPS_PROXY"]).severity, Severity::Note);
    }
}
