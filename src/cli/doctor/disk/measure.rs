//! How long a sync takes: what the store does with each commit, done with a file of its own.
//!
//! Like the store's log the file is filled beforehand, so that what is measured is a write in the middle of a file and its
//! `fdatasync`, and not a file that grows. It has a name while it is measured, since some file systems spare themselves the
//! sync of a file without one. It is removed at the end, also of a command that is stopped; what a killed one has left, the
//! next one removes.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What one write has: a page of the store.
const BLOCK_BYTES: usize = 4_096;
/// The file is so many writes long.
const BLOCKS: u64 = 64;
/// Writes at most.
const TRIES: usize = 400;
/// How the file's name begins.
const PREFIX: &str = ".streamgate-doctor-";

/// Where the file of this process is, while there is one.
static OWN: Mutex<Option<PathBuf>> = Mutex::new(None);

/// How long writes with their sync took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Latencies {
    pub(super) median: Duration,
    pub(super) p99: Duration,
    pub(super) worst: Duration,
    pub(super) tries: usize,
}

impl Latencies {
    /// Of at least one.
    pub(super) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).copied();
        Some(Self { median: at(50)?, p99: at(99)?, worst: *times.last()?, tries: times.len() })
    }
}

/// Measures in this directory for so long at most, but once at least.
pub(super) fn measure(dir: &Path, budget: Duration) -> io::Result<Latencies> {
    remove_left_behind(dir);
    let probe = Probe::make(dir)?;
    let mut block = [0_u8; BLOCK_BYTES];
    for _ in 0..BLOCKS {
        (&probe.file).write_all(&block)?;
    }
    probe.file.sync_all()?;
    let begun = Instant::now();
    let mut times = Vec::with_capacity(TRIES);
    for place in (0..BLOCKS).cycle().take(TRIES) {
        block.fill(u8::try_from(times.len() % 251).unwrap_or(0));
        let before = Instant::now();
        probe.file.write_all_at(&block, place * BLOCK_BYTES as u64)?;
        probe.file.sync_data()?;
        times.push(before.elapsed());
        if begun.elapsed() >= budget {
            break;
        }
    }
    Latencies::of(times).ok_or_else(|| io::Error::other("nothing was measured"))
}

/// The file, removed when it is dropped.
struct Probe {
    file: File,
}

impl Probe {
    fn make(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("{PREFIX}{}", std::process::id()));
        // Never what is there already, whatever it leads to.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        *OWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        // Says that somebody is at it; where locks are not to be had, another doctor may remove the name early.
        match file.try_lock() {
            Ok(()) | Err(_) => Ok(Self { file }),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        remove_own_probe();
    }
}

/// Removes the file of this process, if there is one.
pub(in crate::cli::doctor) fn remove_own_probe() {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(path) = own {
        // Whoever was faster has done what was to be done; what else can be in the way was in the way of writing too.
        let _removed = std::fs::remove_file(path);
    }
}

/// Removes what a killed command has left: files of the name that nobody holds.
fn remove_left_behind(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
            && entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_one && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            match std::fs::remove_file(entry.path()) {
                Err(fault) if fault.kind() != ErrorKind::NotFound => {
                    tracing::debug!(%fault, "a file of an earlier doctor stays");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("an entry").file_name()).collect()
    }

    #[test]
    fn nothing_is_left_behind_neither_by_this_nor_by_one_that_was_killed() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(".streamgate-doctor-0"), "left").expect("written");
        std::os::unix::fs::symlink("elsewhere", dir.path().join(".streamgate-doctor-1")).expect("linked");
        let latencies = measure(dir.path(), Duration::ZERO).expect("measured");
        assert_eq!(latencies.tries, 1);
        assert_eq!(names(dir.path()), [".streamgate-doctor-1"], "what is no file of ours stays");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(measure(&dir.path().join("missing"), Duration::ZERO).is_err());
    }

    #[test]
    fn percentiles_are_those_of_the_list() {
        let millis = |numbers: std::ops::RangeInclusive<u64>| numbers.map(Duration::from_millis).collect::<Vec<_>>();
        let of_hundred = Latencies::of(millis(1..=100)).expect("some");
        assert_eq!(of_hundred.median, Duration::from_millis(51));
        assert_eq!((of_hundred.p99, of_hundred.worst), (Duration::from_millis(100), Duration::from_millis(100)));
        assert_eq!(Latencies::of(millis(7..=7)).expect("one").p99, Duration::from_millis(7));
        assert_eq!(Latencies::of(Vec::new()), None);
    }
}
