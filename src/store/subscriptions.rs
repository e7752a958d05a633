//! The port to who wants to be told of records that reach a queue, and what each of them has still to be told.
//!
//! A *subscription* has an address and a filter. A *notice* is one record that one subscriber has to be told of: pending
//! until it was told, or a dead letter once that was given up. Notices are put down in the order in which records arrived,
//! together with how far that has come ([`SubscriptionStore::put_down`]), so a restart goes on where it stood: none is
//! left out, and none is put down twice.
//!
//! Several gateways may share a store. Then one of them at a time *leads*: it puts notices down and tells
//! ([`SubscriptionStore::lead`]). What it writes is fenced: a leader that was replaced while it hung, or that goes by an
//! older list of subscriptions than the store has, changes nothing ([`Fenced`]). The list has a *revision* that grows
//! with every change of who is subscribed.
//!
//! Every method blocks on the disk; async callers use a thread that may. What a method did is durable when it returns.

use std::sync::Arc;
use std::time::Duration;

use super::{Lane, StoreError};
use crate::config::settings::WebhookSecret;
use crate::domain::ids::{OrganizationId, QueueName, ReceiptId, SubscriptionId, WorkStreamId};
use crate::domain::time::Timestamp;

/// The store of subscriptions and notices.
pub trait SubscriptionStore: Send + Sync + 'static {
    /// Every subscription, the ended ones that are still remembered included, and the revision that they make up.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names what is not as it was written.
    fn load(&self) -> Result<(Revision, Vec<Subscription>), StoreError>;

    /// The revision of who is subscribed.
    ///
    /// # Errors
    /// When it cannot be read.
    fn revision(&self) -> Result<Revision, StoreError>;

    /// Who leads. Where several gateways share the store this asks for the lead, or keeps it: it has to be asked at least
    /// every second, and a gateway that does not is replaced within [`LEAD`].
    ///
    /// # Errors
    /// Then nobody is told by this gateway, until it is asked again.
    fn lead(&self) -> Result<Role, StoreError>;

    /// Gives the lead away, if it is held, so that another gateway need not wait for it to run out.
    ///
    /// # Errors
    /// Then it runs out by itself.
    fn resign(&self) -> Result<(), StoreError>;

    /// Keeps a new subscription, if the revision still is this one: whoever decided by an older list decides again. Where
    /// nobody else is subscribed, what arrived by then is left out. A store that is shared knows better than one gateway
    /// which record is the newest, so it may set [`Subscription::after`] higher.
    ///
    /// # Errors
    /// Nothing has changed then. [`StoreError::Full`] where the disk is down to its reserve.
    fn add(&self, revision: Revision, subscription: &Subscription) -> Result<Fenced, StoreError>;

    /// Ends a subscription. What it was still to be told is dropped; answers how much that was. Its dead letters stay.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn end(&self, id: &SubscriptionId, ended: &Ended) -> Result<u64, StoreError>;

    /// Forgets subscriptions that have ended, but for those with dead letters. Answers which are forgotten.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn forget_ended(&self, ids: &[SubscriptionId]) -> Result<Vec<SubscriptionId>, StoreError>;

    /// How every subscription stands, those without any notice left out.
    ///
    /// # Errors
    /// When it cannot be read.
    fn standings(&self) -> Result<Vec<(SubscriptionId, Standing)>, StoreError>;

    /// Up to which record notices were put down.
    ///
    /// # Errors
    /// When it cannot be read.
    fn position(&self) -> Result<u64, StoreError>;

    /// Takes the position back to the newest record there is, where the records were taken back to an earlier state, and
    /// drops what is about records after it. Answers how many notices and dead letters that were. A store that is shared
    /// looks itself which record is the newest: another gateway may have accepted more.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn rewind(&self, newest: u64) -> Result<u64, StoreError>;

    /// Puts down all notices of a span, and that this was done, unless something that they were made of has changed.
    ///
    /// # Errors
    /// Nothing has changed then. [`StoreError::Full`] where the disk is down to its reserve and there are any.
    fn put_down(&self, span: &Span, notices: &[NewNotice]) -> Result<Fenced, StoreError>;

    /// The oldest record that somebody is still to be told of.
    ///
    /// # Errors
    /// When it cannot be read.
    fn oldest_pending(&self) -> Result<Option<u64>, StoreError>;

    /// How much is pending and how much was given up, each counted up to `most`, and when the oldest of what is pending
    /// was put down.
    ///
    /// # Errors
    /// When it cannot be read.
    fn summary(&self, most: usize) -> Result<Summary, StoreError>;

    /// What a subscriber is to be told by now, in the order in which it is due, at most so much.
    ///
    /// # Errors
    /// When it cannot be read.
    fn due(&self, id: &SubscriptionId, now: Timestamp, limit: usize) -> Result<Due, StoreError>;

    /// What tries came to. A notice that is not pending any more is left alone. Of a gateway that does not lead any more only
    /// that somebody was told counts.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn conclude(&self, tries: &[Tried]) -> Result<(), StoreError>;

    /// The dead letters of a subscription after this one, oldest first, at most so many.
    ///
    /// # Errors
    /// When they cannot be read.
    fn dead_letters(
        &self,
        id: &SubscriptionId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadNotice>, StoreError>;

    /// Makes the dead letters of a subscription pending again, due at once, with their attempts counted from zero. Answers
    /// how many there were.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn requeue(&self, id: &SubscriptionId, now: Timestamp) -> Result<u64, StoreError>;

    /// Deletes the dead letters of a subscription. Answers how many there were.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn discard(&self, id: &SubscriptionId) -> Result<u64, StoreError>;

    /// Folds the log into the file, so that the file alone is all of it. Further calls are possible.
    ///
    /// # Errors
    /// Nothing is lost then.
    fn close(&self) -> Result<(), StoreError>;

    /// Forgets dead letters and ended subscriptions that are older. Answers how many dead letters, at most so many at
    /// once.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn forget(&self, older_than: Timestamp, at_most: usize) -> Result<u64, StoreError>;
}

