//! Signing secrets as Standard Webhooks has them.

use std::sync::Arc;

use base64::Engine as _;

/// A Standard Webhooks signing secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Arc<[u8]>);

/// Why a text is not a signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes")]
pub struct NotAWebhookSecret;

impl WebhookSecret {
    /// Reads `whsec_<base64>`.
    pub fn parse(text: &str) -> Result<Self, NotAWebhookSecret> {
        let encoded = text.trim().strip_prefix("whsec_").ok_or(NotAWebhookSecret)?;
        let key = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| NotAWebhookSecret)?;
        if (24..=64).contains(&key.len()) { Ok(Self(key.into())) } else { Err(NotAWebhookSecret) }
    }

    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no random bits.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key.as_slice().into()))
    }

    /// `whsec_<base64>`, for whoever may know it.
    pub fn to_text(&self) -> String {
        format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(&self.0))
    }

    /// The key for HMAC-SHA256.
    pub fn key(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}
