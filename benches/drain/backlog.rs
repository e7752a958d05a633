//! What waits before a drain begins: records of the size that is posted, put in through the engine itself.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use streamgate::app::load_config;
use streamgate::config::Overrides;
use streamgate::domain::access::{Caller, OrganizationScope, Permission};
use streamgate::domain::record::RecordCreated;
use streamgate::intake::Intake;
use streamgate::store::sqlite::SqliteStore;
use streamgate::store::{Store as _, TraceContext};

use super::rig::records::{DETAILS_BYTES, Template};

/// Appends that wait at once.
const AT_ONCE: usize = 2_048;

/// Puts so many records into a new store.
pub(crate) fn fill(config: &Path, data_dir: &Path, count: u64) {
    let overrides = Overrides { data_dir: Some(data_dir.to_owned()), ..Overrides::default() };
    let config = load_config(Some(config), &overrides).expect("a configuration");
    let store = SqliteStore::open(data_dir, &config.process.store, &config.process.retention).expect("a store");
    let intake = Intake::new(store.clone(), Arc::new(|| {}));
    let caller = Caller {
        credential: "bench".into(),
        permissions: [Permission::RecordsWrite].into(),
        organizations: OrganizationScope::All,
    };
    let templates = Template::all(DETAILS_BYTES);
    let mut request = Vec::new();
    let appends = (0..count).zip(templates.iter().cycle()).map(|(number, template)| {
        template.fill(number, &mut request);
        let head = request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let event = RecordCreated::parse(&request[head + 4..]).expect("a record");
        intake.accept(&config.effective.catalog, &caller, event, TraceContext::default())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut answers = futures_util::stream::iter(appends).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            answer.expect("accepted");
        }
        store.close().await;
    });
}

/// Copies a store that nobody has open.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let copied = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &copied);
        } else {
            std::fs::copy(entry.path(), copied).expect("copied");
        }
    }
}
