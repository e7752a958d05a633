//! Random operations, done by the engine and by the simplest thing that could be right: a list of records.

mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::records::{Record, State};
use super::{Bench, DAY, DUPLICATE_WINDOW, Engine, discarding};
use crate::domain::fixtures::{admitted_with, organization_id};
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::{
    DeadLetters, Entry, Handled, LaneId, LeaseRequest, LeaseToken, Outcome, RecordFilter, Redelivery, Repeat, Settled,
    Settlement, StoreError, TraceContext,
};

#[derive(Debug, Clone)]
enum Step {
    Append {
        organization: u32,
        work_stream: u32,
        record: u32,
        version: u8,
    },
    Lease {
        groups: Vec<Vec<usize>>,
        max: usize,
        seconds: u64,
    },
    /// Settles the lease given out so many leases ago.
    Settle {
        ago: usize,
        how: u8,
        seconds: i64,
    },
    Revive {
        record: usize,
    },
    /// Requeues or discards, so many at a time.
    HandleAll {
        organization: Option<u32>,
        discard: bool,
        limit: usize,
    },
    HandleOne {
        record: usize,
        discard: bool,
    },
    /// Puts back what was delivered so many seconds ago, in this lane or in all, so many at a time.
    Redeliver {
        ago: (i64, i64),
        lane: Option<usize>,
        limit: usize,
    },
    Pass {
        seconds: i64,
    },
    Sweep,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let days = |days: u64| (days * DAY).cast_signed();
    prop_oneof![
        8 => (1..=2_u32, 1..=2_u32, 1..=4_u32, 0..2_u8).prop_map(|(organization, work_stream, record, version)|
            Step::Append { organization, work_stream, record, version }),
        6 => (prop::collection::vec(prop::collection::vec(0..4_usize, 0..4), 1..3), 0..5_usize, 1..100_u64)
            .prop_map(|(groups, max, seconds)| Step::Lease { groups, max, seconds }),
        9 => (0..6_usize, 0..6_u8, 0..100_i64).prop_map(|(ago, how, seconds)| Step::Settle { ago, how, seconds }),
        2 => (0..12_usize).prop_map(|record| Step::Revive { record }),
        1 => (prop::option::of(1..=3_u32), any::<bool>(), 1..4_usize)
            .prop_map(|(organization, discard, limit)| Step::HandleAll { organization, discard, limit }),
        1 => (0..12_usize, any::<bool>()).prop_map(|(record, discard)| Step::HandleOne { record, discard }),
        2 => ((0..200_i64, -50..100_i64), prop::option::of(0..4_usize), 1..4_usize)
            .prop_map(|(ago, lane, limit)| Step::Redeliver { ago, lane, limit }),
        4 => prop_oneof![6 => -20..90_i64, 1 => Just(days(6)), 1 => Just(days(30)), 2 => Just(days(36))]
            .prop_map(|seconds| Step::Pass { seconds }),
        4 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
    ]
}

/// Records in order of arrival.
struct Model {
    now: i64,
    records: Vec<Record>,
    lanes: BTreeMap<(u32, u32), LaneId>,
    given_out: Vec<(ReceiptId, LeaseToken)>,
}

/// Runs random operations against engines made by `make` and against the model.
pub(crate) fn agrees<E: Engine>(make: impl Fn() -> E) {
    let config = Config { cases: E::CASES, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..150), |steps| {
            runtime.block_on(async {
                let engine = make();
                let mut bench = Bench::open(&engine).await;
                let mut model =
                    Model { now: 1_800_000_000, records: Vec::new(), lanes: BTreeMap::new(), given_out: Vec::new() };
                for step in &steps {
                    if matches!(step, Step::Reopen) {
                        bench = bench.reopen(&engine).await;
                    } else if matches!(step, Step::Sweep) {
                        prop_assert_eq!(engine.sweep(model.moment()).await, model.sweep(E::GIVES_UP_IN_ORDER));
                    } else {
                        model.take(step, &bench).await?;
                    }
                    let oldest = bench.0.oldest_pending().await.unwrap();
                    prop_assert_eq!(
                        oldest.into_iter().map(|one| (one.lane, one.accepted_at)).collect::<BTreeMap<_, _>>(),
                        model.oldest()
                    );
                }
                let verdict = model.compare(&bench).await;
                bench.0.close().await;
                verdict
            })
        })
        .unwrap();
}

impl Model {
    fn moment(&self) -> Timestamp {
        Timestamp::from_millis(self.now * 1000)
    }

    /// The first pending record of each lane.
    fn oldest(&self) -> BTreeMap<LaneId, Timestamp> {
        let pending = self.records.iter().filter(|record| matches!(record.state, State::Pending { .. }));
        let mut oldest = BTreeMap::new();
        for record in pending {
            oldest.entry(record.lane).or_insert_with(|| Timestamp::from_millis(record.accepted_at * 1000));
        }
        oldest
    }

