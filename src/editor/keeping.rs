//! The store of the catalog, as what is effective asks for it; and how long one gives way who was not fast enough.

use std::sync::Arc;
use std::time::Duration;

use crate::config::keeper::{Keeper, NotTaken};
use crate::config::stored::Stored;
use crate::store::StoreError;
use crate::store::catalog::{Advance, CatalogStore};

/// What keeps the stored part of the configuration in this store.
pub fn keeper(store: Arc<dyn CatalogStore>) -> Box<dyn Keeper> {
    Box::new(InStore(store))
}

struct InStore(Arc<dyn CatalogStore>);

impl Keeper for InStore {
    fn load(&self) -> Result<Stored, String> {
        self.0.load().map_err(|fault| in_words(&fault))
    }

    fn take(&self, from: u64, to: u64) -> Result<u64, NotTaken> {
        match self.0.advance(Advance { from, to }) {
            Ok(()) => Ok(to),
            Err(StoreError::Changed) => Err(NotTaken::Overtaken),
            Err(fault) if self.0.gateways().is_some() => Err(NotTaken::Failed(in_words(&fault))),
            Err(fault) => {
                // Nobody else goes by it, and a disk that is full must not keep a mended file from counting.
                tracing::warn!(%fault, to, "the generation could not be noted; after a restart it may be given again");
                Ok(from)
            }
        }
    }
}

/// What the store says, down to the cause.
fn in_words(fault: &StoreError) -> String {
    let mut words = fault.to_string();
    let mut cause = std::error::Error::source(fault);
    while let Some(fault) = cause {
        let more = fault.to_string();
        if !words.ends_with(&more) {
            words.push_str(&format!(": {more}"));
        }
        cause = fault.source();
    }
    words
}

/// The longest that one gives way.
const LONGEST_PAUSE_MILLIS: u64 = 32;

/// Gives way to the others for a moment, by chance and longer each time, so that gateways which change much at once do not
/// go on colliding. The first time there is nothing to give way to: whoever was faster is done.
pub(super) fn give_way(attempt: u32) {
    if attempt == 0 {
        return;
    }
    let most = LONGEST_PAUSE_MILLIS.min(1_u64.checked_shl(attempt).unwrap_or(LONGEST_PAUSE_MILLIS));
    let mut chance = [0; 1];
    // Without random bits there is no pause, and the next try may collide.
    let filled = getrandom::fill(&mut chance);
    let part = filled.map_or(0, |()| u64::from(u8::from_le_bytes(chance)));
    std::thread::sleep(Duration::from_micros(most * 1_000 * part / u64::from(u8::MAX)));
}
