//! Spans as `ExportTraceServiceRequest` (opentelemetry-proto 1.x), and the little that is read of the answer.
//!
//! Protocol buffers, as far as they are needed: a field is a key (number and wire type) and a varint, eight or four bytes,
//! or a length and bytes. The numbers are those of `trace.proto`, `common.proto` and `resource.proto`.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Finished, SpanContext, Value};

/// The bytes of one message.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.key(field, VARINT);
        self.varint(number);
    }

    fn fixed64(&mut self, field: u64, number: u64) {
        self.key(field, EIGHT_BYTES);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn fixed32(&mut self, field: u64, number: u32) {
        self.key(field, FOUR_BYTES);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn attribute(&mut self, field: u64, name: &str, value: &Value) {
        self.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                Value::Number(number) => any.number(3, number.cast_unsigned()),
                Value::Measure(measure) => any.fixed64(4, measure.to_bits()),
            });
        });
    }
}

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;
/// Flags say whether what they are about is in another process.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// A request with these spans, of what is described by these attributes.
pub(super) fn request(resource: &[(Box<str>, Box<str>)], spans: &[Finished]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |of_resource| {
        of_resource.message(1, |described| {
            for (name, value) in resource {
                described.attribute(1, name, &Value::from(value.to_string()));
            }
        });
        of_resource.message(2, |of_scope| {
            of_scope.message(1, |scope| {
                scope.bytes(1, env!("CARGO_PKG_NAME").as_bytes());
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for finished in spans {
                of_scope.message(2, |message| span(message, finished));
            }
        });
    });
    request.0
}

fn span(message: &mut Message, finished: &Finished) {
    let Finished { own, parent, kind, name, began, ended, attributes, links, error } = finished;
    identify(message, own);
    if let Some(parent) = parent {
        message.bytes(4, parent.span_id());
    }
    message.bytes(5, name.as_bytes());
    message.number(6, *kind as u64);
    message.fixed64(7, nanoseconds(*began));
    message.fixed64(8, nanoseconds(*ended));
    for (name, value) in attributes {
        message.attribute(9, name, value);
    }
    for link in links {
        message.message(13, |message| {
            identify(message, link);
            message.fixed32(6, 1 | HAS_IS_REMOTE);
        });
    }
    if let Some(error) = error {
        message.message(15, |status| {
            status.bytes(2, error.as_bytes());
            status.number(3, ERROR);
        });
    }
    let remote = if *kind == super::Kind::Server && parent.is_some() { IS_REMOTE } else { 0 };
    message.fixed32(16, 1 | HAS_IS_REMOTE | remote);
}

fn identify(message: &mut Message, context: &SpanContext) {
    message.bytes(1, context.trace_id());
    message.bytes(2, context.span_id());
}

fn nanoseconds(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// How many spans an answer says were rejected (`partial_success.rejected_spans`); 0 for an answer that says nothing, or
/// that is none.
pub(super) fn rejected_spans(answer: &[u8]) -> usize {
    let partial = fields(answer).find_map(|(field, value)| match value {
        Read::Bytes(bytes) if field == 1 => Some(bytes),
        Read::Bytes(_) | Read::Number(_) => None,
    });
    let rejected = fields(partial.unwrap_or_default()).find_map(|(field, value)| match value {
        Read::Number(number) if field == 1 => usize::try_from(number.cast_signed()).ok(),
        Read::Bytes(_) | Read::Number(_) => None,
    });
    rejected.unwrap_or_default()
}

enum Read<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, up to the first that cannot be read.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Read<'_>)> {
    std::iter::from_fn(move || {
        let key = read_varint(&mut bytes)?;
        let value = match key & 7 {
            VARINT => Read::Number(read_varint(&mut bytes)?),
            BYTES => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let (taken, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Read::Bytes(taken)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
