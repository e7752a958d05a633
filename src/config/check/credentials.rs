//! Who may call: `[[api_keys]]` and `[[issuers]]`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::KnownOrganizations;
use super::routing_queue::{is_localhost, literal};
use crate::config::keys;
use crate::config::raw::{Field, Table, chosen};
use crate::config::settings::{ApiKeySettings, CredentialSettings, IssuerSettings, TokenAlgorithm};
use crate::config::source::Place;
use crate::config::stored::ApiKeyRequest;
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::{Guid, excerpt};
use crate::domain::time::Timestamp;

/// SHA-256 of nothing: what a script stores when the variable with the key was not set.
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Checks every credential against the organizations that there are.
pub(super) fn credentials(main: &Table<'_>, organizations: &dyn KnownOrganizations) -> CredentialSettings {
    let mut names = HashMap::new();
    let mut hashes = HashMap::new();
    let mut api_keys = Vec::new();
    for table in main.tables("api_keys", keys::API_KEY) {
        let name = name(&table, &mut names);
        let sha256 = sha256(&table, &mut hashes);
        let key = (permissions(&table), scope(&table, organizations), expires(&table));
        if let (Some(name), Some(sha256), (permissions, organizations, expires)) = (name, sha256, key) {
            api_keys.push(ApiKeySettings { name, sha256, permissions, organizations, expires });
        }
    }
    let mut issuers_seen = HashMap::new();
    let tables = main.tables("issuers", keys::ISSUER);
    let issuers = tables.iter().filter_map(|table| issuer(table, organizations, &mut names, &mut issuers_seen));
    CredentialSettings { issuers: issuers.collect(), api_keys, stored_api_keys: Vec::new() }
}

/// Checks what `POST /admin/v1/api-keys` asks for.
pub(super) fn api_key_request(table: &Table<'_>, organizations: &dyn KnownOrganizations) -> Option<ApiKeyRequest> {
    let name = table.required_string("name").and_then(|field| {
        let name = field.value.trim();
        // Nothing that looks like another name: it stands in logs and in the trail.
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
            field.at.fault("`name` must be 1 to 100 visible ASCII characters");
            return None;
        }
        Some(name.into())
    });
    let permissions = permissions(table);
    let organizations = scope(table, organizations);
    let expires = expires(table);
    Some(ApiKeyRequest { name: name?, permissions, organizations, expires })
}

fn name<'a>(table: &Table<'a>, names: &mut HashMap<&'a str, Place<'a>>) -> Option<Arc<str>> {
    let field = table.required_string("name")?;
    super::visible_text("name", field, 100)?;
    super::unique("credential", field.value, field.at, names, excerpt(field.value).as_str());
    Some(field.value.into())
}

fn sha256<'a>(table: &Table<'a>, hashes: &mut HashMap<[u8; 32], Place<'a>>) -> Option<[u8; 32]> {
    let field = table.required_string("sha256")?;
    let Some(hash) = from_hex(field.value) else {
        // Not quoted: somebody may have put the key itself here.
        let hint = "`streamgate keys new` prints a key and the line to put here";
        field.at.hinted("`sha256` must be 64 hex digits: the SHA-256 of the key, never the key", hint);
        return None;
    };
    if field.value.eq_ignore_ascii_case(SHA256_OF_NOTHING) {
        field.at.hinted("`sha256` is the hash of an empty key", "make a key with `streamgate keys new`");
    }
    super::unique("API key", hash, field.at, hashes, "the same `sha256`");
    Some(hash)
}

/// Reads 64 hex digits.
pub(in crate::config) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        let digit = |ascii: u8| char::from(ascii).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(hash)
}

fn permissions(table: &Table<'_>) -> BTreeSet<Permission> {
    let choices = Permission::ALL.map(|permission| (permission.name(), permission));
    table.some_strings("permissions").into_iter().filter_map(|word| chosen("permissions", word, &choices)).collect()
}

