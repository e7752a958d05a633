//! The tables of `records.db`, format after format, and how a store of an older one is brought up to date.
//!
//! Format 2 added what it takes to forget (`deleted`, `trimmed`), to wait (`waiting`) and to put dead letters away
//! (`discarded`). No column was added to what an append writes: details that were trimmed are told apart by their type
//! (text, the SHA-256 in hex) from details that are there (a blob).
//!
//! Format 3 made appends cheap: records that are committed together are one row (`blocks`), and pending records that were
//! never tried have none (`untried`). The rows of `records` move over within the one transaction.

use std::path::Path;

use rusqlite::Connection;

use super::block::Block;
use super::error::OpenError;
use super::row;

/// The format that this engine writes, in the header of `records.db`. It reads every one before.
pub(super) const VERSION: u32 = 3;

/// What makes each format out of the one before; the first is made out of nothing.
const STEPS: [(u32, &str); 3] = [(1, FORMAT_1), (2, FORMAT_2), (3, FORMAT_3)];

const FORMAT_1: &str = "
create table meta (
    id integer primary key check (id = 1),
    receipt_secret blob not null,
    receipt_secret_crc integer not null,
    high_water integer not null,
    delivered_count integer not null,
    delivered_sum integer not null
);
create table lanes (
    id integer primary key,
    organization blob not null,
    work_stream blob not null,
    queue text not null,
    unique (organization, work_stream, queue)
);
create table records (
    seq integer primary key,
    lane integer not null,
    receipt blob not null,
    duplicate_key blob not null,
    entity_logical_name text not null,
    entity_set_name text not null,
    record_id blob not null,
    relationship_name text not null,
    route text not null,
    catalog_generation integer not null,
    accepted_at integer not null,
    traceparent text,
    client_tracking_id text,
    crc integer not null,
    details blob not null
);
create table pending (
    lane integer not null,
    seq integer not null,
    due_at integer not null,
    attempts integer not null,
    lease_token blob,
    last_error text,
    primary key (lane, seq)
) without rowid;
create table delivered (
    seq integer primary key,
    lane integer not null,
    at integer not null,
    attempts integer not null,
    last_error text
);
create table dead_letters (
    seq integer primary key,
    lane integer not null,
    at integer not null,
    attempts integer not null,
    reason text not null
);
";

const FORMAT_2: &str = "
-- 1: its details were looked at for trimming, and need not be again.
alter table delivered add column trimmed integer;
-- Set where it was delivered by closing while it waited.
alter table delivered add column closed_after_minutes integer;
create table waiting (
    seq integer primary key,
    lane integer not null,
    since integer not null,
    closes_at integer not null,
    attempts integer not null,
    last_error text
);
create index waiting_by_end on waiting (closes_at);
-- Dead letters that were put away: the columns of dead_letters, and by whom, when and why.
create table discarded (
    seq integer primary key,
    lane integer not null,
    at integer not null,
    attempts integer not null,
    reason text not null,
    discarded_at integer not null,
    discarded_by text not null,
    discarded_for text not null
);
-- Which records were deleted, so that they are told apart from those that were lost: ranges that do not touch.
create table deleted (
    first integer primary key,
    last integer not null
);
";

const FORMAT_3: &str = "
-- The records of a commit, or a part of them: see block.rs.
create table blocks (
    first integer primary key,
    heads blob not null,
    bodies blob not null
);
-- Numbers of records of a lane that were never handed out: see untried.rs.
create table untried (
    lane integer not null,
    first integer not null,
    last integer not null,
    seqs blob not null,
    primary key (lane, first)
) without rowid;
-- From this number on a lane's records were never handed out. What is pending in an older format has rows.
alter table lanes add column untried_from integer not null default 1;
update lanes set untried_from = coalesce((select high_water from meta), 0) + 1;
-- What was never handed out up to this record is listed in untried.
alter table meta add column listed_to integer not null default 0;
update meta set listed_to = high_water;
";

/// Records that are moved between two words about it.
const MOVED_AT_ONCE: i64 = 100_000;

/// Moves records out of their rows into blocks.
fn move_into_blocks(conn: &Connection) -> rusqlite::Result<()> {
    let mut select = conn.prepare(row::format_2::SELECT)?;
    let mut rows = select.query([])?;
    let mut block: Option<Block> = None;
    let mut moved = 0;
    while let Some(row) = rows.next()? {
        let (seq, head, body) = row::format_2::record_in(row)?;
        if let Some(done) = block.take_if(|block| block.is_full() || block.next() != seq) {
            done.insert(conn)?;
        }
        block.get_or_insert_with(|| Block::starting_at(seq)).push(&head, &body);
        moved += 1;
        if moved % MOVED_AT_ONCE == 0 {
            tracing::info!(records = moved, "bringing the record store up to date");
        }
    }
    if let Some(last) = block {
        last.insert(conn)?;
    }
    drop(rows);
    drop(select);
    conn.execute_batch("drop table records")
}

/// Makes the tables of the present format out of those of an earlier one (0: out of nothing), within the transaction
/// that the connection is in.
pub(super) fn upgrade(conn: &Connection, from: u32) -> rusqlite::Result<()> {
    for (_, step) in STEPS.iter().filter(|(version, _)| *version > from) {
        conn.execute_batch(step)?;
    }
    if from < 3 {
        move_into_blocks(conn)?;
    }
    conn.pragma_update(None, "user_version", VERSION)
}

/// Brings a store up to date, in one transaction that commits only if the store then passes this check: a store that
/// is refused, or a process that dies meanwhile, leaves the older format as it was.
///
/// What `check` answers is answered. On an error the connection is to be dropped, which undoes the rest.
pub(super) fn up_to_date<T>(
    conn: &Connection,
    file: &Path,
    check: impl FnOnce() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let failed = OpenError::sqlite(file);
    // Asked of SQLite: what stands in the file's header may be older, while the log has not been folded in.
    let version: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
    if version == VERSION {
        return check();
    }
    tracing::info!(from = version, to = VERSION, "bringing the record store up to date");
    conn.execute_batch("begin immediate").and_then(|()| upgrade(conn, version)).map_err(&failed)?;
    let checked = check()?;
    conn.execute_batch("commit").map_err(&failed)?;
    // So that the header says at once which format it is: an older gateway looks there.
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).map_err(&failed)?;
    Ok(checked)
}
