//! What a copy came to.

use serde::Serialize;

/// A table, the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedTable {
    /// Its name in the database.
    pub table: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// SHA-256 over all of them, in hex: of what was read from the files, and of what was read back from the database.
    pub sha256: String,
}

/// A copy that is complete, and was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// The number of the newest record.
    pub newest: i64,
    /// Up to which record an earlier run had come, where this one went on with its work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_after: Option<i64>,
    /// Every table, with what was compared.
    pub tables: Vec<CopiedTable>,
    /// Keys by which repeats are recognized.
    pub duplicate_keys: u64,
    /// The file in the data directory that keeps gateways from starting on the files.
    pub marked: String,
    /// Records that were deleted, or are written down as lost: numbers without a record.
    pub gone: u64,
    /// Of these: written down as lost.
    pub lost_and_written_down: u64,
    /// Texts in which NULs became U+FFFD, since PostgreSQL takes none: error messages, mostly.
    pub texts_changed: u64,
}

impl Copied {
    /// How many rows a table has.
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.iter().find(|copied| copied.table == table).map_or(0, |copied| copied.rows)
    }
}
