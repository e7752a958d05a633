//! The starting half of a turn: each free place of a destination gets the next message from what is in hand.
//!
//! The organization with the fewest requests under way goes first; among equals it goes round.

use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::filling::{LEASE_MARGIN, Room, TRY_MARGIN};
use super::{Dispatcher, TaskEnd};
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::OrganizationId;
use crate::forward::attempt::{self, Attempt, Ended};
use crate::forward::breaker::Allowance;
use crate::forward::clock::Now;
use crate::forward::destination::Destination;
use crate::forward::observer::Beginning;
use crate::forward::under_way::Load;
use crate::routing_queue::event::FRAME_BYTES;
use crate::routing_queue::message::{BatchWriter, Written};
use crate::routing_queue::{Content, Delivery};
use crate::store::Leased;

impl Dispatcher {
    /// Starts what is in hand and has a place. Answers how many tries that were.
    pub(super) fn start_from_hands(&mut self, now: Now) -> usize {
        let with_some = self.destinations.iter().filter(|(_, destination)| !destination.hands.is_empty());
        let names: Vec<RoutingQueueName> = with_some.map(|(name, _)| name.clone()).collect();
        names.iter().map(|name| self.start_from_hand(name, now)).sum()
    }

    fn start_from_hand(&mut self, routing_queue: &RoutingQueueName, now: Now) -> usize {
        let mut started = 0;
        loop {
            let Some(destination) = self.destinations.get(routing_queue) else { return started };
            let room = self.room_of(routing_queue, destination, now);
            if room.places == 0 {
                return started;
            }
            let Some(next) = next_organization(destination, self.under_way.load(routing_queue)) else { return started };
            self.start(routing_queue, next, room, now);
            started += 1;
        }
    }

    /// Starts one try.
    fn start(&mut self, routing_queue: &RoutingQueueName, organization: OrganizationId, room: Room, now: Now) {
        let Some(destination) = self.destinations.get_mut(routing_queue) else { return };
        destination.served_last = Some(organization);
        let Some(hand) = destination.hands.get_mut(&organization) else { return };
        let mut taken = hand.take(room.max_events);
        let (incarnation, limit) = (destination.incarnation, destination.settings.timeout + TRY_MARGIN);
        let batch = destination.settings.batch;
        let attempt = |records| Attempt {
            routing_queue: routing_queue.clone(),
            incarnation,
            probe: room.probe,
            organization,
            records,
            followed: None,
        };
        let written = if batch.wanted() {
            let (message, count, damaged) = self.write_batch(taken.records_mut(), batch.max_bytes);
            let rest = taken.split_off(count);
            if let Some(destination) = self.destinations.get_mut(routing_queue) {
                destination.hands.entry(organization).or_default().put_back(rest);
            }
            (message, taken.into_records(), damaged)
        } else {
            self.write_event(taken.into_records())
        };
        let (message, records, damaged) = written;
        for (leased, ended) in damaged {
            self.conclude(attempt(vec![leased]), &ended, now);
        }
        if let Some(destination) = self.destinations.get_mut(routing_queue) {
            destination.hands.retain(|_, hand| !hand.is_empty());
        }
        if let Some(message) = message {
            self.send(message, attempt(records), (limit, now));
        }
    }

    /// Puts a message on its way.
    fn send(&mut self, mut message: Delivery, mut attempt: Attempt, (limit, now): (Duration, Now)) {
        let Some(destination) = self.destinations.get_mut(&attempt.routing_queue) else { return };
        let Some(client) = destination.client().cloned() else { return };
        if attempt.probe {
            destination.breaker.probe_begun();
            self.parts.observer.breaker(attempt.routing_queue.as_str(), destination.breaker.state());
        }
        attempt.followed = self.parts.observer.begins(Beginning {
            routing_queue: attempt.routing_queue.as_str(),
            attempt: attempt.records.first().map_or(1, |leased| leased.attempt),
            now: now.wall,
            records: &mut attempt.records.iter().map(|leased| &leased.record),
        });
        if let Some(followed) = attempt.followed.as_ref().filter(|_| message.content == Content::Event) {
            message.traceparent = Some(followed.traceparent());
        }
        let trying = attempt::hand_over(client, message, limit);
        let task = self.tasks.spawn(async move { TaskEnd::Tried(trying.await) });
        self.under_way.begun(attempt, task);
    }

    /// The message of a single event; none when its record is damaged.
    fn write_event(&mut self, mut records: Vec<Leased>) -> (Option<Delivery>, Vec<Leased>, Vec<(Leased, Ended)>) {
        let (mut event, mut damaged) = (Vec::new(), Vec::new());
        let Some(leased) = records.pop() else { return (None, records, damaged) };
        match self.encoder.write(&leased.record, &self.effective.catalog, &mut event) {
            Ok(()) => {
                let message = Delivery::event(&leased.record, event.into());
                records.push(leased);
                (Some(message), records, damaged)
            }
            Err(fault) => {
                damaged.push((leased, Ended::damaged(fault)));
                (None, records, damaged)
            }
        }
    }

    /// A batch of as many of these as fit, and how many those are: the first ones. Damaged ones are taken out.
    fn write_batch(
        &mut self,
        records: &mut Vec<Leased>,
        max_bytes: usize,
    ) -> (Option<Delivery>, usize, Vec<(Leased, Ended)>) {
        let about = records.iter().map(|leased| leased.record.details.as_bytes().len() + FRAME_BYTES).sum();
        let (mut writer, mut count, mut damaged) = (BatchWriter::new(max_bytes, about), 0, Vec::new());
        while let Some(leased) = records.get(count) {
            match writer.write(&mut self.encoder, &leased.record, &self.effective.catalog) {
                Ok(Written::In) => count += 1,
                Ok(Written::Full) => break,
                Err(fault) => damaged.push((records.remove(count), Ended::damaged(fault))),
            }
        }
        ((count > 0).then(|| writer.finish()), count, damaged)
    }

    /// Gives back what waited in hand for too long, and what is in hand for those who are left alone.
    pub(super) fn give_back_stale(&mut self, now: Now) {
        let mut stale = Vec::new();
        for (_, destination) in self.destinations.iter_mut() {
            let left_alone = matches!(destination.breaker.allowance(now.instant), Allowance::Nothing(_));
            // A try that begins later than this might outlast its lease.
            let latest = now.wall.after(destination.settings.timeout + TRY_MARGIN + LEASE_MARGIN);
            let before = stale.len();
            for hand in destination.hands.values_mut() {
                stale.extend(hand.empty_if(|leased| left_alone || leased.until < latest));
            }
            if stale.len() > before {
                destination.hands.retain(|_, hand| !hand.is_empty());
                destination.pace.failed();
            }
        }
        self.release(stale, now);
    }
}

/// Whose message is next.
fn next_organization(destination: &Destination, load: Option<&Load>) -> Option<OrganizationId> {
    let of = |organization: &OrganizationId| load.map_or(0, |load| load.of(organization));
    let hands = &destination.hands;
    let (behind, before) = match destination.served_last {
        Some(last) => (hands.range((Excluded(last), Unbounded)), Some(hands.range(..=last))),
        None => (hands.range(..), None),
    };
    let mut best: Option<(usize, OrganizationId)> = None;
    for (organization, hand) in behind.chain(before.into_iter().flatten()) {
        let load = of(organization);
        if best.is_none_or(|(least, _)| load < least) && hand.is_ready(&destination.settings.batch, load == 0) {
            best = Some((load, *organization));
        }
        if load == 0 && best.is_some_and(|(least, _)| least == 0) {
            break;
        }
    }
    best.map(|(_, organization)| organization)
}