    async fn take(&mut self, step: &Step, bench: &Bench) -> Result<(), TestCaseError> {
        match step {
            Step::Append { organization, work_stream, record, version } => {
                self.append((*organization, *work_stream, *record), *version, bench).await?;
            }
            Step::Lease { groups, max, seconds } => self.lease(groups, *max, *seconds, bench).await?,
            Step::Settle { ago, how, seconds } => self.settle(*ago, *how, *seconds, bench).await?,
            Step::Revive { record } => {
                let (now, moment) = (self.now, self.moment());
                let Some(record) = self.records.get_mut(*record) else { return Ok(()) };
                prop_assert_eq!(bench.0.revive(record.receipt, moment).await.unwrap(), record.revive(now));
            }
            Step::HandleAll { organization, discard, limit } => {
                let filter =
                    RecordFilter { organization: organization.map(organization_id), ..RecordFilter::default() };
                let (mut count, mut after) = (0, None);
                loop {
                    let which = DeadLetters::Matching { filter: filter.clone(), after, limit: *limit };
                    let handled = self.handle_in(bench, which, *discard).await.unwrap();
                    prop_assert!(handled.count <= *limit as u64);
                    count += handled.count;
                    after = handled.next;
                    if after.is_none() {
                        break;
                    }
                }
                let expected = self
                    .handle(*discard, |record| organization.is_none_or(|organization| record.key.0 == organization));
                prop_assert_eq!(count, expected);
            }
            Step::HandleOne { record, discard } => {
                let Some(receipt) = self.records.get(*record).map(|record| record.receipt) else { return Ok(()) };
                let handled = self.handle_in(bench, DeadLetters::One(receipt), *discard).await.unwrap();
                let expected = self.handle(*discard, |record| record.receipt == receipt);
                prop_assert_eq!(handled, Handled { count: expected, next: None });
            }
            Step::Redeliver { ago: (since, until), lane, limit } => {
                let lanes: Vec<LaneId> = self.lanes.values().copied().collect();
                let lanes = lane.map_or(lanes.clone(), |at| lanes.get(at).copied().into_iter().collect());
                self.redeliver((self.now - since, self.now - until), &lanes, *limit, bench).await?;
            }
            Step::Pass { seconds } => self.now += seconds,
            Step::Sweep | Step::Reopen => {}
        }
        Ok(())
    }

    async fn redeliver(
        &mut self,
        (since, until): (i64, i64),
        lanes: &[LaneId],
        limit: usize,
        bench: &Bench,
    ) -> Result<(), TestCaseError> {
        let [from, to] = [since, until].map(|seconds| Timestamp::from_millis(seconds * 1000));
        let page = |after, dry_run| Redelivery { lanes: lanes.to_vec(), since: from, until: to, after, limit, dry_run };
        let (mut counted, mut named, mut after) = (BTreeMap::<LaneId, u64>::new(), Vec::new(), None);
        loop {
            let said = bench.redeliver(page(after, true)).await;
            let done = bench.redeliver(page(after, false)).await;
            prop_assert_eq!(&said, &done);
            prop_assert!(done.count() <= limit as u64);
            prop_assert_eq!(done.without_details, done.named.len() as u64);
            named.extend(done.named);
            for (lane, count) in done.lanes {
                *counted.entry(lane).or_default() += count;
            }
            after = done.next;
            if after.is_none() {
                break;
            }
        }
        let (mut expected, mut gone) = (BTreeMap::<LaneId, u64>::new(), Vec::new());
        for record in self.records.iter_mut().filter(|record| lanes.contains(&record.lane)) {
            match record.redeliver(since, until) {
                Some(true) => *expected.entry(record.lane).or_default() += 1,
                Some(false) => gone.push(record.receipt),
                None => {}
            }
        }
        prop_assert_eq!((counted, named), (expected, gone));
        Ok(())
    }

    async fn append(&mut self, key: (u32, u32, u32), version: u8, bench: &Bench) -> Result<(), TestCaseError> {
        let details = format!("{{\"version\":{version}}}");
        let admitted = admitted_with(key.0, key.1, key.2, &details);
        let entry = Entry { admitted, accepted_at: self.moment(), trace: TraceContext::default() };
        let receipt = bench.0.append(entry).await.unwrap();
        let window = DUPLICATE_WINDOW.as_secs().cast_signed();
        let first = self.records.iter().rev().find(|record| record.key == key && record.state != State::Deleted);
        match first.filter(|first| self.now - first.accepted_at < window) {
            Some(first) => {
                prop_assert_eq!(receipt.id(), first.receipt);
                prop_assert_eq!(receipt.repeat(), Some(Repeat { details_differ: first.details != details }));
            }
            None => {
                prop_assert_eq!(receipt.repeat(), None);
                let lane = *self.lanes.entry((key.0, key.1)).or_insert_with(|| receipt.lane());
                prop_assert_eq!(lane, receipt.lane());
                self.records.push(Record {
                    receipt: receipt.id(),
                    key,
                    details,
                    trimmed: false,
                    lane,
                    accepted_at: self.now,
                    state: State::Pending { due: 0, token: None },
                    untried: true,
                    attempts: 0,
                    last_error: None,
                });
            }
        }
        Ok(())
    }

