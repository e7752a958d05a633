//! Who is subscribed, and who leads. A subscription is a JSON text with a checksum, as in every engine.

use std::time::Duration;

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::Row;

use super::super::error::Fault;
use super::super::guid::PgGuid;
use super::signed;
use crate::domain::ids::SubscriptionId;
use crate::domain::time::Timestamp;
use crate::store::sqlite::side_file::{Summed, verified};
use crate::store::sqlite::subscriptions::rows::Document;
use crate::store::subscriptions::{Ended, Fenced, Revision, Role, Subscription};

/// Takes the lead where nobody has it or has said so lately, or keeps it.
pub(super) async fn lead(client: &Client, own: &[u8; 16], lead: Duration) -> Result<Role, Fault> {
    let ask = client
        .prepare_cached(
            "update subscriptions_state set leader = $1, leads_until = clock_timestamp() + $2 * interval '1 second' \
             where leader = $1 or leader is null or leads_until <= clock_timestamp()",
        )
        .await?;
    let leads = client.execute(&ask, &[&own.as_slice(), &lead.as_secs_f64()]).await?;
    Ok(if leads > 0 { Role::Leader } else { Role::Standby })
}

/// Everybody, in the order in which they subscribed.
pub(super) async fn load(mut client: Client) -> Result<(Revision, Vec<Subscription>), Fault> {
    let transaction = client.transaction().await?;
    // Read first: a change in between makes the list newer than its revision, which costs another look.
    let row = transaction.query_one("select revision from subscriptions_state", &[]).await?;
    let revision = Revision(row.try_get::<_, i64>(0)?.cast_unsigned());
    let rows = transaction.query(EVERYBODY, &[]).await?;
    let subscriptions = rows.iter().map(subscription_in).collect::<Result<_, Fault>>()?;
    transaction.commit().await?;
    Ok((revision, subscriptions))
}

const EVERYBODY: &str = "select organization_id, id, document, crc, after, ended_at, ended_because, number \
     from subscriptions order by number";

/// What is not as it was written.
pub(super) async fn verify(of: &tokio_postgres::Transaction<'_>) -> Result<Vec<String>, Fault> {
    let mut wrong = Vec::new();
    for row in of.query(EVERYBODY, &[]).await? {
        match subscription_in(&row) {
            Err(Fault::Inconsistent(what)) => wrong.push(what),
            read => drop(read?),
        }
    }
    let stray = "select count(*) from notices n where not exists (select from subscriptions s \
         where s.organization_id = n.organization_id and s.id = n.subscription)";
    let stray: i64 = of.query_one(stray, &[]).await?.try_get(0)?;
    if stray > 0 {
        wrong.push(format!("{stray} notices are for a subscription that is not there"));
    }
    Ok(wrong)
}

fn subscription_in(row: &Row) -> Result<Subscription, Fault> {
    let number: i64 = row.try_get(7)?;
    let wrong = || Fault::Inconsistent(format!("subscription {number} is not as it was written"));
    let key: [u8; 24] = row.try_get::<_, &[u8]>(1)?.try_into().map_err(|_| wrong())?;
    let ended = match row.try_get::<_, Option<i64>>(5)? {
        None => None,
        Some(at) => Some(Ended { at: Timestamp::from_millis(at), because: row.try_get(6)? }),
    };
    let document: Option<Document> = verified(&key, row.try_get(2)?, row.try_get(3)?);
    let organization: PgGuid = row.try_get(0)?;
    document
        .and_then(|document| Some((row.try_get(4).ok()?, document)))
        .and_then(|(after, document)| document.into_subscription(SubscriptionId::from_bytes(key), after, ended))
        .filter(|subscription| PgGuid::from(subscription.wish.organization.guid()) == organization)
        .ok_or_else(wrong)
}

/// Whoever is subscribed has changed.
async fn revise(transaction: &Transaction<'_>) -> Result<(), Fault> {
    transaction.execute("update subscriptions_state set revision = revision + 1", &[]).await?;
    Ok(())
}

