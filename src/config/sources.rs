//! Which files make up a configuration, and whether they have changed on disk.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Which files an organization's folder contributes: a folder, and a file name with at most one `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    folder: PathBuf,
    prefix: String,
    /// What follows the `*`; `None` when the name holds none.
    suffix: Option<String>,
}

impl Pattern {
    /// Where organizations are unless the configuration says otherwise.
    pub(super) const DEFAULT: &'static str = "organizations/*.toml";

    /// Reads a pattern; a relative folder is relative to `base`. The error completes "the pattern …".
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, &'static str> {
        let (folder, name) = match text.rsplit_once('/') {
            Some(("", name)) => (Path::new("/"), name),
            Some((folder, name)) => (Path::new(folder), name),
            None => (Path::new(""), text),
        };
        if name.is_empty() {
            return Err("names a folder; end it with a file name such as `*.toml`");
        }
        if folder.to_string_lossy().contains('*') {
            return Err("may hold `*` in the file name only");
        }
        let (prefix, suffix) = name.split_once('*').map_or((name, None), |(prefix, suffix)| (prefix, Some(suffix)));
        if suffix.is_some_and(|suffix| suffix.contains('*')) {
            return Err("may hold `*` only once");
        }
        Ok(Self { folder: base.join(folder), prefix: prefix.to_owned(), suffix: suffix.map(str::to_owned) })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder }
    }

    /// The files that match, by name. Hidden ones never do: editors and Kubernetes keep their own things in those.
    pub(super) fn list(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.folder())? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| self.matches(name)) {
                files.push(self.folder.join(name));
            }
        }
        files.sort();
        Ok(files)
    }

    fn matches(&self, name: &str) -> bool {
        let Some(suffix) = &self.suffix else { return name == self.prefix };
        let rest = name.strip_prefix(&*self.prefix);
        !name.starts_with('.') && rest.is_some_and(|rest| rest.ends_with(&**suffix))
    }
}

/// The files of one reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// `streamgate.toml`, unless the built-in one is used.
    pub(super) main: Option<PathBuf>,
    /// Where the organizations are, as far as that is known.
    pub(super) organizations: Option<Pattern>,
    /// The files with signing secrets, certificates and their keys.
    pub(super) secrets: Vec<PathBuf>,
}

impl Sources {
    /// The folders in which a change may be a change of the configuration.
    ///
    /// Folders, not files: editors put a new file into the place of the old one, Kubernetes swaps a link.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let of_main = self
            .main
            .as_deref()
            .and_then(Path::parent)
            .map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() });
        of_main.into_iter().chain(self.organizations.iter().map(|pattern| pattern.folder().to_owned())).collect()
    }

    /// Whether one of the files may be called so, whichever folder it is in.
    pub(super) fn may_be_called(&self, name: &OsStr) -> bool {
        let matches = |pattern: &Pattern| name.to_str().is_none_or(|name| pattern.matches(name));
        self.main.iter().chain(&self.secrets).any(|path| path.file_name() == Some(name))
            || self.organizations.as_ref().is_some_and(matches)
    }

    /// What the files look like from outside. Two that differ mean that something has changed.
    pub(super) fn look(&self) -> Look {
        let listed = self.organizations.as_ref().map_or_else(|| Ok(Vec::new()), Pattern::list).unwrap_or_default();
        let files = self.main.iter().chain(&self.secrets).cloned().chain(listed).map(|path| {
            let seen = Seen::at(&path);
            (path, seen)
        });
        let folders = self.folders().into_iter().map(|folder| {
            let identity = std::fs::metadata(&folder).ok().map(|metadata| (metadata.dev(), metadata.ino()));
            (folder, identity)
        });
        Look { folders: folders.collect(), files: files.collect() }
    }
}

/// What the files look like from outside. Of a folder only its identity counts: other things may come and go in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    folders: Vec<(PathBuf, Option<(u64, u64)>)>,
    files: Vec<(PathBuf, Option<Seen>)>,
}

impl Look {
    /// Whether one of the files or folders is what these device and inode numbers say, under whatever name: what is
    /// written through a link has another one.
    pub(super) fn holds(&self, device: u64, inode: u64) -> bool {
        self.folders.iter().any(|(_, identity)| *identity == Some((device, inode)))
            || self
                .files
                .iter()
                .filter_map(|(_, seen)| seen.as_ref())
                .any(|seen| (seen.device, seen.inode) == (device, inode))
    }
}

/// What one file looks like from outside. The inode tells a replaced file, the change time one that was rewritten in
/// place with its old modification time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn at(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_one_star_in_the_file_name() {
        let base = Path::new("/etc/streamgate");
        let pattern = Pattern::parse("organizations/*.toml", base).expect("a pattern");
        assert_eq!(pattern.folder(), Path::new("/etc/streamgate/organizations"));
        assert!(pattern.matches("contoso.toml"));
        for name in [".contoso.toml", ".#contoso.toml", "contoso.toml~", "contoso.toml.swp", "4913"] {
            assert!(!pattern.matches(name), "{name}");
        }
        assert_eq!(Pattern::parse("/*.toml", base).map(|pattern| pattern.folder), Ok(PathBuf::from("/")));
        assert_eq!(Pattern::parse("one.toml", Path::new("")).expect("a pattern").folder(), Path::new("."));
        for bad in ["organizations/", "*/a.toml", "a*b*.toml", ""] {
            assert!(Pattern::parse(bad, base).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_and_a_suffix_do_not_overlap() {
        let pattern = Pattern::parse("aa*aa", Path::new("")).expect("a pattern");
        assert!(!pattern.matches("aaa") && pattern.matches("aaaa"));
    }

    #[test]
    fn what_changes_looks_different() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.toml");
        let sources = Sources {
            main: Some(path.clone()),
            organizations: Pattern::parse("*.toml", folder.path()).ok(),
            secrets: Vec::new(),
        };
        let absent = sources.look();
        std::fs::write(&path, "a = 1").expect("written");
        let there = sources.look();
        assert_eq!(there, sources.look());
        std::fs::write(folder.path().join("b.toml"), "").expect("written");
        assert!(absent != there && there != sources.look());
    }
}
