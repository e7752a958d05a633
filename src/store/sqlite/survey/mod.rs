//! A survey of a closed store: every number that was given to a record, one after the other, with what is there of it and
//! what became of it, whatever is damaged.
//!
//! It is what `verify` reports and what `recover` keeps. It goes through the store in windows of some thousand records or
//! some megabytes, so that memory does not grow with the store. A record is sound if its checksum says so; a number that
//! has none is either deleted or missing; and what became of a record is what the rows of the state tables and the lists
//! of untried records say together, which must be one thing.

pub(super) mod ground;
pub(super) mod log;
pub(super) mod states;
pub(super) mod unchanged;
mod walk;

use rusqlite::Connection;

use self::ground::Ground;
use self::states::{StateRow, TABLES};
use self::walk::{Step, Walk};
use super::block::{Block, Head};
use super::deleted::Range;
use super::schema::RECORDS;
use crate::store::verification::{Finding, Findings, Kind};

/// Numbers in a window at most.
const WINDOW_RECORDS: i64 = 16_384;
/// Bytes of blocks in a window at which it ends.
const WINDOW_BYTES: usize = 16 << 20;

/// A record that is there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) seq: i64,
    pub(super) head: Head,
    /// In which block of the window.
    pub(super) block: usize,
    /// What gives it away as not what was written, or under which meaning of its lane it is.
    pub(super) checked: Result<usize, &'static str>,
    /// The rows that say what became of it.
    pub(super) rows: Vec<StateRow>,
    /// How often it is listed as never handed out.
    pub(super) untried: u32,
    /// Whether it counts as deleted nevertheless.
    pub(super) is_deleted: bool,
    /// Tables that cannot be read where its row would stand.
    pub(super) unread: Vec<&'static str>,
}

/// What became of a record.
#[derive(Debug, PartialEq)]
pub(super) enum Standing<'a> {
    /// It was never handed out.
    Untried,
    /// This row says so.
    Row(&'a StateRow),
    /// Nothing says so.
    Unknown,
    /// Two things say so, or one that cannot be.
    Contradiction(String),
}

impl Place {
    /// What became of it.
    pub(super) fn standing(&self) -> Standing<'_> {
        match (self.rows.as_slice(), self.untried) {
            ([], 0) => Standing::Unknown,
            ([], 1) => Standing::Untried,
            ([row], 0) if !row.is_sound => {
                Standing::Contradiction(format!("a value of its row in {} cannot be read", name(row)))
            }
            ([row], 0) if row.lane != ground::number(self.head.lane) => Standing::Contradiction(format!(
                "it is of lane {}, and {} says lane {}",
                self.head.lane.0,
                name(row),
                row.lane
            )),
            ([row], 0) => Standing::Row(row),
            (rows, untried) => Standing::Contradiction(format!("it is {}", in_words(rows, untried))),
        }
    }
}

fn name(row: &StateRow) -> &'static str {
    TABLES.get(row.table).map_or("", |table| table.name)
}

/// States in words: `pending and delivered`.
pub(super) fn in_words(rows: &[StateRow], untried: u32) -> String {
    let rows = rows.iter().filter_map(|row| TABLES.get(row.table)).map(|table| table.state);
    let untried = std::iter::repeat_n("never handed out", untried.min(2) as usize);
    rows.chain(untried).collect::<Vec<_>>().join(" and ")
}

/// Some numbers in a row, with all that is there of them.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The first number.
    pub(super) from: i64,
    /// The last one.
    pub(super) to: i64,
    /// The records that are there, in order.
    pub(super) places: Vec<Place>,
    /// Where they are.
    pub(super) blocks: Vec<Block>,
    /// Numbers without a record that were not deleted, and what kept them from being read if that is known.
    pub(super) missing: Vec<(Range, Option<String>)>,
    /// States of records that are not there.
    pub(super) strays: Vec<StateRow>,
    /// Numbers that are listed as never handed out, without a record.
    pub(super) stray_untried: Vec<i64>,
}

/// The survey under way.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    conn: &'a Connection,
    ground: &'a Ground,
    walk: Walk<'a>,
    lanes: Vec<i64>,
    /// The first number that was not looked at.
    next: i64,
    is_over: bool,
}

impl<'a> Survey<'a> {
    /// Starts at the first record.
    pub(super) fn start(conn: &'a Connection, ground: &'a Ground) -> Self {
        let walk = Walk::start(conn, ground.newest);
        let lanes = ground.lanes.keys().copied().collect();
        Self { conn, ground, walk, lanes, next: 1, is_over: false }
    }

    /// The next window; none at the end.
    pub(super) fn window(&mut self, findings: &mut Findings) -> rusqlite::Result<Option<Window>> {
        if self.is_over {
            return Ok(None);
        }
        let mut window = Window { from: self.next, to: self.next - 1, ..Window::default() };
        let mut bytes = 0;
        while window.to - window.from < WINDOW_RECORDS && bytes < WINDOW_BYTES {
            let block = match self.walk.step()? {
                Step::Whole(block) => block,
                Step::HeadsAlone(heads) => Block::of_heads(heads),
                Step::End => {
                    self.is_over = true;
                    break;
                }
            };
            let failure = self.note_failure(findings);
            if block.heads.first() > self.ground.newest {
                let what = format!("the block of record {} is out of place", block.heads.first());
                findings.note(Finding::damage(Kind::Unreadable, RECORDS, what));
                continue;
            }
            let block = self.in_its_place(block, findings)?;
            bytes += block.bytes();
            self.take(block, failure, &mut window, findings);
        }
        if self.is_over {
            let failure = self.note_failure(findings);
            self.miss(self.ground.newest, failure, &mut window);
            window.to = window.to.max(self.ground.newest);
        }
        self.states(&mut window, findings)?;
        Ok(Some(window))
    }

