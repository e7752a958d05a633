//! Who sent this: the signature of Standard Webhooks 1.0 (<https://www.standardwebhooks.com>).
//!
//! The signed text is `{webhook-id}.{webhook-timestamp}.{body}`, the algorithm HMAC-SHA256, and each configured secret
//! adds one `v1,<base64>`, so that a receiver can change over from one secret to the next without losing an event.
//! [`SignedHeaders::verify`] is the receiver's side; the `listen` command and the tests use it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::settings::WebhookSecret;
use crate::domain::time::Timestamp;

/// How far the sender's clock may be from the receiver's (Standard Webhooks' recommendation).
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const VERSION: &str = "v1,";

/// The signing secrets of one destination, with the part of HMAC that depends on them alone done beforehand.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

impl Signer {
    /// Signs with each of these.
    pub fn new(secrets: &[WebhookSecret]) -> Self {
        Self(secrets.iter().map(keyed).collect())
    }

    /// The `webhook-signature` header: one `v1,<base64>` for each secret, separated by blanks.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut signatures = String::with_capacity(self.0.len() * 48);
        for keyed in &self.0 {
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            signatures.push_str(VERSION);
            STANDARD.encode_string(over(keyed, id, timestamp, body).finalize().into_bytes(), &mut signatures);
        }
        signatures
    }
}

impl std::fmt::Debug for Signer {
    /// Never the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

/// HMAC-SHA256 with this key, over nothing yet.
fn keyed(secret: &WebhookSecret) -> Hmac<Sha256> {
    // A secret has at most 64 bytes, SHA-256's block, and HMAC pads shorter keys with zeros up to the block (RFC 2104):
    // padding here needs no fallible constructor.
    let mut block = [0_u8; 64];
    for (slot, byte) in block.iter_mut().zip(secret.key()) {
        *slot = *byte;
    }
    Hmac::<Sha256>::new((&block).into())
}

/// HMAC-SHA256 over the signed text.
fn over(keyed: &Hmac<Sha256>, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed.clone();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

/// The three headers as they arrived.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
}

/// Why a message is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// `webhook-timestamp` is no number of seconds.
    #[error("`webhook-timestamp` is not a number of seconds")]
    BadTimestamp,
    /// It was sent too long ago, or is a replay.
    #[error("`webhook-timestamp` is older than {} seconds", TOLERANCE.as_secs())]
    TooOld,
    /// It claims to come from the future.
    #[error("`webhook-timestamp` is more than {} seconds ahead", TOLERANCE.as_secs())]
    TooNew,
    /// No signature fits any of the secrets.
    #[error("no `v1` signature in `webhook-signature` fits")]
    NoMatch,
}

impl SignedHeaders<'_> {
    /// Checks the age, then the signatures in constant time: one that fits one of the secrets is enough.
    ///
    /// # Errors
    /// [`NotVerified`] says what is wrong; a receiver should answer 401 or 400 and do nothing with the body.
    pub fn verify(&self, body: &[u8], secrets: &[WebhookSecret], now: Timestamp) -> Result<(), NotVerified> {
        let sent: i64 = self.timestamp.parse().map_err(|_| NotVerified::BadTimestamp)?;
        let tolerance = i64::try_from(TOLERANCE.as_secs()).unwrap_or(i64::MAX);
        let age = now.seconds().saturating_sub(sent);
        if age > tolerance {
            return Err(NotVerified::TooOld);
        }
        if age < -tolerance {
            return Err(NotVerified::TooNew);
        }
        let fits = self.signature.split(' ').filter_map(|one| one.strip_prefix(VERSION)).any(|encoded| {
            let Ok(given) = STANDARD.decode(encoded) else { return false };
            // `verify_slice` compares in constant time. The text as received is what was signed.
            secrets
                .iter()
                .any(|secret| over(&keyed(secret), self.id, self.timestamp, body).verify_slice(&given).is_ok())
        });
        if fits { Ok(()) } else { Err(NotVerified::NoMatch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the Standard Webhooks reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECONDS: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret(text: &str) -> WebhookSecret {
        WebhookSecret::parse(text).unwrap()
    }

    fn sign(id: &str, seconds: i64, body: &[u8], secrets: &[WebhookSecret]) -> String {
        Signer::new(secrets).sign(id, &seconds.to_string(), body)
    }

    fn verify(signature: &str, body: &[u8], now_seconds: i64) -> Result<(), NotVerified> {
        let headers = SignedHeaders { id: ID, timestamp: "1614265330", signature };
        headers.verify(body, &[secret(SECRET)], Timestamp::from_millis(now_seconds * 1000))
    }

    #[test]
    fn the_published_example_comes_out() {
        assert_eq!(sign(ID, SECONDS, BODY, &[secret(SECRET)]), SIGNATURE);
        assert_eq!(verify(SIGNATURE, BODY, SECONDS), Ok(()));
    }

    #[test]
    fn either_of_two_secrets_is_enough() {
        let next = secret("whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0");
        let both = sign(ID, SECONDS, BODY, &[next.clone(), secret(SECRET)]);
        assert_eq!(both.split(' ').count(), 2);
        for known in [secret(SECRET), next] {
            let headers = SignedHeaders { id: ID, timestamp: "1614265330", signature: &both };
            assert_eq!(headers.verify(BODY, &[known], Timestamp::from_millis(SECONDS * 1000)), Ok(()));
        }
    }

    #[test]
    fn a_key_of_a_whole_block_signs_too() {
        let long = secret(&format!("whsec_{}", STANDARD.encode([7_u8; 64])));
        let mut other_mac = Hmac::<Sha256>::new_from_slice(&[7_u8; 64]).unwrap();
        other_mac.update(b"a.5.b");
        let expected = format!("v1,{}", STANDARD.encode(other_mac.finalize().into_bytes()));
        assert_eq!(sign("a", 5, b"b", &[long]), expected);
    }

    #[test]
    fn age_counts_both_ways() {
        assert_eq!(verify(SIGNATURE, BODY, SECONDS + 300), Ok(()));
        assert_eq!(verify(SIGNATURE, BODY, SECONDS - 300), Ok(()));
        assert_eq!(verify(SIGNATURE, BODY, SECONDS + 301), Err(NotVerified::TooOld));
        assert_eq!(verify(SIGNATURE, BODY, SECONDS - 301), Err(NotVerified::TooNew));
    }

    #[test]
    fn forgeries_are_refused() {
        assert_eq!(verify(SIGNATURE, b"{}", SECONDS), Err(NotVerified::NoMatch));
        for forged in ["", "v1,", "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,AAAA", "v1,g0hM9SsE"] {
            assert_eq!(verify(forged, BODY, SECONDS), Err(NotVerified::NoMatch), "{forged}");
        }
        let headers = SignedHeaders { id: ID, timestamp: "yesterday", signature: SIGNATURE };
        let verdict = headers.verify(BODY, &[secret(SECRET)], Timestamp::from_millis(0));
        assert_eq!(verdict, Err(NotVerified::BadTimestamp));
    }
}
