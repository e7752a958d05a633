//! Finding records by what they are like: a page of a list, or the dead letters that a call is about.
//!
//! A filter that few records pass must not read the whole store at once: a page is picked from a bounded number of
//! records, is then short, and says where to go on. The lanes that a filter lets through are known from memory; what else
//! it asks is looked up in the record, and only when it is asked.

mod under_way;

use std::collections::{HashMap, HashSet, hash_map};
use std::ops::ControlFlow;

use rusqlite::{Row, ToSql};

use super::block::{self, Block, Head, Heads};
use super::error::read_error;
use super::look::status_at;
use super::reader::Reader;
use super::row;
use crate::domain::ids::LogicalName;
use crate::store::{Arrival, DeliveryState, Lane, LaneId, ListQuery, MAX_HANDLED, Page, RecordFilter, StoreError};

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
    let sql = Sieve::select("dead_letters", "seq > ?1 order by t.seq");
    pick_in_order(reader, &sql, &[&query.after], &sieve, |picked, seq, records| {
        bytes += records.head(seq)?.map_or(0, |head| i64::from(head.body_bytes));
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
            return under_way::pick(reader, &sieve, (before, limit));
        }
        Some(DeliveryState::Delivered) => "delivered",
        Some(DeliveryState::DeadLettered) => dead_letters_table(query),
        None if sieve.reason.is_some() => dead_letters_table(query),
        None => return pick_of_all(reader, &sieve, (before, limit)),
    };
    let sql = Sieve::select(table, "seq < ?1 order by t.seq desc");
    pick_in_order(reader, &sql, &[&before], &sieve, |picked, _, _| Ok(picked < limit))
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

    /// A selection from a table of states (`t`).
    fn select(table: &str, condition: &str) -> String {
        let text = if matches!(table, "dead_letters" | "discarded") { "t.reason" } else { "t.last_error" };
        let attempts = if table == "pending" { "t.attempts" } else { "null" };
        format!("select t.seq, t.lane, {text}, {attempts} from {table} t where t.{condition}")
    }

    fn lets_lane_through(&self, lane: LaneId) -> bool {
        self.lanes.as_ref().is_none_or(|lanes| lanes.contains(&lane.0))
    }

    /// Whether a row of [`Sieve::select`] passes, as far as it says it itself.
    fn passes_itself(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        if !self.lets_lane_through(LaneId(row.get(1)?)) {
            return Ok(false);
        }
        if let Some(tried) = self.tried
            && row.get::<_, Option<i64>>(3)?.is_some_and(|attempts| (attempts > 0) != tried)
        {
            return Ok(false);
        }
        let Some(reason) = &self.reason else { return Ok(true) };
        let text: Option<String> = row.get(2)?;
        Ok(text.is_some_and(|text| text.to_ascii_lowercase().contains(reason)))
    }

    /// Whether the record passes. What cannot be read passes, so that its damage is told.
    fn passes(&self, seq: i64, records: &mut Records<'_>) -> rusqlite::Result<bool> {
        let RecordFilter { entity_logical_name, accepted_since, accepted_until, .. } = self.filter;
        if accepted_since.is_some() || accepted_until.is_some() {
            let Some(head) = records.head(seq)? else { return Ok(true) };
            let at = head.accepted_at;
            if accepted_since.is_some_and(|since| at < since.millis())
                || accepted_until.is_some_and(|until| at >= until.millis())
            {
                return Ok(false);
            }
        }
        let Some(wanted) = entity_logical_name else { return Ok(true) };
        let entity = records.entity(seq)?;
        Ok(entity.is_none_or(|entity| entity == *wanted))
    }
}

/// The records that are looked into: neighbours lie in one block, which is read once.
struct Records<'a> {
    reader: &'a Reader,
    block: Option<Block>,
}

