//! What a consumer gets: one stored record as a CloudEvents 1.0 JSON event in structured mode (contract §6).
//!
//! * `id` is the receipt ID, so every try and every lease of a record carries the same one, and a consumer that has
//!   seen it has seen the record.
//! * `recordDetails` is inserted byte for byte as the flow sent it: it never becomes a number, a map or a struct here.
//! * `workStream` says how the work is distributed *now*, from the current catalog; everything else says what was true
//!   when the record was accepted.
//! * The two inbound headers that travel along are extension attributes: `traceparent` (CloudEvents' distributed
//!   tracing extension) and `clienttrackingid`.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::catalog::{DistributionMode, Presence, WorkStream};
use crate::domain::ids::{LogicalName, OrganizationId, ReceiptId, RecordId, WorkStreamId};
use crate::domain::routing::Route;
use crate::domain::time::Timestamp;
use crate::store::StoredRecord;

/// The `type` of every event.
pub const EVENT_TYPE: &str = "streamgate.record.created.v1";

/// The media type of an event in structured mode.
pub const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The media type of the same text for receivers that take other types for something binary: flows are such.
pub const PLAIN_MEDIA_TYPE: &str = "application/json";

/// A stored record cannot be made an event. Another try would end the same.
#[derive(Debug, thiserror::Error)]
#[error("the stored record cannot be made an event: {0}")]
pub struct NotEncodable(#[from] serde_json::Error);

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: ReceiptId,
    #[serde(rename = "type")]
    kind: &'static str,
    source: String,
    subject: String,
    time: Timestamp,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clienttrackingid: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    organization_id: OrganizationId,
    work_stream_id: WorkStreamId,
    entity_logical_name: &'a LogicalName,
    entity_set_name: &'a LogicalName,
    record_id: RecordId,
    relationship_name: &'a LogicalName,
    record_details: &'a RawValue,
    route: &'a Route,
    work_stream: Option<Distribution<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Distribution<'a> {
    name: &'a str,
    capacity: u32,
    distribution_mode: DistributionMode,
    allowed_presences: &'a BTreeSet<Presence>,
    auto_close_after_inactivity_minutes: u32,
}

impl<'a> From<&'a WorkStream> for Distribution<'a> {
    fn from(work_stream: &'a WorkStream) -> Self {
        Self {
            name: &work_stream.name,
            capacity: work_stream.capacity,
            distribution_mode: work_stream.distribution_mode,
            allowed_presences: &work_stream.allowed_presences,
            auto_close_after_inactivity_minutes: work_stream.auto_close_after_inactivity_minutes,
        }
    }
}

/// Encodes a record as an event. `work_stream` is its current configuration; `null` in the event where it is gone.
///
/// # Errors
/// [`NotEncodable`] when the stored details are not JSON any more, which only damage can do.
pub fn encode(record: &StoredRecord, work_stream: Option<&WorkStream>) -> Result<Bytes, NotEncodable> {
    let record_details: &RawValue = serde_json::from_slice(record.details.as_bytes())?;
    let event = Event {
        specversion: "1.0",
        id: record.receipt,
        kind: EVENT_TYPE,
        source: format!("/organizations/{}/work-streams/{}", record.organization, record.work_stream),
        subject: format!("{}({})", record.entity_set_name, record.record_id),
        time: record.accepted_at,
        datacontenttype: "application/json",
        traceparent: record.trace.traceparent.as_deref(),
        clienttrackingid: record.trace.client_tracking_id.as_deref(),
        data: Data {
            organization_id: record.organization,
            work_stream_id: record.work_stream,
            entity_logical_name: &record.entity_logical_name,
            entity_set_name: &record.entity_set_name,
            record_id: record.record_id,
            relationship_name: &record.relationship_name,
            record_details,
            route: &record.route,
            work_stream: work_stream.map(Distribution::from),
        },
    };
    Ok(serde_json::to_vec(&event)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::RecordDetails;
    use crate::routing_queue::testing::samples;
    use crate::store::TraceContext;

    #[test]
    fn the_event_is_the_contract_s() {
        let mut record = samples::record(1);
        record.trace = TraceContext {
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            client_tracking_id: Some("track \"me\"".into()),
        };
        let body = encode(&record, Some(&samples::work_stream())).unwrap();
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "specversion": "1.0",
            "id": samples::receipt(1),
            "type": "streamgate.record.created.v1",
            "source": "/organizations/00000000-0000-0000-0000-000000000a01/work-streams/00000000-0000-0000-0000-000000000b01",
            "subject": "incidents(00000000-0000-0000-0000-000000000001)",
            "time": "2019-02-12T09:41:07.000Z",
            "datacontenttype": "application/json",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "clienttrackingid": "track \"me\"",
            "data": {
                "organizationId": "00000000-0000-0000-0000-000000000a01",
                "workStreamId": "00000000-0000-0000-0000-000000000b01",
                "entityLogicalName": "incident",
                "entitySetName": "incidents",
                "recordId": "00000000-0000-0000-0000-000000000001",
                "relationshipName": "incident_msdyn_ocliveworkitems",
                "recordDetails": {"n": 1},
                "route": {"queue": "default", "priority": 1, "rule": null},
                "workStream": {
                    "name": "Cases",
                    "capacity": 30,
                    "distributionMode": "push",
                    "allowedPresences": ["available", "busy", "busy-do-not-disturb", "away"],
                    "autoCloseAfterInactivityMinutes": 1440
                }
            }
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn details_stay_byte_for_byte() {
        let details = "{\"b\" : 98.60000000000001,\n \"a\":9007199254740993, \"a\":1E400,\"Authorization\":\"x\"}";
        let record = crate::store::StoredRecord { details: RecordDetails::stored(details), ..samples::record(1) };
        let body = encode(&record, None).unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains(&format!("\"recordDetails\":{details},\"route\"")), "{text}");
        assert!(text.contains("\"workStream\":null"), "{text}");
        assert!(!text.contains("traceparent") && !text.contains("clienttrackingid"), "{text}");
    }

    #[test]
    fn damaged_details_are_an_error_and_not_an_event() {
        for damaged in ["{\"a\":", "", "{} {}", "\u{0}"] {
            let record = crate::store::StoredRecord { details: RecordDetails::stored(damaged), ..samples::record(1) };
            assert!(encode(&record, None).is_err(), "{damaged:?}");
        }
    }
}
