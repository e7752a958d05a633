//! What every engine of the catalog promises: what was committed is there again, the trail goes from new to old, and of
//! two changes of one generation only one is made.

use std::sync::Arc;

use serde_json::json;

use crate::config::settings::ApiKeySettings;
use crate::config::stored::{Document, StoredApiKey};
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::{Guid, OrganizationId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::{Action, Advance, AuditEntry, AuditQuery, CatalogChange, CatalogStore, Difference};

/// An engine with a catalog of its own, empty at first, gone when this is dropped.
pub(crate) trait CatalogEngine {
    /// Opens the catalog. It is called again only after the earlier one was dropped.
    fn open(&self) -> Arc<dyn CatalogStore>;
}

/// One test per case, each with an engine of its own.
macro_rules! catalog_contract {
    ($make:expr) => {
        $crate::store::contract::catalog::catalog_contract!(@of $make;
            what_was_committed_is_there_again,
            the_trail_is_shown_newest_first_to_whom_it_concerns_and_forgets_the_oldest,
            a_change_of_what_is_not_stored_any_more_is_refused_as_a_whole,
            of_changes_at_one_moment_one_is_made,
            texts_are_kept_exactly,
        );
    };
    (@of $make:expr; $($case:ident),* $(,)?) => {
        $(#[test]
        fn $case() {
            if let Some(engine) = $make {
                $crate::store::contract::catalog::$case(&engine);
            }
        })*
    };
}
pub(crate) use catalog_contract;

pub(crate) fn id(number: u8) -> OrganizationId {
    Guid::from_bytes([number; 16]).into()
}

pub(crate) fn document(name: &str) -> Arc<Document> {
    let document = json!({ "organization": { "uniqueName": name }, "queues": [], "versions": 98.60000000000001 });
    Arc::new(document.as_object().expect("an object").clone())
}

pub(crate) fn api_key(name: &str, organizations: OrganizationScope) -> StoredApiKey {
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

pub(crate) fn entry(at: i64, organization: Option<OrganizationId>, resource: &str) -> AuditEntry {
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

/// A change from one generation to another.
pub(crate) fn change(
    (from, to): (u64, u64),
    organizations: Vec<(OrganizationId, Option<Arc<Document>>)>,
) -> CatalogChange {
    let audit = entry(to.cast_signed(), organizations.first().map(|(id, _)| *id), "/organizations");
    CatalogChange { advance: Some(Advance { from, to }), organizations, api_keys: Vec::new(), audit }
}

pub(crate) fn what_was_committed_is_there_again(engine: &impl CatalogEngine) {
    let catalog = engine.open();
    let nothing = catalog.load().unwrap();
    assert_eq!((nothing.generation, nothing.organizations.len(), nothing.api_keys.len()), (0, 0, 0));
    let two = vec![(id(1), Some(document("contoso"))), (id(2), Some(document("fabrikam")))];
    catalog.commit(&change((0, 7), two)).unwrap();
    let mut second = change((7, 9), vec![(id(2), None), (id(1), Some(document("contoso-two")))]);
    let keys = [api_key("all", OrganizationScope::All), api_key("one", OrganizationScope::Only([id(1)].into()))];
    second.api_keys = keys.iter().map(|key| (Arc::clone(&key.settings.name), Some(key.clone()))).collect();
    catalog.commit(&second).unwrap();
    let check = |catalog: &dyn CatalogStore| {
        let stored = catalog.load().unwrap();
        assert_eq!((stored.generation, catalog.generation().unwrap()), (9, 9));
        assert_eq!(stored.organizations.into_iter().collect::<Vec<_>>(), [(id(1), document("contoso-two"))]);
        assert_eq!(stored.api_keys.into_values().collect::<Vec<_>>(), keys);
    };
    check(&*catalog);
    drop(catalog);
    let reopened = engine.open();
    check(&*reopened);
    let revoked = CatalogChange { api_keys: vec![("all".into(), None)], ..change((9, 10), Vec::new()) };
    reopened.commit(&revoked).unwrap();
    assert_eq!(reopened.load().unwrap().api_keys.len(), 1);
}

pub(crate) fn the_trail_is_shown_newest_first_to_whom_it_concerns_and_forgets_the_oldest(engine: &impl CatalogEngine) {
    let catalog = engine.open();
    for at in 1..=5 {
        let mut one = change((at - 1, at), Vec::new());
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
    assert_eq!(ask(Some(Vec::new()), None, None, 9).0, [0; 0]);
    assert_eq!(ask(None, Some("streams/4"), None, 9).0, [4]);
    assert_eq!(ask(None, Some("streams_%"), None, 9).0, [0; 0], "no pattern");
    assert_eq!(ask(None, Some("\0"), None, 9).0, [0; 0]);
    let (_, kept) = catalog.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).unwrap().entries.remove(0);
    assert_eq!(kept, entry(5, None, "/work-streams/5"));

    // What changes no configuration is noted whatever the generation is, and leaves it.
    let note = CatalogChange { advance: None, ..change((0, 6), Vec::new()) };
    catalog.commit(&note).unwrap();
    assert_eq!((catalog.generation().unwrap(), ask(None, None, None, 1).0), (5, vec![6]));

    assert_eq!(catalog.forget_audit(Timestamp::from_millis(4), 2).unwrap(), 2);
    assert_eq!(catalog.forget_audit(Timestamp::from_millis(4), 2).unwrap(), 1);
    assert_eq!(catalog.forget_audit(Timestamp::from_millis(4), 2).unwrap(), 0);
    assert_eq!(ask(None, None, None, 9).0, [6, 5, 4]);
}

pub(crate) fn a_change_of_what_is_not_stored_any_more_is_refused_as_a_whole(engine: &impl CatalogEngine) {
    let catalog = engine.open();
    catalog.commit(&change((0, 7), vec![(id(1), Some(document("contoso")))])).unwrap();
    let mut late = change((0, 8), vec![(id(1), None), (id(2), Some(document("fabrikam")))]);
    late.api_keys = vec![("all".into(), Some(api_key("all", OrganizationScope::All)))];
    assert!(matches!(catalog.commit(&late), Err(StoreError::Changed)));
    assert!(matches!(catalog.advance(Advance { from: 6, to: 9 }), Err(StoreError::Changed)));
    let stored = catalog.load().unwrap();
    assert_eq!((stored.generation, stored.api_keys.len()), (7, 0));
    assert_eq!(stored.organizations.into_keys().collect::<Vec<_>>(), [id(1)]);
    assert_eq!(catalog.audit(&AuditQuery { limit: 9, ..AuditQuery::default() }).unwrap().entries.len(), 1);
    catalog.advance(Advance { from: 7, to: 9 }).unwrap();
    assert_eq!(catalog.generation().unwrap(), 9);
    late.advance = Some(Advance { from: 9, to: 10 });
    catalog.commit(&late).unwrap();
    assert_eq!(catalog.load().unwrap().organizations.into_keys().collect::<Vec<_>>(), [id(2)]);
}

pub(crate) fn of_changes_at_one_moment_one_is_made(engine: &impl CatalogEngine) {
    let catalog = engine.open();
    for round in 0..10 {
        let (from, to) = (round, round + 1);
        let made: usize = std::thread::scope(|scope| {
            let change_it = |number: u8| {
                let catalog = &catalog;
                scope.spawn(move || {
                    match catalog.commit(&change((from, to), vec![(id(number), Some(document("contoso")))])) {
                        Ok(()) => 1,
                        Err(StoreError::Changed) => 0,
                        Err(fault) => panic!("{fault}"),
                    }
                })
            };
            let all: Vec<_> = (1..=4).map(change_it).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).sum()
        });
        assert_eq!(made, 1);
    }
    assert_eq!(catalog.generation().unwrap(), 10);
    assert_eq!(catalog.audit(&AuditQuery { limit: 99, ..AuditQuery::default() }).unwrap().entries.len(), 10);
}

pub(crate) fn texts_are_kept_exactly(engine: &impl CatalogEngine) {
    let catalog = engine.open();
    let odd =
        json!({ "organization": { "uniqueName": "a", "name": "\u{0} ' \" \\ 名前 \u{1F4E6}" }, "n": 1e-7, "m": 0.1 });
    let odd = Arc::new(odd.as_object().expect("an object").clone());
    let mut one = change((0, 1), vec![(id(1), Some(Arc::clone(&odd)))]);
    one.audit.resource = "queues/名前 ' \" \\ %00".to_owned();
    catalog.commit(&one).unwrap();
    assert_eq!(catalog.load().unwrap().organizations[&id(1)], odd);
    let page = catalog.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).unwrap();
    assert_eq!(page.entries[0].1, one.audit);
}
