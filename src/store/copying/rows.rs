//! Rows on their way from one engine to another: what each table has, and a seal over all rows of a table, by which two
//! engines are compared.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// What stands in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A number; moments are milliseconds since 1970.
    Number(i64),
    /// A text without NULs.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A GUID.
    Guid([u8; 16]),
}

/// What may stand in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    /// Yes or no.
    Flag,
    /// A number.
    Number,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// A GUID.
    Guid,
}

/// A row: a value for each column of its table.
pub(in crate::store) type Row = Vec<Value>;

/// Rows by table, in the order in which they are sealed.
pub(in crate::store) type Rows = BTreeMap<Table, Vec<Row>>;

/// A table of the database that is copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) enum Table {
    /// What lanes stand for.
    Lanes,
    /// The records.
    Records,
    /// Records that are to be delivered.
    Pending,
    /// Records that wait.
    Waiting,
    /// Records that were delivered.
    Delivered,
    /// Records that were given up.
    DeadLetters,
    /// Dead letters that were put away.
    Discarded,
    /// Numbers of records that were deleted.
    Deleted,
    /// Numbers of records that damage took.
    Lost,
    /// Organizations of the catalog.
    Organizations,
    /// API keys of the catalog.
    ApiKeys,
    /// The audit trail.
    Audit,
    /// Who is subscribed.
    Subscriptions,
    /// What subscribers are still to be told.
    Notices,
}

use Kind::{Bytes, Flag, Guid, Number, Text};

/// The names of columns, and what stands in each.
type Columns = [(&'static str, Kind)];

const LANES: &Columns = &[("organization_id", Guid), ("id", Number), ("work_stream_id", Guid), ("queue", Text)];
const RECORDS: &Columns = &[
    ("organization_id", Guid),
    ("seq", Number),
    ("lane", Number),
    ("accepted_at", Number),
    ("random", Bytes),
    ("key", Bytes),
    ("crc", Number),
    ("body", Bytes),
];
const PENDING: &Columns = &[
    ("organization_id", Guid),
    ("lane", Number),
    ("seq", Number),
    ("due_at", Number),
    ("attempts", Number),
    ("lease_token", Bytes),
    ("last_error", Text),
];
const WAITING: &Columns = &[
    ("organization_id", Guid),
    ("seq", Number),
    ("lane", Number),
    ("since", Number),
    ("closes_at", Number),
    ("attempts", Number),
    ("last_error", Text),
];
const DELIVERED: &Columns = &[
    ("organization_id", Guid),
    ("seq", Number),
    ("lane", Number),
    ("at", Number),
    ("attempts", Number),
    ("last_error", Text),
    ("closed_after_minutes", Number),
    ("trimmed", Flag),
];
const DEAD_LETTERS: &Columns = &[
    ("organization_id", Guid),
    ("seq", Number),
    ("lane", Number),
    ("at", Number),
    ("attempts", Number),
    ("reason", Text),
];
const DISCARDED: &Columns = &[
    ("organization_id", Guid),
    ("seq", Number),
    ("lane", Number),
    ("at", Number),
    ("attempts", Number),
    ("reason", Text),
    ("discarded_at", Number),
    ("discarded_by", Text),
    ("discarded_for", Text),
];
const DELETED: &Columns = &[("first", Number), ("last", Number)];
const LOST: &Columns = &[("first", Number), ("last", Number), ("at", Number), ("why", Text)];
const ORGANIZATIONS: &Columns = &[("organization_id", Guid), ("document", Text), ("crc", Number)];
const API_KEYS: &Columns = &[("name", Text), ("document", Text), ("crc", Number)];
const AUDIT: &Columns = &[
    ("seq", Number),
    ("change_id", Bytes),
    ("at", Number),
    ("organization_id", Guid),
    ("resource", Text),
    ("entry", Text),
    ("crc", Number),
];
const SUBSCRIPTIONS: &Columns = &[
    ("organization_id", Guid),
    ("id", Bytes),
    ("number", Number),
    ("document", Text),
    ("crc", Number),
    ("after", Number),
    ("ended_at", Number),
    ("ended_because", Text),
    ("delivered", Number),
    ("last_delivered_at", Number),
];
const NOTICES: &Columns = &[
    ("organization_id", Guid),
    ("subscription", Bytes),
    ("number", Number),
    ("receipt", Bytes),
    ("at", Number),
    ("due_at", Number),
    ("attempts", Number),
    ("last_error", Text),
    ("dead_at", Number),
];

impl Table {
    /// All of them.
    pub(in crate::store) const ALL: [Self; 14] = [
        Self::Lanes,
        Self::Records,
        Self::Pending,
        Self::Waiting,
        Self::Delivered,
        Self::DeadLetters,
        Self::Discarded,
        Self::Deleted,
        Self::Lost,
        Self::Organizations,
        Self::ApiKeys,
        Self::Audit,
        Self::Subscriptions,
        Self::Notices,
    ];

    /// Its name in the database.
    pub(in crate::store) const fn name(self) -> &'static str {
        match self {
            Self::Lanes => "lanes",
            Self::Records => "records",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::DeadLetters => "dead_letters",
            Self::Discarded => "discarded",
            Self::Deleted => "deleted",
            Self::Lost => "lost",
            Self::Organizations => "catalog_organizations",
            Self::ApiKeys => "catalog_api_keys",
            Self::Audit => "audit",
            Self::Subscriptions => "subscriptions",
            Self::Notices => "notices",
        }
    }

    /// Its columns there, in the order of a row.
    pub(in crate::store) const fn columns(self) -> &'static [(&'static str, Kind)] {
        match self {
            Self::Lanes => LANES,
            Self::Records => RECORDS,
            Self::Pending => PENDING,
            Self::Waiting => WAITING,
            Self::Delivered => DELIVERED,
            Self::DeadLetters => DEAD_LETTERS,
            Self::Discarded => DISCARDED,
            Self::Deleted => DELETED,
            Self::Lost => LOST,
            Self::Organizations => ORGANIZATIONS,
            Self::ApiKeys => API_KEYS,
            Self::Audit => AUDIT,
            Self::Subscriptions => SUBSCRIPTIONS,
            Self::Notices => NOTICES,
        }
    }
}

