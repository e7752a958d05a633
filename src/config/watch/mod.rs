//! Notices changed configuration files and has them reloaded: under a second from the change to the first answer that
//! uses it.
//!
//! One thread waits for the operating system to tell of changes (`notify`), lets a burst of them settle, and reloads.
//! Because not every file system tells (NFS), and because a watched folder may itself be replaced, the thread also looks
//! at the files by itself twice a second. No change is lost: a reload that overlaps with one is followed by another.
//!
//! Writing to a file that is none of the configuration's, such as a log beside `streamgate.toml`, wakes nobody: files are
//! told apart by name and, since a link may lead to one, by what they are. Whatever makes, removes or renames something
//! counts, whoever it concerns.
//!
//! A file that somebody is still writing is given time; one that stays half-written is a fault, the last good
//! configuration stays, and the next change heals it. Whoever replaces files by renaming is never seen half-way.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::config::live::{Live, ReloadOutcome};
use crate::config::sources::{Look, Sources};

/// A burst of changes is over when nothing more happens for this long.
const QUIET: Duration = Duration::from_millis(50);
/// What goes on for longer is not waited for.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How often the files are looked at although nobody told of a change.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why changes cannot be noticed.
#[derive(Debug, thiserror::Error)]
#[error("the thread that watches the configuration cannot be started")]
pub struct WatchError(#[from] std::io::Error);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct WatchGuard {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WatchGuard {
    /// Stops the thread and waits until it has ended.
    fn drop(&mut self) {
        self.signal.pending().stop = true;
        self.signal.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watched the configuration had panicked");
        }
    }
}

/// Starts to watch. The first thing that it does is a reload: what changed since the configuration was loaded counts too.
///
/// # Errors
/// When the thread cannot be started. Where the operating system cannot tell of changes, that is only logged.
pub fn start(live: Arc<Live>) -> Result<WatchGuard, WatchError> {
    let signal = Arc::new(Signal::default());
    let teller = teller(&signal);
    start_with(live, signal, teller)
}

fn start_with(
    live: Arc<Live>,
    signal: Arc<Signal>,
    teller: Option<RecommendedWatcher>,
) -> Result<WatchGuard, WatchError> {
    let watch = Watch { live, signal: Arc::clone(&signal), teller, watched: BTreeSet::new() };
    let thread = std::thread::Builder::new().name("config-watch".to_owned()).spawn(move || watch.run())?;
    Ok(WatchGuard { signal, thread: Some(thread) })
}

/// What the operating system's events leave behind until the thread comes for it.
#[derive(Debug, Default)]
struct Signal {
    pending: Mutex<Pending>,
    changed: Condvar,
    /// What the configuration is made of, as of the last look; nothing is known before the first one.
    files: Mutex<Option<Files>>,
}

/// What the configuration is made of.
#[derive(Debug)]
struct Files {
    sources: Sources,
    look: Look,
}

/// Bounded: however many events there are, this holds two moments and the files being written in the watched folders.
#[derive(Debug, Default)]
struct Pending {
    stop: bool,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Files that were written to and not closed yet.
    being_written: BTreeSet<PathBuf>,
}

impl Signal {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Every change to it is one assignment, so a panic elsewhere leaves it whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told about from now on.
    fn know(&self, sources: &Sources, look: &Look) {
        let known = Files { sources: sources.clone(), look: look.clone() };
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// Whether what was written there may be the configuration's.
    fn concerns(&self, path: &Path) -> bool {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = files.as_ref() else { return true };
        // What has gone since is looked for: better once too often.
        files.sources.may_be_called(path.file_name().unwrap_or_default())
            || std::fs::metadata(path).map_or(true, |metadata| files.look.holds(metadata.dev(), metadata.ino()))
    }

    fn tell(&self, event: notify::Result<notify::Event>) {
        // Somebody reads, most likely this very gateway; or writes to something else that lies in the same folder.
        if let Ok(event) = &event
            && (is_reading(event.kind)
                || (is_writing(event.kind) && !event.paths.iter().any(|path| self.concerns(path))))
        {
            return;
        }
        let mut pending = self.pending();
        match event {
            Ok(event) => {
                for path in event.paths {
                    if matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))) {
                        pending.being_written.insert(path);
                    } else {
                        pending.being_written.remove(&path);
                    }
                }
            }
            // Some events may be missing now: reason enough to look.
            Err(error) => tracing::debug!(%error, "an event about configuration files was lost"),
        }
        let now = Instant::now();
        pending.first.get_or_insert(now);
        pending.last = Some(now);
        drop(pending);
        self.changed.notify_all();
    }

    /// Waits until a change has settled, or it is time to look anyway. `false` means to stop.
    fn wait(&self) -> bool {
        let look_at = Instant::now() + LOOK_EVERY;
        let mut pending = self.pending();
        loop {
            if pending.stop {
                return false;
            }
            let until = pending.settled_at().unwrap_or(look_at);
            let now = Instant::now();
            if now >= until {
                *pending = Pending::default();
                return true;
            }
            let (woken, _) = self.changed.wait_timeout(pending, until - now).unwrap_or_else(PoisonError::into_inner);
            pending = woken;
        }
    }
}

