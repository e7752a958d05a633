//! Finding records by what they are like: a page of a list, the dead letters that a call is about, what arrived.
//!
//! A filter that few records pass must not read the whole store at once: a page is picked from a bounded number of
//! records, is then short, and says where to go on. The lanes that a filter lets through are known from memory; what else
//! it asks is looked up in the record, and only when it is asked.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;

use super::Shared;
use super::cluster::is_in_doubt;
use super::error::Fault;
use super::look::statuses;
use super::record::{COLUMNS, FROM, lane_in, read};
use crate::domain::time::Timestamp;
use crate::store::{Arrival, DeliveryState, ListQuery, MAX_HANDLED, Page, RecordFilter};

/// The most records on one page.
const MAX_PAGE: usize = 1_000;
/// The most arrivals that are told at once.
const MAX_ARRIVALS: usize = 4_096;
/// The most rows that one page is picked from.
const MAX_LOOKED_AT: usize = 20_000;
/// Rows that are read at once.
const PIECE: usize = 1_000;
/// The most bytes of bodies that dead letters handled in one call have together: discarding reads them.
const MAX_HANDLED_BYTES: usize = 16 << 20;

/// A commit that is under way on a cluster has come through everywhere by then, or was left behind.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// The numbers of some records in order, and where to go on.
type Picked = (Vec<i64>, Option<i64>);

/// A page of records.
pub(super) async fn page(shared: &Shared, query: &ListQuery) -> Result<Page, Fault> {
    let limit = query.limit.min(MAX_PAGE);
    if limit == 0 {
        return Ok(Page::default());
    }
    let source = Source::of(query);
    let mut search = Search::of(shared, &query.filter, source);
    search.position = query.before.unwrap_or(i64::MAX);
    let client = shared.database.pool().get().await?;
    let (seqs, next) = search.pick(&client, limit).await?;
    Ok(Page { records: statuses(shared, &client, &seqs).await?, next })
}

/// The numbers of a page of dead letters, oldest first.
pub(super) async fn pick_dead_letters(
    shared: &Shared,
    filter: &RecordFilter,
    after: i64,
    limit: usize,
) -> Result<Picked, Fault> {
    let mut search = Search::of(shared, filter, Source { oldest_first: true, ..Source::DEAD_LETTERS });
    search.position = after;
    search.pick(&shared.database.pool().get().await?, limit.clamp(1, MAX_HANDLED)).await
}

/// What is looked through: a selection of `seq, lane, text`, or two.
#[derive(Debug, Clone, Copy)]
struct Source {
    sql: &'static str,
    and: Option<&'static str>,
    /// A reason counts only here.
    has_text: bool,
    oldest_first: bool,
}

impl Source {
    const DEAD_LETTERS: Self = Self {
        sql: "select seq, lane, reason as text from dead_letters",
        and: None,
        has_text: true,
        oldest_first: false,
    };

    fn of(query: &ListQuery) -> Self {
        let with_text = |sql| Self { sql, and: None, has_text: true, oldest_first: false };
        let discarded = with_text("select seq, lane, reason as text from discarded");
        let by_reason = query.filter.reason_contains.as_ref().is_some_and(|reason| !reason.is_empty());
        match query.state {
            Some(DeliveryState::Accepted) => {
                with_text("select seq, lane, last_error as text from pending where attempts = 0")
            }
            Some(DeliveryState::Delivering) => Self {
                and: Some("select seq, lane, last_error as text from waiting"),
                ..with_text("select seq, lane, last_error as text from pending where attempts > 0")
            },
            Some(DeliveryState::Delivered) => with_text("select seq, lane, last_error as text from delivered"),
            Some(DeliveryState::DeadLettered) if query.discarded => discarded,
            Some(DeliveryState::DeadLettered) => Self::DEAD_LETTERS,
            None if by_reason && query.discarded => discarded,
            None if by_reason => Self::DEAD_LETTERS,
            None => Self {
                sql: "select seq, lane, null::text as text from records",
                and: None,
                has_text: false,
                oldest_first: false,
            },
        }
    }
}

