//! A full disk: the details of delivered records make room for new records before their time, oldest first.
//!
//! Trimming begins when there is no room at all and goes on until there is some to work with, so that the store does not
//! swing between full and not full with every slice.

use std::time::{Duration, Instant};

use super::{Halt, Keeper, Pace};
use crate::domain::time::Timestamp;
use crate::store::sqlite::sweep::SLICE_RECORDS;

/// How much room there must be before trimming ends.
const ROOM_WANTED_BYTES: u64 = 16 << 20;
/// Delivered records that one piece looks at.
const PIECE_RECORDS: usize = 16 * SLICE_RECORDS;
/// How long to leave it when there was nothing left to trim.
const PAUSE: Duration = Duration::from_secs(60);

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The last record that was looked at, while room is being made.
    making: Option<i64>,
    /// Not before.
    rests_until: Option<Instant>,
}

impl Keeper {
    /// Makes some room if there is none. Answers whether there is more to do at once.
    pub(super) fn make_room(&mut self) -> Result<bool, Halt> {
        let Some(room) = &self.room else { return Ok(false) };
        let resting = room.rests_until.is_some_and(|until| until > Instant::now()) && self.pace == Pace::ByClock;
        let space = self.reader.board.space();
        let is_full = space.check(Duration::ZERO, &self.reader.conn).is_err();
        let enough = if room.making.is_some() { space.free_above_reserve() >= ROOM_WANTED_BYTES } else { !is_full };
        if enough || resting {
            self.set_room(None, false);
            return Ok(false);
        }
        let position = room.making.unwrap_or_else(|| {
            tracing::warn!("the disk is full: details of delivered records are trimmed before their time");
            0
        });
        let (seqs, last) = self.still_with_details(position)?;
        // Whenever they were delivered.
        self.trim(seqs, Timestamp::from_millis(i64::MAX))?;
        self.set_room(last, last.is_none());
        // What it finds is kept, for the next piece and for whoever asks.
        let _room = self.reader.board.space().check(Duration::ZERO, &self.reader.conn);
        Ok(last.is_some())
    }

    fn set_room(&mut self, making: Option<i64>, rest: bool) {
        if let Some(room) = &mut self.room {
            room.making = making;
            if rest {
                room.rests_until = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Delivered records behind this one that have their details, and the last one that was looked at; `None` when
    /// there was none to look at.
    fn still_with_details(&self, position: i64) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
        let mut select = self
            .reader
            .conn
            .prepare_cached("select seq, trimmed from delivered where seq > ?1 order by seq limit ?2")?;
        let mut rows = select.query([position, i64::try_from(PIECE_RECORDS).unwrap_or(i64::MAX)])?;
        let (mut seqs, mut last) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            last = Some(seq);
            if row.get::<_, Option<i64>>(1)?.is_none() {
                seqs.push(seq);
            }
        }
        Ok((seqs, last))
    }
}
