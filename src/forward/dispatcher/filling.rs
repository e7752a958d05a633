//! The leasing half of a turn: what is due comes into the hand of its destination, in fair shares, as far as there is room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Dispatcher;
use crate::domain::catalog::{Organization, RoutingQueueName};
use crate::domain::ids::OrganizationId;
use crate::forward::breaker::Allowance;
use crate::forward::clock::Now;
use crate::forward::destination::Destination;
use crate::forward::fairness;
use crate::forward::hand::HAND_TIME;
use crate::forward::settling::STORE_PAUSE;
use crate::routing_queue::lanes::in_priority_groups;
use crate::store::{LaneBacklog, LaneId, LeaseRequest, Leases, StoreError};

/// So much longer than the longest try a lease lasts, for a store that is slow to record how the try ended.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(45);
/// So much longer than its own timeout a try may take before it is broken off from outside.
pub(super) const TRY_MARGIN: Duration = Duration::from_secs(5);
/// While so many ended tries are not yet recorded, no more are started.
const MAX_UNSETTLED: usize = 4_096;

/// An organization that may have something due for a destination.
struct Candidate {
    organization: OrganizationId,
    /// Its lanes in the order in which they are emptied.
    groups: Vec<Vec<LaneId>>,
    /// What was pending in each of its lanes, before anybody is asked for it.
    pending: Vec<(LaneId, u64)>,
    /// Messages under way and in hand.
    load: usize,
}

/// Lanes that may have something due, by destination and organization.
type Due<'a> = BTreeMap<RoutingQueueName, BTreeMap<OrganizationId, Vec<&'a LaneBacklog>>>;

/// What one destination may be leased for.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Requests that it takes now.
    pub(super) places: usize,
    /// The most events of each.
    pub(super) max_events: usize,
    /// Whether the next one is the breaker's probe: a single event, for a failure is to cost no more attempts than that.
    pub(super) probe: bool,
}

impl Dispatcher {
    /// Leases what is due and has room, where there is reason to look, and starts what is in hand. Answers how many tries
    /// it started.
    pub(super) async fn fill(&mut self, look: bool) -> usize {
        let now = self.parts.clock.now();
        if self.settling.failing() || self.settling.waiting() >= MAX_UNSETTLED {
            self.look_again |= look;
            return 0;
        }
        let asked_for = std::mem::take(&mut self.look_again);
        let hungry = |(name, destination): (&RoutingQueueName, &Destination)| {
            destination.more && destination.hands.is_empty() && self.room_of(name, destination, now).places > 0
        };
        let look = look || asked_for || self.look_is_due(now.instant) || self.destinations.iter().any(hungry);
        if look && self.lease_again.is_none_or(|again| again <= now.instant) {
            self.lease_again = None;
            self.looked_at = Some(now.instant);
            self.look(now).await;
        }
        self.start_from_hands(now)
    }

    /// Looks through the lanes, and leases what there is room for.
    async fn look(&mut self, now: Now) {
        self.give_back_stale(now);
        let backlog = self.parts.store.lanes();
        for (routing_queue, organizations) in self.due(&backlog, now) {
            if let Err(error) = self.lease_for(&routing_queue, organizations, now).await {
                tracing::warn!(fault = &error as &dyn std::error::Error, "the store could not lease records");
                self.lease_again = Some(now.instant + STORE_PAUSE);
                return;
            }
        }
    }

