//! Dead letters: found by what they are like, requeued, discarded.

use super::{Bench, Engine, all_of, at, dead, discarding};
use crate::domain::fixtures::{self, admitted, admitted_in};
use crate::domain::ids::{LogicalName, QueueName, ReceiptId};
use crate::store::{DeadLetters, DeliveryState, Details, Handled, ListQuery, Outcome, RecordFilter, Repeat, Settled};

pub(crate) async fn a_dead_letter_can_be_requeued(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    assert_eq!(bench.requeue(DeadLetters::One(id)).await.count, 0, "it is no dead letter");
    let leased = bench.lease(at(1), 5).await.leased.remove(0);
    assert_eq!(bench.settle(&leased, at(2), dead("400 from the consumer")).await, Settled::Done);
    let status = bench.status(id).await;
    assert_eq!((status.state, status.attempts), (DeliveryState::DeadLettered, 1));
    assert_eq!(status.last_error.as_deref(), Some("400 from the consumer"));
    assert_eq!((status.next_attempt_at, status.settled_at), (None, Some(at(2))));
    assert!(bench.lease(at(1_000), 5).await.leased.is_empty());

    assert_eq!(bench.requeue(DeadLetters::One(id)).await.count, 1);
    assert_eq!(bench.requeue(DeadLetters::One(id)).await.count, 0);
    let status = bench.status(id).await;
    assert_eq!((status.state, status.attempts), (DeliveryState::Accepted, 0));
    let again = bench.lease(at(3), 5).await.leased.remove(0);
    assert_eq!((again.record.receipt, again.attempt), (id, 1));
    assert_eq!(bench.settle(&leased, at(4), Outcome::Delivered).await, Settled::LeaseLost);
}

pub(crate) async fn requeueing_all_stays_within_the_organization(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    for record in 1..=6 {
        bench.append(admitted_in(1 + record % 2, 1, record)).await;
    }
    for leased in &bench.lease(at(1), 6).await.leased {
        bench.settle(leased, at(2), dead("no")).await;
    }
    assert_eq!(bench.requeue(all_of(Some(fixtures::organization_id(2)))).await.count, 3);
    assert_eq!(bench.0.stats().dead_lettered, 3);
    let leased = bench.lease(at(3), 10).await.leased;
    assert!(leased.iter().all(|leased| leased.record.organization == fixtures::organization_id(2)));
    assert_eq!(leased.len(), 3);
    assert_eq!(bench.requeue(all_of(Some(fixtures::organization_id(9)))).await.count, 0);
    assert_eq!(bench.requeue(all_of(None)).await.count, 3);
    assert_eq!(bench.lease(at(3), 10).await.leased.len(), 3);
}

pub(crate) async fn dead_letters_are_handled_in_pages(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for record in 1..=7 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    for leased in &bench.lease(at(1), 7).await.leased {
        bench.settle(leased, at(2), dead("no")).await;
    }
    let page = |after, limit| DeadLetters::Matching { filter: RecordFilter::default(), after, limit };
    let first = bench.requeue(page(None, 2)).await;
    assert_eq!(first.count, 2);
    assert_eq!(bench.0.stats().dead_lettered, 5, "what is left is told");
    let second = bench.discard(page(first.next, 3), at(3)).await;
    assert_eq!(second.count, 3);
    let third = bench.requeue(page(second.next, 1_000_000)).await;
    assert_eq!(third, Handled { count: 2, next: None });
    assert_eq!(bench.requeue(page(None, 0)).await, Handled::default());
    // Oldest first, and each once.
    let leased = bench.lease(at(4), 10).await;
    assert_eq!(super::receipts(&leased), [ids[0], ids[1], ids[5], ids[6]]);
    assert!(bench.status(ids[3]).await.discarded.is_some());
}

