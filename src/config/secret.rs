//! Secrets: read from a file or from the environment, never from the configuration itself.
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

/// A secret file holds one line; anything much longer is some other file.
const LONGEST_FILE_BYTES: u64 = 4_096;

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

/// A secret that the configuration refers to.
#[derive(Debug)]
pub(super) struct SecretSource<'a> {
    /// Where it is.
    pub(super) place: SecretPlace,
    /// Where the configuration says so.
    pub(super) at: Place<'a>,
    /// Whether to make one where there is none.
    pub(super) create: bool,
    /// Whether it is the one that is being replaced.
    pub(super) previous: bool,
}

/// Reads a secret; what is wrong becomes a fault. Where a file is to be made but must not be (`may_write`), the secret
/// is made in memory only.
pub(super) fn read(source: &SecretSource<'_>, environment: Environment<'_>, may_write: bool) -> Option<WebhookSecret> {
    let text = read_text(source, environment, may_write)?;
    let secret = WebhookSecret::parse(&text);
    if let Err(fault) = &secret {
        source.at.fault(format!("the secret in {} {fault}", described(&source.place)));
    }
    secret.ok()
}

/// Reads a secret of any form, as [`read`] does. It is not blank.
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
        source.at.fault(format!("the secret in {} is empty", described(&source.place)));
        return None;
    }
    Some(text)
}

/// The place in words.
pub(super) fn described(place: &SecretPlace) -> String {
    match place {
        SecretPlace::File(path) => path.display().to_string(),
        SecretPlace::Variable(name) => format!("the environment variable `{name}`"),
    }
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
    let (text, mode) = match found {
        Ok(found) => found,
        Err(error) => {
            let hint = "create it with mode 0600, or set `create_secret = true`";
            source.at.hinted(format!("the secret file {} cannot be read: {error}", path.display()), hint);
            return None;
        }
    };
    if mode & 0o077 != 0 {
        let message = format!("others may read the secret file {} (mode {:04o})", path.display(), mode & 0o7777);
        let hint = format!("chmod 600 {}", path.display());
        // A secret on its way out was exposed already; refusing to start would not undo that.
        if source.previous { source.at.warning(message, hint) } else { source.at.hinted(message, hint) }
    }
    Some(text)
}

/// The text of a file, and its mode.
fn open_and_read(path: &Path) -> io::Result<(String, u32)> {
    // Asked first: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.take(LONGEST_FILE_BYTES).read_to_string(&mut text)?;
    Ok((text, mode))
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
        let (found, mode) = open_and_read(&path).expect("read");
        assert_eq!((found, mode & 0o777), (text, 0o600));
        let names: Vec<_> = std::fs::read_dir(path.parent().expect("a folder")).expect("listed").collect();
        assert_eq!(names.len(), 1, "nothing else is left behind: {names:?}");
        let folder_mode = std::fs::metadata(folder.path().join("deep")).expect("there").mode();
        assert_eq!(folder_mode & 0o777, 0o700);
    }

    #[test]
    fn fresh_secrets_are_secrets_and_differ() {
        let [one, other] = [new_secret_text().expect("one"), new_secret_text().expect("other")];
        assert!(WebhookSecret::parse(&one).is_ok());
        assert_ne!(one, other);
    }
}
