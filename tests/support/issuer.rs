//! A token issuer for tests: makes keys, publishes them as JWKS documents, and signs whatever text it is given, so that
//! repeated members, odd types and every other forgery can be made. Depends on nothing of the crate under test; unit
//! tests and black-box tests both include it by path.

#![allow(dead_code, reason = "each test crate that includes this uses another part of it")]

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A private key with an ID.
pub(crate) struct SigningKey {
    kid: String,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// A new RSA key of 2048 bits, for RS256. Takes a good part of a second to make.
    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key is made");
        Self { kid: kid.to_owned(), pair: Pair::Rsa(Box::new(pair)) }
    }

    /// A new key on P-256, for ES256.
    pub(crate) fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key is made");
        Self { kid: kid.to_owned(), pair: Pair::P256(Box::new(pair)) }
    }

    /// The `alg` of its tokens.
    pub(crate) fn alg(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        }
    }

    /// The public key as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let [n, e] = rsa_components(pair.public_key().as_ref());
                json!({ "kty": "RSA", "use": "sig", "kid": self.kid, "n": encode(n), "e": encode(e) })
            }
            Pair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": encode(x), "y": encode(y) })
            }
        }
    }

    /// The public key as DER (SubjectPublicKeyInfo).
    pub(crate) fn public_der(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().expect("has a DER form").as_ref().to_vec(),
            Pair::P256(pair) => pair.public_key().as_der().expect("has a DER form").as_ref().to_vec(),
        }
    }

    /// The header that a good token of this key has.
    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": self.alg(), "kid": self.kid })
    }

    /// A token with the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A token of exactly these texts, signed with the key's own algorithm whatever the header says.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = match &self.pair {
            Pair::Rsa(pair) => rsa_signature(pair, &RSA_PKCS1_SHA256, &message),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).expect("signs").as_ref().to_vec(),
        };
        format!("{message}.{}", encode(&signature))
    }

    /// Like [`Self::sign`], with PS256. RSA keys only.
    pub(crate) fn sign_ps256(&self, header: &str, claims: &str) -> String {
        let Pair::Rsa(pair) = &self.pair else { panic!("PS256 needs an RSA key") };
        let message = message(header, claims);
        let signature = rsa_signature(pair, &RSA_PSS_SHA256, &message);
        format!("{message}.{}", encode(&signature))
    }
}

/// A token of exactly these texts, "signed" with HS256 and this secret.
pub(crate) fn sign_hs256(secret: &[u8], header: &str, claims: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let message = message(header, claims);
    format!("{message}.{}", encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()).as_ref()))
}

/// A token of exactly these texts, with this signature.
pub(crate) fn forge(header: &str, claims: &str, signature: &[u8]) -> String {
    format!("{}.{}", message(header, claims), encode(signature))
}

/// The document that publishes these keys.
pub(crate) fn jwks(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

/// Base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()))
}

fn rsa_signature(pair: &RsaKeyPair, padding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("signs");
    signature
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017 appendix A.1.1): a SEQUENCE of two INTEGERs. The zero byte that
/// DER puts before a number with its highest bit set is left out.
fn rsa_components(der: &[u8]) -> [&[u8]; 2] {
    let (sequence, _) = der_value(der, 0x30);
    let (modulus, rest) = der_value(sequence, 0x02);
    let (exponent, _) = der_value(rest, 0x02);
    [modulus, exponent].map(|number| number.strip_prefix(&[0]).unwrap_or(number))
}

fn der_value(der: &[u8], tag: u8) -> (&[u8], &[u8]) {
    assert_eq!(der[0], tag, "is the expected DER element");
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |length, &byte| (length << 8) | usize::from(byte)), 2 + count)
        }
    };
    der[start..].split_at(length)
}
