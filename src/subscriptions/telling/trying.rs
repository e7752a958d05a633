//! One try to tell a subscriber of a record.

use std::sync::Arc;
use std::time::Duration;

use super::COUNTED_AS;
use crate::config::Effective;
use crate::domain::time::Timestamp;
use crate::forward::attempt::{self, Ended};
use crate::forward::observer::{Beginning, Observer};
use crate::routing_queue::RoutingQueue;
use crate::store::subscriptions::Notice;
use crate::store::{Store, StoreError};

/// What a try brings back.
pub(super) enum Try {
    /// It was made.
    Made(Ended),
    /// The record is not there any more, or without its details.
    Nothing(&'static str),
    /// The record could not be read.
    Unread(StoreError),
}

/// One try to tell a subscriber of a record, and what it needs.
pub(super) struct Telling {
    pub(super) records: Arc<dyn Store>,
    pub(super) callback: Arc<dyn RoutingQueue>,
    pub(super) notice: Notice,
    pub(super) effective: Arc<Effective>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) now: Timestamp,
}

impl Telling {
    /// Makes it; `limit` guards against a callback that does not bound itself.
    pub(super) async fn try_within(self, limit: Duration) -> Try {
        let Self { records, callback, notice, effective, observer, now } = self;
        let record = match records.record(notice.receipt).await {
            Ok(Some(record)) => record,
            Ok(None) => return Try::Nothing("the record is not kept any more"),
            Err(fault) => return Try::Unread(fault),
        };
        let Some(record) = record.whole() else {
            return Try::Nothing("the details of the record were let go before it could be told");
        };
        let followed = observer.begins(Beginning {
            routing_queue: COUNTED_AS,
            attempt: notice.attempts.saturating_add(1),
            now,
            records: &mut std::iter::once(&record),
        });
        let traceparent = followed.as_ref().map(|followed| followed.traceparent());
        let ended = attempt::deliver((callback, limit), record, effective, traceparent).await;
        if let Some(followed) = followed {
            let reason = ended.result.as_ref().err().map(ToString::to_string);
            followed.ended(ended.counted(), reason.as_deref());
        }
        Try::Made(ended)
    }
}
