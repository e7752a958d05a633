//! Finds the files, reads them, has them checked. What comes out is complete, or it is the list of all faults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use toml::Spanned;
use toml::de::DeTable;

use super::check::{self, Checked};
use super::fault::{Fault, Faults, Report};
use super::keys;
use super::raw::Table;
use super::settings::{Effective, Process};
use super::source::SourceFile;
use super::sources::{Pattern, Sources};
use super::stored::{ReadStored, Stored};
use crate::domain::catalog::Catalog;
use crate::domain::time::Timestamp;

/// The file that is looked for where none is named, relative to the working directory.
pub const DEFAULT_PATH: &str = "config/streamgate.toml";
/// The manual: every setting with its default and its reason. It is also what runs where there is no file.
pub const MANUAL: &str = include_str!("../../config/streamgate.toml");
/// The example of an organization, which admits the sample records.
pub const EXAMPLE_ORGANIZATION: &str = include_str!("../../config/organizations/contoso.toml");

const EXAMPLE_ORGANIZATION_NAME: &str = "config/organizations/contoso.toml (built in)";

/// What the command line says, which counts more than what the files say.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Where records are kept.
    pub data_dir: Option<PathBuf>,
    /// The public listener.
    pub listen: Option<SocketAddr>,
    /// The second listener.
    pub admin_listen: Option<SocketAddr>,
    /// Leave the disk as it is: a signing secret that is yet to be created is made up in memory. For commands that only
    /// look, which may run as another user than the gateway.
    pub read_only: bool,
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This file, and the organizations that it names.
    File(PathBuf),
    /// The example that is compiled in.
    BuiltIn,
}

impl Origin {
    /// The named file; without a name [`DEFAULT_PATH`] where it exists, else the built-in example.
    fn find(path: Option<&Path>) -> Self {
        let default = Path::new(DEFAULT_PATH);
        match path {
            Some(path) => Self::File(path.to_owned()),
            // A file that exists but may not be read must not silently become the example.
            None if default.symlink_metadata().is_ok() => Self::File(default.to_owned()),
            None => Self::BuiltIn,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::BuiltIn => write!(f, "{DEFAULT_PATH} (built in)"),
        }
    }
}

/// A configuration without a fault.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is fixed while the process runs.
    pub process: Process,
    /// What a reload replaces.
    pub effective: Effective,
    /// Where it comes from.
    pub origin: Origin,
    /// The files that were read, in the order of reading; none for the built-in example.
    pub sources: Vec<PathBuf>,
    /// What somebody should look at, by place. Nothing here keeps the gateway from working.
    pub warnings: Vec<Fault>,
    /// How it was asked for, so that it can be asked for again.
    pub(super) overrides: Overrides,
    /// Two readings with the same digest mean the same.
    pub(super) digest: [u8; 32],
    /// Made of what the files say, wherever they lie.
    pub(super) files: String,
    /// What to watch.
    pub(super) watched: Sources,
}

/// Loads the configuration: the file at `path`; without a path [`DEFAULT_PATH`] in the working directory; where that does
/// not exist, the built-in example. [`Config::origin`] says which it was.
///
/// Blocks on the disk. A missing signing secret that is to be created is created here, after everything else was found
/// to be right (see [`Overrides::read_only`]).
///
/// # Errors
/// All faults of all files.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Faults> {
    load_with_stored(path, overrides, &|_| Ok(Stored::default()))
}

/// As [`load`], with what `stored` reads from the store: what was configured through the administration.
///
/// # Errors
/// All faults of all files and of what is in the store.
pub fn load_with_stored(path: Option<&Path>, overrides: &Overrides, stored: ReadStored<'_>) -> Result<Config, Faults> {
    read(&Origin::find(path), overrides, None, stored).outcome
}

impl Config {
    /// The same configuration over what the store holds by now. Blocks on the disk where that is other than it was: the
    /// files are read again.
    ///
    /// # Errors
    /// As [`load_with_stored`].
    pub fn over(self, stored: Stored) -> Result<Self, Faults> {
        if *self.effective.layers.stored == stored {
            return Ok(self);
        }
        read(&self.origin, &self.overrides, None, &|_| Ok(stored.clone())).outcome
    }
}

