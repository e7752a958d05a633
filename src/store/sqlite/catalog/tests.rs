//! The catalog's file: what was committed is there again, damage is named, another's file is refused.

use std::sync::Arc;

use super::*;
use crate::domain::access::OrganizationScope;
use crate::store::contract::catalog::{CatalogEngine, api_key, catalog_contract, change, document, id};

/// A data directory.
struct InFile(tempfile::TempDir);

impl CatalogEngine for InFile {
    fn open(&self) -> Arc<dyn CatalogStore> {
        Arc::new(SqliteCatalog::open(self.0.path(), 0).unwrap())
    }
}

mod contract {
    use super::*;
    catalog_contract!(Some(InFile(tempfile::tempdir().unwrap())));
}

#[test]
fn a_look_without_opening_it_sees_the_same() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_stored(dir.path()).unwrap().generation, 0);
    let catalog = SqliteCatalog::open(dir.path(), 0).unwrap();
    assert_eq!(read_stored(dir.path()).unwrap().organizations.len(), 0);
    catalog.commit(&change((0, 7), vec![(id(1), Some(document("contoso")))])).unwrap();
    assert_eq!(read_stored(dir.path()).unwrap(), catalog.load().unwrap());
}

#[test]
fn damage_is_named_and_never_used() {
    for (sql, named) in [
        ("update organizations set document = replace(document, 'contoso', 'cantoso')", "organization 01010101"),
        ("update api_keys set name = 'other'", "API key `other`"),
        ("update audit set resource = '/elsewhere'", "entry 1 of the audit trail"),
        ("delete from meta", "its generation"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(dir.path(), 0).unwrap();
        let mut one = change((0, 1), vec![(id(1), Some(document("contoso")))]);
        one.api_keys = vec![("all".into(), Some(api_key("all", OrganizationScope::All)))];
        catalog.commit(&one).unwrap();
        catalog.0.read(|conn| conn.execute_batch(sql)).unwrap();
        let loaded = catalog.load().err();
        let trail = catalog.audit(&AuditQuery { limit: 5, ..AuditQuery::default() }).err();
        let fault = loaded.or(trail).expect(sql).to_string();
        assert!(fault.contains(named), "{fault}");
    }
}

#[test]
fn what_is_no_catalog_of_this_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(SqliteCatalog::open(dir.path(), 0).unwrap());
    let conn = Connection::open(dir.path().join(CATALOG)).unwrap();
    conn.pragma_update(None, "user_version", 2).unwrap();
    assert!(matches!(SqliteCatalog::open(dir.path(), 0), Err(OpenError::UnknownFormat { found: 2, known: 1, .. })));
    assert!(read_stored(dir.path()).unwrap_err().contains("format 2"));
    conn.pragma_update(None, "application_id", 5).unwrap();
    assert!(matches!(SqliteCatalog::open(dir.path(), 0), Err(OpenError::NotAStore { .. })));
    drop(conn);
    std::fs::write(dir.path().join(CATALOG), b"some text that is no database at all").unwrap();
    assert!(SqliteCatalog::open(dir.path(), 0).is_err());
    assert!(read_stored(dir.path()).unwrap_err().contains(CATALOG));
}

#[test]
fn a_failed_write_ends_writing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path(), 0).unwrap();
    catalog.0.read(|conn| conn.execute_batch("drop table audit")).unwrap();
    assert!(matches!(catalog.commit(&change((0, 1), Vec::new())), Err(StoreError::Broken { .. })));
    assert!(matches!(catalog.forget_audit(Timestamp::from_millis(1), 1), Err(StoreError::Broken { .. })));
    assert_eq!(catalog.load().unwrap().generation, 0, "nothing of the failed change");
}
