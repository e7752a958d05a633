//! A store in memory that keeps the promises of the port, for as long as the test runs.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _};

use super::samples;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::{
    Arrival, DeadLetters, DeliveryState, Details, Discarded, Entry, Handled, Lane, LaneBacklog, LaneId, LeaseRequest,
    LeaseToken, Leased, Leases, ListQuery, Outcome, Page, Receipt, ReceiptStatus, RecordSummary, Redelivered,
    Redelivery, Settled, Settlement, Stats, Store, StoreError, StoredRecord, Waiting,
};

#[derive(Default)]
pub(crate) struct FakeStore {
    kept: Mutex<Kept>,
    /// How often something was leased, or tried to.
    pub(crate) lease_calls: AtomicUsize,
    /// Settling fails while this is set.
    pub(crate) settling_fails: AtomicBool,
    /// What happens while it is read what arrived, once.
    pub(crate) while_reading: Mutex<Option<BoxFuture<'static, ()>>>,
    /// From which record on details are wanted.
    pub(crate) kept_from: Mutex<Option<u64>>,
    /// The next look at the lanes panics.
    pub(crate) lanes_panic_once: AtomicBool,
}

#[derive(Default)]
struct Kept {
    rows: Vec<Row>,
    lanes: Vec<Lane>,
    tokens: u128,
}

struct Row {
    record: StoredRecord,
    lane: LaneId,
    state: DeliveryState,
    due: Timestamp,
    lease: Option<(LeaseToken, Timestamp)>,
    attempts: u32,
    last_error: Option<String>,
    waiting: Option<Waiting>,
    discarded: Option<Discarded>,
}

impl Row {
    fn pending(&self) -> bool {
        self.waiting.is_none() && matches!(self.state, DeliveryState::Accepted | DeliveryState::Delivering)
    }

    fn status(&self) -> ReceiptStatus {
        let record = &self.record;
        ReceiptStatus {
            summary: RecordSummary {
                receipt: record.receipt,
                organization: record.organization,
                work_stream: record.work_stream,
                entity_logical_name: record.entity_logical_name.clone(),
                record_id: record.record_id,
                route: record.route.clone(),
                catalog_generation: record.catalog_generation,
                accepted_at: record.accepted_at,
                trace: record.trace.clone(),
            },
            state: self.state,
            attempts: self.attempts,
            last_error: self.last_error.clone(),
            next_attempt_at: self.pending().then_some(self.due),
            settled_at: None,
            waiting: self.waiting,
            closed_after_minutes: None,
            discarded: self.discarded.clone(),
        }
    }

    /// A dead letter that was not discarded.
    fn is_dead(&self) -> bool {
        self.state == DeliveryState::DeadLettered && self.discarded.is_none()
    }

    fn is_among(&self, which: &DeadLetters) -> bool {
        match which {
            DeadLetters::One(id) => self.record.receipt == *id,
            DeadLetters::Matching { filter, .. } => filter.organization.is_none_or(|id| self.record.organization == id),
        }
    }
}

impl FakeStore {
    /// Adds a record, due at once.
    pub(crate) fn add(&self, record: StoredRecord) {
        let mut kept = self.kept.lock().unwrap();
        let wanted = samples::lane_of(&record);
        let index = kept.lanes.iter().position(|lane| *lane == wanted).unwrap_or_else(|| {
            kept.lanes.push(wanted);
            kept.lanes.len() - 1
        });
        let row = Row {
            lane: LaneId(index as i64),
            state: DeliveryState::Accepted,
            due: record.accepted_at,
            lease: None,
            attempts: 0,
            last_error: None,
            waiting: None,
            discarded: None,
            record,
        };
        kept.rows.push(row);
    }

    pub(crate) fn status(&self, id: ReceiptId) -> ReceiptStatus {
        let kept = self.kept.lock().unwrap();
        kept.rows.iter().find(|row| row.record.receipt == id).unwrap().status()
    }

