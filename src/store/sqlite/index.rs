//! `index.db`: the keys of older records, sorted. Derived data: whenever it is in doubt, it is made again.
//!
//! It is its own database with its own log, so that its random writes stay out of the commits of `records.db`. It may
//! lose its latest transactions in a power loss (`synchronous = normal`), but never half of one: its `merged_to` says
//! up to which record its keys are complete, and a start adds the rest from `records.db`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::block::Heads;
use super::duplicates::{Recent, Seen};
use super::error::OpenError;
use super::row::DuplicateKey;
use super::schema;
use crate::store::receipt_id::SECRET_BYTES;

/// The file.
pub(super) const INDEX: &str = "index.db";
const VERSION: u32 = 1;
const TABLES: &str = "
create table meta (
    id integer primary key check (id = 1),
    store blob not null,
    merged_to integer not null
);
create table keys (
    key blob primary key,
    seq integer not null,
    accepted_at integer not null
) without rowid;
";

/// Which store an index belongs to.
pub(super) type StoreMark = [u8; 32];

/// What tells this store from every other, without telling its secret.
pub(super) fn mark_of(secret: &[u8; SECRET_BYTES]) -> StoreMark {
    Sha256::new().chain_update(b"streamgate index of ").chain_update(secret).finalize().into()
}

/// The index, open for merging.
pub(super) struct Index {
    pub(super) conn: Connection,
    path: PathBuf,
}

impl Index {
    /// Opens the index of this store; one that is missing, damaged or another store's is replaced by an empty one.
    pub(super) fn open(dir: &Path, store: &StoreMark) -> Result<(Self, i64), OpenError> {
        let path = dir.join(INDEX);
        if path.exists() {
            match open_existing(&path, store) {
                Ok((conn, Some(merged_to))) => return Ok((Self { conn, path }, merged_to)),
                Ok((_, None)) => tracing::warn!("the index of duplicate keys is not this store's; making it again"),
                Err(error) => tracing::warn!(%error, "the index of duplicate keys is damaged; making it again"),
            }
        }
        schema::remove_database(&path).map_err(OpenError::io("cannot clear", &path))?;
        schema::open_private(&path).map_err(OpenError::io("cannot make", &path))?;
        let conn = create(&path, store).map_err(OpenError::sqlite(&path))?;
        Ok((Self { conn, path }, 0))
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts keys in, in one transaction; `merged_to` too, when they complete it. A newer record's key wins.
    pub(super) fn merge(&self, keys: &[(DuplicateKey, Seen)], merged_to: Option<i64>) -> rusqlite::Result<()> {
        let transaction = self.conn.unchecked_transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "insert into keys (key, seq, accepted_at) values (?1, ?2, ?3) on conflict (key) do update \
                 set seq = excluded.seq, accepted_at = excluded.accepted_at where excluded.seq > keys.seq",
            )?;
            for (key, seen) in keys {
                insert.execute(params![key, seen.seq, seen.accepted_at_seconds])?;
            }
        }
        if let Some(merged_to) = merged_to {
            transaction.prepare_cached("update meta set merged_to = ?1 where id = 1")?.execute([merged_to])?;
        }
        transaction.commit()
    }

    /// Takes the keys of deleted records out, in one transaction; not those that stand for another record by now.
    pub(super) fn forget(&self, keys: &[(DuplicateKey, i64)]) -> rusqlite::Result<()> {
        let transaction = self.conn.unchecked_transaction()?;
        {
            let mut delete = transaction.prepare_cached("delete from keys where key = ?1 and seq = ?2")?;
            for (key, seq) in keys {
                delete.execute(params![key, seq])?;
            }
        }
        transaction.commit()
    }
}

fn open_existing(path: &Path, store: &StoreMark) -> rusqlite::Result<(Connection, Option<i64>)> {
    let conn = configure(schema::open(path)?)?;
    let version: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        return Ok((conn, None));
    }
    let merged_to = conn
        .query_row("select merged_to from meta where id = 1 and store = ?1", [store], |row| row.get(0))
        .optional()?;
    Ok((conn, merged_to))
}

fn create(path: &Path, store: &StoreMark) -> rusqlite::Result<Connection> {
    let mut conn = configure(schema::open(path)?)?;
    let transaction = conn.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("insert into meta values (1, ?1, 0)", [store])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(conn)
}

fn configure(conn: Connection) -> rusqlite::Result<Connection> {
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "normal")?;
    Ok(conn)
}

/// Deletes an index that turned out wrong, so that the next start makes it again. The open connections keep the file
/// that they have.
pub(super) fn discard(dir: &Path) {
    if let Err(error) = schema::remove_database(&dir.join(INDEX)) {
        tracing::error!(%error, "cannot delete the damaged index of duplicate keys; delete {INDEX} before the restart");
    }
}

/// Reads the keys of the records after `merged_to`, at most `limit` records. What it read is complete up to `newest`.
pub(super) fn read_tail(records: &Connection, merged_to: i64, limit: usize) -> rusqlite::Result<Recent> {
    let mut recent = Recent { keys: HashMap::new(), newest: merged_to, forgotten: Vec::new() };
    let around = Heads::around(records, merged_to)?;
    let mut select = records.prepare("select first, heads from blocks where first > ?1 order by first")?;
    let behind = select.query_map([merged_to], Heads::of)?;
    for heads in around.map(Ok).into_iter().chain(behind) {
        let heads = heads?;
        for (seq, head) in heads.iter().filter(|(seq, head)| *seq > merged_to && head.is_there()) {
            recent.keys.insert(head.key, Seen { seq, accepted_at_seconds: head.accepted_at.div_euclid(1000) });
            recent.newest = seq;
        }
        if recent.keys.len() >= limit {
            break;
        }
    }
    Ok(recent)
}
