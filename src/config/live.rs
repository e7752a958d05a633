//! The configuration that is effective now, and how another one takes its place.
//!
//! Readers take the whole of it with one atomic load and never wait, whatever a reload does. Reloads stand in line. A
//! reading with faults changes nothing but [`ReloadStatus`]: the last good configuration stays.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use serde::Serialize;
use tokio::sync::watch;

use super::fault::{Fault, Faults};
use super::keeper::{FollowStatus, Keeper, NotFollowed, NotTaken};
use super::load::{self, Attempt, Config, Origin, Overrides};
use super::restart::settings_that_differ;
use super::settings::{Effective, Process};
use super::sources::Sources;
use super::stored::{self, Stored, StoredChange};
use crate::domain::time::Timestamp;

/// The configuration of a running gateway.
#[derive(Debug)]
pub struct Live {
    process: Process,
    origin: Origin,
    overrides: Overrides,
    effective: ArcSwap<Effective>,
    status: ArcSwap<ReloadStatus>,
    announced: watch::Sender<Arc<Effective>>,
    keeper: Option<Kept>,
    following: ArcSwap<FollowStatus>,
    /// Whether changed files wait for their generation to be stored.
    unstored: AtomicBool,
    /// Made of what the files say.
    files: ArcSwap<String>,
    /// Held for the length of a reload.
    last: Mutex<Last>,
}

/// Where what is stored is kept.
struct Kept(Box<dyn Keeper>);

impl Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

/// How often a change that others were faster than is tried again.
const MOST_TRIES: u32 = 20;

/// What is known from the last reading.
#[derive(Debug)]
struct Last {
    /// Of the last good one.
    digest: [u8; 32],
    /// What to watch; also known after faults.
    sources: Sources,
}

/// How the last reload went, or the start if there was none.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadStatus {
    /// Whether what stands in the files is what is effective.
    pub ok: bool,
    /// When that was found out.
    pub at: Timestamp,
    /// What is wrong with the files; empty when `ok`.
    pub faults: Vec<Fault>,
    /// What somebody should look at in the files that are effective.
    pub warnings: Vec<Fault>,
    /// The generation that is effective.
    pub generation: u64,
    /// Settings that have changed but need a restart (see [`ReloadOutcome::Applied`]).
    pub restart_needed: Vec<String>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The files mean what is effective already.
    Unchanged,
    /// A new configuration is effective.
    Applied {
        /// Its generation.
        generation: u64,
        /// Settings of the process that are other than when it started, as they stand in `streamgate.toml`: they need a
        /// restart.
        restart_needed: Vec<String>,
    },
}

impl Live {
    /// Starts with this configuration.
    pub fn new(config: Config) -> Self {
        let Config { process, effective, origin, overrides, digest, files, watched, warnings, sources: _ } = config;
        let effective = Arc::new(effective);
        let generation = effective.catalog.generation();
        let status = ReloadStatus {
            ok: true,
            at: Timestamp::now(),
            faults: Vec::new(),
            warnings,
            generation,
            restart_needed: Vec::new(),
        };
        Self {
            process,
            origin,
            overrides,
            announced: watch::Sender::new(Arc::clone(&effective)),
            effective: ArcSwap::new(effective),
            status: ArcSwap::from_pointee(status),
            last: Mutex::new(Last { digest, sources: watched }),
            keeper: None,
            following: ArcSwap::default(),
            unstored: AtomicBool::new(false),
            files: ArcSwap::from_pointee(files),
        }
    }

    /// Has the generation of each reload kept before it is effective, so that it grows over restarts too, and follows
    /// what is kept there. The generation of the start is taken at once.
    ///
    /// # Errors
    /// When it cannot be taken, or what is kept by now does not go with the files.
    pub fn kept_by(self, keeper: Box<dyn Keeper>) -> Result<Self, NotFollowed> {
        let live = Self { keeper: Some(Kept(keeper)), ..self };
        let last = live.last();
        for _ in 0..MOST_TRIES {
            let before = live.snapshot();
            let generation = before.catalog.generation().max(before.layers.stored.generation.saturating_add(1));
            match live.take(before.layers.stored.generation, generation) {
                Ok(noted) => {
                    let stored = Stored { generation: noted, ..Stored::clone(&before.layers.stored) };
                    let change = StoredChange { stored, organizations: Vec::new() };
                    live.make_effective(change.applied_to(&before, generation));
                    drop(last);
                    return Ok(live);
                }
                Err(NotTaken::Overtaken) => live.follow_within(&last).map(drop)?,
                Err(NotTaken::Failed(why)) => return Err(NotFollowed::Unreadable(why)),
            }
        }
        Err(NotFollowed::Overtaken)
    }

    /// Takes a generation, made of this stored one.
    fn take(&self, from: u64, to: u64) -> Result<u64, NotTaken> {
        match &self.keeper {
            Some(Kept(keeper)) => keeper.take(from, to),
            None => Ok(to),
        }
    }

