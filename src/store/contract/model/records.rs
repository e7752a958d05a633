//! What the model knows of each record, and how it compares with the engine's.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{Bench, DUPLICATE_WINDOW, RETENTION, Swept, discarding};
use super::Model;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::{DeliveryState, Details, LaneId, LeaseToken, ListQuery, Outcome, ReceiptStatus, Waiting};

#[derive(Debug)]
pub(super) struct Record {
    pub(super) receipt: ReceiptId,
    pub(super) key: (u32, u32, u32),
    pub(super) details: String,
    pub(super) trimmed: bool,
    pub(super) lane: LaneId,
    pub(super) accepted_at: i64,
    pub(super) state: State,
    /// It was never handed out.
    pub(super) untried: bool,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    Pending { due: i64, token: Option<LeaseToken> },
    Waiting { since: i64, closes: i64 },
    Delivered { at: i64, closed_after: Option<u64> },
    Dead { at: i64, discarded: Option<i64> },
    Deleted,
}

/// State, waiting, settled at, closed after so many minutes.
type Standing = (DeliveryState, Option<Waiting>, Option<Timestamp>, Option<u64>);

fn seconds(duration: std::time::Duration) -> i64 {
    duration.as_secs().cast_signed()
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

impl Record {
    /// A lease ends.
    pub(super) fn settle(&mut self, outcome: Outcome, now: i64) {
        match outcome {
            Outcome::Delivered => self.state = State::Delivered { at: now, closed_after: None },
            Outcome::Retry { due, error } => {
                self.state = State::Pending { due: due.seconds(), token: None };
                self.last_error = Some(error);
            }
            Outcome::Released => {
                self.state = State::Pending { due: 0, token: None };
                self.attempts -= 1;
            }
            Outcome::Waiting { closes_at } => self.state = State::Waiting { since: now, closes: closes_at.seconds() },
            Outcome::DeadLettered { reason } => self.give_up(reason, now),
        }
    }

    fn give_up(&mut self, reason: String, now: i64) {
        self.state = State::Dead { at: now, discarded: None };
        self.last_error = Some(reason);
    }

    /// Whether it waited.
    pub(super) fn revive(&mut self, now: i64) -> bool {
        let waits = matches!(self.state, State::Waiting { closes, .. } if closes > now);
        if waits {
            self.state = State::Pending { due: 0, token: None };
        }
        waits
    }

    /// Whether it was a dead letter.
    pub(super) fn handle(&mut self, discard: bool, now: i64) -> bool {
        let State::Dead { at, discarded: None } = self.state else { return false };
        if discard {
            self.state = State::Dead { at, discarded: Some(now) };
            self.trimmed = true;
        } else {
            self.state = State::Pending { due: 0, token: None };
            self.attempts = 0;
        }
        true
    }

    /// Whether it was delivered in this time: then it is pending again, if it has its details still.
    pub(super) fn redeliver(&mut self, since: i64, until: i64) -> Option<bool> {
        let State::Delivered { at, closed_after: None } = self.state else { return None };
        if at < since || at >= until {
            return None;
        }
        if !self.trimmed {
            self.state = State::Pending { due: 0, token: None };
            self.attempts = 0;
            self.last_error = Some(format!("delivered on {}, and requeued since", moment(at)));
        }
        Some(!self.trimmed)
    }

    /// What time brings about. What was never handed out goes in order: it stays if one before it in its
    /// lane stays, which is in `held_up` then. Such a one can be younger only where a clock went back.
    fn sweep(&mut self, now: i64, newest: bool, (swept, held_up): (&mut Swept, &mut BTreeSet<LaneId>)) {
        if let State::Waiting { since, closes } = self.state
            && closes <= now
        {
            self.state =
                State::Delivered { at: closes, closed_after: Some((closes - since).max(0).cast_unsigned() / 60) };
            swept.closed += 1;
        }
        let too_old = RETENTION.accepted.is_some_and(|age| self.accepted_at + seconds(age) <= now);
        if matches!(self.state, State::Pending { .. }) && self.untried && !too_old {
            held_up.insert(self.lane);
        }
        if let State::Pending { due, token } = self.state
            && too_old
            && !(self.untried && held_up.contains(&self.lane))
            && (token.is_none() || due <= now)
        {
            self.give_up("not delivered within 60 days".to_owned(), now);
            swept.given_up += 1;
        }
        let counts_no_more = self.accepted_at + seconds(DUPLICATE_WINDOW) < now;
        let settled = match self.state {
            State::Delivered { at, .. } => Some((at, RETENTION.delivered)),
            State::Dead { at, .. } => Some((at, RETENTION.dead_letters)),
            State::Pending { .. } | State::Waiting { .. } | State::Deleted => None,
        };
        if settled.is_some_and(|(at, age)| at + seconds(age) <= now) && counts_no_more && !newest {
            self.state = State::Deleted;
            swept.deleted += 1;
        } else if let State::Delivered { at, .. } = self.state
            && at + seconds(RETENTION.delivered_details) <= now
            && !self.trimmed
        {
            self.trimmed = true;
            swept.trimmed += 1;
        }
    }

    /// What its receipt says, but for its summary and when it is due next; `None` when it is gone.
    fn status(&self) -> Option<Standing> {
        match self.state {
            State::Pending { .. } if self.attempts == 0 => Some((DeliveryState::Accepted, None, None, None)),
            State::Pending { .. } => Some((DeliveryState::Delivering, None, None, None)),
            State::Waiting { since, closes } => {
                let waiting = Waiting { since: moment(since), closes_at: moment(closes) };
                Some((DeliveryState::Delivering, Some(waiting), None, None))
            }
            State::Delivered { at, closed_after } => {
                Some((DeliveryState::Delivered, None, Some(moment(at)), closed_after))
            }
            State::Dead { at, .. } => Some((DeliveryState::DeadLettered, None, Some(moment(at)), None)),
            State::Deleted => None,
        }
    }
}

impl Model {
    pub(super) fn sweep(&mut self, in_order: bool) -> Swept {
        let (mut swept, mut held_up) = (Swept::default(), BTreeSet::new());
        let newest = self.records.len().saturating_sub(1);
        for (place, record) in self.records.iter_mut().enumerate() {
            record.sweep(self.now, place == newest, (&mut swept, &mut held_up));
            if !in_order {
                held_up.clear();
            }
        }
        swept
    }

    /// Every record stands where the model says, and is counted and listed so.
    pub(super) async fn compare(&self, bench: &Bench) -> Result<(), TestCaseError> {
        let (mut pending, mut waiting) = (0, 0);
        let (mut dead, mut discarded) = (Vec::new(), Vec::new());
        for record in &self.records {
            let Some(expected) = record.status() else {
                prop_assert_eq!(bench.0.receipt(record.receipt).await.unwrap(), None);
                prop_assert!(bench.0.record(record.receipt).await.unwrap().is_none());
                continue;
            };
            let status = bench.status(record.receipt).await;
            prop_assert_eq!((status.state, status.waiting, status.settled_at, status.closed_after_minutes), expected);
            prop_assert_eq!(status.attempts, record.attempts);
            prop_assert_eq!(&status.last_error, &record.last_error);
            match record.state {
                State::Pending { .. } => pending += 1,
                State::Waiting { .. } => waiting += 1,
                State::Dead { discarded: None, .. } => dead.insert(0, record.receipt),
                State::Dead { discarded: Some(at), .. } => {
                    prop_assert_eq!(status.discarded, Some(discarding(moment(at))));
                    discarded.insert(0, record.receipt);
                }
                State::Delivered { .. } | State::Deleted => {}
            }
            let stored = bench.0.record(record.receipt).await.unwrap().unwrap();
            prop_assert_eq!(matches!(stored.details, Details::Trimmed { .. }), record.trimmed);
            prop_assert!(!stored.details.differ_from(record.details.as_bytes()));
        }
        let stats = bench.0.stats();
        prop_assert_eq!((stats.pending, stats.waiting, stats.dead_lettered), (pending, waiting, dead.len() as u64));
        prop_assert_eq!(stats.high_water_mark, self.records.len() as u64);
        prop_assert_eq!(bench.0.lanes().iter().map(|backlog| backlog.pending).sum::<u64>(), pending);
        for (discarded, expected) in [(false, dead), (true, discarded)] {
            let state = Some(DeliveryState::DeadLettered);
            let query = ListQuery { state, discarded, limit: 1_000, ..ListQuery::default() };
            let listed = bench.list(query).await.records;
            let receipt_of = |status: &ReceiptStatus| status.summary.receipt;
            prop_assert_eq!(listed.iter().map(receipt_of).collect::<Vec<_>>(), expected);
        }
        Ok(())
    }
}
