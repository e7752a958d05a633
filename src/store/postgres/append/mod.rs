//! Append: the task through which every record of this gateway comes into the database, in batches.
//!
//! Whatever has gathered while the last commit was under way goes into the next transaction. It holds the counter's row
//! from its first statement on, so that over all gateways numbers have no gaps, become visible in their order, and a key
//! is looked up and put down without anyone in between. What does not depend on an answer is sent without waiting for
//! one: a batch takes two turns to the database and back while it holds the row.

mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Client, Object};
use tokio::join;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::ToSql;

use self::write::{Rows, Written};
use super::Shared;
use super::board::{Changes, Place};
use super::error::Fault;
use super::guid::PgGuid;
use super::record::{COLUMNS, FROM, read};
use crate::domain::time::Timestamp;
use crate::store::observer::{Commit, CommitFailure};
use crate::store::record_format::{Damage, DuplicateKey, NewRecord, ReadRecord};
use crate::store::{Lane, LaneId, Repeat, StoreError};

/// Records that one transaction takes at most.
const MAX_BATCH: usize = 4_096;
/// A fresh record is due from the beginning of time, so that a clock that was set back cannot hold it up.
pub(super) const DUE_AT_ONCE: i64 = 0;

/// A record on its way, and whoever waits for its receipt.
pub(super) struct Append {
    pub(super) record: NewRecord,
    pub(super) reply: oneshot::Sender<Result<Appended, StoreError>>,
    pub(super) place: Place,
}

/// What an append came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appended {
    pub(super) seq: i64,
    pub(super) random: [u8; 16],
    pub(super) lane: LaneId,
    pub(super) repeat: Option<Repeat>,
    /// New records in the commit that it went with.
    pub(super) commit_records: u32,
}

/// A record that has the key already.
#[derive(Debug, Clone, Copy)]
struct Seen {
    seq: i64,
    accepted_at_seconds: i64,
}

impl Seen {
    /// Whether a record accepted at `now` still is a repeat of this one. A clock that went back makes none older.
    fn counts(self, now: Timestamp, window: Duration) -> bool {
        let age_seconds = now.seconds().saturating_sub(self.accepted_at_seconds);
        u64::try_from(age_seconds).unwrap_or(0) < window.as_secs()
    }
}

type Key = (PgGuid, DuplicateKey);

fn key_of(record: &NewRecord) -> Key {
    (record.lane.organization.guid().into(), record.key)
}

/// Appends until nobody can ask for more.
pub(super) async fn run(mut appends: mpsc::Receiver<Append>, shared: Arc<Shared>) {
    let mut batch = Vec::new();
    while appends.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let began = Instant::now();
        let outcome = commit(&shared, &batch).await;
        let took = began.elapsed();
        let failed = |fault: &Fault| StoreError::Engine(fault.to_string().into());
        if let Err(fault) = &outcome {
            tracing::warn!(error = %fault, records = batch.len(), "records could not be stored; their callers are told to repeat");
        }
        for (at, append) in batch.drain(..).enumerate() {
            let answer = match &outcome {
                Ok(committed) => match committed.answers.get(at) {
                    Some(Ok(appended)) => Ok(Appended { commit_records: committed.records, ..*appended }),
                    Some(Err(damage)) => Err(damage.clone().into()),
                    None => Err(StoreError::Unavailable),
                },
                Err(fault) => Err(failed(fault)),
            };
            // Whoever does not wait any more finds the record by repeating.
            let _gone = append.reply.send(answer);
            drop(append.place);
        }
        tell(&shared, &outcome, took);
    }
}

/// Tells the observer, now that everybody was answered.
fn tell(shared: &Shared, outcome: &Result<Committed, Fault>, took: Duration) {
    let Some(observer) = shared.board.observer() else { return };
    match outcome {
        Ok(Committed { records, bytes, sync, .. }) if *records > 0 => {
            observer.committed(&Commit { records: *records, bytes: *bytes, took, sync: *sync });
        }
        // Repeats alone write nothing.
        Ok(_) => {}
        Err(_) => observer.not_committed(CommitFailure::Passing),
    }
}

type Answers = Vec<Result<Appended, Damage>>;

/// What a batch came to.
struct Committed {
    answers: Answers,
    /// New records.
    records: u32,
    /// Bytes of their bodies.
    bytes: usize,
    /// How long the turn took that wrote and committed.
    sync: Duration,
}

/// Commits a batch. It is safe to try again even where the first try took effect after all: every record is then found by
/// its key, and gets the receipt that it has.
async fn commit(shared: &Shared, batch: &[Append]) -> Result<Committed, Fault> {
    match try_to_commit(shared, batch).await {
        Err(fault) if fault.is_of_the_moment() => {
            tracing::debug!(%fault, "the connection was lost; the batch is tried again on another one");
            try_to_commit(shared, batch).await
        }
        outcome => outcome,
    }
}

