//! Walking through the blocks of records in order, past what cannot be read.
//!
//! SQLite finds a row by its key from the top of its tree, so what lies behind a damaged page can be read as well as
//! what lies before it. Where nothing can be read the walk tries the next key, and the next, until something can: a page
//! holds a few blocks, so the tries are few unless a page high up in the tree is gone.

use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use crate::store::sqlite::block::{Block, Heads};

/// Keys that are tried at most where one stands out of order.
const MAX_KEYS_TRIED: usize = 100_000;

/// What was found next.
#[derive(Debug)]
pub(super) enum Step {
    /// A block with everything.
    Whole(Block),
    /// A block whose bodies cannot be read.
    HeadsAlone(Heads),
    /// Nothing more up to where the walk was to go.
    End,
}

/// The walk.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    conn: &'a Connection,
    /// The key that the next block has at least.
    next: i64,
    /// The last key that is tried.
    limit: i64,
    /// Keys at which something could not be read, since it was last asked.
    failed: Option<String>,
}

/// Whether what was read is damaged, so that going on may find more; anything else concerns whoever asked.
pub(super) fn is_damage(fault: &rusqlite::Error) -> bool {
    match fault.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::SystemIoFailure
            | ErrorCode::TooBig
            | ErrorCode::InternalMalfunction
            // What a damaged schema says does not exist.
            | ErrorCode::Unknown,
        ) => true,
        Some(_) => false,
        // A value of another type than it was written with.
        None => true,
    }
}

impl<'a> Walk<'a> {
    /// Starts at the first block. Where nothing can be read, no key beyond the limit is tried.
    pub(super) const fn start(conn: &'a Connection, limit: i64) -> Self {
        Self { conn, next: i64::MIN, limit, failed: None }
    }

    /// Goes to the next block.
    pub(super) fn step(&mut self) -> rusqlite::Result<Step> {
        loop {
            match self.whole() {
                Ok(None) => return Ok(Step::End),
                // Where keys are out of order, a walk that followed them would not end.
                Ok(Some(block)) if block.heads.first() >= self.next => {
                    self.next = block.heads.first().saturating_add(1);
                    return Ok(Step::Whole(block));
                }
                Ok(Some(block)) => self.note(&format!("the block of record {} is out of order", block.heads.first())),
                Err(fault) if is_damage(&fault) => self.note(&fault.to_string()),
                Err(fault) => return Err(fault),
            }
            match self.heads_alone() {
                Ok(Some(heads)) if heads.first() >= self.next => {
                    self.next = heads.first().saturating_add(1);
                    return Ok(Step::HeadsAlone(heads));
                }
                Ok(_) => {}
                Err(fault) if is_damage(&fault) => {}
                Err(fault) => return Err(fault),
            }
            // Numbers begin at 1.
            self.next = self.next.max(0).saturating_add(1);
            if self.next > self.limit {
                return Ok(Step::End);
            }
        }
    }

    /// Looks for a block that begins before this one and not before `from`: one whose key is damaged can stand in the way
    /// of those behind it. The walk goes on behind what is found.
    pub(super) fn look_before(&mut self, from: i64, first: i64) -> rusqlite::Result<Option<Block>> {
        let behind = self.next;
        for key in (from..first).take(MAX_KEYS_TRIED) {
            self.next = key;
            match self.whole() {
                Ok(Some(block)) if (key..first).contains(&block.heads.first()) => {
                    self.next = block.heads.first().saturating_add(1);
                    return Ok(Some(block));
                }
                Ok(_) => {}
                Err(fault) if is_damage(&fault) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.next = behind;
        Ok(None)
    }

    /// Goes on behind this record.
    pub(super) const fn go_on_behind(&mut self, seq: i64) {
        self.next = seq.saturating_add(1);
    }

    /// Why something could not be read since this was last asked, if so.
    pub(super) const fn take_failure(&mut self) -> Option<String> {
        self.failed.take()
    }

    fn note(&mut self, fault: &str) {
        self.failed.get_or_insert_with(|| fault.to_owned());
    }

    fn whole(&self) -> rusqlite::Result<Option<Block>> {
        self.conn
            .prepare_cached("select first, heads, bodies from blocks where first >= ?1 order by first limit 1")?
            .query_row([self.next], |row| {
                // One that is none was not written by us.
                row.get_ref(1)?.as_blob()?;
                row.get_ref(2)?.as_blob()?;
                Block::of(row)
            })
            .optional()
    }

    fn heads_alone(&self) -> rusqlite::Result<Option<Heads>> {
        self.conn
            .prepare_cached("select first, heads from blocks where first >= ?1 order by first limit 1")?
            .query_row([self.next], |row| {
                row.get_ref(1)?.as_blob()?;
                Heads::of(row)
            })
            .optional()
    }
}
