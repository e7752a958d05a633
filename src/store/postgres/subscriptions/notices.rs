//! Notices: put down by whoever leads, due, told or given up.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::Row;

use super::super::error::Fault;
use super::signed;
use crate::domain::ids::{ReceiptId, SubscriptionId};
use crate::domain::time::Timestamp;
use crate::store::subscriptions::{
    DeadNotice, Due, Fenced, NewNotice, Notice, Span, Standing, Summary, Tried, TriedEnd,
};

fn receipt_in(row: &Row, at: usize) -> Result<ReceiptId, Fault> {
    let wrong = |_| Fault::Inconsistent("a notice has a receipt that is none".to_owned());
    Ok(ReceiptId::from_bytes(row.try_get::<_, &[u8]>(at)?.try_into().map_err(wrong)?))
}

fn id_in(row: &Row, at: usize) -> Result<SubscriptionId, Fault> {
    let wrong = |_| Fault::Inconsistent("a subscription has an ID that is none".to_owned());
    Ok(SubscriptionId::from_bytes(row.try_get::<_, &[u8]>(at)?.try_into().map_err(wrong)?))
}

fn attempts_in(row: &Row, at: usize) -> Result<u32, Fault> {
    Ok(u32::try_from(row.try_get::<_, i64>(at)?).unwrap_or(u32::MAX))
}

/// Puts down, if this gateway leads and nothing has changed that the notices were made of.
pub(super) async fn put_down(
    mut client: Client,
    (span, own): (&Span, &[u8; 16]),
    notices: &[NewNotice],
) -> Result<Fenced, Fault> {
    let transaction = client.transaction().await?;
    let fence = transaction
        .prepare_cached(
            "update subscriptions_state set position = greatest(position, $1) \
             where position = $2 and revision = $3 and leader = $4",
        )
        .await?;
    let (through, from, revision) = (signed(span.through), signed(span.from), signed(span.revision.0));
    if transaction.execute(&fence, &[&through, &from, &revision, &own.as_slice()]).await? == 0 {
        return Ok(Fenced::Out);
    }
    if !notices.is_empty() {
        insert(&transaction, notices).await?;
    }
    transaction.commit().await?;
    Ok(Fenced::Done)
}

async fn insert(transaction: &Transaction<'_>, notices: &[NewNotice]) -> Result<(), Fault> {
    let insert = transaction
        .prepare_cached(
            // What is there already is left alone, unless it is about another record.
            "insert into notices as n (organization_id, subscription, number, receipt, at, due_at, attempts) \
             select s.organization_id, s.id, w.number, w.receipt, w.at, 0, 0 \
             from unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[]) as w (id, number, receipt, at) \
             join subscriptions s on s.id = w.id and s.ended_at is null \
             on conflict (organization_id, subscription, number) do update set receipt = excluded.receipt, \
             at = excluded.at, due_at = 0, attempts = 0, last_error = null, dead_at = null \
             where n.receipt <> excluded.receipt",
        )
        .await?;
    let ids: Vec<&[u8]> = notices.iter().map(|notice| notice.subscription.as_bytes().as_slice()).collect();
    let numbers: Vec<i64> = notices.iter().map(|notice| signed(notice.number)).collect();
    let receipts: Vec<&[u8]> = notices.iter().map(|notice| notice.receipt.as_bytes().as_slice()).collect();
    let at: Vec<i64> = notices.iter().map(|notice| notice.at.millis()).collect();
    transaction.execute(&insert, &[&ids, &numbers, &receipts, &at]).await?;
    Ok(())
}

