//! Who may read and write the files of the configuration. Whoever can write them administers the gateway.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cli::doctor::finding::{Check, Finding, list_in_words};

/// A file or folder of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    path: PathBuf,
    mode: u32,
    is_folder: bool,
}

/// The files, and the folders that they are in.
pub(super) fn gather(files: &[PathBuf]) -> Vec<Entry> {
    let folders: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|file| file.parent())
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".").to_owned() } else { folder.to_owned() })
        .collect();
    let looked_at = files.iter().cloned().chain(folders).filter_map(|path| {
        let found = std::fs::metadata(&path).ok()?;
        Some(Entry { path, mode: found.mode() & 0o7777, is_folder: found.is_dir() })
    });
    looked_at.collect()
}

pub(super) fn judge(entries: &[Entry]) -> Vec<Finding> {
    let check = Check::ConfigurationFiles;
    if entries.is_empty() {
        return vec![Finding::ok(check, "the built-in example runs: there are none")];
    }
    let names = |with: &dyn Fn(&Entry) -> bool| -> Vec<String> {
        entries.iter().filter(|entry| with(entry)).map(|entry| entry.path.display().to_string()).collect()
    };
    // In a folder with the sticky bit only owners replace files.
    let can_write = |entry: &Entry, bit: u32| entry.mode & bit != 0 && !(entry.is_folder && entry.mode & 0o1000 != 0);
    let writable = names(&|entry| can_write(entry, 0o002));
    if !writable.is_empty() {
        let found = format!("everybody on the machine can write to {}", list_in_words(&writable));
        let consequence = "whoever does can add a key of their own, or send records elsewhere, at once";
        return vec![Finding::fault(check, found, consequence, format!("chmod o-w {}", writable.join(" ")))];
    }
    let by_group = names(&|entry| can_write(entry, 0o020));
    if !by_group.is_empty() {
        let found = format!("their group can write to {}", list_in_words(&by_group));
        let consequence = "whoever is in it administers the gateway; right where these are its administrators";
        return vec![Finding::note(check, found, consequence)];
    }
    let readable = names(&|entry| !entry.is_folder && entry.mode & 0o044 != 0);
    if !readable.is_empty() {
        let count = readable.len();
        let found = format!("others can read {count} of the files");
        let consequence = "they hold no secrets, but names, hashes of keys and addresses";
        return vec![Finding::note(check, found, consequence)];
    }
    vec![Finding::ok(check, "only their owner can read and write them")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Severity;

    #[test]
    fn whoever_can_write_is_told() {
        let entry = |mode, is_folder| Entry { path: PathBuf::from("a.toml"), mode, is_folder };
        for (entry, severity) in [
            (entry(0o600, false), Severity::Ok),
            (entry(0o644, false), Severity::Note),
            (entry(0o664, false), Severity::Note),
            (entry(0o666, false), Severity::Fault),
            (entry(0o777, true), Severity::Fault),
            (entry(0o1777, true), Severity::Ok),
        ] {
            let findings = judge(std::slice::from_ref(&entry));
            assert_eq!(findings[0].severity, severity, "{entry:?} {findings:?}");
        }
        assert_eq!(judge(&[])[0].severity, Severity::Ok);
    }
}
