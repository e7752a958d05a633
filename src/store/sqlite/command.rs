//! What the writer is asked to do, and how each asker gets its answer.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::batch::Batch;
use super::board::Place;
use super::dead_letters::Chosen;
use super::error::Fault;
use super::handoff::{self, Answer, Answers, Reply};
use super::redeliver::Again;
use super::row::NewRecord;
use super::space::NoRoom;
use super::sweep::Slice;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::receipt::Appended;
use crate::store::{Discarded, LaneId, LeaseRequest, Leases, Settled, Settlement, StoreError};

/// A command on its way through the writer.
pub(super) enum Command {
    /// Store a record.
    Append(Append),
    /// Hand records out.
    Lease(Job<LeaseRequest, Leases>),
    /// End leases.
    Settle(Job<Vec<Settlement>, Vec<Settled>>),
    /// Make a waiting record pending again.
    Revive(Job<(ReceiptId, Timestamp), bool>),
    /// Make dead letters pending again.
    Requeue(Job<Chosen, u64>),
    /// Make delivered records pending again. Answers how many of each lane.
    Redeliver(Job<Again, BTreeMap<LaneId, u64>>),
    /// Put dead letters away.
    Discard(Job<(Chosen, Discarded), u64>),
    /// Do what time has brought about.
    Sweep(Job<Slice, u64>),
    /// Finish what is here, and close.
    Close,
}

/// A record to be stored. There are many of these at once, so they have their own way back.
pub(super) struct Append {
    record: Box<NewRecord>,
    outcome: Option<Result<Appended, StoreError>>,
    reply: Reply<Result<Appended, StoreError>>,
    /// Given up with the answer.
    place: Place,
}

/// What appends are answered.
pub(super) type AppendAnswers = Answers<Result<Appended, StoreError>>;

/// Some input, and the asker who waits for the outcome.
pub(super) struct Job<I, O> {
    input: I,
    outcome: Option<Result<O, StoreError>>,
    reply: oneshot::Sender<Result<O, StoreError>>,
}

/// Why a whole batch did not happen, to be told to each of its askers.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// No room.
    Full(NoRoom),
    /// Writing is over.
    Broken(String),
    /// It may work the next time.
    Passing(String),
    /// The store is closing.
    Closing,
}

impl Failure {
    /// The error for one asker.
    pub(super) fn error(&self) -> StoreError {
        match self {
            Self::Full(NoRoom { free_bytes, reserve_bytes }) => {
                StoreError::Full { free_bytes: *free_bytes, reserve_bytes: *reserve_bytes }
            }
            Self::Broken(cause) => StoreError::Broken { cause: cause.clone() },
            Self::Passing(cause) => StoreError::Engine(cause.clone().into()),
            Self::Closing => StoreError::Unavailable,
        }
    }
}

impl Append {
    /// It, and where its answer will come.
    pub(super) fn new(record: Box<NewRecord>, place: Place) -> (Self, Answer<Result<Appended, StoreError>>) {
        let (reply, answer) = handoff::question();
        (Self { record, outcome: None, reply, place }, answer)
    }

    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        self.outcome = Some(outcome_of(batch.append(&self.record))?);
        Ok(())
    }

    fn answer(self, failure: Option<&Failure>, answers: &mut AppendAnswers) {
        answers.give(self.reply, answer_of(failure, self.outcome));
        drop(self.place);
    }
}

/// What one command came to, unless it failed in a way that concerns the whole batch.
fn outcome_of<O>(done: Result<O, Fault>) -> Result<Result<O, StoreError>, Fault> {
    match done {
        Ok(outcome) => Ok(Ok(outcome)),
        Err(Fault::Command(error)) => Ok(Err(error)),
        Err(fault) => Err(fault),
    }
}

/// What an asker is told after the commit (or its failure).
fn answer_of<O>(failure: Option<&Failure>, outcome: Option<Result<O, StoreError>>) -> Result<O, StoreError> {
    match (failure, outcome) {
        (Some(failure), _) => Err(failure.error()),
        (None, Some(outcome)) => outcome,
        (None, None) => Err(StoreError::Unavailable),
    }
}

impl<I, O> Job<I, O> {
    /// A job, and where its answer will come.
    pub(super) fn new(input: I) -> (Self, oneshot::Receiver<Result<O, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { input, outcome: None, reply }, answer)
    }

    fn run(&mut self, work: impl FnOnce(&mut I) -> Result<O, Fault>) -> Result<(), Fault> {
        self.outcome = Some(outcome_of(work(&mut self.input))?);
        Ok(())
    }

    fn answer(self, failure: Option<&Failure>) {
        // An asker who went away does not want to know.
        let _gone = self.reply.send(answer_of(failure, self.outcome));
    }
}

impl Command {
    /// Does it, in the batch's transaction.
    pub(super) fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        match self {
            Self::Append(append) => append.run(batch),
            // Nobody would know of the lease, and its records would wait for its end.
            Self::Lease(job) if job.reply.is_closed() => Ok(()),
            Self::Lease(job) => job.run(|request| batch.lease(request)),
            Self::Settle(job) => job.run(|settlements| batch.settle(settlements)),
            Self::Revive(job) => job.run(|(receipt, now)| batch.revive(receipt, *now)),
            Self::Requeue(job) => job.run(|chosen| batch.requeue(chosen)),
            Self::Redeliver(job) => job.run(|again| batch.redeliver(again)),
            Self::Discard(job) => job.run(|(chosen, how)| batch.discard(chosen, how)),
            Self::Sweep(job) => job.run(|slice| batch.sweep(slice)),
            Self::Close => Ok(()),
        }
    }

    /// Answers, after the commit (or its failure). Appends get theirs when these are sent.
    pub(super) fn answer(self, failure: Option<&Failure>, answers: &mut AppendAnswers) {
        match self {
            Self::Append(append) => append.answer(failure, answers),
            Self::Lease(job) => job.answer(failure),
            Self::Settle(job) => job.answer(failure),
            Self::Revive(job) => job.answer(failure),
            Self::Requeue(job) => job.answer(failure),
            Self::Redeliver(job) => job.answer(failure),
            Self::Discard(job) => job.answer(failure),
            Self::Sweep(job) => job.answer(failure),
            Self::Close => {}
        }
    }

    /// About how many bytes it adds to the log.
    pub(super) fn weight_bytes(&self) -> usize {
        const ROW_BYTES: usize = 512;
        match self {
            Self::Append(append) => append.record.details().len() + ROW_BYTES,
            Self::Lease(job) => job.input.max.min(super::lease::MAX_LEASED_RECORDS) * ROW_BYTES,
            Self::Settle(job) => job.input.len() * ROW_BYTES,
            Self::Revive(_) => ROW_BYTES,
            Self::Requeue(job) => job.input.len() * ROW_BYTES,
            Self::Redeliver(job) => job.input.seqs.len() * ROW_BYTES,
            Self::Discard(job) => job.input.0.len() * ROW_BYTES,
            Self::Sweep(job) => job.input.len() * ROW_BYTES,
            Self::Close => 0,
        }
    }

    /// It is on disk, with so many new records.
    pub(super) fn committed(&mut self, records: u32) {
        if let Self::Append(Append { outcome: Some(Ok(appended)), .. }) = self {
            appended.commit_records = records;
        }
    }

    /// Whether it stores a record: what a full disk stops.
    pub(super) const fn is_append(&self) -> bool {
        matches!(self, Self::Append(..))
    }
}
