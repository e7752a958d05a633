//! Subscriptions in a file: the contract suite, and what only a file can show.

use std::sync::Arc;

use super::*;
use crate::store::contract::subscriptions::{add, notice, span, subscription, subscriptions_contract};

struct InAFile(tempfile::TempDir);

impl InAFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl crate::store::contract::subscriptions::Engine for InAFile {
    fn open(&self) -> Arc<dyn SubscriptionStore> {
        Arc::new(SqliteSubscriptions::open(self.0.path(), 0).unwrap())
    }
}

subscriptions_contract!(Some(InAFile::new()));

#[test]
fn closed_it_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    assert_eq!(add(&store, &subscription(1, 0)), Fenced::Done);
    store.close().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for file in [SUBSCRIPTIONS, "subscriptions.mark"] {
        std::fs::copy(dir.path().join(file), elsewhere.path().join(file)).unwrap();
    }
    assert_eq!(SqliteSubscriptions::open(elsewhere.path(), 0).unwrap().load().unwrap().1.len(), 1);
}

#[test]
fn damage_is_named_and_a_full_disk_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    assert_eq!(add(&store, &subscription(1, 0)), Fenced::Done);
    let sql = "update subscriptions set document = replace(document, 'flows', 'flaws')";
    store.file.read(|conn| conn.execute_batch(sql)).unwrap();
    let fault = store.load().unwrap_err().to_string();
    assert!(fault.contains("subscription 1 is not as it was written"), "{fault}");
    drop(store);

    let full = SqliteSubscriptions::open(dir.path(), u64::MAX).unwrap();
    assert!(matches!(full.add(full.current(), &subscription(2, 0)), Err(StoreError::Full { .. })));
    assert!(matches!(full.put_down(&span(&full, 1), &[notice(1, 1)]), Err(StoreError::Full { .. })));
    assert_eq!(full.put_down(&span(&full, 1), &[]).unwrap(), Fenced::Done);
    drop(full);
    std::fs::remove_file(dir.path().join(SUBSCRIPTIONS)).unwrap();
    let missing = SqliteSubscriptions::open(dir.path(), 0).unwrap_err().to_string();
    assert!(missing.contains("subscriptions of flows"), "{missing}");
}
