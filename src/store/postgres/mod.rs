//! The shared engine: PostgreSQL, for any number of gateways at once.
//!
//! Each gateway has one task that appends, in batches (`append`), and a few connections for everything else. What stands
//! where is a row in a table of its own ([`schema_1.sql`](../../../../src/store/postgres/schema_1.sql)); nothing that
//! counts is in a gateway's memory, so one that is gone leaves nothing behind but leases, which run out.
//!
//! Guaranteed: a receipt is given out after the commit that covers its record, on a server that keeps what it commits
//! (`open` refuses others). Numbers have no gaps over all gateways. A record is read only together with its checksum.
//!
//! Not guaranteed: anything on a server whose disk or standbys lose what they acknowledged.

mod append;
mod board;
pub mod catalog;
mod cluster;
mod connect;
mod database;
mod dead_letters;
mod deleted;
mod error;
pub mod facts;
mod guid;
pub(super) mod import;
mod lease;
mod list;
mod look;
mod oldest;
mod open;
mod reach;
mod record;
mod recount;
mod redeliver;
mod retention;
mod settle;
pub mod subscriptions;
mod trim;
pub mod verify;
mod waiting;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::database::Database;
pub use self::open::{OpenError, migrate};
pub use self::subscriptions::PostgresSubscriptions;

use self::append::Append;
use self::board::Board;
use self::error::Fault;
use super::observer::StoreObserver;
use super::receipt_id::ReceiptMask;
use super::record_format::NewRecord;
use super::{
    Arrival, DeadLetters, Details, Discarded, Entry, Handled, LaneBacklog, LeaseRequest, Leases, ListQuery,
    OldestPending, Page, Receipt, ReceiptStatus, Redelivered, Redelivery, Settled, Settlement, Stats, Store,
    StoreError, StoredRecord,
};
use crate::config::settings::{RetentionSettings, StoreSettings};
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;

/// What every part of the engine works with.
struct Shared {
    database: Arc<Database>,
    board: Arc<Board>,
    mask: ReceiptMask,
    /// By which it is noticed that the database was exchanged.
    secret_crc: i64,
    duplicate_window: Duration,
    retention: RetentionSettings,
    trim_at_delivery: bool,
    /// Whether it is spread over the servers of a cluster.
    is_distributed: bool,
}

impl Shared {
    /// The number that a receipt leads to, and the random bits that its record must have.
    fn place_of(&self, id: &ReceiptId) -> Option<(i64, [u8; 16])> {
        let unmasked = self.mask.open(id);
        let seq = i64::try_from(unmasked.seq).ok().filter(|seq| *seq > 0)?;
        Some((seq, unmasked.random))
    }
}

/// When what time brings about is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// When it is time.
    ByClock,
    /// When a test says so.
    #[cfg(test)]
    ByHand,
}

/// The record store in a database.
pub struct PostgresStore {
    shared: Arc<Shared>,
    appends: mpsc::Sender<Append>,
    /// Ends what runs by the clock, also when this is dropped.
    closing: watch::Sender<bool>,
}

impl PostgresStore {
    /// Opens the store in this database. Blocks while it does.
    ///
    /// # Errors
    /// [`OpenError`]: what is in the database is not complete, or it does not answer.
    pub fn open(
        database: Arc<Database>,
        settings: &StoreSettings,
        retention: &RetentionSettings,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_with(database, settings, retention, Pace::ByClock)
    }

    fn open_with(
        database: Arc<Database>,
        settings: &StoreSettings,
        retention: &RetentionSettings,
        pace: Pace,
    ) -> Result<Arc<Self>, OpenError> {
        let opened = database.opening(open::open)?;
        let shared = Arc::new(Shared {
            database: Arc::clone(&database),
            board: Arc::new(Board::new(opened.figures, settings.max_waiting_appends, opened.clock_apart)),
            mask: opened.mask,
            secret_crc: opened.secret_crc,
            duplicate_window: settings.duplicate_window,
            retention: retention.clone(),
            trim_at_delivery: retention.delivered_details.is_zero(),
            is_distributed: opened.is_distributed,
        });
        let (appends, waiting) = mpsc::channel(settings.max_waiting_appends.max(1));
        let (closing, closed) = watch::channel(false);
        if let Some(runtime) = database.runtime() {
            runtime.spawn(append::run(waiting, Arc::clone(&shared)));
            if pace == Pace::ByClock {
                runtime.spawn(retention::run(Arc::clone(&shared), closed.clone()));
                runtime.spawn(recount::run(Arc::clone(&shared), closed.clone()));
                runtime.spawn(reach::run(Arc::clone(&shared), closed));
            }
        }
        Ok(Arc::new(Self { shared, appends, closing }))
    }

