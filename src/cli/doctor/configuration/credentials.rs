//! Who may call: API keys and issuers, and how much of a key there is to lose.

use std::collections::BTreeSet;
use std::time::Duration;

use super::or_ok;
use crate::cli::doctor::finding::{Check, Finding, list_in_words};
use crate::config::settings::{ApiKeySettings, CredentialSettings, IssuerSettings};
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::time::Timestamp;
use crate::http::keys;

/// The key whose hash stands in the manual, as an example.
const EXAMPLE_KEY: &str = "12345";
/// Keys that end so soon are told, so that there is time to replace them.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What the credentials mean.
pub(super) fn judge(credentials: &CredentialSettings, now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![development_key(credentials)];
    let all = credentials.api_keys.iter().chain(&credentials.stored_api_keys).collect::<Vec<_>>();
    let mut told = api_keys(&all, now);
    told.extend(credentials.issuers.iter().filter_map(issuer));
    let fine = match (all.len(), credentials.issuers.len()) {
        (0, 0) => "none but the development key".to_owned(),
        (keys, issuers) => format!("API keys: {keys}, issuers: {issuers}, each with an end and a scope"),
    };
    findings.extend(or_ok(told, Check::Credentials, &fine));
    findings
}

fn development_key(credentials: &CredentialSettings) -> Finding {
    let check = Check::DevelopmentKey;
    if !credentials.is_empty() {
        return Finding::ok(check, "does not count: credentials are configured");
    }
    let consequence =
        "whoever can read the data directory's development.key may do everything, and there is one key for all callers";
    let mend = "before others use it: `streamgate keys new`, and put its lines into the configuration";
    Finding::warning(check, "no credential is configured, so the development key counts", consequence, mend)
}

fn api_keys(keys: &[&ApiKeySettings], now: Timestamp) -> Vec<Finding> {
    let check = Check::Credentials;
    let mut findings = Vec::new();
    let names = |with: &dyn Fn(&ApiKeySettings) -> bool| -> Vec<String> {
        keys.iter().filter(|key| with(key)).map(|key| key.name.to_string()).collect()
    };
    let example = keys::hash(EXAMPLE_KEY);
    let known = names(&|key| key.sha256 == example);
    if !known.is_empty() {
        let found = format!("{}: the hash is the example of the manual", list_in_words(&known));
        let consequence = "everybody who has read the manual has this key";
        findings.push(Finding::fault(check, found, consequence, "replace it by one of `streamgate keys new`"));
    }
    let ended = names(&|key| key.expires.is_some_and(|end| end <= now));
    if !ended.is_empty() {
        let found = format!("{} ended", list_in_words(&ended));
        findings.push(Finding::note(check, found, "callers that still use one get 401; otherwise the lines can go"));
    }
    let soon = names(&|key| key.expires.is_some_and(|end| end > now && end <= now.after(SOON)));
    if !soon.is_empty() {
        let found = format!("{} will end within {} days", list_in_words(&soon), SOON.as_secs() / 86_400);
        let consequence = "callers that use one get 401 from then on, and flows do not retry that";
        let mend = "make a new key beside it, move the callers, and let the old one end";
        findings.push(Finding::warning(check, found, consequence, mend));
    }
    let endless = |key: &ApiKeySettings| key.expires.is_none();
    let administrators = names(&|key| endless(key) && key.permissions.contains(&Permission::Admin));
    if !administrators.is_empty() {
        let found = format!("{} may administer, and never end", list_in_words(&administrators));
        let consequence = "one that gets lost opens everything until somebody notices";
        findings.push(Finding::warning(
            check,
            found,
            consequence,
            "give each an `expires`, or a life of its own by rotation",
        ));
    }
    let others = names(&|key| endless(key) && !key.permissions.contains(&Permission::Admin));
    if !others.is_empty() {
        let found = format!("{} never end", list_in_words(&others));
        findings.push(
            Finding::note(check, found, "one that gets lost counts until somebody takes it out")
                .mend("give each an `expires`"),
        );
    }
    let everything =
        names(&|key| key.permissions == BTreeSet::from(Permission::ALL) && key.organizations == OrganizationScope::All);
    if !everything.is_empty() {
        let found = format!("{} may do everything for every organization", list_in_words(&everything));
        findings.push(Finding::note(
            check,
            found,
            "flows need `records.write` for their own organization, and no more",
        ));
    }
    findings
}

fn issuer(issuer: &IssuerSettings) -> Option<Finding> {
    let check = Check::Credentials;
    let IssuerSettings { name, clients, permissions, organizations, .. } = issuer;
    let finding = if permissions.contains(&Permission::Admin) && clients.is_empty() {
        let found = "its tokens may administer, whichever application they are for";
        let consequence = "whoever may give roles at the issuer may make administrators of this gateway";
        Finding::warning(check, found, consequence, "name the applications in `clients`, or leave `admin` out")
    } else if clients.is_empty() && *organizations == OrganizationScope::All {
        let found = "its tokens count for every organization, whichever application they are for";
        Finding::note(check, found, "the issuer alone decides who may call; `clients` and `organizations` narrow it")
    } else {
        return None;
    };
    Some(finding.about(name.to_string()))
}
