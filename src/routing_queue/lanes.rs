//! The order in which an organization's lanes are emptied: by the priority of their queue, then by arrival.
//!
//! Queues of one priority share a group, in which the store goes by arrival. A queue that is no longer configured still
//! has its records; they come last.

use std::collections::BTreeMap;

use crate::domain::catalog::Organization;
use crate::domain::ids::QueueName;
use crate::store::LaneId;

/// Groups lanes for a [`crate::store::LeaseRequest`].
pub fn in_priority_groups<'a>(
    organization: &Organization,
    lanes: impl IntoIterator<Item = (&'a QueueName, LaneId)>,
) -> Vec<Vec<LaneId>> {
    let mut groups: BTreeMap<(bool, u32), Vec<LaneId>> = BTreeMap::new();
    for (queue, lane) in lanes {
        let configured = organization.queues.named(queue);
        let priority = configured.map_or(0, |queue| queue.priority);
        groups.entry((configured.is_none(), priority)).or_default().push(lane);
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::{Queue, Queues};
    use crate::routing_queue::testing::samples;

    #[test]
    fn priority_first_and_the_unconfigured_last() {
        let queue = |name: &str, priority| Queue { name: QueueName::parse(name).unwrap(), priority };
        let organization = Organization {
            queues: Queues::new(queue("usual", 5), vec![queue("urgent", 1), queue("also-usual", 5)]),
            ..samples::organization(1, "pull")
        };
        let names = ["gone", "also-usual", "urgent", "usual", "urgent"].map(|name| QueueName::parse(name).unwrap());
        let lanes = names.iter().zip(1..).map(|(name, id)| (name, LaneId(id)));
        let groups = in_priority_groups(&organization, lanes);
        assert_eq!(groups, [vec![LaneId(3), LaneId(5)], vec![LaneId(2), LaneId(4)], vec![LaneId(1)]]);
    }
}
