//! The loop that tells: what arrived becomes notices, what is due is posted, and what came of it is written down.
//!
//! It owns its state, so there are no locks; it turns when it is nudged, when something ended, when something becomes due,
//! and at least once a second. A notice is tried again, left alone behind a circuit breaker, and given up by the rules of
//! every delivery (`forward`).
//!
//! What came of tries is written down a few milliseconds later, together with what else ended meanwhile: one sync for
//! many. The same goes for how far arrivals were looked at where they concerned nobody. Until it is written down a notice
//! is not tried again; a crash in between tells it once more.
//!
//! Where gateways share a store the loop runs at each of them, and tells at the one that leads. The others follow who is
//! subscribed and which records are needed, and ask for the lead every second.

mod arrivals;
mod ended;
mod line;
mod trying;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet, block_in_place};

use self::line::{Line, UnderWay};
use self::trying::{Telling, Try};
use super::{Subscriptions, callback};
use crate::config::Effective;
use crate::domain::ids::SubscriptionId;
use crate::forward::clock::{Clock, Now};
use crate::forward::fairness;
use crate::forward::observer::Observer;
use crate::forward::threads::{LoopHandle, Stopping, grace_of_stop};
use crate::routing_queue::http::DeliveryClient;
use crate::store::StoreError;
use crate::store::subscriptions::{Notice, Revision, Role, Tried};

/// Threads that tell.
const THREADS: usize = 1;
/// The loop turns at least this often.
const TICK: Duration = Duration::from_secs(1);
/// Nudges are heeded at most this often.
const REST: Duration = Duration::from_millis(2);
/// What came of tries is written down after this time, or when there is so much of it.
const WRITE_AFTER: Duration = Duration::from_millis(10);
const WRITE_AT: usize = 128;
/// While so much is not written down, nothing more is tried.
const MAX_UNWRITTEN: usize = 1_024;
/// What other gateways have done is looked at this often.
const LOOK: Duration = Duration::from_millis(250);
/// How far arrivals were looked at is written down after this time, where they concerned nobody.
const NOTE_AFTER: Duration = Duration::from_secs(1);
/// After the store failed it is asked again after this time.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often what is old is forgotten.
const FORGET: Duration = Duration::from_secs(600);
/// Dead letters that are forgotten at once, at most.
const FORGET_AT_ONCE: usize = 4_096;
/// Arrivals that are looked at in one go.
const ARRIVALS: usize = 1_024;
/// Tries under way at once, at most: each takes a connection, and holds the details of its record.
const MAX_UNDER_WAY: usize = 256;
/// So much longer than its own timeout a try may take before it is broken off from outside.
const TRY_MARGIN: Duration = Duration::from_secs(5);
/// What telling is called in metrics, beside the routing queues, whose names have no parentheses.
const COUNTED_AS: &str = "(subscriptions)";

/// What the loop works with.
#[derive(Clone)]
pub struct Parts {
    /// Who is subscribed.
    pub subscriptions: Arc<Subscriptions>,
    /// The latest configuration.
    pub effective: watch::Receiver<Arc<Effective>>,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// What time it is.
    pub clock: Clock,
    /// At this age since they were given up, dead letters are forgotten, and subscriptions since they ended.
    pub dead_letters: Duration,
}

/// Starts telling on threads of its own. The TLS provider must be installed.
///
/// # Errors
/// When the operating system gives no threads.
pub fn start(parts: Parts) -> std::io::Result<LoopHandle> {
    LoopHandle::start(("subscriptions", THREADS), move |stopping| Teller::new(parts.clone()).run(stopping))
}

/// The loop and its state.
struct Teller {
    parts: Parts,
    effective: Arc<Effective>,
    /// The client, and what it was made of.
    client: Option<((Vec<IpNet>, Duration), DeliveryClient)>,
    lines: HashMap<SubscriptionId, Line>,
    stirred: u64,
    tasks: JoinSet<Try>,
    under_way: HashMap<Id, UnderWay>,
    /// Who was served last, so that the next one follows.
    served_last: Option<SubscriptionId>,
    /// What the store has still to be told, and since when.
    tried: Vec<Tried>,
    tried_since: Instant,
    /// Up to which record arrivals were looked at; `None` before it was asked.
    position: Option<u64>,
    /// Up to which that is written down.
    written: u64,
    /// When it was last written down.
    noted: Instant,
    /// By which list of subscriptions arrivals are looked at.
    revision: Revision,
    /// What this gateway is to the others.
    role: Role,
    /// When to look next what the others have changed.
    look_at: Instant,
    /// When to look next what arrived at the others.
    arrivals_at: Instant,
    /// Whether there is more to look at, at once.
    more: bool,
    /// Whether the disk was full the last time.
    is_full: bool,
    /// After it was: when to put down again.
    put_down_again: Option<Instant>,
    /// After the store failed: when it is asked again.
    again: Option<Instant>,
    forget_at: Instant,
}

