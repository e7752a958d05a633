//! Verifying: whether every receipt that was ever handed out is accounted for, in a store that no gateway has open.
//!
//! Each number that was given to a record must be a record that is what was written (by its checksum) and in exactly one
//! state, or deleted as retention says, or written down as lost. Each of these records' receipts can be made again. The
//! marks agree, the figures are those that are counted, repeats are found by the index of duplicate keys and lead to the
//! right record, and the files beside the records are as they were written. A finding does not end it: everything is
//! looked at.
//!
//! Guaranteed: not one byte of the directory changes (`survey/unchanged.rs`).
//!
//! Not guaranteed: what has no checksum, and contradicts nothing, passes: moments, numbers of tries, and reasons in the
//! tables of states.

mod side;

use std::path::Path;

use rusqlite::Connection;

use super::batch::Tally;
use super::error::OpenError;
use super::keys::Index;
use super::lock::DirectoryLock;
use super::lost::LostRange;
use super::mark::{self, MARK, Mark};
use super::schema::{self, RECORDS};
use super::survey::ground::{self, Ground};
use super::survey::log;
use super::survey::states::TABLES;
use super::survey::unchanged::Unchanged;
use super::survey::{Place, Standing, Survey, Window, in_words};
use crate::domain::time::Timestamp;
use crate::store::verification::{Counts, Finding, Findings, Kind, Report, WrittenDown};
pub use crate::store::verification::{Options, Progress};