    pub(crate) fn state(&self, number: u16) -> DeliveryState {
        self.status(samples::receipt(number)).state
    }

    pub(crate) fn count(&self, state: DeliveryState) -> usize {
        self.kept.lock().unwrap().rows.iter().filter(|row| row.state == state).count()
    }

    /// Records that somebody holds a lease of, run out or not.
    pub(crate) fn on_lease(&self) -> usize {
        self.kept.lock().unwrap().rows.iter().filter(|row| row.lease.is_some()).count()
    }

    fn take(&self, request: &LeaseRequest) -> Leases {
        self.lease_calls.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap();
        let Kept { rows, tokens, .. } = &mut *kept;
        let mut leases = Leases::default();
        for group in &request.groups {
            for row in rows.iter_mut().filter(|row| row.pending() && group.contains(&row.lane)) {
                let free = row.lease.is_none_or(|(_, until)| until <= request.now);
                if free && row.due > request.now {
                    leases.next_due = Some(leases.next_due.map_or(row.due, |due| due.min(row.due)));
                }
                if free && row.due <= request.now && leases.leased.len() < request.max {
                    *tokens += 1;
                    let (token, until) = (LeaseToken(tokens.to_be_bytes()), request.now.after(request.duration));
                    row.lease = Some((token, until));
                    row.state = DeliveryState::Delivering;
                    row.attempts += 1;
                    let (record, lane, attempt) = (row.record.clone(), row.lane, row.attempts);
                    leases.leased.push(Leased { record, lane, token, until, attempt });
                }
            }
        }
        leases
    }

    fn end(&self, settlement: Settlement) -> Settled {
        let mut kept = self.kept.lock().unwrap();
        let held = |row: &&mut Row| {
            row.record.receipt == settlement.receipt
                && row.pending()
                && row.lease.is_some_and(|(token, until)| token == settlement.token && until > settlement.at)
        };
        let Some(row) = kept.rows.iter_mut().find(held) else { return Settled::LeaseLost };
        row.lease = None;
        match settlement.outcome {
            Outcome::Delivered => row.state = DeliveryState::Delivered,
            Outcome::Retry { due, error } => (row.due, row.last_error) = (due, Some(error)),
            Outcome::Released => row.attempts -= 1,
            Outcome::Waiting { closes_at } => row.waiting = Some(Waiting { since: settlement.at, closes_at }),
            Outcome::DeadLettered { reason } => {
                (row.state, row.last_error) = (DeliveryState::DeadLettered, Some(reason));
            }
        }
        Settled::Done
    }
}

