//! Which addresses a delivery may connect to (server-side request forgery is the attack).
//!
//! Public unicast addresses may be reached; everything private, local or special may not, unless the routing queue's
//! `allow_networks` names it. The rule is enforced *at connect*: a host name is resolved here and only permitted
//! addresses are handed to the HTTP client, so a name that is rebound to an inner address between two look-ups gains
//! nothing. A URL with an address instead of a name never reaches the resolver, so [`AddressPolicy::check_url`] is asked
//! before each try, too.
//!
//! Addresses that carry an IPv4 address inside (v4-mapped, NAT64, 6to4) are judged by the address inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name is looked up within this time or not at all.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// The addresses that one routing queue may connect to.
#[derive(Debug, Clone)]
pub struct AddressPolicy {
    allow_networks: Vec<IpNet>,
}

/// Nothing permitted to connect to. The text names no address: it may end up in a receipt, and a receipt must not map
/// the inner network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the destination's address is private or special and not in its `allow_networks`")]
pub struct AddressRefused;

/// Why a URL leads nowhere at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReachable {
    /// Nothing there may be connected to.
    #[error(transparent)]
    Refused(#[from] AddressRefused),
    /// Its host name leads nowhere, or nobody could say where in time.
    #[error("the host name could not be resolved")]
    Unresolved,
}

impl AddressPolicy {
    /// Public addresses and these networks.
    pub fn new(allow_networks: &[IpNet]) -> Self {
        Self { allow_networks: allow_networks.to_vec() }
    }

    /// Whether this address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        if self.names(address) {
            return true;
        }
        match embedded_v4(address).map_or(address, IpAddr::V4) {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        }
    }

    /// Judges a URL that holds an address instead of a name; one with a name passes, to be judged when it is resolved.
    ///
    /// # Errors
    /// [`AddressRefused`] for an address that may not be connected to, in whichever spelling (`127.1`, `0x7f.1`).
    pub fn check_url(&self, url: &Url) -> Result<(), AddressRefused> {
        match literal(url) {
            Some(address) if !self.permits(address) => Err(AddressRefused),
            Some(_) | None => Ok(()),
        }
    }

    /// Where a URL would be connected to at this moment.
    ///
    /// # Errors
    /// [`NotReachable`]: nowhere that is permitted, or nobody knows where.
    pub async fn addresses(&self, url: &Url) -> Result<Vec<IpAddr>, NotReachable> {
        self.check_url(url)?;
        if let Some(address) = literal(url) {
            return Ok(vec![address]);
        }
        let looked_up = tokio::net::lookup_host((url.host_str().unwrap_or_default(), 0));
        let resolved = tokio::time::timeout(LOOK_UP_TIMEOUT, looked_up).await;
        let resolved = resolved.ok().and_then(Result::ok).ok_or(NotReachable::Unresolved)?;
        Ok(self.filter(resolved)?.iter().map(SocketAddr::ip).collect())
    }

    /// Whether this address is in one of the networks that were named, whatever other addresses may be reached.
    pub fn names(&self, address: IpAddr) -> bool {
        let inner = embedded_v4(address).map(IpAddr::V4);
        let named = |address: &IpAddr| self.allow_networks.iter().any(|network| network.contains(address));
        named(&address) || inner.as_ref().is_some_and(named)
    }

    /// Those of the resolved addresses that may be connected to.
    fn filter(&self, resolved: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, AddressRefused> {
        let (permitted, refused): (Vec<_>, Vec<_>) = resolved.partition(|address| self.permits(address.ip()));
        if !refused.is_empty() {
            let refused: Vec<IpAddr> = refused.iter().map(SocketAddr::ip).collect();
            tracing::warn!(addresses = ?refused, "a destination's name leads to addresses that are not permitted");
        }
        if permitted.is_empty() { Err(AddressRefused) } else { Ok(permitted) }
    }
}

impl Resolve for AddressPolicy {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.clone();
        Box::pin(async move {
            // Port 0 stands for the URL's own port.
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Addrs = Box::new(policy.filter(resolved)?.into_iter());
            Ok(permitted)
        })
    }
}

