//! Lease: which pending records are due, in what order, and who may have them for how long.
//!
//! A pending row has one moment, `due_at`: when it may be handed out next. While it is on lease that is the lease's end,
//! so a lease that runs out needs nobody to clean up. Two gateways that ask at once do not wait for each other: each
//! takes what the other has not locked. The token fences: a gateway that comes back after its lease ran out, and was
//! given to another, can settle nothing.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use super::Shared;
use super::board::Changes;
use super::cluster::by_organization;
use super::error::Fault;
use super::guid::PgGuid;
use super::record::{COLUMNS, FROM, WIDTH, read};
use crate::domain::time::Timestamp;
use crate::store::lease::DUE_AT_ONCE;
use crate::store::record_format::Damage;
use crate::store::record_format::random;
use crate::store::{LaneId, LeaseRequest, LeaseToken, Leased, Leases, StoredRecord};

/// The most bytes of details that one lease hands out, so that its size in memory has a bound.
const MAX_LEASED_BYTES: usize = 16 << 20;
/// The most records that one lease hands out.
const MAX_LEASED_RECORDS: usize = 4_096;
/// How often to look again after others were faster.
const LOOKS: usize = 3;

/// What is collected while a lease request is served.
struct Collected<'a> {
    request: &'a LeaseRequest,
    leases: Leases,
    bytes: usize,
    /// Whether something due was left behind.
    more: bool,
    changes: Changes,
}

/// The lanes of a group with their organizations, as the tables' keys begin.
struct Group {
    organizations: Vec<PgGuid>,
    lanes: Vec<i64>,
}

/// Rows of an organization that are put on lease.
#[derive(Default)]
struct Taken {
    lanes: Vec<i64>,
    seqs: Vec<i64>,
    tokens: Vec<Vec<u8>>,
}

/// Serves a lease request. Records that turn out damaged become dead letters with that reason: reported by name, and no
/// longer in the way of those behind them.
pub(super) async fn lease(shared: &Shared, request: LeaseRequest) -> Result<Leases, Fault> {
    shared.board.check_clock()?;
    let mut client = shared.database.pool().get().await?;
    let transaction = client.transaction().await?;
    let mut collected =
        Collected { request: &request, leases: Leases::default(), bytes: 0, more: false, changes: Changes::default() };
    for lanes in &request.groups {
        let group = shared.group(lanes);
        for _ in 0..LOOKS {
            let room = request.max.min(MAX_LEASED_RECORDS).saturating_sub(collected.leases.leased.len());
            if room == 0 {
                collected.more = true;
                break;
            }
            let due = due(&transaction, &group, request.now, room).await?;
            let found = due.len();
            let locked = lock(&transaction, due, request.now).await?;
            let got = locked.len();
            collected.put_on_lease(shared, &transaction, locked).await?;
            if got == found || collected.more {
                break;
            }
        }
    }
    if collected.leases.leased.len() < request.max {
        let lanes: Vec<LaneId> = request.groups.iter().flatten().copied().collect();
        collected.leases.next_due = if collected.more {
            Some(request.now)
        } else {
            next_due(&transaction, &shared.group(&lanes), request.now).await?
        };
    }
    transaction.commit().await?;
    let Collected { leases, changes, .. } = collected;
    shared.board.apply(&changes);
    Ok(leases)
}

impl Shared {
    fn group(&self, lanes: &[LaneId]) -> Group {
        let figures = self.board.figures();
        let mut known: Vec<(PgGuid, i64)> = lanes
            .iter()
            .filter_map(|id| figures.lanes.get(id).map(|(lane, _)| (lane.organization.guid().into(), id.0)))
            .collect();
        known.sort_unstable();
        known.dedup();
        let (organizations, lanes) = known.into_iter().unzip();
        Group { organizations, lanes }
    }
}

/// A row that may be taken: organization, lane, number.
type Place = (PgGuid, i64, i64);

