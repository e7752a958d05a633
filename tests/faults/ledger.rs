//! What was promised: every 202, written down before anything else happens to it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Fallible;

/// One 202.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    pub(crate) receipt: String,
    /// The number that the record was made of; its ID and its key follow from it.
    pub(crate) number: u64,
    /// When the request was sent, in seconds since 1970.
    pub(crate) sent: f64,
    /// When the answer was there.
    pub(crate) answered: f64,
}

/// The file of promises. It lies outside of what the fault can reach.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<(File, Vec<Promise>)>);

impl Ledger {
    pub(crate) fn create(folder: &Path) -> Fallible<Self> {
        let file = File::options().append(true).create(true).open(folder.join("promises"))?;
        Ok(Self(Mutex::new((file, Vec::new()))))
    }

    fn locked(&self) -> MutexGuard<'_, (File, Vec<Promise>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a promise.
    pub(crate) fn note(&self, promise: Promise) {
        let mut ledger = self.locked();
        let line = format!("{} {} {:.6} {:.6}\n", promise.receipt, promise.number, promise.sent, promise.answered);
        // Without the file the programme has nothing to go by after a crash of its own; the list counts for this run.
        if let Err(fault) = ledger.0.write_all(line.as_bytes()) {
            crate::say(&format!("a promise could not be noted: {fault}"));
        }
        ledger.1.push(promise);
    }

    /// All so far.
    pub(crate) fn all(&self) -> Vec<Promise> {
        self.locked().1.clone()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.locked().1.len()
    }
}
