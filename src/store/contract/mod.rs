//! The test suite that every engine passes.
//!
//! An engine's tests implement [`Engine`] and write `store_contract!(NewEngine::new())`: one test per case of
//! its modules, and [`model`], which runs random operations against the engine and a simple model of it side by side.
//! Nothing here sleeps: time is what the calls say it is, and what an engine does by itself as time goes by it does here
//! when [`Engine::sweep`] says what time it is. The catalog has a suite of its own, [`catalog`].

pub(crate) mod cases;
pub(crate) mod catalog;
pub(crate) mod dead_letters;
pub(crate) mod forgetting;
pub(crate) mod lifecycle;
pub(crate) mod model;
pub(crate) mod redelivery;
pub(crate) mod subscriptions;
pub(crate) mod waiting;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{
    DeadLetters, Discarded, Entry, Handled, LaneId, LeaseRequest, Leased, Leases, ListQuery, MAX_HANDLED, Outcome,
    Page, Receipt, ReceiptStatus, RecordFilter, Redelivered, Redelivery, Settled, Settlement, Store, TraceContext,
};
use crate::config::settings::RetentionSettings;
use crate::domain::admission::Admitted;
use crate::domain::ids::{OrganizationId, ReceiptId};
use crate::domain::time::Timestamp;

/// How long an engine under test recognizes repeats.
pub(crate) const DUPLICATE_WINDOW: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long an engine under test keeps what.
pub(crate) const RETENTION: RetentionSettings = RetentionSettings {
    delivered: Duration::from_secs(40 * DAY),
    delivered_details: Duration::from_secs(35 * DAY),
    dead_letters: Duration::from_secs(50 * DAY),
    accepted: Some(Duration::from_secs(60 * DAY)),
    audit: Duration::from_secs(365 * DAY),
    trim_when_full: true,
};

/// A day in seconds.
pub(crate) const DAY: u64 = 24 * 60 * 60;

/// An engine with data of its own, empty at first, gone when this is dropped.
pub(crate) trait Engine {
    /// Whether a record that was never handed out is given up only after those before it in its lane. The order shows
    /// only where a clock went back.
    const GIVES_UP_IN_ORDER: bool = true;

    /// How many random runs it is compared with the model in: fewer where making one takes long.
    const CASES: u32 = 48;

    /// Opens the store on that data, with [`DUPLICATE_WINDOW`] and [`RETENTION`]. It is called again only after the
    /// earlier one closed.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;

    /// Has the open store do all that time has brought about by now; without this call it does nothing by itself.
    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Swept>;
}

/// How many records a sweep did something to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) closed: u64,
    pub(crate) given_up: u64,
    pub(crate) trimmed: u64,
    pub(crate) deleted: u64,
}

