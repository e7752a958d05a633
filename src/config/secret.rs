//! Signing secrets and private keys: read from a file or from the environment, never from the configuration itself.
//!
//! A secret that is missing, empty, malformed or readable by others is a fault. With `create_secret` a missing file is
//! made once: complete and private from the first moment, and never over another one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::load::Environment;
use super::settings::WebhookSecret;
use super::source::Place;

/// A secret file holds one line, or a key and maybe its certificates; anything much longer is some other file.
const LONGEST_FILE_BYTES: u64 = 256 * 1024;

/// What kind of secret.
#[derive(Debug, Clone, Copy)]
pub(super) enum SecretKind {
    /// Signs deliveries.
    Signing,
    /// Belongs to a certificate.
    PrivateKey,
    /// Goes out with requests, as it is.
    Header,
    /// Says where a database is, and how to get in.
    Url,
}

impl SecretKind {
    /// What it is called in messages.
    const fn name(self) -> &'static str {
        match self {
            Self::Signing | Self::Header => "secret",
            Self::PrivateKey => "private key",
            Self::Url => "URL",
        }
    }

    /// What to do where there is no such file.
    const fn where_from(self) -> &'static str {
        match self {
            Self::Signing => "create it with mode 0600, or set `create_secret = true`",
            Self::PrivateKey | Self::Header | Self::Url => {
                "check that the file is there and that the gateway's user may read it"
            }
        }
    }
}

/// Where a secret is.
#[derive(Debug)]
pub(super) enum SecretPlace {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

impl SecretPlace {
    /// The file, if it is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Variable(_) => None,
        }
    }
}

impl std::fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => write!(f, "the environment variable `{name}`"),
        }
    }
}

/// A secret that the configuration refers to.
#[derive(Debug)]
pub(super) struct SecretSource<'a> {
    /// What it is for.
    pub(super) kind: SecretKind,
    /// Where it is.
    pub(super) place: SecretPlace,
    /// Where the configuration says so.
    pub(super) at: Place<'a>,
    /// Whether to make one where there is none.
    pub(super) create: bool,
    /// Whether it is the one that is being replaced.
    pub(super) previous: bool,
}

/// Reads a signing secret; what is wrong becomes a fault. Where a file is to be made but must not be (`may_write`), the
/// secret is made in memory only.
pub(super) fn read(source: &SecretSource<'_>, environment: Environment<'_>, may_write: bool) -> Option<WebhookSecret> {
    let secret = WebhookSecret::parse(&read_text(source, environment, may_write)?);
    if let Err(fault) = &secret {
        source.at.fault(format!("the secret in {} {fault}", source.place));
    }
    secret.ok()
}

/// The text of a secret, which is not empty; what is wrong becomes a fault.
pub(super) fn read_text(source: &SecretSource<'_>, environment: Environment<'_>, may_write: bool) -> Option<String> {
    let text = match &source.place {
        SecretPlace::Variable(name) => {
            let text = environment(name);
            if text.is_none() {
                source.at.fault(format!("the environment variable `{name}` is not set"));
            }
            text?
        }
        SecretPlace::File(path) => from_file(path, source, may_write)?,
    };
    if text.trim().is_empty() {
        source.at.fault(format!("the {} in {} is empty", source.kind.name(), source.place));
        return None;
    }
    Some(text)
}

