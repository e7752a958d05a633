//! How often: per organization, with one bucket for all that are not configured, and per address for wrong credentials.
//!
//! Buckets exist only for configured organizations, so nobody can make the table grow by inventing IDs.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::problem::{Code, Problem};
use crate::domain::catalog::{Organization, RateLimit};
use crate::domain::ids::OrganizationId;

/// The door's rate limits.
#[derive(Debug)]
pub struct Limits {
    organizations: DashMap<OrganizationId, Bucket>,
    unknown_organizations: DefaultDirectRateLimiter,
    wrong_credentials: DashMap<IpAddr, Arc<DefaultDirectRateLimiter>>,
    wrong_credentials_per_second: NonZeroU32,
    clock: DefaultClock,
}

#[derive(Debug, Clone)]
struct Bucket {
    rate: RateLimit,
    limiter: Arc<DefaultDirectRateLimiter>,
}

/// Addresses remembered for wrong credentials; beyond that the memory starts over.
const MAX_WATCHED_ADDRESSES: usize = 10_000;

impl Limits {
    /// `unknown` is shared by all organizations that are not configured.
    pub fn new(unknown: RateLimit, wrong_credentials_per_second: NonZeroU32) -> Self {
        Self {
            organizations: DashMap::new(),
            unknown_organizations: RateLimiter::direct(quota(unknown)),
            wrong_credentials: DashMap::new(),
            wrong_credentials_per_second,
            clock: DefaultClock::default(),
        }
    }

    /// Takes one request from the organization's allowance; `None` stands for any that is not configured.
    pub fn take(&self, organization: Option<&Organization>) -> Result<(), Problem> {
        let outcome = match organization {
            Some(organization) => self.bucket(organization).check(),
            None => self.unknown_organizations.check(),
        };
        outcome.map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            Problem::new(
                Code::RateLimited,
                format!("The organization's allowance is used up for the next {} s.", wait.as_secs().max(1)),
                "Send the same record again later, or raise the organization's `requests_per_minute` and `burst`.",
            )
            .retry_after(wait + Duration::from_secs(1))
        })
    }

    /// The organization's bucket, made anew when its rate was changed.
    fn bucket(&self, organization: &Organization) -> Arc<DefaultDirectRateLimiter> {
        let rate = organization.rate_limit;
        if let Some(bucket) = self.organizations.get(&organization.id).filter(|bucket| bucket.rate == rate) {
            return Arc::clone(&bucket.limiter);
        }
        let limiter = Arc::new(RateLimiter::direct(quota(rate)));
        self.organizations.insert(organization.id, Bucket { rate, limiter: Arc::clone(&limiter) });
        limiter
    }

    /// Counts one wrong credential from this address.
    ///
    /// # Errors
    /// 429 where there were too many: the caller gets that instead of the 401.
    pub fn wrong_credential(&self, peer: IpAddr) -> Result<(), Problem> {
        let peer = neighbourhood(peer);
        if self.wrong_credentials.len() >= MAX_WATCHED_ADDRESSES && !self.wrong_credentials.contains_key(&peer) {
            self.wrong_credentials.clear();
        }
        let limiter =
            Arc::clone(&*self.wrong_credentials.entry(peer).or_insert_with(|| {
                Arc::new(RateLimiter::direct(Quota::per_second(self.wrong_credentials_per_second)))
            }));
        limiter.check().map_err(|_| {
            Problem::new(
                Code::TooManyWrongCredentials,
                "Too many wrong credentials came from this address.",
                "Correct the credential, then try again later.",
            )
        })
    }
}

fn quota(rate: RateLimit) -> Quota {
    Quota::per_minute(rate.requests_per_minute).allow_burst(rate.burst)
}

/// Whom an address is counted as: an IPv6 subscriber has a whole /56; an IPv4 address stands for itself.
pub fn neighbourhood(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.into(),
            None => std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 72)).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_credentials_are_counted_per_neighbourhood() {
        let rate = RateLimit { requests_per_minute: NonZeroU32::MIN, burst: NonZeroU32::MIN };
        let limits = Limits::new(rate, NonZeroU32::new(2).expect("not zero"));
        let peer = |text: &str| -> IpAddr { text.parse().expect("an address") };
        assert!(limits.wrong_credential(peer("2001:db8::1")).is_ok());
        assert!(limits.wrong_credential(peer("2001:db8::2")).is_ok());
        let refused = limits.wrong_credential(peer("2001:db8::3")).expect_err("refused");
        assert_eq!(refused.code().status().as_u16(), 429);
        assert!(limits.wrong_credential(peer("2001:db8:1::1")).is_ok(), "another neighbourhood");
        assert!(limits.wrong_credential(peer("127.0.0.1")).is_ok());
    }

    #[test]
    fn organizations_that_are_not_configured_share_one_bucket() {
        let rate = RateLimit { requests_per_minute: NonZeroU32::MIN, burst: NonZeroU32::MIN };
        let limits = Limits::new(rate, NonZeroU32::MIN);
        assert!(limits.take(None).is_ok());
        assert_eq!(limits.take(None).expect_err("refused").code().status().as_u16(), 429);
        assert!(limits.organizations.is_empty());
    }
}
