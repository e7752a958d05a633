//! TLS on the listeners: `[tls]` and `[admin_tls]`, a certificate and its private key each.
//!
//! The pair is read and tried whenever the configuration is read, so whatever is wrong with it is a fault with a line
//! like every other, at a start and in a running gateway.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::routing_queue::secret_source;
use crate::config::identity::{Identities, TlsIdentity};
use crate::config::keys::{self, Keys};
use crate::config::load::Environment;
use crate::config::raw::Table;
use crate::config::secret::{self, SecretKind, SecretSource};
use crate::config::source::Place;
use crate::domain::time::Timestamp;

/// A chain of certificates is some kilobytes.
const LARGEST_CERTIFICATE_FILE_BYTES: u64 = 256 * 1024;

/// The listeners' certificates, and the files to watch.
pub(super) fn identities(main: &Table<'_>, environment: Environment<'_>) -> (Identities, Vec<PathBuf>) {
    let mut files = Vec::new();
    let mut of = |key: &str, keys: Keys| {
        let table = main.table(key, keys)?;
        identity(&table, environment, &mut files).map(Arc::new)
    };
    let identities = Identities { public: of("tls", keys::TLS), admin: of("admin_tls", keys::ADMIN_TLS) };
    (identities, files)
}

fn identity(table: &Table<'_>, environment: Environment<'_>, files: &mut Vec<PathBuf>) -> Option<TlsIdentity> {
    // As the organizations: relative to the folder of the file that names it.
    let folder = Path::new(table.at.file_name()).parent().unwrap_or_else(|| Path::new(""));
    let named = table.required_string("certificate_file");
    let key = secret_source(table, folder, ["private_key_file", "private_key_env"]);
    if key.is_none() && !table.has("private_key_file") && !table.has("private_key_env") {
        let hint =
            "name the file (`private_key_file`) or the environment variable (`private_key_env`) that holds the key";
        table.at.hinted("`private_key_file` or `private_key_env` is missing", hint);
    }
    let (named, (place, key_at)) = (named?, key?);
    let path = folder.join(named.value);
    files.push(path.clone());
    files.extend(place.file());
    let certificates = read_certificates(&path, named.at);
    let shown_place = place.to_string();
    let source = SecretSource { kind: SecretKind::PrivateKey, place, at: key_at, create: false, previous: false };
    let key = secret::read_text(&source, environment, false);
    let (certificates, key) = (certificates?, key?);
    let identity = TlsIdentity::read(&path, &certificates, &key);
    match identity {
        Ok(identity) => {
            warn_of_its_time(&identity, Timestamp::now(), named.at);
            Some(identity)
        }
        Err(fault) if fault.is_about_the_certificate() => {
            named.at.hinted(format!("the certificate file {} {fault}", path.display()), fault.hint());
            None
        }
        Err(fault) => {
            let of = format!(" (the certificate is in {})", path.display());
            key_at.hinted(format!("the private key in {shown_place} {fault}{of}"), fault.hint());
            None
        }
    }
}

/// An expired certificate is no fault at a start: whoever does not look at it is still served, and the others are no
/// worse off than with a gateway that does not start.
fn warn_of_its_time(identity: &TlsIdentity, now: Timestamp, at: Place<'_>) {
    let (validity, file) = (identity.validity(), identity.certificate_file().display());
    if validity.not_after < now {
        let message = format!("the certificate in {file} has expired at {}; callers refuse it", validity.not_after);
        at.warning(message, "put a new certificate and its key into the files; a running gateway takes them at once");
    } else if now < validity.not_before {
        let message = format!("the certificate in {file} counts only from {} on", validity.not_before);
        at.warning(message, "callers refuse it until then; check the clock of this machine");
    }
}

pub(super) fn read_certificates(path: &Path, at: Place<'_>) -> Option<Vec<u8>> {
    match read_bounded(path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let message = format!("the certificate file {} cannot be read: {error}", path.display());
            at.hinted(message, "check that the file is there and that the gateway's user may read it");
            None
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Asked first: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_CERTIFICATE_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_CERTIFICATE_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {LARGEST_CERTIFICATE_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
