//! Finding records by what they are like: a page of a list, or the dead letters that a call is about.
//!
//! A filter that few records pass must not read the whole store at once: a page is picked from a bounded number of
//! rows, is then short, and says where to go on. The lanes that a filter lets through are known from memory; what else
//! it asks is looked up in the record, and only when it is asked.

use std::collections::HashSet;

use rusqlite::{Connection, Row, ToSql};

use super::error::read_error;
use super::look::status_at;
use super::reader::Reader;
use super::row;
use crate::store::{Arrival, DeliveryState, ListQuery, MAX_HANDLED, Page, RecordFilter, StoreError};

/// The most records on one page.
const MAX_PAGE: usize = 1_000;
/// The most arrivals that are told at once.
const MAX_ARRIVALS: usize = 4_096;
/// The most rows that one page is picked from.
const MAX_LOOKED_AT: usize = 20_000;
/// The most bytes of details that dead letters handled in one call have together: discarding reads them.
const MAX_HANDLED_BYTES: i64 = 16 << 20;

/// Which dead letters a call is about.
#[derive(Debug)]
pub(super) struct DeadLetterQuery {
    pub(super) filter: RecordFilter,
    pub(super) after: i64,
    pub(super) limit: usize,
}

/// The numbers of some records in order, and where to go on.
type Picked = (Vec<i64>, Option<i64>);

/// A page of records.
pub(super) fn page(reader: &Reader, query: &ListQuery) -> Result<Page, StoreError> {
    // One snapshot for the whole page: a record settled in between must not be seen twice or never.
    let snapshot = reader.conn.unchecked_transaction().map_err(read_error)?;
    let (seqs, next) = pick(reader, query).map_err(read_error)?;
    let records =
        seqs.into_iter().map(|seq| status_at(reader, seq).map(|(_, status)| status)).collect::<Result<_, _>>()?;
    snapshot.commit().map_err(read_error)?;
    Ok(Page { records, next })
}

/// The numbers of a page of dead letters, oldest first.
pub(super) fn dead_letters(reader: &Reader, query: &DeadLetterQuery) -> Result<Picked, StoreError> {
    let sieve = Sieve::of(reader, &query.filter);
    let limit = query.limit.clamp(1, MAX_HANDLED);
    let mut bytes = 0;
    let sql = sieve.select("dead_letters", "seq > ?1 order by t.seq");
    pick_in_order(&reader.conn, &sql, &[&query.after], &sieve, |picked, row| {
        bytes += row.get::<_, Option<i64>>("bytes")?.unwrap_or(0);
        Ok(picked < limit && bytes < MAX_HANDLED_BYTES)
    })
    .map_err(read_error)
}

/// The sequence numbers of a page, newest first, and where the next one starts.
fn pick(reader: &Reader, query: &ListQuery) -> rusqlite::Result<Picked> {
    let limit = query.limit.min(MAX_PAGE);
    let before = query.before.unwrap_or(i64::MAX);
    if limit == 0 {
        return Ok((Vec::new(), None));
    }
    let mut sieve = Sieve::of(reader, &query.filter);
    let table = match query.state {
        Some(state @ (DeliveryState::Accepted | DeliveryState::Delivering)) => {
            sieve.tried = Some(state == DeliveryState::Delivering);
            return pick_under_way(reader, &sieve, (before, limit));
        }
        Some(DeliveryState::Delivered) => "delivered",
        Some(DeliveryState::DeadLettered) => dead_letters_table(query),
        None if sieve.reason.is_some() => dead_letters_table(query),
        None => "records",
    };
    let sql = sieve.select(table, "seq < ?1 order by t.seq desc");
    pick_in_order(&reader.conn, &sql, &[&before], &sieve, |picked, _| Ok(picked < limit))
}

const fn dead_letters_table(query: &ListQuery) -> &'static str {
    if query.discarded { "discarded" } else { "dead_letters" }
}

/// A filter, made ready for rows.
struct Sieve<'a> {
    filter: &'a RecordFilter,
    /// The lanes that it lets through; `None` where it says nothing about lanes.
    lanes: Option<HashSet<i64>>,
    /// In lower case.
    reason: Option<String>,
    /// Only pending records that were tried before, or not.
    tried: Option<bool>,
}