/// How every subscription stands.
pub(super) async fn standings(client: &Client) -> Result<Vec<(SubscriptionId, Standing)>, Fault> {
    let select = client
        .prepare_cached(
            "select s.id, s.delivered, s.last_delivered_at, \
             (select count(*) from notices n where n.organization_id = s.organization_id and n.subscription = s.id \
              and n.dead_at is null), \
             (select count(*) from notices n where n.organization_id = s.organization_id and n.subscription = s.id \
              and n.dead_at is not null), \
             (select n.last_error from notices n where n.organization_id = s.organization_id and n.subscription = s.id \
              and n.last_error is not null order by n.number desc limit 1) \
             from subscriptions s",
        )
        .await?;
    let rows = client.query(&select, &[]).await?;
    rows.iter()
        .map(|row| {
            let standing = Standing {
                delivered: row.try_get::<_, i64>(1)?.cast_unsigned(),
                last_delivered_at: row.try_get::<_, Option<i64>>(2)?.map(Timestamp::from_millis),
                pending: row.try_get::<_, i64>(3)?.cast_unsigned(),
                dead_lettered: row.try_get::<_, i64>(4)?.cast_unsigned(),
                last_error: row.try_get(5)?,
            };
            Ok((id_in(row, 0)?, standing))
        })
        .collect()
}

/// How all together stand.
pub(super) async fn summary(client: &Client, most: usize) -> Result<Summary, Fault> {
    let select = client
        .prepare_cached(
            "select (select count(*) from (select from notices where dead_at is null limit $1) as p), \
             (select count(*) from (select from notices where dead_at is not null limit $1) as d), \
             (select at from notices where dead_at is null order by number limit 1)",
        )
        .await?;
    let row = client.query_one(&select, &[&i64::try_from(most).unwrap_or(i64::MAX)]).await?;
    Ok(Summary {
        pending: row.try_get::<_, i64>(0)?.cast_unsigned(),
        dead_lettered: row.try_get::<_, i64>(1)?.cast_unsigned(),
        oldest_pending_at: row.try_get::<_, Option<i64>>(2)?.map(Timestamp::from_millis),
    })
}

/// The notices of a subscription.
const OF_ONE: &str = "notices n join subscriptions s on s.organization_id = n.organization_id \
     and s.id = n.subscription where s.id = $1";

/// What a subscriber is to be told by now.
pub(super) async fn due(client: &Client, id: &SubscriptionId, now: Timestamp, limit: usize) -> Result<Due, Fault> {
    let select = client
        .prepare_cached(&format!(
            "select n.number, n.receipt, n.attempts, n.at from {OF_ONE} and n.dead_at is null and n.due_at <= $2 \
             order by n.due_at, n.number limit $3"
        ))
        .await?;
    let next = client
        .prepare_cached(&format!("select min(n.due_at) from {OF_ONE} and n.dead_at is null and n.due_at > $2"))
        .await?;
    let (key, limit) = (id.as_bytes().as_slice(), i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = client.query(&select, &[&key, &now.millis(), &limit]).await?;
    let notices = rows
        .iter()
        .map(|row| {
            Ok(Notice {
                number: row.try_get::<_, i64>(0)?.cast_unsigned(),
                receipt: receipt_in(row, 1)?,
                attempts: attempts_in(row, 2)?,
                at: Timestamp::from_millis(row.try_get(3)?),
            })
        })
        .collect::<Result<_, Fault>>()?;
    let next: Option<i64> = client.query_one(&next, &[&key, &now.millis()]).await?.try_get(0)?;
    Ok(Due { notices, next: next.map(Timestamp::from_millis) })
}

/// Tries of one kind, column by column.
#[derive(Default)]
struct Tries<'a> {
    ids: Vec<&'a [u8]>,
    numbers: Vec<i64>,
    at: Vec<i64>,
    texts: Vec<&'a str>,
}

impl<'a> Tries<'a> {
    fn push(&mut self, tried: &'a Tried, at: Timestamp, text: &'a str) {
        self.ids.push(tried.subscription.as_bytes());
        self.numbers.push(signed(tried.number));
        self.at.push(at.millis());
        self.texts.push(text);
    }
}

