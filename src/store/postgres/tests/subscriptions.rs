//! Subscriptions in a database: the contract suite, and what only several gateways on one database can show.

use std::sync::Arc;

use super::server::Database as TestDatabase;
use super::{InDatabase, retention};
use crate::domain::fixtures::admitted;
use crate::store::contract::subscriptions::{
    Engine, add, at, id, notice, numbers, span, subscription, subscriptions_contract,
};
use crate::store::contract::{at as moment, entry};
use crate::store::postgres::{PostgresStore, PostgresSubscriptions};
use crate::store::subscriptions::{Fenced, Role, Span, SubscriptionStore, Tried, TriedEnd};
use crate::store::{DeliveryState, LeaseRequest, Outcome, Settlement, Store};

/// A database of its own, without records.
struct Alone(TestDatabase);

impl Alone {
    fn new() -> Option<Self> {
        TestDatabase::new().map(Self)
    }

    fn gateway(&self) -> PostgresSubscriptions {
        PostgresSubscriptions::open(self.0.open()).unwrap()
    }

    /// As if the leader had been silent for as long as it may.
    fn lead_runs_out(&self) {
        self.0.psql("update subscriptions_state set leads_until = clock_timestamp()");
    }
}

impl Engine for Alone {
    fn open(&self) -> Arc<dyn SubscriptionStore> {
        Arc::new(self.gateway())
    }
}

subscriptions_contract!(Alone::new());

#[test]
fn one_gateway_leads_and_another_takes_over() {
    let Some(database) = Alone::new() else { return };
    let (one, two, three) = (database.gateway(), database.gateway(), database.gateway());
    assert_eq!((one.lead().unwrap(), two.lead().unwrap()), (Role::Leader, Role::Standby));
    one.resign().unwrap();
    assert_eq!(three.lead().unwrap(), Role::Leader, "it was given away");
    database.lead_runs_out();
    let four = database.gateway();
    assert_eq!(four.lead().unwrap(), Role::Leader, "the third one is silent");
    assert_eq!(database.gateway().lead().unwrap(), Role::Standby);
}

#[test]
fn whoever_was_replaced_puts_nothing_down_and_gives_nothing_up() {
    let Some(database) = Alone::new() else { return };
    let (hangs, follows) = (database.gateway(), database.gateway());
    assert_eq!(hangs.lead().unwrap(), Role::Leader);
    assert_eq!(add(&hangs, &subscription(1, 0)), Fenced::Done);
    let first = span(&hangs, 4);
    assert_eq!(hangs.put_down(&first, &[notice(1, 1), notice(1, 2), notice(1, 3)]).unwrap(), Fenced::Done);
    let second = span(&hangs, 6);
    database.lead_runs_out();
    assert_eq!(follows.lead().unwrap(), Role::Leader);
    assert_eq!(hangs.put_down(&second, &[notice(1, 5)]).unwrap(), Fenced::Out);
    assert_eq!(hangs.lead().unwrap(), Role::Standby, "it asks again at once");
    assert_eq!(follows.put_down(&second, &[notice(1, 5)]).unwrap(), Fenced::Done);

    let tried = |number, end| Tried { subscription: id(1), number, end };
    let given_up = TriedEnd::GivenUp { at: at(2), reason: "no".to_owned() };
    let later = TriedEnd::Later { due: at(90), error: "busy".to_owned() };
    hangs.conclude(&[tried(1, given_up), tried(2, later), tried(3, TriedEnd::Told { at: at(2) })]).unwrap();
    let due = follows.due(&id(1), at(3), 10).unwrap();
    assert_eq!(numbers(&due), [1, 2, 5], "only that somebody was told counts");
    assert!(due.notices.iter().all(|notice| notice.attempts == 0));
}

