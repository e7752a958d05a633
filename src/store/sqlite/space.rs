//! Is there room: on the disk of the data directory, and inside `records.db`.
//!
//! Pages that a deletion or a trimming left free inside the file are written to again before the file grows, so they
//! count as room. That is how a store on a full disk becomes ready again by itself. But the log and the index of
//! duplicate keys need the disk: with less than a quarter of the reserve left on it there is no room, whatever is free
//! inside.
//!
//! What is committed lies in the log at first, and `records.db` grows only when a checkpoint copies it there. That growth
//! is certain, so it is taken off what is free. What was written since the last look counts towards the next one: with less
//! than one more reserve left, every write looks, so that a fast writer on a fast disk stops in time, too.
//!
//! Once there is no room, a page that becomes free here or there is no room yet: there is room again with a thirty-second part
//! of the reserve, or callers would be told yes and no in turns.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::board::lock;
use super::schema::{RECORDS, page_bytes};

/// There is no room for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// What is free.
    pub(super) free_bytes: u64,
    /// What is kept.
    pub(super) reserve_bytes: u64,
}

/// Free space, as last looked at.
#[derive(Debug)]
pub(super) struct Space {
    disk: Disk,
    reserve_bytes: u64,
    seen: Mutex<Seen>,
}

/// Where the free space of the disk is read.
#[derive(Debug)]
enum Disk {
    /// The file system around this directory.
    Around(PathBuf),
    /// A disk that ends when `records.db` has so many pages.
    Pages(u32),
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    on_disk_bytes: u64,
    inside_bytes: u64,
    /// What was written since: once to the log, and once more with the next checkpoint.
    written_bytes: u64,
    /// There was no room, and there is not enough yet.
    is_full: bool,
    at: Instant,
}

impl Seen {
    /// What is left for records above the reserve.
    const fn room(self, reserve_bytes: u64) -> u64 {
        if self.is_full || self.on_disk_bytes <= reserve_bytes / 4 {
            return 0;
        }
        self.on_disk_bytes.saturating_add(self.inside_bytes).saturating_sub(reserve_bytes)
    }

    /// The same, once it is known how it was before.
    fn after(self, was_full: bool, reserve_bytes: u64) -> Self {
        let room = self.room(reserve_bytes);
        Self { is_full: room == 0 || was_full && room < reserve_bytes / 32, ..self }
    }

    /// Whether it may be other by now in a way that matters.
    fn is_stale(self, max_age: Duration, reserve_bytes: u64) -> bool {
        self.at.elapsed() >= max_age || self.room(reserve_bytes) < reserve_bytes.saturating_add(self.written_bytes)
    }
}

/// Why it cannot be told how much is free.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// The file system does not say.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// The database does not say.
    #[error(transparent)]
    Records(#[from] rusqlite::Error),
}

impl Space {
    /// The space around a directory, and in its `records.db`, which the connection is open on. `disk_pages` makes
    /// believe that the disk ends there.
    pub(super) fn around(
        dir: &Path,
        reserve_bytes: u64,
        disk_pages: Option<u32>,
        conn: &Connection,
    ) -> Result<Self, Unknown> {
        let disk = disk_pages.map_or_else(|| Disk::Around(dir.to_owned()), Disk::Pages);
        let seen = disk.look(conn)?.after(false, reserve_bytes);
        Ok(Self { disk, reserve_bytes, seen: Mutex::new(seen) })
    }

    /// Whether a record may be written; looks again when the last look is older than `max_age`, or little room is left.
    pub(super) fn check(&self, max_age: Duration, conn: &Connection) -> Result<(), NoRoom> {
        let mut seen = *lock(&self.seen);
        if seen.is_stale(max_age, self.reserve_bytes) {
            // Without the lock: on a disk that hangs, this hangs, and whoever asks for figures must not.
            match self.disk.look(conn) {
                Ok(now) => {
                    let mut kept = lock(&self.seen);
                    // Somebody else may have looked meanwhile: the look that began later counts.
                    if now.at >= kept.at {
                        *kept = now.after(kept.is_full, self.reserve_bytes);
                    }
                    seen = *kept;
                }
                // The next write will tell what is wrong with the disk.
                Err(error) => tracing::warn!(%error, "cannot tell how much disk space is free"),
            }
        }
        if seen.room(self.reserve_bytes) > 0 { Ok(()) } else { Err(self.no_room(seen)) }
    }

