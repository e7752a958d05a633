//! The files beside the records: whether each is there if it ever was, and each of its rows is as it was written.

use std::path::Path;

use rusqlite::Connection;

use super::check_pages;
use crate::store::receipt_id::same;
use crate::store::sqlite::block;
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::side_file::{self, is_empty, version};
use crate::store::sqlite::survey::ground::Ground;
use crate::store::sqlite::survey::unchanged::Unchanged;
use crate::store::sqlite::{catalog, subscriptions};
use crate::store::verification::{Finding, Findings, Kind};

/// Checks `catalog.db`.
pub(super) fn check_catalog(data_dir: &Path, findings: &mut Findings) -> Result<(), OpenError> {
    check(data_dir, (&catalog::KIND, Kind::Catalog), findings, |conn, findings| {
        catalog::damaged_rows(conn, &mut |what| findings.note(Finding::damage(Kind::Catalog, catalog::CATALOG, what)));
    })
}

/// Checks `subscriptions.db`, and the receipts of its notices against the records.
pub(super) fn check_subscriptions(
    data_dir: &Path,
    (records, ground): (&Connection, &Ground),
    findings: &mut Findings,
) -> Result<(), OpenError> {
    const FILE: &str = subscriptions::SUBSCRIPTIONS;
    check(data_dir, (&subscriptions::KIND, Kind::Subscriptions), findings, |conn, findings| {
        let mut note = |what| findings.note(Finding::damage(Kind::Subscriptions, FILE, what));
        subscriptions::damaged_rows(conn, &mut note);
        let mut beyond = 0_u64;
        let fits = |number: i64, receipt| {
            let unmasked = ground.mask.open(&receipt);
            let random = block::head(records, number).ok().flatten().map(|head| head.random);
            // What was deleted has no random part any more to compare with.
            unmasked.seq == number.cast_unsigned() && random.is_none_or(|random| same(&random, &unmasked.random))
        };
        let read = subscriptions::each_notice(conn, &mut |number, receipt| {
            if number > ground.newest {
                beyond += 1;
            } else if ground.secret.is_some() && !fits(number, receipt) {
                note(format!("a notice of record {number} has the receipt of another one"));
            }
        });
        if let Err(fault) = read {
            note(format!("its notices cannot be read to their end: {fault}"));
        }
        if beyond > 0 {
            let what = format!("{beyond} notices are about records newer than any: records.db is an older one");
            findings.note(Finding::remark(Kind::Subscriptions, FILE, what));
        }
    })
}

fn check(
    data_dir: &Path,
    (kind, about): (&side_file::Kind, Kind),
    findings: &mut Findings,
    rows: impl FnOnce(&Connection, &mut Findings),
) -> Result<(), OpenError> {
    let (path, is_marked) = (data_dir.join(kind.file), data_dir.join(kind.mark).exists());
    let is_there = std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
    if !is_there {
        if is_marked {
            let what = format!("it is missing or empty although {} says that there was one", kind.mark);
            findings.note(Finding::damage(about, kind.file, what));
        }
        return Ok(());
    }
    let opened = Unchanged::open(&path)?;
    let conn = opened.conn();
    match version(conn) {
        Ok(found) if found == (kind.application_id, kind.version) => {
            check_pages(conn, (about, kind.file), findings);
            rows(conn, findings);
        }
        Ok((0, 0)) if !is_marked && is_empty(conn).unwrap_or(false) => {}
        Ok((id, found)) if id == kind.application_id => {
            let what = format!("it has format {found}, and this version knows format {}", kind.version);
            findings.note(Finding::damage(about, kind.file, what));
        }
        Ok(_) => findings.note(Finding::damage(about, kind.file, "it is not the file that it should be")),
        Err(fault) => findings.note(Finding::damage(about, kind.file, format!("it cannot be read: {fault}"))),
    }
    Ok(())
}