/// `"*"`, or a list of organizations by unique name or GUID.
fn scope(table: &Table<'_>, organizations: &dyn KnownOrganizations) -> OrganizationScope {
    const KEY: &str = "organizations";
    if table.is_string(KEY) {
        if let Some(field) = table.string(KEY).filter(|field| field.value != "*") {
            let message = format!("`{KEY}` must be \"*\" or a list, not \"{}\"", excerpt(field.value));
            field.at.hinted(message, "write the organizations in brackets: [\"contoso\"]");
        }
        return OrganizationScope::All;
    }
    let mut only = BTreeSet::new();
    for field in table.some_strings(KEY) {
        if field.value == "*" {
            field.at.hinted("\"*\" stands alone", format!("write {KEY} = \"*\""));
        } else if let Some(id) = organizations.find(field.value) {
            only.insert(id);
        } else if organizations.is_complete() {
            let message = format!("there is no organization `{}`", excerpt(field.value));
            match organizations.nearest(field.value) {
                Some(name) => field.at.hinted(message, format!("did you mean `{name}`?")),
                None => field.at.hinted(message, "name one by its unique name or its GUID, or all with \"*\""),
            }
        }
    }
    OrganizationScope::Only(only)
}

fn expires(table: &Table<'_>) -> Option<Timestamp> {
    let field = table.moment_text("expires")?;
    let moment = field.value.parse::<jiff::Timestamp>();
    if moment.is_err() {
        let message = format!("`expires`: `{}` is not a moment as in RFC 3339", excerpt(&field.value));
        field.at.hinted(message, "write date, time and offset, such as \"2027-01-31T00:00:00Z\"");
    }
    moment.ok().map(|moment| Timestamp::from_millis(moment.as_millisecond()))
}

fn issuer<'a>(
    table: &Table<'a>,
    organizations: &dyn KnownOrganizations,
    names: &mut HashMap<&'a str, Place<'a>>,
    issuers_seen: &mut HashMap<&'a str, Place<'a>>,
) -> Option<IssuerSettings> {
    let name = name(table, names);
    let issuer = table.required_string("issuer").and_then(|field| {
        super::visible_text("issuer", field, 512)?;
        super::unique("issuer", field.value, field.at, issuers_seen, excerpt(field.value).as_str());
        Some(field.value)
    });
    let jwks_url = jwks_url(table);
    let algorithms = algorithms(table);
    let audiences = texts(table.some_strings("audiences"), "audiences");
    let tenant = tenant(table, issuer);
    let version = table.string("version").and_then(|field| super::visible_text("version", field, 32));
    let clients = texts(table.strings("clients").unwrap_or_default(), "clients");
    let hours = Duration::from_secs(60 * 60);
    let max_lifetime = table.duration("max_lifetime_hours", hours, 0.01..=28.0);
    let permissions = permissions(table);
    let organizations = scope(table, organizations);
    Some(IssuerSettings {
        name: name?,
        issuer: issuer?.into(),
        jwks_url: jwks_url?,
        algorithms,
        audiences,
        tenant,
        version,
        clients: clients.into_iter().collect(),
        permissions,
        organizations,
        max_lifetime: max_lifetime.unwrap_or(hours * 24),
    })
}

fn texts(fields: Vec<Field<'_, &str>>, key: &str) -> Vec<Box<str>> {
    fields.into_iter().filter_map(|field| super::visible_text(key, field, 512)).collect()
}

fn algorithms(table: &Table<'_>) -> Vec<TokenAlgorithm> {
    let choices = [("RS256", TokenAlgorithm::Rs256), ("ES256", TokenAlgorithm::Es256)];
    let mut algorithms = Vec::new();
    for word in table.some_strings("algorithms") {
        if let Some(algorithm) = chosen("algorithms", word, &choices).filter(|chosen| !algorithms.contains(chosen)) {
            algorithms.push(algorithm);
        }
    }
    algorithms
}

/// A Microsoft Entra tenant stands in the name of its issuer, in both versions of its tokens.
fn tenant(table: &Table<'_>, issuer: Option<&str>) -> Option<Guid> {
    let tenant = table.parsed("tenant", Guid::parse)?;
    if issuer.is_some_and(|issuer| !issuer.to_ascii_lowercase().contains(&tenant.to_string())) {
        let message = format!("`issuer` does not name the tenant {tenant}");
        table.place_of("tenant").hinted(message, "take both from the same tenant, or leave `tenant` out");
    }
    Some(tenant)
}

fn jwks_url(table: &Table<'_>) -> Option<Url> {
    let field = table.required_string("jwks_url")?;
    let url = field.parsed("jwks_url", |text| Url::parse(text).map_err(|error| format!("is not a URL: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    let on_this_machine =
        literal(host).map_or_else(|| is_localhost(host), |address| address.to_canonical().is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if on_this_machine => {}
        _ => field.at.hinted("`jwks_url` must be https", "http is allowed only to this machine"),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        field.at.fault("`jwks_url` holds a user name, a password or a fragment; leave it out");
    }
    Some(url)
}
