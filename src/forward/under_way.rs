//! The tries under way, and how many of them each destination and each organization has.
//!
//! The counts change only where a try enters the list or leaves it, both here, so they cannot part from it.

use std::collections::{BTreeMap, HashMap};

use tokio::task::{AbortHandle, Id};

use super::attempt::Attempt;
use crate::domain::catalog::RoutingQueueName;
use crate::domain::ids::OrganizationId;

/// The list.
#[derive(Debug, Default)]
pub struct UnderWay {
    by_task: HashMap<Id, (Attempt, AbortHandle)>,
    loads: BTreeMap<RoutingQueueName, Load>,
}

/// What one destination has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Load {
    /// Requests.
    pub requests: usize,
    /// Requests and the records in them, of each organization that has any.
    pub by_organization: BTreeMap<OrganizationId, (usize, usize)>,
}

impl Load {
    /// Requests of one organization.
    pub fn of(&self, organization: &OrganizationId) -> usize {
        self.by_organization.get(organization).map_or(0, |(requests, _)| *requests)
    }

    /// Records of one organization.
    pub fn records_of(&self, organization: &OrganizationId) -> usize {
        self.by_organization.get(organization).map_or(0, |(_, records)| *records)
    }

    fn add(&mut self, attempt: &Attempt) {
        self.requests += 1;
        let (requests, records) = self.by_organization.entry(attempt.organization).or_default();
        *requests += 1;
        *records += attempt.records.len();
    }

    fn subtract(&mut self, attempt: &Attempt) {
        self.requests -= 1;
        if let Some((requests, records)) = self.by_organization.get_mut(&attempt.organization) {
            *requests -= 1;
            *records -= attempt.records.len();
            if *requests == 0 {
                self.by_organization.remove(&attempt.organization);
            }
        }
    }
}

impl UnderWay {
    /// A try has begun.
    pub fn begun(&mut self, attempt: Attempt, task: AbortHandle) {
        self.loads.entry(attempt.routing_queue.clone()).or_default().add(&attempt);
        self.by_task.insert(task.id(), (attempt, task));
    }

    /// A try has ended; `None` when this task was none.
    pub fn ended(&mut self, id: Id) -> Option<Attempt> {
        let (attempt, _) = self.by_task.remove(&id)?;
        if let Some(load) = self.loads.get_mut(&attempt.routing_queue) {
            load.subtract(&attempt);
            if load.requests == 0 {
                self.loads.remove(&attempt.routing_queue);
            }
        }
        Some(attempt)
    }

    /// Breaks all of them off.
    pub fn abort_all(&mut self) -> impl Iterator<Item = Attempt> {
        self.loads.clear();
        std::mem::take(&mut self.by_task).into_values().map(|(attempt, task)| {
            task.abort();
            attempt
        })
    }

    /// What this destination has; `None` for nothing.
    pub fn load(&self, routing_queue: &RoutingQueueName) -> Option<&Load> {
        self.loads.get(routing_queue)
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.by_task.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing_queue::testing::samples;
    use crate::store::{LaneId, LeaseToken, Leased};
    use proptest::prelude::*;
    use tokio::task::JoinSet;

    fn attempt((destination, organization, records): (u16, u16, u16)) -> Attempt {
        let leased = |number| Leased {
            record: samples::record(number),
            lane: LaneId(1),
            token: LeaseToken([0; 16]),
            until: samples::ACCEPTED_AT,
            attempt: 1,
        };
        Attempt {
            routing_queue: RoutingQueueName::new(&destination.to_string()),
            incarnation: 1,
            probe: false,
            organization: samples::organization_id(organization),
            records: (0..records).map(leased).collect(),
            followed: None,
        }
    }

    proptest! {
        /// The counts are what counting the list says, after whatever entered and left it in whatever order.
        #[test]
        fn the_counts_are_those_of_the_list(
            begun in proptest::collection::vec((0_u16..3, 0_u16..3, 1_u16..4), 0..20),
            ended in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _entered = runtime.enter();
            let (mut tasks, mut under_way) = (JoinSet::new(), UnderWay::default());
            let mut ids = Vec::new();
            for one in begun {
                let task = tasks.spawn(std::future::pending::<()>());
                ids.push(task.id());
                under_way.begun(attempt(one), task);
            }
            for index in ended {
                if !ids.is_empty() {
                    let id = ids.swap_remove(index.index(ids.len()));
                    prop_assert!(under_way.ended(id).is_some() && under_way.ended(id).is_none());
                }
            }
            let mut counted: BTreeMap<RoutingQueueName, Load> = BTreeMap::new();
            for (attempt, _) in under_way.by_task.values() {
                counted.entry(attempt.routing_queue.clone()).or_default().add(attempt);
            }
            prop_assert_eq!(&under_way.loads, &counted);
            prop_assert_eq!(under_way.abort_all().count(), ids.len());
            prop_assert!(under_way.is_empty() && under_way.loads.is_empty());
        }
    }
}
