//! Flows that start from the gateway: whoever subscribes to a queue is told of each record that reaches it.
//!
//! ```text
//! subscribe ─▶ kept on disk ─▶ 201          [`Subscriptions`]
//! a record is accepted ─▶ a nudge           never waits for anything here
//!     what arrived ─▶ a notice for each subscriber it concerns     [`telling`]
//!     a notice ─▶ the event, signed, posted to the callback ─▶ told | later | given up
//! ```
//!
//! Guaranteed: a record that was accepted after a subscription was answered is told at least once, under the same ID, or
//! given up with a reason that is kept; restarts and crashes change nothing about it. The details of a record stay as long
//! as somebody is still to be told of it, unless the disk is full. A subscriber that hangs holds up nobody else.
//!
//! Not guaranteed: order, and that a subscriber is told only once.
//!
//! Several gateways may share one store of records and subscriptions. Each answers for all subscriptions: it looks at the
//! shared list four times a second, and before it changes anything. One of them leads and tells; when it is gone another
//! takes over within seconds, and may tell once more what the first one had under way. Whoever subscribes at one gateway is
//! told of what arrives at any of them from the answer on, since the leader cannot put down by an older list.
//!
//! Being told is apart from where records go: a record is delivered, leased or dead-lettered as ever, whoever is told.

pub mod callback;
mod subscribing;
pub mod telling;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

pub use self::subscribing::{Asked, SubscribeError};

use crate::domain::access::Caller;
use crate::domain::ids::{OrganizationId, SubscriptionId};
use crate::domain::time::Timestamp;
use crate::forward::Nudge;
use crate::store::subscriptions::{DeadNotice, Revision, Standing, Subscription, SubscriptionStore, Summary};
use crate::store::{Store, StoreError};

/// Who is subscribed, and the calls that change it.
pub struct Subscriptions {
    kept: Arc<dyn SubscriptionStore>,
    records: Arc<dyn Store>,
    known: ArcSwap<Book>,
    /// Whether anybody is subscribed: what a record's way costs where nobody is.
    any: AtomicBool,
    /// Held while who is subscribed changes, and while it is said which records are still needed.
    changing: Mutex<()>,
    nudge: Nudge,
    /// Grows when what is due may have changed from outside.
    stirred: AtomicU64,
    /// Up to which record it was looked whom it concerns.
    seen: AtomicU64,
}

/// The list as it was last read.
struct Book {
    revision: Revision,
    known: Arc<Known>,
}

impl Book {
    fn read(kept: &dyn SubscriptionStore) -> Result<Self, StoreError> {
        let (revision, subscriptions) = kept.load()?;
        let known = subscriptions.into_iter().map(|subscription| (subscription.id, Arc::new(subscription))).collect();
        Ok(Self { revision, known: Arc::new(known) })
    }

    fn has_any(&self) -> bool {
        self.known.values().any(|one| one.ended.is_none())
    }
}

/// The subscriptions by ID, those that ended and are remembered included.
pub type Known = BTreeMap<SubscriptionId, Arc<Subscription>>;

impl Subscriptions {
    /// Reads who is subscribed, and goes on where it stood. Blocks on the disk.
    ///
    /// # Errors
    /// What the store cannot read.
    pub fn open(kept: Arc<dyn SubscriptionStore>, records: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        // Asked first: another gateway may accept and put down while this one looks.
        let position = kept.position()?;
        let newest = records.stats().high_water_mark;
        if position > newest {
            let dropped = kept.rewind(newest)?;
            let now = kept.position()?;
            if now < position {
                tracing::warn!(position, newest, dropped, "the records are older than what subscribers were told");
            }
        }
        let book = Book::read(&*kept)?;
        let any = AtomicBool::new(book.has_any());
        let subscriptions = Self {
            kept,
            records,
            known: ArcSwap::from_pointee(book),
            any,
            changing: Mutex::new(()),
            nudge: Nudge::default(),
            stirred: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        };
        subscriptions.keep_what_is_needed()?;
        Ok(Arc::new(subscriptions))
    }

    /// A record was accepted. Never waits; a nudge that is lost costs at most a second.
    pub fn nudge(&self) {
        if self.any.load(Ordering::Relaxed) {
            self.nudge.nudge();
        }
    }

    /// Learns what has changed about who is subscribed, here or at another gateway. Blocks on the disk.
    fn look(&self) -> Result<(), StoreError> {
        let _only_one = self.changing();
        self.read_again()
    }

    /// Reads the list, if there is another than is known. The caller holds [`Self::changing`].
    fn read_again(&self) -> Result<(), StoreError> {
        if self.kept.revision()? == self.known.load().revision {
            return Ok(());
        }
        let book = Book::read(&*self.kept)?;
        self.any.store(book.has_any(), Ordering::Relaxed);
        self.known.store(Arc::new(book));
        self.stir();
        Ok(())
    }

