//! Where it is measured: a folder of its own that is gone afterwards, the cores, and how much of everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::rig::contestant::{Contestant, Kind};
use super::rig::load::Loader;
use super::rig::machine::Cores;
use super::rig::{place, records};
use super::stock::Stock;

/// More than this takes too long to settle for a quick run.
const MOST_QUICK: u64 = 300_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Whether it is a tenth of everything, and shorter.
    pub(crate) quick: bool,
    /// How often everybody has a turn.
    pub(crate) rounds: usize,
    /// How long a turn takes.
    pub(crate) turn: Duration,
}

impl Scale {
    /// An amount on this scale.
    pub(crate) fn of(self, full: u64) -> u64 {
        if self.quick { (full / 10).min(MOST_QUICK) } else { full }
    }
}

/// A place to measure at.
pub(crate) struct Ground {
    folder: TempDir,
    /// Which core serves, and which one loads.
    pub(crate) cores: Option<Cores>,
    /// How much is measured.
    pub(crate) scale: Scale,
    /// Prefilled data directories.
    pub(crate) stock: Stock,
}

impl Ground {
    /// A new one.
    pub(crate) fn new(quick: bool) -> Self {
        let folder = place::folder("growth");
        records::configure(folder.path());
        let cores = Cores::find();
        if cores.is_none() {
            println!(
                "NOT PINNED: there is one core, or no taskset; gateway and load take processor time from each other"
            );
        }
        let scale = if quick {
            Scale { quick, rounds: 5, turn: Duration::from_millis(250) }
        } else {
            Scale { quick, rounds: 5, turn: Duration::from_secs(2) }
        };
        let stock = Stock::new(folder.path());
        Self { folder, cores, scale, stock }
    }

    /// The configuration that gateways and stores run with.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("streamgate.toml")
    }

    /// A place for a data directory, or whatever else.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A gateway on a data directory.
    pub(crate) fn start(&self, kind: Kind, data_dir: &Path) -> Contestant {
        Contestant::start_on(kind, (&self.config(), data_dir), self.cores)
    }

    /// A load of records with details of this size.
    pub(crate) fn loader(&self, details_bytes: usize) -> Loader {
        Loader::new(self.folder.path(), details_bytes, self.cores.is_some())
    }

    /// From here on it is measured: what was prepared is on disk, and the load keeps to its core.
    pub(crate) fn begin(&self) {
        rustix::fs::sync();
        if let Some(cores) = self.cores {
            cores.move_to_load();
        }
    }

    /// From here on it is prepared, with all that the machine has.
    pub(crate) fn prepare(&self) {
        if let Some(cores) = self.cores {
            cores.move_to_both();
        }
    }
}
