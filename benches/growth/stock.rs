//! Data directories that were filled beforehand. Filling is the expensive part, so each is made once a run, by adding to a
//! copy of the one that comes closest; contestants load copies, which cost nothing where the file system shares blocks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::rig::fill::{Filler, SMALL};

/// Records that are put in before they are settled.
const SETTLED_AT_ONCE: u64 = 250_000;

/// What is in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filling {
    /// Records that were delivered: of them, only their keys count.
    pub(crate) settled: u64,
    /// Records that nobody has fetched.
    pub(crate) pending: u64,
}

impl Filling {
    const NOTHING: Self = Self { settled: 0, pending: 0 };

    const fn total(self) -> u64 {
        self.settled + self.pending
    }

    /// Whether this can be made into that by adding: everything that is pending is settled at once, so settled records
    /// come first.
    const fn leads_to(self, to: Self) -> bool {
        (self.settled == to.settled || self.pending == 0) && self.settled <= to.settled && self.pending <= to.pending
    }
}

/// Prefilled data directories of one run.
pub(crate) struct Stock {
    folder: PathBuf,
    filled: Vec<(Filling, PathBuf)>,
    copies: u32,
}

impl Stock {
    /// Nothing yet. Beside it lies the configuration.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), filled: Vec::new(), copies: 0 }
    }

    /// A data directory of the caller's own that holds this; made if there is none yet, and kept for the next who asks.
    pub(crate) fn copy(&mut self, filling: Filling) -> PathBuf {
        let original = self.original(filling);
        self.copy_of(&original)
    }

    /// Makes it if there is none yet.
    pub(crate) fn keep(&mut self, filling: Filling) {
        self.original(filling);
    }

    /// The same for the last who asks: it is not kept.
    pub(crate) fn take(&mut self, filling: Filling) -> PathBuf {
        let original = self.original(filling);
        self.filled.retain(|(_, it)| *it != original);
        original
    }

    fn copy_of(&mut self, original: &Path) -> PathBuf {
        self.copies += 1;
        let copy = self.folder.join(format!("copy-{}", self.copies));
        let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(original).arg(&copy).status();
        assert!(copied.is_ok_and(|it| it.success()), "a data directory is copied");
        copy
    }

    fn original(&mut self, filling: Filling) -> PathBuf {
        if let Some((_, made)) = self.filled.iter().find(|(it, _)| *it == filling) {
            return made.clone();
        }
        let closest = self.filled.iter().filter(|(it, _)| it.leads_to(filling)).max_by_key(|(it, _)| it.total());
        let (from, new) = match closest.cloned() {
            Some((from, made)) => (from, self.copy_of(&made)),
            None => {
                self.copies += 1;
                (Filling::NOTHING, self.folder.join(format!("filled-{}", self.copies)))
            }
        };
        self.add(&new, from, filling);
        self.filled.push((filling, new.clone()));
        new
    }

    fn add(&self, data_dir: &Path, from: Filling, to: Filling) {
        let began = Instant::now();
        let filler = Filler::open(&self.folder.join("streamgate.toml"), data_dir);
        // In parts: what waits never gets far ahead of what is settled, as in an everyday life.
        let (mut number, settled) = (from.total(), from.total() + to.settled - from.settled);
        while number < settled {
            let end = settled.min(number + SETTLED_AT_ONCE);
            filler.append(number..end, SMALL);
            filler.settle_everything();
            number = end;
        }
        filler.append(settled..to.total(), SMALL);
        filler.close();
        println!("{from:?} became {to:?} within {:.0} s", began.elapsed().as_secs_f64());
    }
}
