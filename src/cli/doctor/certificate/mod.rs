//! Certificates: what is in one, how long it holds, and whether a file of them can serve a listener.
//!
//! [`files`] looks at a chain and its key as PEM files. Whether a chain is trusted is up to those who connect; what is
//! looked at here is what makes every one of them refuse it.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::name::Name;

use super::finding::{Check, Finding, capped, list_in_words};
use super::{Scene, Tell};
use crate::domain::time::Timestamp;

/// A chain or a key is much shorter; what is longer is some other file.
const LONGEST_FILE_BYTES: u64 = 1 << 20;
/// So long before its end a certificate is worth a warning.
const SOON_DAYS: i64 = 30;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// What is in a certificate.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    subject: Name,
    issuer: Name,
    /// The host names and addresses that it is for.
    pub(super) names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    is_authority: bool,
}

/// Tells about the listeners' certificates, and about files that are named besides. That a listener's key belongs to its
/// certificate was seen when the configuration was read.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let listeners = scene.config().into_iter().flat_map(|config| config.effective.identities.named());
    let configured: Vec<_> = listeners.map(|(_, identity)| identity.certificate_file().to_owned()).collect();
    for chain in &configured {
        tell.all(files(chain, None, Timestamp::now()));
    }
    match &scene.args.certificate {
        Some(chain) => tell.all(files(chain, scene.args.certificate_key.as_deref(), Timestamp::now())),
        None if configured.is_empty() => tell.one(
            Finding::ok(Check::Certificate, "none is configured")
                .so("to have that of the proxy in front looked at, name its file with --certificate"),
        ),
        None => {}
    }
}

/// Looks at a certificate chain in a PEM file, its owner's certificate first, and at the key for it.
pub(super) fn files(chain: &Path, key: Option<&Path>, now: Timestamp) -> Vec<Finding> {
    let mut findings = match read_chain(chain) {
        Ok(certificates) => judge_chain(&certificates, now),
        Err(finding) => vec![*finding],
    };
    findings = findings.into_iter().map(|finding| finding.about(chain.display().to_string())).collect();
    findings.extend(key.map(|key| judge_key(chain, key).about(key.display().to_string())));
    findings
}

/// The file, if it is one and not much too large.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Asked first: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unusable(found: String, mend: &str) -> Finding {
    Finding::fault(Check::Certificate, found, "a listener cannot use it", mend)
}

fn pem_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Box<Finding>> {
    let bytes = read_file(path).map_err(|fault| {
        unusable(
            format!("cannot be read: {fault}"),
            "name the file of the certificate chain, and let this user read it",
        )
    })?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let mend = "it has to hold `-----BEGIN CERTIFICATE-----` and its end, the certificate of the listener first";
    match read {
        Ok(chain) if chain.is_empty() => Err(Box::new(unusable("holds no certificate in PEM".to_owned(), mend))),
        Ok(chain) => Ok(chain),
        Err(fault) => Err(Box::new(unusable(format!("is not PEM: {fault}"), mend))),
    }
}

fn read_chain(path: &Path) -> Result<Vec<Certificate>, Box<Finding>> {
    let chain = pem_chain(path)?;
    let read: Result<_, _> = chain.iter().map(|der| read(der)).collect();
    read.map_err(|fault| {
        let found = format!("holds a certificate that cannot be read: {fault}");
        Box::new(unusable(found, "have it issued again"))
    })
}

/// Reads one certificate.
///
/// # Errors
/// What is wrong with its encoding.
pub(super) fn read(der: &[u8]) -> Result<Certificate, String> {
    let whole = x509_cert::Certificate::from_der(der).map_err(|fault| fault.to_string())?;
    let inner = whole.tbs_certificate();
    let moment = |time: x509_cert::time::Time| {
        Timestamp::from_millis(i64::try_from(time.to_unix_duration().as_millis()).unwrap_or(i64::MAX))
    };
    let names = match inner.get_extension::<SubjectAltName>() {
        Ok(Some((_, names))) => names.0.iter().filter_map(name_in_words).collect(),
        Ok(None) => Vec::new(),
        Err(fault) => return Err(fault.to_string()),
    };
    let constraints = inner.get_extension::<BasicConstraints>().map_err(|fault| fault.to_string())?;
    Ok(Certificate {
        subject: inner.subject().clone(),
        issuer: inner.issuer().clone(),
        names,
        not_before: moment(inner.validity().not_before),
        not_after: moment(inner.validity().not_after),
        is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
    })
}

fn name_in_words(name: &GeneralName) -> Option<String> {
    if let GeneralName::DnsName(name) = name {
        return Some(capped(name.as_ref()));
    }
    let GeneralName::IpAddress(bytes) = name else { return None };
    match *bytes.as_bytes() {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
        ref long => <[u8; 16]>::try_from(long).ok().map(|long| IpAddr::from(long).to_string()),
    }
}