    /// Which list is known.
    fn revision(&self) -> Revision {
        self.known.load().revision
    }

    /// Every subscription that is known, the ended ones included.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.load().known)
    }

    /// How many are subscribed.
    pub fn active(&self) -> usize {
        self.known.load().known.values().filter(|one| one.ended.is_none()).count()
    }

    /// How many records nobody has looked at yet for those who are subscribed.
    pub fn behind(&self) -> u64 {
        if !self.any.load(Ordering::Relaxed) {
            return 0;
        }
        self.records.stats().high_water_mark.saturating_sub(self.seen.load(Ordering::Relaxed))
    }

    /// How all subscriptions together stand, each count up to `most`.
    ///
    /// # Errors
    /// What the store cannot read.
    pub async fn summary(self: &Arc<Self>, most: usize) -> Result<Summary, StoreError> {
        let own = Arc::clone(self);
        on_a_thread(move || own.kept.summary(most)).await
    }

    /// The subscriptions of the caller's organizations, or of this one of them, in the order in which they were made, and
    /// how each stands.
    ///
    /// # Errors
    /// What the store cannot read.
    pub async fn list(
        self: &Arc<Self>,
        caller: &Caller,
        organization: Option<OrganizationId>,
    ) -> Result<Vec<(Arc<Subscription>, Standing)>, StoreError> {
        let own = Arc::clone(self);
        let standings: BTreeMap<_, _> = on_a_thread(move || {
            own.look()?;
            own.kept.standings()
        })
        .await?
        .into_iter()
        .collect();
        let known = self.known();
        let mut shown: Vec<_> = known
            .values()
            .filter(|one| caller.sees(&one.wish.organization))
            .filter(|one| organization.is_none_or(|organization| organization == one.wish.organization))
            .map(|one| (Arc::clone(one), standings.get(&one.id).cloned().unwrap_or_default()))
            .collect();
        shown.sort_by_key(|(one, _)| (one.created_at, one.id));
        Ok(shown)
    }

    /// The dead letters of a subscription after this one, oldest first.
    ///
    /// # Errors
    /// What the store cannot read.
    pub async fn dead_letters(
        self: &Arc<Self>,
        id: SubscriptionId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadNotice>, StoreError> {
        let own = Arc::clone(self);
        on_a_thread(move || own.kept.dead_letters(&id, after, limit)).await
    }

    /// Has the dead letters of a subscription told again. Answers how many there were.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn requeue(self: &Arc<Self>, id: SubscriptionId) -> Result<u64, StoreError> {
        let own = Arc::clone(self);
        let count = on_a_thread(move || own.kept.requeue(&id, Timestamp::now())).await?;
        self.stir();
        Ok(count)
    }

    /// Deletes the dead letters of a subscription. Answers how many there were.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn discard(self: &Arc<Self>, id: SubscriptionId) -> Result<u64, StoreError> {
        let own = Arc::clone(self);
        on_a_thread(move || own.kept.discard(&id)).await
    }

    /// Forgets what is old. Blocks on the disk. Answers how many dead letters that were.
    fn forget(&self, older_than: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let _only_one = self.changing();
        let forgotten = self.kept.forget(older_than, at_most)?;
        self.read_again()?;
        Ok(forgotten)
    }

    /// Says which records are still needed whole: those that somebody is still to be told of, and those that nobody has
    /// looked at yet. Blocks on the disk.
    fn keep_what_is_needed(&self) -> Result<(), StoreError> {
        let _only_one = self.changing();
        if !self.any.load(Ordering::Relaxed) {
            self.records.keep_from(None);
            return Ok(());
        }
        let written = self.kept.position()?;
        self.seen.fetch_max(written, Ordering::Relaxed);
        let unseen = written.saturating_add(1);
        let oldest = self.kept.oldest_pending()?.unwrap_or(unseen);
        self.records.keep_from(Some(oldest.min(unseen)));
        Ok(())
    }

    /// Nothing more will be told: what is written is folded into one file. Blocks on the disk.
    pub fn close(&self) {
        if let Err(fault) = self.kept.close() {
            tracing::warn!(%fault, "the subscriptions are kept, but in two files; copy both");
        }
    }

    /// What is due may have changed: everybody is looked after anew.
    fn stir(&self) {
        self.stirred.fetch_add(1, Ordering::Release);
        self.nudge.nudge();
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that a panic could leave half done.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something that blocks where it may.
async fn on_a_thread<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::Unavailable.into()),
    }
}