/// Writes down what tries came to.
pub(super) async fn conclude(mut client: Client, own: &[u8; 16], tries: &[Tried]) -> Result<(), Fault> {
    let (mut told, mut later, mut given_up) = (Tries::default(), Tries::default(), Tries::default());
    for tried in tries {
        match &tried.end {
            TriedEnd::Told { at } => told.push(tried, *at, ""),
            TriedEnd::Later { due, error } => later.push(tried, *due, error),
            TriedEnd::GivenUp { at, reason } => given_up.push(tried, *at, reason),
        }
    }
    let transaction = client.transaction().await?;
    if !told.ids.is_empty() {
        let delete = transaction
            .prepare_cached(
                "with gone as (delete from notices n using \
                 unnest($1::bytea[], $2::bigint[], $3::bigint[]) as w (id, number, at), subscriptions s \
                 where s.id = w.id and n.organization_id = s.organization_id and n.subscription = s.id \
                 and n.number = w.number and n.dead_at is null returning n.organization_id, n.subscription, w.at), \
                 sums as (select organization_id, subscription, count(*) as count, max(at) as at from gone group by 1, 2) \
                 update subscriptions s set delivered = delivered + sums.count, \
                 last_delivered_at = greatest(coalesce(last_delivered_at, 0), sums.at) from sums \
                 where s.organization_id = sums.organization_id and s.id = sums.subscription",
            )
            .await?;
        transaction.execute(&delete, &[&told.ids, &told.numbers, &told.at]).await?;
    }
    for (column, Tries { ids, numbers, at, texts }) in [("due_at", later), ("dead_at", given_up)] {
        if ids.is_empty() {
            continue;
        }
        let update = transaction
            .prepare_cached(&format!(
                "update notices n set {column} = w.at, attempts = n.attempts + 1, last_error = w.text from \
                 unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[]) as w (id, number, at, text), subscriptions s \
                 where s.id = w.id and n.organization_id = s.organization_id and n.subscription = s.id \
                 and n.number = w.number and n.dead_at is null \
                 and exists (select from subscriptions_state where leader = $5)"
            ))
            .await?;
        transaction.execute(&update, &[&ids, &numbers, &at, &texts, &own.as_slice()]).await?;
    }
    Ok(transaction.commit().await?)
}

/// The dead letters of a subscription.
pub(super) async fn dead_letters(
    client: &Client,
    id: &SubscriptionId,
    after: i64,
    limit: usize,
) -> Result<Vec<DeadNotice>, Fault> {
    let select = client
        .prepare_cached(&format!(
            "select n.number, n.receipt, n.attempts, n.dead_at, n.last_error from {OF_ONE} and n.number > $2 \
             and n.dead_at is not null order by n.number limit $3"
        ))
        .await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(&select, &[&id.as_bytes().as_slice(), &after, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(DeadNotice {
                number: row.try_get::<_, i64>(0)?.cast_unsigned(),
                receipt: receipt_in(row, 1)?,
                attempts: attempts_in(row, 2)?,
                at: Timestamp::from_millis(row.try_get(3)?),
                reason: row.try_get::<_, Option<String>>(4)?.unwrap_or_default(),
            })
        })
        .collect()
}

/// Makes dead letters pending again.
pub(super) async fn requeue(mut client: Client, id: &SubscriptionId, now: Timestamp) -> Result<u64, Fault> {
    let transaction = client.transaction().await?;
    let update = "update notices n set dead_at = null, attempts = 0, due_at = 0, at = $2 from subscriptions s \
         where s.id = $1 and s.ended_at is null and n.organization_id = s.organization_id and n.subscription = s.id \
         and n.dead_at is not null";
    let count = transaction.execute(update, &[&id.as_bytes().as_slice(), &now.millis()]).await?;
    if count > 0 {
        // Whoever tells has to look at once, wherever that is.
        transaction.execute("update subscriptions_state set revision = revision + 1", &[]).await?;
    }
    transaction.commit().await?;
    Ok(count)
}
