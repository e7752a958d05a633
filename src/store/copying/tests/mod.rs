//! Moving up on a real server: all of it is there and goes on, also after a copy that was cut short again and again; and
//! what must not be copied is refused.

mod afterwards;
mod interrupted;
mod refused;
mod whole;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::config::settings::StoreSettings;
use crate::domain::access::OrganizationScope;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;
use crate::store::catalog::{CatalogChange, CatalogStore};
use crate::store::contract::catalog::{api_key, change, document, entry, id};
use crate::store::contract::subscriptions::{add, id as subscriber, span, subscription};
use crate::store::contract::{Bench, DUPLICATE_WINDOW, RETENTION, day};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::tests::server::Database as TestDatabase;
use crate::store::sqlite::catalog::SqliteCatalog;
use crate::store::sqlite::subscriptions::SqliteSubscriptions;
use crate::store::sqlite::tests::InDirectory;
use crate::store::sqlite::tests::verify::{ALL, Known, everything_below, known, rich};
use crate::store::subscriptions::{Ended, Fenced, NewNotice, SubscriptionStore, Tried, TriedEnd};
use crate::store::{Leased, Store};

/// A database of its own.
struct Base(TestDatabase);

impl Base {
    /// A new one; `None` where no server is installed.
    fn new() -> Option<Self> {
        TestDatabase::new().map(Self)
    }

    fn open(&self) -> Result<Arc<Database>, postgres::OpenError> {
        Database::open(&self.0.settings())
    }

    fn store(&self) -> Result<Arc<PostgresStore>, postgres::OpenError> {
        let settings =
            StoreSettings { disk_reserve_bytes: 0, duplicate_window: DUPLICATE_WINDOW, max_waiting_appends: 4_096 };
        PostgresStore::open(self.open()?, &settings, &RETENTION)
    }

    /// Copies in pieces of so many rows.
    fn copy(&self, from: &Path, piece_rows: usize, tell: &mut dyn FnMut(Progress)) -> Result<Copied, CopyError> {
        let (source, database) = (Source::open(from)?, Database::open_to_copy(&self.0.settings())?);
        let place = self.0.settings().place();
        Copier { source, target: Target::connect(&database)?, place, piece_rows }.run(&ALL, tell)
    }
}

/// Where a directory says that its store is elsewhere.
fn mark(dir: &Path) -> PathBuf {
    dir.join("moved-to-postgres")
}

/// What is in a directory, which says that its store is elsewhere, without that.
fn files(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut files = everything_below(&dir.canonicalize().unwrap());
    assert!(files.remove(&mark(&dir.canonicalize().unwrap())).is_some(), "it is marked");
    files
}

/// What waits is waited for here: a copy blocks, and so do the tests.
fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A closed store in a directory, with records in every state, some trimmed and some deleted, a lease under way, what is
/// configured, and who is subscribed.
struct Filled {
    engine: InDirectory,
    known: Vec<Known>,
    leased: Leased,
}

fn filled() -> Filled {
    let engine = InDirectory::merging_at(16);
    let (known, leased) = wait(async {
        let (bench, ids) = rich(&engine).await;
        let leased = bench.lease(day(41), 1).await.leased.remove(0);
        let known = known(&bench, &ids).await;
        bench.0.close().await;
        (known, leased)
    });
    configure(&engine.path());
    let receipts: Vec<ReceiptId> = known.iter().map(|(id, _)| *id).collect();
    subscribe(&engine.path(), &receipts);
    Filled { engine, known, leased }
}

fn configure(dir: &Path) {
    let catalog = SqliteCatalog::open(dir, 0).unwrap();
    let two = vec![(id(1), Some(document("contoso"))), (id(2), Some(document("fabrikam \u{0}")))];
    catalog.commit(&change((0, 7), two)).unwrap();
    let keys = [api_key("b", OrganizationScope::All), api_key("B", OrganizationScope::Only([id(1)].into()))];
    let keys = keys.map(|key| (Arc::clone(&key.settings.name), Some(key)));
    catalog.commit(&CatalogChange { api_keys: keys.into(), ..change((7, 1_000), Vec::new()) }).unwrap();
    for at in 1..=40 {
        let audit = entry(at, (at % 3 == 0).then(|| id(1)), &format!("/work-streams/{at}"));
        catalog.commit(&CatalogChange { advance: None, audit, ..change((0, 6), Vec::new()) }).unwrap();
    }
    assert_eq!(catalog.forget_audit(Timestamp::from_millis(5), 100).unwrap(), 4);
}

fn subscribe(dir: &Path, receipts: &[ReceiptId]) {
    let store = SqliteSubscriptions::open(dir, 0).unwrap();
    for number in [3, 1, 2] {
        assert_eq!(add(&store, &subscription(number, 0)), Fenced::Done);
    }
    let of = |who: u8, number: usize| NewNotice {
        subscription: subscriber(who),
        number: number as u64,
        receipt: receipts[number - 1],
        at: day(1),
    };
    let notices: Vec<NewNotice> = (1..=20).flat_map(|number| [of(1, number), of(2, number), of(3, number)]).collect();
    assert_eq!(store.put_down(&span(&store, 20), &notices).unwrap(), Fenced::Done);
    let tried = |number, end| Tried { subscription: subscriber(1), number, end };
    store
        .conclude(&[
            tried(1, TriedEnd::Told { at: day(2) }),
            tried(2, TriedEnd::Later { due: day(3), error: "busy \u{0}".to_owned() }),
            tried(3, TriedEnd::GivenUp { at: day(2), reason: "no".to_owned() }),
        ])
        .unwrap();
    store.end(&subscriber(2), &Ended { at: day(2), because: "its owner ended it".to_owned() }).unwrap();
    store.close().unwrap();
}

/// Every receipt leads to what it led to.
fn same_receipts(store: &Arc<PostgresStore>, known: &[Known]) {
    wait(async {
        let bench = Bench(Arc::clone(store) as Arc<dyn Store>);
        for (n, (id, before)) in known.iter().enumerate() {
            let now = bench.0.receipt(*id).await.unwrap().zip(bench.0.record(*id).await.unwrap());
            assert_eq!(now, *before, "record {}", n + 1);
        }
    });
}
