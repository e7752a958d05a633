//! Trimming: a record's details are replaced by their hash, and what rules saw of them goes too.
//!
//! A row that only became shorter would leave its page as it is, half empty, and no page would ever become free. So the
//! rows of a slice are taken out together and put in again: the pages that they filled are given back, and what is left
//! of them moves closer together.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params_from_iter};

use super::batch::Batch;
use super::row::{self, Trimmed};

/// Every column but the two that are replaced whole, and how many they are. The route changes too.
const COLUMNS: &str = "seq, lane, receipt, duplicate_key, entity_logical_name, entity_set_name, record_id, \
     relationship_name, route, catalog_generation, accepted_at, traceparent, client_tracking_id";
const COLUMN_COUNT: usize = 13;
const ROUTE_COLUMN: usize = 8;

impl Batch<'_> {
    /// Trims a record. The details of a damaged one stay: a fresh checksum would call them sound.
    pub(super) fn trim(&self, seq: i64) -> rusqlite::Result<()> {
        match row::trimmed(self.conn, seq)? {
            Ok(Some(trimmed)) => {
                self.rewrite(std::iter::once(&trimmed))?;
            }
            Ok(None) => {}
            Err(damage) => tracing::error!(%damage, "the details of a damaged record are not trimmed"),
        }
        Ok(())
    }

    /// Trims delivered records that were read before, and marks all of them as looked at. Answers how many were
    /// trimmed.
    pub(super) fn trim_delivered(&self, records: &[(i64, Option<Trimmed>)]) -> rusqlite::Result<u64> {
        let mut mark =
            self.conn.prepare_cached("update delivered set trimmed = 1 where seq = ?1 and trimmed is null")?;
        let mut trimmed = Vec::with_capacity(records.len());
        for (seq, record) in records {
            if mark.execute([seq])? == 1 {
                trimmed.extend(record);
            }
        }
        self.rewrite(trimmed.into_iter())
    }

    /// Rewrites the rows that are there. Answers how many.
    fn rewrite<'t>(&self, records: impl Iterator<Item = &'t Trimmed>) -> rusqlite::Result<u64> {
        let mut delete =
            self.conn.prepare_cached(&format!("delete from records where seq = ?1 returning {COLUMNS}"))?;
        let mut rows: Vec<Vec<Value>> = Vec::new();
        for trimmed in records {
            let row = delete.query_row([trimmed.seq], |row| {
                (0..COLUMN_COUNT).map(|column| row.get(column)).collect::<rusqlite::Result<Vec<Value>>>()
            });
            if let Some(mut row) = row.optional()? {
                if let Some(route) = row.get_mut(ROUTE_COLUMN) {
                    *route = Value::from(trimmed.route.clone());
                }
                row.extend([Value::from(trimmed.crc), Value::from(trimmed.sha256_hex.clone())]);
                rows.push(row);
            }
        }
        let mut insert = self.conn.prepare_cached(&format!(
            "insert into records ({COLUMNS}, crc, details) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
        ))?;
        let count = rows.len() as u64;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
        Ok(count)
    }
}
