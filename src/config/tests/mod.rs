//! The configuration as a whole: files on disk in, settings or faults out.

mod database;
mod faults;
mod live;
mod manual;
mod properties;
mod rules;
mod tls;
mod written;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::load::{Attempt, Config, Origin, Outside, Overrides, read_with};
use super::stored::Stored;
use super::{Fault, Faults};

/// No variables, and an empty store.
pub(super) const NOTHING_OUTSIDE: Outside<'static> =
    Outside { environment: &|_| None, stored: &|_| Ok(Stored::default()) };

/// The smallest organization.
pub(super) const CONTOSO: &str =
    "[organization]\nid = \"0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10\"\nunique_name = \"contoso\"\n";

/// A configuration on disk, gone when dropped.
pub(super) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// `streamgate.toml` with this text, and these organizations by file name.
    pub(super) fn new(main: &str, organizations: &[(&str, &str)]) -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(files.path("organizations")).expect("a folder");
        files.write("streamgate.toml", main);
        for (name, text) in organizations {
            files.write(&format!("organizations/{name}"), text);
        }
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// A self-issued certificate for `gateway.example.com`, and its key, readable by its owner only.
    pub(super) fn write_pair(&self, certificate: &str, key: &str) {
        self.write_pair_until(certificate, key, 2_999);
    }

    /// One that expires at the beginning of this year. Answers its PEM.
    pub(super) fn write_pair_until(&self, certificate: &str, key: &str, year: i32) -> String {
        let mut parameters = rcgen::CertificateParams::new(vec!["gateway.example.com".to_owned()]).expect("parameters");
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let made = rcgen::KeyPair::generate().expect("a key");
        let signed = parameters.self_signed(&made).expect("signed");
        std::fs::create_dir_all(self.path(key).parent().expect("a folder")).expect("a folder");
        self.write(certificate, &signed.pem());
        self.write(key, &made.serialize_pem());
        std::fs::set_permissions(self.path(key), std::fs::Permissions::from_mode(0o600)).expect("private");
        signed.pem()
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::File(self.path("streamgate.toml"))
    }

    pub(super) fn overrides(&self) -> Overrides {
        Overrides { data_dir: Some(self.path("data")), ..Overrides::default() }
    }

    pub(super) fn load(&self) -> Result<Config, Faults> {
        self.attempt(&self.overrides()).outcome
    }

    pub(super) fn attempt(&self, overrides: &Overrides) -> Attempt {
        let environment = |name: &str| (name == "SECRET").then(|| format!("whsec_{}", "QUFB".repeat(8)));
        let outside = Outside { environment: &environment, ..NOTHING_OUTSIDE };
        read_with(&self.origin(), overrides, None, &outside)
    }

    /// The faults as `file:line: message`, file names relative to the folder.
    pub(super) fn faults(&self) -> Vec<String> {
        self.load().map(|_| Vec::new()).unwrap_or_else(|faults| faults.iter().map(|fault| self.short(fault)).collect())
    }

    pub(super) fn short(&self, fault: &Fault) -> String {
        let file = Path::new(&fault.file).strip_prefix(self.folder.path()).unwrap_or_else(|_| Path::new(&fault.file));
        format!("{}:{}: {}", file.display(), fault.line, fault.message)
    }
}
