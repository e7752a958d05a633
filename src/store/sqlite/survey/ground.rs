//! What is known of a store before its records are walked through: the secret, the figures, the marks, what was deleted,
//! the lanes, the lists of what was never handed out. Each is read by itself, so that damage of one leaves the others.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::walk::is_damage;
use crate::store::receipt_id::{ReceiptMask, SECRET_BYTES};
use crate::store::sqlite::batch::Tally;
use crate::store::sqlite::block::Block;
use crate::store::sqlite::deleted::{Range, Ranges};
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::lost::Lost;
use crate::store::sqlite::mark::{self, Mark};
use crate::store::sqlite::row;
use crate::store::sqlite::schema::RECORDS;
use crate::store::sqlite::untried;
use crate::store::verification::{Finding, Findings, Kind};
use crate::store::{Lane, LaneId};

/// A number beyond what everything else says by more than this was not given to a record: the marks are written after
/// each commit, and made durable once a second.
const PLAUSIBLE_AHEAD: i64 = 1_000_000;

/// A lane, as far as it can be read.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct LaneFacts {
    /// What it stands for: as its row says, and as the index over these rows says, where that is something else.
    pub(in crate::store::sqlite) meanings: Vec<Lane>,
    /// From which number on its records were never handed out, where its row says so.
    pub(in crate::store::sqlite) untried_from: Option<i64>,
    /// The lists of records that were never handed out: first, last, and all in between.
    lists: Vec<(i64, i64, Vec<u8>)>,
}

impl LaneFacts {
    /// The records between these that the lists name and that were not handed out since.
    pub(super) fn listed(&self, (from, to): (i64, i64)) -> impl Iterator<Item = i64> {
        let begins = self.untried_from.unwrap_or(i64::MAX);
        let overlapping = self.lists.iter().filter(move |(first, last, _)| *first <= to && *last >= from);
        let seqs = overlapping.flat_map(|(first, _, seqs)| untried::decode(*first, seqs).unwrap_or_default());
        seqs.filter(move |seq| (from..=to).contains(seq) && *seq >= begins)
    }
}

/// All of it.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Ground {
    /// The secret that makes receipts, if it is the one that was written.
    pub(in crate::store::sqlite) secret: Option<[u8; SECRET_BYTES]>,
    /// What the mark in the database says.
    pub(in crate::store::sqlite) marked: Option<i64>,
    /// Up to which record the lists of untried records go.
    pub(in crate::store::sqlite) listed_to: Option<i64>,
    /// What is said to be delivered.
    pub(in crate::store::sqlite) delivered: Option<Tally>,
    /// What was lost before, and written down.
    pub(in crate::store::sqlite) lost: Lost,
    /// What was deleted.
    pub(in crate::store::sqlite) deleted: Ranges,
    /// The lanes by number.
    pub(in crate::store::sqlite) lanes: BTreeMap<i64, LaneFacts>,
    /// The newest number that was given to a record, as far as that can be told.
    pub(in crate::store::sqlite) newest: i64,
    /// Makes receipts; of some other store, where the secret is lost.
    pub(in crate::store::sqlite) mask: ReceiptMask,
}

