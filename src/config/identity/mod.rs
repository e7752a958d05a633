//! The certificate and private key of a listener: read, held against each other, ready for handshakes.
//!
//! A pair that does not go together never gets here, so a listener can use whatever it is given. What this says about a
//! certificate (until when, for which names) is for people and for metrics; whether to trust it is up to the callers.

mod validity;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use webpki::EndEntityCert;

pub use self::validity::Validity;

/// What each listener identifies itself with; `None` where it speaks plain HTTP.
#[derive(Debug, Clone, Default)]
pub struct Identities {
    /// The public listener.
    pub public: Option<Arc<TlsIdentity>>,
    /// The second listener.
    pub admin: Option<Arc<TlsIdentity>>,
}

impl Identities {
    /// Those that there are, with the name of their listener.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Arc<TlsIdentity>)> {
        let public = self.public.iter().map(|identity| ("public", identity));
        public.chain(self.admin.iter().map(|identity| ("admin", identity)))
    }
}

/// A certificate with its chain and its private key.
#[derive(Clone)]
pub struct TlsIdentity {
    key: Arc<CertifiedKey>,
    validity: Validity,
    certificate_file: PathBuf,
    names: Vec<String>,
    self_issued: bool,
    fingerprint: [u8; 32],
}

/// Why a pair cannot be used. Each message completes "the certificate file … " or "the private key in … ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("is not valid PEM: {0}")]
    CertificatePem(String),
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds a certificate that cannot be read: {0}")]
    Certificate(String),
    #[error("is not valid PEM: {0}")]
    KeyPem(String),
    #[error("is encrypted")]
    KeyEncrypted,
    #[error("is no private key")]
    NoKey,
    #[error("is no key that TLS can use: {0}")]
    Key(String),
    #[error("does not belong to the certificate")]
    Mismatch,
}

impl Unusable {
    /// Whether it is the certificate's file that somebody has to look at, and not the key's.
    pub(super) const fn is_about_the_certificate(&self) -> bool {
        matches!(self, Self::CertificatePem(_) | Self::NoCertificate | Self::Certificate(_))
    }

    /// What to do.
    pub(super) const fn hint(&self) -> &'static str {
        match self {
            Self::CertificatePem(_) | Self::KeyPem(_) => {
                "each part is base64 between a -----BEGIN and its -----END line"
            }
            Self::NoCertificate => {
                "it must hold the gateway's certificate first and then those of its issuers (-----BEGIN CERTIFICATE-----)"
            }
            Self::Certificate(_) => "`openssl x509 -noout -text -in FILE` shows what is wrong with it",
            Self::KeyEncrypted => "nobody is there to give a passphrase: `openssl pkey -in FILE -out NEW` takes it off",
            Self::NoKey => "it must hold the key in PEM (-----BEGIN PRIVATE KEY-----)",
            Self::Key(_) => "use RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519",
            Self::Mismatch => {
                "the first certificate must be the gateway's own; `openssl x509 -noout -pubkey -in CERTIFICATE` and \
                 `openssl pkey -pubout -in KEY` must print the same"
            }
        }
    }
}

