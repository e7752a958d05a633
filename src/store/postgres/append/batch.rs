//! One batch: two turns to the database and back while it holds the counter's row. What does not depend on an answer is sent
//! without waiting for one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use deadpool_postgres::{Client, Object};
use tokio::join;
use tokio_postgres::types::ToSql;

use super::write::{NewKeys, Rows, Written};
use super::{Append, Turn};
use crate::domain::time::Timestamp;
use crate::store::postgres::Shared;
use crate::store::postgres::board::Changes;
use crate::store::postgres::error::Fault;
use crate::store::postgres::guid::PgGuid;
use crate::store::postgres::reach::{NOT_KEPT, not_kept};
use crate::store::postgres::record::{COLUMNS, FROM, read};
use crate::store::receipt::Appended;
use crate::store::record_format::{Damage, DuplicateKey, NewRecord, ReadRecord};
use crate::store::{Lane, LaneId, Repeat};

/// Begins a batch. Keys are looked up by their index, whatever the statistics say of a table that has grown since they were
/// taken: a plan is made once for a connection, and one that reads the whole table would be kept.
const BEGIN: &str = "begin isolation level read committed; set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off";

/// A record that has the key already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) seq: i64,
    pub(super) accepted_at_seconds: i64,
}

impl Seen {
    /// Whether a record accepted at `now` still is a repeat of this one. A clock that went back makes none older.
    fn counts(self, now: Timestamp, window: Duration) -> bool {
        let age_seconds = now.seconds().saturating_sub(self.accepted_at_seconds);
        u64::try_from(age_seconds).unwrap_or(0) < window.as_secs()
    }
}

pub(super) type Key = (PgGuid, DuplicateKey);

fn key_of(record: &NewRecord) -> Key {
    (record.lane.organization.guid().into(), record.key)
}

pub(super) type Answers = Vec<Result<Appended, Damage>>;

/// What a batch came to.
pub(super) struct Committed {
    pub(super) answers: Answers,
    /// New records.
    pub(super) records: u32,
    /// Bytes of their bodies.
    pub(super) bytes: usize,
    /// How long the turn took that wrote and committed.
    pub(super) sync: Duration,
}

/// Commits a batch, or leaves nothing of it behind.
pub(super) async fn try_to_commit(shared: &Shared, batch: &[Append], turn: &mut Turn) -> Result<Committed, Fault> {
    let client = shared.database.pool().get().await?;
    let patience = shared.database.patience();
    let mut work = Work { shared, client: &client, answers: Vec::new(), new: New::default() };
    match tokio::time::timeout(patience, work.all(batch, turn)).await.unwrap_or(Err(Fault::TooLong(patience))) {
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
    async fn all(&mut self, batch: &[Append], turn: &mut Turn) -> Result<(), Fault> {
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
        let keys = NewKeys::of(keys, &known.seen);
        Written { rows, keys, high_water: *high_water }.write(self.client, batch, turn).await?;
        self.new.sync = began.elapsed();
        Ok(())
    }

    /// Takes the counter's row, and then looks the keys up.
    async fn begin(&mut self, batch: &[Append]) -> Result<HashMap<Key, Seen>, Fault> {
        let client = self.client;
        let counter = client
            .prepare_cached(&format!(
                "select c.high_water, {NOT_KEPT}, m.receipt_secret_crc from counter c, meta m \
                 where c.only_row and m.only_row for update of c"
            ))
            .await?;
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
            client.batch_execute(BEGIN),
            client.query_one(&counter, &[]),
            client.query(&lookup, &wanted),
        );
        begun?;
        let counter = counter?;
        self.new.high_water = counter.try_get(0)?;
        // A role, a database or the server may have been told otherwise since the connection was made or asked.
        if let Some(setting) = not_kept(counter.try_get(1)?) {
            return Err(Fault::NotKept(setting));
        }
        if counter.try_get::<_, i64>(2)? != self.shared.secret_crc {
            return Err(Fault::AnotherStore);
        }
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
                "select {COLUMNS} from unnest($1::uuid[], $2::bigint[]) as w (organization_id, seq) \
                 join ({FROM}) on r.organization_id = w.organization_id and r.seq = w.seq"
            ))
            .await?;
        let mut firsts: HashMap<_, _> = seqs.iter().map(|seq| (*seq, Some(Err(Damage::missing(*seq))))).collect();
        for row in self.client.query(&select, &[&organizations, &seqs]).await? {
            let seq: i64 = row.try_get(0)?;
            firsts.insert(seq, Some(read(&row, 0, seq, &self.shared.mask)));
        }
        self.forget_deleted(&mut firsts).await?;
        Ok(firsts)
    }

    /// What cannot be read because it was deleted is no damage.
    async fn forget_deleted(&self, firsts: &mut HashMap<i64, Option<Result<ReadRecord, Damage>>>) -> Result<(), Fault> {
        let is_bad = |(seq, found): (&i64, &Option<Result<_, _>>)| matches!(found, Some(Err(_))).then_some(*seq);
        let bad: Vec<i64> = firsts.iter().filter_map(is_bad).collect();
        if bad.is_empty() {
            return Ok(());
        }
        let select = "select w.seq from unnest($1::bigint[]) as w (seq) \
             where exists (select from deleted d where d.first <= w.seq and d.last >= w.seq)";
        let select = self.client.prepare_cached(select).await?;
        for row in self.client.query(&select, &[&bad]).await? {
            firsts.insert(row.try_get(0)?, None);
        }
        Ok(())
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
                tracing::error!(record = seen.seq, "a key led to a record that has another; it is put right");
                Ok(None)
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
        // Nobody else gives one meanwhile: whoever does holds the counter's row. The number of the lane's first record has
        // been given to no lane, also where the newest lanes cannot be seen yet (`cluster`).
        let insert = self
            .client
            .prepare_cached(
                "with known as (select id from lanes where organization_id = $1 and work_stream_id = $2 and queue = $3), \
                 given as (insert into lanes (organization_id, id, work_stream_id, queue) \
                 select $1, greatest($4, (select coalesce(max(id), 0) + 1 from lanes)), $2, $3 \
                 where not exists (select 1 from known) \
                 returning id) \
                 select id from known union all select id from given",
            )
            .await?;
        let row = self
            .client
            .query_one(&insert, &[&organization, &work_stream, &lane.queue.as_str(), &(self.new.high_water + 1)])
            .await?;
        let id = LaneId(row.try_get(0)?);
        self.new.lanes.push((id, lane.clone()));
        Ok(id)
    }
}
