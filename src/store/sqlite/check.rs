//! What a start looks at before it lets anyone in: that nothing is missing, and that everything is in one state.
//!
//! * The newest record must be the one that the mark in `records.db` names, and not older than the mark in its own file
//!   and than what the index has seen; otherwise records were lost, and the start says which.
//! * The newest records are contiguous but for those that were deleted, and their checksums match.
//! * Pending, waiting, delivered, dead-lettered and deleted records together are all records: as many, and with the same
//!   sum of sequence numbers. A record that vanished from its table, and would neither be delivered nor be missed, shows
//!   here. Which one it is takes a pass over everything, which only a start that is refused anyway makes.
//!
//! All of it takes one pass over what is pending, waiting or given up, and nothing over what is delivered.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::batch::{Ledger, Tally};
use super::board::{Figures, Wanted};
use super::deleted::Ranges;
use super::error::OpenError;
use super::mark::{Mark, MarkFile};
use super::row::{self, COLUMNS};
use crate::store::receipt_id::{ReceiptMask, SECRET_BYTES};
use crate::store::{Lane, LaneBacklog, LaneId};

/// How many of the newest records are verified.
const VERIFIED_RECORDS: i64 = 256;

/// What `meta` holds.
pub(super) struct Meta {
    pub(super) secret: [u8; SECRET_BYTES],
    pub(super) high_water: i64,
    secret_crc: u32,
    delivered: Tally,
}

/// Reads `meta`.
pub(super) fn read_meta(conn: &Connection) -> rusqlite::Result<Meta> {
    conn.query_row(
        "select receipt_secret, high_water, delivered_count, delivered_sum, receipt_secret_crc from meta where id = 1",
        [],
        |row| {
            let delivered = Tally { count: row.get(2)?, sum: row.get(3)? };
            Ok(Meta { secret: row.get(0)?, high_water: row.get(1)?, secret_crc: row.get(4)?, delivered })
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
    check_newest(conn, file, meta.high_water)?;
    check_mark(file, meta.high_water, mark)?;
    let damaged = OpenError::sqlite(file);
    let deleted = Ranges::read(conn, meta.high_water)
        .map_err(&damaged)?
        .map_err(|detail| OpenError::inconsistent(file, detail))?;
    check_tail(conn, file, (&mask, meta.high_water), &deleted)?;

    let lanes = read_lanes(conn, file)?;
    let by_lane = lanes.iter().map(|backlog| (backlog.lane.clone(), backlog.id)).collect();
    let mut figures = Figures { lanes, high_water: meta.high_water, ..Figures::default() };
    let pending = count_pending(conn, file, &mut figures)?;
    let waiting = tally(conn, "select seq from waiting").map_err(&damaged)?;
    let dead = tally(conn, "select seq from dead_letters").map_err(&damaged)?;
    let discarded = tally(conn, "select seq from discarded").map_err(&damaged)?;
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
            first_stray(conn, meta.high_water, &deleted).map_err(&damaged)?
        );
        return Err(OpenError::inconsistent(file, detail));
    }
    let ledger = Ledger {
        mask,
        duplicate_window: rules.duplicate_window,
        trim_at_delivery: rules.trim_at_delivery,
        wanted: rules.wanted.clone(),
        lanes: by_lane,
        high_water: meta.high_water,
        delivered: meta.delivered,
        quiet_until: HashMap::new(),
    };
    Ok((ledger, figures))
}

