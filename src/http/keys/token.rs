//! Bearer tokens: from the header value to a verified caller.
//!
//! The order is: form, header, issuer, claims, key, signature. The token's own `iss` only *selects* a configured issuer;
//! from there on that issuer's settings and keys judge everything, so another issuer's key never helps. Claims come
//! before the signature because they cost less; nothing is believed before both are checked.
//!
//! The header is read strictly, by us, before a library sees the token. `typ` may be absent (RFC 7519 makes it
//! optional, and some issuers leave it out), `JWT`, or `at+jwt` with or without `application/` (RFC 9068).

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::Issuer;
use super::cache::VerifiedToken;
use super::claims;
use super::error::{AuthError, Cause, TokenFault};
use super::key_set::VerifyingKey;
use super::members::{Members, decode_text};
use crate::config::settings::TokenAlgorithm;
use crate::domain::access::Caller;
use crate::domain::ids::excerpt;
use crate::domain::time::Timestamp;

/// The longest token that is looked at.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest key ID that is looked up.
const MAX_KID_CHARS: usize = 256;
/// Members by which a token would choose its own key, or change what its signature means. Never followed: a token that
/// carries one is not from an issuer that meets the profile.
pub(super) const REFUSED_MEMBERS: [&str; 6] = ["crit", "b64", "jku", "jwk", "x5u", "x5c"];

/// The token in a value of `Authorization`: `Bearer` in any case, one blank, the token.
pub(super) fn bearer_token(authorization: &[u8]) -> Result<&str, Cause> {
    let text = std::str::from_utf8(authorization).map_err(|_| Cause::NotBearer)?;
    let (scheme, token) = text.split_once(' ').ok_or(Cause::NotBearer)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Cause::NotBearer);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Cause::Token { issuer: None, fault: TokenFault::TooLong });
    }
    Ok(token)
}

/// Verifies a token by the settings and the keys of the issuer that it names.
pub(super) fn verify(token: &str, issuers: &[Issuer], now: Timestamp) -> Result<VerifiedToken, AuthError> {
    let nameless = |fault| Cause::Token { issuer: None, fault };
    let parts = Parts::of(token).map_err(nameless)?;
    let header = Header::read(parts.header).map_err(nameless)?;
    let claims_text = decode_text(parts.claims);
    let not_claims = nameless(TokenFault::NotAnObject { part: "claims" });
    let claims = claims_text.as_deref().and_then(|text| Members::parse(text).ok()).ok_or(not_claims)?;
    let named: String = claims.require("iss").map_err(|_| nameless(TokenFault::Claim { claim: "iss" }))?;
    let position = issuers.iter().position(|issuer| *issuer.settings.issuer == *named);
    let (position, issuer) = position
        .and_then(|position| Some((position, issuers.get(position)?)))
        .ok_or_else(|| nameless(TokenFault::Issuer))?;

    let named = |fault| Cause::Token { issuer: Some(Arc::clone(&issuer.settings.name)), fault };
    if !issuer.settings.algorithms.contains(&header.algorithm) {
        return Err(named(TokenFault::Algorithm).into());
    }
    let accepted = claims::check(&claims, &issuer.settings, now).map_err(named)?;
    let keys = issuer.usable_keys()?;
    let Some(key) = keys.get(&header.kid) else {
        issuer.keys.request_refresh();
        return Err(named(TokenFault::UnknownKey).into());
    };
    check_signature(&parts, header.algorithm, key).map_err(named)?;

    let name = &issuer.settings.name;
    let credential = accepted.client.map_or_else(|| Arc::clone(name), |id| format!("{name}/{}", excerpt(&id)).into());
    let organizations = issuer.settings.organizations.clone();
    Ok(VerifiedToken {
        caller: Arc::new(Caller { credential, permissions: accepted.permissions, organizations }),
        valid: accepted.valid,
        issuer: position,
        kid: header.kid.into(),
        key_fingerprint: *key.fingerprint(),
    })
}

/// The three parts of a token, and the two of them that are signed.
pub(super) struct Parts<'t> {
    pub(super) header: &'t str,
    pub(super) claims: &'t str,
    pub(super) signature: &'t str,
    signed: &'t str,
}

impl<'t> Parts<'t> {
    pub(super) fn of(token: &'t str) -> Result<Self, TokenFault> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::NotThreeParts)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::NotThreeParts)?;
        if claims.contains('.') {
            return Err(TokenFault::NotThreeParts);
        }
        Ok(Self { header, claims, signature, signed })
    }
}

/// What counts in a token's header.
pub(super) struct Header {
    algorithm: TokenAlgorithm,
    pub(super) kid: String,
}

impl Header {
    pub(super) fn read(encoded: &str) -> Result<Self, TokenFault> {
        let not_a_header = TokenFault::NotAnObject { part: "header" };
        let text = decode_text(encoded).ok_or(not_a_header)?;
        let members = Members::parse(&text).map_err(|_| not_a_header)?;
        if let Some(member) = REFUSED_MEMBERS.into_iter().find(|member| members.has(member)) {
            return Err(TokenFault::HeaderMember { member });
        }
        let typ: Option<String> = members.get("typ").map_err(|_| TokenFault::Type)?;
        if typ.is_some_and(|typ| !is_access_token_type(&typ)) {
            return Err(TokenFault::Type);
        }
        let algorithm: String = members.require("alg").map_err(|_| TokenFault::Algorithm)?;
        let algorithm = algorithm_named(&algorithm).ok_or(TokenFault::Algorithm)?;
        let kid: String = members.require("kid").map_err(|_| TokenFault::KeyId)?;
        if is_key_id(&kid) { Ok(Self { algorithm, kid }) } else { Err(TokenFault::KeyId) }
    }
}

fn is_access_token_type(typ: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt"].iter().any(|allowed| typ.eq_ignore_ascii_case(allowed))
}

/// The algorithm of this exact name (RFC 7518 §3.1; names are case-sensitive).
pub(super) fn algorithm_named(name: &str) -> Option<TokenAlgorithm> {
    match name {
        "RS256" => Some(TokenAlgorithm::Rs256),
        "ES256" => Some(TokenAlgorithm::Es256),
        _ => None,
    }
}

/// Whether a text can be a key ID: not empty, bounded, without control characters.
pub(super) fn is_key_id(kid: &str) -> bool {
    !kid.is_empty() && kid.chars().count() <= MAX_KID_CHARS && !kid.chars().any(char::is_control)
}

fn check_signature(parts: &Parts<'_>, algorithm: TokenAlgorithm, key: &VerifyingKey) -> Result<(), TokenFault> {
    if key.algorithm() != algorithm {
        return Err(TokenFault::Algorithm);
    }
    let algorithm = match algorithm {
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Es256 => Algorithm::ES256,
    };
    match jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), key.decoding_key(), algorithm) {
        Ok(true) => Ok(()),
        // An error is a signature that is not even base64url.
        Ok(false) | Err(_) => Err(TokenFault::Signature),
    }
}
