//! Looking things up: a receipt, a record, a page of records.
//!
//! Every answer is one snapshot, and every record in it was checked against its checksum. A record must be in exactly
//! one state; one that is in none, or in two, is reported as damage and not passed over.

use std::collections::HashSet;
use std::sync::LazyLock;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::read_error;
use super::reader::Reader;
use super::row::{self, COLUMN_COUNT, COLUMNS, Damage, ReadRecord};
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::receipt_id::same;
use crate::store::{DeliveryState, ListQuery, Page, ReceiptStatus, StoreError, StoredRecord};

/// The most records on one page.
const MAX_PAGE: usize = 1_000;
/// The most rows that one page is picked from: a filter that few records pass must not read the whole store at once.
/// The page is then short, and says where to go on.
const MAX_LOOKED_AT: usize = 20_000;

static STATUS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select {COLUMNS}, \
         p.due_at, p.attempts, p.last_error, d.at, d.attempts, d.last_error, x.at, x.attempts, x.reason \
         from records r left join lanes l on l.id = r.lane \
         left join pending p on p.lane = r.lane and p.seq = r.seq \
         left join delivered d on d.seq = r.seq left join dead_letters x on x.seq = r.seq where r.seq = ?1"
    )
});

/// What became of a receipt.
pub(super) fn status(reader: &Reader, id: &ReceiptId) -> Result<Option<ReceiptStatus>, StoreError> {
    let found = find(reader, id, |seq| status_at(reader, seq))?;
    Ok(found.map(|(_, status)| status))
}

/// The record behind a receipt.
pub(super) fn record(reader: &Reader, id: &ReceiptId) -> Result<Option<StoredRecord>, StoreError> {
    let found = find(reader, id, |seq| {
        let found = row::read(&reader.conn, &reader.mask, seq).map_err(read_error)?;
        Ok(found.map(|found| (found.random, found.record))?)
    })?;
    Ok(found.map(|(_, record)| record))
}

/// Reads what a receipt leads to, if it leads anywhere and is the receipt of what is there.
fn find<T>(
    reader: &Reader,
    id: &ReceiptId,
    read: impl FnOnce(i64) -> Result<([u8; 16], T), StoreError>,
) -> Result<Option<([u8; 16], T)>, StoreError> {
    let unmasked = reader.mask.open(id);
    let newest = reader.board.figures().high_water;
    match i64::try_from(unmasked.seq) {
        // A made-up ID leads to some number among 2^64: next to never to one that was given out.
        Ok(seq) if (1..=newest).contains(&seq) => {
            let found = read(seq)?;
            Ok(same(&found.0, &unmasked.random).then_some(found))
        }
        Ok(_) | Err(_) => Ok(None),
    }
}

fn status_at(reader: &Reader, seq: i64) -> Result<([u8; 16], ReceiptStatus), StoreError> {
    let found = reader
        .conn
        .prepare_cached(&STATUS)
        .and_then(|mut select| {
            let decoded = |row: &Row<'_>| {
                Ok(row::decode(row, &reader.mask, seq).and_then(|found| Ok((found.random, status_in(row, found)?))))
            };
            select.query_row([seq], decoded).optional()
        })
        .map_err(read_error)?;
    Ok(found.unwrap_or_else(|| Err(Damage::missing(seq)))?)
}

/// The status in a row of [`STATUS`].
fn status_in(row: &Row<'_>, found: ReadRecord) -> Result<ReceiptStatus, Damage> {
    let seq = found.seq;
    let standings = [0, 3, 6].map(|offset| Standing::at(row, COLUMN_COUNT + offset));
    let damage = |what| Damage { seq, what };
    let [Ok(pending), Ok(delivered), Ok(dead)] = standings else {
        return Err(damage("its state cannot be read"));
    };
    let accepted_at = found.record.accepted_at;
    let (state, standing) = match (pending, delivered, dead) {
        (Some(standing), None, None) if standing.attempts == 0 => (DeliveryState::Accepted, standing),
        (Some(standing), None, None) => (DeliveryState::Delivering, standing),
        (None, Some(standing), None) => (DeliveryState::Delivered, standing),
        (None, None, Some(standing)) => (DeliveryState::DeadLettered, standing),
        (None, None, None) => return Err(damage("it is neither pending nor delivered nor a dead letter")),
        (_, _, _) => return Err(damage("it is in two states at once")),
    };
    let pending = matches!(state, DeliveryState::Accepted | DeliveryState::Delivering);
    Ok(ReceiptStatus {
        summary: row::summary(found.record),
        state,
        attempts: standing.attempts,
        last_error: standing.text,
        // What is due at once is due since it arrived.
        next_attempt_at: pending.then_some(standing.at.max(accepted_at)),
        settled_at: (!pending).then_some(standing.at),
    })
}

