//! Steps 4 to 6 of a record's journey on one screen: admit it, make it durable, say so.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::domain::access::Caller;
use crate::domain::admission::{Admission, NotAdmitted, admit};
use crate::domain::catalog::Catalog;
use crate::domain::record::RecordCreated;
use crate::domain::time::Timestamp;
use crate::store::{Entry, Receipt, Store, StoreError, TraceContext};

/// Tells the forwarder that there is something to do. A lost nudge costs latency, never a record: the forwarder also
/// looks by itself.
pub type Nudge = Arc<dyn Fn() + Send + Sync>;

/// Takes records in.
#[derive(Clone)]
pub struct Intake {
    store: Arc<dyn Store>,
    nudge: Nudge,
    began: (Timestamp, Instant),
}

/// What a 202 stands for.
#[derive(Debug)]
pub enum Accepted {
    /// The record is on disk, and this is the proof.
    Stored {
        /// The proof.
        receipt: Receipt,
        /// The configuration that admitted it.
        catalog_generation: u64,
        /// When it had been admitted, and was on its way to the disk.
        admitted_at: SystemTime,
    },
    /// The test operation passed every check; nothing was stored.
    Test {
        /// The configuration that it passed under.
        catalog_generation: u64,
    },
}

/// Why a record was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// It may not enter.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// It could not be made durable; sending it again is safe.
    #[error(transparent)]
    NotStored(#[from] StoreError),
}

impl Intake {
    /// An intake into this store.
    pub fn new(store: Arc<dyn Store>, nudge: Nudge) -> Self {
        Self { store, nudge, began: (Timestamp::now(), Instant::now()) }
    }

    /// Admits a record under this catalog and makes it durable.
    pub async fn accept(
        &self,
        catalog: &Catalog,
        caller: &Caller,
        event: RecordCreated,
        trace: TraceContext,
    ) -> Result<Accepted, NotAccepted> {
        let admitted = match admit(catalog, caller, event)? {
            Admission::Test { catalog_generation } => return Ok(Accepted::Test { catalog_generation }),
            Admission::Record(admitted) => admitted,
        };
        let catalog_generation = admitted.catalog_generation();
        let admitted_at = SystemTime::now();
        let receipt = self.store.append(Entry { admitted, accepted_at: self.now(), trace }).await?;
        (self.nudge)();
        Ok(Accepted::Stored { receipt, catalog_generation, admitted_at })
    }

    /// The wall clock, or what it would show had it not been set back: a record that seems to come from 1970 would be too old
    /// for a second try as soon as its first one fails.
    fn now(&self) -> Timestamp {
        let (wall, instant) = self.began;
        Timestamp::now().max(wall.after(instant.elapsed()))
    }
}
