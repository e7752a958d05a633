//! What an issuer says about itself (OpenID Connect Discovery 1.0), for `doctor` to compare with the configuration.
//!
//! The gateway itself never asks: where keys come from is configured, and nothing that an issuer publishes changes it.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::fetch::download;

/// The parts of the metadata that the configuration repeats.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// The `iss` of its tokens.
    pub issuer: Option<String>,
    /// Where its keys are.
    pub jwks_uri: Option<String>,
}

/// The metadata of an issuer, fetched as its keys are; `None` for one whose name is no address that may be asked: https,
/// or http on this machine.
///
/// # Errors
/// A sentence without the address: no answer in time, another one than 200, or no such document.
pub async fn discover(issuer: &str, deadline: Duration) -> Result<Option<Metadata>, String> {
    let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let Ok(url) = Url::parse(&address) else { return Ok(None) };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let on_this_machine = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let may_be_asked = url.scheme() == "https" || (url.scheme() == "http" && on_this_machine);
    if !may_be_asked {
        return Ok(None);
    }
    let document = tokio::time::timeout(deadline, download(&url))
        .await
        .map_err(|_| format!("there was no whole answer within {} s", deadline.as_secs_f64()))?
        .map_err(|fault| fault.to_string())?;
    serde_json::from_slice(&document).map(Some).map_err(|_| "the answer is no metadata document".to_owned())
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn metadata_is_read_and_everything_else_is_said() {
        let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = MockServer::start().await;
        let serve = |at: &'static str, body: &'static str| {
            Mock::given(path(format!("{at}/.well-known/openid-configuration")))
                .respond_with(ResponseTemplate::new(200).set_body_string(body))
        };
        serve("/good", r#"{"issuer":"x","jwks_uri":"y","more":[1]}"#).mount(&server).await;
        serve("/odd", "<html>").mount(&server).await;
        let good = discover(&format!("{}/good/", server.uri()), LONG).await;
        let expected = Metadata { issuer: Some("x".to_owned()), jwks_uri: Some("y".to_owned()) };
        assert_eq!(good, Ok(Some(expected)));
        for (at, said) in [("odd", "no metadata"), ("missing", "404")] {
            let fault = discover(&format!("{}/{at}", server.uri()), LONG).await.expect_err(at);
            assert!(fault.contains(said), "{fault}");
        }
        for unasked in ["contoso", "urn:x:y", "http://issuer.example.com", "file:///etc"] {
            assert_eq!(discover(unasked, LONG).await, Ok(None), "{unasked}");
        }
    }
}
