//! Subscribing somebody, and ending that: who may, by which list it is decided, and what is remembered of it.

use std::sync::Arc;

use super::callback::{self, CallbackFault};
use super::{Subscriptions, on_a_thread};
use crate::config::Effective;
use crate::config::settings::WebhookSecret;
use crate::domain::access::Caller;
use crate::domain::ids::{OrganizationId, QueueName, SubscriptionId, WorkStreamId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::subscriptions::{Ended, Fenced, Subscription, Wish};

/// So many subscriptions that have ended are remembered for each organization, besides those with dead letters.
const MAX_ENDED: usize = 100;
/// So often it is decided anew whether somebody may subscribe, when others subscribe at the same moment.
const DECISIONS: usize = 32;

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
    pub(super) fn end_because(&self, id: SubscriptionId, because: String) -> Result<Ended, StoreError> {
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
}