    /// So much was written.
    pub(super) fn wrote(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut seen = lock(&self.seen);
        seen.written_bytes = seen.written_bytes.saturating_add(bytes.saturating_mul(2));
    }

    /// How it was at the last look, for a write that found no room.
    pub(super) fn as_last_seen(&self) -> NoRoom {
        self.no_room(*lock(&self.seen))
    }

    const fn no_room(&self, seen: Seen) -> NoRoom {
        let free_bytes = seen.on_disk_bytes.saturating_add(seen.inside_bytes);
        NoRoom { free_bytes, reserve_bytes: self.reserve_bytes }
    }

    /// What was free on the disk at the last look.
    pub(super) fn on_disk(&self) -> u64 {
        lock(&self.seen).on_disk_bytes
    }

    /// What records never use.
    pub(super) const fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// What was left for records above the reserve at the last look.
    pub(super) fn free_above_reserve(&self) -> u64 {
        lock(&self.seen).room(self.reserve_bytes)
    }
}

impl Disk {
    fn look(&self, conn: &Connection) -> Result<Seen, Unknown> {
        let at = Instant::now();
        let on_disk_bytes = match self {
            Self::Around(dir) => {
                // The growth before the free space: a checkpoint in between is counted twice then, and not left out.
                let to_come = growth_to_come(dir, conn)?;
                let stat = rustix::fs::statvfs(dir.as_path()).map_err(io::Error::from)?;
                stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(to_come)
            }
            Self::Pages(limit) => u64::from(*limit).saturating_sub(pages(conn, "page_count")?) * page_bytes(conn)?,
        };
        let inside_bytes = pages(conn, "freelist_count")? * page_bytes(conn)?;
        Ok(Seen { on_disk_bytes, inside_bytes, written_bytes: 0, is_full: false, at })
    }
}

/// By how many bytes the next checkpoint makes `records.db` longer.
fn growth_to_come(dir: &Path, conn: &Connection) -> Result<u64, Unknown> {
    let length = match dir.join(RECORDS).metadata() {
        Ok(file) => file.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    Ok((pages(conn, "page_count")? * page_bytes(conn)?).saturating_sub(length))
}

fn pages(conn: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    let pages: i64 = conn.prepare_cached(&format!("pragma {pragma}"))?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(pages).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(on_disk_bytes: u64, inside_bytes: u64) -> Seen {
        Seen { on_disk_bytes, inside_bytes, written_bytes: 0, is_full: false, at: Instant::now() }
    }

    #[test]
    fn once_full_it_takes_more_than_a_page() {
        let room = |on_disk, was_full| seen(on_disk, 0).after(was_full, 3_200).room(3_200);
        assert_eq!(room(3_200, false), 0);
        assert_eq!([room(3_299, false), room(3_299, true)], [99, 0]);
        assert_eq!([room(3_300, false), room(3_300, true)], [100, 100]);
    }

    #[test]
    fn free_pages_make_up_for_the_reserve_but_not_for_all_of_it() {
        let room = |on_disk_bytes, inside_bytes| seen(on_disk_bytes, inside_bytes).room(100);
        assert_eq!(room(100, 0), 0);
        assert_eq!(room(101, 0), 1);
        assert_eq!(room(100, 50), 50);
        assert_eq!(room(60, 30), 0);
        assert_eq!(room(60, 50), 10);
        assert_eq!(room(25, 1_000), 0, "the log has nowhere to go");
        assert_eq!(room(26, 1_000), 926);
        assert_eq!(seen(0, 9).room(0), 0);
    }

    #[test]
    fn what_only_the_log_holds_is_taken_off_the_free_space() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let conn = Connection::open(dir.path().join(RECORDS)).expect("opens");
        conn.execute_batch("pragma journal_mode=wal; pragma wal_autocheckpoint=0; create table t (x blob)")
            .expect("sets up");
        conn.execute("insert into t values (zeroblob(1 << 20))", []).expect("writes");
        assert!(growth_to_come(dir.path(), &conn).expect("is known") >= 1 << 20);
        conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).expect("checkpoints");
        assert_eq!(growth_to_come(dir.path(), &conn).expect("is known"), 0);
    }

    #[test]
    fn what_was_written_since_makes_a_look_stale() {
        let hour = Duration::from_secs(3_600);
        let with = |written_bytes| Seen { written_bytes, ..seen(1_000, 0) };
        assert!(!with(800).is_stale(hour, 100));
        assert!(with(801).is_stale(hour, 100));
        assert!(with(0).is_stale(Duration::ZERO, 100));
    }
}