impl TlsIdentity {
    /// Reads a certificate with its chain, and its key, both in PEM.
    pub(super) fn read(certificate_file: &Path, certificates: &[u8], key: &str) -> Result<Self, Unusable> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|fault| Unusable::CertificatePem(shown(&fault)))?;
        let first = chain.first().ok_or(Unusable::NoCertificate)?;
        let unreadable = |fault: &dyn fmt::Display| Unusable::Certificate(fault.to_string());
        let parsed = EndEntityCert::try_from(first).map_err(|fault| unreadable(&fault))?;
        let validity = Validity::of(first).ok_or_else(|| unreadable(&"its validity is not as RFC 5280 has it"))?;
        let names = parsed.valid_dns_names().map(str::to_owned).collect();
        let self_issued = parsed.issuer() == parsed.subject();
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|fault| {
            let is_encrypted = key.contains("ENCRYPTED PRIVATE KEY");
            match matches!(fault, pem::Error::NoItemsFound) {
                true if is_encrypted => Unusable::KeyEncrypted,
                true => Unusable::NoKey,
                false => Unusable::KeyPem(shown(&fault)),
            }
        })?;
        let fingerprint = fingerprint(&chain, &private);
        let key = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|fault| {
            if matches!(fault, rustls::Error::InconsistentKeys(_)) {
                Unusable::Mismatch
            } else if matches!(fault, rustls::Error::InvalidCertificate(_)) {
                unreadable(&fault)
            } else {
                Unusable::Key(fault.to_string())
            }
        })?;
        let key = Arc::new(key);
        Ok(Self { key, validity, certificate_file: certificate_file.to_owned(), names, self_issued, fingerprint })
    }

    /// What handshakes are made with.
    pub const fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// From when until when the certificate counts.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Where the certificate was read.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate_file
    }

    /// Whether nobody vouches for the certificate but itself: whoever calls must be given it.
    pub const fn is_self_issued(&self) -> bool {
        self.self_issued
    }

    /// The host name to call by, where the certificate is not for this address itself.
    pub fn name_other_than(&self, address: IpAddr) -> Option<String> {
        let for_address = self.key.end_entity_cert().ok().and_then(|der| {
            EndEntityCert::try_from(der).ok()?.verify_is_valid_for_subject_name(&ServerName::from(address)).ok()
        });
        if for_address.is_some() {
            return None;
        }
        let plain = self.names.iter().find(|name| !name.starts_with('*'));
        let wild = || self.names.first().map(|name| name.replacen('*', "gateway", 1));
        plain.cloned().or_else(wild)
    }

    /// Two with the same fingerprint are the same certificates and the same key.
    pub(super) const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("file", &self.certificate_file).field("validity", &self.validity).finish()
    }
}

fn fingerprint(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in chain.iter().map(|der| der.as_ref()).chain([key.secret_der()]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// What is wrong with a PEM file, without quoting it: what stands there may be a part of the key.
fn shown(fault: &pem::Error) -> String {
    let words = match fault {
        pem::Error::MissingSectionEnd { .. } => "a -----BEGIN line has no -----END line",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "what stands between -----BEGIN and -----END is not base64",
        pem::Error::SectionTooLarge => "a section is too large",
        pem::Error::Io(_) | pem::Error::NoItemsFound => "it cannot be read",
        _ => "it is malformed",
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("made");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn read(certificates: &str, key: &str) -> Result<TlsIdentity, Unusable> {
        TlsIdentity::read(Path::new("c.pem"), certificates.as_bytes(), key)
    }

    #[test]
    fn a_pair_that_goes_together_is_read() {
        let (certificate, key) = pair("gateway.example.com");
        let identity = read(&certificate, &key).expect("read");
        assert!(identity.is_self_issued());
        let address = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(identity.name_other_than(address).as_deref(), Some("gateway.example.com"));
        let (of_address, its_key) = pair("127.0.0.1");
        assert_eq!(read(&of_address, &its_key).expect("read").name_other_than(address), None);
        let (wild, its_key) = pair("*.example.com");
        let name = read(&wild, &its_key).expect("read").name_other_than(address);
        assert_eq!(name.as_deref(), Some("gateway.example.com"));
        assert!(!format!("{identity:?}").contains("key"), "{identity:?}");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let (certificate, key) = pair("a.example");
        let (other, other_key) = pair("b.example");
        assert_eq!(read(&certificate, &other_key).expect_err("refused"), Unusable::Mismatch);
        let turned_around = format!("{other}{certificate}");
        assert_eq!(read(&turned_around, &key).expect_err("the issuer first"), Unusable::Mismatch);
        assert_eq!(read("", &key).expect_err("empty"), Unusable::NoCertificate);
        assert_eq!(read(&key, &key).expect_err("the key twice"), Unusable::NoCertificate);
        assert_eq!(read(&certificate, &certificate).expect_err("no key"), Unusable::NoKey);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(read(&certificate, encrypted).expect_err("encrypted"), Unusable::KeyEncrypted);
        let cut = &certificate[..certificate.len() / 2];
        assert!(matches!(read(cut, &key), Err(Unusable::CertificatePem(_))));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(read(garbage, &key), Err(Unusable::Certificate(_))));
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(read(&certificate, no_key), Err(Unusable::Key(_))));
        let bad_base64 = "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n";
        let fault = read(&certificate, bad_base64).expect_err("no base64").to_string();
        assert!(!fault.contains("secret"), "{fault}");
    }
}
