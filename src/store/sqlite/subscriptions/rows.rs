//! The rows of `subscriptions.db`. A subscription is a JSON text with a checksum; a notice is plain columns, and its receipt
//! can only be one that this gateway gave out.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::super::error::read_error;
use super::super::side_file::{Summed, verified};
use super::{number_of, signed};
use crate::config::settings::WebhookSecret;
use crate::domain::ids::{OrganizationId, QueueName, ReceiptId, SubscriptionId, WorkStreamId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::subscriptions::{Callback, DeadNotice, Due, Ended, Notice, Standing, Subscription, Wish};

/// What does not change about a subscription.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::store) struct Document {
    organization: OrganizationId,
    queue: Option<String>,
    work_stream: Option<WorkStreamId>,
    callback: Box<str>,
    secret: String,
    created_at: i64,
    created_by: Box<str>,
}

impl Document {
    /// Of this subscription.
    pub(in crate::store) fn of(subscription: &Subscription) -> Self {
        let Wish { organization, queue, work_stream, callback } = &subscription.wish;
        Self {
            organization: *organization,
            queue: queue.as_ref().map(ToString::to_string),
            work_stream: *work_stream,
            callback: callback.as_str().into(),
            secret: subscription.secret.to_text(),
            created_at: subscription.created_at.millis(),
            created_by: (&*subscription.created_by).into(),
        }
    }

    /// Whose it is.
    pub(in crate::store) const fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// The subscription, if everything in it has a meaning.
    pub(in crate::store) fn into_subscription(
        self,
        id: SubscriptionId,
        after: i64,
        ended: Option<Ended>,
    ) -> Option<Subscription> {
        Some(Subscription {
            id,
            wish: Wish {
                organization: self.organization,
                queue: self.queue.map(|name| QueueName::parse(&name)).transpose().ok()?,
                work_stream: self.work_stream,
                callback: Callback::new(self.callback),
            },
            secret: WebhookSecret::parse(&self.secret).ok()?,
            created_at: Timestamp::from_millis(self.created_at),
            created_by: self.created_by.into(),
            after: after.cast_unsigned(),
            ended,
        })
    }
}

/// Writes a new subscription.
pub(super) fn insert(conn: &Connection, subscription: &Subscription) -> rusqlite::Result<()> {
    let key = subscription.id.as_bytes();
    let Summed { text, crc } = Summed::new(key, &Document::of(subscription))?;
    conn.execute(
        "insert into subscriptions (id, document, crc, after) values (?1, ?2, ?3, ?4)",
        params![key, text, crc, signed(subscription.after)],
    )?;
    Ok(())
}

/// Every subscription, in the order in which they were made.
pub(super) fn load(conn: &Connection) -> Result<Vec<Subscription>, StoreError> {
    let mut select = conn
        .prepare("select number, id, document, crc, ended_at, ended_because, after from subscriptions order by number")
        .map_err(read_error)?;
    let mut rows = select.query([]).map_err(read_error)?;
    let mut subscriptions = Vec::new();
    while let Some(row) = rows.next().map_err(read_error)? {
        let number: i64 = row.get(0).map_err(read_error)?;
        let subscription = subscription_in(row).map_err(read_error)?.ok_or_else(|| {
            StoreError::Damaged(format!(
                "subscriptions.db: subscription {number} is not as it was written; restore the file from a backup"
            ))
        })?;
        subscriptions.push(subscription);
    }
    Ok(subscriptions)
}

/// Names every subscription that is not as it was written.
pub(in crate::store::sqlite) fn damaged_rows(conn: &Connection, note: &mut dyn FnMut(String)) {
    let position = conn.query_row("select position from meta where id = 1", [], |row| row.get::<_, i64>(0));
    if let Err(fault) = position {
        note(format!("its position cannot be read: {fault}"));
    }
    let read = (|| {
        let mut select =
            conn.prepare("select number, id, document, crc, ended_at, ended_because, after from subscriptions")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            if !matches!(subscription_in(row), Ok(Some(_))) {
                note(format!("subscription {number} is not as it was written"));
            }
        }
        Ok::<_, rusqlite::Error>(())
    })();
    if let Err(fault) = read {
        note(format!("its subscriptions cannot be read to their end: {fault}"));
    }
}