    fn make_effective(&self, after: Effective) -> Arc<Effective> {
        let generation = after.catalog.generation();
        let after = Arc::new(after);
        self.effective.store(Arc::clone(&after));
        self.status.rcu(|status| Arc::new(ReloadStatus { generation, ..ReloadStatus::clone(status) }));
        // Last, so that whoever hears of it finds everything in place.
        self.announced.send_replace(Arc::clone(&after));
        after
    }

    /// Makes what is stored by now effective, as a change of this gateway's own would be. Answers whether anything is
    /// other than before. Blocks on the store.
    ///
    /// # Errors
    /// The last good configuration stays; [`Live::following`] says why, too.
    pub fn follow(&self) -> Result<bool, NotFollowed> {
        let last = self.last();
        self.follow_within(&last)
    }

    fn follow_within(&self, _only_one: &MutexGuard<'_, Last>) -> Result<bool, NotFollowed> {
        let Some(Kept(keeper)) = &self.keeper else { return Ok(false) };
        let followed = (0..MOST_TRIES).find_map(|_| self.follow_once(&**keeper).transpose());
        let followed = followed.unwrap_or(Err(NotFollowed::Overtaken));
        self.following.store(Arc::new(FollowStatus { fault: followed.as_ref().err().cloned() }));
        followed
    }

    /// `None` where what is stored changed meanwhile.
    fn follow_once(&self, keeper: &dyn Keeper) -> Result<Option<bool>, NotFollowed> {
        let stored = keeper.load().map_err(NotFollowed::Unreadable)?;
        let before = self.snapshot();
        if stored == *before.layers.stored {
            return Ok(Some(false));
        }
        let mut change = stored::following(&before, stored).map_err(NotFollowed::Faults)?;
        let (stored, own) = (change.stored.generation, before.catalog.generation());
        let mut generation = stored;
        if stored <= own {
            // A database that was put back: what comes of it must not pass for what once had this number.
            generation = load::next_generation(Some(own));
            match keeper.take(stored, generation) {
                Ok(noted) => change.stored.generation = noted,
                Err(NotTaken::Overtaken) => return Ok(None),
                Err(NotTaken::Failed(why)) => return Err(NotFollowed::Unreadable(why)),
            }
        }
        self.make_effective(change.applied_to(&before, generation));
        Ok(Some(true))
    }

    /// Whether changed files do not count because their generation could not be stored: then it is time to reload once the
    /// store answers again.
    pub fn waits_for_the_store(&self) -> bool {
        self.unstored.load(Ordering::Relaxed)
    }

    /// Whether what is stored is what is effective.
    pub fn following(&self) -> Arc<FollowStatus> {
        self.following.load_full()
    }

    /// Made of what the files say of organizations, credentials and routing queues: two gateways whose files say the same
    /// have the same.
    pub fn files(&self) -> Arc<String> {
        self.files.load_full()
    }

    /// What the process was started with.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// The effective configuration, for as long as the answer to one request takes: cheap, and never a mixture of two.
    pub fn current(&self) -> Guard<Arc<Effective>> {
        self.effective.load()
    }

    /// The effective configuration, to keep.
    pub fn snapshot(&self) -> Arc<Effective> {
        self.effective.load_full()
    }

