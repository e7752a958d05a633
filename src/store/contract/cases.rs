//! Appending, finding, listing, counting.

use futures_util::future::join_all;

use super::{Bench, DUPLICATE_WINDOW, Engine, all_of, at, entry};
use crate::domain::fixtures::{self, admitted, admitted_in, admitted_with};
use crate::domain::ids::ReceiptId;
use crate::domain::record::RecordDetails;
use crate::domain::time::Timestamp;
use crate::store::{
    DeadLetters, DeliveryState, Entry, LeaseRequest, ListQuery, Outcome, RecordFilter, Repeat, StoreError, TraceContext,
};

pub(crate) async fn an_appended_record_is_found_whole(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let details = "{\"incidentid\" :\t\"0d000000-0000-0000-0000-000000000001\",\"n\":98.60000000000001,\"n\":18446744073709551616,\"é\":\"\\u0000\u{202e}\"}";
    let admitted = admitted_with(1, 2, 1, details);
    let trace = TraceContext {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        client_tracking_id: Some("run-1".to_owned()),
    };
    let receipt =
        bench.0.append(Entry { admitted: admitted.clone(), accepted_at: at(5), trace: trace.clone() }).await.unwrap();
    assert_eq!(receipt.repeat(), None);

    let record = bench.0.record(receipt.id()).await.unwrap().unwrap();
    let event = admitted.event();
    assert_eq!(record.receipt, receipt.id());
    assert_eq!(record.organization, event.organization);
    assert_eq!(record.work_stream, event.work_stream);
    assert_eq!(record.entity_logical_name, event.entity_logical_name);
    assert_eq!(record.entity_set_name, event.entity_set_name);
    assert_eq!(record.record_id, event.record_id);
    assert_eq!(record.relationship_name, event.relationship_name);
    assert_eq!(record.details.kept().and_then(RecordDetails::as_text), Some(details));
    assert_eq!(record.route, *admitted.route());
    assert_eq!(record.catalog_generation, fixtures::GENERATION);
    assert_eq!(record.accepted_at, at(5));
    assert_eq!(record.trace, trace);

    let status = bench.status(receipt.id()).await;
    assert_eq!(status.state, DeliveryState::Accepted);
    assert_eq!((status.attempts, status.last_error, status.settled_at), (0, None, None));
    assert_eq!(status.next_attempt_at, Some(at(5)));
    assert_eq!(status.summary.record_id, event.record_id);
    assert_eq!(status.summary.trace, trace);
}

pub(crate) async fn a_repeat_gets_the_first_receipt(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let first = bench.append(admitted(1)).await;
    let same = bench.append_at(admitted(1), at(60)).await;
    assert_eq!((same.id(), same.lane()), (first.id(), first.lane()));
    assert_eq!(same.repeat(), Some(Repeat { details_differ: false }));
    let other = bench.append_at(admitted_with(1, 1, 1, r#"{"title":"changed"}"#), at(61)).await;
    assert_eq!(other.id(), first.id());
    assert_eq!(other.repeat(), Some(Repeat { details_differ: true }));

    let record = bench.0.record(first.id()).await.unwrap().unwrap();
    let kept = record.details.kept().and_then(RecordDetails::as_text);
    assert_eq!(kept, Some(fixtures::details(1).as_str()), "the first details count");
    assert_eq!(bench.0.stats().high_water_mark, 1);
    assert_eq!(bench.lease(at(62), 10).await.leased.len(), 1);
}

pub(crate) async fn repeats_at_one_moment_make_one_record(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let appends = (0..60).map(|n| bench.0.append(entry(admitted(1 + n % 3))));
    let receipts: Vec<_> = join_all(appends).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(receipts.iter().filter(|receipt| receipt.repeat().is_none()).count(), 3);
    for (n, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.id(), receipts[n % 3].id());
    }
    assert_eq!(bench.0.stats().pending, 3);
}

pub(crate) async fn the_same_record_elsewhere_is_another_record(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for (organization, work_stream) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let receipt = bench.append(admitted_in(organization, work_stream, 1)).await;
        assert_eq!(receipt.repeat(), None, "organization {organization}, work stream {work_stream}");
        assert!(!ids.contains(&receipt.id()));
        ids.push(receipt.id());
    }
    assert_eq!(bench.0.lanes().len(), 4);
}

