//! Clients that post new records one after the other, and note every 202 before they do anything else.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::ledger::{Ledger, Promise};
use crate::seed::unix_now;
use crate::world::{Tenant, World, record};

/// How long a client that was refused, or not answered, stands back.
const STAND_BACK: Duration = Duration::from_millis(10);

/// What is posted, by how many.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) world: &'a World,
    /// Where its promises are noted.
    pub(crate) ledger: &'a Ledger,
    pub(crate) to: SocketAddr,
    pub(crate) clients: usize,
    /// Bytes of padding in the details.
    pub(crate) padding: usize,
    pub(crate) tenant: Tenant,
    /// How long each client rests between two records.
    pub(crate) rest: Duration,
}

/// What came of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// When it was sent, in seconds since 1970.
    pub(crate) sent: f64,
    pub(crate) took: Duration,
    /// 0 where there was no whole answer.
    pub(crate) status: u16,
}

/// What came of all of them so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    accepted: AtomicU64,
    stop: AtomicBool,
    outcomes: Mutex<Vec<Outcome>>,
}

impl<'a> Load<'a> {
    /// The usual load: small records of `contoso`, as fast as they are answered.
    pub(crate) const fn new(world: &'a World, to: SocketAddr, clients: usize) -> Self {
        let ledger = &world.ledger;
        Self { world, ledger, to, clients, padding: 0, tenant: Tenant::Contoso, rest: Duration::ZERO }
    }

    /// Posts while `meanwhile` runs.
    pub(crate) fn during<T>(&self, meanwhile: impl FnOnce(&Tally) -> T) -> (T, Tally) {
        let tally = Tally::default();
        let result = std::thread::scope(|scope| {
            for _ in 0..self.clients {
                scope.spawn(|| self.client(&tally));
            }
            // Also when `meanwhile` panics, or the clients would never end.
            let _stop = StopOnDrop(&tally);
            meanwhile(&tally)
        });
        (result, tally)
    }

    fn client(&self, tally: &Tally) {
        let mut client = Client::new(self.to, Duration::from_secs(30));
        while !tally.stop.load(Ordering::Relaxed) {
            let number = self.world.number();
            let body = record(self.tenant, number, self.padding);
            let (sent, began) = (unix_now(), Instant::now());
            let answer = client.post(&body);
            let took = began.elapsed();
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            if let Ok(answer) = answer.as_ref()
                && answer.status == 202
            {
                let receipt = answer.text("receiptId");
                self.ledger.note(Promise { receipt, number, sent, answered: unix_now() });
                tally.accepted.fetch_add(1, Ordering::Relaxed);
            } else {
                std::thread::sleep(STAND_BACK);
            }
            tally.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(Outcome { sent, took, status });
            if !self.rest.is_zero() {
                std::thread::sleep(self.rest);
            }
        }
    }
}

struct StopOnDrop<'a>(&'a Tally);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Tally {
    /// Answers 202 so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Everything so far.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were answered like this.
    pub(crate) fn count(&self, status: u16) -> usize {
        self.outcomes().iter().filter(|outcome| outcome.status == status).count()
    }

    /// How long those took that were answered with 202.
    pub(crate) fn times(&self) -> Vec<Duration> {
        self.outcomes().iter().filter(|outcome| outcome.status == 202).map(|outcome| outcome.took).collect()
    }

    /// Waits until so many were accepted, at most for this long.
    pub(crate) fn wait_for(&self, accepted: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.accepted() < accepted {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

/// The time that this share of all stayed below.
pub(crate) fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list"
    )]
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Looks again and again until something is there, at most for so long.
pub(crate) fn eventually<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
