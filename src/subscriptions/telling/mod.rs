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

mod line;
mod trying;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet, block_in_place};

use self::line::{Line, UnderWay};
use self::trying::{Telling, Try};
use super::{Subscriptions, callback};
use crate::config::Effective;
use crate::domain::ids::SubscriptionId;
use crate::forward::attempt::{self, Ended, Failure};
use crate::forward::clock::{Clock, Now};
use crate::forward::fairness;
use crate::forward::observer::Observer;
use crate::forward::threads::{LoopHandle, Stopping, grace_of_stop};
use crate::routing_queue::DeliveryError;
use crate::routing_queue::http::DeliveryClient;
use crate::store::subscriptions::{Fenced, NewNotice, Notice, Revision, Role, Span, Tried, TriedEnd};
use crate::store::{Outcome, StoreError};

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

    /// The disk is full, which is said once.
    fn note_full(&mut self, fault: &StoreError) {
        if !self.is_full {
            tracing::warn!(%fault, "who is to be told of what arrives now cannot be written down; it waits for room");
        }
        self.is_full = true;
        self.put_down_again = Some(self.parts.clock.now().instant + STORE_PAUSE);
    }

    fn pause_for(&mut self, fault: &StoreError, what: &'static str) {
        tracing::warn!(fault = fault as &dyn std::error::Error, "the store {what}; subscribers wait");
        self.again = Some(self.parts.clock.now().instant + STORE_PAUSE);
    }

    /// Brings the lines in step with who is subscribed.
    fn follow(&mut self) {
        let stirred = self.parts.subscriptions.stirred.load(Ordering::Acquire);
        if stirred == self.stirred && self.position.is_some() {
            return;
        }
        self.stirred = stirred;
        let revision = self.parts.subscriptions.revision();
        if revision != self.revision {
            self.revision = revision;
            // What was looked at by the earlier list and concerned nobody may concern somebody by this one.
            self.position = self.position.map(|position| position.min(self.written));
        }
        let known = self.parts.subscriptions.known();
        self.lines.retain(|id, _| known.get(id).is_some_and(|one| one.ended.is_none()));
        for subscription in known.values().filter(|one| one.ended.is_none()) {
            match self.lines.get_mut(&subscription.id) {
                Some(line) => line.wake(),
                None => drop(self.lines.insert(subscription.id, Line::new(Arc::clone(subscription)))),
            }
        }
    }

    /// Puts down whom some of what arrived concerns. Answers whether there is more.
    async fn put_down(&mut self) -> Result<bool, StoreError> {
        let kept = Arc::clone(&self.parts.subscriptions.kept);
        let records = Arc::clone(&self.parts.subscriptions.records);
        let now = self.parts.clock.now();
        if self.put_down_again.is_some_and(|again| again > now.instant) {
            return Ok(false);
        }
        self.put_down_again = None;
        let position = match self.position {
            // Asked anew where nobody was subscribed before: then it has jumped.
            Some(position) if self.lines.values().all(|line| line.subscription.after <= position) => position,
            Some(_) | None => {
                self.written = block_in_place(|| kept.position())?;
                self.written
            }
        };
        self.position = Some(position);
        // What arrived at other gateways is known here only when it is asked.
        let ask = self.role == Role::Leader && now.instant >= self.arrivals_at;
        if records.stats().high_water_mark <= position && !ask {
            return Ok(false);
        }
        self.arrivals_at = now.instant + LOOK;
        let arrivals = records.since(position, ARRIVALS).await?;
        let Some(through) = arrivals.last().map(|arrival| arrival.number) else { return Ok(false) };
        // Now, and not before they were read: whoever was told that it is subscribed before one of these was sent is known
        // by now.
        self.follow();
        if self.position != Some(position) {
            return Ok(true);
        }
        let mut notices = Vec::new();
        for arrival in &arrivals {
            for line in self.lines.values_mut().filter(|line| line.is_for(arrival)) {
                line.wake();
                let (subscription, number, receipt) = (line.subscription.id, arrival.number, arrival.receipt);
                notices.push(NewNotice { subscription, number, receipt, at: now.wall });
            }
        }
        if !notices.is_empty() || now.instant.saturating_duration_since(self.noted) >= NOTE_AFTER {
            let span = Span { from: self.written, through, revision: self.revision };
            if block_in_place(|| kept.put_down(&span, &notices))? == Fenced::Out {
                // Somebody subscribed, or another gateway leads: both are asked at the next turn.
                (self.position, self.look_at) = (None, now.instant);
                self.put_down_again = Some(now.instant + REST);
                return Ok(false);
            }
            self.written = through;
            self.noted = now.instant;
        }
        self.parts.subscriptions.seen.store(through, Ordering::Relaxed);
        self.position = Some(through);
        Ok(arrivals.len() >= ARRIVALS)
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

    /// Takes in how a try ended.
    fn take_in(&mut self, ended: Result<(Id, Try), JoinError>) {
        let (id, made) = match ended {
            Ok((id, made)) => (id, made),
            Err(fault) => (fault.id(), Try::Made(Ended::panicked())),
        };
        let Some(UnderWay { subscription, notice, probe }) = self.under_way.remove(&id) else { return };
        let now = self.parts.clock.now();
        let end = match made {
            Try::Nothing(reason) => TriedEnd::GivenUp { at: now.wall, reason: reason.to_owned() },
            Try::Unread(StoreError::Damaged(reason)) => TriedEnd::GivenUp { at: now.wall, reason },
            Try::Unread(fault @ StoreError::Lost { .. }) => {
                TriedEnd::GivenUp { at: now.wall, reason: fault.to_string() }
            }
            Try::Unread(fault) => TriedEnd::Later {
                due: now.wall.after(STORE_PAUSE),
                error: format!("the record could not be read: {fault}"),
            },
            Try::Made(ended) => {
                if let Some(line) = self.lines.get_mut(&subscription) {
                    ended.teach(&mut line.breaker, probe, &self.effective.delivery, now.instant);
                }
                if let Err(Failure::Delivery(DeliveryError::Gone { reason })) = &ended.result {
                    self.end(subscription, reason);
                }
                self.concluded(&notice, &ended, now)
            }
        };
        self.report(subscription, &notice, &end);
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.tried(notice.number);
        }
        if self.tried.is_empty() {
            self.tried_since = now.instant;
        }
        self.tried.push(Tried { subscription, number: notice.number, end });
    }

    /// Says what a try came to, unless it is what it ought to be.
    fn report(&self, subscription: SubscriptionId, notice: &Notice, end: &TriedEnd) {
        let (receipt, attempt) = (notice.receipt, notice.attempts.saturating_add(1));
        match end {
            TriedEnd::Told { .. } if attempt == 1 => {}
            TriedEnd::Told { at } => {
                let age_seconds = at.since(notice.at).as_secs();
                tracing::info!(%subscription, %receipt, attempt, age_seconds, "a subscriber was told late");
            }
            TriedEnd::Later { due, error } => {
                tracing::warn!(%subscription, %receipt, attempt, reason = error, %due, "a subscriber could not be told");
            }
            TriedEnd::GivenUp { reason, .. } => {
                tracing::warn!(%subscription, %receipt, attempt, reason, "telling a subscriber was given up");
                self.parts.observer.dead_lettered(COUNTED_AS);
            }
        }
    }

    /// What becomes of a notice after a try.
    fn concluded(&self, notice: &Notice, ended: &Ended, now: Now) -> TriedEnd {
        self.parts.observer.tried(COUNTED_AS, ended.counted(), ended.seconds);
        let number = notice.attempts.saturating_add(1);
        match attempt::outcome((number, notice.at), &ended.result, &self.effective.delivery, now) {
            Outcome::Delivered => {
                self.parts.observer.delivered(COUNTED_AS, &mut std::iter::once(now.wall.since(notice.at)));
                TriedEnd::Told { at: now.wall }
            }
            Outcome::Retry { due, error } => TriedEnd::Later { due, error },
            Outcome::DeadLettered { reason } => TriedEnd::GivenUp { at: now.wall, reason },
            // What only a consumer can want.
            Outcome::Released | Outcome::Waiting { .. } => {
                TriedEnd::Later { due: now.wall, error: "it was not tried".to_owned() }
            }
        }
    }

    /// The subscriber is gone for good.
    fn end(&self, id: SubscriptionId, reason: &str) {
        let subscriptions = Arc::clone(&self.parts.subscriptions);
        if let Err(fault) = block_in_place(|| subscriptions.end_because(id, reason.to_owned())) {
            tracing::warn!(subscription = %id, %fault, "a subscription could not be ended; it will be told again");
        }
    }

    /// Whether what came of the tries is to be written down now: there is enough of it, or nothing more will come soon.
    fn is_time_to_write(&self, now: Now) -> bool {
        let waited = now.instant.saturating_duration_since(self.tried_since);
        self.tried.len() >= WRITE_AT || waited >= WRITE_AFTER || self.tasks.is_empty()
    }

    /// Tells the store what came of the tries. Answers whether it has taken everything.
    fn write_down(&mut self) -> bool {
        if self.tried.is_empty() {
            return true;
        }
        let kept = Arc::clone(&self.parts.subscriptions.kept);
        match block_in_place(|| kept.conclude(&self.tried)) {
            Ok(()) => {
                let now = self.parts.clock.now();
                for Tried { subscription, number, end } in self.tried.drain(..) {
                    let Some(line) = self.lines.get_mut(&subscription) else { continue };
                    line.written(number);
                    match end {
                        TriedEnd::Later { due, .. } => line.due(due, now),
                        TriedEnd::Told { .. } | TriedEnd::GivenUp { .. } => {}
                    }
                }
                true
            }
            Err(fault) => {
                self.pause_for(&fault, "could not write down who was told");
                false
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
