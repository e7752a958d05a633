//! Subscribing to queues: the trigger of the connector, for flows and for programs (contract §17).

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::answer::{self, ListBody};
use super::body;
use super::caller::Visit;
use super::door::Door;
use super::lists::parameter;
use super::problem::{Code, Problem};
use crate::config::settings::WebhookSecret;
use crate::domain::access::Permission;
use crate::domain::ids::{Guid, OrganizationId, QueueName, SubscriptionId, WorkStreamId};
use crate::domain::refusal::{Refusal, RefusalCode};
use crate::domain::time::Timestamp;
use crate::store::subscriptions::{Standing, Subscription};
use crate::subscriptions::callback::{self, CallbackFault};
use crate::subscriptions::{Asked, SubscribeError};

/// Whoever is told of records reads them.
const READERS: &[Permission] = &[Permission::RecordsRead];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubscribeBody {
    callback_url: String,
    organization_id: String,
    queue: Option<String>,
    work_stream_id: Option<String>,
    secret: Option<String>,
}

/// `POST /api/v1/subscriptions`.
pub async fn subscribe(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, READERS)?;
    let generation = visit.catalog().generation();
    let asked = read(&visit, &request, &door).await.map_err(|problem| problem.under(generation))?;
    let made = door.subscriptions().subscribe(visit.effective(), visit.caller(), asked).await;
    let subscription = made.map_err(|fault| problem(fault).under(generation))?;

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        id: SubscriptionId,
        organization_id: OrganizationId,
        queue: Option<&'a QueueName>,
        work_stream_id: Option<WorkStreamId>,
        state: &'static str,
        callback_host: String,
        secret: String,
        created_at: Timestamp,
        catalog_generation: u64,
    }
    let Subscription { id, wish, secret, created_at, .. } = &*subscription;
    let body = Body {
        id: *id,
        organization_id: wish.organization,
        queue: wish.queue.as_ref(),
        work_stream_id: wish.work_stream,
        state: "active",
        callback_host: callback::host_of(&wish.callback),
        secret: secret.to_text(),
        created_at: *created_at,
        catalog_generation: generation,
    };
    let mut response = answer::json(StatusCode::CREATED, &body);
    let address = format!("{}/api/v1/subscriptions/{id}", door.public_base(&request));
    if let Ok(value) = HeaderValue::from_str(&address) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

/// What the body asks for, where the configuration has it.
async fn read(visit: &Visit, request: &HttpRequest, door: &Door) -> Result<Asked, Problem> {
    let body: SubscribeBody = body::read_object(visit, request, door.body_limits()).await?;
    let malformed = |field: &'static str, fault: String| {
        Problem::malformed(Some(field), format!("`{field}` {fault}."), format!("Correct `{field}`."))
    };
    // What a drop-down sends before a choice is made.
    let chosen = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let organization: OrganizationId =
        Guid::parse(&body.organization_id).map_err(|fault| malformed("organizationId", fault.to_string()))?.into();
    let queue = chosen(body.queue)
        .map(|name| QueueName::parse(&name).map_err(|fault| malformed("queue", fault.to_string())))
        .transpose()?;
    let work_stream: Option<WorkStreamId> = chosen(body.work_stream_id)
        .map(|id| Guid::parse(&id).map_err(|fault| malformed("workStreamId", fault.to_string())))
        .transpose()?
        .map(WorkStreamId::from);
    let secret = chosen(body.secret)
        .map(|secret| WebhookSecret::parse(&secret).map_err(|fault| malformed("secret", fault.to_string())))
        .transpose()?;

    let Some(configured) = visit.catalog().organization_for(visit.caller(), &organization) else {
        return Err(Refusal::organization_unknown(organization, None).into());
    };
    if let Some(id) = work_stream.filter(|id| !configured.work_streams.contains_key(id)) {
        let refusal = Refusal {
            code: RefusalCode::WorkStreamUnknown,
            detail: format!("Organization {organization} has no work stream {id}."),
            expected: None,
            action: "Leave `workStreamId` out to be told of every work stream's records.".to_owned(),
        };
        return Err(refusal.into());
    }
    if let Some(queue) = queue.as_ref().filter(|queue| configured.queues.named(queue).is_none()) {
        let names: Vec<String> = configured.queues.iter().map(|queue| format!("`{}`", queue.name)).collect();
        let problem = Problem::new(
            Code::QueueUnknown,
            format!("Organization {organization} has no queue `{queue}`; it has {}.", names.join(", ")),
            "Name one of them, or leave `queue` out to be told of every queue's records.",
        );
        return Err(problem.about("queue"));
    }
    Ok(Asked { organization, queue, work_stream, callback_url: body.callback_url, secret })
}

