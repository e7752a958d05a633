//! What a start looks at before it lets anyone in: that nothing is missing, and that everything is in one state.
//!
//! * The newest record must not be older than the mark in `records.db`, than the mark in its own file and than what the
//!   index has seen; otherwise records were lost, and the start says which.
//! * The newest records are contiguous but for those that were deleted, and their checksums match.
//! * Pending (tried or not), waiting, delivered, dead-lettered and deleted records together are all records: as many, and
//!   with the same sum of sequence numbers. A record that vanished from its table, and would neither be delivered nor be
//!   missed, shows here. Which one it is takes a pass over everything, which only a start that is refused anyway makes.
//!
//! All of it takes one pass over what is pending, waiting or given up, and nothing over what is delivered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::batch::{Ledger, Tally};
use super::block::{Block, Heads};
use super::board::{Figures, Wanted};
use super::deleted::Ranges;
use super::error::OpenError;
use super::lost::Lost;
use super::mark::{Mark, MarkFile};
use super::row;
use super::untried::Untried;
use crate::store::receipt_id::{ReceiptMask, SECRET_BYTES};
use crate::store::{Lane, LaneBacklog, LaneId};

/// How many of the newest records are verified.
const VERIFIED_RECORDS: i64 = 256;

/// What `meta` holds.
pub(super) struct Meta {
    pub(super) secret: [u8; SECRET_BYTES],
    /// The newest number that was given to a record.
    pub(super) high_water: i64,
    /// The newest record that is there. It is older only where the newest ones were lost and that was written down.
    pub(super) newest: i64,
    /// Records that were lost, and are known to be.
    pub(super) lost: Lost,
    /// What the mark in the database says of it: at least the last of those that were committed with anything else.
    marked: i64,
    listed_to: i64,
    secret_crc: u32,
    delivered: Tally,
}

/// Reads `meta`.
pub(super) fn read_meta(conn: &Connection) -> rusqlite::Result<Meta> {
    let newest = Heads::around(conn, i64::MAX)?.map_or(0, |heads| heads.last());
    let lost = Lost::read(conn)?;
    conn.query_row(
        "select receipt_secret, receipt_secret_crc, high_water, listed_to, delivered_count, delivered_sum \
         from meta where id = 1",
        [],
        move |row| {
            Ok(Meta {
                secret: row.get(0)?,
                secret_crc: row.get(1)?,
                high_water: newest.max(lost.last()),
                newest,
                lost,
                marked: row.get(2)?,
                listed_to: row.get(3)?,
                delivered: Tally { count: row.get(4)?, sum: row.get(5)? },
            })
        },
    )
}

/// The settings that the writer goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) duplicate_window: Duration,
    pub(super) trim_at_delivery: bool,
    pub(super) wanted: &'a Wanted,
}

