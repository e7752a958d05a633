//! Several gateways on one catalog: each follows what the others change, says that it is there, and knows who else is.
//!
//! One thread does it: woken by whoever changed the catalog, and at the latest after a second, it says which generation
//! this gateway serves, asks for the stored one, and makes what is stored effective where that is another. What does not go
//! with the files of this gateway is not used: the last good configuration stays, the log says why, and so do readiness,
//! the metrics and the list of gateways. It is tried again when either side changes.
//!
//! With an engine that only one gateway can open there is nobody to follow and no thread: the list has this gateway alone.
//!
//! Not guaranteed: that a gateway which has said nothing for five seconds serves nothing any more. It may be cut off from
//! the store and not from its callers. It accepts nothing then, since accepting needs the store.

mod following;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::following::{Signal, Thread};
use crate::config::Live;
use crate::config::keeper::NotFollowed;
use crate::store::StoreError;
use crate::store::catalog::CatalogStore;
use crate::store::gateways::{GONE_AFTER, GatewayId, LiveGateway, Presence};

/// The longest that a change waits for every gateway: twice as long as one takes to be gone.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What this gateway is called.
#[derive(Debug, Clone)]
pub struct Name {
    /// Host and port, or whatever else people know it by.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How following goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What is stored is effective, as of the last look.
    Current,
    /// What is stored does not go with the files; the last good configuration is effective.
    Behind,
    /// Nobody knows what is stored: the store has not answered for as long as it takes a gateway to be gone.
    Unreachable,
}

impl Standing {
    /// As answers say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The gateways on this gateway's catalog, with itself.
pub struct Fleet {
    shared: Arc<Shared>,
    /// Until leave is taken.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and whoever asks share.
struct Shared {
    id: GatewayId,
    name: Name,
    live: Arc<Live>,
    catalog: Arc<dyn CatalogStore>,
    started: Instant,
    signal: Arc<Signal>,
}

/// Why the gateways cannot be told apart or followed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No random bits for an ID.
    #[error("the operating system gives no random bits: {0}")]
    Random(#[from] getrandom::Error),
    /// No thread.
    #[error("the thread that follows the catalog cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl Fleet {
    /// Begins to follow, where there may be others.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(live: Arc<Live>, catalog: Arc<dyn CatalogStore>, name: Name) -> Result<Self, StartError> {
        let signal = Arc::new(Signal::new());
        let shared = Shared { id: GatewayId::random()?, name, live, catalog, started: Instant::now(), signal };
        let shared = Arc::new(shared);
        let thread = match shared.catalog.gateways() {
            None => None,
            Some(gateways) => {
                let signal = Arc::clone(&shared.signal);
                gateways.on_change(Box::new(move || signal.wake()));
                let thread = Thread::new(Arc::clone(&shared));
                Some(std::thread::Builder::new().name("catalog-follow".to_owned()).spawn(move || thread.run())?)
            }
        };
        Ok(Self { shared, thread: Mutex::new(thread) })
    }

    /// This gateway's ID, of this start.
    pub fn id(&self) -> GatewayId {
        self.shared.id
    }

    /// Whether other gateways may share the catalog.
    pub fn is_shared(&self) -> bool {
        self.shared.catalog.gateways().is_some()
    }

    /// How following goes.
    pub fn standing(&self) -> Standing {
        if self.is_shared() && self.shared.signal.silent_for() >= GONE_AFTER {
            return Standing::Unreachable;
        }
        match &self.shared.live.following().fault {
            None | Some(NotFollowed::Unreadable(_) | NotFollowed::Overtaken) => Standing::Current,
            Some(NotFollowed::Faults(_)) => Standing::Behind,
        }
    }

    /// Every gateway that is there, this one as it is at this moment. Blocks on the store.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub fn live(&self) -> Result<Vec<LiveGateway>, StoreError> {
        let own =
            LiveGateway { presence: self.shared.presence(), heard: Duration::ZERO, up: self.shared.started.elapsed() };
        let mut all = match self.shared.catalog.gateways() {
            None => Vec::new(),
            Some(gateways) => gateways.live()?,
        };
        all.retain(|one| one.presence.id != own.presence.id);
        all.push(own);
        all.sort_by(|a, b| (&a.presence.name, a.presence.id).cmp(&(&b.presence.name, b.presence.id)));
        Ok(all)
    }

    /// The gateways that are there and do not serve this generation yet, or a later one. Blocks on the store.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub fn lagging(&self, generation: u64) -> Result<Vec<LiveGateway>, StoreError> {
        let mut all = self.live()?;
        all.retain(|one| one.presence.generation < generation);
        Ok(all)
    }

    /// Takes leave of the others: nobody waits for this gateway any more. Blocks until that is said, or cannot be.
    pub fn leave(&self) {
        self.shared.signal.stop();
        // Taken out as a whole, so a panic elsewhere leaves it whole.
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that followed the catalog had panicked");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    /// What this gateway says of itself.
    fn presence(&self) -> Presence {
        Presence {
            id: self.id,
            name: self.name.name.clone(),
            version: self.name.version.clone(),
            generation: self.live.current().catalog.generation(),
            files: String::clone(&self.live.files()),
            behind: self.live.following().fault.as_ref().map(ToString::to_string),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