fn from_file(path: &Path, source: &SecretSource<'_>, may_write: bool) -> Option<String> {
    let mut found = open_and_read(path);
    if source.create && matches!(&found, Err(error) if error.kind() == ErrorKind::NotFound) {
        let made = new_secret_text()
            .and_then(|text| if may_write { create(path, &text).map(|()| None) } else { Ok(Some(text)) });
        match made {
            Ok(Some(unwritten)) => return Some(unwritten),
            // Read again, because another process may have been faster.
            Ok(None) => found = open_and_read(path),
            Err(error) => {
                source.at.fault(format!("the secret file {} cannot be created: {error}", path.display()));
                return None;
            }
        }
    }
    let (text, found) = match found {
        Ok(found) => found,
        Err(error) => {
            let message = format!("the {} file {} cannot be read: {error}", source.kind.name(), path.display());
            source.at.hinted(message, source.kind.where_from());
            return None;
        }
    };
    if let Some(mode) = found.open_to_others() {
        let name = source.kind.name();
        let message = format!("others may read the {name} file {} (mode {mode:04o})", path.display());
        let hint = format!("chmod 600 {}", path.display());
        // A secret on its way out was exposed already; refusing to start would not undo that.
        if source.previous { source.at.warning(message, hint) } else { source.at.hinted(message, hint) }
    }
    Some(text)
}

/// Who may read a file.
#[derive(Debug, Clone, Copy)]
struct Access {
    mode: u32,
    owner: u32,
}

impl Access {
    /// The mode, if it lets others read what is secret, or anybody else write it.
    ///
    /// A file of somebody else's reaches this user through its group and in no other way: keys that root keeps for a
    /// service, and what Kubernetes and systemd mount, are like that. A file of our own needs no group.
    fn open_to_others(self) -> Option<u32> {
        let ours = self.owner == rustix::process::geteuid().as_raw();
        let allowed = if ours { 0o700 } else { 0o740 };
        (self.mode & 0o777 & !allowed != 0).then_some(self.mode & 0o7777)
    }
}

/// The text of a file, and who may read it.
fn open_and_read(path: &Path) -> io::Result<(String, Access)> {
    // Asked first: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut text = String::new();
    file.take(LONGEST_FILE_BYTES).read_to_string(&mut text)?;
    Ok((text, Access { mode: metadata.mode(), owner: metadata.uid() }))
}

/// A fresh secret: 256 random bits.
fn new_secret_text() -> io::Result<String> {
    Ok(format!("{}\n", WebhookSecret::random().map_err(io::Error::other)?.to_text()))
}

/// Puts a new file into place, whole or not at all. A file that is there already stays.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = write_private(&unfinished, text).and_then(|()| std::fs::hard_link(&unfinished, path));
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.exists() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(folder)?.sync_all(),
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_secret_is_private_and_never_replaces_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/down/a.secret");
        let text = new_secret_text().expect("a secret");
        create(&path, &text).expect("created");
        create(&path, "whsec_other").expect("left alone");
        let (found, access) = open_and_read(&path).expect("read");
        assert_eq!((found, access.mode & 0o777, access.open_to_others()), (text, 0o600, None));
        let names: Vec<_> = std::fs::read_dir(path.parent().expect("a folder")).expect("listed").collect();
        assert_eq!(names.len(), 1, "nothing else is left behind: {names:?}");
        let folder_mode = std::fs::metadata(folder.path().join("deep")).expect("there").mode();
        assert_eq!(folder_mode & 0o777, 0o700);
    }

    #[test]
    fn a_group_may_read_only_what_is_not_our_own() {
        let us = rustix::process::geteuid().as_raw();
        let open = |owner, mode: u32| Access { mode: 0o100_000 | mode, owner }.open_to_others().is_some();
        for (mode, ours_is_open, anothers_is_open) in [
            (0o400, false, false),
            (0o600, false, false),
            (0o640, true, false),
            (0o440, true, false),
            (0o660, true, true),
            (0o644, true, true),
            (0o601, true, true),
        ] {
            assert_eq!((open(us, mode), open(us + 1, mode)), (ours_is_open, anothers_is_open), "{mode:o}");
        }
    }

    #[test]
    fn fresh_secrets_are_secrets_and_differ() {
        let [one, other] = [new_secret_text().expect("one"), new_secret_text().expect("other")];
        assert!(WebhookSecret::parse(&one).is_ok());
        assert_ne!(one, other);
    }
}
