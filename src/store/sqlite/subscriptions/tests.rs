//! Subscriptions on disk: what was put down is told once it is due, survives, and is forgotten in its time.

use super::*;
use crate::config::settings::WebhookSecret;
use crate::domain::ids::{Guid, OrganizationId, QueueName, ReceiptId};
use crate::store::Lane;
use crate::store::subscriptions::{Callback, Notice, Wish};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000)
}

fn organization(number: u8) -> OrganizationId {
    Guid::from_bytes([number; 16]).into()
}

fn subscription(number: u8, after: u64) -> Subscription {
    Subscription {
        id: SubscriptionId::from_bytes([number; 24]),
        wish: Wish {
            organization: organization(1),
            queue: Some(QueueName::parse("Escalations").unwrap()),
            work_stream: None,
            callback: Callback::new(format!("https://example.com/{number}?sig=s3cret")),
        },
        secret: WebhookSecret::random().unwrap(),
        created_at: at(0),
        created_by: "flows".into(),
        after,
        ended: None,
    }
}

fn receipt(number: u64) -> ReceiptId {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    ReceiptId::from_bytes(bytes)
}

fn notice(subscription: u8, number: u64) -> NewNotice {
    NewNotice {
        subscription: SubscriptionId::from_bytes([subscription; 24]),
        number,
        receipt: receipt(number),
        at: at(1),
    }
}

fn tried(subscription: u8, number: u64, end: TriedEnd) -> Tried {
    Tried { subscription: SubscriptionId::from_bytes([subscription; 24]), number, end }
}

fn numbers(due: &Due) -> Vec<u64> {
    due.notices.iter().map(|notice| notice.number).collect()
}

fn id(number: u8) -> SubscriptionId {
    SubscriptionId::from_bytes([number; 24])
}

#[test]
fn what_was_put_down_is_there_after_a_restart_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    let (one, two) = (subscription(1, 7), subscription(2, 9));
    store.add(&one).unwrap();
    assert_eq!(store.position().unwrap(), 7, "what arrived before the first subscriber is nobody's");
    store.add(&two).unwrap();
    assert_eq!(store.position().unwrap(), 7, "the first one has not been told of 8 and 9");
    store.put_down(10, &[notice(1, 8), notice(1, 10), notice(2, 10)]).unwrap();
    drop(store);

    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    assert_eq!(store.load().unwrap(), [one, two]);
    assert_eq!(store.position().unwrap(), 10);
    store.put_down(10, &[notice(1, 10)]).unwrap();
    let due = store.due(&id(1), at(1), 10).unwrap();
    assert_eq!(due.notices[0], Notice { number: 8, receipt: receipt(8), attempts: 0, at: at(1) });
    assert_eq!((numbers(&due), due.next), (vec![8, 10], None));
    assert_eq!(numbers(&store.due(&id(1), at(1), 1).unwrap()), [8]);
    assert_eq!(store.oldest_pending().unwrap(), Some(8));
}

#[test]
fn tries_end_as_told_later_or_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    store.add(&subscription(1, 0)).unwrap();
    store.put_down(3, &[notice(1, 1), notice(1, 2), notice(1, 3)]).unwrap();
    let later = TriedEnd::Later { due: at(60), error: "busy".to_owned() };
    let given_up = TriedEnd::GivenUp { at: at(2), reason: "gone".to_owned() };
    let told = TriedEnd::Told { at: at(2) };
    store.conclude(&[tried(1, 1, told.clone()), tried(1, 2, later), tried(1, 3, given_up)]).unwrap();
    // What is not pending any more is left alone.
    store.conclude(&[tried(1, 1, told.clone()), tried(1, 3, told.clone()), tried(9, 1, told)]).unwrap();

    let due = store.due(&id(1), at(59), 10).unwrap();
    assert_eq!((numbers(&due), due.next), (vec![], Some(at(60))));
    let due = store.due(&id(1), at(60), 10).unwrap();
    assert_eq!((due.notices[0].number, due.notices[0].attempts), (2, 1));
    let (_, standing) = store.standings().unwrap().remove(0);
    let expected = Standing {
        pending: 1,
        delivered: 1,
        dead_lettered: 1,
        last_delivered_at: Some(at(2)),
        last_error: Some("gone".to_owned()),
    };
    assert_eq!(standing, expected);
    let dead = store.dead_letters(&id(1), None, 10).unwrap();
    assert_eq!((dead.len(), dead[0].number, dead[0].reason.as_str(), dead[0].attempts), (1, 3, "gone", 1));
    assert_eq!(store.dead_letters(&id(1), Some(3), 10).unwrap(), []);

    assert_eq!(store.requeue(&id(1), at(70)).unwrap(), 1);
    assert_eq!(numbers(&store.due(&id(1), at(70), 10).unwrap()), [3, 2]);
    assert_eq!(store.due(&id(1), at(70), 10).unwrap().notices[0].attempts, 0);
    assert_eq!(store.discard(&id(1)).unwrap(), 0);
}

