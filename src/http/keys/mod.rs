//! Who may call: API keys and bearer tokens, told apart from everybody else before a byte of the body is read.
//!
//! The door hands over the raw values of two headers, [`Presented`], and gets a [`Caller`] or an [`AuthError`]. One
//! [`Authenticator`] belongs to one configuration: a reload makes a new one, with an empty cache, and swaps it in. The
//! keys of token issuers live longer, in the [`JwksService`], which fetches them in the background.
//!
//! Guaranteed:
//! * [`Authenticator::authenticate`] is synchronous, never does I/O, never waits for a fetch and never panics, whatever
//!   the headers hold and whatever the clock says.
//! * Nothing in a token decides where keys come from or which algorithms are allowed; the configuration alone does.
//! * To the caller every 401 is the same. The [`Cause`] is for the log.
//!
//! Not guaranteed: that a token is used once. Bearer tokens can be replayed until they end; that is their nature, and
//! idempotency makes it harmless. How often somebody may be wrong is the door's limiter's affair, not this room's.

mod api_key;
mod cache;
mod claims;
mod discovery;
mod error;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod jwks;
mod key_set;
mod members;
mod schedule;
mod token;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

pub use api_key::{NewApiKey, generate, hash};
pub use discovery::{Metadata, discover};
pub use error::{AuthError, Cause, TokenFault};
pub use jwks::{JwksService, JwksStatus, WatchedIssuer};
pub use schedule::Timings;

use crate::config::settings::{CredentialSettings, IssuerSettings};
use crate::domain::access::Caller;
use crate::domain::time::Timestamp;
use api_key::ApiKeys;
use cache::{TokenCache, VerifiedToken};

/// What a request brought along, as raw header values. A query string is never looked at.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Every value of `X-Api-Key`.
    pub api_keys: &'a [&'a [u8]],
    /// Every value of `Authorization`.
    pub authorization: &'a [&'a [u8]],
}

/// Tells callers from strangers, for one configuration.
#[derive(Debug)]
pub struct Authenticator {
    api_keys: ApiKeys,
    issuers: Vec<Issuer>,
    cache: TokenCache,
}

/// A configured issuer together with the keys it has now.
#[derive(Debug)]
struct Issuer {
    settings: IssuerSettings,
    keys: Arc<WatchedIssuer>,
}

impl Authenticator {
    /// For these credentials. From here on the service keeps the keys of their issuers fresh, until the last
    /// authenticator that names them is dropped; issuers that an earlier configuration had keep the keys they have.
    pub fn new(credentials: Arc<CredentialSettings>, jwks: Arc<JwksService>) -> Self {
        let issuers = credentials.issuers.iter();
        let issuers = issuers.map(|settings| Issuer { settings: settings.clone(), keys: jwks.watch(settings) });
        Self {
            api_keys: ApiKeys::new(credentials.api_keys.iter().chain(&credentials.stored_api_keys)),
            issuers: issuers.collect(),
            cache: TokenCache::new(cache::CAPACITY),
        }
    }

    /// Who this is. Exactly one credential must be presented (contract §5).
    pub fn authenticate(&self, presented: Presented<'_>, now: Timestamp) -> Result<Arc<Caller>, AuthError> {
        let ambiguous = |message| Err(AuthError::Ambiguous { message });
        match (presented.api_keys, presented.authorization) {
            ([], []) => Err(Cause::Missing.into()),
            ([key], []) => Ok(self.api_keys.check(key, now)?),
            ([], [authorization]) => self.bearer(authorization, now),
            (_, []) => ambiguous("`X-Api-Key` was given more than once; send one key"),
            ([], _) => ambiguous("`Authorization` was given more than once; send one token"),
            (_, _) => ambiguous("Both `X-Api-Key` and `Authorization` were given; send one of them"),
        }
    }

    /// Judges the value of `Authorization`: from the cache, or by verifying the token.
    fn bearer(&self, authorization: &[u8], now: Timestamp) -> Result<Arc<Caller>, AuthError> {
        let token = token::bearer_token(authorization)?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.cache.get(&digest, now) {
            if let Some(caller) = self.still_vouched_for(&known)? {
                return Ok(caller);
            }
            self.cache.forget(&digest);
        }
        let verified = token::verify(token, &self.issuers, now)?;
        let caller = Arc::clone(&verified.caller);
        self.cache.keep(digest, verified, now);
        Ok(caller)
    }

    /// The caller of a cached token, if its issuer still publishes the very key that the token was verified with.
    fn still_vouched_for(&self, known: &VerifiedToken) -> Result<Option<Arc<Caller>>, AuthError> {
        let Some(issuer) = self.issuers.get(known.issuer) else { return Ok(None) };
        let keys = issuer.usable_keys()?;
        let same = keys.get(&known.kid).is_some_and(|key| key.fingerprint() == &known.key_fingerprint);
        Ok(same.then(|| Arc::clone(&known.caller)))
    }
}

impl Issuer {
    /// The keys that the issuer has published, unless there are none or they are too old to be believed.
    fn usable_keys(&self) -> Result<Arc<key_set::KeySet>, AuthError> {
        self.keys
            .usable_at(Instant::now())
            .ok_or_else(|| AuthError::KeysUnavailable { issuer: Arc::clone(&self.settings.name) })
    }
}
