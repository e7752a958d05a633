//! A JWKS document (RFC 7517), read with suspicion: what comes out are keys that may verify tokens, and nothing else.
//!
//! A key is skipped, and counted, unless it is RSA of 2048 to 4096 bits or EC on P-256, made for verifying signatures,
//! of an algorithm on the issuer's list, under a key ID, and without its private part (a published private key is
//! everybody's). A key that names its issuer, as those of Microsoft Entra do, must name ours: keys that are good for
//! personal accounts or for other tenants stand in the same documents. Where two usable keys have one ID, the first
//! counts. Version 1 tokens of Entra have another `iss` than the keys in its version 2 document name, so they need the
//! version 1 address, whose keys name none.
//!
//! A document without one usable key is refused as a whole, so it never replaces keys that work.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::members::{Members, WrongType};
use super::token::{algorithm_named, is_key_id};
use crate::config::settings::TokenAlgorithm;
use crate::domain::ids::Guid;

/// The most keys that a document may hold; real ones hold fewer than twenty.
const MAX_KEYS: usize = 1_000;
/// RSA sizes that are neither weak nor a way to keep our processors busy.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The smallest RSA public exponent (NIST SP 800-56B §6.2 wants more than 2^16); in practice there is no other.
const MIN_RSA_EXPONENT: u64 = 65_537;
/// Bytes of a coordinate on P-256 (RFC 7518 §6.2.1.2: always padded to full length).
const P256_COORDINATE_BYTES: usize = 32;

/// By which a document is read: the issuer's settings as far as they decide about its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRules {
    /// The exact `iss`.
    pub(super) issuer: Box<str>,
    /// The Entra tenant, which stands for `{tenantid}`.
    pub(super) tenant: Option<Guid>,
    /// The algorithms that its tokens may be signed with.
    pub(super) algorithms: Vec<TokenAlgorithm>,
}

/// The usable keys of a document.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: HashMap<Box<str>, VerifyingKey>,
    skipped: usize,
}

/// A public key of an issuer.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    algorithm: TokenAlgorithm,
    decoding_key: DecodingKey,
    fingerprint: [u8; 32],
}

/// Why a document is no key set.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAKeySet {
    #[error("the document is not a JSON object with `keys`")]
    NotADocument(#[source] serde_json::Error),
    #[error("the document holds {count} keys; at most {MAX_KEYS} are read")]
    TooManyKeys { count: usize },
    #[error("none of the {count} keys in the document is usable{}", first_reason(*reason))]
    NoUsableKey { count: usize, reason: Option<&'static str> },
}

fn first_reason(reason: Option<&'static str>) -> String {
    reason.map(|reason| format!(" (the first {reason})")).unwrap_or_default()
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Reads a document by the rules of its issuer.
    pub(super) fn read(document: &[u8], rules: &KeyRules) -> Result<Self, NotAKeySet> {
        let Document { keys: candidates } = serde_json::from_slice(document).map_err(NotAKeySet::NotADocument)?;
        let count = candidates.len();
        if count > MAX_KEYS {
            return Err(NotAKeySet::TooManyKeys { count });
        }
        let mut set = Self { keys: HashMap::new(), skipped: 0 };
        let mut first_skipped = None;
        for candidate in candidates {
            if let Err(reason) = set.add(candidate, rules) {
                set.skipped += 1;
                first_skipped = first_skipped.or(Some(reason));
                tracing::debug!(issuer = &*rules.issuer, reason, "skipped a key of a token issuer");
            }
        }
        if set.keys.is_empty() { Err(NotAKeySet::NoUsableKey { count, reason: first_skipped }) } else { Ok(set) }
    }

    fn add(&mut self, candidate: &RawValue, rules: &KeyRules) -> Result<(), &'static str> {
        let (kid, key) = read_key(candidate.get(), rules)?;
        match self.keys.entry(kid) {
            Entry::Vacant(free) => free.insert(key),
            Entry::Occupied(_) => return Err("has the ID of a key before it"),
        };
        Ok(())
    }

    /// The key of this ID.
    pub(super) fn get(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys.get(kid)
    }

    /// How many keys there are; never zero.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys of the document are not among them.
    pub(super) const fn skipped(&self) -> usize {
        self.skipped
    }
}

impl VerifyingKey {
    /// The one algorithm that it verifies.
    pub(super) const fn algorithm(&self) -> TokenAlgorithm {
        self.algorithm
    }

    /// The key itself.
    pub(super) const fn decoding_key(&self) -> &DecodingKey {
        &self.decoding_key
    }