/// A record's row in one of the three tables of states.
struct Standing {
    at: Timestamp,
    attempts: u32,
    text: Option<String>,
}

impl Standing {
    fn at(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Self>> {
        if row.get_ref(first)? == ValueRef::Null {
            return Ok(None);
        }
        let at = Timestamp::from_millis(row.get(first)?);
        Ok(Some(Self { at, attempts: row.get(first + 1)?, text: row.get(first + 2)? }))
    }
}

/// A page of records.
pub(super) fn list(reader: &Reader, query: &ListQuery) -> Result<Page, StoreError> {
    // One snapshot for the whole page: a record settled in between must not be seen twice or never.
    let snapshot = reader.conn.unchecked_transaction().map_err(read_error)?;
    let (seqs, next) = pick(reader, query).map_err(read_error)?;
    let records =
        seqs.into_iter().map(|seq| status_at(reader, seq).map(|(_, status)| status)).collect::<Result<_, _>>()?;
    snapshot.commit().map_err(read_error)?;
    Ok(Page { records, next })
}

/// The sequence numbers of a page, newest first, and where the next one starts.
fn pick(reader: &Reader, query: &ListQuery) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
    let limit = query.limit.min(MAX_PAGE);
    let before = query.before.unwrap_or(i64::MAX);
    let lanes = wanted_lanes(reader, query);
    if limit == 0 {
        return Ok((Vec::new(), None));
    }
    let newest_first = |table: &str| format!("select seq, lane from {table} where seq < ?1 order by seq desc");
    match query.state {
        None => pick_by_arrival(&reader.conn, &newest_first("records"), (before, limit), lanes.as_ref()),
        Some(DeliveryState::Delivered) => {
            pick_by_arrival(&reader.conn, &newest_first("delivered"), (before, limit), lanes.as_ref())
        }
        Some(DeliveryState::DeadLettered) => {
            pick_by_arrival(&reader.conn, &newest_first("dead_letters"), (before, limit), lanes.as_ref())
        }
        Some(state @ (DeliveryState::Accepted | DeliveryState::Delivering)) => {
            let tried = state == DeliveryState::Delivering;
            let lanes = lanes.unwrap_or_else(|| all_lanes(reader));
            pick_pending(&reader.conn, lanes, tried, (before, limit))
        }
    }
}

/// The lanes that a filter lets through; `None` where there is no such filter.
fn wanted_lanes(reader: &Reader, query: &ListQuery) -> Option<HashSet<i64>> {
    if query.organization.is_none() && query.work_stream.is_none() {
        return None;
    }
    let figures = reader.board.figures();
    let wanted = figures.lanes.iter().filter(|backlog| {
        query.organization.is_none_or(|organization| organization == backlog.lane.organization)
            && query.work_stream.is_none_or(|work_stream| work_stream == backlog.lane.work_stream)
    });
    Some(wanted.map(|backlog| backlog.id.0).collect())
}

fn all_lanes(reader: &Reader) -> HashSet<i64> {
    reader.board.figures().lanes.iter().map(|backlog| backlog.id.0).collect()
}

/// From a table that is in order of arrival.
fn pick_by_arrival(
    conn: &Connection,
    sql: &str,
    (before, limit): (i64, usize),
    lanes: Option<&HashSet<i64>>,
) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
    if lanes.is_some_and(HashSet::is_empty) {
        return Ok((Vec::new(), None));
    }
    let mut picked = Vec::new();
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query([before])?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let (seq, lane): (i64, i64) = (row.get(0)?, row.get(1)?);
        looked_at += 1;
        if lanes.is_none_or(|lanes| lanes.contains(&lane)) {
            picked.push(seq);
        }
        if picked.len() == limit || looked_at == MAX_LOOKED_AT {
            return Ok((picked, Some(seq)));
        }
    }
    Ok((picked, None))
}

/// From the pending records, which are in order of arrival only within each lane.
fn pick_pending(
    conn: &Connection,
    lanes: HashSet<i64>,
    tried: bool,
    (before, limit): (i64, usize),
) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
    let mut picked: Vec<i64> = Vec::new();
    let mut select = conn.prepare_cached(
        "select seq from pending where lane = ?1 and seq < ?2 and (attempts > 0) = ?3 order by seq desc limit ?4",
    )?;
    for lane in lanes {
        let rows = select
            .query_map(params![lane, before, tried, i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?;
        for seq in rows {
            picked.push(seq?);
        }
        picked.sort_unstable_by_key(|seq| std::cmp::Reverse(*seq));
        picked.truncate(limit);
    }
    let next = if picked.len() == limit { picked.last().copied() } else { None };
    Ok((picked, next))
}
