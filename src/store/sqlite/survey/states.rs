//! The tables that say what became of a record, read past what cannot be read.

use rusqlite::types::Value;
use rusqlite::{Connection, Params, Row, params};

use super::walk::is_damage;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Number,
    /// A number of tries.
    Count,
    Text,
    MaybeNumber,
    MaybeText,
    MaybeBlob,
}

impl Column {
    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Number | Self::MaybeNumber, Value::Integer(_))
            | (Self::Text | Self::MaybeText, Value::Text(_))
            | (Self::MaybeBlob, Value::Blob(_))
            | (Self::MaybeNumber | Self::MaybeText | Self::MaybeBlob, Value::Null) => true,
            (Self::Count, Value::Integer(count)) => u32::try_from(*count).is_ok(),
            _ => false,
        }
    }
}

/// A table of states.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Table {
    /// Its name.
    pub(in crate::store::sqlite) name: &'static str,
    /// Its columns: the number, the lane, when, how often, and what else there is.
    columns: &'static [(&'static str, Column)],
    /// The state in words.
    pub(in crate::store::sqlite) state: &'static str,
}

use Column::{Count, MaybeBlob, MaybeNumber, MaybeText, Number, Text};

/// All of them. Records that were never handed out are in none.
pub(in crate::store::sqlite) static TABLES: [Table; 5] = [
    Table {
        name: "pending",
        columns: &[
            ("seq", Number),
            ("lane", Number),
            ("due_at", Number),
            ("attempts", Count),
            ("lease_token", MaybeBlob),
            ("last_error", MaybeText),
        ],
        state: "pending",
    },
    Table {
        name: "waiting",
        columns: &[
            ("seq", Number),
            ("lane", Number),
            ("since", Number),
            ("attempts", Count),
            ("closes_at", Number),
            ("last_error", MaybeText),
        ],
        state: "waiting",
    },
    Table {
        name: "delivered",
        columns: &[
            ("seq", Number),
            ("lane", Number),
            ("at", Number),
            ("attempts", Count),
            ("last_error", MaybeText),
            ("trimmed", MaybeNumber),
            ("closed_after_minutes", MaybeNumber),
        ],
        state: "delivered",
    },
    Table {
        name: "dead_letters",
        columns: &[("seq", Number), ("lane", Number), ("at", Number), ("attempts", Count), ("reason", Text)],
        state: "a dead letter",
    },
    Table {
        name: "discarded",
        columns: &[
            ("seq", Number),
            ("lane", Number),
            ("at", Number),
            ("attempts", Count),
            ("reason", Text),
            ("discarded_at", Number),
            ("discarded_by", Text),
            ("discarded_for", Text),
        ],
        state: "a discarded dead letter",
    },
];

/// A row of one of these tables.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store::sqlite) struct StateRow {
    /// Which of [`TABLES`].
    pub(in crate::store::sqlite) table: usize,
    /// The record.
    pub(in crate::store::sqlite) seq: i64,
    /// The lane that the row says.
    pub(in crate::store::sqlite) lane: i64,
    /// All columns, in the order of the table's description.
    pub(in crate::store::sqlite) values: Vec<Value>,
    /// Whether each column holds what it should.
    pub(in crate::store::sqlite) is_sound: bool,
}

impl StateRow {
    /// How often the record was tried.
    pub(in crate::store::sqlite) fn attempts(&self) -> u32 {
        match self.values.get(3) {
            Some(Value::Integer(attempts)) => u32::try_from(*attempts).unwrap_or(0),
            Some(_) | None => 0,
        }
    }
}

impl Table {
    /// The names of its columns, for a statement.
    pub(in crate::store::sqlite) fn column_names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// How many columns it has.
    pub(in crate::store::sqlite) const fn width(&self) -> usize {
        self.columns.len()
    }

    fn row(&self, table: usize, row: &Row<'_>) -> rusqlite::Result<StateRow> {
        let values = (0..self.columns.len()).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>()?;
        let is_sound = self.columns.iter().zip(&values).all(|((_, column), value)| column.fits(value));
        let number = |at: usize| match values.get(at) {
            Some(Value::Integer(number)) => *number,
            Some(_) | None => 0,
        };
        Ok(StateRow { table, seq: number(0), lane: number(1), values, is_sound })
    }

    fn select(
        &self,
        conn: &Connection,
        which: (usize, &str),
        params: impl Params,
        found: &mut Vec<StateRow>,
    ) -> Answer {
        let (table, which) = which;
        let sql = format!("select {} from {} where {which}", self.column_names(), self.name);
        let read = (|| {
            let mut select = conn.prepare_cached(&sql)?;
            let mut rows = select.query(params)?;
            while let Some(row) = rows.next()? {
                found.push(self.row(table, row)?);
            }
            Ok(())
        })();
        match read {
            Ok(()) => Ok(None),
            Err(fault) if is_damage(&fault) => Ok(Some(fault.to_string())),
            Err(fault) => Err(fault),
        }
    }
}

/// A table that could not be read to the end of what was asked for, and why.
pub(super) type Unread = (usize, String);

/// `Some`: why a part could not be read.
type Answer = rusqlite::Result<Option<String>>;

/// Reads the rows of a range of records, of all tables and these lanes. What could not be read is told with its table.
pub(super) fn of_range(
    conn: &Connection,
    (from, to): (i64, i64),
    lanes: &[i64],
) -> rusqlite::Result<(Vec<StateRow>, Vec<Unread>)> {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for (at, table) in TABLES.iter().enumerate() {
        if table.name == "pending" {
            // Its key begins with the lane.
            for lane in lanes {
                let which = (at, "lane = ?1 and seq between ?2 and ?3");
                unread.extend(table.select(conn, which, params![lane, from, to], &mut found)?.map(|why| (at, why)));
            }
        } else {
            let which = (at, "seq between ?1 and ?2");
            unread.extend(table.select(conn, which, params![from, to], &mut found)?.map(|why| (at, why)));
        }
    }
    Ok((found, unread))
}

/// Looks for the rows of one record in one table.
pub(super) fn of_record(conn: &Connection, at: usize, (seq, lane): (i64, i64), found: &mut Vec<StateRow>) -> Answer {
    match TABLES.get(at) {
        Some(table) if table.name == "pending" => {
            table.select(conn, (at, "lane = ?1 and seq = ?2"), params![lane, seq], found)
        }
        Some(table) => table.select(conn, (at, "seq = ?1"), params![seq], found),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::format;

    #[test]
    fn every_table_is_described_as_it_is() {
        let conn = Connection::open_in_memory().unwrap();
        format::upgrade(&conn, 0).unwrap();
        for table in &TABLES {
            let width: i64 =
                conn.query_row("select count(*) from pragma_table_info(?1)", [table.name], |row| row.get(0)).unwrap();
            assert_eq!(width.unsigned_abs(), table.width() as u64, "{}", table.name);
            conn.prepare(&format!("select {} from {}", table.column_names(), table.name)).unwrap();
        }
    }
}
