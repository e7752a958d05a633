//! Records that are under way: pending ones, which are in order of arrival only within each lane, those that were never
//! handed out, and those that wait.

use std::collections::HashMap;

use rusqlite::ToSql;

use super::super::block::Heads;
use super::{MAX_LOOKED_AT, Picked, Reader, Records, Sieve};
use crate::store::LaneId;

/// The newest of them all.
pub(super) fn pick(reader: &Reader, sieve: &Sieve<'_>, (before, limit): (i64, usize)) -> rusqlite::Result<Picked> {
    let lanes: Vec<i64> = match &sieve.lanes {
        Some(lanes) => lanes.iter().copied().collect(),
        None => reader.board.figures().lanes.iter().map(|backlog| backlog.id.0).collect(),
    };
    // Each source is looked through from its newest on, until it has given a page or was looked at enough.
    let enough = limit.max(MAX_LOOKED_AT / lanes.len().max(1));
    let mut found = Found { picked: Vec::new(), complete_from: i64::MIN, limit, enough };
    if sieve.tried == Some(true) {
        let sql = Sieve::select("waiting", "seq < ?1 order by t.seq desc");
        found.look_through(reader, (&sql, &[&before]), sieve)?;
    } else {
        found.look_through_untried(reader, before, sieve)?;
    }
    let sql = Sieve::select("pending", "seq < ?1 and t.lane = ?2 order by t.seq desc");
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
        let mut records = Records { reader, block: None };
        let mut select = reader.conn.prepare_cached(sql)?;
        let mut rows = select.query(parameters)?;
        let (mut given, mut looked_at) = (0, 0);
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if seq < self.complete_from {
                return Ok(());
            }
            looked_at += 1;
            if sieve.passes_itself(row)? && sieve.passes(seq, &mut records)? {
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

    fn look_through_untried(&mut self, reader: &Reader, before: i64, sieve: &Sieve<'_>) -> rusqlite::Result<()> {
        let from: HashMap<LaneId, i64> = reader
            .conn
            .prepare_cached("select id, untried_from from lanes")?
            .query_map([], |row| Ok((LaneId(row.get(0)?), row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let from = from.into_iter().filter(|(lane, _)| sieve.lets_lane_through(*lane)).collect::<HashMap<_, _>>();
        let Some(first) = from.values().min() else { return Ok(()) };
        let mut records = Records { reader, block: None };
        let (mut given, mut looked_at) = (0, 0);
        let mut select =
            reader.conn.prepare_cached("select first, heads from blocks where first < ?1 order by first desc")?;
        for heads in select.query_map([before], Heads::of)? {
            let heads = heads?;
            // In front of it nothing is untried in any lane.
            if heads.last() < *first {
                return Ok(());
            }
            for (seq, head) in heads.iter().rev().filter(|(seq, head)| *seq < before && head.is_there()) {
                looked_at += 1;
                let untried = from.get(&head.lane).is_some_and(|from| seq >= *from);
                if untried && sieve.passes(seq, &mut records)? {
                    self.picked.push(seq);
                    given += 1;
                }
                if given == self.limit || looked_at == MAX_LOOKED_AT {
                    self.complete_from = self.complete_from.max(seq);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
