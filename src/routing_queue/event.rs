//! What a consumer gets: one stored record as a CloudEvents 1.0 JSON event in structured mode (contract §6).
//!
//! * `id` is the receipt ID, so every try and every lease of a record carries the same one, and a consumer that has
//!   seen it has seen the record.
//! * `recordDetails` is inserted byte for byte as the flow sent it: it never becomes a number, a map or a struct here.
//! * `workStream` says how the work is distributed *now*, from the current catalog; everything else says what was true
//!   when the record was accepted.
//! * The two inbound headers that travel along are extension attributes: `traceparent` (CloudEvents' distributed
//!   tracing extension) and `clienttrackingid`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::Write as _;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::catalog::{Catalog, DistributionMode, Presence, WorkStream};
use crate::domain::ids::{OrganizationId, WorkStreamId};
use crate::domain::time::Timestamp;
use crate::routing_queue::{Content, Delivery};
use crate::store::StoredRecord;

/// The `type` of every event.
pub const EVENT_TYPE: &str = "streamgate.record.created.v1";

/// The `type` of a test event, which stands for no record. Receivers take it and do nothing.
pub const TEST_EVENT_TYPE: &str = "streamgate.test.v1";

/// The media type of an event in structured mode.
pub const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The media type of a batch: a JSON array of events.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json; charset=utf-8";

/// The media type of an event for receivers that take other types for something binary: flows are such.
pub const PLAIN_MEDIA_TYPE: &str = "application/json";

/// What an event has besides its record's details, about: so much is set aside for it beforehand.
pub const FRAME_BYTES: usize = 1_280;

/// A stored record cannot be made an event. Another try would end the same.
#[derive(Debug, thiserror::Error)]
#[error("the stored record cannot be made an event: {0}")]
pub struct NotEncodable(#[from] serde_json::Error);

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
    let mut event = Vec::with_capacity(record.details.as_bytes().len() + FRAME_BYTES);
    write(record, &in_words(work_stream)?, &mut event)?;
    Ok(event.into())
}

/// How a work stream's work is distributed, as it stands in an event.
fn in_words(work_stream: Option<&WorkStream>) -> Result<Vec<u8>, NotEncodable> {
    Ok(serde_json::to_vec(&work_stream.map(Distribution::from))?)
}

/// Encodes many records of one catalog: what the catalog adds to an event is made once for each work stream.
#[derive(Debug, Default)]
pub struct Encoder(HashMap<(OrganizationId, WorkStreamId), Vec<u8>>);

impl Encoder {
    /// Writes a record's event behind what is there already; nothing where that fails.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn write(
        &mut self,
        record: &StoredRecord,
        catalog: &Catalog,
        events: &mut Vec<u8>,
    ) -> Result<(), NotEncodable> {
        let work_stream = match self.0.entry((record.organization, record.work_stream)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(in_words(catalog.work_stream(&record.organization, &record.work_stream))?)
            }
        };
        let before = events.len();
        // A batch has set it aside beforehand.
        events.reserve(record.details.as_bytes().len() + FRAME_BYTES);
        write(record, work_stream, events).inspect_err(|_| events.truncate(before))
    }

    /// Forgets what another catalog said.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Writes an event, member by member. GUIDs, logical names, moments and receipts hold nothing that JSON would escape;
