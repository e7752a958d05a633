//! What every store of subscriptions keeps: what was put down is told once it is due, survives, and is forgotten in its
//! time; and whoever goes by what is old changes nothing.

use std::sync::Arc;

use crate::config::settings::WebhookSecret;
use crate::domain::ids::{Guid, OrganizationId, QueueName, ReceiptId, SubscriptionId};
use crate::domain::time::Timestamp;
use crate::store::Lane;
use crate::store::subscriptions::{
    Callback, Due, Ended, Fenced, NewNotice, Notice, Role, Span, Standing, Subscription, SubscriptionStore, Tried,
    TriedEnd, Wish,
};

/// An engine, and where what it keeps is kept.
pub(crate) trait Engine {
    /// Opens it, again where it was open before.
    fn open(&self) -> Arc<dyn SubscriptionStore>;
}

/// Opens it, and takes the lead.
fn opened(engine: &dyn Engine) -> Arc<dyn SubscriptionStore> {
    let store = engine.open();
    assert_ne!(store.lead().unwrap(), Role::Standby);
    store
}

/// Adds by the latest list.
pub(crate) fn add(store: &dyn SubscriptionStore, subscription: &Subscription) -> Fenced {
    store.add(store.revision().unwrap(), subscription).unwrap()
}

/// From where it stands up to this record, by the latest list.
pub(crate) fn span(store: &dyn SubscriptionStore, through: u64) -> Span {
    Span { from: store.position().unwrap(), through, revision: store.revision().unwrap() }
}

/// A moment.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000)
}

fn organization(number: u8) -> OrganizationId {
    Guid::from_bytes([number; 16]).into()
}

