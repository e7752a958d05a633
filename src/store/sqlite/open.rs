//! Opening: the steps from a path to a running store, in an order in which nothing is written before everything that
//! could forbid it has been looked at.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::board::{Board, Space};
use super::check::{self, Meta};
use super::duplicates::Duplicates;
use super::error::OpenError;
use super::housekeeping::Housekeeper;
use super::index::{self, Index};
use super::lock::DirectoryLock;
use super::mark::MarkFile;
use super::merge::{self, Merger};
use super::reader::{ReadThread, Reader};
use super::schema;
use super::writer::{Helpers, Writer};
use super::{SqliteStore, Tuning};
use crate::config::settings::StoreSettings;
use crate::store::receipt_id::ReceiptMask;

/// Places in the writer's channel for what is not an append.
const OTHER_COMMANDS: usize = 1_024;

/// Opens the store in a directory, made if it is not there.
pub(super) fn open(dir: &Path, settings: &StoreSettings, tuning: Tuning) -> Result<Arc<SqliteStore>, OpenError> {
    schema::make_directory(dir)?;
    let lock = DirectoryLock::take(dir)?;
    schema::make_or_check_records(dir)?;

    let file = dir.join(schema::RECORDS);
    let damaged = OpenError::sqlite(&file);
    let conn = schema::connect_writer(dir).map_err(&damaged)?;
    if let Some(pages) = tuning.max_pages {
        conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(&damaged)?;
    }
    let meta = check::read_meta(&conn).map_err(&damaged)?;
    let mark = Arc::new(MarkFile::open(dir)?);
    let (ledger, figures) = check::check(&conn, &file, &meta, (&mark, settings.duplicate_window))?;
    let (index, duplicates) = open_index(dir, &conn, &meta, tuning)?;
    let index_reader = schema::connect_reader(index.path()).map_err(OpenError::sqlite(index.path()))?;
    mark.write(meta.high_water).map_err(OpenError::io("cannot write", mark.path()))?;
    mark.sync().map_err(OpenError::io("cannot sync", mark.path()))?;
    // The files that exist now exist after a power loss too, before the first receipt is given out.
    schema::sync_directory(dir)?;

    let space = Space::around(dir.to_owned(), settings.disk_reserve_bytes)
        .map_err(OpenError::io("cannot tell how much disk space is free around", dir))?;
    let board = Arc::new(Board::new(figures, settings.max_waiting_appends, space));
    let no_thread = || OpenError::io("cannot start a thread for", dir);
    let (lookups, lists) = (
        start_reader("store-lookups", &file, &ledger.mask, &board)?,
        start_reader("store-lists", &file, &ledger.mask, &board)?,
    );
    let (to_lookups, to_lists) = (lookups.sender(), lists.sender());
    let work = merge::Work { dir: dir.to_owned(), board: Arc::clone(&board), duplicates: Arc::clone(&duplicates) };
    let merger = Merger::start(index, work, tuning.merge_at_keys).map_err(no_thread())?;
    let housekeeping = schema::connect_writer(dir).map_err(&damaged)?;
    let housekeeper = Housekeeper::start(housekeeping, &board, Arc::clone(&mark)).map_err(no_thread())?;

    let (commands, to_do) = mpsc::channel(settings.max_waiting_appends.saturating_add(OTHER_COMMANDS));
    let (closed, is_closed) = watch::channel(false);
    let mask = ledger.mask.clone();
    let writer = Writer {
        conn,
        index: index_reader,
        board: Arc::clone(&board),
        ledger,
        duplicates: Arc::clone(&duplicates),
        mark,
        data_dir: dir.to_owned(),
        helpers: Helpers { merger, housekeeper, readers: vec![lookups, lists] },
        lock,
        commands: to_do,
        closed,
        #[cfg(debug_assertions)]
        acknowledge_before_commit: super::fault_point::wanted(),
    };
    writer.start().map_err(no_thread())?;
    Ok(Arc::new(SqliteStore { commands, lookups: to_lookups, lists: to_lists, board, mask, is_closed, duplicates }))
}

fn start_reader(name: &str, file: &Path, mask: &ReceiptMask, board: &Arc<Board>) -> Result<ReadThread, OpenError> {
    let conn = schema::connect_reader(file).map_err(OpenError::sqlite(file))?;
    let reader = Reader { conn, mask: mask.clone(), board: Arc::clone(board) };
    ReadThread::start(name, reader).map_err(OpenError::io("cannot start a thread for", file))
}

/// Opens the index of duplicate keys, and adds what it does not have: what would be too much for memory to the index,
/// the rest to memory.
fn open_index(
    dir: &Path,
    records: &rusqlite::Connection,
    meta: &Meta,
    tuning: Tuning,
) -> Result<(Index, Arc<Duplicates>), OpenError> {
    let file = dir.join(schema::RECORDS);
    let (index, mut merged_to) = Index::open(dir, &index::mark_of(&meta.secret))?;
    if merged_to > meta.high_water {
        return Err(check::lost(&file, meta.high_water + 1, merged_to));
    }
    loop {
        let tail = index::read_tail(records, merged_to, tuning.keys_at_start).map_err(OpenError::sqlite(&file))?;
        if tail.newest == meta.high_water {
            return Ok((index, Arc::new(Duplicates::new(tail))));
        }
        tracing::info!(from = merged_to, to = tail.newest, "adding duplicate keys to the index");
        let mut keys: Vec<_> = tail.keys.into_iter().collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        index.merge(&keys, Some(tail.newest)).map_err(OpenError::sqlite(index.path()))?;
        merged_to = tail.newest;
    }
}
