//! A test event for a destination: delivered by what delivers records, signed with its secret, and marked by its type.

use crate::cli::doctor::Scene;
use crate::cli::doctor::finding::{Check, Finding};
use crate::config::Overrides;
use crate::config::settings::{RoutingQueueKind, RoutingQueueSettings, RoutingQueues};
use crate::domain::catalog::RoutingQueueName;
use crate::routing_queue::http::HttpRoutingQueue;
use crate::routing_queue::nats::NatsRoutingQueue;
use crate::routing_queue::{DeliveryError, RoutingQueue, Taken, event};

/// Routing queues whose secret a start is yet to make. A command that only looks has made one up, which another reading
/// makes up anew.
pub(super) fn unmade_secrets(scene: &Scene, queues: &RoutingQueues) -> Vec<RoutingQueueName> {
    let overrides = Overrides { read_only: true, data_dir: scene.args.data_dir.clone(), ..Overrides::default() };
    let Ok(again) = crate::app::load_config(scene.args.config.as_deref(), &overrides) else { return Vec::new() };
    let differs = |(name, settings): &(&RoutingQueueName, &RoutingQueueSettings)| {
        settings.http().is_some_and(|own| {
            let other = again.effective.routing_queues.get(*name).and_then(RoutingQueueSettings::http);
            other.is_none_or(|other| other.secrets != own.secrets)
        })
    };
    queues.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

pub(super) fn without_secret() -> Finding {
    let consequence = "none was sent: the receiver cannot know the secret either";
    Finding::note(Check::TestEvent, "the signing secret is made by the first start", consequence)
        .mend("start the gateway once, give the secret to the receiver, and try again")
}

/// Delivers a test event, and tells the answer.
pub(super) async fn deliver(name: &RoutingQueueName, settings: &RoutingQueueSettings) -> Finding {
    let check = Check::TestEvent;
    let could_not = |fault: String| {
        Finding::fault(
            check,
            format!("none could be sent: {fault}"),
            "deliveries fail alike",
            "look at what is told above",
        )
    };
    let destination: Result<Box<dyn RoutingQueue>, _> = match &settings.kind {
        RoutingQueueKind::Http(http) => {
            HttpRoutingQueue::new(name.clone(), http, settings.timeout).map(|queue| Box::new(queue) as _)
        }
        RoutingQueueKind::Nats(nats) => {
            NatsRoutingQueue::new(name.clone(), (**nats).clone(), settings.timeout).map(|queue| Box::new(queue) as _)
        }
    };
    let destination = match destination {
        Ok(destination) => destination,
        Err(fault) => return could_not(crate::cli::with_causes(&fault)),
    };
    match event::test_delivery(settings.batch.wanted()) {
        Ok(delivery) => judge(destination.deliver(delivery).await),
        Err(fault) => could_not(fault.to_string()),
    }
}

fn judge(outcome: Result<Taken, DeliveryError>) -> Finding {
    let check = Check::TestEvent;
    match outcome {
        Ok(Taken::Now | Taken::Before) => Finding::ok(check, "taken"),
        // The one answer that says nothing about the event.
        Err(DeliveryError::Permanent { reason }) if reason.contains("redirect") => Finding::fault(
            check,
            reason,
            "every record for it becomes a dead letter at once",
            "put the address that it leads to into `url`",
        ),
        Err(DeliveryError::Permanent { reason }) => Finding::warning(
            check,
            reason,
            "the receiver does not take the test event; real ones that it refuses like this become dead letters at once",
            format!(
                "let the receiver answer 2xx to what it does not know, such as the type {}",
                event::TEST_EVENT_TYPE
            ),
        ),
        Err(DeliveryError::Gone { reason } | DeliveryError::Temporary { reason, .. }) => Finding::fault(
            check,
            reason,
            "records for it wait, are tried again, and become dead letters in the end ([delivery])",
            "look at the receiver: its address, its credentials, the signing secret it expects, its log",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Severity;

    #[test]
    fn answers_mean_what_they_mean_for_records() {
        let permanent = |reason: &str| Err(DeliveryError::Permanent { reason: reason.to_owned() });
        let temporary =
            DeliveryError::Temporary { reason: "401".to_owned(), retry_after: None, destination_down: true };
        for (outcome, severity) in [
            (Ok(Taken::Now), Severity::Ok),
            (
                permanent("the destination answered 302, a redirect to host `x`; redirects are not followed"),
                Severity::Fault,
            ),
            (permanent("the destination answered 400 Bad Request"), Severity::Warning),
            (Err(DeliveryError::Gone { reason: "410".to_owned() }), Severity::Fault),
            (Err(temporary), Severity::Fault),
        ] {
            assert_eq!(judge(outcome.clone()).severity, severity, "{outcome:?}");
        }
    }
}