/// whatever else comes from outside goes through the serializer.
fn write(record: &StoredRecord, work_stream: &[u8], event: &mut Vec<u8>) -> Result<(), NotEncodable> {
    // Only to be sure that it is JSON, and one value: the bytes go out as they are.
    let details: &RawValue = serde_json::from_slice(record.details.as_bytes())?;
    let StoredRecord { receipt, organization, work_stream: stream, entity_set_name, record_id, .. } = record;
    print(event, format_args!(r#"{{"specversion":"1.0","id":"{receipt}","type":"{EVENT_TYPE}","#))?;
    print(event, format_args!(r#""source":"/organizations/{organization}/work-streams/{stream}","#))?;
    print(event, format_args!(r#""subject":"{entity_set_name}({record_id})","time":"{}","#, record.accepted_at))?;
    event.extend_from_slice(br#""datacontenttype":"application/json","#);
    for (name, value) in
        [("traceparent", &record.trace.traceparent), ("clienttrackingid", &record.trace.client_tracking_id)]
    {
        if let Some(value) = value {
            print(event, format_args!("\"{name}\":"))?;
            serde_json::to_writer(&mut *event, value)?;
            event.push(b',');
        }
    }
    print(event, format_args!(r#""data":{{"organizationId":"{organization}","workStreamId":"{stream}","#))?;
    print(
        event,
        format_args!(
            r#""entityLogicalName":"{}","entitySetName":"{entity_set_name}","recordId":"{record_id}","relationshipName":"{}","recordDetails":"#,
            record.entity_logical_name, record.relationship_name
        ),
    )?;
    event.extend_from_slice(details.get().as_bytes());
    event.extend_from_slice(br#","route":"#);
    serde_json::to_writer(&mut *event, &record.route)?;
    event.extend_from_slice(br#","workStream":"#);
    event.extend_from_slice(work_stream);
    event.extend_from_slice(b"}}");
    Ok(())
}

fn print(event: &mut Vec<u8>, what: fmt::Arguments<'_>) -> Result<(), NotEncodable> {
    event.write_fmt(what).map_err(|fault| NotEncodable(serde_json::Error::io(fault)))
}

/// A test event, ready to be delivered: alone, or as a batch of one for whoever takes batches. Each has an ID of its own.
///
/// # Errors
/// When the operating system gives no random bits.
pub fn test_delivery(as_batch: bool) -> Result<Delivery, getrandom::Error> {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits)?;
    let id = format!("test_{:032x}", u128::from_be_bytes(bits));
    let event = serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "type": TEST_EVENT_TYPE,
        "source": "/streamgate/doctor",
        "time": Timestamp::now(),
        "datacontenttype": "application/json",
        "data": { "test": true, "message": "A test by `streamgate doctor`. It stands for no record; nothing has to be done." },
    });
    let (content, body) = if as_batch { (Content::Batch, serde_json::json!([event])) } else { (Content::Event, event) };
    Ok(Delivery { id, content, body: body.to_string().into(), traceparent: None, client_tracking_id: None, lane: None })
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
            let mut events = b"[".to_vec();
            let catalog = Catalog::new(1, vec![samples::organization(1, "hook")]);
            assert!(Encoder::default().write(&record, &catalog, &mut events).is_err(), "{damaged:?}");
            assert_eq!(events, b"[", "nothing is left of it");
        }
    }

    #[test]
    fn a_test_event_is_told_from_every_record() {
        let (one, batch) = (test_delivery(false).unwrap(), test_delivery(true).unwrap());
        let event: serde_json::Value = serde_json::from_slice(&one.body).unwrap();
        assert_eq!((&event["type"], &event["data"]["test"]), (&TEST_EVENT_TYPE.into(), &true.into()));
        assert_ne!(TEST_EVENT_TYPE, EVENT_TYPE);
        assert_eq!(event["id"], one.id.as_str());
        assert_ne!(one.id, batch.id);
        let events: Vec<serde_json::Value> = serde_json::from_slice(&batch.body).unwrap();
        assert_eq!((batch.content, events.len()), (Content::Batch, 1));
    }

    #[test]
    fn many_at_once_are_encoded_as_each_alone() {
        let catalog = Catalog::new(1, vec![samples::organization(1, "hook")]);
        let elsewhere = crate::store::StoredRecord { organization: samples::organization_id(2), ..samples::record(3) };
        let (mut encoder, mut events, mut expected) = (Encoder::default(), Vec::new(), Vec::new());
        for record in [samples::record(1), samples::record(2), elsewhere] {
            encoder.write(&record, &catalog, &mut events).unwrap();
            let work_stream = catalog.work_stream(&record.organization, &record.work_stream);
            expected.extend_from_slice(&encode(&record, work_stream).unwrap());
        }
        assert_eq!(events, expected);
    }
}
