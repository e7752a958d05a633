//! The leasing half of a turn: what is due goes to its destination, in fair shares, as far as there is room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Dispatcher, TaskEnd, UnderWay};
use crate::domain::catalog::{Organization, RoutingQueueName};
use crate::domain::ids::OrganizationId;
use crate::forward::attempt::{self, Attempt};
use crate::forward::breaker::Allowance;
use crate::forward::clock::Now;
use crate::forward::fairness;
use crate::forward::settling::STORE_PAUSE;
use crate::routing_queue::lanes::in_priority_groups;
use crate::store::{LaneBacklog, LaneId, LeaseRequest, Leased, Leases};

/// So much longer than the longest try a lease lasts, for a store that is slow to record how the try ended.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
/// So much longer than its own timeout a try may take before it is broken off from outside.
const TRY_MARGIN: Duration = Duration::from_secs(5);
/// While so many ended tries are not yet recorded, no more are started.
const MAX_UNSETTLED: usize = 1_024;

/// An organization that may have something due for a destination.
struct Candidate {
    organization: OrganizationId,
    /// Its lanes in the order in which they are emptied.
    groups: Vec<Vec<LaneId>>,
    under_way: usize,
}

/// Lanes that may have something due, by destination and organization.
type Due<'a> = BTreeMap<RoutingQueueName, BTreeMap<OrganizationId, Vec<&'a LaneBacklog>>>;

impl Dispatcher {
    /// Leases and starts what is due and has room. Answers how many tries it started.
    pub(super) async fn fill(&mut self) -> usize {
        let now = self.parts.clock.now();
        if self.lease_again.is_some_and(|again| again > now.instant) {
            return 0;
        }
        self.lease_again = None;
        if self.settling.failing() || self.settling.waiting() >= MAX_UNSETTLED {
            return 0;
        }
        let backlog = self.parts.store.lanes();
        let pending: HashMap<LaneId, u64> = backlog.iter().map(|lane| (lane.id, lane.pending)).collect();
        let mut started = 0;
        for (routing_queue, organizations) in self.due(&backlog, now) {
            let candidates = self.candidates(&routing_queue, organizations);
            started += self.fill_destination(&routing_queue, candidates, &pending, now).await;
        }
        started
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

    fn candidates(
        &self,
        routing_queue: &RoutingQueueName,
        organizations: BTreeMap<OrganizationId, Vec<&LaneBacklog>>,
    ) -> Vec<Candidate> {
        let mut under_way: HashMap<OrganizationId, usize> = HashMap::new();
        for one in self.under_way.values().filter(|one| one.attempt.routing_queue == *routing_queue) {
            *under_way.entry(one.attempt.organization).or_default() += 1;
        }
        let candidate = |(id, lanes): (OrganizationId, Vec<&LaneBacklog>)| {
            let organization = self.effective.catalog.organization(&id)?;
            let groups = in_priority_groups(organization, lanes.iter().map(|lane| (&lane.lane.queue, lane.id)));
            let under_way = under_way.get(&id).copied().unwrap_or(0);
            Some(Candidate { organization: id, groups, under_way })
        };
        organizations.into_iter().filter_map(candidate).collect()
    }

    /// How many tries a destination takes now, and whether it would be the breaker's probe.
    fn room(&self, routing_queue: &RoutingQueueName, now: Now) -> (usize, bool) {
        let Some(destination) = self.destinations.get(routing_queue) else { return (0, false) };
        if destination.client().is_none() {
            return (0, false);
        }
        match destination.breaker.allowance(now.instant) {
            Allowance::All => (destination.settings.concurrency.get().saturating_sub(self.load(routing_queue)), false),
            Allowance::Probe => (1, true),
            Allowance::Nothing(_) => (0, false),
        }
    }

    /// Fills one destination: round after round of fair shares, until it is full or nothing is due for it.
    async fn fill_destination(
        &mut self,
        routing_queue: &RoutingQueueName,
        mut candidates: Vec<Candidate>,
        pending: &HashMap<LaneId, u64>,
        now: Now,
    ) -> usize {
        let mut started = 0;
        loop {
            let (room, probe) = self.room(routing_queue, now);
            if room == 0 || candidates.is_empty() {
                return started;
            }
            let last = self.destinations.get(routing_queue).and_then(|destination| destination.served_last);
            candidates = fairness::in_turn(candidates, last, |candidate| candidate.organization);
            let loads: Vec<usize> = candidates.iter().map(|candidate| candidate.under_way).collect();
            let shares = fairness::shares(&loads, room);
            let mut left = Vec::with_capacity(candidates.len());
            for (mut candidate, share) in candidates.into_iter().zip(shares) {
                if share == 0 {
                    left.push(candidate);
                    continue;
                }
                let Some(leases) = self.lease(routing_queue, &candidate, share, now).await else { return started };
                let count = leases.leased.len();
                if count > 0 {
                    self.served(routing_queue, candidate.organization);
                }
                if count < share {
                    // That was all that is due in these lanes.
                    for lane in candidate.groups.iter().flatten() {
                        let pending = pending.get(lane).copied().unwrap_or(0);
                        self.memory.fell_quiet(*lane, pending, leases.next_due, now);
                    }
                } else {
                    candidate.under_way += count;
                    left.push(candidate);
                }
                leases.leased.into_iter().for_each(|leased| self.start(routing_queue, leased, probe));
                started += count;
            }
            candidates = left;
        }
    }

    /// Leases from one organization; `None` when the store failed, which ends the turn.
    async fn lease(
        &mut self,
        routing_queue: &RoutingQueueName,
        candidate: &Candidate,
        share: usize,
        now: Now,
    ) -> Option<Leases> {
        let timeout = self.destinations.get(routing_queue)?.settings.timeout;
        let request = LeaseRequest {
            groups: candidate.groups.clone(),
            max: share,
            now: now.wall,
            duration: timeout + TRY_MARGIN + LEASE_MARGIN,
        };
        match self.parts.store.lease(request).await {
            Ok(leases) => Some(leases),
            Err(error) => {
                tracing::warn!(fault = &error as &dyn std::error::Error, "the store could not lease records");
                self.lease_again = Some(now.instant + STORE_PAUSE);
                None
            }
        }
    }

    fn served(&mut self, routing_queue: &RoutingQueueName, organization: OrganizationId) {
        if let Some(destination) = self.destinations.get_mut(routing_queue) {
            destination.served_last = Some(organization);
        }
    }

    /// Starts one try.
    fn start(&mut self, routing_queue: &RoutingQueueName, leased: Leased, probe: bool) {
        let Some(destination) = self.destinations.get_mut(routing_queue) else { return };
        let Some(client) = destination.client().cloned() else { return };
        if probe {
            destination.breaker.probe_begun();
            self.parts.observer.breaker(routing_queue.as_str(), destination.breaker.state());
        }
        let attempt = Attempt::of(&leased, routing_queue, destination.incarnation, probe);
        let limit = destination.settings.timeout + TRY_MARGIN;
        let trying = attempt::deliver(client, leased.record, Arc::clone(&self.effective), limit);
        let task = self.tasks.spawn(async move { TaskEnd::Tried(trying.await) });
        self.under_way.insert(task.id(), UnderWay { attempt, task });
    }
}

fn routing_queue_of<'a>(organization: &'a Organization, lane: &LaneBacklog) -> Option<&'a RoutingQueueName> {
    let work_stream = organization.work_streams.get(&lane.lane.work_stream)?;
    Some(organization.routing_queue_of(work_stream))
}
