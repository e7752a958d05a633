//! What the writer is asked to do, and how each asker gets its answer.

use tokio::sync::oneshot;

use super::append::Appended;
use super::batch::Batch;
use super::board::{NoRoom, Place};
use super::error::Fault;
use super::row::NewRecord;
use crate::store::{LeaseRequest, Leases, RequeueQuery, Settled, Settlement, StoreError};

/// A command on its way through the writer.
pub(super) enum Command {
    /// Store a record; the place is given up with the answer.
    Append(Job<Box<NewRecord>, Appended>, Place),
    /// Hand records out.
    Lease(Job<LeaseRequest, Leases>),
    /// End leases.
    Settle(Job<Vec<Settlement>, Vec<Settled>>),
    /// Make dead letters pending again.
    Requeue(Job<Requeue, u64>),
    /// Finish what is here, and close.
    Close,
}

/// A requeue, which may take several transactions.
pub(super) struct Requeue {
    query: RequeueQuery,
    /// Everything up to here is done.
    after: i64,
    /// How much that was.
    done: u64,
    /// What this batch adds.
    step: Option<super::settle::Requeued>,
}

impl Requeue {
    /// Nothing of it is done yet.
    pub(super) const fn new(query: RequeueQuery) -> Self {
        Self { query, after: 0, done: 0, step: None }
    }
}

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

impl<I, O> Job<I, O> {
    /// A job, and where its answer will come.
    pub(super) fn new(input: I) -> (Self, oneshot::Receiver<Result<O, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { input, outcome: None, reply }, answer)
    }

    fn run(&mut self, work: impl FnOnce(&mut I) -> Result<O, Fault>) -> Result<(), Fault> {
        self.outcome = Some(match work(&mut self.input) {
            Ok(outcome) => Ok(outcome),
            Err(Fault::Command(error)) => Err(error),
            Err(fault) => return Err(fault),
        });
        Ok(())
    }

    fn answer(self, failure: Option<&Failure>) {
        let outcome = match (failure, self.outcome) {
            (Some(failure), _) => Err(failure.error()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(StoreError::Unavailable),
        };
        // An asker who went away does not want to know.
        let _gone = self.reply.send(outcome);
    }
}

impl Command {
    /// Does it, in the batch's transaction.
    pub(super) fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        match self {
            Self::Append(job, _) => job.run(|record| batch.append(record)),
            // Nobody would know of the lease, and its records would wait for its end.
            Self::Lease(job) if job.reply.is_closed() => Ok(()),
            Self::Lease(job) => job.run(|request| batch.lease(request)),
            Self::Settle(job) => job.run(|settlements| batch.settle(settlements)),
            Self::Requeue(job) => job.run(|requeue| {
                let step = match &requeue.query {
                    RequeueQuery::One(receipt) => batch.requeue_one(receipt)?,
                    RequeueQuery::All { organization } => batch.requeue_all(organization.as_ref(), requeue.after)?,
                };
                requeue.step = Some(step);
                Ok(requeue.done + step.count)
            }),
            Self::Close => Ok(()),
        }
    }

    /// Answers, after the commit (or its failure). What is left to do comes back.
    pub(super) fn answer(self, failure: Option<&Failure>) -> Option<Self> {
        match self {
            Self::Append(job, place) => {
                job.answer(failure);
                drop(place);
            }
            Self::Lease(job) => job.answer(failure),
            Self::Settle(job) => job.answer(failure),
            Self::Requeue(mut job) => {
                if let (None, Some(step)) = (failure, job.input.step.take())
                    && let Some(after) = step.after
                {
                    job.input.after = after;
                    job.input.done += step.count;
                    job.outcome = None;
                    return Some(Self::Requeue(job));
                }
                job.answer(failure);
            }
            Self::Close => {}
        }
        None
    }

    /// About how many bytes it adds to the log.
    pub(super) fn weight_bytes(&self) -> usize {
        const ROW_BYTES: usize = 512;
        match self {
            Self::Append(job, _) => job.input.details().len() + ROW_BYTES,
            Self::Lease(job) => job.input.max.min(super::lease::MAX_LEASED_RECORDS) * ROW_BYTES,
            Self::Settle(job) => job.input.len() * ROW_BYTES,
            Self::Requeue(_) => super::settle::REQUEUED_AT_ONCE * ROW_BYTES,
            Self::Close => 0,
        }
    }

    /// Whether it stores a record: what a full disk stops.
    pub(super) const fn is_append(&self) -> bool {
        matches!(self, Self::Append(..))
    }
}
