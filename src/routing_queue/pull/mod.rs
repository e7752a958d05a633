//! The built-in routing queue `pull`: consumers lease work items, and complete, release or set them aside (contract §6).
//!
//! A lease hands a work item to one consumer at a time; when it runs out, the item is offered again and the late
//! consumer's token is refused. Items come in queue priority, then arrival order. Offered are only lanes whose work
//! stream is configured and leads to `pull`; the records of a work stream that is gone wait until it is back.
//!
//! A work item that was set aside waits: it is offered to nobody, and closes after its work stream's inactivity time
//! unless it is revived before. Items that are pending or on lease never close by themselves, and closed is final.
//!
//! This is the whole behaviour without HTTP: whether the caller has the permission `work.handle` is the door's business,
//! which organizations it may know of is asked here.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::event::{self, NotEncodable};
use super::lanes::in_priority_groups;
use crate::config::Effective;
use crate::domain::access::Caller;
use crate::domain::catalog::{Catalog, Organization, RoutingQueueName};
use crate::domain::ids::{OrganizationId, QueueName, ReceiptId};
use crate::domain::time::Timestamp;
use crate::store::{
    LaneId, LeaseRequest, LeaseToken, Leased, Outcome, RecordSummary, Settled, Settlement, Store, StoreError,
    StoredRecord,
};

/// Work items that one call may lease.
pub const MAX_ITEMS: std::ops::RangeInclusive<u64> = 1..=100;
/// Work items that a call leases when it does not say how many.
pub const DEFAULT_ITEMS: u64 = 10;
/// Seconds that a lease may last.
pub const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 1..=43_200;
/// Seconds that a lease lasts when the call does not say.
pub const DEFAULT_LEASE_SECONDS: u64 = 300;

/// Minutes after which a waiting work item closes when its work stream is gone: the default of entity records.
const AUTO_CLOSE_MINUTES: u32 = 1_440;

/// Leasing and settling of work items.
#[derive(Clone)]
pub struct PullQueue {
    store: Arc<dyn Store>,
}

/// What a consumer asks for.
#[derive(Debug, Clone)]
pub struct LeaseCall {
    /// Whose work items.
    pub organization: OrganizationId,
    /// Only this queue's; `None` means all, in priority order.
    pub queue: Option<QueueName>,
    /// How many at most, within [`MAX_ITEMS`]; `None` means [`DEFAULT_ITEMS`].
    pub max: Option<u64>,
    /// How long, within [`LEASE_SECONDS`]; `None` means [`DEFAULT_LEASE_SECONDS`].
    pub lease_seconds: Option<u64>,
}

/// One work item on lease.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItem {
    /// The receipt ID of the record.
    pub id: ReceiptId,
    /// What completes or releases it.
    #[serde(serialize_with = "as_text")]
    pub lease_token: LeaseToken,
    /// When the lease ends.
    pub lease_until: Timestamp,
    /// Which lease of this record it is, from 1.
    pub attempt: u32,
    /// The CloudEvent.
    pub event: Box<RawValue>,
}

fn as_text<S: Serializer>(token: &LeaseToken, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(token)
}

/// Who shows which token for which work item.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The caller; of an organization out of its scope, nothing exists.
    pub caller: &'a Caller,
    /// The work item.
    pub receipt: ReceiptId,
    /// The proof of the lease.
    pub token: LeaseToken,
}

