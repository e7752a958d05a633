//! What a scrape looks up. Nearly all of it stands in memory; what the disk has to be asked for is asked for at most once a
//! second, however many scrapes there are, and a disk that does not answer does not hold a scrape up: the last known
//! figures stand then, with when they were found out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::rt::time::timeout;

use super::Desk;
use super::health::obstacle;
use crate::domain::catalog::{Catalog, RoutingQueueName};
use crate::domain::time::Timestamp;
use crate::gateways::Standing;
use crate::http::keys::JwksStatus;
use crate::store::subscriptions::Summary;
use crate::store::{Lane, LaneId, OldestPending};
use crate::telemetry::{Backlog, Connections, IssuerKeys, Moment, SubscriptionBacklog};

/// How old the figures from the disk may be.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How long a scrape waits for them.
const PATIENCE: Duration = Duration::from_secs(2);
/// How far notices are counted.
const MOST_NOTICES: usize = 10_000;
/// Records that lead nowhere, beside the routing queues, whose names have no parentheses.
const UNCONFIGURED: &str = "(unconfigured)";

/// What was last found out from the disk.
#[derive(Debug, Default)]
pub struct Figures {
    seen: Mutex<Seen>,
    /// The routing queues of the scrape before.
    known: Mutex<BTreeSet<RoutingQueueName>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    oldest: Vec<OldestPending>,
    notices: Summary,
    at: Option<Timestamp>,
    asked: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Replaced as a whole, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    /// Asks the disk, unless somebody just has.
    async fn refreshed(&self, desk: &Desk) -> Seen {
        {
            let mut seen = lock(&self.seen);
            if seen.asked.is_some_and(|asked| asked.elapsed() < MAX_AGE) {
                return seen.clone();
            }
            // Before the answer: a disk that hangs is not asked again by every scrape.
            seen.asked = Some(Instant::now());
        }
        let (store, subscriptions) = (desk.door.store(), desk.door.subscriptions());
        let asked = async { (store.oldest_pending().await, subscriptions.summary(MOST_NOTICES).await) };
        let fault = match timeout(PATIENCE, asked).await {
            Ok((Ok(oldest), Ok(notices))) => {
                let mut seen = lock(&self.seen);
                *seen = Seen { oldest, notices, at: Some(Timestamp::now()), asked: seen.asked };
                return seen.clone();
            }
            Ok((Err(fault), _) | (_, Err(fault))) => fault.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(fault, "how old the backlog is could not be found out; metrics show what was last known");
        lock(&self.seen).clone()
    }

    /// Which routing queues are not configured any more since the scrape before.
    fn gone(&self, configured: BTreeSet<RoutingQueueName>) -> Vec<RoutingQueueName> {
        let mut known = lock(&self.known);
        let gone = known.difference(&configured).cloned().collect();
        *known = configured;
        gone
    }
}

/// Everything that a scrape shows besides what was counted.
pub(super) async fn moment(desk: &Desk) -> Moment {
    let seen = desk.figures.refreshed(desk).await;
    let now = Timestamp::now();
    let (door, effective, status) = (&desk.door, desk.live.snapshot(), desk.live.status());
    for name in desk.figures.gone(effective.routing_queues.keys().cloned().collect()) {
        door.metrics().routing_queue_gone(name.as_str());
    }
    let backlog = backlog(desk, &effective.catalog, effective.routing_queues.keys(), &seen.oldest, now);
    let (budget, subscriptions) = (&door.body_limits().budget, door.subscriptions());
    Moment {
        store: door.store().stats(),
        backlog,
        backlog_seen_at: seen.at.map(seconds),
        in_flight_bytes: budget.held_bytes(),
        in_flight_limit_bytes: budget.limit_bytes(),
        connections: desk
            .listeners
            .iter()
            .map(|(listener, peers)| Connections {
                listener,
                open: peers.open(),
                limit: peers.limit(),
                turned_away: peers.turned_away(),
            })
            .collect(),
        subscriptions: subscriptions.active(),
        subscriptions_behind: subscriptions.behind(),
        subscription_backlog: SubscriptionBacklog {
            pending: seen.notices.pending,
            dead_letters: seen.notices.dead_lettered,
            oldest_age: seen.notices.oldest_pending_at.map(|at| now.since(at)).unwrap_or_default(),
        },
        catalog_generation: effective.catalog.generation(),
        catalog_current: desk.fleet.standing() == Standing::Current,
        reload_ok: status.ok,
        reloaded_at: seconds(status.at),
        ready: obstacle(desk).is_none(),
        issuers: desk.jwks.status().into_iter().map(issuer).collect(),
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1_000.0
}

fn issuer(status: JwksStatus) -> IssuerKeys {
    IssuerKeys {
        issuer: status.issuer.into(),
        age: status.age,
        usable: status.usable,
        keys: status.keys,
        succeeded: status.fetches.saturating_sub(status.failures),
        failed: status.failures,
    }
}

/// Where a lane's records lead as of this configuration, if anywhere.
pub(super) fn routing_queue_of<'c>(catalog: &'c Catalog, lane: &Lane) -> Option<&'c RoutingQueueName> {
    let organization = catalog.organization(&lane.organization)?;
    let work_stream = organization.work_streams.get(&lane.work_stream)?;
    Some(organization.routing_queue_of(work_stream))
}

/// What is pending, by routing queue: every configured one, whether anything is or not.
fn backlog<'c>(
    desk: &Desk,
    catalog: &Catalog,
    configured: impl Iterator<Item = &'c RoutingQueueName>,
    oldest: &[OldestPending],
    now: Timestamp,
) -> Vec<Backlog> {
    let ages: HashMap<LaneId, Duration> = oldest.iter().map(|one| (one.lane, now.since(one.accepted_at))).collect();
    let named = configured.map(|name| name.as_str().to_owned());
    let always = [RoutingQueueName::pull().as_str().to_owned(), UNCONFIGURED.to_owned()];
    let mut sums: BTreeMap<String, (u64, Duration)> =
        named.chain(always).map(|name| (name, (0, Duration::ZERO))).collect();
    for lane in desk.door.store().lanes().iter().filter(|lane| lane.pending > 0) {
        // One that the configuration does not have leads nowhere as well.
        let leads_to = routing_queue_of(catalog, &lane.lane).map(RoutingQueueName::as_str);
        let name = leads_to.filter(|name| sums.contains_key(*name)).unwrap_or(UNCONFIGURED);
        if let Some((records, age)) = sums.get_mut(name) {
            *records += lane.pending;
            *age = (*age).max(ages.get(&lane.id).copied().unwrap_or_default());
        }
    }
    sums.into_iter()
        .map(|(routing_queue, (records, oldest_age))| Backlog { routing_queue, records, oldest_age })
        .collect()
}