    async fn lease(
        &mut self,
        groups: &[Vec<usize>],
        max: usize,
        seconds: u64,
        bench: &Bench,
    ) -> Result<(), TestCaseError> {
        let lanes: Vec<LaneId> = self.lanes.values().copied().collect();
        let groups: Vec<Vec<LaneId>> =
            groups.iter().map(|group| group.iter().filter_map(|at| lanes.get(*at).copied()).collect()).collect();
        let (now, duration) = (self.moment(), Duration::from_secs(seconds));
        let leases = bench.0.lease(LeaseRequest { groups: groups.clone(), max, now, duration }).await.unwrap();
        let mut got = leases.leased.iter();
        let mut count = 0;
        for group in &groups {
            for record in self.records.iter_mut().filter(|record| group.contains(&record.lane)) {
                let State::Pending { due, token } = &mut record.state else { continue };
                if *due > self.now || count == max {
                    continue;
                }
                count += 1;
                let Some(leased) = got.next() else {
                    return Err(TestCaseError::fail(format!("{:?} was not leased", record.key)));
                };
                prop_assert_eq!(leased.record.receipt, record.receipt);
                prop_assert_eq!(leased.record.details.as_text(), Some(record.details.as_str()));
                record.untried = false;
                record.attempts += 1;
                prop_assert_eq!((leased.attempt, leased.lane), (record.attempts, record.lane));
                prop_assert_eq!(leased.until, now.after(duration));
                *due = self.now + seconds.cast_signed();
                *token = Some(leased.token);
                self.given_out.push((record.receipt, leased.token));
            }
        }
        prop_assert!(got.next().is_none(), "more was leased than is due");
        let asked: BTreeSet<LaneId> = groups.into_iter().flatten().collect();
        let waiting = self.records.iter().filter(|record| asked.contains(&record.lane));
        let earliest = waiting
            .filter_map(|record| if let State::Pending { due, .. } = record.state { Some(due) } else { None })
            .min();
        let next_due = leases.next_due.map(Timestamp::seconds);
        match earliest {
            _ if count == max => prop_assert_eq!(next_due, None),
            // In the future, or the holder would ask again and again; and in time.
            Some(earliest) => {
                let next_due = next_due.ok_or_else(|| TestCaseError::fail("it does not say when to ask again"))?;
                prop_assert!(self.now < next_due && next_due <= earliest, "{} {next_due} {earliest}", self.now);
            }
            None => prop_assert!(next_due.is_none_or(|due| due > self.now)),
        }
        Ok(())
    }

    async fn settle(&mut self, ago: usize, how: u8, seconds: i64, bench: &Bench) -> Result<(), TestCaseError> {
        let Some((receipt, token)) = self.given_out.iter().rev().nth(ago).copied() else { return Ok(()) };
        let moment = Timestamp::from_millis((self.now + seconds) * 1000);
        let outcome = match how {
            0 | 1 => Outcome::Delivered,
            2 => Outcome::Retry { due: moment, error: format!("in {seconds}") },
            3 => Outcome::Released,
            4 => Outcome::Waiting { closes_at: moment },
            _ => Outcome::DeadLettered { reason: "enough".to_owned() },
        };
        let settlement = Settlement { receipt, token, at: self.moment(), outcome: outcome.clone() };
        let settled = bench.0.settle(vec![settlement]).await.unwrap();
        let now = self.now;
        let record = self.records.iter_mut().find(|record| record.receipt == receipt).unwrap();
        let holds = matches!(&record.state, State::Pending { due, token: Some(held) } if *due > now && *held == token);
        prop_assert_eq!(settled, vec![if holds { Settled::Done } else { Settled::LeaseLost }]);
        if holds {
            record.settle(outcome, now);
        }
        Ok(())
    }

    async fn handle_in(&self, bench: &Bench, which: DeadLetters, discard: bool) -> Result<Handled, StoreError> {
        if discard { bench.0.discard(which, discarding(self.moment())).await } else { bench.0.requeue(which).await }
    }

    fn handle(&mut self, discard: bool, of_interest: impl Fn(&Record) -> bool) -> u64 {
        let now = self.now;
        let found = self.records.iter_mut().filter(|record| of_interest(record));
        found.map(|record| u64::from(record.handle(discard, now))).sum()
    }
}