/// One look through a source.
struct Search<'a> {
    shared: &'a Shared,
    filter: &'a RecordFilter,
    source: Source,
    /// The lanes that the filter lets through; `None` where it says nothing about lanes.
    lanes: Option<Vec<i64>>,
    /// In lower case.
    reason: Option<String>,
    position: i64,
}

impl<'a> Search<'a> {
    fn of(shared: &'a Shared, filter: &'a RecordFilter, source: Source) -> Self {
        let RecordFilter { organization, work_stream, queue, .. } = filter;
        let any_lane = organization.is_none() && work_stream.is_none() && queue.is_none();
        let lanes = (!any_lane).then(|| {
            let figures = shared.board.figures();
            let wanted = figures.lanes.iter().filter(|(_, (lane, _))| {
                organization.is_none_or(|organization| organization == lane.organization)
                    && work_stream.is_none_or(|work_stream| work_stream == lane.work_stream)
                    && queue.as_ref().is_none_or(|queue| *queue == lane.queue)
            });
            wanted.map(|(id, _)| id.0).collect()
        });
        let reason =
            filter.reason_contains.as_ref().filter(|text| !text.is_empty()).map(|text| text.to_ascii_lowercase());
        Self { shared, filter, source, lanes, reason, position: 0 }
    }

    /// Whether what it asks stands in the record itself.
    const fn asks_the_record(&self) -> bool {
        let RecordFilter { entity_logical_name, accepted_since, accepted_until, .. } = self.filter;
        entity_logical_name.is_some() || accepted_since.is_some() || accepted_until.is_some()
    }

    async fn pick(mut self, client: &Client, limit: usize) -> Result<Picked, Fault> {
        let (mut picked, mut looked_at, mut bytes) = (Vec::new(), 0, 0);
        loop {
            let piece = self.piece(client).await?;
            let whole = piece.len() == PIECE;
            for (seq, passes, body_bytes) in piece {
                looked_at += 1;
                self.position = seq;
                if passes {
                    picked.push(seq);
                    bytes += body_bytes;
                }
                let full = picked.len() == limit || (self.source.oldest_first && bytes >= MAX_HANDLED_BYTES);
                if full || looked_at == MAX_LOOKED_AT {
                    return Ok((picked, Some(seq)));
                }
            }
            if !whole {
                return Ok((picked, None));
            }
        }
    }

    /// Some rows behind the position: their numbers, whether they pass, and how long their bodies are.
    async fn piece(&self, client: &Client) -> Result<Vec<(i64, bool, usize)>, Fault> {
        let order = if self.source.oldest_first { "> $1 order by t.seq" } else { "< $1 order by t.seq desc" };
        let some = |of: &str| {
            format!(
                "select t.seq, t.text from ({of}) t \
                 where ($2::bigint[] is null or t.lane = any($2)) and t.seq {order} limit $3"
            )
        };
        let sql = self.source.and.map_or_else(
            || some(self.source.sql),
            |and| {
                // Each is cut short on its own: together they would be brought to one server whole.
                let both = format!("({}) union all ({})", some(self.source.sql), some(and));
                format!("select t.seq, t.text from ({both}) t where t.seq {order} limit $3")
            },
        );
        let select = client.prepare_cached(&sql).await?;
        let limit = i64::try_from(PIECE).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.position, &self.lanes, &limit];
        let rows = client.query(&select, &parameters).await?;
        let rows = rows.iter().map(|row| Ok((row.try_get(0)?, self.text_passes(row)?)));
        let rows: Vec<(i64, bool)> = rows.collect::<Result<_, Fault>>()?;
        if !self.asks_the_record() && !self.source.oldest_first {
            return Ok(rows.into_iter().map(|(seq, passes)| (seq, passes, 0)).collect());
        }
        let looked_up = self.look_up(client, rows.iter().map(|(seq, _)| *seq).collect()).await?;
        // What cannot be read passes, so that its damage is told.
        let of = |seq| looked_up.get(&seq).copied().unwrap_or((true, 0));
        let all = rows.into_iter().map(|(seq, passes)| (seq, passes && of(seq).0, of(seq).1));
        Ok(all.collect())
    }

    /// The records with these numbers: whether they pass, and how long their bodies are.
    async fn look_up(&self, client: &Client, seqs: Vec<i64>) -> Result<HashMap<i64, (bool, usize)>, Fault> {
        let columns = if self.asks_the_record() { COLUMNS } else { "null" };
        let select = format!("select r.seq, octet_length(r.body), {columns} from {FROM} where r.seq = any($1)");
        let select = client.prepare_cached(&select).await?;
        let rows = client.query(&select, &[&seqs]).await?;
        let looked_up = rows.iter().map(|row| {
            let (seq, bytes): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
            Ok((seq, (self.record_passes(row, seq), usize::try_from(bytes).unwrap_or(0))))
        });
        looked_up.collect()
    }

    fn text_passes(&self, row: &tokio_postgres::Row) -> Result<bool, Fault> {
        let Some(reason) = self.reason.as_ref().filter(|_| self.source.has_text) else { return Ok(true) };
        let text: Option<&str> = row.try_get(1)?;
        Ok(text.is_some_and(|text| text.to_ascii_lowercase().contains(reason)))
    }

    fn record_passes(&self, row: &tokio_postgres::Row, seq: i64) -> bool {
        if !self.asks_the_record() {
            return true;
        }
        let Ok(found) = read(row, 2, seq, &self.shared.mask) else { return true };
        let RecordFilter { entity_logical_name, accepted_since, accepted_until, .. } = self.filter;
        let at = found.record.accepted_at;
        accepted_since.is_none_or(|since| at >= since)
            && accepted_until.is_none_or(|until| at < until)
            && entity_logical_name.as_ref().is_none_or(|name| *name == found.record.entity_logical_name)
    }
}

