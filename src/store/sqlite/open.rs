//! Opening: the steps from a path to a running store, in an order in which nothing is written before everything that
//! could forbid it has been looked at.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::board::{Board, Wanted};
use super::check::{self, Rules};
use super::error::OpenError;
use super::format;
use super::housekeeping::Housekeeper;
use super::keys::{self, Keys};
use super::lock::DirectoryLock;
use super::lost::Lost;
use super::mark::MarkFile;
use super::moved;
use super::reader::{ReadThread, Reader};
use super::recover::swap;
use super::retention::{Keeper, Retention, Tools};
use super::schema;
use super::space::{Space, Unknown};
use super::survey::log::{self, Break};
use super::writer::{Helpers, Writer};
use super::{SqliteStore, Tuning};
use crate::config::settings::{RetentionSettings, StoreSettings};
use crate::store::receipt_id::ReceiptMask;

/// Places in the writer's channel for what is not an append.
const OTHER_COMMANDS: usize = 1_024;

/// Opens the store in a directory, made if it is not there.
pub(super) fn open(
    dir: &Path,
    settings: &StoreSettings,
    retention: &RetentionSettings,
    tuning: Tuning,
) -> Result<Arc<SqliteStore>, OpenError> {
    schema::make_directory(dir)?;
    let lock = take(dir)?;
    swap::finish(dir)?;
    schema::make_or_check_records(dir)?;

    schema::fill_log(dir).map_err(OpenError::io("cannot fill the log in", dir))?;

    let file = dir.join(schema::RECORDS);
    let damaged = OpenError::sqlite(&file);
    let conn = schema::connect_writer(dir).map_err(&damaged)?;
    if let Some(pages) = tuning.max_pages {
        conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(&damaged)?;
    }
    warn_of_broken_log(&file, &conn)?;
    let mark = Arc::new(MarkFile::open(dir)?);
    let wanted = Wanted::default();
    let rules = Rules {
        duplicate_window: settings.duplicate_window,
        trim_at_delivery: retention.delivered_details.is_zero(),
        wanted: &wanted,
    };
    let (meta, (ledger, figures)) = format::up_to_date(&conn, &file, || {
        let meta = check::read_meta(&conn).map_err(&damaged)?;
        let checked = check::check(&conn, &file, &meta, (&mark, rules))?;
        Ok((meta, checked))
    })?;
    let keys = keys::open(dir, &conn, &meta, tuning)?;
    say_what_was_lost(&meta.lost);
    mark.write(meta.high_water).and_then(|()| mark.sync()).map_err(OpenError::io("cannot write", mark.path()))?;
    // The files that exist now exist after a power loss too, before the first receipt is given out.
    schema::sync_directory(dir)?;

    let space = space_around(dir, settings.disk_reserve_bytes, tuning, &conn)?;
    let board = Arc::new(Board::new(figures, settings.max_waiting_appends, space, wanted));
    let (commands, to_do) = mpsc::channel(settings.max_waiting_appends.saturating_add(OTHER_COMMANDS));
    let ground = Ground { dir, file: &file, mask: &ledger.mask, board: &board, lost: Arc::new(meta.lost) };
    let (lookups, lists) = (ground.start_reader("store-lookups")?, ground.start_reader("store-lists")?);
    let (to_lookups, to_lists) = (lookups.sender(), lists.sender());
    let rules = keys::Rules { freeze_at_keys: tuning.merge_at_keys, duplicate_window: settings.duplicate_window };
    let keys = Keys::start(keys, &rules, &board).map_err(ground.no_thread())?;
    let housekeeping = schema::connect_writer(dir).map_err(&damaged)?;
    let housekeeper = Housekeeper::start(housekeeping, &board, Arc::clone(&mark)).map_err(ground.no_thread())?;
    let tools = Tools { reader: ground.reader()?, writer: commands.downgrade(), pace: tuning.pace };
    let retention = Retention::start(|calls| Keeper::new(tools, retention, settings.duplicate_window, calls))
        .map_err(ground.no_thread())?;

    let (closed, is_closed) = watch::channel(false);
    let store = SqliteStore {
        commands,
        lookups: to_lookups,
        lists: to_lists,
        board: Arc::clone(&board),
        mask: ledger.mask.clone(),
        is_closed,
        #[cfg(test)]
        runs: keys.runs(),
        #[cfg(test)]
        sweeps: retention.calls(),
    };
    let writer = Writer {
        conn,
        board,
        ledger,
        keys,
        mark,
        data_dir: dir.to_owned(),
        helpers: Helpers { retention, housekeeper, readers: vec![lookups, lists] },
        lock,
        commands: to_do,
        closed,
        #[cfg(debug_assertions)]
        fault: super::fault_point::FaultPoint::wanted(),
    };
    writer.start().map_err(OpenError::io("cannot start a thread for", dir))?;
    Ok(Arc::new(store))
}

/// Takes the lock of a directory whose store has not moved.
fn take(dir: &Path) -> Result<DirectoryLock, OpenError> {
    // Also before the lock is taken, which would change its file.
    moved::check(dir)?;
    let lock = DirectoryLock::take(dir)?;
    moved::check(dir)?;
    Ok(lock)
}

/// What an earlier recovery has written down.
fn say_what_was_lost(lost: &Lost) {
    if lost.count() > 0 {
        let records = lost.count();
        tracing::warn!(records, "records were lost to damage, as a recovery has written down; their receipts say so");
    }
}

/// SQLite drops what stands behind a damaged place of the log. Whether records are lost by that is checked; that their
/// settlements are, so that they are delivered again, is said.
fn warn_of_broken_log(file: &Path, conn: &Connection) -> Result<(), OpenError> {
    let page_bytes = schema::page_bytes(conn).map_err(OpenError::sqlite(file))?;
    let path = schema::with_suffix(file, "-wal");
    let found = log::look(&path, usize::try_from(page_bytes).unwrap_or(usize::MAX))?;
    if let Some(Break { at, commits }) = found.filter(|found| found.is_damage()) {
        let file = path.display();
        tracing::error!(
            %file,
            byte = at,
            commits,
            "the log is damaged and not read behind this place: what became of records since then is forgotten, and they \
             may be delivered again"
        );
    }
    Ok(())
}

/// What is free for records.
fn space_around(dir: &Path, reserve_bytes: u64, tuning: Tuning, records: &Connection) -> Result<Space, OpenError> {
    Space::around(dir, reserve_bytes, tuning.disk_pages, records).map_err(|error| match error {
        Unknown::Disk(error) => OpenError::io("cannot tell how much disk space is free around", dir)(error),
        Unknown::Records(error) => OpenError::sqlite(&dir.join(schema::RECORDS))(error),
    })
}

/// What the threads that read stand on.
struct Ground<'a> {
    dir: &'a Path,
    file: &'a Path,
    mask: &'a ReceiptMask,
    board: &'a Arc<Board>,
    lost: Arc<Lost>,
}

impl Ground<'_> {
    fn reader(&self) -> Result<Reader, OpenError> {
        let conn = schema::connect_reader(self.file).map_err(OpenError::sqlite(self.file))?;
        Ok(Reader { conn, mask: self.mask.clone(), board: Arc::clone(self.board), lost: Arc::clone(&self.lost) })
    }

    fn start_reader(&self, name: &str) -> Result<ReadThread, OpenError> {
        ReadThread::start(name, self.reader()?).map_err(self.no_thread())
    }

    fn no_thread(&self) -> impl FnOnce(std::io::Error) -> OpenError + use<> {
        OpenError::io("cannot start a thread for", self.dir)
    }
}