/// How long a chain holds: as long as the certificate in it that ends first.
pub(super) fn life(check: Check, chain: &[Certificate], now: Timestamp) -> Finding {
    let consequence = "whoever connects refuses it";
    if let Some(early) = chain.iter().find(|certificate| certificate.not_before > now) {
        let found = format!("holds only from {} on", early.not_before);
        return Finding::fault(check, found, consequence, "wait, or set the clock of this machine");
    }
    let Some(first_to_end) = chain.iter().min_by_key(|certificate| certificate.not_after) else {
        return Finding::fault(check, "there is no certificate", consequence, "have one issued");
    };
    let whose = match chain.first() {
        Some(own) if own.subject == first_to_end.subject => String::new(),
        Some(_) | None => format!(" (the intermediate {})", capped(&first_to_end.subject.to_string())),
    };
    let days = first_to_end.not_after.millis().saturating_sub(now.millis()).div_euclid(DAY_MILLIS);
    let measured = serde_json::json!({ "notAfter": first_to_end.not_after, "daysLeft": days });
    let names = chain.first().map(|own| list_in_words(&own.names)).unwrap_or_default();
    let renew = "renew it, and find out why that did not happen by itself";
    let finding = if first_to_end.not_after < now {
        let found = format!("ended {}{whose}", first_to_end.not_after);
        Finding::fault(check, found, consequence, renew)
    } else if days < SOON_DAYS {
        let found = format!("for {names}, ends in {days} days, {}{whose}", first_to_end.not_after);
        Finding::warning(check, found, format!("from then on {consequence}"), renew)
    } else {
        Finding::ok(check, format!("for {names}, ends in {days} days, {}{whose}", first_to_end.not_after))
    };
    finding.measured(measured)
}

/// What makes everybody, or most, refuse a chain.
fn judge_chain(chain: &[Certificate], now: Timestamp) -> Vec<Finding> {
    let check = Check::Certificate;
    let mut findings = vec![life(check, chain, now)];
    let Some((own, rest)) = chain.split_first() else { return findings };
    if own.names.is_empty() {
        let found = "names no host: it has no subject alternative name";
        let mend = "have it issued with the host names that callers use as subject alternative names";
        findings.push(Finding::fault(
            check,
            found,
            "clients refuse it; the common name is not looked at any more",
            mend,
        ));
    }
    if own.is_authority {
        let found = format!("the first certificate is that of an authority ({})", capped(&own.subject.to_string()));
        let mend = "put the listener's own certificate first";
        findings.push(Finding::fault(check, found, "clients refuse an authority's certificate for a host", mend));
    }
    let self_signed = own.subject == own.issuer;
    if self_signed {
        let found = "is signed by itself";
        let consequence = "nobody trusts it who was not told to; Power Automate cannot be";
        findings.push(Finding::warning(
            check,
            found,
            consequence,
            "have one issued by an authority that callers trust",
        ));
    } else if rest.is_empty() {
        let found = format!("is alone in the file; its issuer is {}", capped(&own.issuer.to_string()));
        let consequence =
            "right if that is an authority that callers know themselves; an intermediate they do not have, and refuse";
        findings.push(Finding::note(check, found, consequence).mend("use the file with the whole chain (fullchain)"));
    }
    let broken = chain.windows(2).find_map(|pair| match pair {
        [one, next] if one.issuer != next.subject => Some(one),
        _ => None,
    });
    if let Some(one) = broken {
        let is_elsewhere = chain.iter().any(|other| other.subject == one.issuer);
        let order = if is_elsewhere { "which stands elsewhere in the file" } else { "which is not in the file" };
        let found = format!(
            "{} is not followed by its issuer, {}, {order}",
            capped(&one.subject.to_string()),
            capped(&one.issuer.to_string())
        );
        let consequence = "strict clients refuse a chain in another order, or with a gap";
        let mend = "order it: the listener's own certificate, then each certificate's issuer, without what does not belong there";
        findings.push(Finding::fault(check, found, consequence, mend));
    }
    findings
}

/// The key of a chain: may others read it, and is it the right one.
fn judge_key(chain: &Path, path: &Path) -> Finding {
    let check = Check::Certificate;
    let mode = std::fs::metadata(path).map(|found| found.mode() & 0o7777);
    let bytes = match read_file(path) {
        Ok(bytes) => bytes,
        Err(fault) => {
            return unusable(
                format!("the key cannot be read: {fault}"),
                "name the file of the key, and let this user read it",
            );
        }
    };
    // What it says could quote the file.
    let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) else {
        let mend = "it has to hold `-----BEGIN PRIVATE KEY-----` and its end";
        return unusable("holds no key in PEM".to_owned(), mend);
    };
    if let Some(mode) = mode.ok().filter(|mode| mode & 0o077 != 0) {
        let found = format!("others can read the key (mode {mode:04o})");
        let consequence = "whoever has it can pretend to be this listener, and read along";
        let mend =
            format!("chmod 600 {}, and replace key and certificate if somebody may have read it", path.display());
        return Finding::fault(check, found, consequence, mend);
    }
    let Some(provider) = CryptoProvider::get_default() else {
        return Finding::note(check, "the key was not compared with the certificate", "no TLS provider is installed");
    };
    let Ok(certificates) = pem_chain(chain) else {
        return Finding::note(check, "the key was not compared with the certificate", "that cannot be read");
    };
    let matching =
        provider.key_provider.load_private_key(key).and_then(|key| CertifiedKey::new(certificates, key).keys_match());
    match matching {
        Ok(()) => Finding::ok(check, "the key is the certificate's, and only its owner can read it"),
        Err(fault) => {
            let mend =
                "name the key that the certificate was requested with, or have a new certificate issued for this one";
            unusable(format!("the key is not the certificate's: {fault}"), mend)
        }
    }
}

#[cfg(test)]
mod tests;
