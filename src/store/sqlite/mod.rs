//! The embedded engine: SQLite in a directory, nothing to install and nothing to run.
//!
//! ```text
//! <data directory>/
//! ├── gateway.lock       held while the store is open; names its holder
//! ├── records.db         the records, and where each stands; every commit is synced
//! ├── high-water.mark    the newest record's number, outside the database, so that a cut log shows
//! ├── moved-to-postgres  that the store is in a database now (`moved`); only where it was copied
//! ├── keys/              duplicate keys of older records; derived, made again when in doubt (`keys`)
//! ├── catalog.db         what is configured through the administration (`catalog`)
//! ├── recovery-…/        what a recovery found, lost and kept (`recover`); only where there was one
//! └── subscriptions.db   who is told of records that reach a queue, and what is still to be told (`subscriptions`)
//! ```
//!
//! One thread writes (`writer`), in batches: every command that gathered while the last commit was synced goes into
//! the next. Two threads read, one looks after the log (`housekeeping`), one carries duplicate keys from memory into
//! the index (`keys`), one closes what has waited and forgets what was kept long enough (`retention`). Memory follows
//! the disk and never leads it.
//!
//! Guaranteed: a receipt is given out after the fsync that covers its record. A record is read only together with its
//! checksum. After a failed write or sync nothing is written any more, and a restart decides what is there. Records
//! that are missing are named at the next start (`check`), told apart from those that were deleted (`deleted`).
//!
//! Whether all of it is there is proven by `verify`, which reads past damage and changes nothing; `recover` makes a store of
//! what checks, and writes down what was `lost`.
//!
//! Not guaranteed: anything on a disk that acknowledges a sync which it has not done, beyond that the loss will show.

mod append;
mod batch;
mod block;
mod board;
pub mod catalog;
mod check;
mod command;
mod dead_letters;
mod deleted;
mod details;
mod error;
pub(super) mod export;
#[cfg(debug_assertions)]
mod fault_point;
mod format;
mod handoff;
mod housekeeping;
pub mod inspect;
mod key_tail;
mod keys;
mod lease;
mod list;
mod lock;
mod look;
mod lost;
mod mark;
pub mod moved;
mod oldest;
mod open;
mod reader;
pub mod recover;
mod redeliver;
mod retention;
mod row;
mod schema;
mod settle;
pub(super) mod side_file;
mod space;
pub mod subscriptions;
mod survey;
mod sweep;
mod trim;
mod untried;
pub mod verify;
mod waiting;
mod writer;

use std::path::Path;
use std::sync::Arc;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::row::fuzzing;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::error::OpenError;

use self::board::Board;
use self::command::{Append, Command, Job};
use self::dead_letters::Chosen;
use self::list::DeadLetterQuery;
use self::reader::Read;
use self::redeliver::Again;
use self::retention::Pace;
use self::row::NewRecord;
use super::observer::StoreObserver;
use super::receipt_id::ReceiptMask;
use super::{
    Arrival, DeadLetters, Details, Discarded, Entry, Handled, LaneBacklog, LeaseRequest, Leases, ListQuery,
    OldestPending, Page, Receipt, ReceiptStatus, Redelivered, Redelivery, Settled, Settlement, Stats, Store,
    StoreError, StoredRecord,
};
use crate::config::settings::{RetentionSettings, StoreSettings};
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;

/// The record store in a directory.
///
/// Dropping it closes it as [`Store::close`] does, without anyone waiting for the end.
pub struct SqliteStore {
    commands: mpsc::Sender<Command>,
    lookups: mpsc::Sender<Read>,
    lists: mpsc::Sender<Read>,
    board: Arc<Board>,
    mask: ReceiptMask,
    is_closed: watch::Receiver<bool>,
    /// Tests wait for a merge by looking at it.
    #[cfg(test)]
    runs: Arc<keys::Runs>,
    /// Tests say what time it is, and wait until all is done that is due by then.
    #[cfg(test)]
    sweeps: std::sync::mpsc::Sender<retention::Call>,
}

/// What tests make smaller, to reach in a few records what otherwise takes millions.
#[derive(Debug, Clone, Copy)]
struct Tuning {
    /// Keys in memory at which they go to the index.
    merge_at_keys: usize,
    /// Keys that a start reads at once.
    keys_at_start: usize,
    /// Pages that `records.db` may have: a write beyond fails, as on a disk that turns out to be full.
    max_pages: Option<u32>,
    /// Pages of `records.db` at which the disk says that it is full.
    disk_pages: Option<u32>,
    /// When the retention thread works.
    pace: Pace,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            merge_at_keys: keys::FREEZE_AT_KEYS,
            keys_at_start: 500_000,
            max_pages: None,
            disk_pages: None,
            pace: Pace::ByClock,
        }
    }
}

impl SqliteStore {
    /// Opens the store in this directory, which is made (for its owner alone) if it is not there. Blocks while it
    /// reads: one pass over what is pending, waiting or given up, and over the records whose keys are not in the index
    /// yet. A store of an older format is brought up to date.
    ///
    /// # Errors
    /// [`OpenError`]: another gateway has the directory, it cannot be used, or what is in it is not complete.
    pub fn open(
        data_dir: &Path,
        settings: &StoreSettings,
        retention: &RetentionSettings,
    ) -> Result<Arc<Self>, OpenError> {
        open::open(data_dir, settings, retention, Tuning::default())
    }