impl Pending {
    /// When what was told can be believed to be over.
    fn settled_at(&self) -> Option<Instant> {
        let longest = self.first? + LONGEST_WAIT;
        if self.being_written.is_empty() { Some(longest.min(self.last? + QUIET)) } else { Some(longest) }
    }
}

const fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if !matches!(access, AccessKind::Close(AccessMode::Write)))
}

/// Whether this says no more than that a file was written to, or its permissions changed.
const fn is_writing(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_))
            | EventKind::Access(AccessKind::Close(AccessMode::Write))
    )
}

/// The operating system's watcher, where there is one.
fn teller(signal: &Arc<Signal>) -> Option<RecommendedWatcher> {
    let signal = Arc::clone(signal);
    match notify::recommended_watcher(move |event| signal.tell(event)) {
        Ok(teller) => Some(teller),
        Err(error) => {
            tracing::warn!(%error, "the system does not tell of changed files; looking at them twice a second instead");
            None
        }
    }
}

struct Watch {
    live: Arc<Live>,
    signal: Arc<Signal>,
    teller: Option<RecommendedWatcher>,
    /// The folders that the teller watches.
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    fn run(mut self) {
        // `None`: not looked at yet, so whatever there is counts as changed.
        let mut seen: Option<Look> = None;
        loop {
            let sources = self.live.sources();
            let look = sources.look();
            self.signal.know(&sources, &look);
            if seen.as_ref() != Some(&look) {
                // Watched before it is read: a change in between is told.
                self.watch_folders(sources.folders());
                self.reload();
                // What was read may be newer than the look; then the next look differs and it is read once more.
                seen = Some(look);
                if self.live.sources() != sources {
                    // The reading moved something elsewhere: watch it there.
                    continue;
                }
            }
            if !self.signal.wait() {
                return;
            }
        }
    }

    /// Watches exactly these folders. Those that stay are watched anew, since another folder may have taken the name.
    fn watch_folders(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(teller) = &mut self.teller else { return };
        for folder in std::mem::take(&mut self.watched) {
            // A folder that has gone is no longer watched already.
            if let Err(error) = teller.unwatch(&folder) {
                tracing::debug!(folder = %folder.display(), %error, "a folder was no longer watched");
            }
        }
        for folder in folders {
            match teller.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder);
                }
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "a folder cannot be watched; looking at it instead");
                }
            }
        }
    }

    fn reload(&self) {
        match self.live.reload() {
            Ok(ReloadOutcome::Unchanged) => tracing::debug!("the configuration means what it meant"),
            Ok(ReloadOutcome::Applied { generation, restart_needed }) => {
                tracing::info!(generation, "a changed configuration is effective");
                for warning in &self.live.status().warnings {
                    tracing::warn!(
                        file = warning.file,
                        line = warning.line,
                        hint = warning.hint,
                        "{}",
                        warning.message
                    );
                }
                if !restart_needed.is_empty() {
                    tracing::warn!(settings = restart_needed.join(", "), "changed settings need a restart");
                }
            }
            Err(faults) => {
                for fault in &faults {
                    tracing::error!(
                        file = fault.file,
                        line = fault.line,
                        column = fault.column,
                        hint = fault.hint,
                        "{}",
                        fault.message
                    );
                }
                let generation = self.live.current().catalog.generation();
                let summary = faults.summary();
                tracing::error!(generation, summary, "the changed configuration is not used; the last good one stays");
            }
        }
    }
}

#[cfg(test)]
mod tests;
