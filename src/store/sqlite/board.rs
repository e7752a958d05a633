//! What the store knows about itself without asking the disk: figures, lanes, whether it still writes.
//!
//! The writer brings it up to date after each commit and before it answers, so whoever holds a receipt sees its record
//! counted. Everybody reads.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::space::Space;
use super::untried::Front;
use crate::store::observer::StoreObserver;
use crate::store::{DiskStats, LaneBacklog, LaneId, Refusing, Stats, StoreError};

/// Locks a mutex. A panic of another holder is no reason to stop reading: whoever panics breaks the store for good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shared knowledge.
#[derive(Debug)]
pub(super) struct Board {
    figures: Mutex<Figures>,
    /// Why writing is over, once it is.
    broken: OnceLock<String>,
    closing: AtomicBool,
    waiting_appends: AtomicUsize,
    max_waiting_appends: usize,
    space: Space,
    wanted: Wanted,
    observer: Observed,
}

/// Who is told what happens, once somebody wants to be.
#[derive(Default)]
struct Observed(OnceLock<Arc<dyn StoreObserver>>);

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observed")
    }
}

/// From which record on details are wanted whole, whatever became of the records: what is to be told of them is told from
/// the details.
#[derive(Debug, Clone)]
pub(super) struct Wanted(Arc<AtomicI64>);

impl Default for Wanted {
    fn default() -> Self {
        // Whoever needs some may not have come to say so yet.
        Self(Arc::new(AtomicI64::new(0)))
    }
}

impl Wanted {
    /// Whether this one is wanted.
    pub(super) fn has(&self, seq: i64) -> bool {
        seq >= self.from()
    }

    /// Whether anybody has said yet what is wanted.
    pub(super) fn is_known(&self) -> bool {
        self.from() > 0
    }

    /// The first that is wanted; the largest number there is where none is.
    pub(super) fn from(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    /// Says which is the first.
    pub(super) fn set(&self, from: Option<u64>) {
        let from = from.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX));
        self.0.store(from, Ordering::Release);
    }
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Every lane; the lane with the ID `n` stands at `n - 1`.
    pub(super) lanes: Vec<LaneBacklog>,
    /// All of their pending records together.
    pub(super) pending: u64,
    /// Waiting records.
    pub(super) waiting: u64,
    /// Dead letters.
    pub(super) dead_lettered: u64,
    /// The newest record's sequence number.
    pub(super) high_water: i64,
    /// Where the oldest record of each lane is that was never handed out, in the order of the lanes. Behind the last one
    /// there is none.
    pub(super) fronts: Vec<Front>,
}

impl Figures {
    /// Where the oldest record of a lane is that was never handed out.
    pub(super) fn front(&self, id: LaneId) -> Front {
        place_of(id).and_then(|place| self.fronts.get(place)).copied().unwrap_or_default()
    }

    /// It is there now.
    pub(super) fn set_front(&mut self, id: LaneId, front: Front) {
        let Some(place) = place_of(id) else { return };
        if self.fronts.len() <= place {
            self.fronts.resize(place + 1, Front::None);
        }
        if let Some(known) = self.fronts.get_mut(place) {
            *known = front;
        }
    }

    /// A record of this lane came in, the newest there is.
    pub(super) fn came_in(&mut self, id: LaneId, seq: i64) {
        if self.front(id) == Front::None {
            self.set_front(id, Front::At(seq));
        }
    }

    /// A lane's entry.
    pub(super) fn lane_mut(&mut self, id: LaneId) -> Option<&mut LaneBacklog> {
        self.lanes.get_mut(place_of(id)?)
    }
}

/// Where a lane stands.
fn place_of(id: LaneId) -> Option<usize> {
    usize::try_from(id.0).ok()?.checked_sub(1)
}