/// One test per case, each with an engine of its own; none where the expression gives none.
macro_rules! store_contract {
    ($make:expr) => {
        $crate::store::contract::store_contract!(@of cases, $make;
            an_appended_record_is_found_whole,
            a_repeat_gets_the_first_receipt,
            repeats_at_one_moment_make_one_record,
            the_same_record_elsewhere_is_another_record,
            a_repeat_after_the_window_is_a_new_record,
            a_clock_that_went_back_still_knows_repeats,
            no_receipt_leads_nowhere,
            pages_go_from_new_to_old,
            lists_are_filtered,
            arrivals_are_told_in_order_whatever_became_of_them,
            figures_follow_every_step,
            the_oldest_pending_record_is_known_at_every_step,
            a_closed_store_takes_nothing,
        );
        $crate::store::contract::store_contract!(@of lifecycle, $make;
            leases_go_by_arrival_over_all_lanes_of_a_group,
            an_earlier_group_is_emptied_first,
            a_leased_record_is_not_handed_out_again,
            a_lease_that_ran_out_is_offered_again_and_its_token_refused,
            a_lease_that_ran_out_cannot_be_settled_even_unclaimed,
            delivered_is_the_end,
            answers_stand_in_the_order_of_the_settlements,
            a_retry_waits_until_it_is_due_and_keeps_its_reason,
            a_released_record_is_due_at_once_and_was_not_tried,
            everything_survives_a_restart,
            repeats_are_known_after_a_restart,
        );
        $crate::store::contract::store_contract!(@of waiting, $make;
            a_waiting_record_is_not_offered_and_says_when_it_closes,
            a_revived_record_is_offered_again_with_its_attempts,
            what_has_waited_long_enough_is_closed_for_good,
            waiting_survives_a_restart,
            only_what_waits_is_closed,
        );
        $crate::store::contract::store_contract!(@of dead_letters, $make;
            a_dead_letter_can_be_requeued,
            requeueing_all_stays_within_the_organization,
            dead_letters_are_handled_in_pages,
            dead_letters_are_found_by_what_they_are_like,
            a_discarded_dead_letter_stays_and_is_none_any_more,
        );
        $crate::store::contract::store_contract!(@of redelivery, $make;
            delivered_records_of_a_range_are_pending_again,
            redelivery_goes_on_where_it_was_cut_short,
            a_dry_run_says_the_same_and_changes_nothing,
            what_is_far_behind_is_found_in_several_calls,
            what_lost_its_details_is_counted_and_named,
            only_delivered_records_are_delivered_again,
            what_was_delivered_again_is_kept_from_then_on,
            retention_beside_redelivery_takes_no_details_of_what_is_pending,
        );
        $crate::store::contract::store_contract!(@of forgetting, $make;
            delivered_records_are_trimmed_and_then_deleted,
            a_repeat_finds_its_trimmed_first,
            dead_letters_are_deleted_in_their_time,
            discarding_late_gives_a_dead_letter_no_more_time,
            what_is_pending_or_waits_is_never_deleted,
            what_is_pending_for_too_long_becomes_a_dead_letter,
            the_newest_record_stays,
            records_delivered_out_of_order_are_all_forgotten,
            a_clock_that_went_back_by_years_finds_no_deleted_first,
        );

        #[test]
        fn random_operations_agree_with_the_model() {
            if $make.is_some() {
                $crate::store::contract::model::agrees(|| $make.expect("an engine, as before"));
            }
        }
    };
    (@of $module:ident, $make:expr; $($case:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $case() {
            if let Some(engine) = $make {
                $crate::store::contract::$module::$case(&engine).await;
            }
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

    /// Leases the oldest due record of all lanes, and settles it at the same moment.
    pub(crate) async fn settle_next(&self, now: Timestamp, outcome: Outcome) -> ReceiptId {
        let leased = self.lease(now, 1).await.leased.remove(0);
        assert_eq!(self.settle(&leased, now, outcome).await, Settled::Done);
        leased.record.receipt
    }

    pub(crate) async fn requeue(&self, which: DeadLetters) -> Handled {
        self.0.requeue(which).await.unwrap()
    }

    pub(crate) async fn redeliver(&self, which: Redelivery) -> Redelivered {
        self.0.redeliver(which).await.unwrap()
    }

    /// Everything that was delivered from one moment up to another, in every lane.
    pub(crate) fn delivered(&self, since: Timestamp, until: Timestamp) -> Redelivery {
        Redelivery { lanes: self.all_lanes(), since, until, after: None, limit: MAX_HANDLED, dry_run: false }
    }

    pub(crate) async fn discard(&self, which: DeadLetters, at: Timestamp) -> Handled {
        self.0.discard(which, discarding(at)).await.unwrap()
    }

    pub(crate) async fn list(&self, query: ListQuery) -> Page {
        self.0.list(query).await.unwrap()
    }
}

/// How tests discard.
pub(crate) fn discarding(at: Timestamp) -> Discarded {
    Discarded { at, by: "Ada".to_owned(), reason: "a test record".to_owned() }
}

/// An outcome that gives up.
pub(crate) fn dead(reason: &str) -> Outcome {
    Outcome::DeadLettered { reason: reason.to_owned() }
}

/// Every dead letter of an organization (`None`: of all), as many as one call takes.
pub(crate) fn all_of(organization: Option<OrganizationId>) -> DeadLetters {
    let filter = RecordFilter { organization, ..RecordFilter::default() };
    DeadLetters::Matching { filter, after: None, limit: MAX_HANDLED }
}

/// The moment so many days after the tests begin.
pub(crate) fn day(days: u64) -> Timestamp {
    at(0).after(Duration::from_secs(days * DAY))
}

/// The receipts of leases, in order.
pub(crate) fn receipts(leases: &Leases) -> Vec<ReceiptId> {
    leases.leased.iter().map(|leased| leased.record.receipt).collect()
}