async fn try_to_commit(shared: &Shared, batch: &[Append]) -> Result<Committed, Fault> {
    let client = shared.database.pool().get().await?;
    let patience = shared.database.patience();
    let mut work = Work { shared, client: &client, answers: Vec::new(), new: New::default() };
    match tokio::time::timeout(patience, work.all(batch)).await.unwrap_or(Err(Fault::TooLong(patience))) {
        Ok(()) => {
            let Work { answers, new, .. } = work;
            let records = u32::try_from(new.rows.seqs.len()).unwrap_or(u32::MAX);
            let (bytes, sync) = (new.bytes, new.sync);
            new.remember(shared);
            Ok(Committed { answers, records, bytes, sync })
        }
        Err(fault) => {
            // With the connection its transaction ends, whatever it has come to.
            drop(Object::take(client));
            Err(fault)
        }
    }
}

/// One batch.
struct Work<'a> {
    shared: &'a Shared,
    client: &'a Client,
    answers: Answers,
    new: New,
}

/// What it writes.
#[derive(Default)]
struct New {
    high_water: i64,
    lanes: Vec<(LaneId, Lane)>,
    changes: Changes,
    keys: HashMap<Key, (Seen, usize)>,
    rows: Rows,
    bytes: usize,
    sync: Duration,
}

impl New {
    /// Follows the commit.
    fn remember(self, shared: &Shared) {
        {
            let mut figures = shared.board.figures();
            for (id, lane) in self.lanes {
                figures.add_lane(id, lane);
            }
            figures.high_water = figures.high_water.max(self.high_water);
        }
        shared.board.apply(&self.changes);
    }
}

/// What the first turn finds.
struct Known {
    seen: HashMap<Key, Seen>,
    /// The records behind those keys, where a repeat asks for them; `None` for one that was deleted.
    firsts: HashMap<i64, Option<Result<ReadRecord, Damage>>>,
}

