//! Copies that are cut short: by a process that dies at any step, by a database that goes away.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn a_copy_that_dies_at_every_step_is_completed_by_the_next_ones() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    let dir = filled.engine.path();
    let before = everything_below(&dir.canonicalize().unwrap());
    let (mut runs, mut is_begun) = (0, false);
    let copied = loop {
        runs += 1;
        assert!(runs < 200, "it does not end");
        let mut steps = 0;
        let run = catch_unwind(AssertUnwindSafe(|| {
            base.copy(&dir, 6, &mut |progress| {
                is_begun |= progress.stage == "copying records";
                steps += 1;
                assert!(steps < runs, "the process dies here");
            })
        }));
        match run {
            Ok(copied) => break copied.unwrap(),
            Err(_died) if is_begun => {
                assert!(!mark(&dir).exists(), "before it is complete the files are the store");
                half_a_copy_is_refused(&base);
            }
            // Nothing was written yet, but for the tables.
            Err(_died) => assert!(base.open().is_ok()),
        }
    };
    assert!(runs > 20, "{runs} runs");
    assert_eq!(copied.resumed_after, Some(120));
    assert_eq!(files(&dir), before);
    same_receipts(&base.store().unwrap(), &filled.known);
}

fn half_a_copy_is_refused(base: &Base) {
    let message = base.open().err().expect("it is refused").to_string();
    assert!(
        message.contains("not finished") && message.contains("streamgate migrate-store --from sqlite:/"),
        "{message}"
    );
    assert!(matches!(base.store().err(), Some(postgres::OpenError::HalfCopied { .. })));
    let verified = postgres::verify::verify(&base.0.settings(), &ALL, &mut |_| {});
    assert!(matches!(verified.err(), Some(postgres::OpenError::HalfCopied { .. })));
}

#[test]
fn a_database_that_goes_away_at_any_step_is_gone_on_with() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    let (mut runs, mut failures) = (0, 0);
    loop {
        runs += 1;
        assert!(runs < 200, "it does not end");
        let mut steps = 0;
        // Pieces of another size each time.
        let run = base.copy(&filled.engine.path(), 5 + runs, &mut |progress| {
            if progress.stage.starts_with("copying") {
                steps += 1;
                if steps == runs {
                    base.0.cut_connections();
                }
            }
        });
        match run {
            Ok(_) => break,
            Err(CopyError::Database { .. }) => failures += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(failures > 5, "{failures} failures");
    same_receipts(&base.store().unwrap(), &filled.known);
}

#[test]
fn a_store_that_was_used_meanwhile_is_not_gone_on_with() {
    let Some(base) = Base::new() else { return };
    let filled = filled();
    let dir = filled.engine.path();
    let died = catch_unwind(AssertUnwindSafe(|| {
        base.copy(&dir, 13, &mut |progress| assert!(progress.stage != "copying records", "the process dies here"))
    }));
    assert!(died.is_err());
    // A gateway starts on the files, and stops again.
    wait(filled.engine.start().close());
    let refused = base.copy(&dir, 13, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, CopyError::SourceChanged), "{refused}");
    half_a_copy_is_refused(&base);
}
