//! The audit trail forgets what is older than its retention: at the start, and every hour.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::CatalogStore;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Entries that one transaction forgets: a change never waits long for one.
const SLICE: usize = 500;

/// Forgets, now and again, until the runtime ends.
pub(super) fn forget(runtime: &Handle, catalog: Arc<dyn CatalogStore>, keep: Duration) {
    runtime.spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            let catalog = Arc::clone(&catalog);
            let forgotten = tokio::task::spawn_blocking(move || older_than(&*catalog, Timestamp::now(), keep)).await;
            match forgotten {
                Ok(Ok(0)) => {}
                Ok(Ok(entries)) => tracing::info!(entries, "old entries of the audit trail are forgotten"),
                Ok(Err(fault)) => tracing::warn!(%fault, "old entries of the audit trail stay until the next try"),
                Err(fault) => tracing::warn!(%fault, "forgetting entries of the audit trail was cut short"),
            }
        }
    });
}

/// Forgets everything that is older, slice by slice. Answers how many entries that was.
fn older_than(catalog: &dyn CatalogStore, now: Timestamp, keep: Duration) -> Result<usize, StoreError> {
    let millis = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let limit = Timestamp::from_millis(now.millis().saturating_sub(millis));
    let mut all = 0;
    loop {
        let forgotten = catalog.forget_audit(limit, SLICE)?;
        all += forgotten;
        if forgotten < SLICE {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::catalog::{Action, AuditEntry, AuditQuery, CatalogChange};
    use crate::store::sqlite::catalog::SqliteCatalog;

    #[test]
    fn all_that_is_too_old_goes_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = SqliteCatalog::open(folder.path(), 0).expect("opened");
        let day = 24 * 60 * 60 * 1_000;
        for at in 0..(SLICE as i64 + 10) {
            let audit = AuditEntry {
                at: Timestamp::from_millis(if at < SLICE as i64 + 5 { at } else { day * 400 }),
                credential: "root".into(),
                organization: None,
                action: Action::Change,
                resource: "x".to_owned(),
                generation: 1,
                differences: Vec::new(),
            };
            let change = CatalogChange { advance: None, organizations: Vec::new(), api_keys: Vec::new(), audit };
            catalog.commit(&change).expect("committed");
        }
        let now = Timestamp::from_millis(day * 401);
        assert_eq!(older_than(&catalog, now, Duration::from_secs(365 * 24 * 60 * 60)).expect("forgotten"), SLICE + 5);
        let left = catalog.audit(&AuditQuery { limit: 100, ..AuditQuery::default() }).expect("read");
        assert_eq!(left.entries.len(), 5);
        assert_eq!(older_than(&catalog, now, Duration::from_secs(365 * 24 * 60 * 60)).expect("nothing"), 0);
    }
}