impl Work<'_> {
    async fn all(&mut self, batch: &[Append]) -> Result<(), Fault> {
        let seen = self.begin(batch).await?;
        let firsts = self.firsts(batch, &seen).await?;
        let known = Known { seen, firsts };
        for (place, append) in batch.iter().enumerate() {
            let answer = match self.first_of((place, &append.record), batch, &known)? {
                Some(first) => first,
                None => Ok(self.append((place, &append.record)).await?),
            };
            self.answers.push(answer);
        }
        if self.new.rows.seqs.is_empty() {
            return Ok(self.client.batch_execute("rollback").await?);
        }
        let began = Instant::now();
        let New { rows, keys, high_water, .. } = &self.new;
        Written { rows, keys, high_water: *high_water }.write(self.client, batch).await?;
        self.new.sync = began.elapsed();
        Ok(())
    }

    /// Takes the counter's row, and then looks the keys up.
    async fn begin(&mut self, batch: &[Append]) -> Result<HashMap<Key, Seen>, Fault> {
        let client = self.client;
        let counter = client.prepare_cached("select high_water from counter for update").await?;
        let lookup = client
            .prepare_cached(
                "select k.organization_id, k.key, k.seq, k.accepted_at \
                 from unnest($1::uuid[], $2::bytea[]) as w (organization_id, key) \
                 join keys k on k.organization_id = w.organization_id and k.key = w.key",
            )
            .await?;
        let organizations: Vec<PgGuid> = batch.iter().map(|append| key_of(&append.record).0).collect();
        let keys: Vec<&[u8]> = batch.iter().map(|append| append.record.key.as_slice()).collect();
        // A statement of a transaction sees what was committed when it begins: the second begins with the row in hand.
        let wanted: [&(dyn ToSql + Sync); 2] = [&organizations, &keys];
        let (begun, counter, found) = join!(
            biased;
            client.batch_execute("begin"),
            client.query_one(&counter, &[]),
            client.query(&lookup, &wanted),
        );
        begun?;
        self.new.high_water = counter?.try_get(0)?;
        let mut seen = HashMap::new();
        for row in found? {
            let wrong = |_| Fault::Inconsistent("a key has another size than keys have".to_owned());
            let key: DuplicateKey = row.try_get::<_, &[u8]>(1)?.try_into().map_err(wrong)?;
            seen.insert((row.try_get(0)?, key), Seen { seq: row.try_get(2)?, accepted_at_seconds: row.try_get(3)? });
        }
        Ok(seen)
    }

    /// The records that are repeated.
    async fn firsts(
        &self,
        batch: &[Append],
        seen: &HashMap<Key, Seen>,
    ) -> Result<HashMap<i64, Option<Result<ReadRecord, Damage>>>, Fault> {
        let mut wanted: Vec<(PgGuid, i64)> = batch
            .iter()
            .filter_map(|append| {
                let key = key_of(&append.record);
                let seen = seen.get(&key)?;
                seen.counts(append.record.accepted_at, self.shared.duplicate_window).then_some((key.0, seen.seq))
            })
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let (organizations, seqs): (Vec<PgGuid>, Vec<i64>) = wanted.into_iter().unzip();
        let select = self
            .client
            .prepare_cached(&format!(
                "select w.seq, exists (select from deleted d where d.first <= w.seq and d.last >= w.seq), {COLUMNS} \
                 from unnest($1::uuid[], $2::bigint[]) as w (organization_id, seq) \
                 left join ({FROM}) on r.organization_id = w.organization_id and r.seq = w.seq"
            ))
            .await?;
        let mut firsts = HashMap::new();
        for row in self.client.query(&select, &[&organizations, &seqs]).await? {
            let (seq, deleted): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
            let found = match read(&row, 2, seq, &self.shared.mask) {
                Err(_) if deleted => None,
                found => Some(found),
            };
            firsts.insert(seq, found);
        }
        Ok(firsts)
    }

    /// The record that this one repeats, if it does.
    fn first_of(
        &self,
        (place, record): (usize, &NewRecord),
        batch: &[Append],
        known: &Known,
    ) -> Result<Option<Result<Appended, Damage>>, Fault> {
        let key = key_of(record);
        let window = self.shared.duplicate_window;
        if let Some((seen, at)) = self.new.keys.get(&key)
            && seen.counts(record.accepted_at, window)
        {
            let missing = || Fault::Inconsistent(format!("the first of the repeat at {place} is not in its batch"));
            let first = self.answers.get(*at).and_then(|answer| answer.as_ref().ok()).ok_or_else(missing)?;
            let details = batch.get(*at).map(|append| append.record.details());
            let repeat = Some(Repeat { details_differ: details != Some(record.details()) });
            return Ok(Some(Ok(Appended { repeat, ..*first })));
        }
        if self.new.keys.contains_key(&key) {
            return Ok(None);
        }
        let Some(seen) = known.seen.get(&key).filter(|seen| seen.counts(record.accepted_at, window)) else {
            return Ok(None);
        };
        match known.firsts.get(&seen.seq) {
            // A clock that went far back can make a record seem younger than when it was deleted.
            None | Some(None) => Ok(None),
            Some(Some(Err(damage))) => Ok(Some(Err(damage.clone()))),
            Some(Some(Ok(first))) if first.key != record.key => {
                Err(Fault::Inconsistent(format!("a key leads to record {}, which has another", seen.seq)))
            }
            Some(Some(Ok(first))) => {
                let repeat = Some(Repeat { details_differ: first.record.details.differ_from(record.details()) });
                Ok(Some(Ok(Appended {
                    seq: first.seq,
                    random: first.random,
                    lane: first.lane,
                    repeat,
                    commit_records: 0,
                })))
            }
        }
    }

    /// Puts a new record down, to be written.
    async fn append(&mut self, (place, record): (usize, &NewRecord)) -> Result<Appended, Fault> {
        let lane = self.lane_id(&record.lane).await?;
        self.new.high_water += 1;
        let seq = self.new.high_water;
        let head = record.head(seq, lane);
        let rows = &mut self.new.rows;
        rows.organizations.push(record.lane.organization.guid().into());
        rows.seqs.push(seq);
        rows.lanes.push(lane.0);
        rows.accepted_at.push(head.accepted_at);
        rows.randoms.push(head.random.to_vec());
        rows.keys.push(head.key.to_vec());
        rows.crcs.push(i64::from(head.crc));
        rows.places.push(place);
        self.new.bytes += record.body.len();
        self.new.changes.pending(lane, 1);
        let seen = Seen { seq, accepted_at_seconds: record.accepted_at.seconds() };
        self.new.keys.insert(key_of(record), (seen, place));
        Ok(Appended { seq, random: head.random, lane, repeat: None, commit_records: 0 })
    }

    /// The lane's number, given now if it has none.
    async fn lane_id(&mut self, lane: &Lane) -> Result<LaneId, Fault> {
        if let Some(id) = self.shared.board.figures().ids.get(lane) {
            return Ok(*id);
        }
        if let Some((id, _)) = self.new.lanes.iter().find(|(_, new)| new == lane) {
            return Ok(*id);
        }
        let [organization, work_stream]: [PgGuid; 2] =
            [lane.organization.guid().into(), lane.work_stream.guid().into()];
        // Nobody else gives one meanwhile: whoever does holds the counter's row.
        let insert = self
            .client
            .prepare_cached(
                "with known as (select id from lanes where organization_id = $1 and work_stream_id = $2 and queue = $3), \
                 given as (insert into lanes (organization_id, id, work_stream_id, queue) \
                 select $1, (select coalesce(max(id), 0) + 1 from lanes), $2, $3 where not exists (select from known) \
                 returning id) \
                 select id from known union all select id from given",
            )
            .await?;
        let row = self.client.query_one(&insert, &[&organization, &work_stream, &lane.queue.as_str()]).await?;
        let id = LaneId(row.try_get(0)?);
        self.new.lanes.push((id, lane.clone()));
        Ok(id)
    }
}
