//! One fetch of a JWKS document, bounded in every way: time, size, no redirect, no proxy from the environment.
//!
//! The client is made anew for each fetch. That is once an hour, leaves no idle connection to go stale, and notices
//! when the machine's root certificates change.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Client, StatusCode, Url};

use super::key_set::{KeyRules, KeySet, NotAKeySet};

/// The largest document that is read. Those of Microsoft Entra have about 20 KiB.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// Why a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the TLS provider is not installed")]
    NoTlsProvider,
    #[error("the HTTP client could not be made: {}", chain(.0))]
    Client(#[source] reqwest::Error),
    #[error("the task that makes the HTTP client ended early")]
    Interrupted(#[source] tokio::task::JoinError),
    #[error("{}", chain(.0))]
    Http(#[source] reqwest::Error),
    #[error("the answer has status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the document is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    #[error("there was no whole answer within {} s", .0.as_secs_f64())]
    TooSlow(Duration),
    #[error(transparent)]
    Document(#[from] NotAKeySet),
}

/// An error with everything that led to it, on one line, without the address.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Fetches and reads the document, within `deadline` altogether.
pub(super) async fn fetch(url: &Url, rules: &KeyRules, deadline: Duration) -> Result<KeySet, FetchError> {
    let fetching = async {
        let document = download(url).await?;
        Ok(KeySet::read(&document, rules)?)
    };
    tokio::time::timeout(deadline, fetching).await.map_err(|_| FetchError::TooSlow(deadline))?
}

/// The document as it is, unless it is too large.
pub(super) async fn download(url: &Url) -> Result<Vec<u8>, FetchError> {
    // Reads root certificates from disk.
    let client = tokio::task::spawn_blocking(client).await.map_err(FetchError::Interrupted)??;
    let http = |error: reqwest::Error| FetchError::Http(error.without_url());
    let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
    let mut answer = client.get(url.clone()).header(ACCEPT, accept).send().await.map_err(http)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(http)? {
        if document.len().saturating_add(chunk.len()) > MAX_DOCUMENT_BYTES {
            return Err(FetchError::TooLarge);
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document)
}

fn client() -> Result<Client, FetchError> {
    // reqwest panics without one; the program installs it first of all.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(FetchError::NoTlsProvider);
    }
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("streamgate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(FetchError::Client)
}
