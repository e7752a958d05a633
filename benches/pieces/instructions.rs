//! Instructions per piece, counted by callgrind: the same on a busy machine as on a quiet one.
//!
//! This program starts itself once more, under valgrind. Callgrind forgets what it has counted when [`piece_job_begins`] is
//! entered, and hands out a profile when [`piece_job_ends`] is. Profiles come in the order of the pieces.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::piece::{Job, PIECES};

/// Under valgrind it is called with this.
pub(crate) const UNDER_VALGRIND: &str = "--under-valgrind";
/// What callgrind looks for in the names of functions.
const BEGINS: &str = "--zero-before=*piece_job_begins*";
const ENDS: &str = "--dump-before=*piece_job_ends*";

#[inline(never)]
fn piece_job_begins(job: &Job) {
    std::hint::black_box(job);
}

#[inline(never)]
fn piece_job_ends() {
    std::hint::black_box(());
}

/// Does every piece: once for what is made at the first use, and once under the eyes of callgrind.
pub(crate) fn run_pieces() {
    for piece in PIECES {
        (piece.prepare)()();
        let job = (piece.prepare)();
        piece_job_begins(&job);
        job();
        piece_job_ends();
    }
}

/// Counts, and reports; the last line is JSON. Where valgrind is missing it says so, and that is no failure.
pub(crate) fn count() {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|it| it.success()) {
        println!("VALGRIND IS NOT INSTALLED: no instructions are counted");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let profiles = folder.path().join("profile");
    let own = std::env::current_exe().expect("this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", BEGINS, ENDS])
        .arg(format!("--callgrind-out-file={}", profiles.display()))
        .arg(own)
        .arg(UNDER_VALGRIND)
        .output()
        .expect("valgrind runs");
    assert!(output.status.success(), "under valgrind: {}", String::from_utf8_lossy(&output.stderr));
    let mut figures = Map::new();
    println!("Instructions per call:");
    for (number, piece) in (1..).zip(PIECES) {
        let count = instructions(&profiles, number);
        println!("  {count:>10}  {}", piece.name);
        figures.insert(piece.name.to_owned(), json!(count));
    }
    println!("{}", json!({ "instructions": Value::Object(figures) }));
}

/// What the profile of this number says altogether.
fn instructions(profiles: &Path, number: u32) -> u64 {
    let file = format!("{}.{number}", profiles.display());
    let text = std::fs::read_to_string(&file).expect("a profile for each piece");
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).expect("a number of instructions")
}