impl Teller {
    fn new(mut parts: Parts) -> Self {
        let effective = parts.effective.borrow_and_update().clone();
        let now = parts.clock.now().instant;
        Self {
            parts,
            effective,
            client: None,
            lines: HashMap::new(),
            stirred: 0,
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            served_last: None,
            tried: Vec::new(),
            tried_since: now,
            position: None,
            written: 0,
            noted: now,
            revision: Revision::default(),
            role: Role::Standby,
            look_at: now,
            arrivals_at: now,
            more: false,
            is_full: false,
            put_down_again: None,
            again: None,
            forget_at: now,
        }
    }

    async fn run(mut self, mut stopping: Stopping) {
        // One turn before anything is waited for: what was there before the start is due.
        loop {
            self.turn().await;
            tokio::select! {
                biased;
                grace = grace_of_stop(&mut stopping) => return self.stop(grace).await,
                () = self.wake() => {}
            }
        }
    }

    /// Waits for what is under way, at most so long, and writes down what came of it. The rest is tried again after the
    /// next start.
    async fn stop(mut self, grace: Duration) {
        let finish = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.take_in(ended);
            }
        };
        // What has not ended by then is still pending, and will be told again.
        let _in_time = tokio::time::timeout(grace, finish).await;
        self.write_down();
        let kept = Arc::clone(&self.parts.subscriptions.kept);
        if self.role == Role::Leader
            && let Err(fault) = block_in_place(|| kept.resign())
        {
            tracing::warn!(%fault, "another gateway tells subscribers only when this one's lead has run out");
        }
    }

    /// Learns what the other gateways have done. Answers whether it is time to say which records are needed.
    fn look_around(&mut self, now: Now) -> Result<bool, StoreError> {
        let subscriptions = Arc::clone(&self.parts.subscriptions);
        let is_time = now.instant >= self.look_at;
        if is_time {
            block_in_place(|| subscriptions.look())?;
            self.look_at = now.instant + LOOK;
        }
        let role = block_in_place(|| subscriptions.kept.lead()).inspect_err(|_| self.role = Role::Standby)?;
        if role != self.role {
            if role == Role::Leader {
                tracing::info!("this gateway tells subscribers from now on");
            } else if self.role == Role::Leader {
                tracing::info!("another gateway tells subscribers from now on");
            }
            self.role = role;
            // What was put down meanwhile, and what is due, is asked anew.
            self.position = None;
            self.lines.values_mut().for_each(Line::wake);
        }
        Ok(is_time || role == Role::Alone)
    }

    async fn turn(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.take_in(ended);
        }
        if self.parts.effective.has_changed().unwrap_or(false) {
            self.effective = self.parts.effective.borrow_and_update().clone();
        }
        let now = self.parts.clock.now();
        if self.again.is_some_and(|again| again > now.instant) {
            return self.follow();
        }
        self.again = None;
        let is_time = match self.look_around(now) {
            Ok(is_time) => is_time,
            Err(fault) => return self.pause_for(&fault, "could not say who is subscribed, or who tells"),
        };
        self.follow();
        if self.is_time_to_write(now) && !self.write_down() {
            return;
        }
        self.more = false;
        if !self.lines.is_empty() && self.role != Role::Standby {
            match self.put_down().await {
                Ok(more) => (self.more, self.is_full) = (more, false),
                // What is there is told all the same: that is what makes room.
                Err(fault @ (StoreError::Full { .. } | StoreError::DatabaseFull(_))) => self.note_full(&fault),
                Err(fault) => return self.pause_for(&fault, "could not tell what arrived"),
            }
            if let Err(fault) = self.tell(now) {
                return self.pause_for(&fault, "could not say who is to be told");
            }
        }
        let subscriptions = Arc::clone(&self.parts.subscriptions);
        if is_time && let Err(fault) = block_in_place(|| subscriptions.keep_what_is_needed()) {
            return self.pause_for(&fault, "could not say which records are needed");
        }
        if self.role != Role::Standby {
            self.forget(now);
        }
    }

    fn pause_for(&mut self, fault: &StoreError, what: &'static str) {
        tracing::warn!(fault = fault as &dyn std::error::Error, "the store {what}; subscribers wait");
        self.again = Some(self.parts.clock.now().instant + STORE_PAUSE);
    }

    /// Starts the tries that are due and have room.
    fn tell(&mut self, now: Now) -> Result<(), StoreError> {
        if self.tried.len() >= MAX_UNWRITTEN {
            return Ok(());
        }
        let Some(client) = self.client() else { return Ok(()) };
        let concurrency = self.effective.subscriptions.concurrency.get();
        let limit = self.effective.subscriptions.timeout + TRY_MARGIN;
        let kept = Arc::clone(&self.parts.subscriptions.kept);
        let in_turn = fairness::in_turn(self.lines.keys().copied().collect(), self.served_last, |id| *id);
        for id in in_turn {
            if self.under_way.len() >= MAX_UNDER_WAY {
                break;
            }
            let Some(line) = self.lines.get_mut(&id) else { continue };
            let Some((room, probe)) = line.room(concurrency, now.instant) else { continue };
            let asked = room + line.in_hand();
            let due = block_in_place(|| kept.due(&line.subscription.id, now.wall, asked))?;
            let new: Vec<Notice> =
                due.notices.into_iter().filter(|notice| !line.has_in_hand(notice.number)).take(room).collect();
            if new.len() < room {
                line.sleep_until(due.next, now);
            }
            let Some(callback) = line.callback(&client) else {
                tracing::error!(subscription = %id, "the callback of a subscription cannot be read; it is told nothing");
                continue;
            };
            self.served_last = Some(id);
            for notice in new {
                if probe {
                    line.breaker.probe_begun();
                }
                line.under_way.insert(notice.number);
                let records = Arc::clone(&self.parts.subscriptions.records);
                let telling = Telling {
                    records,
                    callback: Arc::clone(&callback),
                    notice: notice.clone(),
                    effective: Arc::clone(&self.effective),
                    observer: Arc::clone(&self.parts.observer),
                    now: now.wall,
                };
                let trying = telling.try_within(limit);
                let task = self.tasks.spawn(trying);
                self.under_way.insert(task.id(), UnderWay { subscription: id, notice, probe });
            }
        }
        Ok(())
    }

    /// The client that all callbacks share, made anew where the settings have changed.
    fn client(&mut self) -> Option<DeliveryClient> {
        let made_of = (callback::networks(&self.effective), self.effective.subscriptions.timeout);
        if let Some((_, client)) = self.client.as_ref().filter(|(before, _)| *before == made_of) {
            return Some(client.clone());
        }
        match DeliveryClient::new(&made_of.0, made_of.1) {
            Ok(client) => {
                self.lines.values_mut().for_each(Line::hang_up);
                self.client = Some((made_of, client.clone()));
                Some(client)
            }
            Err(fault) => {
                tracing::error!(fault = &fault as &dyn std::error::Error, "subscribers cannot be told");
                self.again = Some(self.parts.clock.now().instant + STORE_PAUSE);
                None
            }
        }
    }

    fn forget(&mut self, now: Now) {
        if self.forget_at > now.instant {
            return;
        }
        let older_than = now.steady.before(self.parts.dead_letters);
        let subscriptions = Arc::clone(&self.parts.subscriptions);
        self.forget_at = now.instant + FORGET;
        match block_in_place(|| subscriptions.forget(older_than, FORGET_AT_ONCE)) {
            Ok(forgotten) if forgotten >= FORGET_AT_ONCE as u64 => self.forget_at = now.instant + TICK,
            Ok(_) => {}
            Err(fault) => self.pause_for(&fault, "could not forget what is old"),
        }
    }

    /// Waits until there may be something to do.
    async fn wake(&mut self) {
        if self.more && self.again.is_none() {
            return tokio::task::yield_now().await;
        }
        let now = self.parts.clock.now().instant;
        let concurrency = self.effective.subscriptions.concurrency.get();
        let write_at = (!self.tried.is_empty()).then(|| self.tried_since + WRITE_AFTER);
        let tells = self.role != Role::Standby;
        let due = self.lines.values().filter(|_| tells).filter_map(|line| line.next(concurrency, now));
        // While the store rests, nothing else is worth waking for.
        let due = due.chain(write_at).chain(self.put_down_again);
        let next = self.again.filter(|again| *again > now).or_else(|| due.min());
        let tick = if self.role == Role::Alone { TICK } else { LOOK };
        let pause = next.map_or(tick, |next| next.saturating_duration_since(now).clamp(REST, tick));
        let nudge = self.parts.subscriptions.nudge.clone();
        let nudged = async {
            tokio::time::sleep(REST).await;
            nudge.nudged().await;
        };
        let ended = tokio::select! {
            ended = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => ended,
            () = nudged => None,
            () = tokio::time::sleep(pause) => None,
        };
        if let Some(ended) = ended {
            self.take_in(ended);
        }
    }
}

#[cfg(test)]
mod tests;