    /// Tells this key from any other.
    pub(super) const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

/// Reads one key, or says why it is skipped.
fn read_key(text: &str, rules: &KeyRules) -> Result<(Box<str>, VerifyingKey), &'static str> {
    let members = Members::parse(text).map_err(|_| "is not an object with distinct members")?;
    let kid: String = members.require("kid").map_err(|WrongType| "has no `kid`")?;
    if !is_key_id(&kid) {
        return Err("has a `kid` that no token could name");
    }
    check_purpose(&members)?;
    check_issuer(&members, rules)?;
    if members.has("d") || members.has("k") {
        return Err("is not a public key");
    }
    let kty: String = members.require("kty").map_err(|WrongType| "has no `kty`")?;
    let (algorithm, key) = match kty.as_str() {
        "RSA" => (TokenAlgorithm::Rs256, read_rsa(&members)?),
        "EC" => (TokenAlgorithm::Es256, read_p256(&members)?),
        _ => return Err("is neither `RSA` nor `EC`"),
    };
    let named: Option<String> = members.get("alg").map_err(|WrongType| "has an `alg` that is not a string")?;
    if named.is_some_and(|name| algorithm_named(&name) != Some(algorithm)) || !rules.algorithms.contains(&algorithm) {
        return Err("is for another algorithm");
    }
    let [first, second] = &key.components;
    let fingerprint = Sha256::new().chain_update(Sha256::digest(first)).chain_update(Sha256::digest(second)).finalize();
    let key = VerifyingKey { algorithm, decoding_key: key.decoding_key, fingerprint: fingerprint.into() };
    Ok((kid.into(), key))
}

fn check_purpose(members: &Members<'_>) -> Result<(), &'static str> {
    let purpose: Option<String> = members.get("use").map_err(|WrongType| "has a `use` that is not a string")?;
    if purpose.is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures (`use`)");
    }
    let operations: Option<Vec<String>> =
        members.get("key_ops").map_err(|WrongType| "has `key_ops` of a wrong type")?;
    if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return Err("is not for verifying (`key_ops`)");
    }
    Ok(())
}

fn check_issuer(members: &Members<'_>, rules: &KeyRules) -> Result<(), &'static str> {
    let named: Option<String> = members.get("issuer").map_err(|WrongType| "has an `issuer` that is not a string")?;
    let Some(named) = named else { return Ok(()) };
    let meant = match &rules.tenant {
        Some(tenant) => named.replace("{tenantid}", &tenant.to_string()),
        None => named,
    };
    if *meant == *rules.issuer { Ok(()) } else { Err("is another issuer's") }
}

/// Key material in the library's form and in ours.
struct Material {
    decoding_key: DecodingKey,
    components: [Vec<u8>; 2],
}

fn read_rsa(members: &Members<'_>) -> Result<Material, &'static str> {
    // Some issuers put a zero byte in front, as DER does, though RFC 7518 §6.3.1.1 forbids it; it changes nothing.
    let number = |name| component(members, name).map(|bytes| strip_zeros(&bytes).to_vec());
    let (modulus, exponent) = (number("n")?, number("e")?);
    let spare_bits = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(usize::try_from(spare_bits).unwrap_or(0));
    if !RSA_BITS.contains(&bits) || is_even(&modulus) {
        return Err("is not RSA of 2048 to 4096 bits");
    }
    let fits = exponent.len() <= size_of::<u64>();
    let value = exponent.iter().fold(0_u64, |value, &byte| (value << 8) | u64::from(byte));
    if !fits || value < MIN_RSA_EXPONENT || is_even(&exponent) {
        return Err("has an RSA exponent that is weak or absurd");
    }
    let decoding_key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    Ok(Material { decoding_key, components: [modulus, exponent] })
}

fn read_p256(members: &Members<'_>) -> Result<Material, &'static str> {
    let curve: String = members.require("crv").map_err(|WrongType| "has no `crv`")?;
    let (x, y) = (component(members, "x")?, component(members, "y")?);
    if curve != "P-256" || x.len() != P256_COORDINATE_BYTES || y.len() != P256_COORDINATE_BYTES {
        return Err("is not EC on P-256");
    }
    // The uncompressed point of SEC 1 §2.3.3. Whether it lies on the curve is checked at each verification.
    let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
    Ok(Material { decoding_key: DecodingKey::from_ec_der(&point), components: [x, y] })
}

fn component(members: &Members<'_>, name: &str) -> Result<Vec<u8>, &'static str> {
    let encoded: String = members.require(name).map_err(|WrongType| "lacks a component")?;
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| "has a component that is not base64url")
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn is_even(bytes: &[u8]) -> bool {
    bytes.last().is_none_or(|byte| byte % 2 == 0)
}
