//! kill -9 in the middle of forgetting: what was to be deleted is deleted in the end, and nothing else is gone.
//!
//! The records are made in this process, with a date of two months ago, through the library; then the real binary runs
//! on them, finds them old, and is killed again and again while it deletes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use streamgate::config::settings::RetentionSettings;
use streamgate::config::{self, Overrides};
use streamgate::domain::access::{Caller, OrganizationScope};
use streamgate::domain::admission::{Admission, admit};
use streamgate::domain::record::RecordCreated;
use streamgate::domain::time::Timestamp;
use streamgate::store::sqlite::SqliteStore;
use streamgate::store::{Entry, LeaseRequest, Outcome, Settlement, Store as _, TraceContext};

use crate::support::eventually;
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{exchange, request};
use crate::support::records::nth_incident;

/// What there is: three records in four are delivered.
const RECORDS: usize = 4_000;

struct Made {
    delivered: Vec<String>,
    pending: Vec<String>,
}

/// Fills the data directory in this folder with records that came two months ago.
fn make_old_records(folder: &Path) -> Made {
    let overrides = Overrides { data_dir: Some(folder.join("data")), read_only: true, ..Overrides::default() };
    let config = config::load(Some(&folder.join("streamgate.toml")), &overrides).expect("no faults");
    let days_ago = |days: u64| {
        Timestamp::from_millis(Timestamp::now().millis() - i64::try_from(days * 86_400_000).expect("small"))
    };
    // Nothing goes while they are made.
    let ever = Duration::from_secs(1_000 * 365 * 86_400);
    let retention = RetentionSettings { delivered: ever, delivered_details: ever, ..config.process.retention };
    let caller =
        Caller { credential: "test".into(), permissions: Default::default(), organizations: OrganizationScope::All };
    let admitted = |n: usize| {
        let record = RecordCreated::parse(nth_incident(n).as_bytes()).expect("well formed");
        match admit(&config.effective.catalog, &caller, record).expect("admitted") {
            Admission::Record(admitted) => admitted,
            Admission::Test { .. } => panic!("a test"),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(&folder.join("data"), &config.process.store, &retention).expect("open");
        let entry = |n| Entry { admitted: admitted(n), accepted_at: days_ago(60), trace: TraceContext::default() };
        let receipts = join_all((0..RECORDS).map(|n| store.append(entry(n)))).await;
        let receipts: Vec<_> = receipts.into_iter().map(|receipt| receipt.expect("stored").id()).collect();
        let groups = vec![store.lanes().into_iter().map(|lane| lane.id).collect()];
        let now = days_ago(59);
        let request = LeaseRequest { groups, max: RECORDS, now, duration: Duration::from_secs(1) };
        let leased = store.lease(request).await.expect("leased").leased;
        assert_eq!(leased.len(), RECORDS);
        let settlements = leased.iter().enumerate().filter(|(place, _)| place % 4 != 3).map(|(_, leased)| Settlement {
            receipt: leased.record.receipt,
            token: leased.token,
            at: now,
            outcome: Outcome::Delivered,
        });
        store.settle(settlements.collect()).await.expect("settled");
        store.close().await;
        let (delivered, pending): (Vec<_>, Vec<_>) = receipts.iter().enumerate().partition(|(place, _)| place % 4 != 3);
        let texts = |of: Vec<(usize, &streamgate::domain::ids::ReceiptId)>| {
            of.into_iter().map(|(_, id)| id.to_string()).collect()
        };
        Made { delivered: texts(delivered), pending: texts(pending) }
    })
}

fn status(address: SocketAddr, receipt: &str) -> u16 {
    exchange(address, &request("GET", &format!("/api/v1/receipts/{receipt}"), &[("X-Api-Key", KEY)], b"")).status
}

/// How many records the store of a dead gateway has deleted.
fn deleted(folder: &Path) -> usize {
    let records = rusqlite::Connection::open(folder.join("data/records.db")).expect("open");
    let sql = "select coalesce(sum(last - first + 1), 0) from deleted";
    records.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("counted") as usize
}

#[test]
fn nothing_but_what_is_old_is_gone_after_kills_in_the_middle_of_forgetting() {
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &Setup::default());
    let Made { delivered, pending } = make_old_records(folder.path());
    let mut in_the_middle = 0;
    for kill in 1..=6 {
        let gateway = Process::start(folder.path(), None);
        // Each kill comes when another part of the old ones is gone.
        let one = &delivered[delivered.len() * kill / 8];
        eventually("an old record to go", || (status(gateway.public, one) == 404).then_some(()));
        gateway.kill();
        let gone = deleted(folder.path());
        in_the_middle += usize::from(0 < gone && gone < delivered.len());
    }
    assert!(in_the_middle > 0, "no kill came in the middle");

    let gateway = Process::start(folder.path(), None);
    let last = delivered.last().expect("one");
    eventually("all old records to go", || (status(gateway.public, last) == 404).then_some(()));
    for receipt in &delivered {
        assert_eq!(status(gateway.public, receipt), 404);
    }
    for receipt in &pending {
        assert_eq!(status(gateway.public, receipt), 200, "{receipt} is lost");
    }
    assert_eq!(gateway.terminate(), Some(0));
    assert_eq!(deleted(folder.path()), delivered.len());
}
