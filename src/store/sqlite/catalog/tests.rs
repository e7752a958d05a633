//! The catalog's file: what was committed is there again, damage is named, another's file is refused.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::config::settings::ApiKeySettings;
use crate::config::stored::{Document, StoredApiKey};
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::{Guid, OrganizationId};
use crate::store::catalog::{Action, AuditEntry, Difference};

fn id(number: u8) -> OrganizationId {
    Guid::from_bytes([number; 16]).into()
}

fn document(name: &str) -> Arc<Document> {
    let document = json!({ "organization": { "uniqueName": name }, "queues": [], "versions": 98.60000000000001 });
    Arc::new(document.as_object().expect("an object").clone())
}

fn api_key(name: &str, organizations: OrganizationScope) -> StoredApiKey {
    StoredApiKey {
        settings: ApiKeySettings {
            name: name.into(),
            sha256: [7; 32],
            permissions: [Permission::Admin, Permission::RecordsRead].into(),
            organizations,
            expires: Some(Timestamp::from_millis(1_900_000_000_000)),
        },
        created_at: Timestamp::from_millis(1_700_000_000_123),
        created_by: "root".into(),
    }
}

fn entry(at: i64, organization: Option<OrganizationId>, resource: &str) -> AuditEntry {
    AuditEntry {
        at: Timestamp::from_millis(at),
        credential: "root".into(),
        organization,
        action: Action::Change,
        resource: resource.to_owned(),
        generation: at.cast_unsigned(),
        differences: vec![Difference { path: "capacity".to_owned(), from: Some(json!(30)), to: None }],
    }
}

fn change(generation: u64, organizations: Vec<(OrganizationId, Option<Arc<Document>>)>) -> CatalogChange {
    let audit = entry(generation.cast_signed(), organizations.first().map(|(id, _)| *id), "/organizations");
    CatalogChange { generation, organizations, api_keys: Vec::new(), audit }
}

#[test]
fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_stored(dir.path()).unwrap().generation, 0);
    let catalog = SqliteCatalog::open(dir.path(), 0).unwrap();
    assert_eq!(read_stored(dir.path()).unwrap().organizations.len(), 0);
    catalog.commit(&change(7, vec![(id(1), Some(document("contoso"))), (id(2), Some(document("fabrikam")))])).unwrap();
    let mut second = change(9, vec![(id(2), None), (id(1), Some(document("contoso-two")))]);
    let keys = [api_key("all", OrganizationScope::All), api_key("one", OrganizationScope::Only([id(1)].into()))];
    second.api_keys = keys.iter().map(|key| (Arc::clone(&key.settings.name), Some(key.clone()))).collect();
    catalog.commit(&second).unwrap();

    for stored in [catalog.load().unwrap(), read_stored(dir.path()).unwrap()] {
        assert_eq!(stored.generation, 9);
        assert_eq!(stored.organizations.into_iter().collect::<Vec<_>>(), [(id(1), document("contoso-two"))]);
        assert_eq!(stored.api_keys.into_values().collect::<Vec<_>>(), keys);
    }
    drop(catalog);
    let reopened = SqliteCatalog::open(dir.path(), 0).unwrap();
    let revoked = CatalogChange { api_keys: vec![("all".into(), None)], ..change(10, Vec::new()) };
    reopened.commit(&revoked).unwrap();
    assert_eq!(reopened.load().unwrap().api_keys.len(), 1);
}

#[test]
fn the_trail_is_shown_newest_first_to_whom_it_concerns_and_forgets_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path(), 0).unwrap();
    for at in 1..=5 {
        let mut one = change(at, Vec::new());
        let whose = if at == 5 { None } else { Some(id(u8::try_from(at % 2).unwrap())) };
        one.audit = entry(at.cast_signed(), whose, &format!("/work-streams/{at}"));
        catalog.commit(&one).unwrap();
    }
    let ask = |organizations: Option<Vec<OrganizationId>>, resource: Option<&str>, before, limit| {
        let page = catalog.audit(&AuditQuery { organizations, resource: resource.map(str::to_owned), before, limit });
        let page = page.unwrap();
        (page.entries.iter().map(|(_, entry)| entry.at.millis()).collect::<Vec<_>>(), page.next)
    };
    let (first, next) = ask(None, None, None, 3);
    assert_eq!(first, [5, 4, 3]);
    assert_eq!(ask(None, None, next, 3), (vec![2, 1], None));
    assert_eq!(ask(Some(vec![id(1)]), None, None, 9).0, [3, 1]);
    assert_eq!(ask(None, Some("streams/4"), None, 9).0, [4]);
    let (_, kept) = catalog.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).unwrap().entries.remove(0);
    assert_eq!(kept, entry(5, None, "/work-streams/5"));

    assert_eq!(catalog.forget_audit(Timestamp::from_millis(4), 2).unwrap(), 2);
    assert_eq!(catalog.forget_audit(Timestamp::from_millis(4), 2).unwrap(), 1);
    assert_eq!(catalog.forget_audit(Timestamp::from_millis(4), 2).unwrap(), 0);
    assert_eq!(ask(None, None, None, 9).0, [5, 4]);
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
        let mut one = change(1, vec![(id(1), Some(document("contoso")))]);
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
    assert!(matches!(catalog.commit(&change(1, Vec::new())), Err(StoreError::Broken { .. })));
    assert!(matches!(catalog.forget_audit(Timestamp::from_millis(1), 1), Err(StoreError::Broken { .. })));
    assert_eq!(catalog.load().unwrap().generation, 0, "nothing of the failed change");
}
