//! What became of a record, made of what the tables of states say of it. Both engines have those tables, and this one rule: a
//! record is in exactly one state. One that is in none, or in two, is damaged.

use super::record_format::{Damage, ReadRecord, summary};
use super::{DeliveryState, Discarded, ReceiptStatus, Waiting};
use crate::domain::time::Timestamp;

/// A record's row in one of the tables of states.
pub(super) struct Standing {
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) text: Option<String>,
}

/// What each of the tables says of a record.
pub(super) struct Standings {
    pub(super) pending: Option<Standing>,
    /// And since when it waits.
    pub(super) waiting: Option<(Standing, Timestamp)>,
    /// And after how many minutes of waiting it was closed, if it was.
    pub(super) delivered: Option<(Standing, Option<u64>)>,
    pub(super) dead_letter: Option<Standing>,
    /// And who put it away, and why.
    pub(super) discarded: Option<(Standing, Discarded)>,
}

impl Standings {
    /// Whether no table has it.
    pub(super) const fn are_none(&self) -> bool {
        self.pending.is_none()
            && self.waiting.is_none()
            && self.delivered.is_none()
            && self.dead_letter.is_none()
            && self.discarded.is_none()
    }

    /// What became of the record.
    pub(super) fn status(self, found: ReadRecord) -> Result<ReceiptStatus, Damage> {
        let damage = |what| Damage { seq: found.seq, what };
        let accepted_at = found.record.accepted_at;
        let mut status = ReceiptStatus {
            summary: summary(found.record),
            state: DeliveryState::Accepted,
            attempts: 0,
            last_error: None,
            next_attempt_at: None,
            settled_at: None,
            waiting: None,
            closed_after_minutes: None,
            discarded: None,
        };
        let Self { pending, waiting, delivered, dead_letter, discarded } = self;
        let standing = match (pending, waiting, delivered, dead_letter, discarded) {
            (Some(standing), None, None, None, None) => {
                if standing.attempts > 0 {
                    status.state = DeliveryState::Delivering;
                }
                // What is due at once is due since it arrived.
                status.next_attempt_at = Some(standing.at.max(accepted_at));
                standing
            }
            (None, Some((standing, since)), None, None, None) => {
                status.state = DeliveryState::Delivering;
                status.waiting = Some(Waiting { since, closes_at: standing.at });
                standing
            }
            (None, None, Some((standing, closed_after_minutes)), None, None) => {
                status.state = DeliveryState::Delivered;
                status.settled_at = Some(standing.at);
                status.closed_after_minutes = closed_after_minutes;
                standing
            }
            (None, None, None, Some(standing), None) => {
                status.state = DeliveryState::DeadLettered;
                status.settled_at = Some(standing.at);
                standing
            }
            (None, None, None, None, Some((standing, discarded))) => {
                status.state = DeliveryState::DeadLettered;
                status.settled_at = Some(standing.at);
                status.discarded = Some(discarded);
                standing
            }
            (None, None, None, None, None) => {
                return Err(damage("it is neither pending nor waiting nor delivered nor a dead letter"));
            }
            (_, _, _, _, _) => return Err(damage("it is in two states at once")),
        };
        status.attempts = standing.attempts;
        status.last_error = standing.text;
        Ok(status)
    }
}