/// What arrived after a record, in order. On a cluster a record can be seen before an older one whose commit has not come
/// through everywhere: then those behind it are left for another time.
pub(super) async fn since(shared: &Shared, number: u64, limit: usize) -> Result<Vec<Arrival>, Fault> {
    let Ok(after) = i64::try_from(number) else { return Ok(Vec::new()) };
    let client = shared.database.pool().get().await?;
    let select = client
        .prepare_cached(&format!("select {COLUMNS} from {FROM} where r.seq > $1 order by r.seq limit $2"))
        .await?;
    let limit = i64::try_from(limit.min(MAX_ARRIVALS)).unwrap_or(0);
    let rows = client.query(&select, &[&after, &limit]).await?;
    let mut arrivals = Vec::with_capacity(rows.len());
    let mut last = after;
    for row in &rows {
        let seq: i64 = row.try_get(0)?;
        if shared.is_distributed
            && seq > last + 1
            && may_still_arrive(&client, (last + 1, seq - 1), row.try_get(2)?).await?
        {
            break;
        }
        last = seq;
        arrivals.push(arrival(shared, row, seq)?);
    }
    Ok(arrivals)
}

/// Whether a record with one of these numbers, before one that was accepted at this moment, may be there and not be seen.
async fn may_still_arrive(client: &Client, (from, to): (i64, i64), accepted_at: i64) -> Result<bool, Fault> {
    let select = "select coalesce(sum(least(last, $2) - greatest(first, $1) + 1), 0)::bigint from deleted \
         where first <= $2 and last >= $1";
    let deleted: i64 = client.query_one(select, &[&from, &to]).await?.try_get(0)?;
    if deleted == to - from + 1 {
        return Ok(false);
    }
    let is_recent = accepted_at > Timestamp::now().before(SETTLED_AFTER).millis();
    Ok(is_recent || is_in_doubt(client, true).await?)
}

fn arrival(shared: &Shared, row: &tokio_postgres::Row, seq: i64) -> Result<Arrival, Fault> {
    let wrong = || Fault::Inconsistent(format!("record {seq}: its lane has no meaning"));
    let random = row.try_get::<_, &[u8]>(3)?.try_into().map_err(|_| wrong())?;
    let lane = lane_in(row, 0).ok_or_else(wrong)?;
    let number = seq.cast_unsigned();
    Ok(Arrival { number, receipt: shared.mask.id_of(number, random), lane })
}