/// A place among the appends that may wait; dropped when the append is answered.
#[derive(Debug)]
pub(super) struct Place(Arc<Board>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting_appends.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Board {
    /// The board of a store that has just been read.
    pub(super) fn new(figures: Figures, max_waiting_appends: usize, space: Space, wanted: Wanted) -> Self {
        Self {
            figures: Mutex::new(figures),
            broken: OnceLock::new(),
            closing: AtomicBool::new(false),
            waiting_appends: AtomicUsize::new(0),
            max_waiting_appends,
            space,
            wanted,
            observer: Observed::default(),
        }
    }

    /// Tells this observer from now on; the first one counts.
    pub(super) fn observe(&self, observer: Arc<dyn StoreObserver>) {
        if self.observer.0.set(observer).is_err() {
            tracing::debug!("the store is observed already");
        }
    }

    /// Who is told what happens.
    pub(super) fn observer(&self) -> Option<&dyn StoreObserver> {
        self.observer.0.get().map(Arc::as_ref)
    }

    /// What is wanted whole.
    pub(super) const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The figures, to be read or brought up to date.
    pub(super) fn figures(&self) -> MutexGuard<'_, Figures> {
        lock(&self.figures)
    }

    /// Takes a place among the waiting appends.
    pub(super) fn take_place(self: &Arc<Self>) -> Result<Place, StoreError> {
        let place = Place(Arc::clone(self));
        let before = self.waiting_appends.fetch_add(1, Ordering::AcqRel);
        if before < self.max_waiting_appends { Ok(place) } else { Err(self.overloaded()) }
    }

    /// Whether appends wait for the disk.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting_appends.load(Ordering::Acquire) > 0
    }

    /// The error of an append that finds no place.
    pub(super) fn overloaded(&self) -> StoreError {
        StoreError::Overloaded { limit: self.max_waiting_appends }
    }

    /// Ends all writing. The first cause is the one that counts.
    pub(super) fn break_for_good(&self, cause: String) {
        if let Err(later) = self.broken.set(cause.clone()) {
            tracing::debug!(cause = later, "the store was broken already");
        } else {
            tracing::error!(cause, "the record store stops writing for good; restart the gateway");
        }
    }

    /// The error of everything that would write, once writing is over.
    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        match self.broken.get() {
            Some(cause) => Err(StoreError::Broken { cause: cause.clone() }),
            None if self.is_closing() => Err(StoreError::Unavailable),
            None => Ok(()),
        }
    }

    /// Whether writing is over.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get().is_some()
    }

    /// Whether the store is closing or closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// From now on nothing new is taken on.
    pub(super) fn start_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// The error of a call whose thread did not answer.
    pub(super) fn unanswered(&self) -> StoreError {
        match self.check_writable() {
            Err(error) => error,
            Ok(()) => StoreError::Unavailable,
        }
    }

    /// Free space.
    pub(super) const fn space(&self) -> &Space {
        &self.space
    }

    /// Everything for metrics and health.
    pub(super) fn stats(&self) -> Stats {
        let figures = self.figures();
        let free_bytes_above_reserve = self.space.free_above_reserve();
        let refusing = match self.broken.get() {
            Some(_) => Some(Refusing::Broken),
            None if self.is_closing() => Some(Refusing::Closing),
            None if free_bytes_above_reserve == 0 => Some(Refusing::Full),
            None => None,
        };
        Stats {
            pending: figures.pending,
            waiting: figures.waiting,
            dead_lettered: figures.dead_lettered,
            high_water_mark: figures.high_water.cast_unsigned(),
            disk: Some(DiskStats {
                free_bytes_above_reserve,
                free_bytes: self.space.on_disk(),
                reserve_bytes: self.space.reserve_bytes(),
            }),
            waiting_appends: self.waiting_appends.load(Ordering::Relaxed),
            max_waiting_appends: self.max_waiting_appends,
            refusing,
        }
    }
}

/// Breaks the store when the thread that holds it ends by a panic: what it was doing is unknown.
pub(super) struct BreakOnPanic(pub(super) Arc<Board>, pub(super) &'static str);

impl Drop for BreakOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.break_for_good(format!("the {} thread panicked", self.1));
        }
    }
}