/// Checks the store, and answers what the writer has to know and what the board shows.
pub(super) fn check(
    conn: &Connection,
    file: &Path,
    meta: &Meta,
    (mark, rules): (&MarkFile, Rules<'_>),
) -> Result<(Ledger, Figures), OpenError> {
    // With another secret every receipt that was given out would seem unknown.
    if crc32fast::hash(&meta.secret) != meta.secret_crc {
        return Err(OpenError::inconsistent(file, "the secret that makes receipt IDs is not the one that was written"));
    }
    let mask = ReceiptMask::new(&meta.secret);
    check_newest(file, meta)?;
    check_mark(file, meta.high_water, mark)?;
    let damaged = OpenError::sqlite(file);
    let deleted = Ranges::read(conn, (meta.high_water, meta.lost.last()))
        .map_err(&damaged)?
        .map_err(|detail| OpenError::inconsistent(file, detail))?;
    check_tail(conn, file, (&mask, meta.high_water), &deleted)?;

    let (lanes, untried_from) = read_lanes(conn, file)?;
    let in_order: Vec<Lane> = lanes.iter().map(|backlog| backlog.lane.clone()).collect();
    let by_lane = lanes.iter().map(|backlog| (backlog.lane.clone(), backlog.id)).collect();
    let mut figures = Figures { lanes, high_water: meta.high_water, ..Figures::default() };
    let tried = count_pending(conn, file, &mut figures)?;
    let count_one = |lane, _| figures.lane_mut(lane).into_iter().for_each(|backlog| backlog.pending += 1);
    let (untried, untried_tally) = Untried::read(conn, &untried_from, meta.listed_to, count_one)
        .map_err(&damaged)?
        .map_err(|detail| OpenError::inconsistent(file, detail))?;
    let pending = tried.plus(untried_tally);
    let waiting = tally(conn, "select seq from waiting").map_err(&damaged)?;
    let dead = tally(conn, "select seq from dead_letters").map_err(&damaged)?;
    let discarded = tally(conn, "select seq from discarded").map_err(&damaged)?;
    for lane in untried_from.keys() {
        figures.set_front(*lane, untried.front(*lane));
    }
    figures.pending = pending.count.cast_unsigned();
    figures.waiting = waiting.count.cast_unsigned();
    figures.dead_lettered = dead.count.cast_unsigned();

    let accounted = pending.plus(waiting).plus(dead).plus(discarded).plus(deleted.tally()).plus(meta.delivered);
    let all = Tally::of_all_up_to(meta.high_water);
    if accounted != all {
        let detail = format!(
            "of {} records {} are pending, {} waiting, {} delivered, {} dead letters, {} of them discarded, and {} were \
             deleted (sums of their numbers: {} and {}){}",
            all.count,
            pending.count,
            waiting.count,
            meta.delivered.count,
            dead.count + discarded.count,
            discarded.count,
            deleted.tally().count,
            all.sum,
            accounted.sum,
            first_stray(conn, meta, &deleted, &untried_from).map_err(&damaged)?
        );
        return Err(OpenError::inconsistent(file, detail));
    }
    let ledger = Ledger {
        mask,
        duplicate_window: rules.duplicate_window,
        trim_at_delivery: rules.trim_at_delivery,
        wanted: rules.wanted.clone(),
        lanes: by_lane,
        lanes_in_order: in_order,
        high_water: meta.high_water,
        delivered: meta.delivered,
        untried: RefCell::new(untried),
        blocks: RefCell::default(),
        leases: HashMap::new(),
        quiet_until: HashMap::new(),
    };
    Ok((ledger, figures))
}

/// Which record it is that is in no state, or in two: the first of them, in words.
fn first_stray(
    conn: &Connection,
    meta: &Meta,
    deleted: &Ranges,
    untried_from: &HashMap<LaneId, i64>,
) -> rusqlite::Result<String> {
    // Only a start that is refused anyway comes here, so it may take all the memory that it takes.
    let mut untried = Vec::new();
    let _read = Untried::read(conn, untried_from, meta.listed_to, |_, seq| untried.push(seq))?;
    untried.sort_unstable();
    let mut untried = untried.into_iter().peekable();
    let mut select = conn.prepare(
        "select seq from pending union all select seq from waiting union all select seq from delivered \
         union all select seq from dead_letters union all select seq from discarded order by seq",
    )?;
    let mut others = select.query_map([], |row| row.get::<_, i64>(0))?.peekable();
    let mut next = || -> rusqlite::Result<Option<i64>> {
        match (others.peek(), untried.peek()) {
            (Some(Ok(other)), Some(seq)) if seq < other => Ok(untried.next()),
            (None, _) => Ok(untried.next()),
            (Some(_), _) => others.next().transpose(),
        }
    };
    let mut before = 0;
    loop {
        let found = next()?;
        let seq = found.unwrap_or(meta.high_water + 1);
        if let Some(missing) = deleted.first_kept(before + 1, seq - 1) {
            return Ok(format!("; record {} is in none of these states", missing.first));
        }
        if seq == before {
            return Ok(format!("; record {seq} is in two of these states"));
        }
        if found.is_some() && deleted.first_kept(seq, seq).is_none() {
            return Ok(format!("; record {seq} is in one of these states, and deleted"));
        }
        if found.is_none() || seq > meta.high_water {
            return Ok(String::new());
        }
        before = seq;
    }
}

/// The error of records that are gone.
pub(super) fn lost(file: &Path, from: i64, to: i64) -> OpenError {
    OpenError::Damaged { from: from.cast_unsigned(), to: to.cast_unsigned(), file: file.to_owned() }
}

fn check_newest(file: &Path, meta: &Meta) -> Result<(), OpenError> {
    if meta.high_water < meta.marked { Err(lost(file, meta.high_water + 1, meta.marked)) } else { Ok(()) }
}

fn check_mark(file: &Path, high_water: i64, mark: &MarkFile) -> Result<(), OpenError> {
    match mark.read().map_err(OpenError::io("cannot read", mark.path()))? {
        Mark::At(newest) if newest > high_water => Err(lost(file, high_water + 1, newest)),
        Mark::At(_) => Ok(()),
        Mark::None if high_water == 0 => Ok(()),
        Mark::None | Mark::Unreadable => {
            tracing::warn!(
                file = %mark.path().display(),
                "the outer high-water mark is missing or damaged; whether the newest records are complete cannot be told"
            );
            Ok(())
        }
    }
}

fn check_tail(
    conn: &Connection,
    file: &Path,
    (mask, high_water): (&ReceiptMask, i64),
    deleted: &Ranges,
) -> Result<(), OpenError> {
    let damaged = OpenError::sqlite(file);
    let mut select = conn.prepare("select first, heads, bodies from blocks order by first desc").map_err(&damaged)?;
    let mut rows = select.query_map([], Block::of).map_err(&damaged)?;
    let all_deleted = |from: i64, to: i64| match deleted.first_kept(from, to) {
        Some(gone) => Err(lost(file, gone.first, gone.last)),
        None => Ok(()),
    };
    let (mut expected, mut verified) = (high_water, 0);
    'blocks: while let Some(block) = rows.next().transpose().map_err(&damaged)? {
        for (seq, head) in block.heads.iter().rev().filter(|(_, head)| head.is_there()) {
            if verified == VERIFIED_RECORDS {
                break 'blocks;
            }
            all_deleted(seq + 1, expected)?;
            if deleted.first_kept(seq, seq).is_none() {
                return Err(OpenError::inconsistent(file, format!("record {seq} is there although it was deleted")));
            }
            let lane = row::lane(conn, head.lane).map_err(&damaged)?;
            row::decode(&block, seq, lane.as_ref(), mask)
                .map_err(|damage| OpenError::inconsistent(file, damage.to_string()))?;
            expected = seq - 1;
            verified += 1;
        }
    }
    // Fewer records than were asked for: then they must reach down to the first one.
    if verified < VERIFIED_RECORDS { all_deleted(1, expected) } else { Ok(()) }
}

