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
pub mod telling;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use self::callback::CallbackFault;
use crate::config::Effective;
use crate::config::settings::WebhookSecret;
use crate::domain::access::Caller;
use crate::domain::ids::{OrganizationId, QueueName, SubscriptionId, WorkStreamId};
use crate::domain::time::Timestamp;
use crate::forward::Nudge;
use crate::store::subscriptions::{
    DeadNotice, Ended, Fenced, Revision, Standing, Subscription, SubscriptionStore, Summary, Wish,
};
use crate::store::{Store, StoreError};

/// So many subscriptions that have ended are remembered for each organization, besides those with dead letters.
const MAX_ENDED: usize = 100;
/// So often it is decided anew whether somebody may subscribe, when others subscribe at the same moment.
const DECISIONS: usize = 32;

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

/// What somebody asks to be told of.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Whose records.
    pub organization: OrganizationId,
    /// In this queue, or in any.
    pub queue: Option<QueueName>,
    /// Of this work stream, or of any.
    pub work_stream: Option<WorkStreamId>,
    /// Where to tell of them.
    pub callback_url: String,
    /// What to sign with; a new secret is made where there is none.
    pub secret: Option<WebhookSecret>,
}

/// Why nobody was subscribed.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The callback cannot be one.
    #[error("the callback {0}")]
    Callback(#[from] CallbackFault),
    /// The organization has as many as it may have.
    #[error("the organization has {limit} subscriptions, and may have no more")]
    Limit {
        /// How many it may have.
        limit: usize,
    },
    /// The callback is subscribed to the same already, with another secret.
    #[error("the callback is subscribed to the same already, with another secret")]
    OtherSecret,
    /// The operating system gives no random bits.
    #[error("the operating system gives no random bits")]
    Random(#[from] getrandom::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

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

    /// Subscribes somebody. The same wish again gets the subscription that there is.
    ///
    /// # Errors
    /// [`SubscribeError`]; nothing has changed then.
    pub async fn subscribe(
        self: &Arc<Self>,
        effective: &Effective,
        caller: &Caller,
        asked: Asked,
    ) -> Result<Arc<Subscription>, SubscribeError> {
        let callback = callback::judge(&asked.callback_url, &callback::networks(effective)).await?;
        let Asked { organization, queue, work_stream, secret, .. } = asked;
        let wish = Wish { organization, queue, work_stream, callback };
        let limit = effective.subscriptions.max_per_organization.get();
        let (own, by) = (Arc::clone(self), Arc::clone(&caller.credential));
        on_a_thread(move || own.add(wish, secret, by, limit)).await
    }

    fn add(
        &self,
        wish: Wish,
        secret: Option<WebhookSecret>,
        created_by: Arc<str>,
        limit: usize,
    ) -> Result<Arc<Subscription>, SubscribeError> {
        for _ in 0..DECISIONS {
            let _only_one = self.changing();
            self.read_again()?;
            if let Some(made) = self.add_to(&wish, secret.as_ref(), &created_by, limit)? {
                return Ok(made);
            }
        }
        Err(StoreError::Engine("others change who is subscribed all the time; try again".into()).into())
    }

    /// Subscribes somebody by the list as it is known; `None` where it is not the latest any more. The caller holds
    /// [`Self::changing`].
    fn add_to(
        &self,
        wish: &Wish,
        secret: Option<&WebhookSecret>,
        created_by: &Arc<str>,
        limit: usize,
    ) -> Result<Option<Arc<Subscription>>, SubscribeError> {
        let book = self.known.load_full();
        let mut active = book.known.values().filter(|one| one.ended.is_none());
        if let Some(same) = active.clone().find(|one| one.wish == *wish) {
            let fits = secret.is_none_or(|secret| *secret == same.secret);
            return if fits { Ok(Some(Arc::clone(same))) } else { Err(SubscribeError::OtherSecret) };
        }
        if active.clone().filter(|one| one.wish.organization == wish.organization).count() >= limit {
            return Err(SubscribeError::Limit { limit });
        }
        let newest = || self.records.stats().high_water_mark;
        if active.next().is_none() {
            // Before it is read how far the records have come, so that none of those that follow loses its details.
            self.records.keep_from(Some(newest() + 1));
        }
        let mut id = [0; 24];
        getrandom::fill(&mut id)?;
        let subscription = Arc::new(Subscription {
            id: SubscriptionId::from_bytes(id),
            wish: wish.clone(),
            secret: secret.cloned().map_or_else(WebhookSecret::random, Ok)?,
            created_at: Timestamp::now(),
            created_by: Arc::clone(created_by),
            after: newest(),
            ended: None,
        });
        if self.kept.add(book.revision, &subscription)? == Fenced::Out {
            return Ok(None);
        }
        self.read_again()?;
        // As it is kept: a shared store may know of newer records.
        let subscription = self.known().get(&subscription.id).cloned().unwrap_or(subscription);
        self.forget_ended(subscription.wish.organization)?;
        tracing::info!(
            subscription = %subscription.id,
            organization = %subscription.wish.organization,
            queue = subscription.wish.queue.as_ref().map(tracing::field::display),
            credential = &*subscription.created_by,
            callback.host = callback::host_of(&subscription.wish.callback),
            "subscribed"
        );
        Ok(Some(subscription))
    }

    /// Of an organization's subscriptions that have ended only the newest are remembered: whoever subscribes and
    /// unsubscribes in a circle must not make memory grow. The caller holds [`Self::changing`].
    fn forget_ended(&self, organization: OrganizationId) -> Result<(), StoreError> {
        let known = self.known();
        let mut ended: Vec<(Timestamp, SubscriptionId)> = known
            .values()
            .filter(|one| one.wish.organization == organization)
            .filter_map(|one| Some((one.ended.as_ref()?.at, one.id)))
            .collect();
        let excess = ended.len().saturating_sub(MAX_ENDED);
        if excess == 0 {
            return Ok(());
        }
        ended.sort_unstable();
        let oldest: Vec<SubscriptionId> = ended.into_iter().take(excess).map(|(_, id)| id).collect();
        self.kept.forget_ended(&oldest)?;
        self.read_again()
    }

    /// Ends a subscription of one of the caller's organizations, and answers how it ended: if it had ended before, how it
    /// did then. `None` where there is none.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn end(self: &Arc<Self>, caller: &Caller, id: SubscriptionId) -> Result<Option<Ended>, StoreError> {
        let (own, caller) = (Arc::clone(self), caller.clone());
        on_a_thread(move || {
            own.look()?;
            let Some(subscription) = own.known().get(&id).cloned() else { return Ok(None) };
            if !caller.sees(&subscription.wish.organization) {
                return Ok(None);
            }
            own.end_because(id, format!("unsubscribed by `{}`", caller.credential)).map(Some)
        })
        .await
    }

    /// Ends a subscription. Blocks on the disk.
    fn end_because(&self, id: SubscriptionId, because: String) -> Result<Ended, StoreError> {
        let _only_one = self.changing();
        self.read_again()?;
        let known = self.known();
        let Some(subscription) = known.get(&id) else {
            return Ok(Ended { at: Timestamp::now(), because });
        };
        if let Some(ended) = &subscription.ended {
            return Ok(ended.clone());
        }
        let ended = Ended { at: Timestamp::now(), because };
        let dropped = self.kept.end(&id, &ended)?;
        self.read_again()?;
        // Another gateway may have been faster, and the first end counts.
        let ended = self.known().get(&id).and_then(|one| one.ended.clone()).unwrap_or(ended);
        tracing::info!(subscription = %id, because = ended.because, not_told = dropped, "a subscription ended");
        Ok(ended)
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