/// Where environment variables come from.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a reading asks besides the files.
pub(super) struct Outside<'a> {
    /// Where variables come from.
    pub(super) environment: Environment<'a>,
    /// What the store holds; which store that is, the process's settings say.
    pub(super) stored: ReadStored<'a>,
}

/// One reading: what to watch is known even when there are faults.
pub(super) struct Attempt {
    pub(super) sources: Sources,
    pub(super) outcome: Result<Config, Faults>,
}

/// Reads everything again. `previous` is the generation that is effective now.
pub(super) fn read(origin: &Origin, overrides: &Overrides, previous: Option<u64>, stored: ReadStored<'_>) -> Attempt {
    read_with(origin, overrides, previous, &Outside { environment: &|name| std::env::var(name).ok(), stored })
}

/// As [`read`], with everything else from elsewhere.
pub(super) fn read_with(
    origin: &Origin,
    overrides: &Overrides,
    previous: Option<u64>,
    outside: &Outside<'_>,
) -> Attempt {
    let report = Report::default();
    let main = match origin {
        Origin::BuiltIn => Some(SourceFile::new(origin.to_string(), MANUAL)),
        Origin::File(path) => SourceFile::read(path, &report),
    };
    let examined = examine(Examination { origin, main, overrides, outside, report: &report });
    let Examined { checked, sources, files, digest, said } = examined;
    let outcome = report.outcome().map(|warnings| {
        let generation = next_generation(previous.max(Some(checked.layers.stored.generation)));
        Config {
            process: checked.process,
            effective: Effective {
                catalog: Arc::new(Catalog::new(generation, checked.organizations)),
                credentials: Arc::new(checked.credentials),
                routing_queues: Arc::new(checked.routing_queues),
                delivery: checked.delivery,
                subscriptions: checked.subscriptions,
                identities: checked.identities,
                layers: checked.layers,
            },
            origin: origin.clone(),
            sources: files,
            warnings,
            overrides: overrides.clone(),
            digest,
            files: said,
            watched: sources.clone(),
        }
    });
    Attempt { sources, outcome }
}

/// The second in which a configuration becomes effective, so that generations grow over restarts; or the next number,
/// when changes follow each other faster than the seconds, or the clock was put back.
pub(super) fn next_generation(previous: Option<u64>) -> u64 {
    let now = u64::try_from(Timestamp::now().seconds()).unwrap_or(0);
    previous.map_or(now, |previous| now.max(previous.saturating_add(1)))
}

struct Examination<'a> {
    origin: &'a Origin,
    main: Option<SourceFile>,
    overrides: &'a Overrides,
    outside: &'a Outside<'a>,
    report: &'a Report,
}

struct Examined {
    checked: Checked,
    sources: Sources,
    files: Vec<PathBuf>,
    digest: [u8; 32],
    said: String,
}

fn examine(given: Examination<'_>) -> Examined {
    let Examination { origin, main, overrides, outside, report } = given;
    let unread = SourceFile::new(origin.to_string(), "");
    let nothing = DeTable::new();
    let root = main.as_ref().and_then(|file| file.parse(report));
    let main_was_read = root.is_some();
    let place = main.as_ref().unwrap_or(&unread).at(0, report);
    let main_table = Table::open(root.as_ref().map_or(&nothing, Spanned::get_ref), place, keys::PROCESS);

    let pattern = pattern(origin, &main_table);
    let (organization_files, all_listed) = match origin {
        Origin::BuiltIn => (vec![SourceFile::new(EXAMPLE_ORGANIZATION_NAME, EXAMPLE_ORGANIZATION)], true),
        Origin::File(path) => read_organizations(pattern.as_ref(), path, &main_table, main_was_read),
    };
    let roots: Vec<_> = organization_files.iter().filter_map(|file| Some((file, file.parse(report)?))).collect();
    let organizations = roots
        .iter()
        .map(|(file, root)| Table::open(root.get_ref(), file.at(0, report), keys::ORGANIZATION_FILE))
        .collect::<Vec<_>>();
    let all_were_read = all_listed && organizations.len() == organization_files.len();
    let input = check::Input { main: main_table, main_was_read, organizations, all_were_read, overrides, outside };
    let checked = check::check(&input);

    let read: Vec<_> = main.iter().chain(&organization_files).collect();
    let digest = digest(&read, &checked);
    let said = said(&organization_files, &checked);
    let (main_path, files) = match origin {
        Origin::BuiltIn => (None, Vec::new()),
        Origin::File(path) => (Some(path.clone()), read.iter().map(|file| PathBuf::from(&file.name)).collect()),
    };
    let sources = Sources { main: main_path, organizations: pattern, secrets: checked.secret_files.clone() };
    Examined { checked, sources, files, digest, said }
}

