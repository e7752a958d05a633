//! The sample records and bodies made from them.

/// A case as the Dynamics 365 trigger sends it: details as an object.
pub(crate) const INCIDENT: &str = include_str!("../../fixtures/records/incident.json");
/// A lead as the Dataverse trigger sends it, with the details as a string.
pub(crate) const LEAD: &str = include_str!("../../fixtures/records/lead.json");
/// A custom entity: braces, upper case, non-ASCII, awkward numbers.
pub(crate) const INSPECTION: &str = include_str!("../../fixtures/records/inspection.json");

pub(crate) const ORGANIZATION_ID: &str = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10";
pub(crate) const WORK_STREAM_ID: &str = "7c2e9d54-41a8-ea11-a812-000d3a579c31";

/// The seven properties of a record.
pub(crate) const PROPERTIES: [&str; 7] = [
    "organizationId",
    "workStreamId",
    "entityLogicalName",
    "entitySetName",
    "recordId",
    "relationshipName",
    "recordDetails",
];

/// The body of an incident with this record ID and these raw details.
pub(crate) fn incident(record_id: &str, details: &str) -> String {
    format!(
        r#"{{"organizationId":"{ORGANIZATION_ID}","workStreamId":"{WORK_STREAM_ID}","entityLogicalName":"incident","entitySetName":"incidents","recordId":"{record_id}","relationshipName":"incident_msdyn_ocliveworkitems","recordDetails":{details}}}"#
    )
}

/// A record ID for the n-th record of a test.
pub(crate) fn record_id(n: usize) -> String {
    format!("5e1f0c9a-7b2d-ea11-a810-{n:012x}")
}

/// The n-th incident.
pub(crate) fn nth_incident(n: usize) -> String {
    incident(&record_id(n), &format!(r#"{{"incidentid":"{}","title":"Record {n}"}}"#, record_id(n)))
}
