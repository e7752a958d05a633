//! Moving up: a store on files is copied into a database, once, while no gateway runs on it.
//!
//! The files are read and never changed; their directory's lock is held meanwhile, and in the end a file in it says that the
//! store is in the database now: no gateway starts on the files any more. The copy has the records byte for byte
//! under their numbers, where each stands, the secret that makes receipts, what is configured, the audit trail, and who is
//! subscribed: so every receipt that was given out is found there, repeats are recognized, and leases go on.
//!
//! It goes in pieces, a transaction each. How far it has come is what is there: the counter of the records, and the newest
//! rows of the other tables, which move in the same transaction. A row in the table `copying` says that it is not finished,
//! of which store it is, and as of which moment; while it is there no gateway opens the database. A run that is cut short
//! is made again, and goes on.
//!
//! In the end everything is read back and compared with what was read from the files (`rows`), and only the transaction
//! that has compared takes the row away.
//!
//! Where the copy is found complete already, the directory is marked too, since the run that completed it may have died
//! before it did; unless the files have records that the database does not have.
//!
//! Not guaranteed: anything where gateways then run on both. They would be two stores that know nothing of each other.

mod report;
pub(in crate::store) mod rows;

use std::path::{Path, PathBuf};

pub use self::report::{Copied, CopiedTable};
use self::rows::{Rows, Seals, Table};
use super::postgres::import::{Standing, Target};
use super::postgres::{self, Database};
use super::sqlite::OpenError;
use super::sqlite::export::{Piece, Source};
use super::verification::{Options, Progress, Report};
use crate::config::settings::DatabaseSettings;

/// Records, or other rows, that one transaction copies at most.
const PIECE_ROWS: usize = 4_096;

/// Why a store was not copied, or not to its end. The files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The files cannot be used.
    #[error("the store to copy cannot be used{}", advice(.0))]
    Source(#[from] OpenError),
    /// Something in the files is not as it was written.
    #[error(
        "the store to copy is not sound, so nothing was copied; `streamgate verify` says what is wrong, and what to do"
    )]
    NotSound(Box<Report>),
    /// Damage showed on the way.
    #[error(
        "the store to copy is damaged: {0}; run `streamgate verify`, and copy to an empty database when it is sound"
    )]
    Damaged(String),
    /// The database cannot be used.
    #[error(transparent)]
    Target(#[from] postgres::OpenError),
    /// The database did not do something.
    #[error(
        "the database failed while {doing}: {fault}; what was copied stays there, and the same command goes on with it"
    )]
    Database {
        /// What was done.
        doing: &'static str,
        /// What it said.
        fault: String,
    },
    /// The database holds something.
    #[error("the database is not empty: {0}; a store is copied only into one that no gateway has used")]
    NotEmpty(String),
    /// The database has this store already.
    #[error(
        "the database holds this store already, copied to its end, and {0} keeps gateways from starting on the files; set \
         `[store] kind = \"postgres\"` and start the gateway"
    )]
    AlreadyThere(String),
    /// The database has this store, and the files have more.
    #[error(
        "the database holds this store, copied to its end, but at least {records} records are only in the files in {}: a \
         gateway has run on them since, or the database was restored from an earlier backup. Nothing was changed. Where \
         nothing has come to the database since, copy again, into an empty database; else what is in two stores cannot be \
         put into one: keep the files, and have the source systems send those records again",
        directory.display()
    )]
    SourceAhead {
        /// How many at least.
        records: i64,
        /// The data directory.
        directory: PathBuf,
    },
    /// It is all there, and nothing says so in the directory.
    #[error(
        "the store is copied to its end, and the database can be used; but the data directory could not be marked, so a \
         gateway that is started on the files would take records there. Run the same command again where that can be mended; \
         start no gateway on the files"
    )]
    NotMarked(#[source] OpenError),
    /// The database holds a part of something else.
    #[error(
        "the database holds an unfinished copy of another store, the one in {}; finish that one, or take an empty database",
        .0.display()
    )]
    AnotherSource(PathBuf),
    /// The files are not those any more that the copy was begun with.
    #[error(
        "the store has been used since its copy was begun, so what was copied is out of date; copy it again, into an empty \
         database"
    )]
    SourceChanged,
    /// Gateways run on the database.
    #[error("gateways run on the database: {0}; stop them, and copy into an empty one")]
    Gateways(String),
    /// Somebody else writes there.
    #[error("something else writes into the database that is copied to, {0}; copy into one that nobody else uses")]
    NotAlone(&'static str),
    /// What was copied is something else than what is there.
    #[error(
        "what was read back from the database is not what was copied, in {0}; no gateway starts on it. Something else has \
         written there: copy again, into an empty database"
    )]
    Differs(String),
    /// Something cannot be kept in a database.
    #[error("PostgreSQL cannot keep {0}: it takes no NUL in a text; nothing of it was copied")]
    Unfit(String),
}