/// Why a call got nothing.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Not configured, or out of the caller's scope: the two look alike.
    #[error("organization {0} is not configured for this credential")]
    OrganizationUnknown(OrganizationId),
    /// The organization has no queue of this name.
    #[error("there is no queue `{asked}`; the queues are {}", listed(.configured))]
    QueueUnknown {
        /// What was asked for.
        asked: QueueName,
        /// What there is, by priority.
        configured: Vec<QueueName>,
    },
    /// A number is out of its range.
    #[error("`{property}` must be between {least} and {most}")]
    OutOfRange {
        /// Which property of the call.
        property: &'static str,
        /// Its least value.
        least: u64,
        /// Its greatest value.
        most: u64,
    },
    /// There is no such work item, or not one of the caller's.
    #[error("there is no such work item")]
    NotFound,
    /// The lease had ended, or another one has begun since.
    #[error("the lease has ended; the work item was offered again or is settled")]
    LeaseLost,
    /// The work item does not wait: it is pending, on lease or settled.
    #[error("the work item is not waiting")]
    NotWaiting,
    /// The store did not answer; trying again is safe.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn listed(queues: &[QueueName]) -> String {
    let quoted: Vec<String> = queues.iter().map(|queue| format!("`{queue}`")).collect();
    quoted.join(", ")
}

impl PullQueue {
    /// The pull queue on this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Leases work items, under one whole configuration.
    ///
    /// # Errors
    /// [`PullError`], never `NotFound`, `LeaseLost` or `NotWaiting`: an empty answer is no error.
    pub async fn lease(
        &self,
        effective: &Effective,
        caller: &Caller,
        call: LeaseCall,
        now: Timestamp,
    ) -> Result<Vec<WorkItem>, PullError> {
        let organization = effective
            .catalog
            .organization_for(caller, &call.organization)
            .ok_or(PullError::OrganizationUnknown(call.organization))?;
        let max = within("max", call.max.unwrap_or(DEFAULT_ITEMS), MAX_ITEMS)?;
        let seconds = within("leaseSeconds", call.lease_seconds.unwrap_or(DEFAULT_LEASE_SECONDS), LEASE_SECONDS)?;
        let groups = self.groups(organization, call.queue.as_ref())?;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let request = LeaseRequest { groups, max, now, duration: Duration::from_secs(seconds) };
        let leases = self.store.lease(request).await?;
        let (mut items, mut damaged) = (Vec::with_capacity(leases.leased.len()), Vec::new());
        for leased in leases.leased {
            match event_of(&effective.catalog, &leased.record) {
                Ok(event) => items.push(WorkItem {
                    id: leased.record.receipt,
                    lease_token: leased.token,
                    lease_until: leased.until,
                    attempt: leased.attempt,
                    event,
                }),
                Err(fault) => damaged.push(given_up(&leased, &fault, now)),
            }
        }
        if !damaged.is_empty() {
            // A record that cannot be read must not stay at the head of its lane for ever.
            if let Err(error) = self.store.settle(damaged).await {
                // The others are on lease by now: the caller must get them. The damaged ones come up again.
                tracing::warn!(fault = &error as &dyn std::error::Error, "a damaged record could not be given up");
            }
        }
        Ok(items)
    }

    /// Marks a work item as done: it is delivered, and never offered again.
    ///
    /// # Errors
    /// [`PullError::NotFound`], [`PullError::LeaseLost`] (nothing changed), or the store's.
    pub async fn complete(&self, holder: Holder<'_>, now: Timestamp) -> Result<(), PullError> {
        self.settle(holder, Outcome::Delivered, now).await
    }

    /// Gives a work item back: it is offered again at once.
    ///
    /// # Errors
    /// [`PullError::NotFound`], [`PullError::LeaseLost`] (nothing changed), or the store's.
    pub async fn release(&self, holder: Holder<'_>, now: Timestamp) -> Result<(), PullError> {
        self.settle(holder, Outcome::Released, now).await
    }

    /// Sets a work item aside. Answers when it closes: after the inactivity time that its work stream has now.
    ///
    /// # Errors
    /// [`PullError::NotFound`], [`PullError::LeaseLost`] (nothing changed), or the store's.
    pub async fn wait(
        &self,
        effective: &Effective,
        holder: Holder<'_>,
        now: Timestamp,
    ) -> Result<Timestamp, PullError> {
        let summary = self.own(holder.caller, holder.receipt).await?;
        let work_stream = effective.catalog.work_stream(&summary.organization, &summary.work_stream);
        let minutes = work_stream.map_or(AUTO_CLOSE_MINUTES, |stream| stream.auto_close_after_inactivity_minutes);
        let closes_at = now.after(Duration::from_secs(u64::from(minutes) * 60));
        self.end(holder, Outcome::Waiting { closes_at }, now).await?;
        Ok(closes_at)
    }

