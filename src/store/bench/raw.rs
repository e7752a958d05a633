//! What the disk allows: one thread appends what has gathered to a file, syncs, and answers all of it.
//!
//! A record takes as many bytes as its columns and details have in a real engine, in one piece. The file was filled with
//! zeros and synced beforehand, and is written round and round: a sync then only has to move data, and no file grows.
//! There is no duplicate check, no checksum and no random receipt; their places hold zeros.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Append;
use crate::store::{Entry, StoreError};

/// How large the file is.
const FILE_BYTES: usize = 256 << 20;
/// Records that one sync serves at most.
const MAX_GROUP: usize = 1_024;
/// Records that may wait.
const MAX_WAITING: usize = 4_096;
/// What stands beside a record's texts: lane, receipt, duplicate key, record ID, generation, moment, checksum.
const FIXED_COLUMNS_BYTES: usize = 8 + 16 + 16 + 16 + 8 + 8 + 8;

/// The engine; its thread ends when it is dropped.
#[derive(Debug)]
pub struct Raw {
    writes: mpsc::Sender<Write>,
}

/// A record on its way, and who waits for its number.
#[derive(Debug)]
struct Write {
    bytes: Vec<u8>,
    reply: oneshot::Sender<Result<u64, StoreError>>,
}

impl Raw {
    /// Makes the file in this directory, and starts the thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(dir: &Path) -> std::io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(dir.join("raw"))?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let (writes, gathered) = mpsc::channel(MAX_WAITING);
        let writer = Writer { file, at: 0, newest: 0, group: Vec::new() };
        std::thread::Builder::new().name("raw-writer".to_owned()).spawn(move || writer.run(gathered))?;
        Ok(Self { writes })
    }
}

impl Append for Raw {
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let (reply, number) = oneshot::channel();
            self.writes.try_send(Write { bytes: bytes_of(&entry), reply }).map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Overloaded { limit: MAX_WAITING },
                TrySendError::Closed(_) => StoreError::Unavailable,
            })?;
            number.await.map_err(|_gone| StoreError::Unavailable)?
        })
    }
}

/// A record in one piece.
fn bytes_of(entry: &Entry) -> Vec<u8> {
    let event = entry.admitted.event();
    let details = entry.admitted.details().as_bytes();
    let route = entry.admitted.route().to_stored();
    let trace = &entry.trace;
    let texts = [
        event.entity_logical_name.as_str(),
        event.entity_set_name.as_str(),
        event.relationship_name.as_str(),
        &route,
        trace.traceparent.as_deref().unwrap_or_default(),
        trace.client_tracking_id.as_deref().unwrap_or_default(),
    ];
    let mut bytes = Vec::with_capacity(FIXED_COLUMNS_BYTES + details.len() + 512);
    bytes.extend_from_slice(event.record_id.guid().as_bytes());
    bytes.extend_from_slice(&entry.admitted.catalog_generation().to_le_bytes());
    bytes.extend_from_slice(&entry.accepted_at.millis().to_le_bytes());
    bytes.resize(FIXED_COLUMNS_BYTES, 0);
    for text in texts.map(str::as_bytes).into_iter().chain([details.as_ref()]) {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
    }
    bytes
}

/// What the thread owns.
struct Writer {
    file: File,
    at: u64,
    newest: u64,
    group: Vec<u8>,
}

impl Writer {
    fn run(mut self, mut gathered: mpsc::Receiver<Write>) {
        let mut askers = Vec::new();
        while let Some(first) = gathered.blocking_recv() {
            self.group.clear();
            let mut next = Some(first);
            while let Some(Write { bytes, reply }) = next {
                self.group.extend_from_slice(&bytes);
                askers.push(reply);
                next = if askers.len() < MAX_GROUP { gathered.try_recv().ok() } else { None };
            }
            let written = self.write();
            for reply in askers.drain(..) {
                self.newest += 1;
                let answer = match &written {
                    Ok(()) => Ok(self.newest),
                    Err(fault) => Err(StoreError::Broken { cause: fault.to_string() }),
                };
                // An asker who went away does not want to know.
                let _gone = reply.send(answer);
            }
            if written.is_err() {
                return;
            }
        }
    }

    /// Writes the group and syncs it.
    fn write(&mut self) -> std::io::Result<()> {
        let bytes = self.group.len() as u64;
        if self.at + bytes > FILE_BYTES as u64 {
            self.at = 0;
        }
        self.file.write_all_at(&self.group, self.at)?;
        self.at += bytes;
        self.file.sync_data()
    }
}