/// Verifies the store in a directory, and changes nothing. Blocks while it reads all of it.
///
/// # Errors
/// [`OpenError`]: a gateway has the directory, or there is no store of this version that could be looked at.
pub fn verify(data_dir: &Path, options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Report, OpenError> {
    let lock = DirectoryLock::share(data_dir)?;
    schema::check_records(data_dir)?;
    let report = look(data_dir, options, tell)?;
    // Without a lock file nobody has ever opened the store, unless it was made just now.
    if lock.is_none() {
        DirectoryLock::share(data_dir)?;
    }
    Ok(report)
}

/// As [`verify`], for who has the lock.
pub(super) fn look(data_dir: &Path, options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Report, OpenError> {
    let file = data_dir.join(RECORDS);
    let records = Unchanged::open(&file)?;
    let conn = records.conn();
    schema::check_version(conn, &file)?;
    let mut findings = Findings::keeping(options.findings);
    let stage = |stage| Progress { stage, done: 0, of: 0 };
    tell(stage("checking the pages of records.db"));
    check_pages(conn, (Kind::Database, RECORDS), &mut findings);
    check_log(conn, &file, &mut findings)?;
    let index = match ground::secret(conn).map_err(OpenError::sqlite(&file))? {
        Some(secret) => Index::open_unchanged(data_dir, &secret, &mut findings)?,
        None => Index::default(),
    };
    let ground = Ground::read(conn, data_dir, index.merged_to(), &mut findings)?;
    check_mark(mark::read(data_dir)?, &ground, &mut findings);
    let horizon = index.horizon(options.duplicate_window, Timestamp::now());
    let mut audit =
        Audit { ground: &ground, index: &index, horizon, counts: Counts::default(), delivered: Tally::default() };
    let mut survey = Survey::start(conn, &ground);
    let failed = OpenError::sqlite(&file);
    while let Some(window) = survey.window(&mut findings).map_err(&failed)? {
        audit.window(&window, &mut findings);
        let of = ground.newest.cast_unsigned();
        tell(Progress { stage: "verifying records", done: window.to.cast_unsigned(), of });
    }
    audit.strays_beyond(conn, &mut findings).map_err(&failed)?;
    let counts = audit.finish(&mut findings);
    let of = index.entries();
    index
        .check_entries(conn, &mut findings, &mut |done| tell(Progress { stage: "verifying duplicate keys", done, of }))
        .map_err(&failed)?;
    tell(stage("verifying what is configured, and who is subscribed"));
    side::check_catalog(data_dir, &mut findings)?;
    side::check_subscriptions(data_dir, (conn, &ground), &mut findings)?;

    let sound = !findings.is_damage();
    let (findings, totals) = findings.into_parts();
    Ok(Report {
        sound,
        store: data_dir.display().to_string(),
        newest: ground.newest,
        counts: Counts { duplicate_keys: index.entries(), ..counts },
        findings,
        totals,
        written_down: ground.lost.ranges().iter().take(options.findings).map(written_down).collect(),
    })
}

fn written_down(lost: &LostRange) -> WrittenDown {
    WrittenDown { from: lost.range.first, to: lost.range.last, at: lost.at.to_string(), why: lost.why.clone() }
}

/// SQLite's own check of a database.
fn check_pages(conn: &Connection, (kind, file): (Kind, &'static str), findings: &mut Findings) {
    let checked = (|| {
        let mut check = conn.prepare("pragma integrity_check(1000)")?;
        let mut rows = check.query([])?;
        while let Some(row) = rows.next()? {
            let told: String = row.get(0)?;
            for line in told.lines().filter(|line| *line != "ok" && !line.starts_with("***")) {
                findings.note(Finding::damage(kind, file, format!("SQLite's integrity check: {line}")));
            }
        }
        Ok::<_, rusqlite::Error>(())
    })();
    if let Err(fault) = checked {
        findings.note(Finding::damage(kind, file, format!("SQLite's integrity check: {fault}")));
    }
}

/// Whether SQLite reads the log to its end.
fn check_log(conn: &Connection, file: &Path, findings: &mut Findings) -> Result<(), OpenError> {
    // A page size that cannot be read is found with the pages.
    let page_bytes = schema::page_bytes(conn).ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4_096);
    let Some(found) = log::look(&schema::with_suffix(file, "-wal"), page_bytes)? else { return Ok(()) };
    let what = format!(
        "the log breaks at byte {}, and nothing behind it is read: {} commits, so what became of records since then is \
         forgotten, and they may be delivered again",
        found.at, found.commits
    );
    findings.note(if found.is_damage() {
        Finding::damage(Kind::Database, "records.db-wal", what)
    } else {
        let what = format!("the log ends with a commit that was cut short, at byte {}", found.at);
        Finding::remark(Kind::Database, "records.db-wal", what)
    });
    Ok(())
}

fn check_mark(outer: Mark, ground: &Ground, findings: &mut Findings) {
    match outer {
        Mark::Unreadable => findings.note(Finding::damage(Kind::Mark, MARK, "its checksum does not match")),
        Mark::None if ground.newest > 0 => {
            let what = "there is none, as after a restore; a loss of the newest records would not show here";
            findings.note(Finding::remark(Kind::Mark, MARK, what));
        }
        Mark::None | Mark::At(_) => {}
    }
}

/// What is counted on the way.
struct Audit<'a> {
    ground: &'a Ground,
    index: &'a Index,
    horizon: i64,
    counts: Counts,
    /// The rows of `delivered`.
    delivered: Tally,
}

impl Audit<'_> {
    fn window(&mut self, window: &Window, findings: &mut Findings) {
        for place in &window.places {
            self.place(place, findings);
        }
        for (range, why) in &window.missing {
            let what = match why {
                Some(why) => format!("it cannot be read: {why}"),
                None => "it is missing, and was not deleted".to_owned(),
            };
            findings.note(Finding::damage(Kind::Lost, RECORDS, what).of(range.first, range.last));
        }
        for row in &window.strays {
            let what = format!("it is {}, and there is no record", in_words(std::slice::from_ref(row), 0));
            findings.note(Finding::damage(Kind::StrayState, RECORDS, what).of(row.seq, row.seq));
            self.count_delivered(row.table, row.seq);
        }
        for seq in &window.stray_untried {
            let what = "it is listed as never handed out, and there is no record of this lane";
            findings.note(Finding::damage(Kind::StrayState, RECORDS, what).of(*seq, *seq));
        }
    }

    fn place(&mut self, place: &Place, findings: &mut Findings) {
        let Place { seq, head, checked, .. } = place;
        let receipt = || {
            let id = || self.ground.mask.id_of(seq.cast_unsigned(), head.random).to_string();
            self.ground.secret.is_some().then(id)
        };
        let damage = |kind, what: String| Finding::damage(kind, RECORDS, what).of(*seq, *seq).with_receipt(receipt());
        match checked {
            Ok(_) if self.ground.secret.is_some() => self.counts.verified += 1,
            Ok(_) => {}
            Err(what) => findings.note(damage(Kind::DamagedRecord, (*what).to_owned())),
        }
        if place.is_deleted {
            findings.note(damage(Kind::ContradictoryState, "it is there although it was deleted".to_owned()));
        }
        match place.standing() {
            Standing::Untried => {
                self.counts.untried += 1;
                self.counts.pending += 1;
            }
            Standing::Row(row) => match TABLES.get(row.table).map(|table| table.name) {
                Some("pending") => self.counts.pending += 1,
                Some("waiting") => self.counts.waiting += 1,
                Some("delivered") => self.counts.delivered += 1,
                Some("dead_letters") => self.counts.dead_lettered += 1,
                Some(_) => self.counts.discarded += 1,
                None => {}
            },
            Standing::Unknown => {
                let mut what = "it is neither pending nor waiting nor delivered nor a dead letter".to_owned();
                if !place.unread.is_empty() {
                    what.push_str(&format!("; its row may stand where {} cannot be read", place.unread.join(", ")));
                }
                findings.note(damage(Kind::NoState, what));
            }
            Standing::Contradiction(what) => findings.note(damage(Kind::ContradictoryState, what)),
        }
        for row in &place.rows {
            self.count_delivered(row.table, *seq);
        }
        // A damaged head has no key that could be looked for.
        if checked.is_ok()
            && let Some(what) = self.index.wrong_about((*seq, head), self.horizon)
        {
            findings.note(Finding::damage(Kind::Index, "keys", what).of(*seq, *seq).with_receipt(receipt()));
        }
    }

    fn count_delivered(&mut self, table: usize, seq: i64) {
        if TABLES.get(table).is_some_and(|table| table.name == "delivered") {
            self.delivered.add(seq);
        }
    }

    /// States of numbers that were never given to a record, and of lanes that do not exist.
    fn strays_beyond(&self, conn: &Connection, findings: &mut Findings) -> rusqlite::Result<()> {
        for table in &TABLES {
            let outside = format!("select seq from {} where seq < 1 or seq > ?1 order by seq", table.name);
            let no_lane = "select seq from pending where lane not in (select id from lanes) and seq between 1 and ?1";
            let sqls = [Some(outside.as_str()), (table.name == "pending").then_some(no_lane)];
            for sql in sqls.into_iter().flatten() {
                let read = conn.prepare(sql).and_then(|mut select| {
                    let rows = select.query_map([self.ground.newest], |row| row.get(0))?;
                    rows.collect::<rusqlite::Result<Vec<i64>>>()
                });
                let what = format!("the table {} cannot be read to its end", table.name);
                for seq in ground::tolerant(findings, &what, read)?.unwrap_or_default() {
                    let what = format!("it is {}, and there is no such record, or not in this lane", table.state);
                    findings.note(Finding::damage(Kind::StrayState, RECORDS, what).of(seq, seq));
                }
            }
        }
        Ok(())
    }

    /// Compares the figures with what was counted.
    fn finish(mut self, findings: &mut Findings) -> Counts {
        let Ground { ref lost, ref deleted, newest, delivered, listed_to, .. } = *self.ground;
        if let Some(said) = delivered.filter(|said| *said != self.delivered) {
            let what = format!(
                "meta says that {} records are delivered (sum of their numbers {}), and {} are ({})",
                said.count, said.sum, self.delivered.count, self.delivered.sum
            );
            findings.note(Finding::damage(Kind::Figures, RECORDS, what));
        }
        if let Some(listed_to) = listed_to.filter(|listed_to| !(0..=newest).contains(listed_to)) {
            let what = format!("untried records are listed up to {listed_to}, and the newest is {newest}");
            findings.note(Finding::damage(Kind::Figures, RECORDS, what));
        }
        let mut written_down = 0;
        for lost in lost.ranges() {
            written_down += lost.range.count();
            if deleted.first_kept(lost.range.first, lost.range.last).is_some() {
                let what = "records that were written down as lost are not among those that are gone";
                let (first, last) = (lost.range.first, lost.range.last);
                findings.note(Finding::damage(Kind::Figures, RECORDS, what).of(first, last));
            }
        }
        self.counts.accepted = newest.cast_unsigned();
        self.counts.lost_and_written_down = written_down;
        self.counts.deleted = deleted.tally().count.cast_unsigned().saturating_sub(written_down);
        self.counts
    }
}
