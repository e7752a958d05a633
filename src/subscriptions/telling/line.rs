//! One subscriber, as the loop sees it: what is under way, when there is more to do, and whether it is left alone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Url;

use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::SubscriptionId;
use crate::domain::time::Timestamp;
use crate::forward::breaker::{Allowance, Breaker};
use crate::forward::clock::Now;
use crate::routing_queue::RoutingQueue;
use crate::routing_queue::http::{DeliveryClient, HttpRoutingQueue};
use crate::store::Arrival;
use crate::store::subscriptions::{Notice, Subscription};

/// Nobody is left unasked for longer, whatever was thought to be due when.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// A try under way.
pub(super) struct UnderWay {
    pub(super) subscription: SubscriptionId,
    pub(super) notice: Notice,
    /// Whether it is the breaker's probe.
    pub(super) probe: bool,
}

/// One subscriber.
pub(super) struct Line {
    pub(super) subscription: Arc<Subscription>,
    pub(super) breaker: Breaker,
    /// The records that it is being told of.
    pub(super) under_way: HashSet<u64>,
    /// Those that were tried without the store knowing yet.
    unwritten: HashSet<u64>,
    callback: Option<Arc<dyn RoutingQueue>>,
    /// Nothing is due before; `None` means that it has to be asked.
    sleeps_until: Option<Instant>,
}

impl Line {
    pub(super) fn new(subscription: Arc<Subscription>) -> Self {
        Self {
            subscription,
            breaker: Breaker::default(),
            under_way: HashSet::new(),
            unwritten: HashSet::new(),
            callback: None,
            sleeps_until: None,
        }
    }

    /// Whether this subscriber is to be told of a record.
    pub(super) fn is_for(&self, arrival: &Arrival) -> bool {
        arrival.number > self.subscription.after && self.subscription.wish.is_for(&arrival.lane)
    }

    /// How many records the store may still think to be untried.
    pub(super) fn in_hand(&self) -> usize {
        self.under_way.len() + self.unwritten.len()
    }

    /// Whether this record is being tried, or was without the store knowing yet.
    pub(super) fn has_in_hand(&self, number: u64) -> bool {
        self.under_way.contains(&number) || self.unwritten.contains(&number)
    }

    /// A try has ended.
    pub(super) fn tried(&mut self, number: u64) {
        self.under_way.remove(&number);
        self.unwritten.insert(number);
    }

    /// The store knows how a try has ended.
    pub(super) fn written(&mut self, number: u64) {
        self.unwritten.remove(&number);
    }

    /// There may be something due.
    pub(super) fn wake(&mut self) {
        self.sleeps_until = None;
    }

    /// There will be something due then.
    pub(super) fn due(&mut self, due: Timestamp, now: Now) {
        let at = now.instant + due.since(now.wall);
        self.sleeps_until = self.sleeps_until.map(|until| until.min(at));
    }

    /// All that is due was handed out; the next is due then.
    pub(super) fn sleep_until(&mut self, next: Option<Timestamp>, now: Now) {
        let pause = next.map_or(LONGEST_SLEEP, |due| due.since(now.wall).min(LONGEST_SLEEP));
        self.sleeps_until = Some(now.instant + pause);
    }

    /// How many tries there is room for, and whether it would be the breaker's probe; `None` where there is nothing to do.
    pub(super) fn room(&self, concurrency: usize, now: Instant) -> Option<(usize, bool)> {
        if self.sleeps_until.is_some_and(|until| until > now) {
            return None;
        }
        let (room, probe) = match self.breaker.allowance(now) {
            Allowance::All => (concurrency.saturating_sub(self.under_way.len()), false),
            Allowance::Probe => (1, true),
            Allowance::Nothing(_) => (0, false),
        };
        (room > 0).then_some((room, probe))
    }

    /// When there may be something to do by itself.
    pub(super) fn next(&self, concurrency: usize, now: Instant) -> Option<Instant> {
        match self.breaker.allowance(now) {
            Allowance::Nothing(until) => until.max(self.sleeps_until),
            // What is under way ends by itself, and wakes the loop then.
            Allowance::All if self.under_way.len() >= concurrency => None,
            Allowance::All | Allowance::Probe => self.sleeps_until,
        }
    }

    /// The callback, through this client.
    pub(super) fn callback(&mut self, client: &DeliveryClient) -> Option<Arc<dyn RoutingQueue>> {
        if self.callback.is_none() {
            // It was one when it was left.
            let url = Url::parse(self.subscription.wish.callback.as_str()).ok()?;
            let name = RoutingQueueName::new(&self.subscription.id.to_string());
            let secret = self.subscription.secret.clone();
            self.callback = Some(Arc::new(HttpRoutingQueue::callback(client.clone(), name, url, secret)));
        }
        self.callback.clone()
    }

    /// The client has changed.
    pub(super) fn hang_up(&mut self) {
        self.callback = None;
    }
}