pub(crate) async fn a_repeat_after_the_window_is_a_new_record(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let first = bench.append(admitted(1)).await;
    let last_moment = Timestamp::from_millis(at(0).after(DUPLICATE_WINDOW).millis() - 1000);
    assert_eq!(bench.append_at(admitted(1), last_moment).await.id(), first.id());
    let later = at(1).after(DUPLICATE_WINDOW);
    let second = bench.append_at(admitted(1), later).await;
    assert_eq!(second.repeat(), None);
    assert_ne!(second.id(), first.id());
    // The key stands for the new record from now on.
    assert_eq!(bench.append_at(admitted(1), later).await.id(), second.id());
    let bench = bench.reopen(engine).await;
    assert_eq!(bench.append_at(admitted(1), later).await.id(), second.id());
    assert_eq!(bench.0.stats().pending, 2);
}

pub(crate) async fn a_clock_that_went_back_still_knows_repeats(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let first = bench.append(admitted(1)).await;
    assert_eq!(bench.append_at(admitted(1), Timestamp::from_millis(0)).await.id(), first.id());
    // What arrives at an earlier moment than what is asked for is still due.
    let early = bench.append_at(admitted(2), at(3_600)).await;
    let leased = bench.lease(at(10), 10).await;
    assert_eq!(super::receipts(&leased), [first.id(), early.id()]);
}

pub(crate) async fn no_receipt_leads_nowhere(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let receipt = bench.append(admitted(1)).await;
    for bit in (0..24 * 8).step_by(5) {
        let mut bytes = *receipt.id().as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let forged = ReceiptId::from_bytes(bytes);
        assert_eq!(bench.0.receipt(forged).await.unwrap(), None, "bit {bit}");
        assert_eq!(bench.0.record(forged).await.unwrap(), None, "bit {bit}");
        assert_eq!(bench.requeue(DeadLetters::One(forged)).await.count, 0);
        assert_eq!(bench.discard(DeadLetters::One(forged), at(0)).await.count, 0);
        assert!(!bench.0.revive(forged, at(0)).await.unwrap());
    }
}

pub(crate) async fn pages_go_from_new_to_old(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    assert_eq!(bench.list(ListQuery { limit: 3, ..ListQuery::default() }).await.records, []);
    let mut expected = Vec::new();
    for record in 1..=7 {
        expected.insert(0, bench.append(admitted_in(1 + record % 2, 1, record)).await.id());
    }
    let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bench.list(ListQuery { before, limit: 3, ..ListQuery::default() }).await;
        assert!(page.records.len() <= 3);
        seen.extend(page.records.iter().map(|status| status.summary.receipt));
        pages += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
        assert!(pages < 10, "it never ends");
    }
    assert_eq!(seen, expected);
    assert_eq!(bench.list(ListQuery { limit: 0, ..ListQuery::default() }).await.records, []);
}

