//! Which queue an admitted record goes to, and why.
//!
//! Without routing rules every record goes to its organization's default queue (Microsoft: "no rules or no queues: the
//! default queue"). The decision is made under the same catalog generation that admitted the record, so the generation
//! in the answer explains both.

use serde::{Deserialize, Serialize};

use super::catalog::Organization;
use super::ids::QueueName;

/// Where a record goes, as decided when it was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The queue.
    pub queue: QueueName,
    /// The queue's priority at that moment.
    pub priority: u32,
    /// The rule that matched; `None` means that none did and the default queue takes it.
    pub rule: Option<Box<str>>,
}

impl Route {
    /// The route as a store keeps it.
    pub fn to_stored(&self) -> String {
        serde_json::json!({ "queue": self.queue, "priority": self.priority, "rule": self.rule }).to_string()
    }

    /// Reads what [`Route::to_stored`] wrote; `None` when it is not that.
    pub fn from_stored(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Stored {
            queue: String,
            priority: u32,
            rule: Option<Box<str>>,
        }
        let stored: Stored = serde_json::from_str(text).ok()?;
        Some(Self { queue: QueueName::parse(&stored.queue).ok()?, priority: stored.priority, rule: stored.rule })
    }
}

/// Decides where a record of this organization goes.
pub fn route(organization: &Organization) -> Route {
    let queue = organization.queues.default_queue();
    Route { queue: queue.name.clone(), priority: queue.priority, rule: None }
}
