//! Engines to measure against, compiled only with the feature `bench-engines`. They take records and answer, and that is
//! all: nothing can be read back, and no command of the gateway can reach them.
//!
//! * [`nothing`] answers at once and keeps nothing. Behind the real door it shows the most that any store can reach.
//! * [`raw`] appends the same bytes to a pre-written file and syncs once for all that has gathered. It shows what the
//!   disk allows, before there are transactions, checksums, look-ups or anything that could be found again.
//!
//! They live in this room because only it can make a receipt. What they are compared with, and how, is in
//! `docs/benchmarks.md`.

pub mod nothing;
pub mod raw;

use futures_util::future::{BoxFuture, ready};

use super::{
    Arrival, DeadLetters, Details, Discarded, Entry, Handled, LaneBacklog, LaneId, LeaseRequest, Leases, ListQuery,
    Page, Receipt, ReceiptStatus, Redelivered, Redelivery, Settled, Settlement, Stats, Store, StoreError, StoredRecord,
};
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;

/// What such an engine does.
pub trait Append: Send + Sync + 'static {
    /// Takes a record. The answer is its number.
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// Makes a store of what can only append: nothing is ever found in it.
#[derive(Debug)]
pub struct AppendOnly<E>(pub E);

impl<E: Append> AppendOnly<E> {
    async fn receipt_for(&self, entry: Entry) -> Result<Receipt, StoreError> {
        let number = self.0.append(entry).await?;
        // As long as a real one, and as unique. It opens nothing.
        let mut id = [0; 24];
        for (to, from) in id.iter_mut().zip(number.to_be_bytes()) {
            *to = from;
        }
        Ok(Receipt::committed(ReceiptId::from_bytes(id), LaneId(1), None))
    }
}

/// The answer to everything but an append.
fn nothing_here<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(ready(Err(StoreError::Unavailable)))
}

impl<E: Append> Store for AppendOnly<E> {
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        Box::pin(self.receipt_for(entry))
    }

    fn lease(&self, _: LeaseRequest) -> BoxFuture<'_, Result<Leases, StoreError>> {
        Box::pin(ready(Ok(Leases::default())))
    }

    fn settle(&self, _: Vec<Settlement>) -> BoxFuture<'_, Result<Vec<Settled>, StoreError>> {
        nothing_here()
    }

    fn receipt(&self, _: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptStatus>, StoreError>> {
        Box::pin(ready(Ok(None)))
    }

    fn record(&self, _: ReceiptId) -> BoxFuture<'_, Result<Option<StoredRecord<Details>>, StoreError>> {
        Box::pin(ready(Ok(None)))
    }

    fn list(&self, _: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        nothing_here()
    }

    fn since(&self, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<Arrival>, StoreError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn keep_from(&self, _: Option<u64>) {}

    fn revive(&self, _: ReceiptId, _: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(ready(Ok(false)))
    }

    fn requeue(&self, _: DeadLetters) -> BoxFuture<'_, Result<Handled, StoreError>> {
        nothing_here()
    }

    fn redeliver(&self, _: Redelivery) -> BoxFuture<'_, Result<Redelivered, StoreError>> {
        nothing_here()
    }

    fn discard(&self, _: DeadLetters, _: Discarded) -> BoxFuture<'_, Result<Handled, StoreError>> {
        nothing_here()
    }

    fn lanes(&self) -> Vec<LaneBacklog> {
        Vec::new()
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
