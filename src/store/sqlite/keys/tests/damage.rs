//! A file that is not what was written is noticed, and an index that cannot be used is cleared.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use super::*;

fn sample(dir: &Path) -> Run {
    let entries = (1..=300).map(|n| (key_of(n), seen(n.cast_signed()))).collect();
    write_run(dir, &STORE, (1, 300), entries).unwrap()
}

#[test]
fn every_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = sample(dir.path()).path;
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    assert_eq!(length, 4 * 4_096 + 12 * 64 + 3 * 16);
    for at in 0..length {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << (at % 8))], at).unwrap();
        let read = Run::open(&path, &STORE).and_then(|run| all_of(&run));
        assert!(matches!(read, Err(KeysError::Damaged { .. })), "byte {at}: {read:?}");
        file.write_all_at(&byte, at).unwrap();
    }
    assert_eq!(all_of(&Run::open(&path, &STORE).unwrap()).unwrap().len(), 300);
}

#[test]
fn a_file_that_is_cut_or_grew_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = sample(dir.path()).path;
    let file = fs::File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length + 1).unwrap();
    assert!(matches!(Run::open(&path, &STORE), Err(KeysError::Damaged { .. })));
    for shorter in (0..length).rev() {
        file.set_len(shorter).unwrap();
        assert!(matches!(Run::open(&path, &STORE), Err(KeysError::Damaged { .. })), "{shorter} bytes");
    }
}

#[test]
fn a_look_up_notices_a_damaged_block_and_one_in_anothers_place() {
    let dir = tempfile::tempdir().unwrap();
    let run = sample(dir.path());
    let file = fs::File::options().read(true).write(true).open(&run.path).unwrap();
    let mut blocks = [[0; 4_096]; 2];
    file.read_exact_at(blocks.as_flattened_mut(), 4_096).unwrap();
    blocks.reverse();
    file.write_all_at(blocks.as_flattened(), 4_096).unwrap();
    let (mut damaged, mut found) = (0, 0);
    for n in 1..=300 {
        match run.find(&key_of(n)) {
            Ok(Some(_)) => found += 1,
            Err(KeysError::Damaged { .. }) => damaged += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((damaged, found), (254, 46));
    file.set_len(4_096).unwrap();
    assert!(run.find(&key_of(1)).unwrap_err().to_string().contains("cut short"));
}

fn write(dir: &Path, from: i64, to: i64) {
    let entries = (from..=to).map(|n| (key_of(n.cast_unsigned()), seen(n))).collect();
    write_run(dir, &STORE, (from, to), entries).unwrap();
}

fn ranges(set: &RunSet) -> Vec<(i64, i64)> {
    set.newest_first().iter().map(|run| run.range()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_crash_left_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(KEYS);
    assert_eq!(ranges(&directory::open(&dir, &STORE).unwrap()), []);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for (from, to) in [(1, 4), (5, 8), (1, 8), (9, 9), (10, 20), (10, 12), (15, 20)] {
        write(&dir, from, to);
    }
    let draft = dir.join(format!("{}.new", directory::file_name(1, 9)));
    fs::write(draft, b"half of it").unwrap();
    assert_eq!(ranges(&directory::open(&dir, &STORE).unwrap()), [(10, 20), (9, 9), (1, 8)]);
    assert_eq!(names(&dir), [(1, 8), (9, 9), (10, 20)].map(|(from, to)| directory::file_name(from, to)));
}

/// What is wrong with a directory, and how it comes about.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn an_index_that_does_not_fit_is_cleared() {
    let damages: [Damage<'_>; 6] = [
        ("a gap", &|dir| fs::remove_file(dir.join(directory::file_name(5, 8))).unwrap()),
        ("no beginning", &|dir| fs::remove_file(dir.join(directory::file_name(1, 4))).unwrap()),
        ("an overlap", &|dir| write(dir, 7, 20)),
        ("another's name", &|dir| {
            fs::rename(dir.join(directory::file_name(9, 9)), dir.join(directory::file_name(9, 10))).unwrap();
        }),
        ("a file in its place", &|dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::write(dir, b"").unwrap();
        }),
        ("another store's", &|dir| drop(write_run(dir, &[8; 32], (10, 10), Vec::new()).unwrap())),
    ];
    for (what, damage) in damages {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(KEYS);
        directory::open(&dir, &STORE).unwrap();
        for (from, to) in [(1, 4), (5, 8), (9, 9)] {
            write(&dir, from, to);
        }
        assert_eq!(directory::open(&dir, &STORE).unwrap().merged_to(), 9);
        damage(&dir);
        assert_eq!(directory::open(&dir, &STORE).unwrap().merged_to(), 0, "{what}");
        assert!(names(&dir).is_empty(), "{what}");
    }
}

#[test]
fn what_is_discarded_can_still_be_read_and_takes_nothing_new() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(KEYS);
    directory::open(&dir, &STORE).unwrap();
    write(&dir, 1, 300);
    let set = directory::open(&dir, &STORE).unwrap();
    discard(root.path());
    assert_eq!(set.find(&key_of(17)).unwrap(), Some(seen(17)));
    assert!(write_run(&dir, &STORE, (301, 301), Vec::new()).is_err());
    assert_eq!(names(root.path()), [""; 0]);
    discard(root.path());
}

#[test]
fn a_merge_that_meets_damage_says_so_and_leaves_no_draft() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(KEYS);
    directory::open(&dir, &STORE).unwrap();
    for n in 0..8 {
        write(&dir, 1 + 300 * n, 300 * (n + 1));
    }
    let (mut carrier, _arrivals) = carrier(root.path(), 300, Duration::MAX);
    let file = fs::File::options().write(true).open(dir.join(directory::file_name(601, 900))).unwrap();
    file.write_all_at(&[1], 4_096 + 4_090).unwrap();
    let halt = carrier.carry().unwrap_err();
    assert!(matches!(&halt, carry::Halt::Failed(KeysError::Damaged { .. })), "{halt:?}");
    assert_eq!(names(&dir).len(), 8);
    assert_eq!(carrier.runs.now().merged_to(), 2_400);
}
