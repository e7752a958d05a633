//! Is there room: on the disk of the data directory, and inside `records.db`.
//!
//! Pages that a deletion or a trimming left free inside the file are written to again before the file grows, so they
//! count as room. That is how a store on a full disk becomes ready again by itself. But the log and the index of
//! duplicate keys need the disk: with less than a quarter of the reserve left on it there is no room, whatever is free
//! inside.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::board::lock;
use super::schema::page_bytes;

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
    at: Instant,
}

impl Seen {
    /// What is left for records above the reserve.
    const fn room(self, reserve_bytes: u64) -> u64 {
        if self.on_disk_bytes <= reserve_bytes / 4 {
            return 0;
        }
        self.on_disk_bytes.saturating_add(self.inside_bytes).saturating_sub(reserve_bytes)
    }
}

/// Why it cannot be told how much is free.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// The file system does not say.
    #[error(transparent)]
    Disk(#[from] std::io::Error),
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
        let seen = disk.look(conn)?;
        Ok(Self { disk, reserve_bytes, seen: Mutex::new(seen) })
    }

    /// Whether a record may be written; looks again when the last look is older than `max_age`.
    pub(super) fn check(&self, max_age: Duration, conn: &Connection) -> Result<(), NoRoom> {
        let mut seen = *lock(&self.seen);
        if seen.at.elapsed() >= max_age {
            // Without the lock: on a disk that hangs, this hangs, and whoever asks for figures must not.
            match self.disk.look(conn) {
                Ok(now) => {
                    seen = now;
                    *lock(&self.seen) = now;
                }
                // The next write will tell what is wrong with the disk.
                Err(error) => tracing::warn!(%error, "cannot tell how much disk space is free"),
            }
        }
        if seen.room(self.reserve_bytes) > 0 { Ok(()) } else { Err(self.no_room(seen)) }
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
        let pages = |pragma: &str| -> rusqlite::Result<u64> {
            let pages: i64 = conn.prepare_cached(&format!("pragma {pragma}"))?.query_row([], |row| row.get(0))?;
            Ok(u64::try_from(pages).unwrap_or(0))
        };
        let page_bytes = page_bytes(conn)?;
        let on_disk_bytes = match self {
            Self::Around(dir) => {
                let stat = rustix::fs::statvfs(dir.as_path()).map_err(std::io::Error::from)?;
                stat.f_bavail.saturating_mul(stat.f_frsize)
            }
            Self::Pages(limit) => u64::from(*limit).saturating_sub(pages("page_count")?) * page_bytes,
        };
        Ok(Seen { on_disk_bytes, inside_bytes: pages("freelist_count")? * page_bytes, at: Instant::now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pages_make_up_for_the_reserve_but_not_for_all_of_it() {
        let room = |on_disk_bytes, inside_bytes| Seen { on_disk_bytes, inside_bytes, at: Instant::now() }.room(100);
        assert_eq!(room(100, 0), 0);
        assert_eq!(room(101, 0), 1);
        assert_eq!(room(100, 50), 50);
        assert_eq!(room(60, 30), 0);
        assert_eq!(room(60, 50), 10);
        assert_eq!(room(25, 1_000), 0, "the log has nowhere to go");
        assert_eq!(room(26, 1_000), 926);
        assert_eq!(Seen { on_disk_bytes: 0, inside_bytes: 9, at: Instant::now() }.room(0), 0);
    }
}