#[test]
fn a_subscription_taken_by_one_gateway_holds_up_the_list_of_the_leader() {
    let Some(database) = Alone::new() else { return };
    let (leads, other) = (database.gateway(), database.gateway());
    assert_eq!(leads.lead().unwrap(), Role::Leader);
    assert_eq!(add(&leads, &subscription(1, 0)), Fenced::Done);
    let by_what_it_knows = span(&leads, 2);
    assert_eq!(add(&other, &subscription(2, 0)), Fenced::Done);
    assert_eq!(leads.put_down(&by_what_it_knows, &[notice(1, 1)]).unwrap(), Fenced::Out);
    let (revision, subscriptions) = leads.load().unwrap();
    assert_eq!(subscriptions.len(), 2);
    let span = Span { revision, ..by_what_it_knows };
    assert_eq!(leads.put_down(&span, &[notice(1, 1), notice(2, 1)]).unwrap(), Fenced::Done);
    assert_eq!(numbers(&other.due(&id(2), at(9), 10).unwrap()), [1]);
}

#[test]
fn of_gateways_that_subscribe_at_one_moment_each_sees_what_the_others_did() {
    let Some(database) = Alone::new() else { return };
    let gateways: Vec<_> = (0..3).map(|_| database.gateway()).collect();
    let start = std::sync::Barrier::new(gateways.len());
    std::thread::scope(|scope| {
        for (gateway, number) in gateways.iter().zip(1..) {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let made = || loop {
                    let (revision, known) = gateway.load().unwrap();
                    if gateway.add(revision, &subscription(number, 0)).unwrap() == Fenced::Done {
                        return known.len();
                    }
                };
                made()
            });
        }
    });
    assert_eq!(gateways[0].load().unwrap().1.len(), 3);
}

/// Has a record delivered, and answers what the gateway's retention then does an age later.
async fn trimmed_after_delivery(store: &Arc<PostgresStore>, record: u32) -> u64 {
    let receipt = store.append(entry(admitted(record))).await.unwrap();
    let request = LeaseRequest {
        groups: vec![vec![receipt.lane()]],
        max: 10,
        now: moment(1),
        duration: std::time::Duration::from_secs(60),
    };
    let leased = store.lease(request).await.unwrap().leased.remove(0);
    let settlement =
        Settlement { receipt: receipt.id(), token: leased.token, at: moment(2), outcome: Outcome::Delivered };
    store.settle(vec![settlement]).await.unwrap();
    assert_eq!(store.receipt(receipt.id()).await.unwrap().unwrap().state, DeliveryState::Delivered);
    let late = moment(36 * 24 * 60 * 60);
    store.run(move |shared| async move { retention::everything(&shared, late).await }).await.unwrap().trimmed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_knows_of_no_subscriber_keeps_what_one_of_another_gateway_needs() {
    let Some(engine) = InDatabase::new() else { return };
    // It was said here that nobody is subscribed, and nothing else was said since.
    let store = engine.open_store();
    assert_eq!(trimmed_after_delivery(&store, 1).await, 1, "nobody needs it");
    let database = engine.database.open();
    let other = PostgresSubscriptions::open(database).unwrap();
    assert_eq!(other.lead().unwrap(), Role::Leader);
    assert_eq!(add(&other, &subscription(1, 0)), Fenced::Done);
    let (_, known) = other.load().unwrap();
    assert_eq!((known[0].after, other.position().unwrap()), (1, 1), "the database knows which record is the newest");
    assert_eq!(trimmed_after_delivery(&store, 2).await, 0, "nobody has looked at it yet");
    assert_eq!(other.put_down(&span(&other, 2), &[notice(1, 2)]).unwrap(), Fenced::Done);
    let late = moment(36 * 24 * 60 * 60);
    let again = |store: &Arc<PostgresStore>| {
        let store = Arc::clone(store);
        async move { store.run(move |shared| async move { retention::everything(&shared, late).await }).await.unwrap() }
    };
    assert_eq!(again(&store).await.trimmed, 0, "somebody is still to be told of it");
    other.conclude(&[Tried { subscription: id(1), number: 2, end: TriedEnd::Told { at: at(3) } }]).unwrap();
    assert_eq!(again(&store).await.trimmed, 1);
}
