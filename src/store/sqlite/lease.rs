//! Lease: which pending records are due, in what order, and who may have them for how long.
//!
//! A pending row has one moment, `due_at`: when it may be handed out next. While it is on lease that is the lease's end,
//! so a lease that runs out needs nobody to clean up. What was never handed out has no such row and is always due
//! ([`untried`](super::untried)). The attempt is counted when the lease is given, durably: a record
//! that takes its holder down with it is still counted.

use rusqlite::params;

use super::batch::Batch;
use super::error::Fault;
use super::row::Damage;
use super::settle::Held;
use crate::domain::time::Timestamp;
use crate::store::lease::DUE_AT_ONCE;
use crate::store::record_format::random;
use crate::store::{LaneId, LeaseRequest, LeaseToken, Leased, Leases};

/// The most bytes of details that one lease hands out, so that its size in memory has a bound.
const MAX_LEASED_BYTES: usize = 16 << 20;

/// The most records that one lease hands out.
pub(super) const MAX_LEASED_RECORDS: usize = 4_096;

/// A pending record that is due.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    seq: i64,
    lane: LaneId,
    due_at: i64,
    /// How often it was tried; `None` for one that never was, and has no row.
    attempts: Option<u32>,
}

/// What is collected while a lease request is served.
struct Collected<'a> {
    request: &'a LeaseRequest,
    leases: Leases,
    bytes: usize,
    /// Whether something due was left behind.
    more: bool,
}