/// Every lane, and from which number on its records are untried.
fn read_lanes(conn: &Connection, file: &Path) -> Result<(Vec<LaneBacklog>, HashMap<LaneId, i64>), OpenError> {
    let damaged = OpenError::sqlite(file);
    let mut select = conn
        .prepare("select organization, work_stream, queue, id, untried_from from lanes order by id")
        .map_err(&damaged)?;
    let mut rows = select.query([]).map_err(&damaged)?;
    let (mut lanes, mut untried_from) = (Vec::new(), HashMap::new());
    while let Some(row) = rows.next().map_err(&damaged)? {
        let expected = i64::try_from(lanes.len()).unwrap_or(i64::MAX).saturating_add(1);
        let read = || Some((row::lane_in(row)?, LaneId(row.get(3).ok()?), row.get(4).ok()?));
        match read() {
            Some((lane, id, from)) if id.0 == expected => {
                lanes.push(LaneBacklog { id, lane, pending: 0 });
                untried_from.insert(id, from);
            }
            Some(_) | None => {
                return Err(OpenError::inconsistent(file, format!("lane {expected} is missing or cannot be read")));
            }
        }
    }
    Ok((lanes, untried_from))
}

fn count_pending(conn: &Connection, file: &Path, figures: &mut Figures) -> Result<Tally, OpenError> {
    let damaged = OpenError::sqlite(file);
    let mut tally = Tally::default();
    let mut select = conn.prepare("select lane, seq from pending").map_err(&damaged)?;
    let mut rows = select.query([]).map_err(&damaged)?;
    while let Some(row) = rows.next().map_err(&damaged)? {
        let (lane, seq) = (LaneId(row.get(0).map_err(&damaged)?), row.get(1).map_err(&damaged)?);
        match figures.lane_mut(lane) {
            Some(backlog) => backlog.pending += 1,
            None => {
                let detail = format!("record {seq} waits in lane {}, which does not exist", lane.0);
                return Err(OpenError::inconsistent(file, detail));
            }
        }
        tally.add(seq);
    }
    Ok(tally)
}

fn tally(conn: &Connection, sql: &str) -> rusqlite::Result<Tally> {
    let mut tally = Tally::default();
    let mut select = conn.prepare(sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        tally.add(row.get(0)?);
    }
    Ok(tally)
}
