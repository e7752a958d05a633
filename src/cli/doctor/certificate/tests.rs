//! Certificates made for the purpose, good and bad.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{BasicConstraints as Constraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::cli::doctor::finding::Severity;

/// 2026-09-21.
const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// A chain of three on disk: a listener's, an intermediate's, a root's.
struct Chain {
    folder: TempDir,
    pems: Vec<String>,
    key: String,
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name, &[]);
    params.is_ca = IsCa::Ca(Constraints::Unconstrained);
    params
}

impl Chain {
    fn new(own: CertificateParams) -> Self {
        crate::app::install_crypto_provider();
        let keys: Vec<_> = (0..3).map(|_| KeyPair::generate().expect("a key")).collect();
        let (root, between) = (authority("Root"), authority("Intermediate"));
        let root_pem = root.self_signed(&keys[0]).expect("signed").pem();
        let by_root = Issuer::from_params(&root, &keys[0]);
        let between_pem = between.signed_by(&keys[1], &by_root).expect("signed").pem();
        let own_pem = own.signed_by(&keys[2], &Issuer::from_params(&between, &keys[1])).expect("signed").pem();
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, pems: vec![own_pem, between_pem, root_pem], key: keys[2].serialize_pem() }
    }

    /// Looks at a file of these of its certificates.
    fn judged(&self, order: &[usize]) -> Vec<Finding> {
        let path = self.folder.path().join("chain.pem");
        std::fs::write(&path, order.iter().map(|at| self.pems[*at].as_str()).collect::<String>()).expect("written");
        files(&path, None, NOW)
    }

    fn judged_with_key(&self, key: &str, mode: u32) -> Finding {
        let (chain, path) = (self.folder.path().join("chain.pem"), self.folder.path().join("key.pem"));
        std::fs::write(&chain, self.pems.concat()).expect("written");
        std::fs::write(&path, key).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        files(&chain, Some(&path), NOW).pop().expect("a finding")
    }
}

fn worst(findings: &[Finding]) -> Severity {
    for finding in findings.iter().filter(|finding| finding.severity > Severity::Note) {
        assert!(finding.consequence.is_some() && finding.mend.is_some(), "{finding:?}");
    }
    findings.iter().map(|finding| finding.severity).max().expect("a finding")
}

fn good() -> CertificateParams {
    named("gateway.example.com", &["gateway.example.com", "127.0.0.1", "::1"])
}

#[test]
fn a_good_chain_is_fine_and_read() {
    let chain = Chain::new(good());
    let findings = chain.judged(&[0, 1]);
    assert_eq!(worst(&findings), Severity::Ok, "{findings:?}");
    assert!(findings[0].found.contains("gateway.example.com, 127.0.0.1, ::1, ends in 101 days"), "{findings:?}");
    assert_eq!(findings[0].measured.as_ref().expect("figures")["daysLeft"], 101);
    assert_eq!(worst(&chain.judged(&[0, 1, 2])), Severity::Ok);
}

#[test]
fn what_ends_soon_or_has_ended_is_told() {
    let holding = |from: (i32, u8, u8), to: (i32, u8, u8)| {
        let mut params = good();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        params
    };
    for (params, severity) in [
        (holding((2026, 1, 1), (2026, 10, 1)), Severity::Warning),
        (holding((2026, 1, 1), (2026, 9, 20)), Severity::Fault),
        (holding((2026, 10, 1), (2027, 1, 1)), Severity::Fault),
    ] {
        assert_eq!(worst(&Chain::new(params).judged(&[0, 1])), severity);
    }
}

#[test]
fn chains_that_clients_refuse_are_told() {
    let chain = Chain::new(good());
    for (order, severity) in [
        (&[1, 0][..], Severity::Fault),
        (&[0, 2, 1], Severity::Fault),
        (&[0, 2], Severity::Fault),
        (&[0], Severity::Note),
        (&[2], Severity::Fault),
        (&[], Severity::Fault),
    ] {
        let findings = chain.judged(order);
        assert_eq!(worst(&findings), severity, "{order:?} {findings:?}");
    }
    assert_eq!(worst(&Chain::new(named("nobody", &[])).judged(&[0, 1])), Severity::Fault);
    let own_key = KeyPair::generate().expect("a key");
    let alone = Chain { pems: vec![good().self_signed(&own_key).expect("signed").pem()], ..chain };
    assert_eq!(worst(&alone.judged(&[0])), Severity::Warning);
}

#[test]
fn what_is_no_certificate_is_a_fault_and_not_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd.pem");
    assert_eq!(worst(&files(&path, None, NOW)), Severity::Fault);
    assert_eq!(worst(&files(folder.path(), None, NOW)), Severity::Fault);
    let odd = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!!!\n", odd] {
        std::fs::write(&path, text).expect("written");
        assert_eq!(worst(&files(&path, None, NOW)), Severity::Fault, "{text:?}");
    }
}

#[test]
fn keys_are_compared_and_their_mode_is_looked_at() {
    let chain = Chain::new(good());
    assert_eq!(chain.judged_with_key(&chain.key, 0o600).severity, Severity::Ok);
    assert_eq!(chain.judged_with_key(&chain.key, 0o640).severity, Severity::Fault);
    let other = KeyPair::generate().expect("a key").serialize_pem();
    let wrong = chain.judged_with_key(&other, 0o600);
    assert!(wrong.severity == Severity::Fault && wrong.found.contains("not the certificate's"), "{wrong:?}");
    assert_eq!(chain.judged_with_key("nonsense", 0o600).severity, Severity::Fault);
}