impl<'a> Sieve<'a> {
    fn of(reader: &Reader, filter: &'a RecordFilter) -> Self {
        let RecordFilter { organization, work_stream, queue, .. } = filter;
        let any_lane = organization.is_none() && work_stream.is_none() && queue.is_none();
        let lanes = (!any_lane).then(|| {
            let figures = reader.board.figures();
            let wanted = figures.lanes.iter().filter(|backlog| {
                organization.is_none_or(|organization| organization == backlog.lane.organization)
                    && work_stream.is_none_or(|work_stream| work_stream == backlog.lane.work_stream)
                    && queue.as_ref().is_none_or(|queue| *queue == backlog.lane.queue)
            });
            wanted.map(|backlog| backlog.id.0).collect()
        });
        let reason =
            filter.reason_contains.as_ref().filter(|text| !text.is_empty()).map(|text| text.to_ascii_lowercase());
        Self { filter, lanes, reason, tried: None }
    }

    /// A selection from a table of states (`t`), with what the filter asks about, and no more: a look into the record
    /// costs a page.
    fn select(&self, table: &str, condition: &str) -> String {
        let RecordFilter { entity_logical_name, accepted_since, accepted_until, .. } = self.filter;
        let dead = table == "dead_letters";
        let looks = dead || entity_logical_name.is_some() || accepted_since.is_some() || accepted_until.is_some();
        let (entity, accepted_at, bytes, join) = if looks {
            ("r.entity_logical_name", "r.accepted_at", "length(r.details)", "left join records r on r.seq = t.seq")
        } else {
            ("null", "null", "null", "")
        };
        let text = match table {
            "records" => "null",
            "dead_letters" | "discarded" => "t.reason",
            _ => "t.last_error",
        };
        let attempts = if table == "pending" { "t.attempts" } else { "null" };
        format!(
            "select t.seq as seq, t.lane as lane, {text} as text, {attempts} as attempts, {entity} as entity, \
             {accepted_at} as accepted_at, {bytes} as bytes from {table} t {join} where t.{condition}"
        )
    }

    /// Whether a row of [`Sieve::select`] passes. What cannot be read passes, so that its damage is told.
    fn passes(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let lane: i64 = row.get("lane")?;
        if self.lanes.as_ref().is_some_and(|lanes| !lanes.contains(&lane)) {
            return Ok(false);
        }
        if let Some(tried) = self.tried
            && row.get::<_, Option<i64>>("attempts")?.is_some_and(|attempts| (attempts > 0) != tried)
        {
            return Ok(false);
        }
        if let Some(reason) = &self.reason {
            let text: Option<String> = row.get("text")?;
            if !text.is_some_and(|text| text.to_ascii_lowercase().contains(reason)) {
                return Ok(false);
            }
        }
        let RecordFilter { entity_logical_name, accepted_since, accepted_until, .. } = self.filter;
        if let Some(wanted) = entity_logical_name
            && row.get::<_, Option<String>>("entity")?.is_some_and(|entity| entity != wanted.as_str())
        {
            return Ok(false);
        }
        let accepted_at: Option<i64> = row.get("accepted_at")?;
        Ok(accepted_at.is_none_or(|at| {
            accepted_since.is_none_or(|since| at >= since.millis())
                && accepted_until.is_none_or(|until| at < until.millis())
        }))
    }
}