/// Which record it is that is in no state, or in two: the first of them, in words.
fn first_stray(conn: &Connection, high_water: i64, deleted: &Ranges) -> rusqlite::Result<String> {
    let mut select = conn.prepare(
        "select seq from pending union all select seq from waiting union all select seq from delivered \
         union all select seq from dead_letters union all select seq from discarded order by seq",
    )?;
    let mut rows = select.query([])?;
    let mut before = 0;
    let mut next = || -> rusqlite::Result<Option<i64>> { rows.next()?.map(|row| row.get(0)).transpose() };
    loop {
        let found = next()?;
        let seq = found.unwrap_or(high_water + 1);
        if let Some(missing) = deleted.first_kept(before + 1, seq - 1) {
            return Ok(format!("; record {} is in none of these states", missing.first));
        }
        if seq == before {
            return Ok(format!("; record {seq} is in two of these states"));
        }
        if found.is_some() && deleted.first_kept(seq, seq).is_none() {
            return Ok(format!("; record {seq} is in one of these states, and deleted"));
        }
        if found.is_none() || seq > high_water {
            return Ok(String::new());
        }
        before = seq;
    }
}

/// The error of records that are gone.
pub(super) fn lost(file: &Path, from: i64, to: i64) -> OpenError {
    OpenError::Damaged { from: from.cast_unsigned(), to: to.cast_unsigned(), file: file.to_owned() }
}

fn check_newest(conn: &Connection, file: &Path, high_water: i64) -> Result<(), OpenError> {
    let newest: Option<i64> =
        conn.query_row("select max(seq) from records", [], |row| row.get(0)).map_err(OpenError::sqlite(file))?;
    let newest = newest.unwrap_or(0);
    if newest < high_water {
        return Err(lost(file, newest + 1, high_water));
    }
    if newest > high_water {
        let detail = format!("it holds record {newest}, but its high-water mark is {high_water}");
        return Err(OpenError::inconsistent(file, detail));
    }
    Ok(())
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
    let sql = format!(
        "select {COLUMNS} from records r left join lanes l on l.id = r.lane order by r.seq desc limit {VERIFIED_RECORDS}"
    );
    let mut select = conn.prepare(&sql).map_err(&damaged)?;
    let mut rows = select.query([]).map_err(&damaged)?;
    let all_deleted = |from: i64, to: i64| match deleted.first_kept(from, to) {
        Some(gone) => Err(lost(file, gone.first, gone.last)),
        None => Ok(()),
    };
    let (mut expected, mut verified) = (high_water, 0);
    while let Some(row) = rows.next().map_err(&damaged)? {
        let seq: i64 = row.get(0).map_err(&damaged)?;
        all_deleted(seq + 1, expected)?;
        if deleted.first_kept(seq, seq).is_none() {
            return Err(OpenError::inconsistent(file, format!("record {seq} is there although it was deleted")));
        }
        row::decode(row, mask, seq).map_err(|damage| OpenError::inconsistent(file, damage.to_string()))?;
        expected = seq - 1;
        verified += 1;
    }
    // Fewer rows than were asked for: then they must reach down to the first record.
    if verified < VERIFIED_RECORDS { all_deleted(1, expected) } else { Ok(()) }
}

fn read_lanes(conn: &Connection, file: &Path) -> Result<Vec<LaneBacklog>, OpenError> {
    let damaged = OpenError::sqlite(file);
    let mut select =
        conn.prepare("select organization, work_stream, queue, id from lanes order by id").map_err(&damaged)?;
    let mut rows = select.query([]).map_err(&damaged)?;
    let mut lanes = Vec::new();
    while let Some(row) = rows.next().map_err(&damaged)? {
        let lane: Option<(Lane, i64)> = (|| {
            let blob = |at: usize| row.get_ref(at).ok()?.as_blob().ok();
            let queue = row.get_ref(2).ok()?.as_str().ok()?;
            Some((row::lane_of(blob(0)?, blob(1)?, queue)?, row.get(3).ok()?))
        })();
        let expected = i64::try_from(lanes.len()).unwrap_or(i64::MAX).saturating_add(1);
        match lane {
            Some((lane, id)) if id == expected => lanes.push(LaneBacklog { id: LaneId(id), lane, pending: 0 }),
            Some(_) | None => {
                return Err(OpenError::inconsistent(file, format!("lane {expected} is missing or cannot be read")));
            }
        }
    }
    Ok(lanes)
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