/// `GET /api/v1/subscriptions?organizationId=…`.
pub async fn list(request: HttpRequest, door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, READERS)?;
    let generation = visit.catalog().generation();
    let organization = parameter(&request, "organizationId", Guid::parse)
        .map_err(|problem| problem.under(generation))?
        .map(OrganizationId::from);
    if let Some(id) = organization.filter(|id| visit.catalog().organization_for(visit.caller(), id).is_none()) {
        return Err(Problem::from(Refusal::organization_unknown(id, None)).under(generation));
    }
    let listed = door.subscriptions().list(visit.caller(), organization).await;
    let listed = listed.map_err(|fault| Problem::from(fault).under(generation))?;
    let value: Vec<_> = listed.iter().map(|(subscription, standing)| shown(subscription, standing)).collect();
    Ok(answer::json(StatusCode::OK, &ListBody { value, catalog_generation: Some(generation) }))
}

/// A subscription as lists show it: without its callback and its secret.
pub fn shown<'a>(subscription: &'a Subscription, standing: &'a Standing) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item<'a> {
        id: SubscriptionId,
        organization_id: OrganizationId,
        queue: Option<&'a QueueName>,
        work_stream_id: Option<WorkStreamId>,
        state: &'static str,
        callback_host: String,
        created_by: &'a str,
        created_at: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_at: Option<Timestamp>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_because: Option<&'a str>,
        pending: u64,
        delivered: u64,
        dead_lettered: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_error: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_delivered_at: Option<Timestamp>,
    }
    let Subscription { id, wish, created_at, created_by, ended, .. } = subscription;
    Item {
        id: *id,
        organization_id: wish.organization,
        queue: wish.queue.as_ref(),
        work_stream_id: wish.work_stream,
        state: if ended.is_none() { "active" } else { "ended" },
        callback_host: callback::host_of(&wish.callback),
        created_by,
        created_at: *created_at,
        ended_at: ended.as_ref().map(|ended| ended.at),
        ended_because: ended.as_ref().map(|ended| &*ended.because),
        pending: standing.pending,
        delivered: standing.delivered,
        dead_lettered: standing.dead_lettered,
        last_error: standing.last_error.as_deref(),
        last_delivered_at: standing.last_delivered_at,
    }
}

/// `DELETE /api/v1/subscriptions/{subscriptionId}`: the second time is like the first.
pub async fn end(
    request: HttpRequest,
    path: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let visit = door.admit(&request, READERS)?;
    end_for(&visit, &path, &door).await
}

/// Ends a subscription for this caller.
///
/// # Errors
/// 404 where there is none that the caller may know of.
pub async fn end_for(visit: &Visit, id: &str, door: &Door) -> Result<HttpResponse, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        id: SubscriptionId,
        state: &'static str,
        ended_at: Timestamp,
        catalog_generation: u64,
    }
    let generation = visit.catalog().generation();
    let id = SubscriptionId::parse(id).map_err(|_| unknown().under(generation))?;
    let ended = door.subscriptions().end(visit.caller(), id).await;
    let ended = ended.map_err(|fault| Problem::from(fault).under(generation))?;
    let ended = ended.ok_or_else(|| unknown().under(generation))?;
    let body = Body { id, state: "ended", ended_at: ended.at, catalog_generation: generation };
    Ok(answer::json(StatusCode::OK, &body))
}

/// The answer for a subscription that is not there, or not for this caller.
pub fn unknown() -> Problem {
    Problem::new(
        Code::SubscriptionUnknown,
        "There is no such subscription for this credential.",
        "Use the `id` of a subscription that this organization made.",
    )
}

fn problem(cause: SubscribeError) -> Problem {
    match cause {
        SubscribeError::Callback(CallbackFault::Unresolved) => Problem::new(
            Code::CallbackUnresolved,
            "`callbackUrl` has a host name that cannot be resolved at the moment.",
            "Send the same request again later; if it goes on, look for a typing error in the host name.",
        )
        .about("callbackUrl"),
        SubscribeError::Callback(fault @ (CallbackFault::Forbidden | CallbackFault::InTheClear)) => Problem::new(
            Code::CallbackRefused,
            format!("`callbackUrl` {fault}."),
            "Give a public https address, or have the operator name its network in `[subscriptions] allow_networks`.",
        )
        .about("callbackUrl"),
        SubscribeError::Callback(fault) => {
            Problem::malformed(Some("callbackUrl"), format!("`callbackUrl` {fault}."), "Give the callback's address.")
        }
        SubscribeError::Limit { limit } => Problem::new(
            Code::SubscriptionLimit,
            format!("The organization has {limit} subscriptions, as many as it may have."),
            "End one that is not needed any more, or have the operator raise `[subscriptions] max_per_organization`.",
        ),
        SubscribeError::OtherSecret => Problem::new(
            Code::ResourceExists,
            "The callback is subscribed to the same records already, with another secret.",
            "End that subscription first, or leave `secret` out to get the one that there is.",
        )
        .about("secret"),
        SubscribeError::Random(_) => crate::store::StoreError::Unavailable.into(),
        SubscribeError::Store(fault) => fault.into(),
    }
}
