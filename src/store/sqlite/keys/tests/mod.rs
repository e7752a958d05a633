//! Runs, what is merged of them, and the index as a whole, against a plain table in memory.

mod concurrent;
mod damage;
mod measure;
mod model;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use rusqlite::Connection;

use super::carry::write_run;
use super::layout::{self, Header, StoreMark};
use super::run::Run;
use super::*;
use crate::store::sqlite::board::{Figures, Wanted};
use crate::store::sqlite::space::Space;

const STORE: StoreMark = [7; 32];

/// The key of this number: mixed, as keys are.
pub(in crate::store::sqlite) fn key_of(n: u64) -> DuplicateKey {
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    };
    let first = mix(n.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15));
    let halves = [first, mix(first ^ 0xd1b5_4a32_d192_ed03)].map(u64::to_le_bytes);
    halves.as_flattened().first_chunk().copied().unwrap()
}

fn seen(seq: i64) -> Seen {
    Seen { seq, accepted_at_seconds: 1_000 + seq }
}

fn board(dir: &Path) -> Arc<Board> {
    let conn = Connection::open_in_memory().unwrap();
    let space = Space::around(dir, 0, None, &conn).unwrap();
    Arc::new(Board::new(Figures::default(), 1, space, Wanted::default()))
}

/// The work of the merge thread, done when a test says so.
fn carrier(data_dir: &Path, base: usize, window: Duration) -> (Carrier, Sender<Arc<Frozen>>) {
    let (arrivals, arriving) = channel();
    let set = directory::open(&directory::path_in(data_dir), &STORE).unwrap();
    let carrier = Carrier {
        data_dir: data_dir.to_owned(),
        store: STORE,
        board: board(data_dir),
        runs: Arc::new(Runs::new(set)),
        arriving,
        waiting: VecDeque::new(),
        retired: Vec::new(),
        base,
        window,
        clock: Clock::start(),
    };
    (carrier, arrivals)
}

/// An index without records, with its thread.
fn start(data_dir: &Path, freeze_at_keys: usize) -> (Keys, Arc<Board>) {
    let set = directory::open(&directory::path_in(data_dir), &STORE).unwrap();
    let newest = set.merged_to();
    let tail = crate::store::sqlite::key_tail::Tail { keys: KeyMap::default(), newest };
    let opened = Opened { data_dir: data_dir.to_owned(), store: STORE, runs: Runs::new(set), tail };
    let board = board(data_dir);
    let rules = Rules { freeze_at_keys, duplicate_window: Duration::MAX };
    (Keys::start(opened, &rules, &board).unwrap(), board)
}

fn all_of(run: &Run) -> Result<Vec<(DuplicateKey, Seen)>, KeysError> {
    let mut entries = run.entries();
    let mut all = Vec::new();
    while let Some(entry) = entries.next()? {
        all.push(entry);
    }
    Ok(all)
}

/// Something done to a run's entries, its range and its store.
pub(in crate::store::sqlite) type Tampering<'a> =
    &'a dyn Fn(&mut Vec<(DuplicateKey, Seen)>, &mut (i64, i64), &mut StoreMark);

/// Writes every run of a closed store anew, with something done to it.
pub(in crate::store::sqlite) fn tamper(data_dir: &Path, tampering: Tampering<'_>) {
    let dir = directory::path_in(data_dir);
    let paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!paths.is_empty(), "there is no run");
    for path in paths {
        let block: layout::Block = *fs::read(&path).unwrap().first_chunk().unwrap();
        let mut store = *block[16..].first_chunk().unwrap();
        let run = Run::open(&path, &store).unwrap();
        let (mut entries, mut range) = (all_of(&run).unwrap(), run.range());
        tampering(&mut entries, &mut range, &mut store);
        fs::remove_file(&path).unwrap();
        write_run(&dir, &store, range, entries).unwrap();
    }
}

#[test]
fn a_header_reads_back() {
    let header = Header {
        store: STORE,
        from: 3,
        to: i64::MAX,
        entries: 1_000,
        newest_accepted_at: -5,
        filter_lines: 40,
        tail_crc: 0xdead_beef,
    };
    let block = *header.encode().first_chunk().unwrap();
    assert_eq!(Header::decode(&block, &STORE), Ok(header));
    assert_eq!(Header::decode(&block, &[8; 32]), Err(layout::Unusable::AnotherStores));
    let mut newer = block;
    newer[8] += 1;
    assert_eq!(Header::decode(&newer, &STORE), Err(layout::Unusable::UnknownVersion));
    assert_eq!(Header::decode(&[0; 4_096], &STORE), Err(layout::Unusable::NoRun));
    assert_eq!((header.blocks(), header.entries_in(0), header.entries_in(7), header.entries_in(8)), (8, 127, 111, 0));
}

#[test]
fn runs_of_every_size_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for count in [0, 1, 2, 126, 127, 128, 254, 255, 2_032, 2_033, 70_000] {
        let entries: Vec<_> = (1..=count).map(|n| (key_of(n), seen(n.cast_signed()))).collect();
        let range = (1, 1.max(count.cast_signed()));
        let made = write_run(dir.path(), &STORE, range, entries.clone()).unwrap();
        let read = Run::open(&made.path, &STORE).unwrap();
        for run in [made, read] {
            assert_eq!((run.header.entries, run.range()), (count, range));
            let mut all = all_of(&run).unwrap();
            assert!(all.is_sorted_by_key(|(key, _)| *key));
            all.sort_unstable_by_key(|(_, seen)| seen.seq);
            assert_eq!(all, entries);
            for (key, seen) in entries.iter().step_by(1 + entries.len() / 1_000) {
                assert_eq!(run.find(key).unwrap(), Some(*seen));
            }
            for n in 1..=1_000 {
                assert_eq!(run.find(&key_of(count + n)).unwrap(), None);
            }
        }
    }
}

#[test]
fn keys_that_nearly_agree_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let key = |n: u16| {
        let mut key = [9; 16];
        key[14..].copy_from_slice(&n.to_be_bytes());
        key
    };
    let entries = (0..500).map(|n| (key(2 * n), seen(1 + i64::from(n)))).collect();
    let run = write_run(dir.path(), &STORE, (1, 500), entries).unwrap();
    for n in 0..500 {
        assert_eq!(run.find(&key(2 * n)).unwrap(), Some(seen(1 + i64::from(n))));
        assert_eq!(run.find(&key(2 * n + 1)).unwrap(), None);
    }
    assert_eq!(run.find(&[0; 16]).unwrap(), None);
    assert_eq!(run.find(&[255; 16]).unwrap(), None);
}

#[test]
fn of_equal_keys_the_newest_record_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let entries = [3, 9, 1, 5].map(|seq| (key_of(1), seen(seq)));
    let run = write_run(dir.path(), &STORE, (1, 9), entries.to_vec()).unwrap();
    assert_eq!(all_of(&run).unwrap(), [(key_of(1), seen(9))]);
}
