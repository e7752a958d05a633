//! Putting the recovered database in the place of the damaged one.
//!
//! Two files cannot be renamed at once, and a new database beside an old write-ahead log would be a third thing that never
//! was. So a note comes first, durably: `recovery.pending` names the folder. From then on every start, and every other
//! recovery, does what is left to be done before anything else; each step can be done again. Before the note the store is
//! the old one, with it the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::DERIVED;
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::mark::MARK;
use crate::store::sqlite::schema::{RECORDS, open_private, sync_directory, with_suffix};

/// The note.
pub(in crate::store::sqlite) const PENDING: &str = "recovery.pending";
/// What the folder of a recovery is called, with the moment behind it.
pub(super) const FOLDER_PREFIX: &str = "recovery-";
/// Where in the folder the new database is until it is in place.
pub(super) const NEW: &str = "new";
/// Where in the folder the files are as they were found.
pub(super) const ORIGINAL: &str = "original";

/// Refuses a directory that is none, before a lock file is made in it.
pub(super) fn check_there(data_dir: &Path) -> Result<(), OpenError> {
    match data_dir.join(PENDING).exists() {
        true => Ok(()),
        false => crate::store::sqlite::schema::check_records(data_dir),
    }
}

/// Puts what was made in this folder in place.
pub(super) fn swap(data_dir: &Path, folder: &Path) -> Result<(), OpenError> {
    note(data_dir, folder)?;
    finish(data_dir)
}

/// Writes the note.
fn note(data_dir: &Path, folder: &Path) -> Result<(), OpenError> {
    let (path, draft) = (data_dir.join(PENDING), data_dir.join(format!("{PENDING}.new")));
    let name = folder.file_name().unwrap_or_default();
    let written = open_private(&draft).and_then(|mut file| {
        file.set_len(0)?;
        io::Write::write_all(&mut file, name.as_encoded_bytes())?;
        file.sync_all()
    });
    written.map_err(OpenError::io("cannot write", &draft))?;
    fs::rename(&draft, &path).map_err(OpenError::io("cannot put in place", &path))?;
    sync_directory(data_dir)
}

/// Does what an earlier recovery noted and did not come to. Nothing where there is no note. The lock must be held.
pub(in crate::store::sqlite) fn finish(data_dir: &Path) -> Result<(), OpenError> {
    let note = data_dir.join(PENDING);
    let name = match fs::read_to_string(&note) {
        Ok(name) => name,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(fault) => return Err(OpenError::io("cannot read", &note)(fault)),
    };
    let folder = data_dir.join(&name);
    if !name.starts_with(FOLDER_PREFIX) || name.contains('/') || !folder.is_dir() {
        let what = "it does not name the folder of a recovery; see whether there is one, and what it says";
        return Err(OpenError::inconsistent(&note, what));
    }
    tracing::warn!(folder = %folder.display(), "a recovered store is put in place");
    for (from, to) in moves(data_dir, &folder) {
        fs::rename(&from, &to).map_err(OpenError::io("cannot move", &from))?;
        sync_both(&from, &to)?;
    }
    let new = folder.join(NEW);
    if new.exists() {
        fs::remove_dir_all(&new).map_err(OpenError::io("cannot remove", &new))?;
    }
    fs::remove_file(&note).map_err(OpenError::io("cannot remove", &note))?;
    sync_directory(data_dir)
}

/// What is still to be moved where, in this order. The new database is the last of its kind to come: as long as it is in
/// the folder, what is in the data directory is the old one's.
fn moves(data_dir: &Path, folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let records = Path::new(RECORDS);
    let (new, original) = (folder.join(NEW), folder.join(ORIGINAL));
    let mut moves = Vec::new();
    if new.join(records).exists() {
        let log = [with_suffix(records, "-wal"), with_suffix(records, "-shm"), with_suffix(records, "-journal")];
        let derived = DERIVED.map(PathBuf::from);
        let old = log.into_iter().chain(derived).chain([records.to_owned()]);
        let there = old.filter(|name| data_dir.join(name).exists());
        moves.extend(there.map(|name| (data_dir.join(&name), original.join(name))));
        moves.push((new.join(records), data_dir.join(records)));
    }
    if new.join(MARK).exists() {
        moves.push((new.join(MARK), data_dir.join(MARK)));
    }
    moves
}

/// Moves what is derived away, where it alone is damaged. Each file by itself may be missing.
pub(super) fn move_derived(data_dir: &Path, folder: &Path) -> Result<(), OpenError> {
    for name in DERIVED {
        let (from, to) = (data_dir.join(name), folder.join(ORIGINAL).join(name));
        if from.exists() {
            fs::rename(&from, &to).map_err(OpenError::io("cannot move", &from))?;
            sync_both(&from, &to)?;
        }
    }
    Ok(())
}

fn sync_both(from: &Path, to: &Path) -> Result<(), OpenError> {
    for dir in [from.parent(), to.parent()].into_iter().flatten() {
        sync_directory(dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(dir: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    /// Dies after each of the steps, and goes on at the next start.
    #[test]
    fn a_swap_that_is_cut_short_anywhere_is_finished() {
        for steps in 0..=7 {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path();
            let folder = data.join("recovery-1");
            for made in [folder.join(NEW), folder.join(ORIGINAL)] {
                fs::create_dir_all(made).unwrap();
            }
            for name in [RECORDS, "records.db-wal", "records.db-shm", MARK] {
                fs::write(data.join(name), "old").unwrap();
            }
            fs::create_dir(data.join("keys")).unwrap();
            for name in [RECORDS, MARK] {
                fs::write(folder.join(NEW).join(name), "new").unwrap();
            }
            note(data, &folder).unwrap();
            let moves = moves(data, &folder);
            assert_eq!(moves.len(), 7);
            for (from, to) in moves.into_iter().take(steps) {
                fs::rename(from, to).unwrap();
            }
            finish(data).unwrap();
            finish(data).unwrap();
            let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
            assert_eq!(content(data), [pair(MARK, "new"), pair(RECORDS, "new")], "{steps} steps");
            let old = [MARK, RECORDS, "records.db-shm", "records.db-wal"].map(|name| pair(name, "old"));
            assert_eq!(content(&folder.join(ORIGINAL)), old, "{steps} steps");
            assert!(folder.join(ORIGINAL).join("keys").is_dir() && !folder.join(NEW).exists());
        }
    }

    #[test]
    fn a_note_that_leads_elsewhere_is_refused() {
        for name in ["", "recovery-none", "../recovery-1", "recovery-1/../.."] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("recovery-1")).unwrap();
            fs::write(dir.path().join(PENDING), name).unwrap();
            assert!(finish(dir.path()).is_err(), "{name}");
        }
    }
}