/// A leader that is silent is replaced after this time.
pub const LEAD: Duration = Duration::from_secs(5);

/// Which list of subscriptions: it grows with every change of who is subscribed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// What a gateway is to the others that share its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// There are no others.
    Alone,
    /// It tells.
    Leader,
    /// Another one tells.
    Standby,
}

/// Whether a write took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fenced {
    /// It did.
    Done,
    /// It did not, and nothing has changed: another gateway leads, or was faster.
    Out,
}

/// Records of which notices are put down at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Up to which record notices were put down before.
    pub from: u64,
    /// Up to which they will have been.
    pub through: u64,
    /// By which list of subscriptions.
    pub revision: Revision,
}

/// Somebody who wants to be told of the records that reach a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// What it goes by.
    pub id: SubscriptionId,
    /// Which records, and where to tell of them.
    pub wish: Wish,
    /// What tells are signed with.
    pub secret: WebhookSecret,
    /// Since when.
    pub created_at: Timestamp,
    /// The credential that made it.
    pub created_by: Arc<str>,
    /// It is told of records that arrived after this one.
    pub after: u64,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
}

/// Which records somebody wants to be told of, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Whose.
    pub organization: OrganizationId,
    /// In this queue; `None` means in any.
    pub queue: Option<QueueName>,
    /// Of this work stream; `None` means of any.
    pub work_stream: Option<WorkStreamId>,
    /// Where to tell of them.
    pub callback: Callback,
}

impl Wish {
    /// Whether it is for records of this lane.
    pub fn is_for(&self, lane: &Lane) -> bool {
        self.organization == lane.organization
            && self.queue.as_ref().is_none_or(|queue| *queue == lane.queue)
            && self.work_stream.is_none_or(|work_stream| work_stream == lane.work_stream)
    }
}

/// The address that a subscriber left. Whoever knows it can start the flow behind it, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Callback(Box<str>);

impl Callback {
    /// This address, which somebody else has checked.
    pub fn new(url: impl Into<Box<str>>) -> Self {
        Self(url.into())
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callback(…)")
    }
}

/// How a subscription ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// By whom or why, in words.
    pub because: String,
}

/// How a subscription stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many records it is still to be told of.
    pub pending: u64,
    /// How many it was told of.
    pub delivered: u64,
    /// For how many that was given up.
    pub dead_lettered: u64,
    /// When it was last told of one.
    pub last_delivered_at: Option<Timestamp>,
    /// Why the latest try that failed did, if something is pending or was given up.
    pub last_error: Option<String>,
}

/// How all subscriptions together stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Notices to be told.
    pub pending: u64,
    /// Notices that were given up.
    pub dead_lettered: u64,
    /// When the oldest one to be told was put down.
    pub oldest_pending_at: Option<Timestamp>,
}

/// A record that somebody has to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotice {
    /// Whom.
    pub subscription: SubscriptionId,
    /// The record's number.
    pub number: u64,
    /// Its receipt.
    pub receipt: ReceiptId,
    /// When that was found out.
    pub at: Timestamp,
}

/// What a subscriber is to be told by now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// The notices.
    pub notices: Vec<Notice>,
    /// When the next one becomes due, where fewer were due than asked for.
    pub next: Option<Timestamp>,
}

/// A pending notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The record's number.
    pub number: u64,
    /// Its receipt.
    pub receipt: ReceiptId,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was put down.
    pub at: Timestamp,
}

/// What a try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Who was to be told.
    pub subscription: SubscriptionId,
    /// The record's number.
    pub number: u64,
    /// How it ended.
    pub end: TriedEnd,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TriedEnd {
    /// The subscriber was told.
    Told {
        /// When.
        at: Timestamp,
    },
    /// Not now.
    Later {
        /// When to try again.
        due: Timestamp,
        /// Why this try failed.
        error: String,
    },
    /// Given up.
    GivenUp {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

/// A dead letter of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadNotice {
    /// The record's number.
    pub number: u64,
    /// Its receipt.
    pub receipt: ReceiptId,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}
