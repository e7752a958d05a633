//! The development key: made when no credential is configured and only this machine can reach the gateway.
//!
//! It is kept beside the records, readable by its owner only, so that a printed curl still works after a restart.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::settings::ApiKeySettings;
use crate::domain::access::{OrganizationScope, Permission};
use crate::http::keys;

/// A key that may do everything, on loopback.
#[derive(Debug, Clone)]
pub struct DevelopmentKey {
    /// The key itself.
    pub text: String,
    /// Where it is kept.
    pub file: PathBuf,
    /// What the gate compares with.
    pub settings: ApiKeySettings,
}

impl DevelopmentKey {
    /// Takes the key that is kept in the data directory, or makes one.
    ///
    /// # Errors
    /// When the file cannot be read or written, or others can read it.
    pub fn in_data_dir(data_dir: &Path) -> io::Result<Self> {
        let file = data_dir.join("development.key");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => {
                if std::fs::metadata(&file)?.permissions().mode() & 0o077 != 0 {
                    return Err(io::Error::other(format!(
                        "{} can be read by others; run `chmod 600` on it, or delete it to get a new key",
                        file.display()
                    )));
                }
                text.trim().to_owned()
            }
            // Somebody emptied it. A new file and not the old one, which others may be able to read.
            Ok(_) => {
                std::fs::remove_file(&file)?;
                Self::make(&file)?
            }
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Self::make(&file)?,
            Err(fault) => return Err(fault),
        };
        let settings = ApiKeySettings {
            name: "development".into(),
            sha256: keys::hash(&text),
            permissions: BTreeSet::from(Permission::ALL),
            organizations: OrganizationScope::All,
            expires: None,
        };
        Ok(Self { text, file, settings })
    }

    fn make(file: &Path) -> io::Result<String> {
        let made = keys::generate().map_err(io::Error::other)?;
        let mut options = std::fs::OpenOptions::new();
        let mut out = options.write(true).create_new(true).mode(0o600).open(file)?;
        io::Write::write_all(&mut out, made.text.as_bytes())?;
        io::Write::write_all(&mut out, b"\n")?;
        Ok(made.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = DevelopmentKey::in_data_dir(folder.path()).expect("made");
        let again = DevelopmentKey::in_data_dir(folder.path()).expect("kept");
        assert_eq!(first.text, again.text);
        assert!(first.text.starts_with("sg_"));
        let mode = std::fs::metadata(&first.file).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        std::fs::set_permissions(&first.file, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        std::fs::write(&first.file, "\n").expect("emptied");
        let new = DevelopmentKey::in_data_dir(folder.path()).expect("made anew");
        assert_ne!(new.text, first.text);
        let mode = std::fs::metadata(&first.file).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "whatever the emptied file was");

        std::fs::set_permissions(&first.file, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let fault = DevelopmentKey::in_data_dir(folder.path()).expect_err("refused");
        assert!(fault.to_string().contains("can be read by others"), "{fault}");
    }
}