    /// Does something where the connections live, whichever runtime asks.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Shared>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        self.shared.board.check_open()?;
        let database = &self.shared.database;
        let (runtime, patience) = (database.runtime().ok_or(StoreError::Unavailable)?, database.patience());
        let work = work(Arc::clone(&self.shared));
        // The clock is the runtime's, too: whoever asks may have none.
        let task = runtime.spawn(async move { tokio::time::timeout(patience, work).await });
        let done = task.await.map_err(|ended| StoreError::Engine(Box::new(ended)))?;
        done.unwrap_or(Err(Fault::TooLong(patience))).map_err(StoreError::from)
    }

    async fn append_entry(&self, entry: Entry) -> Result<Receipt, StoreError> {
        let board = &self.shared.board;
        board.check_takes_records()?;
        let place = board.take_place()?;
        let record = NewRecord::prepare(&entry)?;
        drop(entry);
        let (reply, answer) = oneshot::channel();
        self.appends.try_send(Append { record, reply, place }).map_err(|refused| match refused {
            TrySendError::Full(_) => board.overloaded(),
            TrySendError::Closed(_) => StoreError::Unavailable,
        })?;
        let appended = answer.await.map_err(|_gone| StoreError::Unavailable)??;
        Ok(appended.receipt(&self.shared.mask))
    }

    async fn finish(&self) {
        self.shared.board.start_closing();
        self.closing.send_replace(true);
        // Whoever was let in before is answered: with all places in hand, nothing waits any more.
        let _all = self.appends.reserve_many(self.appends.max_capacity()).await;
    }
}

impl Store for PostgresStore {
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        Box::pin(self.append_entry(entry))
    }

    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Leases, StoreError>> {
        Box::pin(self.run(|shared| async move { lease::lease(&shared, request).await }))
    }

    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<Vec<Settled>, StoreError>> {
        Box::pin(self.run(|shared| async move { settle::settle(&shared, settlements).await }))
    }

    fn receipt(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptStatus>, StoreError>> {
        Box::pin(self.run(move |shared| async move { look::status(&shared, &id).await }))
    }

    fn record(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<StoredRecord<Details>>, StoreError>> {
        Box::pin(self.run(move |shared| async move { look::record(&shared, &id).await }))
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.run(|shared| async move { list::page(&shared, &query).await }))
    }

    fn since(&self, number: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Arrival>, StoreError>> {
        Box::pin(self.run(move |shared| async move { list::since(&shared, number, limit).await }))
    }

    fn keep_from(&self, number: Option<u64>) {
        self.shared.board.set_wanted_from(number);
    }

    fn revive(&self, id: ReceiptId, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.run(move |shared| async move { waiting::revive(&shared, &id, now).await }))
    }

    fn requeue(&self, which: DeadLetters) -> BoxFuture<'_, Result<Handled, StoreError>> {
        Box::pin(self.run(|shared| async move { dead_letters::requeue(&shared, which).await }))
    }

    fn redeliver(&self, which: Redelivery) -> BoxFuture<'_, Result<Redelivered, StoreError>> {
        Box::pin(self.run(|shared| async move { redeliver::redeliver(&shared, &which).await }))
    }

    fn discard(&self, which: DeadLetters, how: Discarded) -> BoxFuture<'_, Result<Handled, StoreError>> {
        Box::pin(self.run(|shared| async move { dead_letters::discard(&shared, which, &how).await }))
    }

    fn lanes(&self) -> Vec<LaneBacklog> {
        self.shared.board.lanes()
    }

    fn stats(&self) -> Stats {
        self.shared.board.stats()
    }

    fn oldest_pending(&self) -> BoxFuture<'_, Result<Vec<OldestPending>, StoreError>> {
        Box::pin(self.run(|shared| async move { oldest::of_each_lane(&shared).await }))
    }

    fn observed_by(&self, observer: Arc<dyn StoreObserver>) {
        self.shared.board.observe(observer);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.finish())
    }
}

#[cfg(test)]
pub(crate) mod tests;
