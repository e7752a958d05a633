//! API keys: 256 random bits with a prefix, of which the gateway only ever knows the SHA-256 (contract §5).
//!
//! A fast hash is right here: the keys are random, so there is nothing to guess that a slow hash would protect.
//! Several keys are valid at once, which is how a key is rotated: add the new one, move the callers, remove the old one.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::Cause;
use crate::config::settings::ApiKeySettings;
use crate::domain::access::Caller;
use crate::domain::time::Timestamp;

/// What every key starts with, so that secret scanners find a leaked one.
const PREFIX: &str = "sg_";
/// The longest text that is looked at. Generated keys have 46 characters.
const MAX_KEY_BYTES: usize = 256;

/// A key that was just made: the only moment at which its text is known.
pub struct NewApiKey {
    /// What the caller sends. Show it once, keep it nowhere.
    pub text: String,
    /// What the configuration holds.
    pub sha256: [u8; 32],
}

impl fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewApiKey(…)")
    }
}

/// Makes a key from 256 random bits. Fails only when the operating system has no randomness to give.
pub fn generate() -> Result<NewApiKey, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let sha256 = hash(&text);
    Ok(NewApiKey { text, sha256 })
}

/// The SHA-256 of a whole key text, prefix included: what the configuration holds.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The configured keys.
#[derive(Debug)]
pub(super) struct ApiKeys(Vec<ApiKey>);

#[derive(Debug)]
struct ApiKey {
    sha256: [u8; 32],
    expires: Option<Timestamp>,
    caller: Arc<Caller>,
}

impl ApiKeys {
    pub(super) fn new<'s>(settings: impl Iterator<Item = &'s ApiKeySettings>) -> Self {
        let keys = settings.map(|key| ApiKey {
            sha256: key.sha256,
            expires: key.expires,
            caller: Arc::new(Caller {
                credential: Arc::clone(&key.name),
                permissions: key.permissions.clone(),
                organizations: key.organizations.clone(),
            }),
        });
        Self(keys.collect())
    }

    /// Whose key this is. Every configured key is compared, each in constant time, whether or not one before matched.
    pub(super) fn check(&self, presented: &[u8], now: Timestamp) -> Result<Arc<Caller>, Cause> {
        let visible_ascii = presented.iter().all(u8::is_ascii_graphic);
        if presented.is_empty() || presented.len() > MAX_KEY_BYTES || !visible_ascii {
            return Err(Cause::ApiKeyMalformed);
        }
        let hash: [u8; 32] = Sha256::digest(presented).into();
        let mut verdict = Err(Cause::ApiKeyUnknown);
        for key in &self.0 {
            let matches = bool::from(key.sha256.ct_eq(&hash));
            if matches && key.expires.is_none_or(|end| now < end) {
                verdict = Ok(Arc::clone(&key.caller));
            } else if matches && verdict.is_err() {
                verdict = Err(Cause::ApiKeyExpired { name: Arc::clone(&key.caller.credential) });
            }
        }
        verdict
    }
}