#[test]
fn an_ended_subscription_is_told_nothing_and_is_forgotten_in_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    store.add(&subscription(1, 0)).unwrap();
    store.put_down(2, &[notice(1, 1), notice(1, 2)]).unwrap();
    store.conclude(&[tried(1, 1, TriedEnd::GivenUp { at: at(5), reason: "no".to_owned() })]).unwrap();
    let ended = Ended { at: at(10), because: "unsubscribed".to_owned() };
    assert_eq!(store.end(&id(1), &ended).unwrap(), 1);
    assert_eq!(store.end(&id(1), &Ended { at: at(11), because: "again".to_owned() }).unwrap(), 0);
    assert_eq!(store.load().unwrap()[0].ended, Some(ended), "the first end counts");
    store.put_down(3, &[notice(1, 3)]).unwrap();
    assert_eq!(store.oldest_pending().unwrap(), None);
    assert_eq!(store.requeue(&id(1), at(12)).unwrap(), 0, "nobody is there to be told");

    assert_eq!(store.forget(at(5), 10).unwrap(), 0);
    assert_eq!(store.forget(at(6), 10).unwrap(), 1);
    assert_eq!(store.load().unwrap().len(), 1);
    assert_eq!(store.forget(at(11), 10).unwrap(), 0);
    assert_eq!(store.load().unwrap(), []);
}

#[test]
fn records_that_were_taken_back_take_their_notices_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    store.add(&subscription(1, 0)).unwrap();
    store.add(&subscription(2, 8)).unwrap();
    store.put_down(9, &[notice(1, 4), notice(1, 8), notice(1, 9)]).unwrap();
    store.conclude(&[tried(1, 8, TriedEnd::GivenUp { at: at(2), reason: "no".to_owned() })]).unwrap();
    assert_eq!(store.rewind(5).unwrap(), 2, "dead letters too");
    assert_eq!(store.load().unwrap()[1].after, 5, "the numbers after it will be those of other records");
    assert_eq!(store.position().unwrap(), 5);
    assert_eq!(numbers(&store.due(&id(1), at(9), 10).unwrap()), [4]);
    // The same number, and another record: never taken for what is there.
    let other = NewNotice { receipt: receipt(99), ..notice(1, 4) };
    store.put_down(5, &[other]).unwrap();
    assert_eq!(store.due(&id(1), at(9), 10).unwrap().notices[0].receipt, receipt(99));
}

#[test]
fn closed_it_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    store.add(&subscription(1, 0)).unwrap();
    store.close().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for file in [SUBSCRIPTIONS, "subscriptions.mark"] {
        std::fs::copy(dir.path().join(file), elsewhere.path().join(file)).unwrap();
    }
    assert_eq!(SqliteSubscriptions::open(elsewhere.path(), 0).unwrap().load().unwrap().len(), 1);
}

#[test]
fn damage_is_named_and_a_full_disk_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSubscriptions::open(dir.path(), 0).unwrap();
    store.add(&subscription(1, 0)).unwrap();
    let sql = "update subscriptions set document = replace(document, 'flows', 'flaws')";
    store.0.read(|conn| conn.execute_batch(sql)).unwrap();
    let fault = store.load().unwrap_err().to_string();
    assert!(fault.contains("subscription 1 is not as it was written"), "{fault}");
    drop(store);

    let full = SqliteSubscriptions::open(dir.path(), u64::MAX).unwrap();
    assert!(matches!(full.add(&subscription(2, 0)), Err(StoreError::Full { .. })));
    assert!(matches!(full.put_down(1, &[notice(1, 1)]), Err(StoreError::Full { .. })));
    full.put_down(1, &[]).unwrap();
    drop(full);
    std::fs::remove_file(dir.path().join(SUBSCRIPTIONS)).unwrap();
    let missing = SqliteSubscriptions::open(dir.path(), 0).unwrap_err().to_string();
    assert!(missing.contains("subscriptions of flows"), "{missing}");
}

#[test]
fn a_wish_is_for_its_lanes() {
    let lane = |organization_number: u8, queue: &str| Lane {
        organization: organization(organization_number),
        work_stream: Guid::from_bytes([3; 16]).into(),
        queue: QueueName::parse(queue).unwrap(),
    };
    let wish = subscription(1, 0).wish;
    assert!(wish.is_for(&lane(1, "Escalations")));
    assert!(!wish.is_for(&lane(1, "Default queue")) && !wish.is_for(&lane(2, "Escalations")));
    assert!(Wish { queue: None, ..wish.clone() }.is_for(&lane(1, "Default queue")));
    assert!(!Wish { work_stream: Some(Guid::from_bytes([4; 16]).into()), ..wish }.is_for(&lane(1, "Escalations")));
}