    /// Sorts the lanes that may have something due by where they lead, as of the current configuration.
    fn due<'a>(&mut self, backlog: &'a [LaneBacklog], now: Now) -> Due<'a> {
        let effective = Arc::clone(&self.effective);
        let (mut due, mut unconfigured) = (Due::new(), 0);
        for lane in backlog {
            if lane.pending == 0 {
                self.memory.emptied(lane.id);
                continue;
            }
            let organization = effective.catalog.organization(&lane.lane.organization);
            let routing_queue = organization.and_then(|organization| routing_queue_of(organization, lane));
            match routing_queue {
                Some(name) if self.destinations.get(name).is_some() => {
                    if !self.memory.is_quiet(lane, now) {
                        let organizations = due.entry(name.clone()).or_default();
                        organizations.entry(lane.lane.organization).or_default().push(lane);
                    }
                }
                Some(name) if *name == RoutingQueueName::pull() => {}
                Some(_) | None => unconfigured += lane.pending,
            }
        }
        self.note_unconfigured(unconfigured);
        due
    }

    /// Says once that records wait for a configuration, and once that they do not any more.
    fn note_unconfigured(&mut self, records: u64) {
        if records == self.unconfigured {
            return;
        }
        if self.unconfigured == 0 {
            tracing::warn!(records, "records wait for a work stream or a routing queue that is not configured");
        } else if records == 0 {
            tracing::info!("no records wait for a work stream or a routing queue any more");
        }
        self.unconfigured = records;
        self.parts.observer.unconfigured(records);
    }

    /// What a destination takes now.
    pub(super) fn room_of(&self, routing_queue: &RoutingQueueName, destination: &Destination, now: Now) -> Room {
        let none = Room { places: 0, max_events: 1, probe: false };
        if destination.client().is_none() {
            return none;
        }
        match destination.breaker.allowance(now.instant) {
            Allowance::All => {
                let under_way = self.under_way.load(routing_queue).map_or(0, |load| load.requests);
                let places = destination.settings.concurrency.get().saturating_sub(under_way);
                Room { places, max_events: destination.settings.batch.max_events.get(), probe: false }
            }
            Allowance::Probe => Room { places: 1, max_events: 1, probe: true },
            Allowance::Nothing(_) => none,
        }
    }

    /// The organizations to lease from, of those that may have something due.
    fn candidates(
        &self,
        routing_queue: &RoutingQueueName,
        organizations: BTreeMap<OrganizationId, Vec<&LaneBacklog>>,
        room: Room,
    ) -> Vec<Candidate> {
        let load = self.under_way.load(routing_queue);
        let hands = self.destinations.get(routing_queue).map(|destination| &destination.hands);
        let candidate = |(id, lanes): (OrganizationId, Vec<&LaneBacklog>)| {
            let organization = self.effective.catalog.organization(&id)?;
            let (requests, records) = load.map_or((0, 0), |load| (load.of(&id), load.records_of(&id)));
            let hand = hands.and_then(|hands| hands.get(&id));
            let in_hand = hand.map_or(0, |hand| hand.records());
            let pending: Vec<(LaneId, u64)> = lanes.iter().map(|lane| (lane.id, lane.pending)).collect();
            // A batch that could not leave before another is back gathers where it is, unless it would be full.
            let untaken = pending.iter().map(|(_, pending)| pending).sum::<u64>().saturating_sub(records as u64);
            if room.max_events > 1 && requests > 0 && untaken < room.max_events as u64 {
                return None;
            }
            let groups = in_priority_groups(organization, lanes.iter().map(|lane| (&lane.lane.queue, lane.id)));
            let in_hand = in_hand.div_ceil(room.max_events);
            Some(Candidate { organization: id, groups, pending, load: requests + in_hand })
        };
        organizations.into_iter().filter_map(candidate).collect()
    }

    /// Leases for one destination: round after round of fair shares, until it has enough or nothing is due for it.
    async fn lease_for(
        &mut self,
        routing_queue: &RoutingQueueName,
        organizations: BTreeMap<OrganizationId, Vec<&LaneBacklog>>,
        now: Now,
    ) -> Result<(), StoreError> {
        let Some(destination) = self.destinations.get(routing_queue) else { return Ok(()) };
        let room = self.room_of(routing_queue, destination, now);
        if room.places == 0 {
            return Ok(());
        }
        let last = destination.served_last;
        let mut candidates = self.candidates(routing_queue, organizations, room);
        let mut wanted = self.wanted(routing_queue, room, now);
        while wanted > 0 && !candidates.is_empty() {
            candidates = fairness::in_turn(candidates, last, |candidate| candidate.organization);
            let loads: Vec<usize> = candidates.iter().map(|candidate| candidate.load).collect();
            let shares = fairness::shares(&loads, wanted);
            let (asked, mut left): (Vec<_>, Vec<_>) =
                candidates.into_iter().zip(shares).partition(|(_, share)| *share > 0);
            let requests = asked
                .iter()
                .map(|(candidate, share)| self.lease(routing_queue, candidate, share * room.max_events, now));
            // Together, so that one write serves all of them.
            let answers = join_all(requests).await;
            let mut failed = None;
            for ((mut candidate, share), leases) in asked.into_iter().zip(answers) {
                let leases = match leases {
                    Ok(leases) => leases,
                    Err(error) => {
                        failed = Some(error);
                        continue;
                    }
                };
                let count = leases.leased.len();
                wanted -= share.min(count.div_ceil(room.max_events));
                candidate.load += share;
                if self.take_in_hand(routing_queue, &candidate, (leases, share * room.max_events), now) {
                    left.push((candidate, 0));
                }
            }
            // What the others got is in hand by now.
            if let Some(error) = failed {
                return Err(error);
            }
            candidates = left.into_iter().map(|(candidate, _)| candidate).collect();
        }
        if let Some(destination) = self.destinations.get_mut(routing_queue) {
            destination.more = !candidates.is_empty();
        }
        Ok(())
    }

    /// How many messages to lease for a destination with room.
    fn wanted(&mut self, routing_queue: &RoutingQueueName, room: Room, now: Now) -> usize {
        let Some(destination) = self.destinations.get_mut(routing_queue) else { return 0 };
        let in_hand = destination.messages_in_hand();
        if room.probe {
            return room.places.saturating_sub(in_hand);
        }
        let ahead = if destination.more && in_hand == 0 {
            destination.pace.next_page(room.places * room.max_events, now.instant)
        } else {
            destination.pace.ahead()
        };
        (room.places + ahead / room.max_events).saturating_sub(in_hand)
    }

    fn lease(
        &self,
        routing_queue: &RoutingQueueName,
        candidate: &Candidate,
        max: usize,
        now: Now,
    ) -> impl Future<Output = Result<Leases, StoreError>> + Send + use<'_> {
        let timeout = self.destinations.get(routing_queue).map(|it| it.settings.timeout).unwrap_or_default();
        let duration = timeout + TRY_MARGIN + HAND_TIME + LEASE_MARGIN;
        self.parts.store.lease(LeaseRequest { groups: candidate.groups.clone(), max, now: now.wall, duration })
    }

    /// Takes what was leased in hand. Answers whether there may be more.
    fn take_in_hand(
        &mut self,
        routing_queue: &RoutingQueueName,
        candidate: &Candidate,
        (leases, asked): (Leases, usize),
        now: Now,
    ) -> bool {
        let all = leases.leased.len() < asked;
        if all {
            for (lane, pending) in &candidate.pending {
                self.memory.fell_quiet(*lane, *pending, leases.next_due, now);
            }
        }
        if let Some(destination) = self.destinations.get_mut(routing_queue).filter(|_| !leases.leased.is_empty()) {
            self.groups.sort(leases.leased, destination.hands.entry(candidate.organization).or_default());
        }
        !all
    }
}

fn routing_queue_of<'a>(organization: &'a Organization, lane: &LaneBacklog) -> Option<&'a RoutingQueueName> {
    let work_stream = organization.work_streams.get(&lane.lane.work_stream)?;
    Some(organization.routing_queue_of(work_stream))
}
