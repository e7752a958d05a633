//! The keys of the token issuers, kept fresh in the background.
//!
//! Each watched issuer has one task on the runtime that the service was given, so there is never more than one fetch of
//! its document under way; requests read the latest key set through one atomic pointer and never wait. A failed fetch
//! leaves the last good keys in place; they are believed for 24 hours, and then the issuer's tokens cannot be judged
//! until a fetch succeeds. [`schedule`](super::schedule) says when is fetched, [`fetch`](super::fetch) how,
//! [`key_set`](super::key_set) what of it counts.
//!
//! An issuer is watched as long as somebody holds its [`WatchedIssuer`]. A reload that leaves alone what decides about
//! an issuer's keys (issuer, address, tenant, algorithms) finds the keys that are there.
//!
//! Not guaranteed: that time spent suspended counts towards the age of keys; after it, the next fetch is due anyway.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use reqwest::Url;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::fetch::{FetchError, fetch};
use super::key_set::{KeyRules, KeySet};
use super::schedule::{Due, Schedule, Timings};
use crate::config::settings::IssuerSettings;
use crate::domain::time::Timestamp;

/// Fetches the keys of token issuers and keeps them fresh. One per process, across configurations.
#[derive(Debug)]
pub struct JwksService {
    runtime: Handle,
    timings: Timings,
    watched: Mutex<Vec<Weak<WatchedIssuer>>>,
}

/// What is known about the keys of one issuer, for metrics and for `doctor`.
#[derive(Debug, Clone)]
pub struct JwksStatus {
    /// The issuer, as in `iss`.
    pub issuer: Box<str>,
    /// Where its keys are fetched.
    pub jwks_url: Url,
    /// When they were last fetched with success.
    pub last_success: Option<Timestamp>,
    /// How long ago that was.
    pub age: Option<Duration>,
    /// Whether its tokens can be judged now.
    pub usable: bool,
    /// Keys that can verify tokens.
    pub keys: usize,
    /// Keys in the document that cannot.
    pub skipped_keys: usize,
    /// Fetches begun and ended, with and without success, since the issuer is watched.
    pub fetches: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Why the last fetch failed, if it did.
    pub last_error: Option<Arc<str>>,
}

impl JwksService {
    /// A service that fetches on this runtime, at the times that the product promises.
    pub fn new(runtime: Handle) -> Arc<Self> {
        Self::with_timings(runtime, Timings::DEFAULT)
    }

    /// A service with other times, for tests.
    pub fn with_timings(runtime: Handle, timings: Timings) -> Arc<Self> {
        Arc::new(Self { runtime, timings, watched: Mutex::new(Vec::new()) })
    }

    /// Watches the keys of an issuer from here on, or joins in where they are watched already. The first fetch starts
    /// at once, in the background.
    pub fn watch(&self, settings: &IssuerSettings) -> Arc<WatchedIssuer> {
        let rules = KeyRules {
            issuer: settings.issuer.clone(),
            tenant: settings.tenant,
            algorithms: settings.algorithms.clone(),
        };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|issuer| issuer.strong_count() > 0);
        let same = |issuer: &Arc<WatchedIssuer>| issuer.url == settings.jwks_url && issuer.keys.rules == rules;
        if let Some(known) = watched.iter().filter_map(Weak::upgrade).find(same) {
            return known;
        }
        let keys = Arc::new(IssuerKeys::new(rules));
        let fetching = keep_fresh(Arc::clone(&keys), settings.jwks_url.clone(), self.timings);
        let task = self.runtime.spawn(fetching).abort_handle();
        let new = Arc::new(WatchedIssuer { url: settings.jwks_url.clone(), keys, max_age: self.timings.max_age, task });
        watched.push(Arc::downgrade(&new));
        new
    }

    /// How the watched issuers are doing.
    pub fn status(&self) -> Vec<JwksStatus> {
        self.all().iter().map(|issuer| issuer.status()).collect()
    }

    /// Waits until every issuer that is watched now has answered, or failed to, at least once.
    pub async fn tried(&self) {
        for issuer in self.all() {
            issuer.fetched(1).await;
        }
    }

    fn all(&self) -> Vec<Arc<WatchedIssuer>> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter().filter_map(Weak::upgrade).collect()
    }
}

/// An issuer whose keys are kept fresh as long as this is held.
#[derive(Debug)]
pub struct WatchedIssuer {
    url: Url,
    keys: Arc<IssuerKeys>,
    max_age: Duration,
    task: AbortHandle,
}

