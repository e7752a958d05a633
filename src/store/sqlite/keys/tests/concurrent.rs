//! The writer looks up and adds while the thread writes runs and merges them: no key is ever nowhere.

use std::collections::HashMap;
use std::time::Instant;

use super::*;

#[test]
fn no_look_up_misses_a_key_while_runs_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut keys, board) = start(dir.path(), 16);
    let mut model = HashMap::new();
    let mut newest = 0;
    for commit in 0..6_000_u64 {
        let mut new = KeyMap::default();
        for n in 0..4 {
            newest += 1;
            // One in four is a key that was there before.
            let n = if n == 0 { commit * 7 % (1 + commit) } else { 1_000_000 + 4 * commit + n };
            new.insert(key_of(n), seen(newest));
            model.insert(n, seen(newest));
        }
        keys.committed(new, newest);
        let lookup = keys.look_up();
        for (n, seen) in model.iter().take(30) {
            assert_eq!(lookup.find(&key_of(*n)).unwrap(), Some(*seen), "after {newest} records");
        }
        assert_eq!(lookup.find(&key_of(2_000_000 + commit)).unwrap(), None);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while keys.runs.now().merged_to() < newest - 20 {
        assert!(Instant::now() < deadline && !board.is_broken(), "keys are still in memory");
        std::thread::yield_now();
    }
    let lookup = keys.look_up();
    for (n, seen) in &model {
        assert_eq!(lookup.find(&key_of(*n)).unwrap(), Some(*seen));
    }
    drop(lookup);
    keys.committed(KeyMap::default(), newest);
    assert!(keys.in_memory() < 40, "{} keys are in memory", keys.in_memory());
    board.start_closing();
    keys.stop();
    let merged_to = directory::open(&directory::path_in(dir.path()), &STORE).unwrap().merged_to();
    assert!(merged_to >= newest - 20, "{merged_to} of {newest}");
}

#[test]
fn a_thread_that_cannot_go_on_breaks_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (mut keys, board) = start(dir.path(), 1);
    fs::remove_dir_all(dir.path().join(KEYS)).unwrap();
    keys.committed(KeyMap::from_iter([(key_of(1), seen(1))]), 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !board.is_broken() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::yield_now();
    }
    assert_eq!(keys.look_up().find(&key_of(1)).unwrap(), Some(seen(1)));
    // Nobody takes them any more, which the writer does not have to know.
    keys.committed(KeyMap::from_iter([(key_of(2), seen(2))]), 2);
    keys.stop();
}