/// The address that a URL has instead of a name. The URL parser has already turned every spelling of an IPv4 address into
/// the usual one.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// The IPv4 address inside an IPv6 one: v4-mapped `::ffff:0:0/96`, NAT64 `64:ff9b::/96` (RFC 6052), 6to4 `2002::/16`
/// (RFC 3056).
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let (high, low) = match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => (g, h),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// What the IANA registry of special IPv4 addresses leaves.
fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..]            // this network, private, loopback
            | [100, 64..=127, ..]     // carrier-grade NAT
            | [169, 254, ..]          // link-local, with the cloud's metadata services
            | [172, 16..=31, ..]      // private
            | [192, 0, 0 | 2, _]      // protocol assignments, documentation
            | [192, 88, 99, _]        // 6to4 relays
            | [192, 168, ..]          // private
            | [198, 18 | 19, ..]      // benchmarks
            | [198, 51, 100, _]       // documentation
            | [203, 0, 113, _]        // documentation
            | [224..=255, ..] // multicast, reserved, broadcast
    )
}

/// Global unicast is `2000::/3`; what lies outside (loopback, v4-compatible, unique local, link-local, multicast, …) is
/// not, nor are these parts of it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let documentation = (a == 0x2001 && b == 0xdb8) || (a == 0x3fff && b < 0x1000);
    // 2001::/23: Teredo, benchmarks, ORCHID and other protocol assignments.
    let protocol = a == 0x2001 && b < 0x200;
    (0x2000..0x4000).contains(&a) && !documentation && !protocol
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(networks: &[&str]) -> AddressPolicy {
        AddressPolicy::new(&networks.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn inner_addresses_are_refused_in_every_disguise() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:c0a8:101::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!policy(&[]).permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_permitted() {
        for address in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:800::200e",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "3fff:1000::1",
        ] {
            assert!(policy(&[]).permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn allowed_networks_open_exactly_themselves() {
        let policy = policy(&["10.1.0.0/16", "::1/128"]);
        for (address, permitted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("::1", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
        ] {
            assert_eq!(policy.permits(address.parse().unwrap()), permitted, "{address}");
        }
    }

    #[test]
    fn urls_with_an_address_are_judged_in_every_spelling() {
        let check = |url: &str| policy(&[]).check_url(&url.parse().unwrap());
        for url in [
            "http://127.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://[::ffff:127.0.0.1]/",
            "http://[::1]:8080/",
            "http://169.254.169.254/latest",
            "http://0/",
            "http://１２７.0.0.1/",
        ] {
            assert_eq!(check(url), Err(AddressRefused), "{url}");
        }
        for url in ["https://8.8.8.8/", "https://[2606:4700::1]/", "https://example.com/", "https://localhost/"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_name_that_leads_inside_keeps_only_its_public_addresses() {
        let resolved = ["10.0.0.1:0", "8.8.8.8:0", "[::1]:0"].map(|address| address.parse().unwrap());
        assert_eq!(policy(&[]).filter(resolved.into_iter()), Ok(vec!["8.8.8.8:0".parse().unwrap()]));
        assert_eq!(policy(&[]).filter(resolved.into_iter().take(1)), Err(AddressRefused));
        assert_eq!(policy(&[]).filter(std::iter::empty()), Err(AddressRefused));
    }

    #[tokio::test]
    async fn the_resolver_filters_what_it_resolves() {
        let name = || "localhost".parse::<Name>().unwrap();
        let refused = policy(&[]).resolve(name()).await.err().unwrap();
        assert!(refused.is::<AddressRefused>(), "{refused}");
        let resolved: Vec<_> = policy(&["127.0.0.0/8", "::1/128"]).resolve(name()).await.unwrap().collect();
        assert!(!resolved.is_empty() && resolved.iter().all(|address| address.ip().is_loopback()), "{resolved:?}");
    }

    proptest! {
        #[test]
        fn an_embedded_address_is_judged_as_itself(bits in any::<u32>()) {
            let inner = Ipv4Addr::from_bits(bits);
            let policy = policy(&[]);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            for outer in [
                inner.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5),
            ] {
                prop_assert_eq!(policy.permits(outer.into()), policy.permits(inner.into()));
            }
        }
    }
}
