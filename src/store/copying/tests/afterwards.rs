//! After a copy: no gateway starts on the files by mistake, and where one was made to, what it took is not forgotten.

use super::*;
use crate::domain::fixtures::admitted_in;
use crate::store::sqlite::{SqliteStore, verify::verify};

fn settings() -> StoreSettings {
    StoreSettings { disk_reserve_bytes: 0, duplicate_window: DUPLICATE_WINDOW, max_waiting_appends: 4_096 }
}

fn start_on_files(dir: &Path) -> Result<Arc<SqliteStore>, OpenError> {
    SqliteStore::open(dir, &settings(), &RETENTION)
}

/// Takes new records, and closes.
fn take(store: Arc<dyn Store>, records: std::ops::RangeInclusive<u32>) {
    wait(async {
        let bench = Bench(store);
        for record in records {
            assert!(bench.append_at(admitted_in(1, 1, record), day(50)).await.repeat().is_none());
        }
        bench.0.close().await;
    });
}

/// A complete copy, on whose files a gateway may start again.
fn copied_and_unmarked() -> Option<(Base, Filled)> {
    let (base, filled) = (Base::new()?, filled());
    let copied = base.copy(&filled.engine.path(), 50, &mut |_| {}).unwrap();
    std::fs::remove_file(copied.marked).unwrap();
    Some((base, filled))
}

fn again(base: &Base, filled: &Filled) -> CopyError {
    base.copy(&filled.engine.path(), 50, &mut |_| {}).unwrap_err()
}

/// How many records at least are said to be in the files only.
fn ahead(base: &Base, filled: &Filled) -> i64 {
    let refused = again(base, filled);
    let told = refused.to_string();
    let CopyError::SourceAhead { records, .. } = refused else { panic!("{refused:?}") };
    assert!(told.contains(&format!("at least {records} records are only in the files in /")), "{told}");
    assert!(!mark(&filled.engine.path()).exists(), "it is not called moved");
    records
}

#[test]
fn no_gateway_starts_on_the_files_until_the_mark_is_deleted() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    let dir = filled.engine.path();
    let copied = base.copy(&dir, 50, &mut |_| {}).unwrap();
    let before = everything_below(&dir);
    let refused = start_on_files(&dir).err().expect("it is refused");
    let told = refused.to_string();
    assert!(matches!(refused, OpenError::Moved { .. }), "{told}");
    let place = base.0.settings().place();
    for part in [&*place, &*copied.marked, "kind = \"postgres\"", "in the database only"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(everything_below(&dir), before, "nothing was changed");
    // Who only reads goes on.
    assert!(verify(&dir, &ALL, &mut |_| {}).unwrap().sound);
    assert!(crate::store::sqlite::inspect::inspect(&dir).moved.unwrap().is_some());
    std::fs::remove_file(copied.marked).unwrap();
    wait(start_on_files(&dir).unwrap().close());
}

#[test]
fn a_run_that_died_before_it_marked_the_directory_is_mended_by_another_one() {
    let Some((base, filled)) = copied_and_unmarked() else { return };
    let mark = mark(&filled.engine.path());
    assert!(matches!(again(&base, &filled), CopyError::AlreadyThere(_)));
    let said = std::fs::read_to_string(&mark).unwrap();
    assert!(matches!(again(&base, &filled), CopyError::AlreadyThere(_)));
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), said);
    assert!(matches!(start_on_files(&filled.engine.path()).err(), Some(OpenError::Moved { .. })));
    // Also where gateways run on the database by then, and have taken records.
    std::fs::remove_file(&mark).unwrap();
    take(base.store().unwrap(), 1_001..=1_003);
    base.0.psql(
        "insert into gateways (id, name, version, generation, files) \
         values ('00000000-0000-0000-0000-000000000001', 'gate-a', '1', 0, '')",
    );
    let told = again(&base, &filled).to_string();
    assert!(told.contains("holds this store already") && told.contains("moved-to-postgres"), "{told}");
    assert!(mark.exists());
}

#[test]
fn a_directory_that_cannot_be_marked_is_said() {
    let Some((base, filled)) = copied_and_unmarked() else { return };
    // Which cannot be removed as a file is.
    let in_the_way = filled.engine.path().join("moved-to-postgres.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let refused = again(&base, &filled);
    assert!(matches!(refused, CopyError::NotMarked(_)), "{refused}");
    assert!(refused.to_string().contains("copied to its end"), "{refused}");
    std::fs::remove_dir(&in_the_way).unwrap();
    assert!(matches!(again(&base, &filled), CopyError::AlreadyThere(_)));
}

#[test]
fn records_that_only_the_files_took_are_counted() {
    let Some((base, filled)) = copied_and_unmarked() else { return };
    take(start_on_files(&filled.engine.path()).unwrap(), 1_001..=1_003);
    assert_eq!(ahead(&base, &filled), 3);
    // Other records under the same numbers, and then more than in the files.
    take(base.store().unwrap(), 2_001..=2_002);
    assert_eq!(ahead(&base, &filled), 3);
    take(base.store().unwrap(), 2_003..=2_100);
    assert_eq!(ahead(&base, &filled), 3);
    take(start_on_files(&filled.engine.path()).unwrap(), 1_004..=1_203);
    assert_eq!(ahead(&base, &filled), 203);
}

#[test]
fn what_the_database_has_deleted_is_not_missed() {
    let Some((base, filled)) = copied_and_unmarked() else { return };
    let newest = "(select max(seq) from records)";
    base.0.psql(&format!("insert into deleted values ({newest} - 2, {newest} - 1)"));
    base.0.psql(&format!("delete from records where seq between {newest} - 2 and {newest} - 1"));
    take(base.store().unwrap(), 2_001..=2_001);
    base.0.psql("update deleted set last = 120 where first = 118");
    base.0.psql("delete from records where seq = 120");
    assert!(matches!(again(&base, &filled), CopyError::AlreadyThere(_)));
    // Without a word about it, it was lost.
    std::fs::remove_file(mark(&filled.engine.path())).unwrap();
    base.0.psql("update deleted set last = 119 where first = 118");
    assert_eq!(ahead(&base, &filled), 1);
}
