//! Bearer tokens under fuzzing: what is taken for one is held to what a plain reader of JSON sees in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;
use serde_json::value::RawValue;

use super::claims;
use super::members::Members;
use super::token::{Header, MAX_TOKEN_BYTES, Parts, REFUSED_MEMBERS, bearer_token};
use crate::config::settings::{IssuerSettings, TokenAlgorithm};
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::Guid;
use crate::domain::time::Timestamp;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const AUDIENCE: &str = "api://streamgate";
/// The moment at which tokens are judged, in seconds.
const NOW: i64 = 1_700_000_000;

static ISSUER: LazyLock<Option<IssuerSettings>> = LazyLock::new(|| {
    Some(IssuerSettings {
        name: "entra".into(),
        issuer: "https://login.example.com/".into(),
        jwks_url: Url::parse("https://login.example.com/keys").ok()?,
        algorithms: vec![TokenAlgorithm::Rs256],
        audiences: vec![AUDIENCE.into()],
        tenant: Some(Guid::parse(TENANT).ok()?),
        version: Some("2.0".into()),
        clients: BTreeSet::new(),
        permissions: BTreeSet::from([Permission::RecordsWrite]),
        organizations: OrganizationScope::All,
        max_lifetime: Duration::from_secs(24 * 3_600),
    })
});

/// An `Authorization` header field.
pub(crate) fn authorization(bytes: &[u8]) {
    let Ok(token) = bearer_token(bytes) else { return };
    assert!(!token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
    let Ok(parts) = Parts::of(token) else { return };
    assert_eq!(format!("{}.{}.{}", parts.header, parts.claims, parts.signature), token);
    if let Some(text) = super::members::decode_text(parts.header) {
        header(text.as_bytes());
    }
}

/// A JOSE header, as text.
pub(crate) fn header(text: &[u8]) {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let Ok(read) = Header::read(&encoded) else { return };
    let Some(plain) = plainly(text) else { return };
    assert!(matches!(plain["alg"].as_str(), Some("RS256" | "ES256")), "{plain}");
    assert_eq!(plain["kid"].as_str(), Some(read.kid.as_str()), "{plain}");
    assert!(REFUSED_MEMBERS.iter().all(|name| plain.get(name).is_none()), "{plain}");
}

/// Claims, as text.
pub(crate) fn claims(text: &[u8]) {
    let (Ok(text), Some(issuer)) = (std::str::from_utf8(text), ISSUER.as_ref()) else { return };
    let Ok(members) = Members::parse(text) else { return };
    let Ok(accepted) = claims::check(&members, issuer, Timestamp::from_millis(NOW * 1_000)) else { return };
    let Some(plain) = plainly(text.as_bytes()) else { return };
    let seconds = |name: &str| plain[name].as_i64().unwrap_or(i64::MIN);
    let (expires, not_before, issued) = (seconds("exp"), seconds("nbf"), seconds("iat"));
    assert!(expires > NOW - 30 && not_before <= NOW + 30 && issued <= NOW + 30, "{plain}");
    assert!((1..=24 * 3_600).contains(&expires.saturating_sub(issued)), "{plain}");
    assert!(accepted.valid.end == expires && accepted.valid.start >= not_before.saturating_sub(30), "{plain}");
    let audience = &plain["aud"];
    let ours = |value: &Value| value.as_str() == Some(AUDIENCE);
    assert!(ours(audience) || audience.as_array().is_some_and(|all| all.iter().any(ours)), "{plain}");
    let is = |name: &str, wanted: &str| plain[name].as_str().is_some_and(|said| said.eq_ignore_ascii_case(wanted));
    assert!(is("tid", TENANT) && is("ver", "2.0"), "{plain}");
    assert!(plain.get("at_hash").is_none() && plain.get("c_hash").is_none(), "{plain}");
    assert!(plain.get("nonce").is_none() || plain.get("scp").is_some(), "{plain}");
    assert_eq!(accepted.permissions, BTreeSet::from([Permission::RecordsWrite]), "{plain}");
    let roles = plain["roles"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let scopes = plain["scp"].as_str().unwrap_or_default().split(' ');
    assert!(roles.chain(scopes).any(|name| name == "records.write"), "{plain}");
    assert!(accepted.client.is_none_or(|client| is("azp", &client) || is("appid", &client)), "{plain}");
}

/// What was taken, read by somebody else. A member that nobody looks at may hold what has the grammar of JSON and is still
/// no value to that reader (a number out of its range, half of a surrogate pair); it is only there, then.
fn plainly(text: &[u8]) -> Option<Value> {
    let members = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(text);
    assert!(members.is_ok(), "taken, and no JSON object: {members:?}");
    let value = |raw: Box<RawValue>| serde_json::from_str::<Value>(raw.get()).unwrap_or_default();
    Some(members.ok()?.into_iter().map(|(name, raw)| (name, value(raw))).collect())
}