    /// Takes up a work item that waits: it is offered again at once, its attempts counted on.
    ///
    /// # Errors
    /// [`PullError::NotFound`], [`PullError::NotWaiting`] (nothing changed), or the store's.
    pub async fn revive(&self, caller: &Caller, receipt: ReceiptId, now: Timestamp) -> Result<(), PullError> {
        self.own(caller, receipt).await?;
        if self.store.revive(receipt, now).await? { Ok(()) } else { Err(PullError::NotWaiting) }
    }

    /// The work item, if it is one of the caller's.
    async fn own(&self, caller: &Caller, receipt: ReceiptId) -> Result<RecordSummary, PullError> {
        let status = self.store.receipt(receipt).await?.ok_or(PullError::NotFound)?;
        if caller.sees(&status.summary.organization) { Ok(status.summary) } else { Err(PullError::NotFound) }
    }

    async fn settle(&self, holder: Holder<'_>, outcome: Outcome, at: Timestamp) -> Result<(), PullError> {
        self.own(holder.caller, holder.receipt).await?;
        self.end(holder, outcome, at).await
    }

    async fn end(&self, holder: Holder<'_>, outcome: Outcome, at: Timestamp) -> Result<(), PullError> {
        let settlement = Settlement { receipt: holder.receipt, token: holder.token, at, outcome };
        match self.store.settle(vec![settlement]).await?.first() {
            Some(Settled::Done) => Ok(()),
            Some(Settled::LeaseLost) | None => Err(PullError::LeaseLost),
        }
    }

    /// The organization's lanes that lead to `pull` and hold something, in the order in which they are emptied.
    fn groups(&self, organization: &Organization, queue: Option<&QueueName>) -> Result<Vec<Vec<LaneId>>, PullError> {
        if let Some(asked) = queue.filter(|asked| organization.queues.named(asked).is_none()) {
            let configured = organization.queues.by_priority().into_iter().map(|queue| queue.name.clone()).collect();
            return Err(PullError::QueueUnknown { asked: asked.clone(), configured });
        }
        let pull = RoutingQueueName::pull();
        let lanes = self.store.lanes();
        let offered = lanes.iter().filter(|backlog| {
            let leads_to_pull = organization
                .work_streams
                .get(&backlog.lane.work_stream)
                .is_some_and(|work_stream| *organization.routing_queue_of(work_stream) == pull);
            backlog.pending > 0
                && backlog.lane.organization == organization.id
                && leads_to_pull
                && queue.is_none_or(|queue| backlog.lane.queue == *queue)
        });
        Ok(in_priority_groups(organization, offered.map(|backlog| (&backlog.lane.queue, backlog.id))))
    }
}

fn within(property: &'static str, value: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64, PullError> {
    let (least, most) = (*range.start(), *range.end());
    if range.contains(&value) { Ok(value) } else { Err(PullError::OutOfRange { property, least, most }) }
}

fn event_of(catalog: &Catalog, record: &StoredRecord) -> Result<Box<RawValue>, NotEncodable> {
    let body = event::encode(record, catalog.work_stream(&record.organization, &record.work_stream))?;
    Ok(serde_json::from_slice(&body)?)
}

fn given_up(leased: &Leased, fault: &NotEncodable, at: Timestamp) -> Settlement {
    tracing::error!(receipt = %leased.record.receipt, %fault, "a stored record is damaged and becomes a dead letter");
    Settlement {
        receipt: leased.record.receipt,
        token: leased.token,
        at,
        outcome: Outcome::DeadLettered { reason: fault.to_string() },
    }
}

#[cfg(test)]
mod tests;