pub(crate) async fn lists_are_filtered(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = std::collections::HashMap::new();
    for (organization, work_stream) in [(1, 1), (1, 2), (2, 1)] {
        for record in 1..=4 {
            let receipt = bench.append(admitted_in(organization, work_stream, record)).await;
            ids.insert((organization, work_stream, record), receipt.id());
        }
    }
    // In each lane: record 1 delivered, record 2 given up, record 3 on lease, record 4 waiting.
    for lane in bench.all_lanes() {
        let leases = bench.lease_from(vec![vec![lane]], at(1), 3).await;
        bench.settle(&leases.leased[0], at(2), Outcome::Delivered).await;
        bench.settle(&leases.leased[1], at(2), Outcome::DeadLettered { reason: "no".to_owned() }).await;
    }
    let organization = Some(fixtures::organization_id(1));
    let work_stream = Some(fixtures::work_stream_id(1, 2));
    let states = [
        (DeliveryState::Delivered, 1),
        (DeliveryState::DeadLettered, 2),
        (DeliveryState::Delivering, 3),
        (DeliveryState::Accepted, 4),
    ];
    for (state, record) in states {
        let query = ListQuery { state: Some(state), limit: 100, ..ListQuery::default() };
        let listed = async |query: ListQuery| -> Vec<ReceiptId> {
            let page = bench.list(query).await;
            assert!(page.records.iter().all(|status| status.state == state), "{state:?}");
            page.records.into_iter().map(|status| status.summary.receipt).collect()
        };
        assert_eq!(listed(query.clone()).await, [ids[&(2, 1, record)], ids[&(1, 2, record)], ids[&(1, 1, record)]]);
        let in_organization = RecordFilter { organization, ..RecordFilter::default() };
        let filtered = |filter: RecordFilter| listed(ListQuery { filter, ..query.clone() });
        assert_eq!(filtered(in_organization.clone()).await, [ids[&(1, 2, record)], ids[&(1, 1, record)]]);
        assert_eq!(filtered(RecordFilter { work_stream, ..in_organization }).await, [ids[&(1, 2, record)]]);
        // A page of one, and the page behind it.
        let page = bench.list(ListQuery { limit: 1, ..query.clone() }).await;
        assert_eq!(page.records[0].summary.receipt, ids[&(2, 1, record)]);
        let page = bench.list(ListQuery { limit: 1, before: page.next, ..query.clone() }).await;
        assert_eq!(page.records[0].summary.receipt, ids[&(1, 2, record)]);
        let organization = Some(fixtures::organization_id(9));
        assert_eq!(filtered(RecordFilter { organization, ..RecordFilter::default() }).await, []);
    }
    let filter = RecordFilter { organization, ..RecordFilter::default() };
    let all = bench.list(ListQuery { filter, limit: 100, ..ListQuery::default() }).await;
    assert_eq!(all.records.len(), 8);
}

pub(crate) async fn arrivals_are_told_in_order_whatever_became_of_them(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for (organization, record) in [(1, 1), (2, 2), (1, 3), (1, 4)] {
        ids.push(bench.append(admitted_in(organization, 1, record)).await.id());
    }
    bench.settle_next(at(1), Outcome::Delivered).await;
    bench.append(admitted_in(1, 1, 1)).await;
    let bench = bench.reopen(engine).await;
    let since = async |number, limit| {
        let arrivals = bench.0.since(number, limit).await.unwrap();
        arrivals.into_iter().map(|arrival| (arrival.number, arrival.receipt)).collect::<Vec<_>>()
    };
    assert_eq!(since(0, 10).await, (1..).zip(ids.iter().copied()).collect::<Vec<_>>(), "a repeat is no arrival");
    assert_eq!(since(1, 2).await, [(2, ids[1]), (3, ids[2])]);
    assert_eq!(since(4, 10).await, []);
    assert_eq!(since(u64::MAX, 10).await, []);
    let lanes: Vec<_> = bench.0.since(0, 10).await.unwrap().into_iter().map(|arrival| arrival.lane).collect();
    assert_eq!((&lanes[0], &lanes[0].organization), (&lanes[2], &fixtures::organization_id(1)));
    assert_ne!(lanes[0], lanes[1]);
}

