//! The contract suite against a real server, and what only several gateways on one database can show.

mod catalog;
mod gateways;
mod reach;
pub(crate) mod server;
mod several_servers;
mod subscriptions;
mod verify;

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use self::server::Database;
use super::{Pace, PostgresStore, retention};
use crate::config::settings::{RetentionSettings, StoreSettings};
use crate::domain::time::Timestamp;
use crate::store::Store;
use crate::store::contract::{DUPLICATE_WINDOW, Engine, RETENTION, Swept, store_contract};
use crate::store::observer;

/// A store in a database of its own, which does what time brings about when a test says so.
struct InDatabase {
    database: Database,
    settings: StoreSettings,
    retention: RetentionSettings,
    open: Mutex<Option<Arc<PostgresStore>>>,
}

impl InDatabase {
    fn new() -> Option<Self> {
        let settings =
            StoreSettings { disk_reserve_bytes: 0, duplicate_window: DUPLICATE_WINDOW, max_waiting_appends: 4_096 };
        Some(Self { database: Database::new()?, settings, retention: RETENTION, open: Mutex::new(None) })
    }

    fn open_store(&self) -> Arc<PostgresStore> {
        let store = PostgresStore::open_with(self.database.open(), &self.settings, &self.retention, Pace::ByHand);
        let store = store.unwrap();
        // Nobody is subscribed here.
        store.keep_from(None);
        store
    }
}

impl Engine for InDatabase {
    /// A gateway gives up what it finds, whatever the others hold.
    const GIVES_UP_IN_ORDER: bool = false;
    const CASES: u32 = 16;

    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async {
            let store = self.open_store();
            *self.open.lock().unwrap() = Some(Arc::clone(&store));
            store as Arc<dyn Store>
        })
    }

    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Swept> {
        Box::pin(async move {
            let store = self.open.lock().unwrap().clone().expect("a store");
            let swept =
                store.run(move |shared| async move { retention::everything(&shared, now).await }).await.unwrap();
            let observer::Swept { closed, given_up, trimmed, deleted } = swept;
            Swept { closed, given_up, trimmed, deleted }
        })
    }
}

mod contract {
    use super::*;
    store_contract!(InDatabase::new());
}
