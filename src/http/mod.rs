//! The door: everything that speaks HTTP to flows, integrators and consumers.
//!
//! This page has all routes. Around every request, outermost first:
//!
//! 1. [`peers`], [`transport`] and [`framing`]: a place among the connections; deadlines for heads; framework errors as
//!    JSON; bounds on what the parser has none for
//! 2. [`frame`]: the head is checked, common headers, one log line
//! 3. the route and its method: 404 and 405 come before anything is asked of a credential
//! 4. [`caller`]: the credential, from cached snapshots, before a byte of the body is read
//! 5. [`body`]: media type, size, memory and time
//! 6. the handler: translates, calls once, translates back
//! 7. [`limits`]: the organization's rate, once the record says whose it is
//!
//! Nothing here decides whether a record may enter: that is `domain::admission`. Nothing here makes a 202 without what
//! `intake` proved.

pub mod answer;
pub mod body;
pub mod caller;
pub mod door;
mod followed;
pub mod frame;
pub mod framing;
pub mod head;
pub mod keys;
pub mod limits;
pub mod lists;
pub mod openapi;
pub mod peers;
pub mod problem;
pub mod receipts;
pub mod records;
pub mod request_id;
pub mod server;
pub mod socket;
pub mod subscriptions;
pub mod tls;
pub mod transport;
pub mod work_items;

use actix_web::{guard, web};

use problem::{Code, Problem};

/// One operation of the public listener, as the connector describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its name in the connector.
    pub id: &'static str,
    /// The method.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// Whether it takes a body.
    pub takes_a_body: bool,
    /// The status of its success.
    pub success: u16,
    /// Problems that it has besides [`Operation::COMMON`] and [`Operation::OF_BODIES`].
    pub problems: &'static [u16],
}

impl Operation {
    /// Problems that every operation may have: of the head, the credential, and the moment.
    pub const COMMON: [u16; 7] = [400, 401, 408, 414, 429, 431, 503];
    /// Problems of a body.
    pub const OF_BODIES: [u16; 2] = [413, 415];

    /// Whether this is its path.
    fn is_at(&self, path: &str) -> bool {
        let (mut pattern, mut segments) = (self.path.split('/'), path.split('/'));
        let fits = pattern.by_ref().all(|part| segments.next().is_some_and(|it| part.starts_with('{') || part == it));
        fits && segments.next().is_none()
    }

    /// Every status that it may answer with, in ascending order.
    pub fn statuses(&self) -> Vec<u16> {
        let of_bodies = if self.takes_a_body { Self::OF_BODIES.as_slice() } else { &[] };
        let mut all = [&[self.success], Self::COMMON.as_slice(), of_bodies, self.problems].concat();
        all.sort_unstable();
        all
    }
}

/// Makes the table of operations and the routes of the same lines.
macro_rules! operations {
    ($($path:literal $methods:literal {
        $($id:ident: $method:ident $($body:ident)? => $handler:path, $success:literal $(, $problem:literal)*;)+
    })+) => {
        /// Every operation of the public listener. The connector's description has exactly these.
        pub const OPERATIONS: &[Operation] = &[
            $($(Operation {
                id: stringify!($id),
                method: stringify!($method),
                path: $path,
                takes_a_body: !matches!(stringify!($($body)?).as_bytes(), b""),
                success: $success,
                problems: &[$($problem),*],
            }),+),+
        ];

        /// The routes of every operation.
        pub fn routes(app: &mut web::ServiceConfig) {
            $(
                let mut served = resource($path, $methods);
                $(served = served.route(web::route().guard(guard::fn_guard(|request| {
                    request.head().method.as_str() == stringify!($method)
                })).to($handler));)+
                app.service(served);
            )+
            descriptions(app);
            app.default_service(web::to(nothing_here));
        }
    };
}

operations! {
    "/api/v1/records" "POST" { RouteRecord: POST body => records::route, 202, 404; }
    "/api/v1/records/explain" "POST" { ExplainRecord: POST body => records::explain, 200; }
    "/api/v1/receipts/{receiptId}" "GET" { GetReceipt: GET => receipts::get, 200, 404; }
    "/api/v1/organizations" "GET" { ListOrganizations: GET => lists::organizations, 200; }
    "/api/v1/work-streams" "GET" { ListWorkStreams: GET => lists::work_streams, 200, 404; }
    "/api/v1/queues" "GET" { ListQueues: GET => lists::queues, 200, 404; }
    "/api/v1/entity-configurations" "GET" {
        ListEntityConfigurations: GET => lists::entity_configurations, 200, 404;
    }
    "/api/v1/connection" "GET" { TestConnection: GET => lists::connection, 200; }
    "/api/v1/work-items/lease" "POST" { LeaseWorkItems: POST body => work_items::lease, 200, 404; }
    "/api/v1/work-items/{id}/complete" "POST" { CompleteWorkItem: POST body => work_items::complete, 200, 404, 409; }
    "/api/v1/work-items/{id}/release" "POST" { ReleaseWorkItem: POST body => work_items::release, 200, 404, 409; }
    "/api/v1/work-items/{id}/wait" "POST" { SetWorkItemWaiting: POST body => work_items::wait, 200, 404, 409; }
    "/api/v1/work-items/{id}/revive" "POST" { ReviveWorkItem: POST => work_items::revive, 200, 404, 409; }
    "/api/v1/subscriptions" "GET, POST" {
        SubscribeToQueue: POST body => subscriptions::subscribe, 201, 404, 409;
        ListSubscriptions: GET => subscriptions::list, 200, 404;
    }
    "/api/v1/subscriptions/{subscriptionId}" "DELETE" { EndSubscription: DELETE => subscriptions::end, 200, 404; }
}

/// What describes the operations, and is not described itself.
fn descriptions(app: &mut web::ServiceConfig) {
    app.service(resource("/openapi", "GET, HEAD").route(page().to(openapi::show_page)))
        .service(resource("/openapi/openapi.json", "GET, HEAD").route(page().to(openapi::describe)))
        .service(resource("/openapi/connector.json", "GET, HEAD").route(page().to(openapi::connector)))
        .service(resource("/openapi/connector.zip", "GET, HEAD").route(page().to(openapi::archive)));
}

/// A page is asked for, or asked about.
fn page() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Whether a request belongs to an operation that takes a body.
pub fn takes_a_body(method: &str, path: &str) -> bool {
    OPERATIONS.iter().any(|operation| operation.takes_a_body && operation.method == method && operation.is_at(path))
}

/// A path that answers other methods with 405 and the ones it takes.
pub fn resource(path: &str, methods: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move || async move {
        Err::<actix_web::HttpResponse, _>(
            Problem::new(Code::MethodNotAllowed, format!("This path takes {methods} only."), format!("Use {methods}."))
                .allowing(methods),
        )
    }))
}

/// The answer of a path that is not there.
pub async fn nothing_here() -> Result<actix_web::HttpResponse, Problem> {
    std::future::ready(Err(Problem::nothing_here())).await
}
