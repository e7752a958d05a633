//! `?wait=all`: a change is answered only when every live gateway serves it.
//!
//! The change itself is made as without it. What comes after is waiting, in one place for every operation that changes
//! the configuration: until no gateway that is there serves an older generation, or for [`LONGEST_WAIT`]. Then the answer
//! is a 504 that names who lags behind; the change stands, and the answer holds what would have been said of it, so that
//! a key which is shown once is not lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, web};
use serde_json::value::RawValue;

use super::Desk;
use crate::gateways::{Fleet, LONGEST_WAIT};
use crate::http::problem::{Code, Problem};
use crate::store::gateways::LiveGateway;

/// The query parameter.
pub(super) const WAIT: &str = "wait";
/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// Most gateways that a problem names.
const NAMED: usize = 10;

/// Where the configuration is changed; everything else has nothing to wait for.
fn changes_the_configuration(method: &Method, path: &str) -> bool {
    let changing = ["/admin/v1/organizations", "/admin/v1/work-streams", "/admin/v1/api-keys", "/admin/v1/reload"];
    *method != Method::GET
        && changing
            .iter()
            .any(|start| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        && !path.ends_with("/rules/preview")
}

/// Whether the request asks to wait.
///
/// # Errors
/// 400 where it asks for something else than there is, or where there is nothing to wait for: before anything is changed.
fn asked(request: &ServiceRequest) -> Result<bool, Problem> {
    if !request.path().starts_with("/admin/v1/") {
        return Ok(false);
    }
    let pairs = request.query_string().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut given = pairs.filter(|(name, _)| *name == WAIT).map(|(_, value)| value);
    let refused = |detail: &str| {
        let action = "Leave `wait` out, or send `wait=all` with a change of the configuration.";
        Err(Problem::malformed(Some(WAIT), detail, action))
    };
    match (given.next(), given.next()) {
        (None, _) => Ok(false),
        (Some("all"), None) if changes_the_configuration(request.method(), request.path()) => Ok(true),
        (Some("all"), None) => refused("There is nothing to wait for here: this operation changes no configuration."),
        (Some(_), None) => refused("`wait` can only be `all`."),
        (Some(_), Some(_)) => refused("`wait` is given twice."),
    }
}

/// Lets the operation do its work, then waits where that is asked for.
///
/// # Errors
/// What the framework says.
pub async fn everywhere(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let waits = match asked(&request) {
        Ok(waits) => waits,
        Err(problem) => return Ok(request.error_response(problem)),
    };
    let desk = request.app_data::<web::Data<Desk>>().filter(|_| waits).cloned();
    let response = next.call(request).await?.map_into_boxed_body();
    let Some(desk) = desk.filter(|_| response.status().is_success()) else { return Ok(response) };
    // What is effective here by now has the change in it, whoever has changed what else since.
    let generation = desk.live.current().catalog.generation();
    match wait_for(&desk.fleet, generation, LONGEST_WAIT).await {
        Ok(()) => Ok(response),
        Err(problem) => {
            let (request, response) = response.into_parts();
            let said = response.into_body().try_into_bytes().ok();
            let said = said.and_then(|said| serde_json::from_slice::<Box<RawValue>>(&said).ok());
            let problem = problem.under(generation).with_change(said);
            Ok(ServiceResponse::from_err(problem, request))
        }
    }
}

/// Waits until every gateway that is there serves this generation, and no longer than that.
async fn wait_for(fleet: &Arc<Fleet>, generation: u64, patience: Duration) -> Result<(), Problem> {
    let deadline = Instant::now() + patience;
    loop {
        let asked = Arc::clone(fleet);
        // Every time anew: a gateway may have started, stopped or fallen silent meanwhile.
        let detail = match web::block(move || asked.lagging(generation)).await {
            Ok(Ok(lagging)) if lagging.is_empty() => return Ok(()),
            Ok(Ok(lagging)) => in_words(&lagging, generation),
            Ok(Err(fault)) => format!("The change is made, but which gateways serve it cannot be found out: {fault}."),
            Err(fault) => {
                format!("The change is made, but finding out which gateways serve it was cut short: {fault}.")
            }
        };
        if Instant::now() >= deadline {
            let action = "The change stands; do not send it again. `GET /admin/v1/gateways` says who serves which \
                          generation, and why one lags behind.";
            return Err(Problem::new(Code::NotEverywhere, detail, action));
        }
        actix_web::rt::time::sleep(INTERVAL).await;
    }
}

fn in_words(lagging: &[LiveGateway], generation: u64) -> String {
    let one = |gateway: &LiveGateway| {
        let presence = &gateway.presence;
        let why = if presence.behind.is_some() { ", held back by a fault" } else { "" };
        format!("{} (generation {}{why})", presence.name, presence.generation)
    };
    let mut named: Vec<_> = lagging.iter().take(NAMED).map(one).collect();
    let more = lagging.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    format!("The change is made, but not every gateway serves generation {generation} yet: {}.", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use futures_util::future::join;

    use crate::gateways::tests::Gateway;
    use crate::store::gateways::{GatewayId, Gateways as _, Presence};
    use crate::store::postgres::catalog::PostgresCatalog;
    use crate::store::postgres::tests::server;

    fn asks(method: Method, uri: &str) -> Result<bool, &'static str> {
        let request = TestRequest::with_uri(uri).method(method).to_srv_request();
        asked(&request).map_err(|problem| problem.code().name())
    }

    #[test]
    fn only_changes_of_the_configuration_can_wait() {
        let stream = "/admin/v1/work-streams/1/rules";
        for path in ["/admin/v1/organizations", stream, "/admin/v1/api-keys/a?wait=all&x=1", "/admin/v1/reload"] {
            let joint = if path.contains('?') { "&" } else { "?" };
            let path = if path.contains("wait") { path.to_owned() } else { format!("{path}{joint}wait=all") };
            assert_eq!(asks(Method::POST, &path), Ok(true), "{path}");
            assert_eq!(asks(Method::GET, &path), Err("malformed"), "{path}");
        }
        assert_eq!(asks(Method::POST, "/admin/v1/organizations?storedCopy=true"), Ok(false));
        assert_eq!(asks(Method::GET, "/health/ready?wait=all"), Ok(false), "probes send what they like");
        for path in [
            "/admin/v1/work-streams/1/rules/preview?wait=all",
            "/admin/v1/dead-letters/requeue?wait=all",
            "/admin/v1/organizationsx?wait=all",
            "/admin/v1/organizations?wait=some",
            "/admin/v1/organizations?wait",
            "/admin/v1/organizations?wait=all&wait=all",
        ] {
            assert_eq!(asks(Method::POST, path), Err("malformed"), "{path}");
        }
    }

    #[test]
    fn who_lags_behind_is_waited_for_and_named() {
        actix_web::rt::System::new().block_on(lags_behind());
    }

    async fn lags_behind() {
        let Some(database) = server::Database::new() else { return };
        let one = Gateway::new(&database, "one");
        let generation = one.live.current().catalog.generation();
        let patience = Duration::from_secs(30);
        wait_for(&one.fleet, generation, patience).await.expect("alone");
        let other = PostgresCatalog::open(database.open());
        let presence = |generation, behind: Option<&str>| Presence {
            id: GatewayId([7; 16]),
            name: "late:8080".to_owned(),
            version: "1".to_owned(),
            generation,
            files: String::new(),
            behind: behind.map(str::to_owned),
        };
        other.beat(&presence(generation - 1, Some("a fault"))).expect("there");
        let problem = wait_for(&one.fleet, generation, Duration::ZERO).await.expect_err("it lags behind");
        assert_eq!(problem.code(), Code::NotEverywhere);
        let named = format!("late:8080 (generation {}, held back by a fault)", generation - 1);
        assert!(problem.detail().contains(&named), "{}", problem.detail());
        let said = serde_json::value::to_raw_value(&serde_json::json!({ "key": "sg_once" })).ok();
        assert!(problem.with_change(said).body("r").contains(r#""change":{"key":"sg_once"}"#));
        // It catches up while somebody waits.
        let caught_up = web::block(move || other.beat(&presence(generation, None)));
        let (waited, beat) = join(wait_for(&one.fleet, generation, patience), caught_up).await;
        beat.expect("not cut short").expect("there");
        waited.expect("everybody serves it");
    }

    #[test]
    fn who_has_gone_is_not_waited_for() {
        actix_web::rt::System::new().block_on(gone());
    }

    async fn gone() {
        let Some(database) = server::Database::new() else { return };
        let (one, two) = (Gateway::new(&database, "one"), Gateway::new(&database, "two"));
        let generation = one.live.current().catalog.generation();
        two.fleet.leave();
        // It serves nothing so late, and nobody else does.
        let late = generation + 1_000_000;
        let problem = wait_for(&one.fleet, late, Duration::ZERO).await.expect_err("one lags behind");
        assert!(problem.detail().contains("one (") && !problem.detail().contains("two ("), "{}", problem.detail());
    }
}
