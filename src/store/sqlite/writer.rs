//! The one thread that writes `records.db`.
//!
//! Group commit without a timer: it waits for one command, takes whatever has gathered while the last fsync ran, does
//! all of it in one transaction, commits, and only then brings memory up to date and answers. At low load a command
//! is alone and waits for nobody; at high load one fsync serves many.
//!
//! A commit that fails, fails for everyone in the batch, and memory stays as it was. When what is on disk is no longer
//! certain, the store is broken for good: no second fsync is asked for, since it would succeed and prove nothing.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::batch::{Batch, Changes, Ledger};
use super::board::{Board, BreakOnPanic};
use super::command::{AppendAnswers, Command, Failure};
use super::error::{Fault, Meaning, meaning};
use super::housekeeping::Housekeeper;
use super::keys::{self, Keys};
use super::lock::DirectoryLock;
use super::mark::MarkFile;
use super::reader::ReadThread;
use super::retention::Retention;
use crate::store::StoreError;
use crate::store::observer::{Commit, CommitFailure};

/// Commands in one transaction.
const MAX_BATCH_COMMANDS: usize = 1_024;
/// About how many bytes one transaction writes.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// How old the knowledge of free disk space may be when a record is written.
const SPACE_MAX_AGE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 100 });
/// Duplicate keys held in memory, about 160 MB. It takes an index that cannot keep up to get there.
const MAX_RECENT_KEYS: usize = 4_000_000;

/// Everything that the thread owns.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) board: Arc<Board>,
    pub(super) ledger: Ledger,
    pub(super) keys: Keys,
    pub(super) mark: Arc<MarkFile>,
    pub(super) data_dir: std::path::PathBuf,
    pub(super) helpers: Helpers,
    pub(super) lock: DirectoryLock,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Becomes true when everything is closed.
    pub(super) closed: watch::Sender<bool>,
    /// See [`super::fault_point`].
    #[cfg(debug_assertions)]
    pub(super) fault: Option<super::fault_point::FaultPoint>,
}

/// The other threads, which end before the writer does.
pub(super) struct Helpers {
    pub(super) retention: Retention,
    pub(super) housekeeper: Housekeeper,
    pub(super) readers: Vec<ReadThread>,
}

