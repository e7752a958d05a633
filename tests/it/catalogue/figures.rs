//! The whole catalogue, over and over, against one gateway: nothing of it may add up. A process of its own, so that its
//! memory is its own.

use std::path::Path;

use super::{Case, check_invariants, credentials, every_case, tokens};
use crate::support::gateway::{Setup, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{Connection, exchange, request};

/// How much more memory the gateway may hold after the measured rounds than before.
const GROWTH_BYTES: u64 = 8 * 1_024 * 1_024;

/// Rounds that are measured, after as many that warm up. More with `STREAMGATE_CATALOGUE_ROUNDS`.
fn rounds() -> usize {
    std::env::var("STREAMGATE_CATALOGUE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Memory of a process that is in use.
fn resident_bytes(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

/// How many series a scrape has.
fn series(process: &Process) -> usize {
    let text = exchange(process.admin, &request("GET", "/metrics", &[], b"")).body;
    String::from_utf8(text).expect("text").lines().filter(|line| !line.starts_with('#')).count()
}

/// Lines of the log that stand for a request.
fn lines_of_requests(log: &Path) -> usize {
    let log = std::fs::read_to_string(log).expect("a log");
    log.lines().filter(|line| line.contains("\"http.status\":")).count()
}

/// Sends a case and ends the sending side, so that every answer that it gets can be counted. Interim answers are none.
fn answers(process: &Process, case: &Case) -> usize {
    let mut connection = Connection::open(process.public);
    connection.send(&case.bytes);
    let first = connection.answer().unwrap_or_else(|| panic!("{}: closed without an answer", case.id));
    assert!(case.expected.contains(&first.status), "{}: {first:?}", case.id);
    check_invariants(case.id, &first);
    connection.finish_sending();
    let mut count = 1;
    while let Some(more) = connection.answer() {
        check_invariants(case.id, &more);
        assert_eq!(more.status, 400, "{}: what follows a first answer is not taken: {more:?}", case.id);
        count += 1;
    }
    count
}

#[test]
fn the_catalogue_leaves_nothing_behind() {
    let publisher = tokens::Publisher::of_the_issuer();
    let mut setup = Setup::default();
    let limits = "\n[limits]\nrequests_per_minute = 50_000_000\nburst = 50_000_000\nwrong_credentials_per_second = 1_000_000\n[log]\nformat = \"json\"\n";
    setup.process.push_str(&(credentials::more_keys() + &tokens::issuer(publisher.address) + limits));
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &setup);
    let log = folder.path().join("log");
    let process = Process::start_logging(folder.path(), &log);
    tokens::wait_for_keys(process.public);

    let cases = every_case();
    let round = || cases.iter().map(|case| answers(&process, case)).sum::<usize>();
    for _ in 0..rounds() {
        round();
    }
    series(&process);
    let (memory, series_before, lines) = (resident_bytes(&process), series(&process), lines_of_requests(&log));
    let answered: usize = (0..rounds()).map(|_| round()).sum();
    let (grown, series_after) = (resident_bytes(&process).saturating_sub(memory), series(&process));
    println!(
        "{} cases, {} rounds: {} KiB more than the {} KiB of before, {series_after} series",
        cases.len(),
        rounds(),
        grown / 1_024,
        memory / 1_024
    );
    assert!(grown <= GROWTH_BYTES, "the gateway grew by {grown} bytes");
    assert_eq!(series_after, series_before, "inputs have made series");
    // The last scrape above is a request, too, and so is the one that the line count followed.
    assert_eq!(lines_of_requests(&log) - lines, answered + 1, "one line of the log for each answer");
    assert_eq!(process.terminate(), Some(0));
}
