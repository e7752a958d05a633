//! The claims that a token must make, by the settings of its issuer.
//!
//! Missing is refused like wrong: `aud`, `exp`, `nbf` and `iat` are required, and all times are whole seconds. Times
//! are compared with 30 s of leeway on each side and never overflow, whatever the token or the clock says.
//!
//! What a caller may do is what `roles` and `scp` name, cut down to what the configuration lets the issuer give; a token
//! that gives nothing is no credential. ID tokens are told apart by what only they carry: `at_hash`, `c_hash`, or a
//! `nonce` without `scp` (the ID tokens of Microsoft Entra can carry `roles`, but never `scp`). Where the issuer lists
//! clients, `azp` and `appid` must be on the list and `idtyp` must be `app`; Entra sends `idtyp` only if the
//! application's registration asks for that optional claim.

use std::collections::BTreeSet;
use std::ops::Range;

use super::error::TokenFault;
use super::members::Members;
use crate::config::settings::IssuerSettings;
use crate::domain::access::Permission;
use crate::domain::time::Timestamp;

/// How far two clocks may be apart.
const LEEWAY_SECONDS: i64 = 30;

/// What the claims of a token that meets the profile come to.
#[derive(Debug)]
pub(super) struct Accepted {
    /// What the caller may do.
    pub(super) permissions: BTreeSet<Permission>,
    /// The application that calls, where the token says so.
    pub(super) client: Option<String>,
    /// The seconds since 1970 between which the answer stays the same; it ends at `exp`, without leeway.
    pub(super) valid: Range<i64>,
}

/// Checks every claim but `iss`, by which the issuer was found.
pub(super) fn check(claims: &Members<'_>, issuer: &IssuerSettings, now: Timestamp) -> Result<Accepted, TokenFault> {
    check_audience(claims, issuer)?;
    let valid = check_times(claims, issuer, now)?;
    check_tenant(claims, issuer)?;
    let id_token = claims.has("at_hash") || claims.has("c_hash") || (claims.has("nonce") && !claims.has("scp"));
    if id_token {
        return Err(TokenFault::IdToken);
    }
    let client = check_client(claims, issuer)?;
    let permissions = permissions(claims, issuer)?;
    Ok(Accepted { permissions, client, valid })
}

fn check_audience(claims: &Members<'_>, issuer: &IssuerSettings) -> Result<(), TokenFault> {
    let wrong_type = TokenFault::Claim { claim: "aud" };
    let ours = |audience: &str| issuer.audiences.iter().any(|configured| **configured == *audience);
    let is_ours = match claims.require::<String>("aud") {
        Ok(audience) => ours(&audience),
        Err(_) => {
            let audiences: Vec<String> = claims.require("aud").map_err(|_| wrong_type)?;
            audiences.iter().any(|audience| ours(audience))
        }
    };
    if is_ours { Ok(()) } else { Err(TokenFault::Audience) }
}

fn check_times(claims: &Members<'_>, issuer: &IssuerSettings, now: Timestamp) -> Result<Range<i64>, TokenFault> {
    let time = |claim: &'static str| claims.require::<i64>(claim).map_err(|_| TokenFault::Claim { claim });
    let (expires, not_before, issued) = (time("exp")?, time("nbf")?, time("iat")?);
    let now = now.seconds();
    let latest_start = now.saturating_add(LEEWAY_SECONDS);
    if expires <= now.saturating_sub(LEEWAY_SECONDS) {
        return Err(TokenFault::Expired);
    }
    if not_before > latest_start {
        return Err(TokenFault::NotYetValid);
    }
    if issued > latest_start {
        return Err(TokenFault::IssuedInFuture);
    }
    let max_lifetime = i64::try_from(issuer.max_lifetime.as_secs()).unwrap_or(i64::MAX);
    let lifetime = expires.saturating_sub(issued);
    if lifetime <= 0 || lifetime > max_lifetime {
        return Err(TokenFault::Lifetime);
    }
    Ok(not_before.max(issued).saturating_sub(LEEWAY_SECONDS)..expires)
}

fn check_tenant(claims: &Members<'_>, issuer: &IssuerSettings) -> Result<(), TokenFault> {
    let is = |claim: &'static str, wanted: &str| {
        let said: String = claims.require(claim).map_err(|_| TokenFault::Claim { claim })?;
        Ok::<bool, TokenFault>(said.eq_ignore_ascii_case(wanted))
    };
    if let Some(tenant) = issuer.tenant
        && !is("tid", &tenant.to_string())?
    {
        return Err(TokenFault::Tenant);
    }
    if let Some(version) = &issuer.version
        && !is("ver", version)?
    {
        return Err(TokenFault::Version);
    }
    Ok(())
}

/// The application that calls: `azp` (version 2) or `appid` (version 1); where both stand, both must be allowed.
fn check_client(claims: &Members<'_>, issuer: &IssuerSettings) -> Result<Option<String>, TokenFault> {
    let client = |claim: &'static str| claims.get::<String>(claim).map_err(|_| TokenFault::Claim { claim });
    let said = [client("azp")?, client("appid")?];
    if !issuer.clients.is_empty() {
        let mut clients = said.iter().flatten().peekable();
        if clients.peek().is_none() || !clients.all(|client| issuer.clients.contains(client.as_str())) {
            return Err(TokenFault::Client);
        }
        if claims.get::<String>("idtyp").ok().flatten().as_deref() != Some("app") {
            return Err(TokenFault::NotAnApplication);
        }
    }
    Ok(said.into_iter().flatten().next())
}

fn permissions(claims: &Members<'_>, issuer: &IssuerSettings) -> Result<BTreeSet<Permission>, TokenFault> {
    let roles: Option<Vec<String>> = claims.get("roles").map_err(|_| TokenFault::Claim { claim: "roles" })?;
    let scopes: Option<String> = claims.get("scp").map_err(|_| TokenFault::Claim { claim: "scp" })?;
    let roles = roles.iter().flatten().map(String::as_str);
    let scopes = scopes.iter().flat_map(|scopes| scopes.split(' '));
    let given: BTreeSet<Permission> = roles.chain(scopes).filter_map(Permission::named).collect();
    let allowed: BTreeSet<Permission> = given.intersection(&issuer.permissions).copied().collect();
    if allowed.is_empty() { Err(TokenFault::NoPermission) } else { Ok(allowed) }
}
