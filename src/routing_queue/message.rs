//! What goes out in one request: one event, or a batch of events of one organization.
//!
//! A message has an ID that is the same on every try. For one event that is the event's own, the receipt. For a batch it
//! is made of the receipts in it: `batch_` and, in URL-safe base64, the SHA-256 of their texts in the order of the events,
//! each followed by a line feed. So it names exactly these events in this order: whoever repeats them repeats it, and no
//! other batch has it. What consumers tell repeats by is the `id` of each event, which does not depend on the company it
//! travels in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::event::{Encoder, NotEncodable};
use crate::domain::catalog::Catalog;
use crate::store::{Lane, StoredRecord};

/// One message, encoded, on its way.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its ID: the same on every try.
    pub id: String,
    /// What the body is.
    pub content: Content,
    /// CloudEvents as JSON.
    pub body: Bytes,
    /// W3C `traceparent` to carry along; never with a batch, whose events have their own.
    pub traceparent: Option<String>,
    /// `x-ms-client-tracking-id` to carry along; never with a batch.
    pub client_tracking_id: Option<String>,
    /// Where the record belongs; nowhere for a test event, and a batch may hold several lanes.
    pub lane: Option<Lane>,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// One event.
    Event,
    /// A JSON array of events.
    Batch,
}

impl Delivery {
    /// The message of one event, which is this record's.
    pub fn event(record: &StoredRecord, body: Bytes) -> Self {
        let StoredRecord { receipt, organization, work_stream, trace, route, .. } = record;
        Self {
            id: receipt.to_string(),
            content: Content::Event,
            body,
            traceparent: trace.traceparent.clone(),
            client_tracking_id: trace.client_tracking_id.clone(),
            lane: Some(Lane { organization: *organization, work_stream: *work_stream, queue: route.queue.clone() }),
        }
    }
}

/// A batch that is being written.
#[derive(Debug)]
pub struct BatchWriter {
    events: Vec<u8>,
    receipts: Sha256,
    max_bytes: usize,
}

/// How a record was taken into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is in.
    In,
    /// It is not: the batch is full.
    Full,
}

impl BatchWriter {
    /// An empty batch that may have so many bytes. A single event that is larger still goes, alone.
    ///
    /// `about` says how many it will have, as far as is known: to set them aside at once spares copying while it grows.
    pub fn new(max_bytes: usize, about: usize) -> Self {
        let mut events = Vec::with_capacity(about.min(max_bytes));
        events.push(b'[');
        Self { events, receipts: Sha256::new(), max_bytes }
    }

    /// Writes the next event.
    ///
    /// # Errors
    /// [`NotEncodable`] when the record is damaged; the batch is as it was.
    pub fn write(
        &mut self,
        encoder: &mut Encoder,
        record: &StoredRecord,
        catalog: &Catalog,
    ) -> Result<Written, NotEncodable> {
        let before = self.events.len();
        if before > 1 {
            self.events.push(b',');
        }
        if let Err(damaged) = encoder.write(record, catalog, &mut self.events) {
            self.events.truncate(before);
            return Err(damaged);
        }
        // The closing bracket is to come.
        if before > 1 && self.events.len() >= self.max_bytes {
            self.events.truncate(before);
            return Ok(Written::Full);
        }
        self.receipts.update(record.receipt.to_string());
        self.receipts.update(b"\n");
        Ok(Written::In)
    }

    /// The whole message.
    pub fn finish(mut self) -> Delivery {
        self.events.push(b']');
        Delivery {
            id: format!("batch_{}", URL_SAFE_NO_PAD.encode(self.receipts.finalize())),
            content: Content::Batch,
            body: self.events.into(),
            traceparent: None,
            client_tracking_id: None,
            lane: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::RecordDetails;
    use crate::routing_queue::event;
    use crate::routing_queue::testing::samples::{self, receipt, record};

    fn catalog() -> Catalog {
        Catalog::new(1, vec![samples::organization(1, "hook")])
    }

    fn batch_of(numbers: &[u16], max_bytes: usize) -> (Delivery, usize) {
        let (mut writer, mut encoder, mut written) = (BatchWriter::new(max_bytes, 0), Encoder::default(), 0);
        for number in numbers {
            match writer.write(&mut encoder, &record(*number), &catalog()).unwrap() {
                Written::In => written += 1,
                Written::Full => break,
            }
        }
        (writer.finish(), written)
    }

    #[test]
    fn a_batch_is_an_array_of_the_events_as_each_alone() {
        let (batch, _) = batch_of(&[1, 2, 3], usize::MAX);
        let alone = [1, 2, 3].map(|number| {
            let event = event::encode(&record(number), Some(&samples::work_stream())).unwrap();
            String::from_utf8(event.to_vec()).unwrap()
        });
        assert_eq!(batch.body, format!("[{}]", alone.join(",")));
        assert_eq!((batch.content, batch.traceparent, batch.client_tracking_id), (Content::Batch, None, None));
    }

    #[test]
    fn its_id_is_made_of_its_receipts_in_their_order() {
        let text = format!("{}\n{}\n", receipt(1), receipt(2));
        let expected = format!("batch_{}", URL_SAFE_NO_PAD.encode(Sha256::digest(text)));
        assert_eq!(batch_of(&[1, 2], usize::MAX).0.id, expected);
        for others in [[2, 1].as_slice(), &[1], &[1, 2, 3]] {
            assert_ne!(batch_of(others, usize::MAX).0.id, expected);
        }
    }

    #[test]
    fn it_keeps_to_its_size_but_for_an_event_that_is_larger_alone() {
        let (two, _) = batch_of(&[1, 2], usize::MAX);
        for (max_bytes, expected) in [(two.body.len(), 2), (two.body.len() - 1, 1), (1, 1)] {
            let (batch, written) = batch_of(&[1, 2, 3], max_bytes);
            let events: Vec<serde_json::Value> = serde_json::from_slice(&batch.body).unwrap();
            assert_eq!((written, events.len()), (expected, expected), "{max_bytes}");
            assert_eq!(batch.id, batch_of(&[1, 2, 3][..expected], usize::MAX).0.id);
        }
    }

    #[test]
    fn a_damaged_record_leaves_no_trace() {
        let (mut writer, mut encoder) = (BatchWriter::new(usize::MAX, 0), Encoder::default());
        let damaged = StoredRecord { details: RecordDetails::stored("{"), ..record(2) };
        assert!(writer.write(&mut encoder, &damaged, &catalog()).is_err());
        writer.write(&mut encoder, &record(1), &catalog()).unwrap();
        assert!(writer.write(&mut encoder, &damaged, &catalog()).is_err());
        let (batch, clean) = (writer.finish(), batch_of(&[1], usize::MAX).0);
        assert_eq!((batch.id, batch.body), (clean.id, clean.body));
    }
}