impl Records<'_> {
    fn block(&mut self, seq: i64) -> rusqlite::Result<Option<&Block>> {
        let fits = |block: &Block| block.heads.span(seq);
        if !self.block.as_ref().is_some_and(fits) {
            self.block = Block::around(&self.reader.conn, seq)?;
        }
        Ok(self.block.as_ref())
    }

    fn head(&mut self, seq: i64) -> rusqlite::Result<Option<Head>> {
        Ok(self.block(seq)?.and_then(|block| block.heads.get(seq)))
    }

    /// Which kind of record it is; `None` where it cannot be read.
    fn entity(&mut self, seq: i64) -> rusqlite::Result<Option<LogicalName>> {
        let reader = self.reader;
        let Some(block) = self.block(seq)? else { return Ok(None) };
        let Some(head) = block.heads.get(seq) else { return Ok(None) };
        let lane = row::lane(&reader.conn, head.lane)?;
        let read = row::decode(block, seq, lane.as_ref(), &reader.mask);
        Ok(read.ok().map(|read| read.record.entity_logical_name))
    }
}

/// From a table that is in order of arrival, for as long as `go_on` says, with how many were picked so far.
fn pick_in_order(
    reader: &Reader,
    sql: &str,
    parameters: &[&dyn ToSql],
    sieve: &Sieve<'_>,
    mut go_on: impl FnMut(usize, i64, &mut Records<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Picked> {
    if sieve.lanes.as_ref().is_some_and(HashSet::is_empty) {
        return Ok((Vec::new(), None));
    }
    let mut records = Records { reader, block: None };
    let mut picked = Vec::new();
    let mut select = reader.conn.prepare_cached(sql)?;
    let mut rows = select.query(parameters)?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        looked_at += 1;
        let full = if sieve.passes_itself(row)? && sieve.passes(seq, &mut records)? {
            picked.push(seq);
            !go_on(picked.len(), seq, &mut records)?
        } else {
            false
        };
        if full || looked_at == MAX_LOOKED_AT {
            return Ok((picked, Some(seq)));
        }
    }
    Ok((picked, None))
}

/// From all records, in whatever state.
fn pick_of_all(reader: &Reader, sieve: &Sieve<'_>, (before, limit): (i64, usize)) -> rusqlite::Result<Picked> {
    if sieve.lanes.as_ref().is_some_and(HashSet::is_empty) {
        return Ok((Vec::new(), None));
    }
    let mut records = Records { reader, block: None };
    let (mut picked, mut looked_at) = (Vec::new(), 0);
    let mut select =
        reader.conn.prepare_cached("select first, heads from blocks where first < ?1 order by first desc")?;
    for heads in select.query_map([before], Heads::of)? {
        for (seq, head) in heads?.iter().rev().filter(|(seq, head)| *seq < before && head.is_there()) {
            looked_at += 1;
            if sieve.lets_lane_through(head.lane) && sieve.passes(seq, &mut records)? {
                picked.push(seq);
            }
            if picked.len() == limit || looked_at == MAX_LOOKED_AT {
                return Ok((picked, Some(seq)));
            }
        }
    }
    Ok((picked, None))
}

/// What arrived after a record, in order.
pub(super) fn since(reader: &Reader, number: u64, limit: usize) -> Result<Vec<Arrival>, StoreError> {
    let Ok(after) = i64::try_from(number) else { return Ok(Vec::new()) };
    let found = heads_since(reader, after, limit.min(MAX_ARRIVALS)).map_err(read_error)?;
    let mut lanes: HashMap<LaneId, Option<Lane>> = HashMap::new();
    let mut arrivals = Vec::with_capacity(found.len());
    for (seq, head) in found {
        let lane = match lanes.entry(head.lane) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(unknown) => unknown.insert(row::lane(&reader.conn, head.lane).map_err(read_error)?),
        };
        let lane = lane.clone().ok_or_else(|| StoreError::Damaged(format!("record {seq}: its lane has no meaning")))?;
        let (number, receipt) = (seq.cast_unsigned(), reader.mask.id_of(seq.cast_unsigned(), head.random));
        arrivals.push(Arrival { number, receipt, lane });
    }
    Ok(arrivals)
}

fn heads_since(reader: &Reader, after: i64, limit: usize) -> rusqlite::Result<Vec<(i64, Head)>> {
    let mut found = Vec::new();
    block::heads_after(&reader.conn, after, |seq, head| {
        if found.len() == limit {
            return ControlFlow::Break(());
        }
        found.push((seq, head));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
