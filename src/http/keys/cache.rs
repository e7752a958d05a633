//! Tokens that were verified, so that the next request with the same one costs a hash instead of a signature.
//!
//! An entry is found by the SHA-256 of the whole token, lasts until the token's `exp`, and names the key that the token
//! was verified with: the reader asks the issuer's present key set for that very key before it believes the entry. The
//! cache is bounded; when full, what has ended is swept, and if nothing has, it starts anew. Only verified tokens get
//! in, so strangers cannot fill it. No guard into the map ever leaves this file.

use std::ops::Range;
use std::sync::Arc;

use dashmap::DashMap;

use crate::domain::access::Caller;
use crate::domain::time::Timestamp;

/// The most tokens kept: far more than an organization has applications.
pub(super) const CAPACITY: usize = 10_000;

/// A token that was verified.
#[derive(Debug, Clone)]
pub(super) struct VerifiedToken {
    /// Who presented it.
    pub(super) caller: Arc<Caller>,
    /// The seconds since 1970 between which the verdict holds.
    pub(super) valid: Range<i64>,
    /// The position of its issuer in the authenticator.
    pub(super) issuer: usize,
    /// The ID of the key that it was verified with.
    pub(super) kid: Arc<str>,
    /// That key itself, so that another key under the same ID is not mistaken for it.
    pub(super) key_fingerprint: [u8; 32],
}

#[derive(Debug)]
pub(super) struct TokenCache {
    tokens: DashMap<[u8; 32], VerifiedToken>,
    capacity: usize,
}

impl TokenCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { tokens: DashMap::new(), capacity }
    }

    /// The token of this hash, if its verdict still holds.
    pub(super) fn get(&self, digest: &[u8; 32], now: Timestamp) -> Option<VerifiedToken> {
        let known = self.tokens.get(digest)?;
        if known.valid.contains(&now.seconds()) { Some(known.clone()) } else { None }
    }

    /// Keeps a verdict, making room first where there is none. Concurrent callers may overshoot by one each.
    pub(super) fn keep(&self, digest: [u8; 32], verified: VerifiedToken, now: Timestamp) {
        if self.tokens.len() >= self.capacity {
            self.tokens.retain(|_, known| known.valid.end > now.seconds());
        }
        if self.tokens.len() >= self.capacity {
            self.tokens.clear();
        }
        self.tokens.insert(digest, verified);
    }

    /// Drops a verdict that holds no longer.
    pub(super) fn forget(&self, digest: &[u8; 32]) {
        self.tokens.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::OrganizationScope;
    use std::collections::BTreeSet;

    fn token(valid: Range<i64>) -> VerifiedToken {
        let caller =
            Caller { credential: "c".into(), permissions: BTreeSet::new(), organizations: OrganizationScope::All };
        VerifiedToken { caller: Arc::new(caller), valid, issuer: 0, kid: "k".into(), key_fingerprint: [0; 32] }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_verdict_holds_from_its_start_to_its_end() {
        let cache = TokenCache::new(4);
        cache.keep([1; 32], token(10..20), at(10));
        let found: Vec<bool> = [9, 10, 19, 20].map(|second| cache.get(&[1; 32], at(second)).is_some()).into();
        assert_eq!(found, [false, true, true, false]);
        cache.forget(&[1; 32]);
        assert!(cache.get(&[1; 32], at(10)).is_none());
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let cache = TokenCache::new(3);
        for n in 0..3 {
            cache.keep([n; 32], token(0..if n == 0 { 5 } else { 100 }), at(1));
        }
        // The one that has ended makes room for the next; after that all are alive, and it starts anew.
        cache.keep([3; 32], token(0..100), at(6));
        assert_eq!(cache.tokens.len(), 3);
        assert!(cache.get(&[1; 32], at(6)).is_some() && cache.get(&[3; 32], at(6)).is_some());
        cache.keep([4; 32], token(0..100), at(6));
        assert_eq!(cache.tokens.len(), 1);
        assert!(cache.get(&[4; 32], at(6)).is_some());
    }
}
