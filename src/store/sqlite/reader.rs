//! The threads that read `records.db`, each on its own connection: a slow read holds up neither the writer nor the
//! runtime that asked. What was committed before a read began is seen by it.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::board::{Board, BreakOnPanic};
use super::list::{self, DeadLetterQuery};
use super::look;
use super::lost::Lost;
use super::oldest;
use super::redeliver;
use crate::domain::ids::ReceiptId;
use crate::store::receipt_id::ReceiptMask;
use crate::store::{
    Arrival, Details, ListQuery, OldestPending, Page, ReceiptStatus, Redelivered, Redelivery, StoreError, StoredRecord,
};

/// Reads that may wait; beyond that the askers wait before they are let in.
const MAX_WAITING: usize = 1_024;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Something to be read.
pub(super) enum Read {
    /// What became of a receipt.
    Status(ReceiptId, Reply<Option<ReceiptStatus>>),
    /// The record behind a receipt.
    Record(ReceiptId, Reply<Option<StoredRecord<Details>>>),
    /// A page of records.
    List(ListQuery, Reply<Page>),
    /// The numbers of a page of dead letters, and where to go on.
    DeadLetters(DeadLetterQuery, Reply<(Vec<i64>, Option<i64>)>),
    /// The numbers of a page of delivered records that can be delivered again, and what is to be said of the page.
    Delivered(Redelivery, Reply<(Vec<i64>, Redelivered)>),
    /// What arrived after a record, at most so many.
    Since(u64, usize, Reply<Vec<Arrival>>),
    /// The oldest pending record of each lane.
    Oldest(Reply<Vec<OldestPending>>),
    /// Nothing more.
    Stop,
}

/// A running thread.
pub(super) struct ReadThread {
    reads: mpsc::Sender<Read>,
    thread: JoinHandle<()>,
}

/// What the thread reads with.
pub(super) struct Reader {
    pub(super) conn: Connection,
    pub(super) mask: ReceiptMask,
    pub(super) board: Arc<Board>,
    pub(super) lost: Arc<Lost>,
}

impl ReadThread {
    /// Starts the thread.
    pub(super) fn start(name: &str, reader: Reader) -> std::io::Result<Self> {
        let (reads, mut asked) = mpsc::channel(MAX_WAITING);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _guard = BreakOnPanic(Arc::clone(&reader.board), "reader");
            while let Some(read) = asked.blocking_recv() {
                if matches!(read, Read::Stop) {
                    break;
                }
                reader.answer(read);
            }
        })?;
        Ok(Self { reads, thread })
    }

    /// Where to send what is to be read.
    pub(super) fn sender(&self) -> mpsc::Sender<Read> {
        self.reads.clone()
    }

    /// Stops the thread, after what was asked before.
    pub(super) fn stop(self) {
        // It fails only if the thread is gone already.
        let _gone = self.reads.blocking_send(Read::Stop);
        if self.thread.join().is_err() {
            tracing::error!("a thread that reads records panicked");
        }
    }
}

impl Reader {
    fn answer(&self, read: Read) {
        // An asker who went away does not want to know.
        match read {
            Read::Status(id, reply) => drop(reply.send(look::status(self, &id))),
            Read::Record(id, reply) => drop(reply.send(look::record(self, &id))),
            Read::List(query, reply) => drop(reply.send(list::page(self, &query))),
            Read::DeadLetters(query, reply) => drop(reply.send(list::dead_letters(self, &query))),
            Read::Delivered(which, reply) => drop(reply.send(redeliver::find(self, &which))),
            Read::Since(number, limit, reply) => drop(reply.send(list::since(self, number, limit))),
            Read::Oldest(reply) => drop(reply.send(oldest::of_each_lane(self))),
            Read::Stop => {}
        }
    }
}
