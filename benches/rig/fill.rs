//! What was there before: records put into a store, and settled, through the engine itself, many at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use streamgate::app::load_config;
use streamgate::config::settings::Process;
use streamgate::config::{Config, Overrides};
use streamgate::domain::access::{Caller, OrganizationScope, Permission};
use streamgate::domain::record::RecordCreated;
use streamgate::domain::time::Timestamp;
use streamgate::intake::Intake;
use streamgate::store::sqlite::SqliteStore;
use streamgate::store::{DeliveryState, LeaseRequest, Leased, ListQuery, Outcome, Settlement, Store, TraceContext};
use tokio::runtime::Runtime;

use super::records::{ENTITIES, ID, body};

/// Appends that wait at once.
const APPENDS_AT_ONCE: usize = 2_048;
/// Records that one lease takes.
const LEASED_AT_ONCE: usize = 1_000;
/// Leases and settlements under way at once, so that one is prepared while another is synced.
const HOLDERS: usize = 4;
/// Longer than any filling takes.
const LEASE: Duration = Duration::from_secs(12 * 60 * 60);

/// The smallest details: where keys or a backlog are what counts.
pub(crate) const SMALL: &str = "{\"statecode\":0}";

/// A store that is open in this process.
pub(crate) struct Filler {
    config: Config,
    store: Arc<dyn Store>,
    runtime: Runtime,
}

impl Filler {
    /// Opens the store in a data directory, or makes it.
    pub(crate) fn open(config: &Path, data_dir: &Path) -> Self {
        Self::open_with(config, data_dir, |_usual| ())
    }

    /// The same, but delivered records are kept for no time, and repeats are not known. No configuration can say that;
    /// whoever looks at the room that is given back cannot wait for a day.
    pub(crate) fn open_keeping_nothing(config: &Path, data_dir: &Path) -> Self {
        Self::open_with(config, data_dir, |process| {
            process.store.duplicate_window = Duration::ZERO;
            process.retention.delivered = Duration::ZERO;
            process.retention.delivered_details = Duration::ZERO;
        })
    }

    fn open_with(config: &Path, data_dir: &Path, change: impl Fn(&mut Process)) -> Self {
        let overrides = Overrides { data_dir: Some(data_dir.to_owned()), ..Overrides::default() };
        let mut config = load_config(Some(config), &overrides).expect("a configuration");
        change(&mut config.process);
        let process = &config.process;
        let store = SqliteStore::open(data_dir, &process.store, &process.retention).expect("a store");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { config, store, runtime }
    }

    /// Puts records with these numbers in.
    pub(crate) fn append(&self, numbers: std::ops::Range<u64>, details: &str) {
        let intake = Intake::new(Arc::clone(&self.store), Arc::new(|| {}));
        let caller = Caller {
            credential: "bench".into(),
            permissions: [Permission::RecordsWrite].into(),
            organizations: OrganizationScope::All,
        };
        let catalog = &self.config.effective.catalog;
        let bodies: Vec<_> = (0..ENTITIES).map(|number| body(number, details)).collect();
        let appends = numbers.zip(bodies.iter().cycle()).map(|(number, body)| {
            let body = body.replacen(ID, &format!("{number:012x}"), 1);
            let event = RecordCreated::parse(body.as_bytes()).expect("a record");
            intake.accept(catalog, &caller, event, TraceContext::default())
        });
        self.runtime.block_on(async {
            let mut answers = futures_util::stream::iter(appends).buffer_unordered(APPENDS_AT_ONCE);
            while let Some(answer) = answers.next().await {
                answer.expect("accepted");
            }
        });
    }

    /// Leases everything that is pending, and settles it as delivered.
    pub(crate) fn settle_everything(&self) {
        while self.store.stats().pending > 0 {
            self.runtime.block_on(join_all((0..HOLDERS).map(|_| self.settle_until_nothing_is_due())));
        }
    }

    async fn settle_until_nothing_is_due(&self) {
        loop {
            let now = Timestamp::now();
            let lanes = self.store.lanes().iter().filter(|lane| lane.pending > 0).map(|lane| lane.id).collect();
            let request = LeaseRequest { groups: vec![lanes], max: LEASED_AT_ONCE, now, duration: LEASE };
            let leased = self.store.lease(request).await.expect("leased").leased;
            if leased.is_empty() {
                return;
            }
            let settled = |Leased { record, token, .. }: Leased| Settlement {
                receipt: record.receipt,
                token,
                at: now,
                outcome: Outcome::Delivered,
            };
            self.store.settle(leased.into_iter().map(settled).collect()).await.expect("settled");
        }
    }

    /// Says that nobody needs any record whole, so that retention may begin.
    pub(crate) fn let_go(&self) {
        self.store.keep_from(None);
    }

    /// Whether delivered records are still there. The newest record always stays.
    pub(crate) fn has_delivered(&self) -> bool {
        let query = ListQuery { state: Some(DeliveryState::Delivered), limit: 2, ..ListQuery::default() };
        self.runtime.block_on(self.store.list(query)).expect("a list").records.len() > 1
    }

    /// Closes the store: everything is folded in.
    pub(crate) fn close(self) {
        self.runtime.block_on(self.store.close());
    }
}
