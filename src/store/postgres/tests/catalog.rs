//! The catalog in a real database: the contract, damage, cut connections, and who is there.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::server;
use crate::domain::access::OrganizationScope;
use crate::store::StoreError;
use crate::store::catalog::{AuditQuery, CatalogChange, CatalogStore};
use crate::store::contract::catalog::{CatalogEngine, api_key, catalog_contract, change, document, id};
use crate::store::gateways::{GatewayId, Gateways as _, Presence};
use crate::store::postgres::catalog::PostgresCatalog;

impl CatalogEngine for server::Database {
    fn open(&self) -> Arc<dyn CatalogStore> {
        Arc::new(catalog(self))
    }
}

fn catalog(database: &server::Database) -> PostgresCatalog {
    PostgresCatalog::open(database.open())
}

mod contract {
    use super::*;
    catalog_contract!(server::Database::new());
}

#[test]
fn damage_in_the_database_is_named_and_never_used() {
    let Some(database) = server::Database::new() else { return };
    let catalog = catalog(&database);
    let mut one = change((0, 1), vec![(id(1), Some(document("contoso")))]);
    one.api_keys = vec![("all".into(), Some(api_key("all", OrganizationScope::All)))];
    catalog.commit(&one).unwrap();
    for (damage, mend, named) in [
        (
            "update catalog_organizations set document = replace(document, 'contoso', 'cantoso')",
            "update catalog_organizations set document = replace(document, 'cantoso', 'contoso')",
            "organization 01010101",
        ),
        ("update catalog_api_keys set name = 'other'", "update catalog_api_keys set name = 'all'", "API key `other`"),
        (
            "update audit set resource = '/elsewhere'",
            "update audit set resource = '/organizations'",
            "entry 1 of the audit trail",
        ),
        ("delete from catalog", "insert into catalog (generation) values (1)", "its generation"),
    ] {
        database.psql(damage);
        let loaded = catalog.load().err();
        let trail = catalog.audit(&AuditQuery { limit: 5, ..AuditQuery::default() }).err();
        let fault = loaded.or(trail).expect(damage);
        assert!(matches!(&fault, StoreError::Damaged(what) if what.contains(named)), "{fault}");
        database.psql(mend);
        assert_eq!(catalog.load().unwrap().generation, 1, "nothing had been changed by looking");
    }
}

/// Connections are cut all the time while changes are made, each of which says truly what became of it.
#[test]
fn a_change_whose_connection_is_cut_is_made_once_or_not_at_all() {
    let Some(database) = server::Database::new() else { return };
    let catalog = catalog(&database);
    let (mut made, mut lost) = (0_u64, 0);
    let (stop, stopped) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let cutting = &database;
        scope.spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                cutting.cut_connections();
            }
        });
        for _ in 0..400 {
            let to = made + 1;
            match catalog.commit(&change((made, to), vec![(id(1), Some(document(&format!("name-{to}"))))])) {
                Ok(()) => made = to,
                Err(StoreError::Engine(_)) => lost += 1,
                Err(fault) => panic!("a change that was refused had been made: {fault}"),
            }
        }
        drop(stop);
    });
    assert!(lost > 0 && made > 0, "{made} made, {lost} lost: nothing was cut");
    let stored = (0..50).find_map(|_| catalog.load().ok()).expect("it can be read again");
    assert_eq!(stored.generation, made);
    let trail = catalog.audit(&AuditQuery { limit: 1_000, ..AuditQuery::default() }).unwrap();
    assert_eq!(trail.entries.len() as u64, made);
}

#[test]
fn every_catalog_that_listens_is_told_of_a_change() {
    let Some(database) = server::Database::new() else { return };
    let (one, other) = (catalog(&database), catalog(&database));
    let (told, hears) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    other.on_change(Box::new(move || {
        // Once the test is over nobody hears.
        let _gone = told.lock().unwrap().send(());
    }));
    let patience = Duration::from_secs(20);
    hears.recv_timeout(patience).expect("told once it listens");
    one.commit(&change((0, 1), vec![(id(1), Some(document("contoso")))])).unwrap();
    hears.recv_timeout(patience).expect("told of the change");
    assert_eq!(other.generation().unwrap(), 1);
    // After a cut it listens again, and says so, since something may have been missed.
    database.cut_connections();
    hears.recv_timeout(patience).expect("told that it listens again");
    let note = CatalogChange { advance: None, ..change((1, 2), Vec::new()) };
    let noted = (0..50).find_map(|_| one.commit(&note).ok());
    assert!(noted.is_some());
}

#[test]
fn gateways_are_there_from_their_first_heartbeat_until_they_leave_or_fall_silent() {
    let Some(database) = server::Database::new() else { return };
    let (one, other) = (catalog(&database), catalog(&database));
    let presence = |number: u8, generation| Presence {
        id: GatewayId([number; 16]),
        name: format!("host-{number}:8080"),
        version: "1.2.3".to_owned(),
        generation,
        files: "00ff".to_owned(),
        behind: (number == 2).then(|| "one fault".to_owned()),
    };
    one.commit(&change((0, 7), Vec::new())).unwrap();
    assert_eq!(one.beat(&presence(1, 5)).unwrap(), 7);
    assert_eq!(other.beat(&presence(2, 6)).unwrap(), 7);
    assert_eq!(one.beat(&presence(1, 7)).unwrap(), 7);
    let live =
        |catalog: &PostgresCatalog| catalog.live().unwrap().into_iter().map(|one| one.presence).collect::<Vec<_>>();
    assert_eq!(live(&one), [presence(1, 7), presence(2, 6)]);
    assert_eq!(live(&other), live(&one));
    // A clock of its own has the database: a gateway's does not count.
    database.psql("update gateways set heard_at = heard_at - interval '6 seconds' where name like 'host-2%'");
    assert_eq!(live(&one), [presence(1, 7)]);
    database.psql("update gateways set heard_at = heard_at - interval '2 hours' where name like 'host-2%'");
    one.leave(GatewayId([1; 16])).unwrap();
    assert_eq!(live(&other), []);
    other.beat(&presence(3, 7)).unwrap();
    database.psql("do $$ begin assert (select count(*) from gateways) = 1, 'old rows stay'; end $$");
}