/// Who has the directory, and what to do about it.
const fn advice(fault: &OpenError) -> &'static str {
    if matches!(fault, OpenError::Locked { .. }) {
        ": it is copied while no gateway runs on it; stop it first"
    } else {
        ""
    }
}

/// Copies the store in a directory into a database. Blocks until all is copied and compared, and must not be called from
/// within a runtime.
///
/// # Errors
/// [`CopyError`]. What was copied by then stays, and another run goes on with it.
pub fn copy(
    from: &Path,
    to: &DatabaseSettings,
    options: &Options,
    tell: &mut dyn FnMut(Progress),
) -> Result<Copied, CopyError> {
    // First, so that a database is left alone where there is nothing to copy.
    let source = Source::open(from)?;
    let database = Database::open_to_copy(to)?;
    Copier { source, target: Target::connect(&database)?, place: to.place(), piece_rows: PIECE_ROWS }.run(options, tell)
}

/// A copy under way.
struct Copier {
    source: Source,
    target: Target,
    /// Which database it is, for people.
    place: String,
    piece_rows: usize,
}

impl Copier {
    fn run(&mut self, options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Copied, CopyError> {
        let identity = self.source.identity();
        let resumed_after = match self.target.standing(&identity)? {
            Standing::Complete { high_water } => return Err(self.already_there(high_water)?),
            Standing::Unfinished { records } => Some(records),
            Standing::Empty => {
                let report = self.source.verify(options, tell)?;
                if !report.sound {
                    return Err(CopyError::NotSound(Box::new(report)));
                }
                None
            }
        };
        let beginning = self.source.beginning()?;
        let mut seals = Seals::default();
        seals.add(&beginning.rows);
        if resumed_after.is_none() {
            self.target.begin(&identity, &beginning)?;
        }
        self.records(resumed_after.unwrap_or(0), &mut seals, tell)?;
        self.others((Table::Audit, "copying the audit trail"), &mut seals, tell)?;
        self.others((Table::Notices, "copying what subscribers are to be told"), &mut seals, tell)?;
        tell(Progress { stage: "finding which record a repeat repeats", done: 0, of: 0 });
        let duplicate_keys = self.target.make_keys(&identity)?;
        let expected = seals.finish();
        self.target.finish(&identity, &expected, tell)?;
        let tables = expected
            .iter()
            .map(|(table, sealed)| CopiedTable { table: table.name(), rows: sealed.rows, sha256: hex(sealed.sha256) })
            .collect();
        Ok(Copied {
            marked: self.mark()?,
            newest: self.source.newest(),
            resumed_after,
            tables,
            duplicate_keys,
            gone: self.source.gone(),
            lost_and_written_down: self.source.lost(),
            texts_changed: self.source.texts_changed(),
        })
    }

    /// What to say of a copy that is complete; the directory is marked, unless the files have more.
    fn already_there(&mut self, high_water: i64) -> Result<CopyError, CopyError> {
        let records = self.target.only_in(&self.source, high_water)?;
        if records > 0 {
            return Ok(CopyError::SourceAhead { records, directory: self.source.identity().directory });
        }
        self.mark().map(CopyError::AlreadyThere)
    }

    /// Marks the directory as that of a store that is elsewhere. Answers the file that says so.
    fn mark(&self) -> Result<String, CopyError> {
        let marked = self.source.mark_moved(&self.place).map_err(CopyError::NotMarked)?;
        Ok(marked.display().to_string())
    }

    fn records(&mut self, there: i64, seals: &mut Seals, tell: &mut dyn FnMut(Progress)) -> Result<(), CopyError> {
        let Self { source, target, piece_rows, .. } = self;
        let (identity, of) = (source.identity(), source.newest().cast_unsigned());
        let mut from = there;
        source.each_piece((*piece_rows, there), &mut |piece: Piece| {
            seals.add(&piece.rows);
            if piece.to > from {
                target.add_records(&identity, (from, piece.to), &piece.rows)?;
                from = piece.to;
            }
            tell(Progress { stage: "copying records", done: piece.to.cast_unsigned(), of });
            Ok(())
        })
    }

    /// Copies a table whose rows stand in one order for ever: as many as are there are the first ones.
    fn others(
        &mut self,
        (table, stage): (Table, &'static str),
        seals: &mut Seals,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), CopyError> {
        let Self { source, target, piece_rows, .. } = self;
        let identity = source.identity();
        let there = target.count(table)?;
        let mut done = 0_u64;
        let mut take = |mut rows: Vec<rows::Row>| {
            let known = usize::try_from(there.saturating_sub(done)).unwrap_or(usize::MAX).min(rows.len());
            done += rows.len() as u64;
            seals.add_to(table, &rows);
            rows.drain(..known);
            if !rows.is_empty() {
                target.add(&identity, &Rows::from([(table, rows)]))?;
            }
            tell(Progress { stage, done, of: 0 });
            Ok(())
        };
        if table == Table::Audit {
            source.each_audit(*piece_rows, &mut take)
        } else {
            source.each_notice(*piece_rows, &mut take)
        }
    }
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
