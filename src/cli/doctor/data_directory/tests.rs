//! What is said about a data directory, from facts alone.

use super::*;
use crate::cli::doctor::finding::Severity;

const GIB: u64 = 1 << 30;

fn facts(place: Place) -> Facts<'static> {
    Facts {
        dir: Path::new("/data"),
        place,
        unwritable: None,
        entries: Vec::new(),
        room: Some(room(10 * GIB)),
        user: 1_000,
        reserve_bytes: USUAL_RESERVE_BYTES,
    }
}

const fn room(free_bytes: u64) -> Room {
    Room { free_bytes, total_bytes: 20 * GIB, free_inodes: 100_000, total_inodes: 200_000, read_only: false }
}

fn private() -> Place {
    Place::Directory { mode: 0o700, owner: 1_000 }
}

fn entry(name: &str, mode: u32, owner: u32) -> Entry {
    Entry { name: name.to_owned(), mode, owner }
}

/// The worst of the findings, which must say what follows and what to do when it is bad.
fn worst(findings: &[Finding]) -> Severity {
    for finding in findings.iter().filter(|finding| finding.severity > Severity::Note) {
        assert!(finding.consequence.is_some() && finding.mend.is_some(), "{finding:?}");
    }
    findings.iter().map(|finding| finding.severity).max().expect("a finding")
}

#[test]
fn a_directory_of_its_own_is_fine_and_one_that_is_missing_too() {
    assert_eq!(worst(&judge(&facts(private()))), Severity::Ok);
    let missing = judge(&facts(Place::Missing { above: PathBuf::from("/") }));
    assert_eq!(worst(&missing), Severity::Ok);
    assert!(missing[0].consequence.as_ref().is_some_and(|text| text.contains("a start makes it")), "{missing:?}");
}

#[test]
fn a_directory_that_cannot_be_used_is_a_fault() {
    let read_only = Facts { room: Some(Room { read_only: true, ..room(GIB) }), ..facts(private()) };
    let refused = Facts { unwritable: Some("Permission denied".to_owned()), ..facts(private()) };
    let missing = Place::Missing { above: PathBuf::from("/") };
    let refused_above = Facts { unwritable: Some("Permission denied".to_owned()), ..facts(missing) };
    for facts in [
        read_only,
        refused,
        refused_above,
        facts(Place::NoDirectory),
        facts(Place::Unknown("no".to_owned())),
        Facts { room: Some(Room { free_inodes: 3, ..room(GIB) }), ..facts(private()) },
    ] {
        assert_eq!(worst(&judge(&facts)), Severity::Fault, "{facts:?}");
    }
}

#[test]
fn permissions_are_judged_by_what_others_could_do() {
    let of_mode = |mode| facts(Place::Directory { mode, owner: 1_000 });
    let with = |name: &str, mode, owner| Facts { entries: vec![entry(name, mode, owner)], ..facts(private()) };
    for (facts, severity) in [
        (of_mode(0o755), Severity::Warning),
        (of_mode(0o770), Severity::Fault),
        (of_mode(0o777), Severity::Fault),
        (with("records.db", 0o600, 1_000), Severity::Ok),
        (with("records.db", 0o644, 1_000), Severity::Warning),
        (with("development.key", 0o644, 1_000), Severity::Fault),
        (with("hook.secret", 0o640, 1_000), Severity::Fault),
        (with("records.db", 0o600, 0), Severity::Fault),
        (Facts { user: 0, ..facts(private()) }, Severity::Note),
    ] {
        assert_eq!(worst(&permissions(&facts)), severity, "{facts:?}");
    }
}

#[test]
fn room_is_counted_as_the_store_counts_it() {
    let records = |free_bytes| Some(RecordsFile { bytes: GIB, free_bytes, is_old: false });
    let judged = |free_bytes, records| {
        let facts = Facts { room: Some(Room { total_bytes: GIB, ..room(free_bytes) }), ..facts(private()) };
        free_space(&facts, records).severity
    };
    let reserve = USUAL_RESERVE_BYTES;
    assert_eq!(judged(reserve, records(0)), Severity::Fault);
    assert_eq!(judged(reserve + START_BYTES, None), Severity::Fault, "the first start needs some");
    assert_eq!(judged(reserve, records(GIB)), Severity::Ok, "room inside counts");
    assert_eq!(judged(reserve / 4, records(GIB)), Severity::Fault, "but the log needs the disk");
    assert_eq!(judged(reserve + 1, records(0)), Severity::Warning);
    assert_eq!(judged(reserve * 6, records(0)), Severity::Ok);
}

#[test]
fn locks_and_files_are_told_as_a_start_would_see_them() {
    let inspection = |holder: io::Result<Option<String>>, records| Inspection {
        holder,
        records,
        missing: Vec::new(),
        moved: Ok(None),
    };
    let old = Some(RecordsFile { bytes: GIB, free_bytes: 0, is_old: true });
    let dir = Path::new("/data");
    let held = inspection(Ok(Some("process 7".to_owned())), Ok(old));
    assert_eq!((lock(&held).severity, store(dir, &held, true, None).severity), (Severity::Note, Severity::Ok));
    let upgraded = inspection(Ok(None), Ok(old));
    assert_eq!(store(dir, &upgraded, false, Some(room(2 * GIB))).severity, Severity::Warning);
    assert_eq!(store(dir, &upgraded, false, Some(room(GIB / 2))).severity, Severity::Fault);
    let odd = inspection(Err(io::Error::other("no locks")), Ok(None));
    assert_eq!(lock(&odd).severity, Severity::Fault);
    let lost = Inspection { missing: vec![dir.join("catalog.db")], ..inspection(Ok(None), Ok(None)) };
    assert_eq!(store(dir, &lost, false, None).severity, Severity::Fault);
    assert!(moved(&lost, false).is_none());

    let says = "copied to PostgreSQL, database streamgate at db".to_owned();
    let elsewhere = Moved { file: dir.join("moved-to-postgres"), says: says.clone() };
    let elsewhere = Inspection { moved: Ok(Some(elsewhere)), ..inspection(Ok(None), Ok(old)) };
    for (in_database, severity) in [(false, Severity::Fault), (true, Severity::Ok)] {
        let findings = judge_files(dir, &facts(private()), &elsewhere, in_database);
        assert_eq!(worst(&findings), severity, "{findings:?}");
        assert!(findings.iter().any(|finding| finding.found.contains(&says)), "{findings:?}");
    }
}
