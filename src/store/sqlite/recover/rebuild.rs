//! The new database: what is kept, written in order into fresh tables.
//!
//! It is written without a journal and without syncs, since nobody reads it before it is complete, and is synced once at
//! the end. Lanes get new numbers, so that one whose row is gone leaves none out: a record's checksum covers what its lane
//! stands for, and not the number. What was never handed out becomes a row of `pending`, as in stores of older formats.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params, params_from_iter};

use super::fate::Fate;
use crate::domain::time::Timestamp;
use crate::store::LaneId;
use crate::store::lease::DUE_AT_ONCE;
use crate::store::sqlite::batch::Tally;
use crate::store::sqlite::block::{Block, Head};
use crate::store::sqlite::deleted::Range;
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::format;
use crate::store::sqlite::lost::{self, Lost, LostRange};
use crate::store::sqlite::schema::{self, APPLICATION_ID, PAGE_BYTES, RECORDS, with_suffix};
use crate::store::sqlite::survey::ground::Ground;
use crate::store::sqlite::survey::states::{StateRow, TABLES};
use crate::store::sqlite::survey::{Place, Window};

/// The database under way.
pub(super) struct Rebuild {
    conn: Connection,
    path: PathBuf,
    block: Option<Block>,
    /// The last number that was kept.
    kept: i64,
    delivered: Tally,
    now: Timestamp,
    /// What the new store knows of the old one's lanes, secret and earlier losses.
    from: Option<Carried>,
    lost: Vec<LostRange>,
}

/// What is carried over as it is.
struct Carried {
    secret: [u8; crate::store::receipt_id::SECRET_BYTES],
    lost: Lost,
    /// The new number of each lane.
    lanes: BTreeMap<i64, LaneId>,
    /// What each lane may stand for, and how often records said so.
    meanings: BTreeMap<LaneId, Vec<crate::store::Lane>>,
    votes: HashMap<(LaneId, usize), u64>,
}

impl Carried {
    fn of(ground: &Ground) -> Self {
        let (mut lanes, mut meanings) = (BTreeMap::new(), BTreeMap::new());
        for (id, lane) in ground.lanes.iter().filter(|(_, lane)| !lane.meanings.is_empty()) {
            let new = LaneId(i64::try_from(lanes.len()).unwrap_or(i64::MAX).saturating_add(1));
            lanes.insert(*id, new);
            meanings.insert(new, lane.meanings.clone());
        }
        let (secret, lost) = (ground.secret.unwrap_or_default(), ground.lost.clone());
        Self { secret, lost, lanes, meanings, votes: HashMap::new() }
    }
}

impl Rebuild {
    /// Makes it in this folder.
    pub(super) fn create(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(RECORDS);
        schema::open_private(&path).map_err(OpenError::io("cannot make", &path))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let made = Connection::open_with_flags(&path, flags).and_then(|conn| {
            conn.set_prepared_statement_cache_capacity(64);
            conn.pragma_update(None, "page_size", PAGE_BYTES)?;
            conn.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
            conn.pragma_update(None, "synchronous", "off")?;
            conn.execute_batch("begin")?;
            format::upgrade(&conn, 0)?;
            conn.execute_batch(lost::TABLE)?;
            conn.pragma_update(None, "application_id", APPLICATION_ID)?;
            Ok(conn)
        });
        let conn = made.map_err(OpenError::sqlite(&path))?;
        Ok(Self {
            conn,
            path,
            block: None,
            kept: 0,
            delivered: Tally::default(),
            now: Timestamp::now(),
            from: None,
            lost: Vec::new(),
        })
    }

    /// Takes the next number in.
    pub(super) fn take(&mut self, ground: &Ground, window: &Window, fate: &Fate<'_>) -> Result<(), OpenError> {
        let failed = OpenError::sqlite(&self.path);
        self.from.get_or_insert_with(|| Carried::of(ground));
        match fate {
            Fate::Kept { place, row } => self.keep(window, place).and_then(|lane| match row {
                Some(row) => self.insert_row(row, lane),
                None => self.insert_pending(place.seq, lane),
            }),
            Fate::GivenUp { place, reason, .. } => {
                self.keep(window, place).and_then(|lane| self.insert_dead_letter(place, lane, reason))
            }
            Fate::Lost { range, why, .. } => {
                self.lose(*range, why);
                Ok(())
            }
            Fate::Dropped { .. } => Ok(()),
        }
        .map_err(failed)
    }

    /// Puts a record in, and answers its lane's new number.
    fn keep(&mut self, window: &Window, place: &Place) -> rusqlite::Result<LaneId> {
        self.note_gone(place.seq - 1)?;
        self.kept = place.seq;
        let lane = self.from.as_mut().and_then(|from| {
            let lane = *from.lanes.get(&place.head.lane.0)?;
            *from.votes.entry((lane, place.checked.unwrap_or(0))).or_default() += 1;
            Some(lane)
        });
        // A record without a lane does not check, and is not kept.
        let lane = lane.unwrap_or(LaneId(0));
        let body = window.blocks.get(place.block).and_then(|block| block.get(place.seq)).and_then(|(_, body)| body);
        if let Some(done) = self.block.take_if(|block| block.is_full() || block.next() != place.seq) {
            done.insert(&self.conn)?;
        }
        let head = Head { lane, ..place.head };
        self.block.get_or_insert_with(|| Block::starting_at(place.seq)).push(&head, body.unwrap_or_default());
        Ok(lane)
    }