/// Which files hold organizations.
fn pattern(origin: &Origin, main: &Table<'_>) -> Option<Pattern> {
    let Origin::File(path) = origin else { return None };
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    let Some(field) = main.string("organizations") else { return Pattern::parse(Pattern::DEFAULT, base).ok() };
    let pattern = Pattern::parse(field.value, base);
    if let Err(fault) = &pattern {
        field.at.hinted(format!("`organizations` {fault}"), format!("the default is \"{}\"", Pattern::DEFAULT));
    }
    pattern.ok()
}

/// The organizations' files, and whether these are all.
fn read_organizations(
    pattern: Option<&Pattern>,
    main_path: &Path,
    main: &Table<'_>,
    main_was_read: bool,
) -> (Vec<SourceFile>, bool) {
    let Some(pattern) = pattern else { return (Vec::new(), false) };
    let at = main.place_of("organizations");
    let paths = match pattern.list() {
        Ok(paths) => paths,
        Err(error) => {
            // A folder that went away is no reason to forget every organization. Where the main file could not be
            // read, nobody knows that this is the folder.
            if main_was_read {
                let message = format!("the folder {} cannot be read: {error}", pattern.folder().display());
                at.hinted(message, "create it, or say with `organizations` where the organizations are");
            }
            return (Vec::new(), false);
        }
    };
    let paths: Vec<_> = paths.into_iter().filter(|path| path != main_path).collect();
    let files: Vec<_> = paths.iter().filter_map(|path| SourceFile::read(path, at.report())).collect();
    let all_read = files.len() == paths.len();
    (files, all_read)
}

/// SHA-256 over everything that decides what the configuration means: file names, contents, secrets.
fn digest(files: &[&SourceFile], checked: &Checked) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // With its length, so that what moves from one part to the next shows.
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for file in files {
        part(file.name.as_bytes());
        part(file.text.as_bytes());
    }
    for queue in checked.routing_queues.values() {
        queue.kind.secret_parts(&mut part);
    }
    for (listener, identity) in checked.identities.named() {
        part(listener.as_bytes());
        part(identity.fingerprint());
    }
    hash.finalize().into()
}

/// A short digest of what the files say that gateways of one store should agree on: organizations as they are written,
/// credentials, routing queues with their secrets. Where files lie, addresses and certificates are each gateway's own.
fn said(organizations: &[SourceFile], checked: &Checked) -> String {
    let mut texts: Vec<[u8; 32]> =
        organizations.iter().map(|file| Sha256::digest(file.text.as_bytes()).into()).collect();
    texts.sort_unstable();
    let mut hash = Sha256::new();
    texts.iter().for_each(|text| hash.update(text));
    // Plain data, of which the debug text says everything but secrets.
    hash.update(format!("{:?} {:?}", checked.credentials.api_keys, checked.credentials.issuers));
    hash.update(format!("{:?}", checked.routing_queues));
    for queue in checked.routing_queues.values() {
        queue.kind.secret_parts(&mut |secret| hash.update(Sha256::digest(secret)));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