/// The due records of these lanes by arrival, at most `room`.
async fn due(
    transaction: &deadpool_postgres::Transaction<'_>,
    group: &Group,
    now: Timestamp,
    room: usize,
) -> Result<Vec<Place>, Fault> {
    // With an equal sign, and in the order of numbers alone, the server may well go through the numbers of all lanes: where one
    // has a backlog of millions, that is what its statistics recommend for every other.
    let select = transaction
        .prepare_cached(
            "select p.organization_id, p.lane, p.seq from lanes w \
             cross join lateral (select organization_id, lane, seq from pending \
             where organization_id = w.organization_id and lane between w.id and w.id and due_at <= $3 \
             order by lane, seq limit $4) p \
             where w.organization_id = any($1) and w.id = any($2) order by p.seq limit $4",
        )
        .await?;
    let room = i64::try_from(room).unwrap_or(i64::MAX);
    let rows = transaction.query(&select, &[&group.organizations, &group.lanes, &now.millis(), &room]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

/// Locks those that nobody else has taken meanwhile, and reads them: a statement for each organization, since rows of
/// several are locked by one only where they all stand on one server.
async fn lock(
    transaction: &deadpool_postgres::Transaction<'_>,
    places: Vec<Place>,
    now: Timestamp,
) -> Result<Vec<Row>, Fault> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let select = transaction
        .prepare_cached(&format!(
            "select {COLUMNS}, p.organization_id, p.lane, p.seq, p.attempts \
             from unnest($2::bigint[], $3::bigint[]) as w (lane, seq) \
             join pending p on p.lane = w.lane and p.seq = w.seq \
             left join ({FROM}) on r.organization_id = p.organization_id and r.seq = p.seq \
             where p.organization_id = $1 and p.due_at <= $4 order by p.seq for update of p skip locked"
        ))
        .await?;
    let places = by_organization(places.into_iter().map(|(organization, lane, seq)| (organization, (lane, seq))));
    let (select, now) = (&select, now.millis());
    let asked = places.into_iter().map(|(organization, places)| async move {
        let (lanes, seqs): (Vec<i64>, Vec<i64>) = places.into_iter().unzip();
        transaction.query(select, &[&organization, &lanes, &seqs, &now]).await
    });
    let mut rows = Vec::new();
    // They are sent one behind the other, without waiting for answers.
    for row in try_join_all(asked).await?.into_iter().flatten() {
        rows.push((row.try_get::<_, i64>(WIDTH + 2)?, row));
    }
    rows.sort_by_key(|(seq, _)| *seq);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

impl Collected<'_> {
    async fn put_on_lease(
        &mut self,
        shared: &Shared,
        transaction: &deadpool_postgres::Transaction<'_>,
        rows: Vec<Row>,
    ) -> Result<(), Fault> {
        let mut all: BTreeMap<PgGuid, Taken> = BTreeMap::new();
        let until = self.request.now.after(self.request.duration);
        for row in &rows {
            if self.bytes >= MAX_LEASED_BYTES {
                self.more = true;
                break;
            }
            let (organization, seq): (PgGuid, i64) = (row.try_get(WIDTH)?, row.try_get(WIDTH + 2)?);
            let (lane, attempts): (i64, i64) = (row.try_get(WIDTH + 1)?, row.try_get(WIDTH + 3)?);
            match leasable(shared, row, LaneId(lane), seq) {
                Ok(record) => {
                    let token = LeaseToken(random::sixteen().map_err(Fault::Random)?);
                    let taken = all.entry(organization).or_default();
                    taken.lanes.push(lane);
                    taken.seqs.push(seq);
                    taken.tokens.push(token.0.to_vec());
                    self.bytes += record.details.as_bytes().len();
                    let attempt = u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1);
                    self.leases.leased.push(Leased { record, lane: LaneId(lane), token, until, attempt });
                }
                Err(damage) => {
                    self.more = true;
                    self.quarantine(transaction, (organization, lane, seq), &damage).await?;
                }
            }
        }
        if all.is_empty() {
            return Ok(());
        }
        let update = transaction
            .prepare_cached(
                "update pending p set due_at = $5, attempts = p.attempts + 1, lease_token = w.token \
                 from unnest($2::bigint[], $3::bigint[], $4::bytea[]) as w (lane, seq, token) \
                 where p.organization_id = $1 and p.lane = w.lane and p.seq = w.seq",
            )
            .await?;
        let (update, until) = (&update, until.millis());
        try_join_all(all.into_iter().map(|(organization, taken)| async move {
            let Taken { lanes, seqs, tokens } = taken;
            transaction.execute(update, &[&organization, &lanes, &seqs, &tokens, &until]).await
        }))
        .await?;
        Ok(())
    }

    async fn quarantine(
        &mut self,
        transaction: &deadpool_postgres::Transaction<'_>,
        (organization, lane, seq): Place,
        damage: &Damage,
    ) -> Result<(), Fault> {
        tracing::error!(%damage, "a damaged record cannot be delivered and becomes a dead letter");
        let reason = format!("the store is damaged: {damage}");
        let moved = transaction
            .prepare_cached(
                "with gone as (delete from pending where organization_id = $1 and lane = $2 and seq = $3 returning *) \
                 insert into dead_letters (organization_id, seq, lane, at, attempts, reason) \
                 select organization_id, seq, lane, $4, attempts, $5 from gone",
            )
            .await?;
        let at = self.request.now.millis();
        transaction.execute(&moved, &[&organization, &lane, &seq, &at, &reason]).await?;
        self.changes.pending(LaneId(lane), -1);
        self.changes.dead_lettered += 1;
        Ok(())
    }
}

/// The record, if it can be handed out.
fn leasable(shared: &Shared, row: &Row, lane: LaneId, seq: i64) -> Result<StoredRecord, Damage> {
    let damage = |what| Damage { seq, what };
    let found = read(row, 0, seq, &shared.mask)?;
    if found.lane != lane {
        return Err(damage("it is pending in another lane than its own"));
    }
    found.record.whole().ok_or_else(|| damage("its details are gone although it is pending"))
}

/// The moment at which the next record of these lanes becomes due.
async fn next_due(
    transaction: &deadpool_postgres::Transaction<'_>,
    group: &Group,
    now: Timestamp,
) -> Result<Option<Timestamp>, Fault> {
    let select = transaction
        .prepare_cached(
            "select min(p.due_at) from lanes w cross join lateral (select due_at from pending \
             where organization_id = w.organization_id and lane = w.id order by due_at limit 1) p \
             where w.organization_id = any($1) and w.id = any($2)",
        )
        .await?;
    let due: Option<i64> = transaction.query_one(&select, &[&group.organizations, &group.lanes]).await?.try_get(0)?;
    // What is due and was not had is in the hands of another gateway for a moment.
    Ok(due.map(|due| Timestamp::from_millis(due.max(DUE_AT_ONCE.max(now.millis() + 1)))))
}
