//! Who wants to be told, and what each is still to be told, in the database that all gateways share.
//!
//! One gateway leads: it holds a row of [`schema_subscriptions_1.sql`](../../../../../src/store/postgres/schema_subscriptions_1.sql)
//! for five seconds at a time, by the database's clock. A lock of a session would not do: a gateway that hangs keeps its
//! session, and nobody would be told. Whatever the leader puts down is fenced in the same transaction by that row: by who
//! leads, how far notices were put down, and which list of subscriptions they were made by. So none is put down twice, and
//! none is left out for a subscription that another gateway has taken meanwhile.
//!
//! Not guaranteed: that a subscriber is told once. A leader that was replaced may have tries under way.

mod notices;
mod rows;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;

use super::database::Database;
use super::error::Fault;
use crate::domain::ids::SubscriptionId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::subscriptions::{
    DeadNotice, Due, Ended, Fenced, LEAD, NewNotice, Revision, Role, Span, Standing, Subscription, SubscriptionStore,
    Summary, Tried,
};

/// From which record on subscribers need details whole; beyond all numbers where nobody does. An expression of SQL, to
/// stand in the statement that picks the records, or in one that begins later.
pub(super) const NEEDED_FROM: &str = "coalesce((select least(position + 1, \
     (select min(number) from notices where dead_at is null)) from subscriptions_state \
     where exists (select 1 from subscriptions where ended_at is null)), 9223372036854775807)";

/// The lead is asked for this often.
const ASK: Duration = Duration::from_secs(1);

/// The store of subscriptions in a database.
pub struct PostgresSubscriptions {
    database: Arc<Database>,
    /// What this gateway goes by among those that could lead.
    own: [u8; 16],
    /// What was answered to it last, and when it asked.
    role: Mutex<Option<(Instant, Role)>>,
}

/// What of it is not as it was written, in sentences.
pub(super) async fn verify(transaction: &tokio_postgres::Transaction<'_>) -> Result<Vec<String>, Fault> {
    rows::verify(transaction).await
}

/// Numbers in the database have a sign; ours stay far below where it matters.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl PostgresSubscriptions {
    /// In this database.
    ///
    /// # Errors
    /// When the operating system gives no random bits.
    pub fn open(database: Arc<Database>) -> Result<Self, StoreError> {
        let mut own = [0; 16];
        getrandom::fill(&mut own).map_err(Fault::Random)?;
        Ok(Self { database, own, role: Mutex::new(None) })
    }

    /// Does something with a connection.
    fn with<T, F>(&self, work: impl FnOnce(Object) -> F + Send + 'static) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let pool = self.database.pool().clone();
        self.database.run(async move { work(pool.get().await?).await })
    }

    fn remember(&self, role: Option<(Instant, Role)>) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role;
    }
}

impl SubscriptionStore for PostgresSubscriptions {
    fn load(&self) -> Result<(Revision, Vec<Subscription>), StoreError> {
        self.with(|client| async move { rows::load(client).await })
    }

    fn revision(&self) -> Result<Revision, StoreError> {
        self.with(|client| async move {
            let row = client.query_one("select revision from subscriptions_state", &[]).await?;
            Ok(Revision(row.try_get::<_, i64>(0)?.cast_unsigned()))
        })
    }

    fn lead(&self) -> Result<Role, StoreError> {
        let known = *self.role.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, role)) = known.filter(|(asked, _)| asked.elapsed() < ASK) {
            return Ok(role);
        }
        self.remember(None);
        let (own, asked) = (self.own, Instant::now());
        let role = self.with(move |client| async move { rows::lead(&client, &own, LEAD).await })?;
        self.remember(Some((asked, role)));
        Ok(role)
    }

    fn resign(&self) -> Result<(), StoreError> {
        self.remember(None);
        let own = self.own;
        self.with(move |client| async move {
            let resign = "update subscriptions_state set leader = null, leads_until = null where leader = $1";
            client.execute(resign, &[&own.as_slice()]).await?;
            Ok(())
        })
    }

    fn add(&self, revision: Revision, subscription: &Subscription) -> Result<Fenced, StoreError> {
        let subscription = subscription.clone();
        self.with(move |client| async move { rows::add(client, revision, &subscription).await })
    }

    fn end(&self, id: &SubscriptionId, ended: &Ended) -> Result<u64, StoreError> {
        let (id, ended) = (*id, ended.clone());
        self.with(move |client| async move { rows::end(client, &id, &ended).await })
    }

    fn forget_ended(&self, ids: &[SubscriptionId]) -> Result<Vec<SubscriptionId>, StoreError> {
        let ids = ids.to_vec();
        self.with(move |client| async move { rows::forget_ended(client, &ids).await })
    }

    fn standings(&self) -> Result<Vec<(SubscriptionId, Standing)>, StoreError> {
        self.with(|client| async move { notices::standings(&client).await })
    }

    fn position(&self) -> Result<u64, StoreError> {
        self.with(|client| async move {
            let row = client.query_one("select position from subscriptions_state", &[]).await?;
            Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
        })
    }

    fn rewind(&self, newest: u64) -> Result<u64, StoreError> {
        self.with(move |client| async move { rows::rewind(client, signed(newest)).await })
    }

    fn put_down(&self, span: &Span, notices: &[NewNotice]) -> Result<Fenced, StoreError> {
        let (span, notices, own) = (*span, notices.to_vec(), self.own);
        let fenced =
            self.with(move |client| async move { notices::put_down(client, (&span, &own), &notices).await })?;
        if fenced == Fenced::Out {
            // Perhaps another gateway leads: that is asked before anything else.
            self.remember(None);
        }
        Ok(fenced)
    }

    fn oldest_pending(&self) -> Result<Option<u64>, StoreError> {
        self.with(|client| async move {
            let row = client.query_one("select min(number) from notices where dead_at is null", &[]).await?;
            Ok(row.try_get::<_, Option<i64>>(0)?.map(i64::cast_unsigned))
        })
    }

    fn summary(&self, most: usize) -> Result<Summary, StoreError> {
        self.with(move |client| async move { notices::summary(&client, most).await })
    }

    fn due(&self, id: &SubscriptionId, now: Timestamp, limit: usize) -> Result<Due, StoreError> {
        let id = *id;
        self.with(move |client| async move { notices::due(&client, &id, now, limit).await })
    }

    fn conclude(&self, tries: &[Tried]) -> Result<(), StoreError> {
        let (tries, own) = (tries.to_vec(), self.own);
        self.with(move |client| async move { notices::conclude(client, &own, &tries).await })
    }

    fn dead_letters(
        &self,
        id: &SubscriptionId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadNotice>, StoreError> {
        let (id, after) = (*id, after.map_or(0, signed));
        self.with(move |client| async move { notices::dead_letters(&client, &id, after, limit).await })
    }

    fn requeue(&self, id: &SubscriptionId, now: Timestamp) -> Result<u64, StoreError> {
        let id = *id;
        self.with(move |client| async move { notices::requeue(client, &id, now).await })
    }

    fn discard(&self, id: &SubscriptionId) -> Result<u64, StoreError> {
        let id = *id;
        self.with(move |client| async move {
            let discard = "delete from notices where dead_at is not null and (organization_id, subscription) in \
                 (select organization_id, id from subscriptions where id = $1)";
            Ok(client.execute(discard, &[&id.as_bytes().as_slice()]).await?)
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        self.resign()
    }

    fn forget(&self, older_than: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.with(move |client| async move { rows::forget(client, older_than, at_most).await })
    }
}