impl Drop for WatchedIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WatchedIssuer {
    /// The keys, unless there are none yet or they are too old to be believed.
    pub(super) fn usable_at(&self, now: Instant) -> Option<Arc<KeySet>> {
        let current = self.keys.current.load();
        let latest = current.as_ref()?;
        let age = now.saturating_duration_since(latest.at);
        (age <= self.max_age).then(|| Arc::clone(&latest.set))
    }

    /// Asks for a fetch out of turn, because of a key that is not among those known. Returns at once, and costs next to
    /// nothing however often it is called; when the fetch happens is the schedule's decision.
    pub fn request_refresh(&self) {
        if !self.keys.wanted.swap(true, Ordering::AcqRel) {
            self.keys.wake.notify_one();
        }
    }

    /// Waits until at least this many fetches have ended, with or without success.
    pub async fn fetched(&self, count: u64) {
        let mut progress = self.keys.progress.subscribe();
        // An error means that the sender is gone, and it is not: it lives in `self`.
        let _seen = progress.wait_for(|progress| progress.fetches >= count).await.is_ok();
    }

    /// How the issuer is doing.
    pub fn status(&self) -> JwksStatus {
        let now = Instant::now();
        let progress = self.keys.progress.borrow().clone();
        let latest = self.keys.current.load_full();
        let latest = latest.as_deref();
        JwksStatus {
            issuer: self.keys.rules.issuer.clone(),
            jwks_url: self.url.clone(),
            last_success: latest.map(|latest| latest.at_wall_clock),
            age: latest.map(|latest| now.saturating_duration_since(latest.at)),
            usable: self.usable_at(now).is_some(),
            keys: latest.map_or(0, |latest| latest.set.len()),
            skipped_keys: latest.map_or(0, |latest| latest.set.skipped()),
            fetches: progress.fetches,
            failures: progress.failures,
            last_error: progress.last_error,
        }
    }
}

/// What the task and the readers of one issuer share.
#[derive(Debug)]
struct IssuerKeys {
    rules: KeyRules,
    current: ArcSwapOption<Latest>,
    /// Somebody asked for a fetch that has not begun.
    wanted: AtomicBool,
    wake: Notify,
    progress: watch::Sender<Progress>,
}

/// The last good key set.
#[derive(Debug)]
struct Latest {
    set: Arc<KeySet>,
    at: Instant,
    at_wall_clock: Timestamp,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    fetches: u64,
    failures: u64,
    last_error: Option<Arc<str>>,
}

impl IssuerKeys {
    fn new(rules: KeyRules) -> Self {
        Self {
            rules,
            current: ArcSwapOption::empty(),
            wanted: AtomicBool::new(false),
            wake: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// Takes in what a fetch brought. Keys that were fetched replace all that were there; a failure replaces none.
    fn take(&self, outcome: Result<KeySet, FetchError>) {
        let issuer = &*self.rules.issuer;
        let last_error = match outcome {
            Ok(set) => {
                tracing::info!(issuer, keys = set.len(), skipped = set.skipped(), "fetched the keys of a token issuer");
                let (at, at_wall_clock) = (Instant::now(), Timestamp::now());
                self.current.store(Some(Arc::new(Latest { set: Arc::new(set), at, at_wall_clock })));
                None
            }
            Err(error) => {
                let kept = self.current.load().is_some();
                tracing::warn!(issuer, %error, old_keys_kept = kept, "could not fetch the keys of a token issuer");
                Some(error.to_string().into())
            }
        };
        self.progress.send_modify(|progress| {
            progress.fetches += 1;
            progress.failures += u64::from(last_error.is_some());
            progress.last_error = last_error;
        });
    }
}

/// Fetches whenever the schedule says so, until the task is aborted.
async fn keep_fresh(keys: Arc<IssuerKeys>, url: Url, timings: Timings) {
    let mut schedule = Schedule::new(timings, Instant::now());
    loop {
        let due = schedule.due(Instant::now(), keys.wanted.load(Ordering::Acquire));
        match due {
            Due::At(moment) => {
                tokio::select! {
                    () = tokio::time::sleep_until(moment.into()) => {}
                    () = keys.wake.notified() => {}
                }
                continue;
            }
            Due::OutOfTurn => schedule.out_of_turn(Instant::now()),
            Due::InTurn => {}
        }
        // Before the fetch: whoever asks while it is under way may have a key that is newer still.
        keys.wanted.store(false, Ordering::Release);
        let outcome = fetch(&url, &keys.rules, timings.fetch_deadline).await;
        // Without randomness the pauses are merely as long as they may be.
        schedule.ended(due, outcome.is_ok(), Instant::now(), getrandom::u32().unwrap_or(u32::MAX));
        keys.take(outcome);
    }
}