impl Batch<'_> {
    /// Serves a lease request. Records that turn out damaged become dead letters with that reason: reported by name,
    /// and no longer in the way of those behind them.
    pub(super) fn lease(&mut self, request: &LeaseRequest) -> Result<Leases, Fault> {
        let mut collected = Collected { request, leases: Leases::default(), bytes: 0, more: false };
        for group in &request.groups {
            let room = request.max.min(MAX_LEASED_RECORDS).saturating_sub(collected.leases.leased.len());
            if room == 0 {
                collected.more = true;
                break;
            }
            for candidate in self.due(group, request.now, room)? {
                self.lease_one(candidate, &mut collected)?;
            }
        }
        let Collected { mut leases, more, .. } = collected;
        if leases.leased.len() < request.max {
            let earliest = request.groups.iter().flatten().filter_map(|lane| self.quiet_until(*lane)).min();
            // Nothing pending at all is quiet for ever.
            leases.next_due = earliest.filter(|due| *due != i64::MAX).map(Timestamp::from_millis);
            // What came in with this batch is handed out by the next.
            let new = |lane: &LaneId| self.changes.untried.new.iter().any(|(new, _)| new == lane);
            if more || request.groups.iter().flatten().any(new) {
                leases.next_due = Some(request.now);
            }
        }
        Ok(leases)
    }

    /// The due records of these lanes by arrival, at most `room`.
    fn due(&mut self, lanes: &[LaneId], now: Timestamp, room: usize) -> rusqlite::Result<Vec<Candidate>> {
        let mut due: Vec<Candidate> = Vec::new();
        let mut lanes = lanes.to_vec();
        lanes.sort_unstable();
        lanes.dedup();
        for lane in lanes {
            // Once there are enough, only earlier arrivals matter.
            let bound = if due.len() < room { i64::MAX } else { due.last().map_or(i64::MAX, |last| last.seq) };
            if self.quiet_until(lane).is_none_or(|quiet| quiet <= now.millis()) {
                self.due_in_lane(lane, now, (room, bound), &mut due)?;
            }
            let taken = self.changes.untried.taken_from(lane);
            let untried = self.ledger.untried.borrow_mut().next(self.conn, lane, taken, (room, bound))?;
            due.extend(untried.into_iter().map(|seq| Candidate { seq, lane, due_at: DUE_AT_ONCE, attempts: None }));
            due.sort_unstable_by_key(|candidate| candidate.seq);
            for left in due.drain(room.min(due.len())..) {
                if left.attempts.is_some() {
                    self.set_quiet_until(left.lane, None);
                }
            }
        }
        Ok(due)
    }

    /// Adds the due records of one lane that arrived before `bound`, at most `room`. A lane that was looked through to
    /// its end is known to be quiet, once what was found in it is leased.
    fn due_in_lane(
        &mut self,
        lane: LaneId,
        now: Timestamp,
        (room, bound): (usize, i64),
        due: &mut Vec<Candidate>,
    ) -> rusqlite::Result<()> {
        let mut select =
            self.conn.prepare_cached("select seq, due_at, attempts from pending where lane = ?1 order by seq")?;
        let mut rows = select.query([lane.0])?;
        let (mut found, mut earliest) = (0, i64::MAX);
        while let Some(row) = rows.next()? {
            let candidate = Candidate { seq: row.get(0)?, lane, due_at: row.get(1)?, attempts: Some(row.get(2)?) };
            if candidate.seq > bound || found == room {
                self.set_quiet_until(lane, None);
                return Ok(());
            }
            if candidate.due_at <= now.millis() {
                due.push(candidate);
                found += 1;
            } else {
                earliest = earliest.min(candidate.due_at);
            }
        }
        self.set_quiet_until(lane, Some(earliest));
        Ok(())
    }

    fn lease_one(&mut self, candidate: Candidate, collected: &mut Collected<'_>) -> Result<(), Fault> {
        let Candidate { seq, lane, due_at, attempts } = candidate;
        if collected.bytes >= MAX_LEASED_BYTES {
            if attempts.is_some() {
                self.note_due(lane, due_at);
            }
            collected.more = true;
            return Ok(());
        }
        let found = self.record(seq)?;
        let in_its_lane = found.and_then(|found| {
            let damage = |what| Damage { seq, what };
            if found.lane != lane {
                return Err(damage("it is pending in another lane than its own"));
            }
            found.record.whole().ok_or_else(|| damage("its details are gone although it is pending"))
        });
        let record = match in_its_lane {
            Ok(record) => record,
            Err(damage) => {
                collected.more = true;
                return Ok(self.quarantine(candidate, &damage, collected.request.now)?);
            }
        };
        let token = LeaseToken(random::sixteen().map_err(Fault::Random)?);
        let until = collected.request.now.after(collected.request.duration);
        let attempt = attempts.unwrap_or(0).saturating_add(1);
        self.put_on_lease(candidate, (token, until), attempt)?;
        collected.bytes += record.details.as_bytes().len();
        collected.leases.leased.push(Leased { record, lane, token, until, attempt });
        Ok(())
    }

    fn put_on_lease(
        &mut self,
        Candidate { seq, lane, attempts, .. }: Candidate,
        (token, until): (LeaseToken, Timestamp),
        attempt: u32,
    ) -> rusqlite::Result<()> {
        let (token, until) = (token.0, until.millis());
        let last_error = if attempts.is_some() {
            self.conn
                .prepare_cached(
                    "update pending set due_at = ?3, attempts = ?4, lease_token = ?5 where lane = ?1 and seq = ?2 \
                     returning last_error",
                )?
                .query_row(params![lane.0, seq, until, attempt, token], |row| row.get(0))?
        } else {
            self.changes.untried.take(lane, seq);
            self.conn
                .prepare_cached(
                    "insert into pending (lane, seq, due_at, attempts, lease_token) values (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![lane.0, seq, until, attempt, token])?;
            None
        };
        self.note_due(lane, until);
        self.changes.leased.insert(seq, Held { lane, token, until, attempts: attempt, last_error });
        Ok(())
    }

    fn quarantine(&mut self, candidate: Candidate, damage: &Damage, now: Timestamp) -> rusqlite::Result<()> {
        tracing::error!(%damage, "a damaged record cannot be delivered and becomes a dead letter");
        let reason = format!("the store is damaged: {damage}");
        let Candidate { seq, lane, attempts, .. } = candidate;
        match attempts {
            Some(_) => self.remove_pending(lane, seq)?,
            None => self.remove_untried(lane, seq),
        }
        self.insert_dead_letter((lane, seq), now, attempts.unwrap_or(0), &reason)
    }
}
