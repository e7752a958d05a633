//! What this gateway knows of the store without asking: figures and lanes.
//!
//! Each commit of this gateway is counted here before it is answered. What the others did is learnt by counting again
//! ([`recount`](super::recount)), every few seconds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::error::Fault;
use crate::store::observer::StoreObserver;
use crate::store::{Lane, LaneBacklog, LaneId, Refusing, Stats, StoreError};

/// So many batches that the database refuses in a row say that it would refuse the next one, too.
const FAILURES: u32 = 3;

/// What is counted. Counts may be negative for a moment: what another gateway appended and this one delivered.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Every lane that is known, with its pending records.
    pub(super) lanes: HashMap<LaneId, (Lane, i64)>,
    /// The lanes' numbers.
    pub(super) ids: HashMap<Lane, LaneId>,
    /// Waiting records.
    pub(super) waiting: i64,
    /// Dead letters.
    pub(super) dead_lettered: i64,
    /// The newest record's number.
    pub(super) high_water: i64,
}

impl Figures {
    /// A lane.
    pub(super) fn add_lane(&mut self, id: LaneId, lane: Lane) {
        self.ids.insert(lane.clone(), id);
        self.lanes.entry(id).or_insert((lane, 0));
    }
}

/// What a commit changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Pending records by lane.
    pub(super) pending: HashMap<LaneId, i64>,
    /// Waiting records.
    pub(super) waiting: i64,
    /// Dead letters.
    pub(super) dead_lettered: i64,
}

impl Changes {
    /// So many more are pending in a lane.
    pub(super) fn pending(&mut self, lane: LaneId, more: i64) {
        *self.pending.entry(lane).or_default() += more;
    }
}

/// The shared knowledge.
pub(super) struct Board {
    figures: Mutex<Figures>,
    closing: AtomicBool,
    /// Why the database takes nothing at the moment.
    refusing: Mutex<Option<Refusing>>,
    /// Whether this machine's clock and the database's are too far apart.
    clock_apart: AtomicBool,
    /// Batches in a row that the database refused.
    failures: AtomicU32,
    waiting_appends: AtomicUsize,
    max_waiting_appends: usize,
    wanted_from: AtomicI64,
    observer: OnceLock<Arc<dyn StoreObserver>>,
}

