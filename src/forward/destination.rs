//! The destinations that records are pushed to, kept in step with the configuration.
//!
//! Each is on its own: its client, its circuit breaker, its turn. A changed setting rebuilds only the destination it
//! belongs to; the others keep their connections and what is known of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::Breaker;
use super::hand::Hand;
use super::pace::Pace;
use crate::config::settings::{RoutingQueueKind, RoutingQueueSettings, RoutingQueues};
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::OrganizationId;
use crate::routing_queue::http::HttpRoutingQueue;
use crate::routing_queue::nats::NatsRoutingQueue;
use crate::routing_queue::{RoutingQueue, SetupError};

/// Makes the client of a destination, on the runtime that delivers.
pub type Connect =
    Arc<dyn Fn(&RoutingQueueName, &RoutingQueueSettings) -> Result<Arc<dyn RoutingQueue>, SetupError> + Send + Sync>;

/// Clients that reach their destinations over the network.
pub fn over_the_network() -> Connect {
    Arc::new(|name, settings| {
        Ok(match &settings.kind {
            RoutingQueueKind::Http(http) => Arc::new(HttpRoutingQueue::new(name.clone(), http, settings.timeout)?),
            RoutingQueueKind::Nats(nats) => {
                let queue = NatsRoutingQueue::new(name.clone(), (**nats).clone(), settings.timeout)?;
                queue.begin();
                Arc::new(queue)
            }
        })
    })
}

/// A client that could not be made is tried again after this time; meanwhile its records wait.
const SETUP_PAUSE: Duration = Duration::from_secs(30);

/// One destination.
pub struct Destination {
    /// Its settings.
    pub settings: RoutingQueueSettings,
    /// Whether it is left alone.
    pub breaker: Breaker,
    /// The organization that was served last, so that the next one follows.
    pub served_last: Option<OrganizationId>,
    /// Grows with each rebuild, so that a try from before says nothing about what came after.
    pub incarnation: u64,
    /// What is on lease and waits for a place. Never dropped with records in it: they would wait for their leases to end.
    pub hands: BTreeMap<OrganizationId, Hand>,
    /// How far ahead of its places it is leased for.
    pub pace: Pace,
    /// Whether the latest look left something behind that is due.
    pub more: bool,
    client: Client,
}

enum Client {
    Ready(Arc<dyn RoutingQueue>),
    Failed { again: Instant },
}

impl Destination {
    /// The client, unless it could not be made.
    pub fn client(&self) -> Option<&Arc<dyn RoutingQueue>> {
        match &self.client {
            Client::Ready(client) => Some(client),
            Client::Failed { .. } => None,
        }
    }

    /// How many messages are in hand.
    pub fn messages_in_hand(&self) -> usize {
        let max_events = self.settings.batch.max_events.get();
        self.hands.values().map(|hand| hand.messages(max_events)).sum()
    }

    fn stands(&self, settings: &RoutingQueueSettings, now: Instant) -> bool {
        let retry_setup = matches!(self.client, Client::Failed { again } if again <= now);
        self.settings == *settings && !retry_setup
    }
}

/// All destinations, by name.
pub struct Destinations {
    connect: Connect,
    by_name: BTreeMap<RoutingQueueName, Destination>,
    incarnations: u64,
}

impl Destinations {
    /// None yet.
    pub fn new(connect: Connect) -> Self {
        Self { connect, by_name: BTreeMap::new(), incarnations: 0 }
    }

    /// Keeps what is unchanged, rebuilds what changed, drops what is gone. Answers what was built.
    pub fn refresh(&mut self, configured: &RoutingQueues, now: Instant) -> Vec<RoutingQueueName> {
        let mut built = Vec::new();
        self.by_name.retain(|name, _| configured.contains_key(name));
        for (name, settings) in configured {
            if self.by_name.get(name).is_some_and(|destination| destination.stands(settings, now)) {
                continue;
            }
            let client = match (self.connect)(name, settings) {
                Ok(client) => Client::Ready(client),
                Err(fault) => {
                    tracing::error!(routing_queue = %name, fault = &fault as &dyn std::error::Error,
                        "a routing queue cannot be set up; its records wait");
                    Client::Failed { again: now + SETUP_PAUSE }
                }
            };
            self.incarnations += 1;
            let destination = Destination {
                settings: settings.clone(),
                breaker: Breaker::default(),
                served_last: None,
                incarnation: self.incarnations,
                hands: BTreeMap::new(),
                pace: Pace::default(),
                more: false,
                client,
            };
            self.by_name.insert(name.clone(), destination);
            built.push(name.clone());
        }
        built
    }

    /// The destination of this name.
    pub fn get(&self, name: &RoutingQueueName) -> Option<&Destination> {
        self.by_name.get(name)
    }

    /// The destination of this name, to be changed.
    pub fn get_mut(&mut self, name: &RoutingQueueName) -> Option<&mut Destination> {
        self.by_name.get_mut(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&RoutingQueueName, &Destination)> {
        self.by_name.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&RoutingQueueName, &mut Destination)> {
        self.by_name.iter_mut()
    }

    /// Ends the connections of all of them in order, after the last delivery.
    pub async fn close(&self) {
        let clients: Vec<_> = self.by_name.values().filter_map(|destination| destination.client().cloned()).collect();
        futures_util::future::join_all(clients.iter().map(|client| client.close())).await;
    }

    /// Whether a client that could not be made is to be tried again by now.
    pub fn setup_is_due(&self, now: Instant) -> bool {
        let due = |destination: &Destination| matches!(destination.client, Client::Failed { again } if again <= now);
        self.by_name.values().any(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing_queue::testing::samples::http_settings;

    fn configured(urls: &[(&str, &str)]) -> RoutingQueues {
        urls.iter().map(|(name, url)| (RoutingQueueName::new(name), http_settings(url))).collect()
    }

    fn destinations(works: bool) -> Destinations {
        Destinations::new(Arc::new(move |name, settings| {
            crate::routing_queue::testing::install_tls_provider();
            if works { over_the_network()(name, settings) } else { Err(SetupError::NoTlsProvider) }
        }))
    }

    fn incarnation(destinations: &Destinations, name: &str) -> Option<u64> {
        destinations.get(&RoutingQueueName::new(name)).map(|destination| destination.incarnation)
    }

    #[test]
    fn only_what_changed_is_rebuilt() {
        let now = Instant::now();
        let mut destinations = destinations(true);
        destinations.refresh(&configured(&[("a", "http://a/"), ("b", "http://b/"), ("c", "http://c/")]), now);
        let kept = incarnation(&destinations, "a");
        let rebuilt = incarnation(&destinations, "b");
        let built = destinations.refresh(&configured(&[("a", "http://a/"), ("b", "http://b/other")]), now);
        assert_eq!(built, [RoutingQueueName::new("b")]);
        assert_eq!(incarnation(&destinations, "a"), kept);
        assert_ne!(incarnation(&destinations, "b"), rebuilt);
        assert_eq!(incarnation(&destinations, "c"), None);
    }

    #[test]
    fn a_failed_setup_is_tried_again_after_a_while() {
        let now = Instant::now();
        let mut destinations = destinations(false);
        let configured = configured(&[("a", "http://a/")]);
        destinations.refresh(&configured, now);
        assert!(destinations.iter().all(|(_, destination)| destination.client().is_none()));
        let first = incarnation(&destinations, "a");
        destinations.refresh(&configured, now + SETUP_PAUSE / 2);
        assert_eq!(incarnation(&destinations, "a"), first);
        destinations.refresh(&configured, now + SETUP_PAUSE);
        assert_ne!(incarnation(&destinations, "a"), first);
    }
}