/// Keeps a new one, unless the list has changed.
pub(super) async fn add(mut client: Client, revision: Revision, subscription: &Subscription) -> Result<Fenced, Fault> {
    let key = subscription.id.as_bytes();
    let summed = Summed::new(key, &Document::of(subscription));
    let Summed { text, crc } = summed.map_err(|fault| Fault::Inconsistent(fault.to_string()))?;
    let transaction = client.transaction().await?;
    // The row first, so that what follows sees everything that was put down before.
    let revise = "update subscriptions_state set revision = revision + 1 where revision = $1";
    if transaction.execute(revise, &[&signed(revision.0)]).await? == 0 {
        return Ok(Fenced::Out);
    }
    let row = transaction
        .query_one(
            "select (select high_water from counter), exists (select from subscriptions where ended_at is null)",
            &[],
        )
        .await?;
    let (newest, others): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    let after = newest.max(signed(subscription.after));
    if !others {
        transaction.execute("update subscriptions_state set position = greatest(position, $1)", &[&after]).await?;
    }
    let organization = PgGuid::from(subscription.wish.organization.guid());
    let insert = "insert into subscriptions (organization_id, id, document, crc, after) values ($1, $2, $3, $4, $5)";
    transaction.execute(insert, &[&organization, &key.as_slice(), &text, &crc, &after]).await?;
    transaction.commit().await?;
    Ok(Fenced::Done)
}

/// Ends one. Answers how much it was still to be told.
pub(super) async fn end(mut client: Client, id: &SubscriptionId, ended: &Ended) -> Result<u64, Fault> {
    let transaction = client.transaction().await?;
    revise(&transaction).await?;
    let end = "update subscriptions set ended_at = $2, ended_because = $3 where id = $1 and ended_at is null";
    transaction.execute(end, &[&id.as_bytes().as_slice(), &ended.at.millis(), &ended.because]).await?;
    let drop = "delete from notices where dead_at is null and (organization_id, subscription) in \
         (select organization_id, id from subscriptions where id = $1)";
    let dropped = transaction.execute(drop, &[&id.as_bytes().as_slice()]).await?;
    transaction.commit().await?;
    Ok(dropped)
}

/// Of a subscription `s`: nothing is left that somebody could want to see.
const NOTHING_LEFT: &str = "s.ended_at is not null and not exists (select from notices n \
     where n.organization_id = s.organization_id and n.subscription = s.id)";

/// Forgets those of these that have ended and have no dead letters.
pub(super) async fn forget_ended(mut client: Client, ids: &[SubscriptionId]) -> Result<Vec<SubscriptionId>, Fault> {
    let transaction = client.transaction().await?;
    revise(&transaction).await?;
    let keys: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let forget = format!("delete from subscriptions s where s.id = any($1) and {NOTHING_LEFT} returning s.id");
    let rows = transaction.query(&forget, &[&keys]).await?;
    let forgotten = rows
        .iter()
        .filter_map(|row| Some(SubscriptionId::from_bytes(row.try_get::<_, &[u8]>(0).ok()?.try_into().ok()?)))
        .collect();
    transaction.commit().await?;
    Ok(forgotten)
}

/// Forgets what is old.
pub(super) async fn forget(mut client: Client, older_than: Timestamp, at_most: usize) -> Result<u64, Fault> {
    let transaction = client.transaction().await?;
    let limit = i64::try_from(at_most).unwrap_or(i64::MAX);
    let dead = "delete from notices where (organization_id, subscription, number) in \
         (select organization_id, subscription, number from notices where dead_at < $1 limit $2)";
    let forgotten = transaction.execute(dead, &[&older_than.millis(), &limit]).await?;
    let ended = format!("delete from subscriptions s where s.ended_at < $1 and {NOTHING_LEFT}");
    if transaction.execute(&ended, &[&older_than.millis()]).await? > 0 {
        revise(&transaction).await?;
    }
    transaction.commit().await?;
    Ok(forgotten)
}

/// Goes back to the newest record there is.
pub(super) async fn rewind(mut client: Client, newest: i64) -> Result<u64, Fault> {
    let transaction = client.transaction().await?;
    revise(&transaction).await?;
    let newest_of_all: i64 = transaction.query_one("select high_water from counter", &[]).await?.try_get(0)?;
    let newest = newest.max(newest_of_all);
    transaction.execute("update subscriptions_state set position = least(position, $1)", &[&newest]).await?;
    transaction.execute("update subscriptions set after = least(after, $1)", &[&newest]).await?;
    let gone = transaction.execute("delete from notices where number > $1", &[&newest]).await?;
    transaction.commit().await?;
    Ok(gone)
}