/// A seal over rows, in their order.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Seal {
    rows: u64,
    hash: Sha256,
}

/// What a seal came to. Two tables with the same one hold the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Sealed {
    /// How many rows.
    pub(in crate::store) rows: u64,
    /// SHA-256 over all values, each with its kind and its length.
    pub(in crate::store) sha256: [u8; 32],
}

impl Seal {
    /// Takes a row in.
    pub(in crate::store) fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            match value {
                Value::Null => self.part(0, &[]),
                Value::Flag(flag) => self.part(1, &[u8::from(*flag)]),
                Value::Number(number) => self.part(2, &number.to_le_bytes()),
                Value::Text(text) => self.part(3, text.as_bytes()),
                Value::Bytes(bytes) => self.part(4, bytes),
                Value::Guid(guid) => self.part(5, guid),
            }
        }
    }

    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.hash.update([kind]);
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    /// Ends it.
    pub(in crate::store) fn finish(self) -> Sealed {
        Sealed { rows: self.rows, sha256: self.hash.finalize().into() }
    }
}

/// A seal for each table.
#[derive(Debug, Default)]
pub(in crate::store) struct Seals(BTreeMap<Table, Seal>);

impl Seals {
    /// Takes rows in.
    pub(in crate::store) fn add(&mut self, rows: &Rows) {
        for (table, rows) in rows {
            self.add_to(*table, rows);
        }
    }

    /// Takes rows of one table in.
    pub(in crate::store) fn add_to(&mut self, table: Table, rows: &[Row]) {
        let seal = self.0.entry(table).or_default();
        rows.iter().for_each(|row| seal.add(row));
    }

    /// Ends all of them, also those of tables without rows.
    pub(in crate::store) fn finish(mut self) -> BTreeMap<Table, Sealed> {
        Table::ALL.into_iter().map(|table| (table, self.0.remove(&table).unwrap_or_default().finish())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(rows: &[Row]) -> Sealed {
        let mut seal = Seal::default();
        rows.iter().for_each(|row| seal.add(row));
        seal.finish()
    }

    #[test]
    fn whatever_differs_has_another_seal() {
        let text = |text: &str| Value::Text(text.to_owned());
        let all = [
            vec![],
            vec![vec![Value::Null]],
            vec![vec![Value::Number(0)]],
            vec![vec![Value::Flag(false)]],
            vec![vec![text("")]],
            vec![vec![Value::Bytes(Vec::new())]],
            vec![vec![text("a"), text("bc")]],
            vec![vec![text("ab"), text("c")]],
            vec![vec![Value::Bytes(vec![0; 16])]],
            vec![vec![Value::Guid([0; 16])]],
            vec![vec![text("a")], vec![text("b")]],
            vec![vec![text("b")], vec![text("a")]],
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(sealed(one), sealed(one));
            for other in all.iter().skip(at + 1) {
                assert_ne!(sealed(one), sealed(other), "{one:?} and {other:?}");
            }
        }
    }
}
