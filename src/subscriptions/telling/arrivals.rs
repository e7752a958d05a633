//! What arrived becomes notices for those whom it concerns, written down together with how far was looked.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::block_in_place;

use super::line::Line;
use super::{ARRIVALS, LOOK, NOTE_AFTER, REST, STORE_PAUSE, Teller};
use crate::store::StoreError;
use crate::store::subscriptions::{Fenced, NewNotice, Role, Span};

impl Teller {
    /// Brings the lines in step with who is subscribed.
    pub(super) fn follow(&mut self) {
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
    pub(super) async fn put_down(&mut self) -> Result<bool, StoreError> {
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

    /// The disk is full, which is said once.
    pub(super) fn note_full(&mut self, fault: &StoreError) {
        if !self.is_full {
            tracing::warn!(%fault, "who is to be told of what arrives now cannot be written down; it waits for room");
        }
        self.is_full = true;
        self.put_down_again = Some(self.parts.clock.now().instant + STORE_PAUSE);
    }
}