pub(crate) async fn dead_letters_are_found_by_what_they_are_like(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let mut ids = Vec::new();
    for (organization, work_stream, record) in [(1, 1, 1), (1, 2, 2), (2, 1, 3), (2, 2, 4)] {
        let accepted_at = at(10 * i64::from(record));
        ids.push(bench.append_at(admitted_in(organization, work_stream, record), accepted_at).await.id());
    }
    for (leased, reason) in bench.lease(at(100), 4).await.leased.iter().zip(["400", "Redirected", "413", "redirect"]) {
        bench.settle(leased, at(101), dead(reason)).await;
    }
    let any = RecordFilter::default;
    let name = |name: &str| LogicalName::parse(name).ok();
    let (queue, other) = (QueueName::parse("Default").ok(), QueueName::parse("other").ok());
    let cases: [(RecordFilter, &[usize]); 12] = [
        (any(), &[3, 2, 1, 0]),
        (RecordFilter { organization: Some(fixtures::organization_id(2)), ..any() }, &[3, 2]),
        (RecordFilter { work_stream: Some(fixtures::work_stream_id(1, 2)), ..any() }, &[1]),
        (RecordFilter { queue, ..any() }, &[3, 2, 1, 0]),
        (RecordFilter { queue: other, ..any() }, &[]),
        (RecordFilter { entity_logical_name: name("incident"), ..any() }, &[3, 2, 1, 0]),
        (RecordFilter { entity_logical_name: name("account"), ..any() }, &[]),
        (RecordFilter { reason_contains: Some("REDIRECT".to_owned()), ..any() }, &[3, 1]),
        (RecordFilter { reason_contains: Some(String::new()), ..any() }, &[3, 2, 1, 0]),
        (RecordFilter { accepted_since: Some(at(20)), ..any() }, &[3, 2, 1]),
        (RecordFilter { accepted_until: Some(at(30)), ..any() }, &[1, 0]),
        (RecordFilter { accepted_since: Some(at(20)), reason_contains: Some("4".to_owned()), ..any() }, &[2]),
    ];
    for (filter, expected) in &cases {
        let expected: Vec<ReceiptId> = expected.iter().map(|at| ids[*at]).collect();
        let query = ListQuery {
            filter: filter.clone(),
            state: Some(DeliveryState::DeadLettered),
            limit: 9,
            ..Default::default()
        };
        let listed = |page: crate::store::Page| -> Vec<ReceiptId> {
            page.records.into_iter().map(|status| status.summary.receipt).collect()
        };
        assert_eq!(listed(bench.list(query.clone()).await), expected, "{filter:?}");
        if filter.reason_contains.is_some() {
            let by_reason = ListQuery { state: None, ..query };
            let expected = if filter.reason_contains.as_deref() == Some("") { &ids } else { &expected };
            assert_eq!(listed(bench.list(by_reason).await).len(), expected.len(), "a reason is one of dead letters");
        }
        // The same ones are requeued, and given up again for the next case.
        let which = DeadLetters::Matching { filter: filter.clone(), after: None, limit: 10 };
        assert_eq!(bench.requeue(which).await.count, expected.len() as u64, "{filter:?}");
        for leased in bench.lease(at(200), 4).await.leased {
            let reason = bench.status(leased.record.receipt).await.last_error.unwrap();
            assert!(expected.contains(&leased.record.receipt));
            bench.settle(&leased, at(101), dead(&reason)).await;
        }
    }
}

pub(crate) async fn a_discarded_dead_letter_stays_and_is_none_any_more(engine: &impl Engine) {
    let bench = Bench::open(engine).await;
    let id = bench.append(admitted(1)).await.id();
    let other = bench.append(admitted(2)).await.id();
    assert_eq!(bench.discard(DeadLetters::One(id), at(1)).await.count, 0, "it is no dead letter");
    bench.settle_next(at(1), dead("400 from the consumer")).await;
    bench.settle_next(at(1), dead("another")).await;
    let before = bench.status(id).await;
    assert_eq!(bench.discard(DeadLetters::One(id), at(3)).await, Handled { count: 1, next: None });
    assert_eq!(bench.discard(DeadLetters::One(id), at(4)).await.count, 0);
    assert_eq!(bench.0.stats().dead_lettered, 1);
    assert_eq!(bench.requeue(DeadLetters::One(id)).await.count, 0);

    let bench = bench.reopen(engine).await;
    let status = bench.status(id).await;
    assert_eq!(status.discarded, Some(discarding(at(3))));
    assert_eq!(crate::store::ReceiptStatus { discarded: None, ..status }, before);
    assert_eq!(bench.0.stats().dead_lettered, 1);
    let record = bench.0.record(id).await.unwrap().unwrap();
    assert!(matches!(record.details, Details::Trimmed { .. }), "{record:?}");
    let repeat = bench.append(admitted(1)).await;
    assert_eq!((repeat.id(), repeat.repeat()), (id, Some(Repeat { details_differ: false })));
    let list =
        |discarded| ListQuery { state: Some(DeliveryState::DeadLettered), discarded, limit: 9, ..ListQuery::default() };
    for (query, expected) in [(list(false), other), (list(true), id)] {
        let page = bench.list(query).await;
        assert_eq!(page.records.iter().map(|status| status.summary.receipt).collect::<Vec<_>>(), [expected]);
    }
    assert_eq!(bench.requeue(all_of(None)).await.count, 1, "the other one");
    assert_eq!(bench.discard(all_of(None), at(5)).await.count, 0);
}
