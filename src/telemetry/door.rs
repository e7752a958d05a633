//! What is counted at the door: requests, refusals, and what became of records that were handed over.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::seconds_histogram;
use crate::intake::Accepted;

/// The operation that nearly all requests are.
const RECORDS: &str = "/api/v1/records";

/// A route pattern and a status.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

/// A route pattern.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// A problem's code.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// What an accepted record was.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// What a record that was handed over got for an answer.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// What became of a record that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptOutcome {
    /// 202, and it is on disk now.
    New,
    /// 202, and it was on disk before.
    Repeat,
    /// 202, and nothing was stored: the test operation.
    Test,
    /// 404: the configuration does not have it.
    Refused,
    /// 400 and the like: it is not what the operation takes.
    Malformed,
    /// 401.
    Unauthorized,
    /// 408: it arrived too slowly.
    TooSlow,
    /// 429.
    Throttled,
    /// 503.
    Unavailable,
}

impl AcceptOutcome {
    /// Every outcome, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::New,
        Self::Repeat,
        Self::Test,
        Self::Refused,
        Self::Malformed,
        Self::Unauthorized,
        Self::TooSlow,
        Self::Throttled,
        Self::Unavailable,
    ];

    /// The text of the outcome in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Repeat => "repeat",
            Self::Test => "test",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::TooSlow => "too-slow",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }

    /// The outcome that this stands for.
    pub const fn of(accepted: &Accepted) -> Self {
        match accepted {
            Accepted::Test { .. } => Self::Test,
            Accepted::Stored { receipt, .. } if receipt.repeat().is_some() => Self::Repeat,
            Accepted::Stored { .. } => Self::New,
        }
    }

    /// The outcome of an answer with this status that is no success.
    pub const fn of_refusal(status: u16) -> Self {
        match status {
            401 => Self::Unauthorized,
            404 => Self::Refused,
            408 => Self::TooSlow,
            429 => Self::Throttled,
            500.. => Self::Unavailable,
            _ => Self::Malformed,
        }
    }
}

/// The meters.
#[derive(Debug)]
pub(super) struct DoorMeters {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabel, Histogram>,
    problems: Family<CodeLabel, Counter>,
    accepted: Family<KindLabel, Counter>,
    accept_seconds: Family<OutcomeLabel, Histogram>,
    repeats_with_other_details: Counter,
    usual: Usual,
}

/// The meters of what happens with every record, looked up beforehand.
#[derive(Debug)]
struct Usual {
    requests: Counter,
    request_seconds: Histogram,
    /// In the order of [`AcceptOutcome::ALL`].
    accept_seconds: [Histogram; AcceptOutcome::ALL.len()],
    new: Counter,
    repeat: Counter,
    test: Counter,
}

impl DoorMeters {
    /// Nothing counted yet.
    pub(super) fn new() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let request_seconds = Family::<RouteLabel, Histogram>::new_with_constructor(seconds_histogram);
        let accepted = Family::<KindLabel, Counter>::default();
        let accept_seconds = Family::<OutcomeLabel, Histogram>::new_with_constructor(seconds_histogram);
        let kind = |kind| accepted.get_or_create_owned(&KindLabel { kind });
        let usual = Usual {
            requests: requests.get_or_create_owned(&RequestLabels { route: RECORDS.to_owned(), status: 202 }),
            request_seconds: request_seconds.get_or_create_owned(&RouteLabel { route: RECORDS.to_owned() }),
            accept_seconds: AcceptOutcome::ALL
                .map(|outcome| accept_seconds.get_or_create_owned(&OutcomeLabel { outcome: outcome.name() })),
            new: kind("new"),
            repeat: kind("repeat"),
            test: kind("test"),
        };
        Self {
            requests,
            request_seconds,
            problems: Family::default(),
            accepted,
            accept_seconds,
            repeats_with_other_details: Counter::default(),
            usual,
        }
    }

    /// Names them.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests by route and status", self.requests.clone());
        registry.register_with_unit(
            "request",
            "Time from the end of a request's head to its answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("problems", "Refused requests by code (docs/errors.md)", self.problems.clone());
        registry.register("records_accepted", "Answers 202, by what they stood for", self.accepted.clone());
        registry.register_with_unit(
            "accept",
            "Time from the end of the head of a handed-over record to its answer, by what the answer was",
            Unit::Seconds,
            self.accept_seconds.clone(),
        );
        registry.register(
            "repeats_with_other_details",
            "Repeated records whose details were other than the stored ones",
            self.repeats_with_other_details.clone(),
        );
    }

    /// One request was answered.
    pub(super) fn request(&self, route: &str, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        if route == RECORDS && status == 202 {
            self.usual.requests.inc();
            self.usual.request_seconds.observe(seconds);
            return;
        }
        let route = route.to_owned();
        self.requests.get_or_create(&RequestLabels { route: route.clone(), status }).inc();
        self.request_seconds.get_or_create(&RouteLabel { route }).observe(seconds);
    }

    /// A record was handed over and answered.
    pub(super) fn handed_over(&self, outcome: AcceptOutcome, took: Duration) {
        if let Some(histogram) = self.usual.accept_seconds.get(outcome as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// One request was refused.
    pub(super) fn problem(&self, code: &'static str) {
        self.problems.get_or_create(&CodeLabel { code }).inc();
    }

    /// One record was accepted.
    pub(super) fn accepted(&self, accepted: &Accepted) {
        match accepted {
            Accepted::Test { .. } => &self.usual.test,
            Accepted::Stored { receipt, .. } => match receipt.repeat() {
                None => &self.usual.new,
                Some(repeat) => {
                    if repeat.details_differ {
                        self.repeats_with_other_details.inc();
                    }
                    &self.usual.repeat
                }
            },
        }
        .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_stands_at_its_place() {
        for (place, outcome) in AcceptOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
        let names = [400, 401, 404, 405, 408, 413, 429, 503].map(|status| AcceptOutcome::of_refusal(status).name());
        assert_eq!(
            names,
            ["malformed", "unauthorized", "refused", "malformed", "too-slow", "malformed", "throttled", "unavailable"]
        );
    }
}
