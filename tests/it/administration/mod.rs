//! The administration of a running gateway: changes that count at once, and what protects them.

mod authorization;
mod changes;
mod crash;
mod dead_letters;
mod description;
mod faults;
mod gateways;
mod redelivery;
mod routing;
mod sources;
mod trail;

use serde_json::{Value, json};

use crate::support::gateway::{Setup, TestGateway, credentials};

/// The organization that tests make in the store.
pub(crate) const LITWARE: &str = "33333333-aaaa-4bbb-8ccc-000000000001";

/// A work stream of it.
pub(crate) const STREAM: &str = "33333333-aaaa-4bbb-8ccc-000000000002";

/// An entity configuration of that.
pub(crate) const ENTITY: &str = "33333333-aaaa-4bbb-8ccc-000000000003";

/// A gateway without organizations, and with the usual credentials but for the one that is bound to fabrikam.
pub(crate) fn empty() -> TestGateway {
    let all = credentials();
    let process = all.split("[[api_keys]]\nname = \"fabrikam\"").next().expect("the first key").to_owned();
    TestGateway::start_with(&Setup { process, organizations: Vec::new(), tls: false })
}

/// Makes the organization with a work stream that takes incidents.
pub(crate) fn make_litware(gateway: &TestGateway) {
    let organization = json!({ "id": LITWARE, "uniqueName": "litware", "name": "Litware" });
    gateway.change("POST", "/organizations", &organization, 201);
    let stream = json!({ "organizationId": LITWARE, "id": STREAM, "name": "Cases" });
    gateway.change("POST", "/work-streams", &stream, 201);
    gateway.change("POST", &format!("/work-streams/{STREAM}/entity-configurations"), &incidents(), 201);
}

/// An entity configuration for incidents.
pub(crate) fn incidents() -> Value {
    json!({ "id": ENTITY, "entityLogicalName": "incident", "entitySetName": "incidents" })
}

/// A record for that work stream.
pub(crate) fn record(number: u32) -> String {
    json!({
        "organizationId": LITWARE,
        "workStreamId": STREAM,
        "entityLogicalName": "incident",
        "entitySetName": "incidents",
        "recordId": format!("00000000-0000-4000-8000-{number:012}"),
        "relationshipName": "incident_msdyn_ocliveworkitems",
        "recordDetails": { "title": "t" },
    })
    .to_string()
}