/// From a table that is in order of arrival, for as long as `go_on` says with what was picked so far.
fn pick_in_order(
    conn: &Connection,
    sql: &str,
    parameters: &[&dyn ToSql],
    sieve: &Sieve<'_>,
    mut go_on: impl FnMut(usize, &Row<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Picked> {
    if sieve.lanes.as_ref().is_some_and(HashSet::is_empty) {
        return Ok((Vec::new(), None));
    }
    let mut picked = Vec::new();
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query(parameters)?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get("seq")?;
        looked_at += 1;
        let full = if sieve.passes(row)? {
            picked.push(seq);
            !go_on(picked.len(), row)?
        } else {
            false
        };
        if full || looked_at == MAX_LOOKED_AT {
            return Ok((picked, Some(seq)));
        }
    }
    Ok((picked, None))
}

/// From the pending records, which are in order of arrival only within each lane, and with them those that wait.
fn pick_under_way(reader: &Reader, sieve: &Sieve<'_>, (before, limit): (i64, usize)) -> rusqlite::Result<Picked> {
    let lanes: Vec<i64> = match &sieve.lanes {
        Some(lanes) => lanes.iter().copied().collect(),
        None => reader.board.figures().lanes.iter().map(|backlog| backlog.id.0).collect(),
    };
    // Each source is looked through from its newest on, until it has given a page or was looked at enough.
    let enough = limit.max(MAX_LOOKED_AT / lanes.len().max(1));
    let mut found = Found { picked: Vec::new(), complete_from: i64::MIN, limit, enough };
    if sieve.tried == Some(true) {
        let sql = sieve.select("waiting", "seq < ?1 order by t.seq desc");
        found.look_through(reader, (&sql, &[&before]), sieve)?;
    }
    let sql = sieve.select("pending", "seq < ?1 and t.lane = ?2 order by t.seq desc");
    for lane in lanes {
        found.look_through(reader, (&sql, &[&before, &lane]), sieve)?;
    }
    let Found { mut picked, complete_from, .. } = found;
    picked.retain(|seq| *seq >= complete_from);
    picked.sort_unstable_by_key(|seq| std::cmp::Reverse(*seq));
    picked.truncate(limit);
    let next = if picked.len() == limit { picked.last().copied() } else { None };
    let short = (complete_from > i64::MIN).then_some(complete_from);
    Ok((picked, next.or(short)))
}

/// What several sources have given so far.
struct Found {
    picked: Vec<i64>,
    /// What is older may be missing: some source was not looked through to its end.
    complete_from: i64,
    /// What one source gives at most.
    limit: usize,
    /// How many of its rows are looked at for that.
    enough: usize,
}

impl Found {
    fn look_through(
        &mut self,
        reader: &Reader,
        (sql, parameters): (&str, &[&dyn ToSql]),
        sieve: &Sieve<'_>,
    ) -> rusqlite::Result<()> {
        let mut select = reader.conn.prepare_cached(sql)?;
        let mut rows = select.query(parameters)?;
        let (mut given, mut looked_at) = (0, 0);
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get("seq")?;
            if seq < self.complete_from {
                return Ok(());
            }
            looked_at += 1;
            if sieve.passes(row)? {
                self.picked.push(seq);
                given += 1;
            }
            if given == self.limit || looked_at == self.enough {
                self.complete_from = self.complete_from.max(seq);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What arrived after a record, in order.
pub(super) fn since(reader: &Reader, number: u64, limit: usize) -> Result<Vec<Arrival>, StoreError> {
    let Ok(after) = i64::try_from(number) else { return Ok(Vec::new()) };
    let arrival = |row: &Row<'_>| {
        let seq: i64 = row.get(0)?;
        let [organization, work_stream] = [row.get_ref(2)?.as_blob()?, row.get_ref(3)?.as_blob()?];
        let lane = row::lane_of(organization, work_stream, row.get_ref(4)?.as_str()?);
        let receipt = reader.mask.id_of(seq.cast_unsigned(), row.get(1)?);
        Ok((seq, lane.map(|lane| Arrival { number: seq.cast_unsigned(), receipt, lane })))
    };
    let mut select = reader
        .conn
        .prepare_cached(
            "select r.seq, r.receipt, l.organization, l.work_stream, l.queue from records r \
             join lanes l on l.id = r.lane where r.seq > ?1 order by r.seq limit ?2",
        )
        .map_err(read_error)?;
    let limit = i64::try_from(limit.min(MAX_ARRIVALS)).unwrap_or(i64::MAX);
    let rows = select.query_map([after, limit], arrival).map_err(read_error)?;
    let found: Vec<(i64, Option<Arrival>)> = rows.collect::<Result<_, _>>().map_err(read_error)?;
    let arrivals = found.into_iter().map(|(seq, arrival)| {
        arrival.ok_or_else(|| StoreError::Damaged(format!("record {seq}: its lane has no meaning")))
    });
    arrivals.collect()
}
