//! Verifying a database: everything as it should be, and each kind of damage.

use std::time::Duration;

use super::{Database, InDatabase};
use crate::domain::fixtures::admitted;
use crate::store::Store;
use crate::store::contract::entry;
use crate::store::postgres::facts::look_at;
use crate::store::postgres::verify::verify;
use crate::store::postgres::{OpenError, migrate};
use crate::store::verification::{Kind, Options, Report};

fn report(engine: &InDatabase) -> Report {
    let options = Options { findings: 10, duplicate_window: Duration::from_secs(365 * 24 * 60 * 60) };
    verify(&engine.database.settings(), &options, &mut |_| ()).unwrap()
}

async fn with_records(count: u32) -> Option<InDatabase> {
    let engine = InDatabase::new()?;
    let store = engine.open_store();
    for record in 1..=count {
        store.append(entry(admitted(record))).await.unwrap();
    }
    Some(engine)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_whole_is_sound_while_a_gateway_has_it_open() {
    let Some(engine) = with_records(25).await else { return };
    let _open = engine.open_store();
    engine.database.psql("delete from pending where seq = 3");
    engine.database.psql("delete from keys where seq = 3");
    engine.database.psql("delete from records where seq = 3");
    engine.database.psql("insert into deleted values (3, 3)");
    let report = report(&engine);
    assert!(report.sound, "{report:?}");
    assert_eq!((report.newest, report.counts.accepted, report.counts.verified), (25, 25, 24));
    assert_eq!((report.counts.pending, report.counts.deleted, report.counts.duplicate_keys), (24, 1, 24));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_damage_is_found_and_named() {
    for (damage, kind) in [
        ("delete from records where seq = 2", Kind::Lost),
        ("delete from records where seq = 5", Kind::Lost),
        ("update records set body = body || '\\x00' where seq = 2", Kind::DamagedRecord),
        ("update records set crc = crc # 1 where seq = 2", Kind::DamagedRecord),
        ("update records set accepted_at = accepted_at + 1 where seq = 2", Kind::DamagedRecord),
        ("delete from pending where seq = 2", Kind::ContradictoryState),
        (
            "insert into delivered select organization_id, seq, lane, 1, 1 from pending where seq = 2",
            Kind::ContradictoryState,
        ),
        ("insert into delivered select organization_id, 99, lane, 1, 1 from pending where seq = 2", Kind::StrayState),
        ("delete from keys where seq = 2", Kind::Index),
        ("update keys set seq = 3 where seq = 2", Kind::Index),
        ("update counter set high_water = 4", Kind::Figures),
        ("insert into catalog_api_keys values ('a', '{}', 1)", Kind::Catalog),
        (
            "insert into notices select organization_id, '\\x00', 1, '\\x00', 1, 1, 1 from pending where seq = 2",
            Kind::Subscriptions,
        ),
    ] {
        let Some(engine) = with_records(5).await else { return };
        engine.database.psql(damage);
        let report = report(&engine);
        assert!(!report.sound, "{damage}");
        assert!(report.totals.contains_key(&kind), "{damage}: {report:?}");
        assert!(report.findings.iter().all(|finding| finding.action().contains("restore the database")), "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_migrating_makes_tables() {
    let Some(database) = Database::empty() else { return };
    let settings = database.settings();
    let options = Options { findings: 1, duplicate_window: Duration::ZERO };
    let refused = verify(&settings, &options, &mut |_| ()).err().unwrap();
    assert!(matches!(refused, OpenError::OlderFormat { found: 0, .. }), "{refused}");
    assert_eq!(look_at(&settings).unwrap().format, 0);
    assert_eq!(
        database.psql("select count(*) from pg_tables where schemaname = 'public' and tablename !~ 'citus'"),
        "0"
    );
    assert_eq!(migrate(&settings).unwrap(), (0, 1));
    assert_eq!(migrate(&settings).unwrap(), (1, 1));
    let facts = look_at(&settings).unwrap();
    assert_eq!((facts.format, &*facts.fsync, facts.is_superuser), (1, "on", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_leads_to_another_record_is_put_right_and_harms_nobody_else() {
    let Some(engine) = with_records(3).await else { return };
    engine.database.psql("update keys set seq = 1 where seq = 2");
    let store = engine.open_store();
    let (again, other) = tokio::join!(store.append(entry(admitted(2))), store.append(entry(admitted(4))));
    assert!(again.unwrap().repeat().is_none(), "the record is taken as a new one");
    other.unwrap();
    assert!(store.append(entry(admitted(2))).await.unwrap().repeat().is_some());
    assert_eq!(report(&engine).findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_every_text_is_refused_and_what_the_server_says_is_passed_on() {
    let Some(database) = super::server::Database::in_latin1() else { return };
    let refused = migrate(&database.settings()).unwrap_err();
    assert!(matches!(&refused, OpenError::NotUnicode { found } if found == "LATIN1"), "{refused}");
    let mut elsewhere = database.settings();
    elsewhere.connection.dbname("nowhere");
    let refused = migrate(&elsewhere).unwrap_err().to_string();
    assert!(refused.contains("database \"nowhere\" does not exist"), "{refused}");
}
