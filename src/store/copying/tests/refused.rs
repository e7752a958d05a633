//! What is not copied, or not called complete.

use super::*;
use crate::domain::fixtures::admitted;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::tests::{lose, verify::copy as copy_directory};

fn refusal(base: &Base, from: &Path) -> String {
    base.copy(from, 10, &mut |_| {}).expect_err("it is refused").to_string()
}

/// A copy during which something else happens in the database, once there are records.
fn meddled(sql: &str) -> Option<(Base, CopyError)> {
    let (base, filled) = (Base::new()?, filled());
    let mut is_done = false;
    let refused = base.copy(&filled.engine.path(), 30, &mut |progress| {
        if progress.stage == "copying records" && progress.done > 100 && !std::mem::replace(&mut is_done, true) {
            base.0.psql(sql);
        }
    });
    Some((base, refused.expect_err("it is refused")))
}

#[test]
fn a_store_that_is_in_use_is_refused() {
    let Some(base) = Base::new() else { return };
    let engine = InDirectory::merging_at(16);
    let open = engine.start();
    let message = refusal(&base, &engine.path());
    let refused = base.copy(&engine.path(), 10, &mut |_| {}).unwrap_err();
    assert!(
        matches!(&refused, CopyError::Source(OpenError::Locked { .. })) && message.contains("stop it first"),
        "{message}"
    );
    wait(open.close());
    drop(open);
    base.copy(&engine.path(), 10, &mut |_| {}).unwrap();
}

#[test]
fn a_gateway_cannot_start_on_the_files_meanwhile() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    let settings =
        StoreSettings { disk_reserve_bytes: 0, duplicate_window: DUPLICATE_WINDOW, max_waiting_appends: 4_096 };
    let mut tries = 0;
    base.copy(&filled.engine.path(), 50, &mut |_| {
        let refused = SqliteStore::open(&filled.engine.path(), &settings, &RETENTION).err();
        assert!(matches!(refused, Some(OpenError::Locked { .. })), "{refused:?}");
        tries += 1;
    })
    .unwrap();
    assert!(tries > 5, "{tries}");
}

#[test]
fn a_damaged_store_is_refused_and_nothing_is_begun() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    lose(&filled.engine.path(), 100..=100);
    let refused = base.copy(&filled.engine.path(), 10, &mut |_| {}).unwrap_err();
    assert!(matches!(&refused, CopyError::NotSound(report) if !report.sound), "{refused}");
    assert!(refused.to_string().contains("streamgate verify"), "{refused}");
    assert!(base.open().is_ok(), "the database is as good as before");
}

#[test]
fn another_store_does_not_go_on_with_half_a_copy() {
    let Some(base) = Base::new() else { return };
    let (one, two) = (filled(), filled());
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        base.copy(&one.engine.path(), 13, &mut |progress| assert!(progress.stage != "copying records"))
    }));
    assert!(died.is_err());
    let message = refusal(&base, &two.engine.path());
    assert!(message.contains("another store") && message.contains(&*one.engine.path().to_string_lossy()), "{message}");
    // The same store in another place is the same store.
    let elsewhere = tempfile::tempdir().unwrap();
    copy_directory(&one.engine.path(), elsewhere.path());
    base.copy(elsewhere.path(), 13, &mut |_| {}).unwrap();
    same_receipts(&base.store().unwrap(), &one.known);
}

#[test]
fn only_an_empty_database_is_copied_to() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    base.copy(&filled.engine.path(), 50, &mut |_| {}).unwrap();
    let message = refusal(&base, &filled.engine.path());
    assert!(message.contains("holds this store already"), "{message}");

    let Some(used) = Base::new() else { return };
    wait(Bench(used.store().unwrap()).append(admitted(1)));
    let message = refusal(&used, &filled.engine.path());
    assert!(message.contains("not empty: its records go up to 1"), "{message}");

    let Some(configured) = Base::new() else { return };
    let catalog = crate::store::postgres::catalog::PostgresCatalog::open(configured.open().unwrap());
    catalog.commit(&change((0, 1), Vec::new())).unwrap();
    let message = refusal(&configured, &filled.engine.path());
    assert!(message.contains("something was configured"), "{message}");
}

#[test]
fn gateways_that_run_on_the_database_are_named() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    drop(base.open().unwrap());
    base.0.psql(
        "insert into gateways (id, name, version, generation, files) \
         values ('00000000-0000-0000-0000-000000000001', 'gate-a', '1', 0, '')",
    );
    let message = refusal(&base, &filled.engine.path());
    assert!(message.contains("gateways run on the database: gate-a"), "{message}");
    base.0.psql("update gateways set heard_at = heard_at - interval '1 minute'");
    base.copy(&filled.engine.path(), 50, &mut |_| {}).unwrap();
}

#[test]
fn a_copy_that_is_not_what_was_copied_is_never_complete() {
    for sql in [
        "update pending set attempts = attempts + 1 where seq = (select max(seq) from pending)",
        "delete from delivered where seq = (select min(seq) from delivered)",
        "update records set body = substr(body, 2) where seq = 100",
        "update lanes set queue = 'Another'",
        "update catalog_organizations set document = document || ' '",
        "insert into deleted values (1000, 1001)",
        "update subscriptions set delivered = 7",
    ] {
        let Some((base, refused)) = meddled(sql) else { return };
        assert!(matches!(refused, CopyError::Differs(_)), "{sql}: {refused}");
        assert!(base.open().is_err(), "{sql}");
    }
}

#[test]
fn a_gateway_that_still_writes_is_noticed() {
    let Some((base, refused)) = meddled("update counter set high_water = high_water + 1") else { return };
    assert!(matches!(refused, CopyError::NotAlone(_)), "{refused}");
    assert!(base.open().is_err());
    let Some((_, refused)) = meddled("delete from copying") else { return };
    assert!(matches!(refused, CopyError::NotAlone(_)), "{refused}");
}
