//! Lease: which pending records are due, in what order, and who may have them for how long.
//!
//! A pending row has one moment, `due_at`: when it may be handed out next. While it is on lease that is the lease's end,
//! so a lease that runs out needs nobody to clean up. The attempt is counted when the lease is given, durably: a record
//! that takes its holder down with it is still counted.

use rusqlite::params;

use super::batch::Batch;
use super::error::Fault;
use super::row::{self, Damage};
use crate::domain::time::Timestamp;
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
    attempts: u32,
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
            if more {
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
            if self.quiet_until(lane).is_some_and(|quiet| quiet > now.millis()) {
                continue;
            }
            // Once there are enough, only earlier arrivals matter.
            let bound = if due.len() < room { i64::MAX } else { due.last().map_or(i64::MAX, |last| last.seq) };
            self.due_in_lane(lane, now, (room, bound), &mut due)?;
            due.sort_unstable_by_key(|candidate| candidate.seq);
            for left in due.drain(room.min(due.len())..) {
                self.set_quiet_until(left.lane, None);
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
            let candidate = Candidate { seq: row.get(0)?, lane, due_at: row.get(1)?, attempts: row.get(2)? };
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
            self.note_due(lane, due_at);
            collected.more = true;
            return Ok(());
        }
        let found = row::read(self.conn, &self.ledger.mask, seq)?;
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
        let token = LeaseToken(row::random_bytes().map_err(Fault::Random)?);
        let until = collected.request.now.after(collected.request.duration);
        let attempt = attempts.saturating_add(1);
        self.conn
            .prepare_cached(
                "update pending set due_at = ?3, attempts = ?4, lease_token = ?5 where lane = ?1 and seq = ?2",
            )?
            .execute(params![lane.0, seq, until.millis(), attempt, token.0])?;
        self.note_due(lane, until.millis());
        collected.bytes += record.details.as_bytes().len();
        collected.leases.leased.push(Leased { record, lane, token, until, attempt });
        Ok(())
    }

    fn quarantine(&mut self, candidate: Candidate, damage: &Damage, now: Timestamp) -> rusqlite::Result<()> {
        tracing::error!(%damage, "a damaged record cannot be delivered and becomes a dead letter");
        let reason = format!("the store is damaged: {damage}");
        self.remove_pending(candidate.lane, candidate.seq)?;
        self.insert_dead_letter((candidate.lane, candidate.seq), now, candidate.attempts, &reason)
    }
}