/// A place among the appends that may wait; dropped when the append is answered.
pub(super) struct Place(Arc<Board>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting_appends.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Board {
    pub(super) fn new(figures: Figures, max_waiting_appends: usize, clock_apart: bool) -> Self {
        Self {
            figures: Mutex::new(figures),
            closing: AtomicBool::new(false),
            refusing: Mutex::new(clock_apart.then_some(Refusing::ClockApart)),
            clock_apart: AtomicBool::new(clock_apart),
            failures: AtomicU32::new(0),
            waiting_appends: AtomicUsize::new(0),
            max_waiting_appends,
            // Whoever needs some may not have come to say so yet.
            wanted_from: AtomicI64::new(0),
            observer: OnceLock::new(),
        }
    }

    /// The figures, to be read or brought up to date.
    pub(super) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a commit.
    pub(super) fn apply(&self, changes: &Changes) {
        let mut figures = self.figures();
        for (lane, more) in &changes.pending {
            if let Some((_, pending)) = figures.lanes.get_mut(lane) {
                *pending += more;
            }
        }
        figures.waiting += changes.waiting;
        figures.dead_lettered += changes.dead_lettered;
    }

    /// Takes a place among the waiting appends.
    pub(super) fn take_place(self: &Arc<Self>) -> Result<Place, StoreError> {
        let place = Place(Arc::clone(self));
        let before = self.waiting_appends.fetch_add(1, Ordering::AcqRel);
        if before < self.max_waiting_appends { Ok(place) } else { Err(self.overloaded()) }
    }

    /// The error of an append that finds no place.
    pub(super) const fn overloaded(&self) -> StoreError {
        StoreError::Overloaded { limit: self.max_waiting_appends }
    }

    /// Whether it is not closing.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closing.load(Ordering::Acquire) { Err(StoreError::Unavailable) } else { Ok(()) }
    }

    /// Whether a record has a prospect. Without one its caller learns at once that it has to come again.
    pub(super) fn check_takes_records(&self) -> Result<(), StoreError> {
        self.check_open()?;
        match self.refusing() {
            None => Ok(()),
            Some(Refusing::Full) => {
                Err(StoreError::DatabaseFull("nobody has made any since the last record".to_owned()))
            }
            Some(refusing) => Err(StoreError::Engine(format!("the database takes no records: {refusing:?}").into())),
        }
    }

    /// Why the database takes nothing, as noted last.
    pub(super) fn refusing(&self) -> Option<Refusing> {
        *self.refusing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything may be done that goes by this machine's clock.
    pub(super) fn check_clock(&self) -> Result<(), Fault> {
        if self.clock_apart.load(Ordering::Acquire) { Err(Fault::ClockApart) } else { Ok(()) }
    }

    /// Notes whether this machine's clock is wrong, whatever else is.
    pub(super) fn set_clock_apart(&self, apart: bool) {
        self.clock_apart.store(apart, Ordering::Release);
    }

    /// Notes how a batch ended. What refuses several in a row is nothing about the records in them.
    pub(super) fn note_batch(&self, fault: Option<&Fault>) {
        let Some(fault) = fault else { return self.failures.store(0, Ordering::Relaxed) };
        let refuses = || fault.is_refusal() && self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES;
        let refusing = if matches!(fault, Fault::NotKept(_)) {
            Refusing::NotDurable
        } else if matches!(fault, Fault::AnotherStore) {
            Refusing::Broken
        } else if fault.is_of_no_room() {
            Refusing::Full
        } else if refuses() {
            Refusing::Failing
        } else {
            return;
        };
        self.set_refusing(Some(refusing), &fault.to_string());
    }

    /// Notes why the database takes nothing, or that it does, and says so where it is news.
    pub(super) fn set_refusing(&self, refusing: Option<Refusing>, why: &str) {
        let before = std::mem::replace(&mut *self.refusing.lock().unwrap_or_else(PoisonError::into_inner), refusing);
        if before == refusing {
            return;
        }
        match refusing {
            Some(_) => tracing::error!(why, "the database takes no records; callers get 503 until it does"),
            None => tracing::info!("the database takes records again"),
        }
    }

    /// From now on nothing is taken.
    pub(super) fn start_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// From which record on details are wanted whole.
    pub(super) fn wanted_from(&self) -> i64 {
        self.wanted_from.load(Ordering::Acquire)
    }

    /// Says from which.
    pub(super) fn set_wanted_from(&self, number: Option<u64>) {
        let from = number.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX));
        self.wanted_from.store(from, Ordering::Release);
    }

    /// Tells this observer from now on; the first one counts.
    pub(super) fn observe(&self, observer: Arc<dyn StoreObserver>) {
        let _another_was_first = self.observer.set(observer);
    }

    /// Whom to tell.
    pub(super) fn observer(&self) -> Option<&Arc<dyn StoreObserver>> {
        self.observer.get()
    }

    /// Every lane, by its number.
    pub(super) fn lanes(&self) -> Vec<LaneBacklog> {
        let figures = self.figures();
        let mut lanes: Vec<LaneBacklog> = figures
            .lanes
            .iter()
            .map(|(id, (lane, pending))| LaneBacklog {
                id: *id,
                lane: lane.clone(),
                pending: (*pending).max(0).cast_unsigned(),
            })
            .collect();
        lanes.sort_unstable_by_key(|backlog| backlog.id);
        lanes
    }

    /// Figures for metrics and health.
    pub(super) fn stats(&self) -> Stats {
        let figures = self.figures();
        let count = |count: i64| count.max(0).cast_unsigned();
        Stats {
            pending: count(figures.lanes.values().map(|(_, pending)| pending).sum()),
            waiting: count(figures.waiting),
            dead_lettered: count(figures.dead_lettered),
            high_water_mark: count(figures.high_water),
            // How full the database's disk is, is its operator's to watch.
            disk: None,
            waiting_appends: self.waiting_appends.load(Ordering::Acquire),
            max_waiting_appends: self.max_waiting_appends,
            refusing: if self.closing.load(Ordering::Acquire) { Some(Refusing::Closing) } else { self.refusing() },
        }
    }
}