impl Writer {
    /// Starts the thread. It ends after a [`Command::Close`], or when nobody is left to send one.
    pub(super) fn start(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || self.run())
    }

    fn run(mut self) {
        let _guard = BreakOnPanic(Arc::clone(&self.board), "writer");
        loop {
            let (batch, closing) = self.gather();
            self.process(batch);
            if closing {
                break;
            }
        }
        self.shut_down();
    }

    /// The next commands: what has gathered; waits if that is nothing.
    fn gather(&mut self) -> (Vec<Command>, bool) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = self.commands.try_recv().ok();
        if next.is_none() {
            next = self.commands.blocking_recv();
            if next.is_none() {
                // The store was dropped.
                return (batch, true);
            }
            // Whoever sent it often has more in hand, and shares the processor with this thread. On a processor with
            // nothing else to do this takes no time.
            std::thread::yield_now();
        }
        while let Some(command) = next {
            if matches!(command, Command::Close) {
                return (batch, true);
            }
            bytes += command.weight_bytes();
            batch.push(command);
            if batch.len() >= MAX_BATCH_COMMANDS || bytes >= MAX_BATCH_BYTES {
                break;
            }
            next = self.commands.try_recv().ok();
        }
        (batch, false)
    }

    /// Does a batch and answers it.
    fn process(&mut self, batch: Vec<Command>) {
        let mut batch = self.screen(batch);
        if batch.is_empty() {
            return;
        }
        let weight_bytes = batch.iter().map(Command::weight_bytes).sum();
        #[cfg(debug_assertions)]
        if let Some(fault) = &mut self.fault {
            fault.count_batch();
        }
        let begun = Instant::now();
        let done = match self.transact(&mut batch) {
            Ok((changes, sync)) => {
                let records = u32::try_from(changes.appended).unwrap_or(u32::MAX);
                self.committed(changes);
                batch.iter_mut().for_each(|command| command.committed(records));
                Ok(Commit { records, bytes: weight_bytes, took: begun.elapsed(), sync })
            }
            Err(fault) => Err(self.failed(fault)),
        };
        answer(batch, done.as_ref().err());
        self.tell(&done);
        if done.is_ok() {
            self.board.space().wrote(weight_bytes);
            self.helpers.housekeeper.wrote(weight_bytes, &self.conn);
        }
    }

    /// Tells whoever observes how a batch ended.
    fn tell(&self, done: &Result<Commit, Failure>) {
        let Some(observer) = self.board.observer() else { return };
        match done {
            Ok(commit) => observer.committed(commit),
            Err(Failure::Full(_)) => observer.not_committed(CommitFailure::Full),
            Err(Failure::Broken(_)) => observer.not_committed(CommitFailure::Broken),
            Err(Failure::Passing(_) | Failure::Closing) => observer.not_committed(CommitFailure::Passing),
        }
    }

    /// Refuses what cannot be done now; the rest comes back.
    fn screen(&self, batch: Vec<Command>) -> Vec<Command> {
        if let Err(StoreError::Broken { cause }) = self.board.check_writable() {
            refuse(batch, &Failure::Broken(cause));
            return Vec::new();
        }
        if !batch.iter().any(Command::is_append) {
            return batch;
        }
        let refusal = match self.board.space().check(SPACE_MAX_AGE, &self.conn) {
            Err(no_room) => Failure::Full(no_room),
            Ok(()) if self.keys.in_memory() > MAX_RECENT_KEYS => {
                Failure::Passing("the index of duplicate keys cannot keep up".to_owned())
            }
            Ok(()) => return batch,
        };
        let (appends, others) = batch.into_iter().partition(Command::is_append);
        refuse(appends, &refusal);
        others
    }

    /// One transaction, up to and with its commit. The time is that of the commit alone.
    fn transact(&self, commands: &mut Vec<Command>) -> Result<(Changes, Duration), Fault> {
        self.conn.prepare_cached("begin immediate")?.execute([])?;
        let mut batch = Batch::new(&self.conn, &self.ledger, self.keys.look_up());
        for command in &mut *commands {
            command.run(&mut batch)?;
        }
        let changes = batch.finish(false)?;
        #[cfg(debug_assertions)]
        super::fault_point::FaultPoint::before_commit(self.fault, commands);
        let begun = Instant::now();
        self.conn.prepare_cached("commit")?.execute([])?;
        Ok((changes, begun.elapsed()))
    }

    /// Memory follows the disk.
    fn committed(&mut self, changes: Changes) {
        let appended = changes.appended > 0;
        let new_keys = changes.apply(&mut self.ledger, &mut self.board.figures());
        self.keys.committed(new_keys, self.ledger.high_water);
        if !appended {
            return;
        }
        match self.mark.write(self.ledger.high_water) {
            Ok(()) => {}
            // It lags then, which it may; the next one catches up.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "cannot write the high-water mark");
            }
            // These records are safe; no more follow.
            Err(error) => self.board.break_for_good(format!("{}: {error}", self.mark.path().display())),
        }
    }

    /// Undoes the transaction, and says what its failure means.
    fn failed(&self, fault: Fault) -> Failure {
        let (meaning, cause, index_at_fault) = match fault {
            Fault::Records(error) => (meaning(&error), format!("records.db: {error}"), false),
            Fault::Index(error) => (error.meaning(), error.to_string(), true),
            Fault::IndexWrong(what) => (Meaning::Broken, format!("{}: {what}", keys::KEYS), true),
            Fault::Random(error) => (Meaning::Passing, error.to_string(), false),
            Fault::Command(error) => (Meaning::Passing, error.to_string(), false),
        };
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("rollback")
        {
            self.board.break_for_good(format!("{cause}, and then the rollback failed: {error}"));
            return Failure::Broken(cause);
        }
        match meaning {
            Meaning::Full => {
                tracing::warn!(cause, "the disk is full; nothing was written");
                Failure::Full(self.board.space().as_last_seen())
            }
            Meaning::Passing => {
                tracing::warn!(cause, "a batch could not be written");
                Failure::Passing(cause)
            }
            Meaning::Broken => {
                if index_at_fault {
                    keys::discard(&self.data_dir);
                }
                self.board.break_for_good(cause.clone());
                Failure::Broken(cause)
            }
        }
    }

    /// Ends everything in order: the other threads, the log, the lock.
    fn shut_down(mut self) {
        self.board.start_closing();
        self.commands.close();
        while let Some(command) = self.commands.blocking_recv() {
            refuse(vec![command], &Failure::Closing);
        }
        if !self.board.is_broken()
            && let Err(error) = self.list_untried()
        {
            tracing::warn!(%error, "untried records could not be listed at the end; the next start finds them itself");
        }
        let Helpers { retention, housekeeper, readers } = self.helpers;
        retention.stop();
        self.keys.stop();
        housekeeper.stop();
        for reader in readers {
            reader.stop();
        }
        // A broken store's log is evidence: the next start reads it as it is.
        if !self.board.is_broken() {
            let truncated = self.conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()));
            if let Err(error) = truncated {
                tracing::warn!(%error, "the log could not be folded in at the end; the next start will do it");
            }
            if let Err(error) = self.mark.sync() {
                tracing::warn!(%error, "the high-water mark could not be synced at the end");
            }
        }
        drop(self.conn);
        drop(self.lock);
        self.closed.send_replace(true);
    }

    /// Lists what was never handed out, so that the next start need not look for it.
    fn list_untried(&self) -> rusqlite::Result<()> {
        let transaction = self.conn.unchecked_transaction()?;
        Batch::new(&self.conn, &self.ledger, self.keys.look_up()).finish(true)?;
        transaction.commit()
    }
}
/// Answers commands that are not even tried.
fn refuse(commands: Vec<Command>, failure: &Failure) {
    answer(commands, Some(failure));
}

/// Answers commands after their commit, or its failure.
pub(super) fn answer(commands: Vec<Command>, failure: Option<&Failure>) {
    let mut answers = AppendAnswers::new();
    for command in commands {
        command.answer(failure, &mut answers);
    }
    answers.send();
}