/// Reads something that may be damaged: `None` then, with a finding.
pub(in crate::store::sqlite) fn tolerant<T>(
    findings: &mut Findings,
    what: &str,
    read: rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(fault) if is_damage(&fault) => {
            findings.note(Finding::damage(Kind::Unreadable, RECORDS, format!("{what}: {fault}")));
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

impl Ground {
    /// Reads it. `merged_to`: up to which record the index of duplicate keys goes.
    pub(in crate::store::sqlite) fn read(
        conn: &Connection,
        data_dir: &Path,
        merged_to: i64,
        findings: &mut Findings,
    ) -> Result<Self, OpenError> {
        let failed = OpenError::sqlite(&data_dir.join(RECORDS));
        let outer = mark::read(data_dir)?;
        Self::read_with(conn, (outer, merged_to), findings).map_err(failed)
    }

    fn read_with(
        conn: &Connection,
        (outer, merged_to): (Mark, i64),
        findings: &mut Findings,
    ) -> rusqlite::Result<Self> {
        let meta = conn
            .query_row(
                "select receipt_secret, receipt_secret_crc, high_water, listed_to, delivered_count, delivered_sum \
                 from meta where id = 1",
                [],
                |row| {
                    let secret: [u8; SECRET_BYTES] = row.get(0)?;
                    let is_written = row.get::<_, i64>(1)? == i64::from(crc32fast::hash(&secret));
                    let tally = Tally { count: row.get(4)?, sum: row.get(5)? };
                    Ok((Some(secret).filter(|_| is_written), row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, tally))
                },
            )
            .optional();
        let meta = tolerant(findings, "the table meta cannot be read", meta)?.flatten();
        let secret = meta.and_then(|(secret, ..)| secret);
        if secret.is_none() {
            let what = "the secret that makes receipt IDs is missing or not the one that was written";
            findings.note(Finding::damage(Kind::Figures, RECORDS, what));
        }
        let lost = tolerant(findings, "the table lost cannot be read", Lost::read(conn))?.unwrap_or_default();
        let mut lanes = lanes(conn, findings)?;
        lists(conn, &mut lanes, findings)?;
        let mask = ReceiptMask::new(&secret.unwrap_or_default());
        let mut ground = Self {
            secret,
            marked: meta.map(|(_, marked, ..)| marked),
            listed_to: meta.map(|(_, _, listed_to, _)| listed_to),
            delivered: meta.map(|(.., delivered)| delivered),
            lost,
            deleted: Ranges::default(),
            lanes,
            newest: 0,
            mask,
        };
        ground.newest = ground.find_newest(conn, (outer, merged_to), findings)?;
        ground.deleted = deleted(conn, (ground.newest, ground.lost.last()), findings)?;
        Ok(ground)
    }

    /// The newest number that was given to a record. A figure without a checksum is believed only as far as it is near to
    /// what the others say.
    fn find_newest(
        &self,
        conn: &Connection,
        (outer, merged_to): (Mark, i64),
        findings: &mut Findings,
    ) -> rusqlite::Result<i64> {
        let outer = match outer {
            Mark::At(newest) => newest,
            Mark::None | Mark::Unreadable => 0,
        };
        let checked = outer.max(merged_to).max(self.lost.last());
        let newest = conn
            .prepare_cached("select first, heads, bodies from blocks order by first desc limit 1")
            .and_then(|mut select| select.query_row([], Block::of).optional());
        let newest = tolerant(findings, "the newest block of records cannot be read", newest)?.flatten();
        let there = newest.map_or(0, |block| {
            let checks = block.iter().last().is_some_and(|(seq, ..)| self.verify(&block, seq).is_ok());
            let last = block.heads.last();
            if checks || last <= checked.saturating_add(PLAUSIBLE_AHEAD) { last } else { 0 }
        });
        let checked = checked.max(there);
        Ok(match self.marked {
            Some(marked) if marked > checked.saturating_add(PLAUSIBLE_AHEAD) => {
                let what = format!("the newest record is {checked}, and meta says {marked}, which is not believed");
                findings.note(Finding::damage(Kind::Figures, RECORDS, what));
                checked
            }
            Some(marked) => checked.max(marked),
            None => checked,
        })
    }

    /// Whether this record of a block is what was written. Answers the meaning of its lane under which it is.
    pub(in crate::store::sqlite) fn verify(&self, block: &Block, seq: i64) -> Result<usize, &'static str> {
        let lane = block.heads.get(seq).and_then(|head| self.lanes.get(&head.lane.0));
        let meanings = lane.map(|lane| lane.meanings.as_slice()).unwrap_or_default();
        let mut damage = None;
        for (at, meaning) in meanings.iter().enumerate() {
            match row::decode(block, seq, Some(meaning), &self.mask) {
                Ok(_) => return Ok(at),
                Err(found) => {
                    damage.get_or_insert(found.what);
                }
            }
        }
        Err(damage.unwrap_or("its lane is missing or cannot be read"))
    }
}

/// The secret that makes receipts, if it is the one that was written.
pub(in crate::store::sqlite) fn secret(conn: &Connection) -> rusqlite::Result<Option<[u8; SECRET_BYTES]>> {
    let read = conn.query_row("select receipt_secret, receipt_secret_crc from meta where id = 1", [], |row| {
        let secret: [u8; SECRET_BYTES] = row.get(0)?;
        Ok(Some(secret).filter(|secret| row.get(1).is_ok_and(|crc: i64| crc == i64::from(crc32fast::hash(secret)))))
    });
    match read {
        Ok(secret) => Ok(secret),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(fault) if is_damage(&fault) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The lanes, each with what its row and the index over these rows say.
fn lanes(conn: &Connection, findings: &mut Findings) -> rusqlite::Result<BTreeMap<i64, LaneFacts>> {
    let mut lanes: BTreeMap<i64, LaneFacts> = BTreeMap::new();
    let read = |sql: &str, lanes: &mut BTreeMap<i64, LaneFacts>| {
        let mut select = conn.prepare(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let lane = lanes.entry(row.get(3)?).or_default();
            lane.meanings.extend(row::lane_in(row).filter(|meaning| !lane.meanings.contains(meaning)));
            if lane.untried_from.is_none() {
                lane.untried_from = row.get::<_, Option<i64>>(4).unwrap_or_default();
            }
        }
        Ok(())
    };
    let rows = read("select organization, work_stream, queue, id, untried_from from lanes not indexed", &mut lanes);
    tolerant(findings, "the table lanes cannot be read to its end", rows)?;
    for (expected, (id, lane)) in (1..).zip(&lanes) {
        if *id != expected || lane.meanings.is_empty() {
            let what = format!("lane {expected} is missing or cannot be read");
            findings.note(Finding::damage(Kind::Figures, RECORDS, what));
            break;
        }
    }
    let before = lanes.values().map(|lane| lane.meanings.len()).sum::<usize>();
    let index = "select organization, work_stream, queue, id, null from lanes indexed by sqlite_autoindex_lanes_1";
    tolerant(findings, "the index of the table lanes cannot be read to its end", read(index, &mut lanes))?;
    if lanes.values().map(|lane| lane.meanings.len()).sum::<usize>() > before {
        let what = "the table lanes and its index say different things";
        findings.note(Finding::damage(Kind::Figures, RECORDS, what));
    }
    Ok(lanes)
}

/// Reads the lists of untried records to their lanes.
fn lists(conn: &Connection, lanes: &mut BTreeMap<i64, LaneFacts>, findings: &mut Findings) -> rusqlite::Result<()> {
    let mut damaged = Vec::new();
    let read = (|| {
        let mut select = conn.prepare("select lane, first, last, seqs from untried order by lane, first")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (id, first, last): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let seqs = row.get_ref(3)?.as_blob().unwrap_or_default().to_vec();
            let fits = untried::decode(first, &seqs).is_some_and(|decoded| decoded.back() == Some(&last));
            match lanes.get_mut(&id).filter(|_| fits) {
                Some(lane) => lane.lists.push((first, last, seqs)),
                None => damaged.push((id, first, last)),
            }
        }
        Ok(())
    })();
    tolerant(findings, "the table untried cannot be read to its end", read)?;
    for (id, first, last) in damaged {
        let what = format!("the list of untried records {first} to {last} of lane {id} is damaged");
        findings.note(Finding::damage(Kind::Figures, RECORDS, what));
    }
    Ok(())
}

/// What was deleted.
fn deleted(conn: &Connection, bounds: (i64, i64), findings: &mut Findings) -> rusqlite::Result<Ranges> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut impossible = Vec::new();
    let read = (|| {
        let mut select = conn.prepare("select first, last from deleted order by first")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let range = Range { first: row.get(0)?, last: row.get(1)? };
            let free = ranges.last().map_or(0, |before| before.last + 1);
            if range.may_follow(free, bounds) { ranges.push(range) } else { impossible.push(range) }
        }
        Ok(())
    })();
    tolerant(findings, "the table deleted cannot be read to its end", read)?;
    for Range { first, last } in impossible {
        let what = format!("the records {first} to {last} cannot have been deleted");
        findings.note(Finding::damage(Kind::Figures, RECORDS, what).of(first, last));
    }
    Ok(Ranges::of(ranges))
}

/// Which lane a record is in, for maps.
pub(super) const fn number(lane: LaneId) -> i64 {
    lane.0
}
