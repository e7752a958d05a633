//! Writes that fail: what a full disk costs, and what ends the store.

use futures_util::future::join_all;

use super::*;
use crate::domain::fixtures::{admitted, admitted_with};
use crate::store::contract::{Bench, all_of, at, entry, receipts};
use crate::store::{Outcome, Refusing, Settled, StoreError};

fn large(record: u32, bytes: usize) -> Box<crate::domain::admission::Admitted> {
    admitted_with(1, 1, record, &format!("{{\"title\":\"{}\"}}", "x".repeat(bytes)))
}

#[tokio::test]
async fn a_disk_that_is_full_after_all_costs_the_batch_and_nothing_else() {
    let mut engine = InDirectory::new();
    engine.tuning.max_pages = Some(160);
    let bench = Bench(engine.start());
    let first = bench.append(admitted(1)).await;
    let appends = join_all((2..=20).map(|record| bench.0.append(entry(large(record, 100_000))))).await;
    assert!(appends.iter().any(|append| matches!(append, Err(StoreError::Full { .. }))), "{appends:?}");
    let stored = 1 + appends.iter().filter(|append| append.is_ok()).count() as u64;
    assert_eq!((bench.0.stats().high_water_mark, bench.0.stats().pending), (stored, stored));
    assert_eq!(bench.0.stats().refusing, None);
    // What needs no room goes on.
    let leases = bench.lease(at(1), 1).await;
    assert_eq!(receipts(&leases), [first.id()]);
    assert_eq!(bench.settle(&leases.leased[0], at(2), Outcome::Delivered).await, Settled::Done);
    bench.0.close().await;

    engine.tuning.max_pages = None;
    let bench = Bench(engine.start());
    for record in 1..=20 {
        bench.append(large(record, 100_000)).await;
    }
    assert_eq!(bench.0.stats().high_water_mark, 20, "what was refused was not there, and left no gap");
    bench.0.close().await;
}

#[tokio::test]
async fn a_write_that_fails_for_an_unknown_reason_ends_all_writing() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    let id = bench.append(admitted(1)).await.id();
    let leases = bench.lease(at(1), 1).await;
    let other = Connection::open(engine.path().join("records.db")).unwrap();
    other.execute_batch("alter table delivered rename to gone").unwrap();

    // The append goes into the same batch or a later one; either way it is not acknowledged.
    let settlement =
        crate::store::Settlement { receipt: id, token: leases.leased[0].token, at: at(2), outcome: Outcome::Delivered };
    let (settled, appended) =
        futures_util::future::join(bench.0.settle(vec![settlement]), bench.0.append(entry(admitted(2)))).await;
    assert!(matches!(settled, Err(StoreError::Broken { .. })), "{settled:?}");
    assert!(matches!(appended, Err(StoreError::Broken { .. })), "{appended:?}");
    other.execute_batch("alter table gone rename to delivered").unwrap();

    // Although the cause is gone.
    assert!(matches!(bench.0.append(entry(admitted(3))).await, Err(StoreError::Broken { .. })));
    let requeued = bench.0.requeue(all_of(None)).await;
    assert!(matches!(requeued, Err(StoreError::Broken { .. })), "{requeued:?}");
    let stats = bench.0.stats();
    assert_eq!((stats.refusing, stats.high_water_mark, stats.pending), (Some(Refusing::Broken), 1, 1));
    assert!(bench.status(id).await.settled_at.is_none());
    bench.0.close().await;

    // A restart finds what was acknowledged, and nothing else.
    let bench = Bench(engine.start());
    assert_eq!((bench.0.stats().refusing, bench.0.stats().high_water_mark), (None, 1));
    assert_eq!(bench.append(admitted(2)).await.repeat(), None);
    bench.0.close().await;
}

#[tokio::test]
async fn a_lease_is_bounded_in_bytes() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    for record in 1..=20 {
        bench.append(large(record, 1 << 20)).await;
    }
    let leases = bench.lease(at(1), 20).await;
    assert_eq!(leases.leased.len(), 16);
    assert_eq!(leases.next_due, Some(at(1)), "there is more to be had at once");
    assert_eq!(bench.lease(at(1), 20).await.leased.len(), 4);
    bench.0.close().await;
}
