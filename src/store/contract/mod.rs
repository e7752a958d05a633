//! The test suite that every engine passes.
//!
//! An engine's tests implement [`Engine`] and write `store_contract!(NewEngine::new())`: one test per case of
//! [`cases`], and [`model`], which runs random operations against the engine and a simple model of it side by side.
//! Nothing here sleeps: time is what the calls say it is.

pub(crate) mod cases;
pub(crate) mod lifecycle;
pub(crate) mod model;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{
    Entry, LaneId, LeaseRequest, Leased, Leases, ListQuery, Outcome, Page, Receipt, ReceiptStatus, Settled, Settlement,
    Store, TraceContext,
};
use crate::domain::admission::Admitted;
use crate::domain::ids::ReceiptId;
use crate::domain::time::Timestamp;

/// How long an engine under test recognizes repeats.
pub(crate) const DUPLICATE_WINDOW: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An engine with data of its own, empty at first, gone when this is dropped.
pub(crate) trait Engine {
    /// Opens the store on that data, with [`DUPLICATE_WINDOW`]. It is called again only after the earlier one closed.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// One test per case, each with an engine of its own.
macro_rules! store_contract {
    ($make:expr) => {
        $crate::store::contract::store_contract!(@cases $make;
            an_appended_record_is_found_whole,
            a_repeat_gets_the_first_receipt,
            repeats_at_one_moment_make_one_record,
            the_same_record_elsewhere_is_another_record,
            a_repeat_after_the_window_is_a_new_record,
            a_clock_that_went_back_still_knows_repeats,
            no_receipt_leads_nowhere,
            pages_go_from_new_to_old,
            lists_are_filtered,
            figures_follow_every_step,
            a_closed_store_takes_nothing,
        );
        $crate::store::contract::store_contract!(@lifecycle $make;
            leases_go_by_arrival_over_all_lanes_of_a_group,
            an_earlier_group_is_emptied_first,
            a_leased_record_is_not_handed_out_again,
            a_lease_that_ran_out_is_offered_again_and_its_token_refused,
            a_lease_that_ran_out_cannot_be_settled_even_unclaimed,
            delivered_is_the_end,
            answers_stand_in_the_order_of_the_settlements,
            a_retry_waits_until_it_is_due_and_keeps_its_reason,
            a_released_record_is_due_at_once_and_was_not_tried,
            a_dead_letter_can_be_requeued,
            requeueing_all_stays_within_the_organization,
            everything_survives_a_restart,
            repeats_are_known_after_a_restart,
        );

        #[test]
        fn random_operations_agree_with_the_model() {
            $crate::store::contract::model::agrees(|| $make);
        }
    };
    (@cases $make:expr; $($case:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $case() {
            $crate::store::contract::cases::$case(&$make).await;
        })*
    };
    (@lifecycle $make:expr; $($case:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $case() {
            $crate::store::contract::lifecycle::$case(&$make).await;
        })*
    };
}
pub(crate) use store_contract;

/// A moment: so many seconds after the tests begin.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
}

/// An entry accepted at the beginning.
pub(crate) fn entry(admitted: Box<Admitted>) -> Entry {
    Entry { admitted, accepted_at: at(0), trace: TraceContext::default() }
}

/// Shorthand for the tests, all of which panic where the store refuses.
pub(crate) struct Bench(pub(crate) Arc<dyn Store>);

impl Bench {
    /// The engine's store, opened.
    pub(crate) async fn open(engine: &impl Engine) -> Self {
        Self(engine.open().await)
    }

    /// Closes, and opens again.
    pub(crate) async fn reopen(self, engine: &impl Engine) -> Self {
        self.0.close().await;
        drop(self.0);
        Self::open(engine).await
    }

    pub(crate) async fn append(&self, admitted: Box<Admitted>) -> Receipt {
        self.0.append(entry(admitted)).await.unwrap()
    }

    pub(crate) async fn append_at(&self, admitted: Box<Admitted>, accepted_at: Timestamp) -> Receipt {
        self.0.append(Entry { admitted, accepted_at, trace: TraceContext::default() }).await.unwrap()
    }

    /// Every lane, as one group.
    pub(crate) fn all_lanes(&self) -> Vec<LaneId> {
        self.0.lanes().into_iter().map(|backlog| backlog.id).collect()
    }

    /// Leases from every lane, for a minute.
    pub(crate) async fn lease(&self, now: Timestamp, max: usize) -> Leases {
        self.lease_from(vec![self.all_lanes()], now, max).await
    }

    pub(crate) async fn lease_from(&self, groups: Vec<Vec<LaneId>>, now: Timestamp, max: usize) -> Leases {
        self.0.lease(LeaseRequest { groups, max, now, duration: Duration::from_secs(60) }).await.unwrap()
    }

    pub(crate) async fn settle(&self, leased: &Leased, at: Timestamp, outcome: Outcome) -> Settled {
        self.settle_with(leased.record.receipt, leased, at, outcome).await
    }

    pub(crate) async fn settle_with(
        &self,
        receipt: ReceiptId,
        leased: &Leased,
        at: Timestamp,
        outcome: Outcome,
    ) -> Settled {
        let settled = self.0.settle(vec![Settlement { receipt, token: leased.token, at, outcome }]).await.unwrap();
        assert_eq!(settled.len(), 1);
        settled[0]
    }

    pub(crate) async fn status(&self, id: ReceiptId) -> ReceiptStatus {
        self.0.receipt(id).await.unwrap().unwrap()
    }

    pub(crate) async fn list(&self, query: ListQuery) -> Page {
        self.0.list(query).await.unwrap()
    }
}

/// The receipts of leases, in order.
pub(crate) fn receipts(leases: &Leases) -> Vec<ReceiptId> {
    leases.leased.iter().map(|leased| leased.record.receipt).collect()
}
