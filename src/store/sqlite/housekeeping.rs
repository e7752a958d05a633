//! The thread that keeps the log short: it folds `records.db-wal` into `records.db` on its own connection, so that the
//! fsyncs of that happen beside the commits and not inside them.
//!
//! A checkpoint beside a busy writer (`passive`) never empties the log, since the writer is always ahead. When the log
//! has grown past a hard bound even so, the writer is asked for one `restart`: it then has only the little to fold in
//! that came since the passive one, and starts the log from its beginning.
//!
//! It also looks at the free disk space and syncs the high-water mark, about once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::board::{Board, BreakOnPanic};
use super::error::{Meaning, meaning};
use super::mark::MarkFile;
use super::schema::{self, BUSY_TIMEOUT, page_bytes};

/// How often it looks when nobody calls.
const TICK: Duration = Duration::from_secs(1);
/// Bytes written after which the writer calls.
const CALL_AFTER_BYTES: usize = 1 << 20;
/// A commit writes about this much besides its records: the page that ends the table, the one above it, the first.
const COMMIT_BYTES: usize = 3 * 4_096;
/// A log longer than this is folded in.
const SOFT_BOUND_BYTES: u64 = 4 << 20;
/// A log longer than this is started afresh, at the writer's expense. What comes until then has room in the part of the
/// file that was filled beforehand.
const HARD_BOUND_BYTES: u64 = schema::LOG_BYTES / 4 * 3;
/// How long the writer waits for readers who still need the old log.
const RESTART_PATIENCE: Duration = Duration::from_millis(100);

/// The running thread, as the writer sees it.
pub(super) struct Housekeeper {
    call: SyncSender<()>,
    thread: JoinHandle<()>,
    restart_wanted: Arc<AtomicBool>,
    board: Arc<Board>,
    written_bytes: usize,
}

/// How long the log is.
#[derive(Debug, Clone, Copy)]
struct Log {
    bytes: u64,
}

impl Housekeeper {
    /// Starts the thread; the connection is its own.
    pub(super) fn start(conn: Connection, board: &Arc<Board>, mark: Arc<MarkFile>) -> std::io::Result<Self> {
        let (call, called) = sync_channel(1);
        let restart_wanted = Arc::new(AtomicBool::new(false));
        let work = Work { conn, board: Arc::clone(board), mark, restart_wanted: Arc::clone(&restart_wanted) };
        let builder = std::thread::Builder::new().name("store-housekeeping".to_owned());
        let thread = builder.spawn(move || work.run(&called))?;
        Ok(Self { call, thread, restart_wanted, board: Arc::clone(board), written_bytes: 0 })
    }

    /// The writer has committed about this much. If the log must start afresh, this does it.
    pub(super) fn wrote(&mut self, bytes: usize, conn: &Connection) {
        self.written_bytes += bytes + COMMIT_BYTES;
        if self.written_bytes >= CALL_AFTER_BYTES {
            self.written_bytes = 0;
            // Full: it is on its way. Disconnected: it stopped, and has broken the store.
            let _already_called = self.call.try_send(());
        }
        if self.restart_wanted.swap(false, Ordering::AcqRel)
            && let Err(error) = restart(conn)
        {
            report(&self.board, &error);
        }
    }

    /// Stops the thread, after the checkpoint that it may be in.
    pub(super) fn stop(self) {
        drop(self.call);
        if self.thread.join().is_err() {
            tracing::error!("the housekeeping thread panicked");
        }
    }
}

fn restart(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(RESTART_PATIENCE)?;
    // Busy: a reader still needs the log. The housekeeper will ask again.
    let outcome = checkpoint(conn, "restart");
    conn.busy_timeout(BUSY_TIMEOUT)?;
    outcome.map(|_log| ())
}

fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<Log> {
    let pages: i64 = conn.prepare_cached(&format!("pragma wal_checkpoint({mode})"))?.query_row([], |row| row.get(1))?;
    Ok(Log { bytes: u64::try_from(pages).unwrap_or(0).saturating_mul(page_bytes(conn)?) })
}

/// A failed checkpoint lost nothing yet, but after a failed fsync of `records.db` the next one would call pages clean
/// that never reached the disk, and the log that still has them would be given up.
fn report(board: &Board, error: &rusqlite::Error) {
    if meaning(error) == Meaning::Broken {
        board.break_for_good(format!("records.db, checkpoint: {error}"));
    } else {
        tracing::warn!(%error, "a checkpoint did not happen; the next one will");
    }
}

struct Work {
    conn: Connection,
    board: Arc<Board>,
    mark: Arc<MarkFile>,
    restart_wanted: Arc<AtomicBool>,
}

impl Work {
    fn run(self, called: &Receiver<()>) {
        let _guard = BreakOnPanic(Arc::clone(&self.board), "housekeeping");
        let mut mark_synced = Instant::now();
        loop {
            match called.recv_timeout(TICK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What it finds is kept for whoever asks.
            let _room = self.board.space().check(TICK, &self.conn);
            if self.board.is_broken() {
                continue;
            }
            if mark_synced.elapsed() >= TICK {
                mark_synced = Instant::now();
                if let Err(error) = self.mark.sync() {
                    self.board.break_for_good(format!("{}: {error}", self.mark.path().display()));
                    continue;
                }
            }
            if let Err(error) = self.keep_log_short() {
                report(&self.board, &error);
            }
        }
    }

    fn keep_log_short(&self) -> rusqlite::Result<()> {
        // `noop` only says how long the log is.
        if checkpoint(&self.conn, "noop")?.bytes > SOFT_BOUND_BYTES
            && checkpoint(&self.conn, "passive")?.bytes > HARD_BOUND_BYTES
        {
            self.restart_wanted.store(true, Ordering::Release);
        }
        Ok(())
    }
}
