//! Append: how every record of this gateway comes into the database, in batches.
//!
//! Whatever has gathered goes into a transaction together ([`batch`]). It holds the counter's row from its first statement
//! on, so that over all gateways numbers have no gaps, become visible in their order, and a key is looked up and put down
//! without anyone in between.
//!
//! Nobody waits where there is work: while one batch waits for the disk, the next one has begun on a second connection and
//! waits for the row; and while those run, the callers who were answered before come again. For that a batch takes no more
//! than half of the records in circulation. Had it taken all of them, the database would be idle while their callers
//! are answered, and then be given the few that were quickest.

mod batch;
mod write;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot};

use self::batch::{Committed, try_to_commit};
use super::Shared;
use super::board::Place;
use super::error::Fault;
use crate::store::StoreError;
use crate::store::observer::{Commit, CommitFailure};
use crate::store::receipt::Appended;
use crate::store::record_format::NewRecord;

/// Records that one transaction takes at most.
const MAX_BATCH: usize = 4_096;
/// So many always go together, if there are as many.
const SMALL_BATCH: usize = 32;
/// Transactions under way at most: one that commits, and the next one.
const UNDER_WAY: usize = 2;

/// A record on its way, and whoever waits for its receipt.
pub(super) struct Append {
    pub(super) record: NewRecord,
    pub(super) reply: oneshot::Sender<Result<Appended, StoreError>>,
    pub(super) place: Place,
}

/// A batch's turn, which the next one waits for. Passed on once, when nothing but the disk is waited for, or dropped.
struct Turn(Option<oneshot::Sender<()>>);

impl Turn {
    fn pass_on(&mut self) {
        if let Some(next) = self.0.take() {
            let _nobody_appends_any_more = next.send(());
        }
    }
}

/// Appends until nobody can ask for more.
pub(super) async fn run(mut appends: mpsc::Receiver<Append>, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(UNDER_WAY));
    let mut before = 0;
    loop {
        // It is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let mut batch = Vec::new();
        let in_circulation: usize = before + appends.len();
        if appends.recv_many(&mut batch, (in_circulation / 2).clamp(SMALL_BATCH, MAX_BATCH)).await == 0 {
            return;
        }
        before = batch.len();
        // Neighbours in an index go in together. Those of an organization keep their order.
        batch.sort_by_key(|append: &Append| append.record.lane.organization);
        let (turn, next) = oneshot::channel();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            append(&shared, batch, Turn(Some(turn))).await;
            drop(slot);
        });
        let _passed_on_or_dropped = next.await;
    }
}

/// Commits a batch, and answers everyone in it.
async fn append(shared: &Shared, batch: Vec<Append>, turn: Turn) {
    let began = Instant::now();
    let outcome = commit(shared, &batch, turn).await;
    let took = began.elapsed();
    if let Err(fault) = &outcome {
        tracing::warn!(error = %fault, records = batch.len(), "records could not be stored; their callers are told to repeat");
    }
    // Before anybody is answered: whoever asks then is told why.
    shared.board.note_batch(outcome.as_ref().err());
    for (at, append) in batch.into_iter().enumerate() {
        let answer = match &outcome {
            Ok(committed) => match committed.answers.get(at) {
                Some(Ok(appended)) => Ok(Appended { commit_records: committed.records, ..*appended }),
                Some(Err(damage)) => Err(damage.clone().into()),
                None => Err(StoreError::Unavailable),
            },
            Err(fault) => Err(fault.for_each()),
        };
        // Whoever does not wait any more finds the record by repeating.
        let _gone = append.reply.send(answer);
        drop(append.place);
    }
    tell(shared, &outcome, took);
}

/// Tells the observer, now that everybody was answered.
fn tell(shared: &Shared, outcome: &Result<Committed, Fault>, took: Duration) {
    let Some(observer) = shared.board.observer() else { return };
    match outcome {
        Ok(Committed { records, bytes, sync, .. }) if *records > 0 => {
            observer.committed(&Commit { records: *records, bytes: *bytes, took, sync: *sync });
        }
        // Repeats alone write nothing.
        Ok(_) => {}
        Err(fault) if fault.is_of_no_room() => observer.not_committed(CommitFailure::Full),
        Err(_) => observer.not_committed(CommitFailure::Passing),
    }
}

/// Commits a batch. It is safe to try again even where the first try took effect after all: every record is then found by
/// its key, and gets the receipt that it has.
async fn commit(shared: &Shared, batch: &[Append], mut turn: Turn) -> Result<Committed, Fault> {
    match try_to_commit(shared, batch, &mut turn).await {
        Err(fault) if fault.is_of_the_moment() => {
            tracing::debug!(%fault, "the connection was lost; the batch is tried again on another one");
            try_to_commit(shared, batch, &mut turn).await
        }
        outcome => outcome,
    }
}