impl Store for FakeStore {
    fn append(&self, _entry: Entry) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        async { Err(StoreError::Unavailable) }.boxed()
    }

    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Leases, StoreError>> {
        async move { Ok(self.take(&request)) }.boxed()
    }

    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<Vec<Settled>, StoreError>> {
        async move {
            if self.settling_fails.load(Ordering::Relaxed) {
                return Err(StoreError::Overloaded { limit: 0 });
            }
            Ok(settlements.into_iter().map(|settlement| self.end(settlement)).collect())
        }
        .boxed()
    }

    fn receipt(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptStatus>, StoreError>> {
        async move {
            let kept = self.kept.lock().unwrap();
            Ok(kept.rows.iter().find(|row| row.record.receipt == id).map(Row::status))
        }
        .boxed()
    }

    fn record(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<StoredRecord<Details>>, StoreError>> {
        let found = self.kept.lock().unwrap().rows.iter().find(|row| row.record.receipt == id).map(|row| {
            let record = row.record.clone();
            StoredRecord {
                receipt: record.receipt,
                organization: record.organization,
                work_stream: record.work_stream,
                entity_logical_name: record.entity_logical_name,
                entity_set_name: record.entity_set_name,
                record_id: record.record_id,
                relationship_name: record.relationship_name,
                details: Details::Kept(record.details),
                route: record.route,
                catalog_generation: record.catalog_generation,
                accepted_at: record.accepted_at,
                trace: record.trace,
            }
        });
        async { Ok(found) }.boxed()
    }

    fn since(&self, number: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Arrival>, StoreError>> {
        let meanwhile = self.while_reading.lock().unwrap().take();
        async move {
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            let kept = self.kept.lock().unwrap();
            let all = (1..).zip(&kept.rows).map(|(number, row)| {
                let (receipt, lane) = (row.record.receipt, samples::lane_of(&row.record));
                Arrival { number, receipt, lane }
            });
            Ok(all.filter(|arrival| arrival.number > number).take(limit).collect())
        }
        .boxed()
    }

    fn keep_from(&self, number: Option<u64>) {
        *self.kept_from.lock().unwrap() = number;
    }

    fn list(&self, _query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        async { Ok(Page::default()) }.boxed()
    }

    fn revive(&self, id: ReceiptId, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let mut kept = self.kept.lock().unwrap();
            let row = kept.rows.iter_mut().find(|row| row.record.receipt == id);
            let Some(row) = row.filter(|row| row.waiting.is_some_and(|waiting| waiting.closes_at > now)) else {
                return Ok(false);
            };
            (row.waiting, row.due) = (None, row.record.accepted_at);
            Ok(true)
        }
        .boxed()
    }

    fn requeue(&self, which: DeadLetters) -> BoxFuture<'_, Result<Handled, StoreError>> {
        async move {
            let mut handled = Handled::default();
            let mut kept = self.kept.lock().unwrap();
            for row in kept.rows.iter_mut().filter(|row| row.is_dead() && row.is_among(&which)) {
                (row.state, row.attempts, row.due) = (DeliveryState::Accepted, 0, row.record.accepted_at);
                handled.count += 1;
            }
            Ok(handled)
        }
        .boxed()
    }

    /// When records were delivered is not known here: all are meant that were delivered in these lanes.
    fn redeliver(&self, which: Redelivery) -> BoxFuture<'_, Result<Redelivered, StoreError>> {
        async move {
            let mut redelivered = Redelivered::default();
            let mut kept = self.kept.lock().unwrap();
            let delivered = |row: &&mut Row| row.state == DeliveryState::Delivered && which.lanes.contains(&row.lane);
            for row in kept.rows.iter_mut().filter(delivered) {
                if !which.dry_run {
                    (row.state, row.attempts, row.due) = (DeliveryState::Accepted, 0, row.record.accepted_at);
                }
                *redelivered.lanes.entry(row.lane).or_default() += 1;
            }
            Ok(redelivered)
        }
        .boxed()
    }

    fn discard(&self, which: DeadLetters, how: Discarded) -> BoxFuture<'_, Result<Handled, StoreError>> {
        async move {
            let mut handled = Handled::default();
            let mut kept = self.kept.lock().unwrap();
            for row in kept.rows.iter_mut().filter(|row| row.is_dead() && row.is_among(&which)) {
                row.discarded = Some(how.clone());
                handled.count += 1;
            }
            Ok(handled)
        }
        .boxed()
    }

    fn lanes(&self) -> Vec<LaneBacklog> {
        assert!(!self.lanes_panic_once.swap(false, Ordering::Relaxed), "a fault of the test");
        let kept = self.kept.lock().unwrap();
        let mut pending: HashMap<LaneId, u64> = HashMap::new();
        for row in kept.rows.iter().filter(|row| row.pending()) {
            *pending.entry(row.lane).or_default() += 1;
        }
        let ids = (0_i64..).map(LaneId);
        kept.lanes
            .iter()
            .zip(ids)
            .map(|(lane, id)| LaneBacklog { id, lane: lane.clone(), pending: pending.get(&id).copied().unwrap_or(0) })
            .collect()
    }

    fn stats(&self) -> Stats {
        Stats { high_water_mark: self.kept.lock().unwrap().rows.len() as u64, ..Stats::default() }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