    /// How the last reload went.
    pub fn status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }

    /// Holds the effective configuration and tells of every new one, after it has become effective.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Effective>> {
        self.announced.subscribe()
    }

    /// Reads the same files again, with the same overrides. Blocks on the disk: async callers use `spawn_blocking`.
    ///
    /// # Errors
    /// All faults of all files; the last good configuration stays effective.
    pub fn reload(&self) -> Result<ReloadOutcome, Faults> {
        let mut last = self.last();
        self.unstored.store(false, Ordering::Relaxed);
        // What the store holds is known: where others change it, it is followed.
        let mut stored = Arc::clone(&self.current().layers.stored);
        for _ in 0..MOST_TRIES {
            if let Some(outcome) = self.reload_once(&mut last, &stored)? {
                return Ok(outcome);
            }
            // Not what is followed alone: files that were mended for it are checked together with it.
            let loaded = self.keeper.as_ref().map_or_else(|| Ok(Stored::clone(&stored)), |Kept(keeper)| keeper.load());
            stored = Arc::new(loaded.map_err(|why| self.not_reloaded(self.unstored(&why)))?);
        }
        Err(self.not_reloaded(self.unstored(&NotFollowed::Overtaken.to_string())))
    }

    /// Reads the files over what is stored. `None` where that is another by now.
    fn reload_once(&self, last: &mut Last, stored: &Arc<Stored>) -> Result<Option<ReloadOutcome>, Faults> {
        let before = self.snapshot();
        let generation = before.catalog.generation();
        let in_memory = |_: &Process| Ok(Stored::clone(stored));
        let Attempt { sources, outcome } = load::read(&self.origin, &self.overrides, Some(generation), &in_memory);
        last.sources = sources;
        let outcome = outcome.and_then(|config| self.keeping_somebody(config));
        let config = outcome.and_then(|config| self.keeping_what_counts(config));
        let mut config = config.map_err(|faults| self.not_reloaded(faults))?;
        let restart_needed = settings_that_differ(&self.process, &config.process);
        let changed = config.digest != last.digest || *stored != before.layers.stored;
        let generation = if changed { config.effective.catalog.generation() } else { generation };
        if changed {
            let noted = match self.take(stored.generation, generation) {
                Ok(noted) => noted,
                Err(NotTaken::Overtaken) => return Ok(None),
                Err(NotTaken::Failed(why)) => return Err(self.not_reloaded(self.unstored(&why))),
            };
            self.following.store(Arc::default());
            Arc::make_mut(&mut config.effective.layers.stored).generation = noted;
            self.effective.store(Arc::new(config.effective));
            self.files.store(Arc::new(config.files));
            last.digest = config.digest;
        }
        self.set_status(ReloadStatus {
            ok: true,
            at: Timestamp::now(),
            faults: Vec::new(),
            warnings: config.warnings,
            generation,
            restart_needed: restart_needed.clone(),
        });
        if !changed {
            return Ok(Some(ReloadOutcome::Unchanged));
        }
        // Last, so that whoever hears of it finds everything in place.
        self.announced.send_replace(self.snapshot());
        Ok(Some(ReloadOutcome::Applied { generation, restart_needed }))
    }

    /// The last good configuration stays.
    fn not_reloaded(&self, faults: Faults) -> Faults {
        let before = ReloadStatus::clone(&self.status());
        self.set_status(ReloadStatus { ok: false, faults: faults.clone().into_vec(), ..before });
        faults
    }

    /// A changed file needs a generation, and generations are the store's.
    fn unstored(&self, why: &str) -> Faults {
        self.unstored.store(true, Ordering::Relaxed);
        let message = format!("the changed files do not count yet, since their generation cannot be stored: {why}");
        Fault::of_file(self.origin.to_string(), message, "they are read again once the store can be reached").into()
    }

    /// Makes a change of what the store holds effective.
    ///
    /// `decide` sees what is effective and the generation that the change will have, and makes it durable before it
    /// says what changes: what is effective never runs ahead of the disk. Nothing else changes meanwhile. Where it says
    /// that nothing changes, nothing does, the generation included. Blocks as long as `decide` does.
    ///
    /// # Errors
    /// What `decide` says; nothing has changed then.
    pub fn change<T, E>(
        &self,
        decide: impl FnOnce(&Effective, u64) -> Result<(Option<StoredChange>, T), E>,
    ) -> Result<(Arc<Effective>, T), E> {
        let _only_one = self.last();
        let before = self.snapshot();
        let generation = load::next_generation(Some(before.catalog.generation()));
        let (change, answer) = decide(&before, generation)?;
        let Some(change) = change else { return Ok((before, answer)) };
        Ok((self.make_effective(change.applied_to(&before, generation)), answer))
    }

    /// A reload never takes the last organization away: it is far more often a folder that is just being replaced than a
    /// wish, and every 404 of that moment would be a record lost.
    fn keeping_somebody(&self, config: Config) -> Result<Config, Faults> {
        let is_empty = |effective: &Effective| effective.catalog.organizations().next().is_none();
        if is_empty(&config.effective) && !is_empty(&self.current()) {
            let message = "every organization is gone; a running gateway keeps the ones it has";
            let hint = "put the organization files back, or restart the gateway to run without organizations";
            return Err(Fault::of_file(config.origin.to_string(), message, hint).into());
        }
        Ok(config)
    }

    /// A reload never puts an expired certificate into the place of one that still counts: that is a file of yesterday,
    /// and every caller would turn away. One that expires while it is used is only warned of.
    fn keeping_what_counts(&self, config: Config) -> Result<Config, Faults> {
        let now = Timestamp::now();
        let running = self.current();
        for (listener, wanted) in config.effective.identities.named() {
            let of_now = running.identities.named().find(|(name, _)| *name == listener);
            let still_counts = of_now.is_some_and(|(_, identity)| now <= identity.validity().not_after);
            if still_counts && wanted.validity().not_after < now {
                let message = format!(
                    "the certificate has expired at {}, and the one in use still counts",
                    wanted.validity().not_after
                );
                let hint = "put a certificate that counts, with its key, into the files";
                let file = wanted.certificate_file().display().to_string();
                return Err(Fault::of_file(file, message, hint).into());
            }
        }
        Ok(config)
    }

    /// What to watch, as of the last reading.
    pub(super) fn sources(&self) -> Sources {
        self.last().sources.clone()
    }

    fn set_status(&self, status: ReloadStatus) {
        self.status.store(Arc::new(ReloadStatus { at: Timestamp::now(), ..status }));
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // What it guards is replaced field by field with finished values, so a panic elsewhere leaves it whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
