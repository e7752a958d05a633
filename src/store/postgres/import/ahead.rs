//! Whether the files have records that a finished copy of them does not have: a gateway has run on them since then, or the
//! database is older than the copy.
//!
//! Numbers say it where the files go further. Where they do not, as when gateways on both sides have taken records, the
//! newest ones of the files are looked up, from the newest down to the first that is the same on both sides: what is older
//! was there when it was copied.
//!
//! Not noticed: a record whose number the database has deleted since, and everything but records, such as what became of
//! one, what was configured, who subscribed.

use super::super::error::Fault;
use super::{Target, failed};
use crate::store::copying::CopyError;
use crate::store::sqlite::export::{Known, Source};

/// Pieces of the files that are compared at most, of about a thousand records each.
const MOST_PIECES: usize = 64;

/// What a lookup found of some records.
#[derive(Debug, Default)]
struct Found {
    /// How many are missing, or others.
    absent: i64,
    /// Whether one was found that is the same.
    meets: bool,
}

impl Target {
    /// How many records at least are only in the files. `high_water`: the last number that the database gave out.
    pub(in crate::store) fn only_in(&mut self, source: &Source, high_water: i64) -> Result<i64, CopyError> {
        let mut only_there = source.newest().saturating_sub(high_water).max(0);
        let mut to = source.newest().min(high_water);
        for _ in 0..MOST_PIECES {
            let Some((from, records)) = source.newest_to(to)? else { break };
            let found = self.look_up(&records).map_err(failed("looking for the newest records of the files"))?;
            only_there += found.absent;
            if found.meets {
                break;
            }
            to = from - 1;
        }
        Ok(only_there)
    }

    /// Looks records up, the newest first, until one is found.
    fn look_up(&mut self, records: &[Known]) -> Result<Found, Fault> {
        let Self { client, runtime } = self;
        let seqs: Vec<i64> = records.iter().map(|record| record.seq).collect();
        let moments: Vec<i64> = records.iter().map(|record| record.accepted_at).collect();
        let randoms: Vec<&[u8]> = records.iter().map(|record| record.random.as_slice()).collect();
        let look = "select exists (select from records r \
                 where r.seq = w.seq and r.accepted_at = w.accepted_at and r.random = w.random), \
             coalesce((select d.last >= w.seq from deleted d where d.first <= w.seq order by d.first desc limit 1), false) \
             from unnest($1::bigint[], $2::bigint[], $3::bytea[]) as w (seq, accepted_at, random) order by w.seq desc";
        let rows = runtime.block_on(client.query(look, &[&seqs, &moments, &randoms]))?;
        let mut found = Found::default();
        for row in rows {
            let (is_there, is_deleted): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
            if is_there {
                found.meets = true;
                break;
            }
            found.absent += i64::from(!is_deleted);
        }
        Ok(found)
    }
}
