//! Which addresses a subscriber may leave.
//!
//! A caller chooses where the gateway posts to, so an address is judged before it is kept, and again at each connect
//! (`routing_queue::outbound`): https to the internet, and whatever is in a network that the operator named. While only the
//! development key counts, nobody but this machine can call, and it may be called back.

use ipnet::IpNet;
use reqwest::Url;

use crate::config::Effective;
use crate::routing_queue::outbound::{AddressPolicy, NotReachable};
use crate::store::subscriptions::Callback;

/// The longest address, in bytes. The longest that flows leave have some 400.
pub const LONGEST_BYTES: usize = 4_096;

/// The longest host name there is (RFC 1035).
const LONGEST_HOST_BYTES: usize = 253;

/// Why an address cannot be a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallbackFault {
    /// It is none.
    #[error("is not an http or https address")]
    NotAnAddress,
    /// It is too long.
    #[error("is longer than {LONGEST_BYTES} bytes")]
    TooLong,
    /// It holds a user name, a password or a fragment.
    #[error("has a user name, a password or a fragment in it")]
    Decorated,
    /// It is in the clear, and not in a network that was named.
    #[error("is not https, and not in a network that `[subscriptions] allow_networks` names")]
    InTheClear,
    /// It may not be connected to.
    #[error("leads to an address that is private or special, and not in `[subscriptions] allow_networks`")]
    Forbidden,
    /// Nobody knows, at this moment, where it leads.
    #[error("has a host name that cannot be resolved")]
    Unresolved,
}

/// The networks that callbacks may be in although they are not public.
pub fn networks(effective: &Effective) -> Vec<IpNet> {
    let mut networks = effective.subscriptions.allow_networks.clone();
    if effective.credentials.is_empty() {
        networks.push(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8).into());
        networks.push(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128).into());
    }
    networks
}

/// Judges an address that somebody wants to be called back at.
///
/// # Errors
/// [`CallbackFault`] says what is wrong with it.
pub async fn judge(text: &str, networks: &[IpNet]) -> Result<Callback, CallbackFault> {
    if text.len() > LONGEST_BYTES {
        return Err(CallbackFault::TooLong);
    }
    let text = text.trim();
    // The parser would drop tabs and line breaks without a word.
    if text.chars().any(char::is_control) {
        return Err(CallbackFault::NotAnAddress);
    }
    let url = Url::parse(text).map_err(|_| CallbackFault::NotAnAddress)?;
    let has_host = url.host_str().is_some_and(|host| (1..=LONGEST_HOST_BYTES).contains(&host.len()));
    if !matches!(url.scheme(), "http" | "https") || !has_host || url.port() == Some(0) {
        return Err(CallbackFault::NotAnAddress);
    }
    if url.as_str().len() > LONGEST_BYTES {
        return Err(CallbackFault::TooLong);
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(CallbackFault::Decorated);
    }
    let policy = AddressPolicy::new(networks);
    let addresses = policy.addresses(&url).await.map_err(|fault| match fault {
        NotReachable::Refused(_) => CallbackFault::Forbidden,
        NotReachable::Unresolved => CallbackFault::Unresolved,
    })?;
    if url.scheme() == "http" && !addresses.into_iter().all(|address| policy.names(address)) {
        return Err(CallbackFault::InTheClear);
    }
    Ok(Callback::new(url.as_str()))
}

/// What may be shown of a callback: its host. The rest is as good as a key.
pub fn host_of(callback: &Callback) -> String {
    let url = Url::parse(callback.as_str()).ok();
    url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_the_outbound_policy_permits_is_kept() {
        let local: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let fault = async |url: &str, networks: &[IpNet]| judge(url, networks).await.err();
        for (url, expected) in [
            ("", CallbackFault::NotAnAddress),
            ("callback", CallbackFault::NotAnAddress),
            ("ftp://8.8.8.8/", CallbackFault::NotAnAddress),
            ("https://8.8.8.8:0/", CallbackFault::NotAnAddress),
            ("ht\ntps://8.8.8.8/", CallbackFault::NotAnAddress),
            ("https://me@8.8.8.8/", CallbackFault::Decorated),
            ("https://8.8.8.8/#here", CallbackFault::Decorated),
            ("http://8.8.8.8/", CallbackFault::InTheClear),
            ("https://127.0.0.1/", CallbackFault::Forbidden),
            ("https://localhost/", CallbackFault::Forbidden),
            ("https://0x7f.1/", CallbackFault::Forbidden),
            ("https://169.254.169.254/latest/meta-data", CallbackFault::Forbidden),
            ("https://[::ffff:10.0.0.1]/", CallbackFault::Forbidden),
            ("https://nowhere.invalid/", CallbackFault::Unresolved),
        ] {
            assert_eq!(fault(url, &[]).await, Some(expected), "{url}");
        }
        for long in
            [format!("https://8.8.8.8/{}", "x".repeat(LONGEST_BYTES)), format!("https://8.8.8.8/{}", "é".repeat(1_000))]
        {
            assert_eq!(fault(&long, &[]).await, Some(CallbackFault::TooLong));
        }
        let host = format!("https://{}.example/", "x".repeat(300));
        assert_eq!(fault(&host, &[]).await, Some(CallbackFault::NotAnAddress));
        assert_eq!(fault("https://8.8.8.8/run?sig=1", &[]).await, None);
        for url in ["http://127.0.0.1:1880/told", "http://localhost:1880/told", "https://[::1]/"] {
            assert_eq!(fault(url, &local).await, None, "{url}");
        }
        assert_eq!(fault("http://8.8.8.8/", &local).await, Some(CallbackFault::InTheClear));
    }

    #[tokio::test]
    async fn only_the_host_is_shown() {
        let callback = judge("https://8.8.8.8:8443/triggers/run?sig=s3cret", &[]).await.unwrap();
        assert_eq!((host_of(&callback).as_str(), format!("{callback:?}").contains("s3cret")), ("8.8.8.8", false));
    }
}
