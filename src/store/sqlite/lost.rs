//! Which records were lost to damage, as `streamgate recover` has written it down: ranges of sequence numbers, with when
//! and why.
//!
//! The table `lost` is there only in a store that was recovered. Its ranges are in `deleted` too, so that everything
//! which asks whether a number still has a record goes on as it is; what the table adds is that nobody takes these
//! records for forgotten ones, and that numbering goes on behind the last of them. A receipt whose record is gone has
//! lost its random part as well, so a receipt is known here by its number alone: one that was made up leads to such a
//! number next to never.

use rusqlite::Connection;

use super::deleted::Range;
use crate::domain::time::Timestamp;

/// Makes the table.
pub(super) const TABLE: &str = "
create table lost (
    first integer primary key,
    last integer not null,
    at integer not null,
    why text not null
);
";

/// Records that were lost at once, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostRange {
    /// Which.
    pub(super) range: Range,
    /// When the loss was written down.
    pub(super) at: Timestamp,
    /// What had become of them.
    pub(super) why: String,
}

/// All of them, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lost(Vec<LostRange>);

impl Lost {
    /// Reads them; none where there is no such table.
    pub(super) fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let there = "select count(*) from sqlite_schema where type = 'table' and name = 'lost'";
        if conn.query_row(there, [], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(Self::default());
        }
        let mut select = conn.prepare("select first, last, at, why from lost order by first")?;
        let ranges = select.query_map([], |row| {
            Ok(LostRange {
                range: Range { first: row.get(0)?, last: row.get(1)? },
                at: Timestamp::from_millis(row.get(2)?),
                why: row.get(3)?,
            })
        })?;
        Ok(Self(ranges.collect::<rusqlite::Result<_>>()?))
    }

    /// The loss that this record was part of.
    pub(super) fn of(&self, seq: i64) -> Option<&LostRange> {
        let at = self.0.partition_point(|lost| lost.range.last < seq);
        self.0.get(at).filter(|lost| lost.range.first <= seq)
    }

    /// The last of them; 0 where there is none.
    pub(super) fn last(&self) -> i64 {
        self.0.last().map_or(0, |lost| lost.range.last)
    }

    /// How many records.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|lost| lost.range.count()).sum()
    }

    /// All of them, in order.
    pub(super) fn ranges(&self) -> &[LostRange] {
        &self.0
    }
}