/// A subscription.
pub(crate) fn subscription(number: u8, after: u64) -> Subscription {
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

/// A notice.
pub(crate) fn notice(subscription: u8, number: u64) -> NewNotice {
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

/// The records of what is due.
pub(crate) fn numbers(due: &Due) -> Vec<u64> {
    due.notices.iter().map(|notice| notice.number).collect()
}

/// The ID of a subscription.
pub(crate) fn id(number: u8) -> SubscriptionId {
    SubscriptionId::from_bytes([number; 24])
}

/// What was put down is there after a restart and only once.
pub(crate) fn what_was_put_down_is_there_after_a_restart_and_only_once(engine: &dyn Engine) {
    let store = opened(engine);
    let (one, two) = (subscription(1, 7), subscription(2, 9));
    assert_eq!(add(&*store, &one), Fenced::Done);
    assert_eq!(store.position().unwrap(), 7, "what arrived before the first subscriber is nobody's");
    assert_eq!(add(&*store, &two), Fenced::Done);
    assert_eq!(store.position().unwrap(), 7, "the first one has not been told of 8 and 9");
    assert_eq!(
        store.put_down(&span(&*store, 10), &[notice(1, 8), notice(1, 10), notice(2, 10)]).unwrap(),
        Fenced::Done
    );
    store.resign().unwrap();
    drop(store);

    let store = opened(engine);
    assert_eq!(store.load().unwrap().1, [one, two]);
    assert_eq!(store.position().unwrap(), 10);
    assert_eq!(store.put_down(&span(&*store, 10), &[notice(1, 10)]).unwrap(), Fenced::Done);
    let due = store.due(&id(1), at(1), 10).unwrap();
    assert_eq!(due.notices[0], Notice { number: 8, receipt: receipt(8), attempts: 0, at: at(1) });
    assert_eq!((numbers(&due), due.next), (vec![8, 10], None));
    assert_eq!(numbers(&store.due(&id(1), at(1), 1).unwrap()), [8]);
    assert_eq!(store.oldest_pending().unwrap(), Some(8));
}

/// Tries end as told later or given up.
pub(crate) fn tries_end_as_told_later_or_given_up(engine: &dyn Engine) {
    let store = opened(engine);
    assert_eq!(add(&*store, &subscription(1, 0)), Fenced::Done);
    assert_eq!(store.put_down(&span(&*store, 3), &[notice(1, 1), notice(1, 2), notice(1, 3)]).unwrap(), Fenced::Done);
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

/// An ended subscription is told nothing and is forgotten in its time.
pub(crate) fn an_ended_subscription_is_told_nothing_and_is_forgotten_in_its_time(engine: &dyn Engine) {
    let store = opened(engine);
    assert_eq!(add(&*store, &subscription(1, 0)), Fenced::Done);
    assert_eq!(store.put_down(&span(&*store, 2), &[notice(1, 1), notice(1, 2)]).unwrap(), Fenced::Done);
    store.conclude(&[tried(1, 1, TriedEnd::GivenUp { at: at(5), reason: "no".to_owned() })]).unwrap();
    let ended = Ended { at: at(10), because: "unsubscribed".to_owned() };
    assert_eq!(store.end(&id(1), &ended).unwrap(), 1);
    assert_eq!(store.end(&id(1), &Ended { at: at(11), because: "again".to_owned() }).unwrap(), 0);
    assert_eq!(store.load().unwrap().1[0].ended, Some(ended), "the first end counts");
    assert_eq!(store.put_down(&span(&*store, 3), &[notice(1, 3)]).unwrap(), Fenced::Done);
    assert_eq!(store.oldest_pending().unwrap(), None);
    assert_eq!(store.requeue(&id(1), at(12)).unwrap(), 0, "nobody is there to be told");

    assert_eq!(store.forget(at(5), 10).unwrap(), 0);
    assert_eq!(store.forget(at(6), 10).unwrap(), 1);
    assert_eq!(store.load().unwrap().1.len(), 1);
    assert_eq!(store.forget(at(11), 10).unwrap(), 0);
    assert_eq!(store.load().unwrap().1, []);
}

/// Records that were taken back take their notices with them.
pub(crate) fn records_that_were_taken_back_take_their_notices_with_them(engine: &dyn Engine) {
    let store = opened(engine);
    assert_eq!(add(&*store, &subscription(1, 0)), Fenced::Done);
    assert_eq!(add(&*store, &subscription(2, 8)), Fenced::Done);
    assert_eq!(store.put_down(&span(&*store, 9), &[notice(1, 4), notice(1, 8), notice(1, 9)]).unwrap(), Fenced::Done);
    store.conclude(&[tried(1, 8, TriedEnd::GivenUp { at: at(2), reason: "no".to_owned() })]).unwrap();
    assert_eq!(store.rewind(5).unwrap(), 2, "dead letters too");
    assert_eq!(store.load().unwrap().1[1].after, 5, "the numbers after it will be those of other records");
    assert_eq!(store.position().unwrap(), 5);
    assert_eq!(numbers(&store.due(&id(1), at(9), 10).unwrap()), [4]);
    // The same number, and another record: never taken for what is there.
    let other = NewNotice { receipt: receipt(99), ..notice(1, 4) };
    assert_eq!(store.put_down(&span(&*store, 5), &[other]).unwrap(), Fenced::Done);
    assert_eq!(store.due(&id(1), at(9), 10).unwrap().notices[0].receipt, receipt(99));
}

/// Whoever goes by an older list or position changes nothing.
pub(crate) fn what_is_old_is_fenced(engine: &dyn Engine) {
    let store = opened(engine);
    let (old, _) = store.load().unwrap();
    assert_eq!(add(&*store, &subscription(1, 0)), Fenced::Done);
    assert_eq!(store.add(old, &subscription(2, 0)).unwrap(), Fenced::Out);
    assert_eq!(store.load().unwrap().1.len(), 1);
    let now = store.revision().unwrap();
    assert!(now > old);
    let by_old_list = Span { from: 0, through: 2, revision: old };
    assert_eq!(store.put_down(&by_old_list, &[notice(1, 1)]).unwrap(), Fenced::Out);
    assert_eq!((store.position().unwrap(), store.oldest_pending().unwrap()), (0, None), "nothing has changed");
    let first = Span { from: 0, through: 2, revision: now };
    assert_eq!(store.put_down(&first, &[notice(1, 1)]).unwrap(), Fenced::Done);
    assert_eq!(store.put_down(&first, &[notice(1, 2)]).unwrap(), Fenced::Out, "it was put down already");
    assert_eq!(numbers(&store.due(&id(1), at(9), 10).unwrap()), [1]);
    store.end(&id(1), &Ended { at: at(1), because: "over".to_owned() }).unwrap();
    assert!(store.revision().unwrap() > now, "an end is a change");
}

/// Neither the address nor the secret of a subscriber is in what is printed for a log.
pub(crate) fn nothing_that_is_secret_is_printed(engine: &dyn Engine) {
    let store = opened(engine);
    let one = subscription(1, 0);
    assert_eq!(add(&*store, &one), Fenced::Done);
    let printed = format!("{:?}", store.load().unwrap());
    assert!(!printed.contains("s3cret") && !printed.contains(&one.secret.to_text()), "{printed}");
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

/// Runs every case against an engine.
macro_rules! subscriptions_contract {
    ($engine:expr) => {
        $crate::store::contract::subscriptions::subscriptions_contract! { $engine;
            what_was_put_down_is_there_after_a_restart_and_only_once
            tries_end_as_told_later_or_given_up
            an_ended_subscription_is_told_nothing_and_is_forgotten_in_its_time
            records_that_were_taken_back_take_their_notices_with_them
            what_is_old_is_fenced
            nothing_that_is_secret_is_printed
        }
    };
    ($engine:expr; $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                if let Some(engine) = $engine {
                    $crate::store::contract::subscriptions::$case(&engine);
                }
            }
        )+
    };
}
pub(crate) use subscriptions_contract;
