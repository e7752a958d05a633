//! A host as a definition takes it, and as people tend to write one.

use std::fmt;

/// A host as the definition takes it: a name or an IPv4 address, perhaps with a port; no scheme and no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(Box<str>);

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAHost {
    /// It begins with `https://` or the like.
    #[error("has a scheme: write the host alone, such as `gateway.contoso.com`")]
    Scheme,
    /// There is a path behind it.
    #[error("has a path: write the host alone, such as `gateway.contoso.com`")]
    Path,
    /// The port is none.
    #[error("has a port that is no number from 1 to 65535")]
    Port,
    /// Something else in it is wrong.
    #[error("is no host: letters, digits, hyphens and dots, and perhaps a port, such as `gateway.contoso.com:8443`")]
    Name,
}

impl Host {
    /// Reads a host, in any case.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NotAHost> {
        let text = text.trim().to_ascii_lowercase();
        if text.contains("://") {
            return Err(NotAHost::Scheme);
        }
        if text.contains('/') {
            return Err(NotAHost::Path);
        }
        let (name, port) = text.split_once(':').map_or((text.as_str(), None), |(name, port)| (name, Some(port)));
        if port.is_some_and(|port| {
            !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().unwrap_or(0) == 0
        }) {
            return Err(NotAHost::Port);
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(NotAHost::Name);
        }
        Ok(Self(text.into_boxed_str()))
    }

    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_host() {
        for (text, host) in [("GATE.example.com", "gate.example.com"), ("10.0.0.1:80", "10.0.0.1:80"), (" a ", "a")] {
            assert_eq!(Host::parse(text).expect(text).as_str(), host);
        }
        for (text, fault) in [
            ("https://gate.example.com", NotAHost::Scheme),
            ("gate.example.com/api", NotAHost::Path),
            ("gate:0", NotAHost::Port),
            ("gate:+1", NotAHost::Port),
            ("gate:65536", NotAHost::Port),
            ("gate:", NotAHost::Port),
            ("", NotAHost::Name),
            ("a b", NotAHost::Name),
            ("-a.example", NotAHost::Name),
            ("a..b", NotAHost::Name),
            ("[::1]", NotAHost::Port),
            ("a@b", NotAHost::Name),
        ] {
            assert_eq!(Host::parse(text), Err(fault), "{text}");
        }
    }
}
