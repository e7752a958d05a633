//! A store that was copied into a database, and is not the one that is used any more: a file in its directory says so.
//!
//! A gateway that starts on it again, as after a reboot with the old configuration, would take records that the other
//! ones know nothing of, and deliver again what they deliver. That the file is there is what keeps it from that, whatever
//! is in it; its text is for people. Who only reads does not look for it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::schema::{sync_directory, with_suffix};
use crate::domain::time::Timestamp;

/// The file.
pub(super) const MOVED: &str = "moved-to-postgres";
/// What of it is read at most.
const LONGEST_BYTES: u64 = 4_096;

/// Says in a directory where its store is now, unless that is said already. Durable on return. Answers the file. The
/// directory's lock must be held.
pub(super) fn say(dir: &Path, place: &str) -> Result<PathBuf, OpenError> {
    let path = dir.join(MOVED);
    let line = first_line(place);
    // Its moment is nearer to the copy than now.
    let is_said = read(&path).is_ok_and(|text| text.starts_with(&line));
    if !is_said {
        let fresh = with_suffix(&path, ".new");
        write(&fresh, &format!("{line}{}", others())).map_err(OpenError::io("cannot write", &fresh))?;
        fs::rename(&fresh, &path).map_err(OpenError::io("cannot make", &path))?;
    }
    sync_directory(dir)?;
    Ok(path)
}

/// The first line, up to the moment.
fn first_line(place: &str) -> String {
    format!("This store was copied to its end into PostgreSQL, {place}: found complete at ")
}

/// From the moment on.
fn others() -> String {
    let now = Timestamp::now();
    format!(
        "{now}\n\n\
         No gateway starts on these files any more, since the database has what they have, and what came since. What to do:\n\
         set `[store] kind = \"postgres\"` in its configuration, and say in [store.postgres] where the database is.\n\n\
         To go back to these files on purpose, stop every gateway on the database, and delete this file. Records that were\n\
         taken since that moment are in the database only: their receipts are unknown here. What was delivered or completed\n\
         since then is pending here, and is delivered again.\n"
    )
}

/// Writes a file afresh; what another attempt left, or somebody put there, is not written through.
fn write(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        Ok(()) | Err(_) => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(path: &Path) -> io::Result<String> {
    // Asked first: opening a named pipe would wait for a writer.
    if !path.symlink_metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Where the store of a directory is now, and since when: `None` where nothing says that it is elsewhere.
pub(super) fn look(dir: &Path) -> Result<Option<Moved>, OpenError> {
    let file = dir.join(MOVED);
    match file.symlink_metadata() {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(OpenError::io("cannot look for", &file)(fault)),
        Ok(_) => {
            let text = read(&file).unwrap_or_else(|fault| format!("(it cannot be read: {fault})"));
            let line = text.lines().next().unwrap_or_default();
            let says = line.chars().filter(|letter| !letter.is_control()).collect::<String>();
            Ok(Some(Moved { file, says: if says.is_empty() { "(it is empty)".to_owned() } else { says } }))
        }
    }
}

/// Refuses a store that is elsewhere.
pub(super) fn check(dir: &Path) -> Result<(), OpenError> {
    match look(dir)? {
        Some(Moved { file, says }) => Err(OpenError::Moved { file, says }),
        None => Ok(()),
    }
}

/// What a directory says of a store that is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The file that says so.
    pub file: PathBuf,
    /// Its first line: which database, and since when.
    pub says: String,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn refusal(dir: &Path) -> String {
        check(dir).expect_err("it is refused").to_string()
    }

    #[test]
    fn what_is_said_is_said_until_the_file_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path()).unwrap();
        let file = say(dir.path(), "database streamgate at db.example.com").unwrap();
        assert_eq!(file, dir.path().join(MOVED));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let message = refusal(dir.path());
        for part in ["database streamgate at db.example.com", "found complete at 2", "kind = \"postgres\"", "delete"] {
            assert!(message.contains(part), "{message}");
        }
        let before = fs::read(&file).unwrap();
        say(dir.path(), "database streamgate at db.example.com").unwrap();
        assert_eq!(fs::read(&file).unwrap(), before, "the first moment stays");
        say(dir.path(), "database streamgate at db.example.co").unwrap();
        assert!(refusal(dir.path()).contains("db.example.co:"), "another database");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        fs::remove_file(&file).unwrap();
        check(dir.path()).unwrap();
    }

    #[test]
    fn whatever_is_there_under_that_name_keeps_a_gateway_away() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(MOVED);
        fs::write(&file, "").unwrap();
        assert!(refusal(dir.path()).contains("it is empty"));
        fs::write(&file, b"one\x1b[31m\xff line\nanother").unwrap();
        let message = refusal(dir.path());
        assert!(message.contains("one[31m\u{fffd} line") && !message.contains("another"), "{message}");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(refusal(dir.path()).contains("not a regular file"));
        fs::remove_dir(&file).unwrap();
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        assert!(refusal(dir.path()).contains("not a regular file"));
    }

    #[test]
    fn what_another_attempt_left_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (precious, fresh) = (dir.path().join("precious"), dir.path().join("moved-to-postgres.new"));
        fs::write(&precious, "as it was").unwrap();
        std::os::unix::fs::symlink(&precious, &fresh).unwrap();
        let file = say(dir.path(), "database a at b").unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "as it was");
        assert!(file.symlink_metadata().unwrap().is_file() && !fresh.exists());
    }
}
