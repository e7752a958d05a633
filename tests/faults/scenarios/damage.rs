//! A log that ends too early, and files that are not what they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use streamgate::config::settings::{RetentionSettings, StoreSettings};
use streamgate::store::Store as _;
use streamgate::store::sqlite::{OpenError, SqliteStore};

use crate::Fallible;
use crate::client::Client;
use crate::scenario::{Findings, How, Run, Scenario};
use crate::world::{Configuration, Tenant, World, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "D10",
        what: "the log is cut, or zero, from any byte of its last three records on",
        required: "what was promised is missed and named; what was not is dropped, whole records only",
        needs: &[],
        how: How::Run(torn_tail),
    },
    Scenario {
        id: "D11",
        what: "bits flip, blocks vanish or change places in the files of the store",
        required: "refused with the file and the extent, or quarantined and counted; never fewer records in silence",
        needs: &[],
        how: How::Held(&[
            "src/store/sqlite/tests/damage.rs::flipped_bits_are_never_passed_over",
            "src/store/sqlite/tests/damage.rs::a_missing_tail_is_refused_with_its_extent",
            "src/store/sqlite/tests/damage.rs::a_gap_near_the_end_is_refused_with_its_extent",
            "src/store/sqlite/tests/damage.rs::a_cut_log_is_refused_although_the_database_agrees_with_itself",
            "src/store/sqlite/tests/damage.rs::a_change_in_any_byte_of_a_record_is_noticed",
            "src/store/sqlite/tests/corruption.rs::nothing_is_lost_in_silence",
            "src/store/sqlite/tests/verify.rs::every_gap_is_named_and_it_goes_on_behind_it",
            "src/store/sqlite/tests/verify.rs::a_lost_tail_goes_as_far_as_the_mark_says",
            "src/store/sqlite/tests/verify.rs::an_index_that_lies_is_found_out",
        ]),
    },
    Scenario {
        id: "D15",
        what: "a store of an unknown format version",
        required: "refused, and no byte changed",
        needs: &[],
        how: How::Run(unknown_format),
    },
];

/// Where the frames of a commit end in the log: everything before counts, whatever comes after.
struct Log {
    bytes: Vec<u8>,
    /// The end of each commit, in order.
    commits: Vec<usize>,
}

/// Reads the log's frames: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
fn read_log(path: &Path) -> Fallible<Log> {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let bytes = fs::read(path)?;
    let number = |at: usize| bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let page = usize::try_from(number(8).ok_or("the log has no header")?)?;
    let salt = bytes.get(16..24).ok_or("the log has no header")?;
    let (mut at, mut commits) = (HEADER, Vec::new());
    // Frames of the log before have another salt; zeros have none.
    while bytes.get(at + 8..at + 16) == Some(salt) {
        let is_commit = number(at + 4).is_some_and(|pages| pages > 0);
        at += FRAME_HEADER + page;
        if is_commit {
            commits.push(at);
        }
    }
    Ok(Log { bytes, commits })
}

/// The store of a gateway that was killed after these many records, and the mark from before the last three.
fn prepare(world: &World) -> Fallible<(PathBuf, Vec<u8>)> {
    let gateway = world.start().up()?;
    let mut client = Client::patient(gateway.public);
    let mark = world.data.join("high-water.mark");
    let mut before = Vec::new();
    for number in 1..=8 {
        if number == 6 {
            before = fs::read(&mark)?;
        }
        let answer = client.post(&record(Tenant::Contoso, number, 0))?;
        if answer.status != 202 {
            return Err(format!("a record was answered with {}", answer.status).into());
        }
    }
    gateway.kill()?;
    Ok((world.data.clone(), before))
}

fn torn_tail(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?;
    let (data, mark_before) = prepare(&world)?;
    let log = read_log(&data.join("records.db-wal"))?;
    let [.., start, one, two, end] = log.commits[..] else { return Err("the log has too few commits".into()) };
    // In memory: thousands of stores are opened.
    let place = tempfile::Builder::new().prefix("streamgate-faults-").tempdir_in(memory())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let step = if run.long { 1 } else { 149 };
    let (mut cases, mut refused, mut fewer) = (0, 0, 0);
    let edges = [one - 1, one, two - 1, two, end - 1, end];
    for at in (start..=end).step_by(step).chain(edges) {
        // Commits that are whole even so.
        let whole = [one, two, end].iter().filter(|commit| at >= **commit).count();
        for variant in 0..4 {
            // Where every byte is tried, the four variants take turns, except where a commit ends.
            if !run.long || edges.contains(&at) || variant == at % 4 {
                let (zeros, promised) = (variant & 1 == 1, variant & 2 == 2);
                let case = Case { data: &data, log: &log, place: place.path(), at, zeros };
                let mark = (!promised).then_some(&mark_before[..]);
                let outcome = case.open(&runtime, mark)?;
                cases += 1;
                match outcome {
                    Opened::Refused(what) if promised && whole < 3 && what.contains("lost records") => refused += 1,
                    Opened::With(records) if (!promised || whole == 3) && records == 5 + whole => {
                        fewer += usize::from(whole < 3)
                    }
                    other @ (Opened::With(_) | Opened::Refused(_)) => findings
                        .faults
                        .push(format!("cut at {at} (zeros: {zeros}, promised: {promised}, {whole} whole): {other:?}")),
                }
            }
        }
        if findings.faults.len() > 20 {
            break;
        }
    }
    findings.runs = cases;
    let ok = cases - findings.faults.len();
    findings.figure(format!(
        "{ok} of {cases} cases as required: {refused} refused and named, {fewer} dropped only what was not promised"
    ));
    findings.control("without the mark the same cuts go unnoticed by SQLite", fewer > 0);
    Ok(findings)
}

fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

/// A damaged copy of the store.
struct Case<'a> {
    data: &'a Path,
    log: &'a Log,
    place: &'a Path,
    at: usize,
    zeros: bool,
}

#[derive(Debug)]
enum Opened {
    With(usize),
    Refused(String),
}

impl Case<'_> {
    fn open(&self, runtime: &tokio::runtime::Runtime, mark: Option<&[u8]>) -> Fallible<Opened> {
        let copy = self.place.join("data");
        let _gone = fs::remove_dir_all(&copy);
        fs::create_dir(&copy)?;
        fs::copy(self.data.join("records.db"), copy.join("records.db"))?;
        match mark {
            Some(mark) => fs::write(copy.join("high-water.mark"), mark)?,
            None => drop(fs::copy(self.data.join("high-water.mark"), copy.join("high-water.mark"))?),
        }
        let mut log = self.log.bytes.get(..self.at).ok_or("a cut behind the log")?.to_vec();
        if self.zeros {
            log.resize(self.log.bytes.len(), 0);
        }
        fs::write(copy.join("records.db-wal"), log)?;
        let opened = SqliteStore::open(&copy, &store_settings(), &retention_settings());
        Ok(match opened {
            Ok(store) => {
                let records = usize::try_from(store.stats().high_water_mark)?;
                runtime.block_on(store.close());
                Opened::With(records)
            }
            Err(fault @ OpenError::Damaged { .. }) => Opened::Refused(fault.to_string()),
            Err(other) => Opened::Refused(format!("refused for another reason: {other}")),
        })
    }
}

/// How many seconds a day has.
const DAY: u64 = 86_400;

fn store_settings() -> StoreSettings {
    StoreSettings { disk_reserve_bytes: 0, duplicate_window: Duration::from_secs(30 * DAY), max_waiting_appends: 16 }
}

fn retention_settings() -> RetentionSettings {
    let month = Duration::from_secs(30 * DAY);
    RetentionSettings {
        delivered: month,
        delivered_details: month,
        dead_letters: month * 3,
        accepted: None,
        audit: month * 12,
        trim_when_full: true,
    }
}

/// Every file of a folder with what is in it.
fn contents(folder: &Path) -> Fallible<Vec<(PathBuf, Vec<u8>)>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path)?;
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn unknown_format(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    // The user version: https://www.sqlite.org/fileformat2.html#the_database_header
    const VERSION_AT: usize = 60;
    for (file, byte) in [("records.db", 99), ("records.db", 255), ("catalog.db", 99), ("subscriptions.db", 99)] {
        let world = World::new(run, &Configuration::default())?;
        let gateway = world.start().up()?;
        let mut client = Client::patient(gateway.public);
        for number in 1..=20 {
            client.post(&record(Tenant::Contoso, number, 0))?;
        }
        gateway.terminate()?;
        let path = world.data.join(file);
        let mut bytes = fs::read(&path)?;
        *bytes.get_mut(VERSION_AT).ok_or("a short file")? = byte;
        fs::write(&path, bytes)?;
        let before = contents(&world.data)?;
        let Err(ended) = world.start().attempt()? else {
            findings.faults.push(format!("{file} of an unknown version is taken"));
            continue;
        };
        // What was configured is read with the configuration, and refused with it.
        let code = if file == "catalog.db" { 3 } else { 5 };
        findings.require(ended.code == Some(code) && ended.said.contains(file), || format!("{file}: {ended:?}"));
        let mut changed = changes(&before, &contents(&world.data)?);
        if file != "records.db" {
            // The records were fine, and were opened before; the file in question must be as it was.
            changed.retain(|path| path.ends_with(file));
        }
        findings.require(changed.is_empty(), || format!("{file}: the refused start changed {changed:?}"));
        findings.runs += 1;
    }
    findings.figure("0 bytes changed");
    Ok(findings)
}

/// The files that are not as they were. The lock names whoever came last, which is no change of the store.
fn changes(before: &[(PathBuf, Vec<u8>)], after: &[(PathBuf, Vec<u8>)]) -> Vec<PathBuf> {
    let is_lock = |path: &Path| path.ends_with("gateway.lock");
    let differs = |(path, bytes): &&(PathBuf, Vec<u8>), others: &[(PathBuf, Vec<u8>)]| {
        !is_lock(path) && !others.iter().any(|(other, same)| other == path && same == bytes)
    };
    let gone = before.iter().filter(|file| differs(file, after));
    let new = after.iter().filter(|file| differs(file, before));
    let mut changed: Vec<PathBuf> = gone.chain(new).map(|(path, _)| path.clone()).collect();
    changed.dedup();
    changed
}