pub(crate) async fn figures_follow_every_step(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let figures = || {
        let stats = bench.0.stats();
        (stats.pending, stats.dead_lettered, stats.high_water_mark)
    };
    assert_eq!((figures(), bench.0.lanes().len()), ((0, 0, 0), 0));
    let lane = bench.append(admitted(1)).await.lane();
    bench.append(admitted(2)).await;
    bench.append(admitted_in(2, 1, 3)).await;
    assert_eq!(figures(), (3, 0, 3));
    let of_lane = || bench.0.lanes().into_iter().find(|backlog| backlog.id == lane).unwrap();
    assert_eq!(of_lane().pending, 2);
    assert_eq!(of_lane().lane.organization, fixtures::organization_id(1));
    assert_eq!(of_lane().lane.work_stream, fixtures::work_stream_id(1, 1));
    assert_eq!(of_lane().lane.queue.as_str(), "Default");

    let leases = bench.lease_from(vec![vec![lane]], at(1), 2).await;
    assert_eq!(figures(), (3, 0, 3), "a lease settles nothing");
    bench.settle(&leases.leased[0], at(2), Outcome::DeadLettered { reason: "no".to_owned() }).await;
    assert_eq!((figures(), of_lane().pending), ((2, 1, 3), 1));
    bench.settle(&leases.leased[1], at(2), Outcome::Delivered).await;
    assert_eq!((figures(), of_lane().pending), ((1, 1, 3), 0));
    assert_eq!(bench.requeue(all_of(None)).await.count, 1);
    assert_eq!((figures(), of_lane().pending), ((2, 0, 3), 1));
    assert_eq!(bench.0.stats().refusing, None);
}

pub(crate) async fn the_oldest_pending_record_is_known_at_every_step(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let oldest = async |bench: &Bench| -> Vec<i64> {
        let mut found = bench.0.oldest_pending().await.unwrap();
        found.sort_by_key(|one| one.lane);
        found.iter().map(|one| one.accepted_at.since(at(0)).as_secs().cast_signed()).collect()
    };
    assert_eq!(oldest(&bench).await, Vec::<i64>::new());
    // More than are listed in one chunk, in the first lane; one in another.
    for record in 1..=100 {
        bench.append_at(admitted(record), at(record.into())).await;
    }
    bench.append_at(admitted_in(2, 1, 1), at(500)).await;
    assert_eq!(oldest(&bench).await, [1, 500]);
    let lane = bench.all_lanes()[0];
    let leases = bench.lease_from(vec![vec![lane]], at(600), 3).await;
    assert_eq!(oldest(&bench).await, [1, 500], "what is on lease is not delivered");
    let retry = Outcome::Retry { due: at(10_000), error: "busy".to_owned() };
    bench.settle(&leases.leased[0], at(601), retry).await;
    bench.settle(&leases.leased[1], at(601), Outcome::Delivered).await;
    bench.settle(&leases.leased[2], at(601), Outcome::Delivered).await;
    assert_eq!(oldest(&bench).await, [1, 500], "what waits for its next try is not delivered");
    let bench = bench.reopen(engine).await;
    assert_eq!(oldest(&bench).await, [1, 500]);
    let all = bench.lease_from(vec![vec![lane]], at(10_000), 50).await;
    for leased in &all.leased {
        bench.settle(leased, at(10_001), Outcome::Delivered).await;
    }
    assert_eq!(oldest(&bench).await, [53, 500], "the rest was never handed out");
    let bench = bench.reopen(engine).await;
    assert_eq!(oldest(&bench).await, [53, 500]);
    let rest = bench.lease(at(10_002), 100).await;
    for leased in &rest.leased {
        bench.settle(leased, at(10_003), Outcome::DeadLettered { reason: "no".to_owned() }).await;
    }
    assert_eq!(oldest(&bench).await, Vec::<i64>::new());
    bench.requeue(all_of(None)).await;
    assert_eq!(oldest(&bench).await, [53, 500], "a requeued dead letter is as old as it is");
}

pub(crate) async fn a_closed_store_takes_nothing(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    bench.0.close().await;
    bench.0.close().await;
    let request = LeaseRequest { groups: Vec::new(), max: 1, now: at(0), duration: DUPLICATE_WINDOW };
    assert!(matches!(bench.0.append(entry(admitted(2))).await, Err(StoreError::Unavailable)));
    assert!(matches!(bench.0.lease(request).await, Err(StoreError::Unavailable)));
    assert!(matches!(bench.0.settle(Vec::new()).await, Err(StoreError::Unavailable)));
    assert!(matches!(bench.0.receipt(id).await, Err(StoreError::Unavailable)));
    assert!(matches!(bench.0.requeue(DeadLetters::One(id)).await, Err(StoreError::Unavailable)));
}