    /// What the walk could not read, told once.
    fn note_failure(&mut self, findings: &mut Findings) -> Option<String> {
        let failure = self.walk.take_failure()?;
        let what = format!("the table blocks cannot be read behind record {}: {failure}", self.next - 1);
        findings.note(Finding::damage(Kind::Unreadable, RECORDS, what));
        Some(failure)
    }

    /// A block that leaves numbers out may have a damaged key: then those that it hides are looked for, and it is put where
    /// its checksums say that it belongs.
    fn in_its_place(&mut self, block: Block, findings: &mut Findings) -> rusqlite::Result<Block> {
        let first = block.heads.first();
        let Some(left_out) = self.ground.deleted.first_kept(self.next, first - 1) else { return Ok(block) };
        let newest_there = block.iter().next().map(|(seq, ..)| seq);
        if newest_there.is_some_and(|seq| self.ground.verify(&block, seq).is_ok()) {
            // It is where it belongs. Another one may still hide in front of it.
            return Ok(self.walk.look_before(left_out.first, first)?.unwrap_or(block));
        }
        let moved = block.clone().moved_to(left_out.first);
        if moved.iter().next().is_some_and(|(seq, ..)| self.ground.verify(&moved, seq).is_ok()) {
            let what = format!("the key of the block of record {} was damaged: it says {first}", left_out.first);
            findings.note(Finding::damage(Kind::Unreadable, RECORDS, what));
            self.walk.go_on_behind(left_out.first);
            return Ok(moved);
        }
        Ok(self.walk.look_before(left_out.first, first)?.unwrap_or(block))
    }

    /// Takes a block into the window.
    fn take(&mut self, block: Block, failure: Option<String>, window: &mut Window, findings: &mut Findings) {
        let (first, last) = (block.heads.first(), block.heads.last());
        if first < self.next {
            let what = format!("the block of record {first} reaches into the one before it");
            findings.note(Finding::damage(Kind::Unreadable, RECORDS, what));
        }
        if !block.is_whole() && block.bytes() > 0 {
            let what = format!("the parts of the block of records {first} to {last} do not go together");
            findings.note(Finding::damage(Kind::Unreadable, RECORDS, what));
        }
        let at = window.blocks.len();
        let (mut failure, from) = (failure, self.next);
        for (seq, head, _) in block.iter().filter(|(seq, ..)| *seq >= from) {
            self.miss(seq - 1, failure.take(), window);
            window.places.push(Place {
                seq,
                head,
                block: at,
                checked: self.ground.verify(&block, seq),
                rows: Vec::new(),
                untried: 0,
                is_deleted: self.ground.deleted.first_kept(seq, seq).is_none(),
                unread: Vec::new(),
            });
            self.next = seq + 1;
        }
        self.miss(last, failure, window);
        window.to = window.to.max(self.next - 1);
        window.blocks.push(block);
    }

    /// There is no record from the next number up to this one.
    fn miss(&mut self, to: i64, failure: Option<String>, window: &mut Window) {
        let mut from = self.next;
        while let Some(range) = self.ground.deleted.first_kept(from, to) {
            window.missing.push((range, failure.clone()));
            from = range.last + 1;
        }
        self.next = self.next.max(to.saturating_add(1));
    }

    /// Finds out what became of the records in a window.
    fn states(&self, window: &mut Window, findings: &mut Findings) -> rusqlite::Result<()> {
        let range = (window.from, window.to);
        let (rows, unread) = states::of_range(self.conn, range, &self.lanes)?;
        for (at, fault) in &unread {
            let table = TABLES.get(*at).map_or("", |table| table.name);
            let what = format!("the table {table} cannot be read for records {} to {}: {fault}", range.0, range.1);
            findings.note(Finding::damage(Kind::Unreadable, RECORDS, what));
        }
        for row in rows {
            match place_mut(window, row.seq) {
                Some(place) => place.rows.push(row),
                None => window.strays.push(row),
            }
        }
        for (id, lane) in &self.ground.lanes {
            for seq in lane.listed(range) {
                match place_mut(window, seq) {
                    Some(place) if ground::number(place.head.lane) == *id => place.untried += 1,
                    _ => window.stray_untried.push(seq),
                }
            }
        }
        for place in &mut window.places {
            let lane = self.ground.lanes.get(&ground::number(place.head.lane));
            let from = lane.and_then(|lane| lane.untried_from);
            if from.is_some_and(|from| from <= place.seq) && self.ground.listed_to.is_some_and(|to| to < place.seq) {
                place.untried += 1;
            }
            if place.rows.is_empty() && place.untried == 0 {
                self.look_closer(place)?;
            }
        }
        Ok(())
    }

    /// Looks for the state of one record by its number: a row out of order, or one that cannot be read, hides those
    /// behind it from whoever reads them in a row.
    fn look_closer(&self, place: &mut Place) -> rusqlite::Result<()> {
        for (at, table) in TABLES.iter().enumerate() {
            let key = (place.seq, ground::number(place.head.lane));
            if states::of_record(self.conn, at, key, &mut place.rows)?.is_some() {
                place.unread.push(table.name);
            }
        }
        Ok(())
    }
}

fn place_mut(window: &mut Window, seq: i64) -> Option<&mut Place> {
    let at = window.places.binary_search_by_key(&seq, |place| place.seq).ok()?;
    window.places.get_mut(at)
}