    /// All numbers between the last one that was kept and the next are gone.
    fn note_gone(&self, to: i64) -> rusqlite::Result<()> {
        if to > self.kept {
            self.conn
                .prepare_cached("insert into deleted (first, last) values (?1, ?2)")?
                .execute([self.kept + 1, to])?;
        }
        Ok(())
    }

    fn insert_row(&mut self, row: &StateRow, lane: LaneId) -> rusqlite::Result<()> {
        let Some(table) = TABLES.get(row.table) else { return Ok(()) };
        let places = (1..=table.width()).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
        let sql = format!("insert into {} ({}) values ({places})", table.name, table.column_names());
        let values = row.values.iter().enumerate().map(|(at, value)| match at {
            1 => Value::Integer(lane.0),
            _ => value.clone(),
        });
        self.conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        if table.name == "delivered" {
            self.delivered.add(row.seq);
        }
        Ok(())
    }

    fn insert_pending(&self, seq: i64, lane: LaneId) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("insert into pending (lane, seq, due_at, attempts) values (?1, ?2, ?3, 0)")?
            .execute(params![lane.0, seq, DUE_AT_ONCE])?;
        Ok(())
    }

    fn insert_dead_letter(&self, place: &Place, lane: LaneId, reason: &str) -> rusqlite::Result<()> {
        let attempts = place.rows.iter().map(StateRow::attempts).max().unwrap_or(0);
        self.conn
            .prepare_cached("insert into dead_letters (seq, lane, at, attempts, reason) values (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![place.seq, lane.0, self.now.millis(), attempts, reason])?;
        Ok(())
    }

    fn lose(&mut self, range: Range, why: &str) {
        // What was written down before stays as it was written.
        if self.from.as_ref().is_some_and(|from| from.lost.of(range.first).is_some()) {
            return;
        }
        match self.lost.last_mut() {
            Some(last) if last.range.last + 1 == range.first && last.why == why => last.range.last = range.last,
            _ => self.lost.push(LostRange { range, at: self.now, why: why.to_owned() }),
        }
    }

    /// Writes what goes with the records, and makes all of it durable.
    pub(super) fn finish(mut self, newest: i64) -> Result<(), OpenError> {
        let path = self.path.clone();
        self.complete(newest).map_err(OpenError::sqlite(&path))?;
        drop(self);
        for suffix in ["-wal", "-shm"] {
            let beside = with_suffix(&path, suffix);
            if beside.exists() {
                std::fs::remove_file(&beside).map_err(OpenError::io("cannot remove", &beside))?;
            }
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(OpenError::io("cannot sync", &path))
    }

    fn complete(&mut self, newest: i64) -> rusqlite::Result<()> {
        if let Some(block) = self.block.take() {
            block.insert(&self.conn)?;
        }
        self.note_gone(newest)?;
        let conn = &self.conn;
        let from = self.from.take();
        let (secret, earlier) = from.as_ref().map(|from| (from.secret, from.lost.ranges())).unwrap_or_default();
        for LostRange { range, at, why } in earlier.iter().chain(&self.lost) {
            conn.prepare_cached("insert into lost (first, last, at, why) values (?1, ?2, ?3, ?4)")?
                .execute(params![range.first, range.last, at.millis(), why])?;
        }
        for (id, meanings) in from.iter().flat_map(|from| &from.meanings) {
            let votes = |at: &usize| from.as_ref().and_then(|from| from.votes.get(&(*id, *at)).copied()).unwrap_or(0);
            // The first of those with the most, which without any is what the lane's own row says.
            let best = (0..meanings.len()).rev().max_by_key(votes).and_then(|at| meanings.get(at));
            if let Some(lane) = best {
                let [organization, work_stream] = [lane.organization.guid(), lane.work_stream.guid()];
                conn.prepare_cached(
                    "insert into lanes (id, organization, work_stream, queue, untried_from) values (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    id.0,
                    organization.as_bytes(),
                    work_stream.as_bytes(),
                    lane.queue.as_str(),
                    newest + 1
                ])?;
            }
        }
        conn.execute(
            "insert into meta (id, receipt_secret, receipt_secret_crc, high_water, delivered_count, delivered_sum, \
             listed_to) values (1, ?1, ?2, ?3, ?4, ?5, ?3)",
            params![secret, crc32fast::hash(&secret), newest, self.delivered.count, self.delivered.sum],
        )?;
        conn.execute_batch("commit")?;
        conn.pragma_update(None, "synchronous", "full")?;
        conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))
    }
}
