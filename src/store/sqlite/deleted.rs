//! Which records were deleted: ranges of sequence numbers, so that a record that is gone on purpose is told apart from
//! one that was lost.
//!
//! Ranges that would touch become one. What is settled is deleted oldest first, so there are few of them: about one
//! more than there are old records that were kept.

use rusqlite::{Connection, OptionalExtension, params};

use super::batch::{Batch, Tally};

/// Whether this record was deleted.
pub(super) fn covers(conn: &Connection, seq: i64) -> rusqlite::Result<bool> {
    Ok(range_before(conn, seq)?.is_some_and(|range| range.last >= seq))
}

/// From the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Range {
    /// Whether it can be a range of deleted records behind the first place that is free for one.
    pub(super) const fn may_follow(self, free: i64, (high_water, lost): (i64, i64)) -> bool {
        self.first > free && self.first <= self.last && (self.last < high_water || self.last <= lost)
    }

    /// How many records it has.
    pub(super) const fn count(self) -> u64 {
        if self.first > self.last { 0 } else { self.last.abs_diff(self.first).saturating_add(1) }
    }
}

/// The last range that starts at this record or before it.
fn range_before(conn: &Connection, seq: i64) -> rusqlite::Result<Option<Range>> {
    conn.prepare_cached("select first, last from deleted where first <= ?1 order by first desc limit 1")?
        .query_row([seq], |row| Ok(Range { first: row.get(0)?, last: row.get(1)? }))
        .optional()
}

impl Batch<'_> {
    /// Notes that these records were deleted; they stand in order.
    pub(super) fn note_deleted(&self, seqs: &[i64]) -> rusqlite::Result<()> {
        for run in seqs.chunk_by(|one, next| one + 1 == *next) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.add_range(Range { first: *first, last: *last })?;
            }
        }
        Ok(())
    }

    fn add_range(&self, Range { mut first, mut last }: Range) -> rusqlite::Result<()> {
        let before = range_before(self.conn, first - 1)?;
        if let Some(touching) = before.filter(|before| before.last == first - 1) {
            first = touching.first;
        }
        let behind = self
            .conn
            .prepare_cached("delete from deleted where first = ?1 returning last")?
            .query_row([last + 1], |row| row.get(0))
            .optional()?;
        last = behind.unwrap_or(last);
        self.conn
            .prepare_cached(
                "insert into deleted (first, last) values (?1, ?2) on conflict (first) do update set last = excluded.last",
            )?
            .execute(params![first, last])?;
        Ok(())
    }
}

/// All ranges, in order, as a start reads them.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<Range>);

impl Ranges {
    /// Reads them; `Err` says which one cannot be. The newest record is never deleted, but may have been `lost`.
    pub(super) fn read(conn: &Connection, (high_water, lost): (i64, i64)) -> rusqlite::Result<Result<Self, String>> {
        let mut select = conn.prepare("select first, last from deleted order by first")?;
        let mut rows = select.query([])?;
        let mut ranges: Vec<Range> = Vec::new();
        while let Some(row) = rows.next()? {
            let range = Range { first: row.get(0)?, last: row.get(1)? };
            // The first free place: a range that begins there would have become part of the one before.
            let free = ranges.last().map_or(0, |before| before.last + 1);
            if !range.may_follow(free, (high_water, lost)) {
                let Range { first, last } = range;
                return Ok(Err(format!("the records {first} to {last} cannot have been deleted")));
            }
            ranges.push(range);
        }
        Ok(Ok(Self(ranges)))
    }

    /// Those of these that can be, which stand in order.
    pub(super) const fn of(in_order: Vec<Range>) -> Self {
        Self(in_order)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }

    /// Their records, counted.
    pub(super) fn tally(&self) -> Tally {
        self.0.iter().fold(Tally::default(), |tally, range| {
            tally.plus(Tally::of_all_up_to(range.last).minus(Tally::of_all_up_to(range.first - 1)))
        })
    }

    /// The first run of records between these two, both included, that were not deleted.
    pub(super) fn first_kept(&self, from: i64, to: i64) -> Option<Range> {
        let at = self.0.partition_point(|range| range.last < from);
        let next = self.0.get(at);
        let first = next.filter(|range| range.first <= from).map_or(from, |range| range.last + 1);
        let behind = self.0.get(self.0.partition_point(|range| range.last < first));
        let last = behind.map_or(to, |range| to.min(range.first - 1));
        (first <= last).then_some(Range { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_deleted_is_found_between_what_was() {
        let ranges = Ranges([(1, 3), (5, 9), (20, 20)].map(|(first, last)| Range { first, last }).to_vec());
        let kept = |from, to| ranges.first_kept(from, to).map(|range| (range.first, range.last));
        assert_eq!(kept(1, 3), None);
        assert_eq!(kept(1, 4), Some((4, 4)));
        assert_eq!(kept(2, 30), Some((4, 4)));
        assert_eq!(kept(5, 9), None);
        assert_eq!(kept(5, 30), Some((10, 19)));
        assert_eq!(kept(12, 14), Some((12, 14)));
        assert_eq!(kept(20, 30), Some((21, 30)));
        assert_eq!(kept(21, 21), Some((21, 21)));
        assert_eq!(Ranges::default().first_kept(1, 2), Some(Range { first: 1, last: 2 }));
        assert_eq!(ranges.tally(), Tally { count: 9, sum: 1 + 2 + 3 + 5 + 6 + 7 + 8 + 9 + 20 });
    }
}
