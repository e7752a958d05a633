//! What a batch writes, column by column, in statements that do not wait for each other.

use std::collections::HashMap;

use deadpool_postgres::Client;
use tokio::join;
use tokio_postgres::types::ToSql;

use super::batch::{Key, Seen};
use super::{Append, Turn};
use crate::store::postgres::cluster::by_organization;
use crate::store::postgres::error::Fault;
use crate::store::postgres::guid::PgGuid;

/// New rows, column by column.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) organizations: Vec<PgGuid>,
    pub(super) seqs: Vec<i64>,
    pub(super) lanes: Vec<i64>,
    pub(super) accepted_at: Vec<i64>,
    pub(super) randoms: Vec<Vec<u8>>,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) crcs: Vec<i64>,
    /// Where in the batch their bodies are.
    pub(super) places: Vec<usize>,
}

/// A batch's new rows, to be written.
pub(super) struct Written<'a> {
    pub(super) rows: &'a Rows,
    pub(super) keys: NewKeys,
    pub(super) high_water: i64,
}

impl Written<'_> {
    /// Writes everything, and commits. The turn is passed on when only the disk is waited for.
    pub(super) async fn write(&self, client: &Client, batch: &[Append], turn: &mut Turn) -> Result<(), Fault> {
        let records = client
            .prepare_cached(
                "insert into records (organization_id, seq, lane, accepted_at, random, key, crc, body) \
                 select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], \
                 $7::bigint[], $8::bytea[])",
            )
            .await?;
        let pending = client
            .prepare_cached(
                "insert into pending (organization_id, lane, seq, due_at, attempts) \
                 select o, l, s, 0, 0 from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w (o, l, s)",
            )
            .await?;
        let keys = client.prepare_cached(INSERT_KEYS).await?;
        let counter = client.prepare_cached("update counter set high_water = $1 where only_row").await?;
        let rows = self.rows;
        let bodies: Vec<&[u8]> = rows
            .places
            .iter()
            .map(|place| batch.get(*place).map_or(&[][..], |append| append.record.body.as_slice()))
            .collect();
        let record_columns: [&(dyn ToSql + Sync); 8] = [
            &rows.organizations,
            &rows.seqs,
            &rows.lanes,
            &rows.accepted_at,
            &rows.randoms,
            &rows.keys,
            &rows.crcs,
            &bodies,
        ];
        let pending_columns: [&(dyn ToSql + Sync); 3] = [&rows.organizations, &rows.lanes, &rows.seqs];
        if !self.keys.again.seqs.is_empty() {
            self.keys.hold(client).await?;
            let again = client.prepare_cached(&format!("{INSERT_KEYS} {OVER_OLD_ONES}")).await?;
            client.execute(&again, &self.keys.again.columns()).await?;
        }
        let key_columns = self.keys.fresh.columns();
        let high_water: [&(dyn ToSql + Sync); 1] = [&self.high_water];
        let (records, pending, keys, counter, committed) = join!(
            biased;
            client.execute(&records, &record_columns),
            client.execute(&pending, &pending_columns),
            client.execute(&keys, &key_columns),
            async {
                let counted = client.execute(&counter, &high_water).await;
                turn.pass_on();
                counted
            },
            // Where a statement before it failed, this ends the transaction without effect and without an error.
            client.batch_execute("commit"),
        );
        for executed in [records, pending, keys, counter] {
            executed?;
        }
        Ok(committed?)
    }
}

const INSERT_KEYS: &str = "insert into keys (organization_id, key, seq, accepted_at) \
     select * from unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[])";
const OVER_OLD_ONES: &str =
    "on conflict (organization_id, key) do update set seq = excluded.seq, accepted_at = excluded.accepted_at";

/// The keys of new rows.
#[derive(Default)]
pub(super) struct NewKeys {
    fresh: KeyRows,
    /// Those that led to a record which does not count any more. Retention may delete them meanwhile.
    again: KeyRows,
    /// The records that those led to.
    before: Vec<i64>,
}

impl NewKeys {
    /// In the order of the index that they go into.
    pub(super) fn of(keys: &HashMap<Key, (Seen, usize)>, seen_before: &HashMap<Key, Seen>) -> Self {
        let mut sorted: Vec<(&Key, Seen)> = keys.iter().map(|(key, (seen, _))| (key, *seen)).collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        let mut new = Self::default();
        for (key, seen) in sorted {
            if let Some(before) = seen_before.get(key) {
                new.before.push(before.seq);
                new.again.push(key, seen);
            } else {
                new.fresh.push(key, seen);
            }
        }
        new
    }

    /// Holds the keys that are to lead elsewhere. On a cluster one of them may lead to a record by now that could not be seen
    /// when it was looked up: what is waited for here is the commit that it came with.
    async fn hold(&self, client: &Client) -> Result<(), Fault> {
        let hold = "select seq from keys where organization_id = $1 and key = any($2) for update";
        let hold = client.prepare_cached(hold).await?;
        let keys: Vec<(PgGuid, &Vec<u8>)> = self.again.organizations.iter().copied().zip(&self.again.keys).collect();
        for (organization, keys) in by_organization(keys) {
            for row in client.query(&hold, &[&organization, &keys]).await? {
                if !self.before.contains(&row.try_get(0)?) {
                    return Err(Fault::Overtaken);
                }
            }
        }
        Ok(())
    }
}

/// Keys, column by column.
#[derive(Default)]
struct KeyRows {
    organizations: Vec<PgGuid>,
    keys: Vec<Vec<u8>>,
    seqs: Vec<i64>,
    seconds: Vec<i64>,
}

impl KeyRows {
    fn push(&mut self, (organization, key): &Key, seen: Seen) {
        self.organizations.push(*organization);
        self.keys.push(key.to_vec());
        self.seqs.push(seen.seq);
        self.seconds.push(seen.accepted_at_seconds);
    }

    fn columns(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.organizations, &self.keys, &self.seqs, &self.seconds]
    }
}