    /// Gives the writer something to do, and waits for the answer.
    async fn ask<I, O>(&self, input: I, command: impl FnOnce(Job<I, O>) -> Command) -> Result<O, StoreError> {
        self.board.check_writable()?;
        let (job, answer) = Job::new(input);
        self.commands.send(command(job)).await.map_err(|_closed| self.board.unanswered())?;
        answer.await.map_err(|_gone| self.board.unanswered())?
    }

    /// Gives a reader something to do, and waits for the answer.
    async fn read<T>(
        &self,
        reader: &mpsc::Sender<Read>,
        read: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Read,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        reader.send(read(reply)).await.map_err(|_closed| self.board.unanswered())?;
        answer.await.map_err(|_gone| self.board.unanswered())?
    }

    async fn append_entry(&self, entry: Entry) -> Result<Receipt, StoreError> {
        self.board.check_writable()?;
        let place = self.board.take_place()?;
        let (append, answer) = Append::new(Box::new(NewRecord::prepare(&entry)?), place);
        drop(entry);
        // An append never waits to be let in: whoever sent it is better off with a 503 to retry.
        self.commands.try_send(Command::Append(append)).map_err(|refused| match refused {
            TrySendError::Full(_) => self.board.overloaded(),
            TrySendError::Closed(_) => self.board.unanswered(),
        })?;
        let appended = answer.await.ok_or_else(|| self.board.unanswered())??;
        Ok(appended.receipt(&self.mask))
    }

    /// Has a reader find the dead letters that are meant. The second number says where to go on.
    async fn choose(&self, which: DeadLetters) -> Result<(Chosen, Option<i64>), StoreError> {
        self.board.check_writable()?;
        match which {
            DeadLetters::One(receipt) => Ok((Chosen::One(receipt), None)),
            DeadLetters::Matching { filter, after, limit } => {
                let query = DeadLetterQuery { filter, after: after.unwrap_or(0), limit };
                let (seqs, next) = self.read(&self.lists, move |reply| Read::DeadLetters(query, reply)).await?;
                Ok((Chosen::These(seqs), next))
            }
        }
    }

    async fn requeue_chosen(&self, which: DeadLetters) -> Result<Handled, StoreError> {
        let (chosen, next) = self.choose(which).await?;
        Ok(Handled { count: self.ask(chosen, Command::Requeue).await?, next })
    }

    async fn redeliver_chosen(&self, which: Redelivery) -> Result<Redelivered, StoreError> {
        self.board.check_writable()?;
        let (since, until, dry_run) = (which.since, which.until, which.dry_run);
        let (seqs, found) = self.read(&self.lists, move |reply| Read::Delivered(which, reply)).await?;
        if dry_run || seqs.is_empty() {
            return Ok(found);
        }
        let lanes = self.ask(Again { seqs, since, until }, Command::Redeliver).await?;
        Ok(Redelivered { lanes, ..found })
    }

    async fn discard_chosen(&self, which: DeadLetters, how: Discarded) -> Result<Handled, StoreError> {
        let (chosen, next) = self.choose(which).await?;
        Ok(Handled { count: self.ask((chosen, how), Command::Discard).await?, next })
    }

    async fn finish(&self) {
        self.board.start_closing();
        // It fails when the writer has ended already, which is what is wanted.
        let _ended = self.commands.send(Command::Close).await;
        let mut is_closed = self.is_closed.clone();
        let _ended = is_closed.wait_for(|closed| *closed).await;
    }
}

impl Store for SqliteStore {
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        Box::pin(self.append_entry(entry))
    }

    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Leases, StoreError>> {
        Box::pin(self.ask(request, Command::Lease))
    }

    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<Vec<Settled>, StoreError>> {
        Box::pin(self.ask(settlements, Command::Settle))
    }

    fn receipt(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptStatus>, StoreError>> {
        Box::pin(self.read(&self.lookups, move |reply| Read::Status(id, reply)))
    }

    fn record(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<StoredRecord<Details>>, StoreError>> {
        Box::pin(self.read(&self.lookups, move |reply| Read::Record(id, reply)))
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read(&self.lists, move |reply| Read::List(query, reply)))
    }

    fn since(&self, number: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Arrival>, StoreError>> {
        Box::pin(self.read(&self.lists, move |reply| Read::Since(number, limit, reply)))
    }

    fn keep_from(&self, number: Option<u64>) {
        self.board.wanted().set(number);
    }

    fn revive(&self, id: ReceiptId, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.ask((id, now), Command::Revive))
    }

    fn requeue(&self, which: DeadLetters) -> BoxFuture<'_, Result<Handled, StoreError>> {
        Box::pin(self.requeue_chosen(which))
    }

    fn redeliver(&self, which: Redelivery) -> BoxFuture<'_, Result<Redelivered, StoreError>> {
        Box::pin(self.redeliver_chosen(which))
    }

    fn discard(&self, which: DeadLetters, how: Discarded) -> BoxFuture<'_, Result<Handled, StoreError>> {
        Box::pin(self.discard_chosen(which, how))
    }

    fn lanes(&self) -> Vec<LaneBacklog> {
        self.board.figures().lanes.clone()
    }

    fn stats(&self) -> Stats {
        self.board.stats()
    }

    fn oldest_pending(&self) -> BoxFuture<'_, Result<Vec<OldestPending>, StoreError>> {
        Box::pin(self.read(&self.lookups, Read::Oldest))
    }

    fn observed_by(&self, observer: Arc<dyn StoreObserver>) {
        self.board.observe(observer);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.finish())
    }
}

#[cfg(test)]
pub(in crate::store) mod tests;