/// Every notice: the number of its record, and the receipt.
pub(in crate::store::sqlite) fn each_notice(
    conn: &Connection,
    each: &mut dyn FnMut(i64, ReceiptId),
) -> rusqlite::Result<()> {
    let mut select = conn.prepare("select number, receipt from notices")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        each(row.get(0)?, ReceiptId::from_bytes(row.get(1)?));
    }
    Ok(())
}

fn subscription_in(row: &Row<'_>) -> rusqlite::Result<Option<Subscription>> {
    let (key, text, crc): ([u8; 24], String, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let ended = match row.get::<_, Option<i64>>(4)? {
        None => None,
        Some(at) => Some(Ended { at: Timestamp::from_millis(at), because: row.get(5)? }),
    };
    let (document, after): (Option<Document>, _) = (verified(&key, &text, crc), row.get(6)?);
    Ok(document.and_then(|document| document.into_subscription(SubscriptionId::from_bytes(key), after, ended)))
}

/// How every subscription stands.
pub(super) fn standings(conn: &Connection) -> rusqlite::Result<Vec<(SubscriptionId, Standing)>> {
    let mut select = conn.prepare_cached(
        "select s.id, s.delivered, s.last_delivered_at, \
         (select count(*) from notices n where n.subscription = s.number and n.dead_at is null), \
         (select count(*) from notices n where n.subscription = s.number and n.dead_at is not null), \
         (select n.last_error from notices n where n.subscription = s.number and n.last_error is not null \
          order by n.number desc limit 1) \
         from subscriptions s",
    )?;
    let standing = |row: &Row<'_>| {
        let standing = Standing {
            delivered: row.get::<_, i64>(1)?.cast_unsigned(),
            last_delivered_at: row.get::<_, Option<i64>>(2)?.map(Timestamp::from_millis),
            pending: row.get::<_, i64>(3)?.cast_unsigned(),
            dead_lettered: row.get::<_, i64>(4)?.cast_unsigned(),
            last_error: row.get(5)?,
        };
        Ok((SubscriptionId::from_bytes(row.get(0)?), standing))
    };
    select.query_map([], standing)?.collect()
}

/// What a subscriber is to be told by now.
pub(super) fn due(conn: &Connection, id: &SubscriptionId, now: Timestamp, limit: i64) -> rusqlite::Result<Due> {
    let Some(whose) = number_of(conn, id)? else { return Ok(Due::default()) };
    let mut select = conn.prepare_cached(
        "select number, receipt, attempts, at from notices \
         where subscription = ?1 and dead_at is null and due_at <= ?2 order by due_at, number limit ?3",
    )?;
    let notice = |row: &Row<'_>| {
        Ok(Notice {
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            receipt: ReceiptId::from_bytes(row.get(1)?),
            attempts: row.get(2)?,
            at: Timestamp::from_millis(row.get(3)?),
        })
    };
    let notices: Vec<Notice> =
        select.query_map(params![whose, now.millis(), limit], notice)?.collect::<rusqlite::Result<_>>()?;
    let next: Option<i64> = conn
        .prepare_cached("select min(due_at) from notices where subscription = ?1 and dead_at is null and due_at > ?2")?
        .query_row(params![whose, now.millis()], |row| row.get(0))
        .optional()?
        .flatten();
    Ok(Due { notices, next: next.map(Timestamp::from_millis) })
}

/// The dead letters of a subscription.
pub(super) fn dead_letters(
    conn: &Connection,
    id: &SubscriptionId,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<DeadNotice>> {
    let Some(whose) = number_of(conn, id)? else { return Ok(Vec::new()) };
    let mut select = conn.prepare_cached(
        "select number, receipt, attempts, dead_at, last_error from notices \
         where subscription = ?1 and number > ?2 and dead_at is not null order by number limit ?3",
    )?;
    let dead = |row: &Row<'_>| {
        Ok(DeadNotice {
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            receipt: ReceiptId::from_bytes(row.get(1)?),
            attempts: row.get(2)?,
            at: Timestamp::from_millis(row.get(3)?),
            reason: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
        })
    };
    select.query_map(params![whose, after, limit], dead)?.collect()
}
