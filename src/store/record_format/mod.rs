//! How a record is kept, whatever the engine: written once, with a checksum over everything that makes it up, verified on
//! every read.
//!
//! The checksum also covers what stands in the record's lane (organization, work stream, queue) and its number, so a
//! record can neither change nor turn up as another tenant's or at another place without being noticed. A reader gets
//! the whole record or a [`Damage`] that names it.
//!
//! A part of a record is its [`Head`], which an engine keeps where it is found quickly; the rest is the body that is
//! written and read here. The one change that a record may see is that its details are trimmed: the body then ends with
//! their SHA-256, and has a checksum of its own over everything that is left.

mod details;
pub(in crate::store) mod random;

use crc32fast::Hasher;
use sha2::{Digest, Sha256};

pub(in crate::store) use self::details::Body;
use crate::domain::ids::{Guid, LogicalName, QueueName};
use crate::domain::routing::Route;
use crate::domain::time::Timestamp;
use crate::store::receipt_id::ReceiptMask;
use crate::store::{Details, Entry, Lane, LaneId, RecordSummary, StoreError, StoredRecord, TraceContext};

/// The start of SHA-256 over organization, work stream, logical name and record ID: the idempotency key (contract §4).
pub(in crate::store) type DuplicateKey = [u8; 16];

/// What is known of a record without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Head {
    /// The lane that it came into.
    pub(in crate::store) lane: LaneId,
    /// The checksum over head, lane, body and place.
    pub(in crate::store) crc: u32,
    /// How long its body is; 0 for a record that was deleted.
    pub(in crate::store) body_bytes: u32,
    /// When it was accepted, in milliseconds since 1970.
    pub(in crate::store) accepted_at: i64,
    /// The random part of its receipt ID.
    pub(in crate::store) random: [u8; 16],
    /// Its idempotency key.
    pub(in crate::store) key: DuplicateKey,
}

/// Everything about a record that its checksum covers, besides the sequence number.
pub(in crate::store) struct Content<'a> {
    pub(in crate::store) lane: LaneContent<'a>,
    pub(in crate::store) random: [u8; 16],
    pub(in crate::store) key: DuplicateKey,
    pub(in crate::store) names: [&'a str; 3],
    pub(in crate::store) record_id: [u8; 16],
    pub(in crate::store) route: &'a str,
    pub(in crate::store) generation: i64,
    pub(in crate::store) accepted_at: i64,
    pub(in crate::store) trace: [Option<&'a str>; 2],
    pub(in crate::store) details: Body<'a>,
}

/// What a lane stands for, as a checksum sees it.
#[derive(Clone, Copy)]
pub(in crate::store) struct LaneContent<'a> {
    pub(in crate::store) organization: [u8; 16],
    pub(in crate::store) work_stream: [u8; 16],
    pub(in crate::store) queue: &'a str,
}

impl<'a> From<&'a Lane> for LaneContent<'a> {
    fn from(lane: &'a Lane) -> Self {
        Self {
            organization: *lane.organization.guid().as_bytes(),
            work_stream: *lane.work_stream.guid().as_bytes(),
            queue: lane.queue.as_str(),
        }
    }
}

impl Content<'_> {
    /// Each part goes in with its length, so that no two contents read the same.
    pub(in crate::store) fn checksum(&self) -> Hasher {
        let mut hasher = Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let LaneContent { organization, work_stream, queue } = self.lane;
        for bytes in [&organization, &work_stream, queue.as_bytes(), &self.random, &self.key] {
            part(bytes);
        }
        for name in self.names {
            part(name.as_bytes());
        }
        part(&self.record_id);
        part(self.route.as_bytes());
        part(&self.generation.to_le_bytes());
        part(&self.accepted_at.to_le_bytes());
        for text in self.trace {
            part(&[u8::from(text.is_some())]);
            part(text.unwrap_or_default().as_bytes());
        }
        match self.details {
            Body::Kept(details) => part(details),
            Body::Trimmed(sha256) => {
                part(b"sha256");
                part(&sha256);
            }
        }
        hasher
    }
}

/// The checksum of a content at a place.
pub(in crate::store) fn at_place(mut content: Hasher, seq: i64) -> u32 {
    content.update(&seq.to_le_bytes());
    content.finalize()
}

/// A record on its way to the writer, with everything computed that does not need the writer.
pub(in crate::store) struct NewRecord {
    pub(in crate::store) accepted_at: Timestamp,
    pub(in crate::store) lane: Lane,
    pub(in crate::store) random: [u8; 16],
    pub(in crate::store) key: DuplicateKey,
    pub(in crate::store) body: Vec<u8>,
    details_bytes: usize,
    checksum: Hasher,
}

impl NewRecord {
    /// Prepares an entry: random bits, key, body, checksum.
    pub(in crate::store) fn prepare(entry: &Entry) -> Result<Self, StoreError> {
        let Entry { admitted, accepted_at, trace } = entry;
        let random = random::sixteen().map_err(|error| StoreError::Engine(Box::new(error)))?;
        let event = admitted.event();
        let lane = Lane {
            organization: event.organization,
            work_stream: event.work_stream,
            queue: admitted.route().queue.clone(),
        };
        let mut key = DuplicateKey::default();
        let digest = Sha256::new()
            .chain_update(event.organization.guid().as_bytes())
            .chain_update(event.work_stream.guid().as_bytes())
            .chain_update(event.entity_logical_name.as_str())
            .chain_update(event.record_id.guid().as_bytes())
            .finalize();
        for (to, from) in key.iter_mut().zip(digest) {
            *to = from;
        }
        let route = admitted.route().to_stored();
        let details = admitted.details().as_bytes();
        let content = Content {
            lane: (&lane).into(),
            random,
            key,
            names: [
                event.entity_logical_name.as_str(),
                event.entity_set_name.as_str(),
                event.relationship_name.as_str(),
            ],
            record_id: *event.record_id.guid().as_bytes(),
            route: &route,
            generation: admitted.catalog_generation().cast_signed(),
            accepted_at: accepted_at.millis(),
            trace: [trace.traceparent.as_deref(), trace.client_tracking_id.as_deref()],
            details: Body::Kept(details),
        };
        let (checksum, body) = (content.checksum(), content.to_body());
        let details_bytes = details.len();
        Ok(Self { accepted_at: *accepted_at, random, key, body, details_bytes, checksum, lane })
    }

    /// The created row.
    pub(in crate::store) fn details(&self) -> &[u8] {
        // They are the end of the body.
        self.body.get(self.body.len().saturating_sub(self.details_bytes)..).unwrap_or_default()
    }

    /// Its head at this place.
    pub(in crate::store) fn head(&self, seq: i64, lane: LaneId) -> Head {
        Head {
            lane,
            crc: at_place(self.checksum.clone(), seq),
            body_bytes: 0,
            accepted_at: self.accepted_at.millis(),
            random: self.random,
            key: self.key,
        }
    }
}

/// A record that is not what was written, and what gave it away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {what}")]
pub(in crate::store) struct Damage {
    /// Where it stands.
    pub(in crate::store) seq: i64,
    /// What is wrong.
    pub(in crate::store) what: &'static str,
}

impl Damage {
    /// The row is not there, and was not deleted either.
    pub(in crate::store) const fn missing(seq: i64) -> Self {
        Self { seq, what: "it is missing" }
    }
}

impl From<Damage> for StoreError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.to_string())
    }
}

/// A record as read, verified.
#[derive(Debug, Clone)]
pub(in crate::store) struct ReadRecord {
    pub(in crate::store) seq: i64,
    pub(in crate::store) lane: LaneId,
    pub(in crate::store) random: [u8; 16],
    pub(in crate::store) key: DuplicateKey,
    pub(in crate::store) record: StoredRecord<Details>,
}

/// A record as an engine keeps it: its head and its body, which is `None` where it cannot be read.
pub(in crate::store) type Kept<'a> = (Head, Option<&'a [u8]>);

/// The record of this number, if it is what was written.
pub(in crate::store) fn read_kept(
    kept: Option<Kept<'_>>,
    seq: i64,
    lane: Option<&Lane>,
    mask: &ReceiptMask,
) -> Result<ReadRecord, Damage> {
    let (head, content) = verified(kept, seq, lane)?;
    // What passes the checksum was written by this engine, so the parsers only fail on another version's records.
    let record = content.into_record(mask, seq, &head).ok_or(Damage { seq, what: "a value in it has no meaning" })?;
    Ok(ReadRecord { seq, lane: head.lane, random: head.random, key: head.key, record })
}

/// What is left of a record when its details are trimmed.
#[derive(Debug)]
pub(in crate::store) struct Trimmed {
    pub(in crate::store) head: Head,
    pub(in crate::store) body: Vec<u8>,
    /// How many bytes go.
    pub(in crate::store) bytes: u64,
}

/// Makes of a record in its block what it becomes when it is trimmed; `None` where it has been already.
pub(in crate::store) fn trimmed(
    kept: Option<Kept<'_>>,
    seq: i64,
    lane: Option<&Lane>,
) -> Result<Option<Trimmed>, Damage> {
    let (head, content) = verified(kept, seq, lane)?;
    let Body::Kept(kept) = content.details else { return Ok(None) };
    let bytes = kept.len() as u64;
    let sha256 = Sha256::digest(kept).into();
    let route = Route::from_stored(content.route).map(|route| route.without_values().to_stored());
    let route = route.unwrap_or_else(|| content.route.to_owned());
    let content = Content { details: Body::Trimmed(sha256), route: &route, ..content };
    let head = Head { crc: at_place(content.checksum(), seq), ..head };
    Ok(Some(Trimmed { head, body: content.to_body(), bytes }))
}

/// The parts of a record, if they are what was written.
fn verified<'a>(kept: Option<Kept<'a>>, seq: i64, lane: Option<&'a Lane>) -> Result<(Head, Content<'a>), Damage> {
    let damage = |what| Damage { seq, what };
    let (head, body) = kept.ok_or_else(|| Damage::missing(seq))?;
    let lane = lane.ok_or_else(|| damage("its lane is missing or cannot be read"))?;
    let content = body.and_then(|body| Content::of(head, body, lane));
    let content = content.ok_or_else(|| damage("a value in it cannot be read"))?;
    if at_place(content.checksum(), seq) != head.crc {
        return Err(damage("its checksum does not match its content"));
    }
    Ok((head, content))
}

/// Takes a body apart.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn text(&mut self) -> Option<&'a str> {
        self.optional_text()?
    }

    /// `Some(None)` is a text that is not there.
    fn optional_text(&mut self) -> Option<Option<&'a str>> {
        let bytes = u32::from_le_bytes(self.array()?);
        if bytes == NO_TEXT {
            return Some(None);
        }
        let (text, rest) = self.0.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.0 = rest;
        Some(Some(std::str::from_utf8(text).ok()?))
    }
}

/// Stands where the length of a text would.
const NO_TEXT: u32 = u32::MAX;
/// A body that no reader takes for one: stands where what could not be read is written again.
pub(in crate::store) const UNREADABLE: &[u8] = &[0];
/// How a body says whether it ends with the details, or with their SHA-256.
const KEPT: u8 = 1;
pub(in crate::store) const TRIMMED: u8 = 2;

impl<'a> Content<'a> {
    /// The body of the record: what is not in its head.
    pub(in crate::store) fn to_body(&self) -> Vec<u8> {
        let (kind, end): (u8, &[u8]) = match &self.details {
            Body::Kept(details) => (KEPT, details),
            Body::Trimmed(sha256) => (TRIMMED, sha256),
        };
        let texts = self.names.map(Some).into_iter().chain([Some(self.route)]).chain(self.trace);
        let mut body = Vec::with_capacity(512 + end.len());
        body.push(kind);
        body.extend_from_slice(&self.record_id);
        body.extend_from_slice(&self.generation.to_le_bytes());
        for text in texts {
            let bytes = text.map_or(NO_TEXT, |text| u32::try_from(text.len()).unwrap_or(NO_TEXT));
            body.extend_from_slice(&bytes.to_le_bytes());
            body.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        body.extend_from_slice(end);
        body
    }

    /// Takes a body apart; `None` for one that no engine has written.
    pub(in crate::store) fn of(head: Head, body: &'a [u8], lane: &'a Lane) -> Option<Self> {
        let mut parts = Parts(body);
        let [kind] = parts.array()?;
        let record_id = parts.array()?;
        let generation = i64::from_le_bytes(parts.array()?);
        let names = [parts.text()?, parts.text()?, parts.text()?];
        let route = parts.text()?;
        let trace = [parts.optional_text()?, parts.optional_text()?];
        let details = match kind {
            KEPT => Body::Kept(parts.0),
            TRIMMED => Body::Trimmed(parts.0.try_into().ok()?),
            _ => return None,
        };
        Some(Self {
            lane: lane.into(),
            random: head.random,
            key: head.key,
            names,
            record_id,
            route,
            generation,
            accepted_at: head.accepted_at,
            trace,
            details,
        })
    }

    fn into_record(self, mask: &ReceiptMask, seq: i64, head: &Head) -> Option<StoredRecord<Details>> {
        let [logical_name, set_name, relationship] = self.names;
        let [traceparent, client_tracking_id] = self.trace.map(|text| text.map(str::to_owned));
        Some(StoredRecord {
            receipt: mask.id_of(seq.cast_unsigned(), head.random),
            organization: Guid::from_bytes(self.lane.organization).into(),
            work_stream: Guid::from_bytes(self.lane.work_stream).into(),
            entity_logical_name: LogicalName::parse(logical_name).ok()?,
            entity_set_name: LogicalName::parse(set_name).ok()?,
            record_id: Guid::from_bytes(self.record_id).into(),
            relationship_name: LogicalName::parse_relationship(relationship).ok()?,
            details: self.details.to_owned(),
            route: Route::from_stored(self.route)?,
            catalog_generation: self.generation.cast_unsigned(),
            accepted_at: Timestamp::from_millis(self.accepted_at),
            trace: TraceContext { traceparent, client_tracking_id },
        })
    }
}

/// The record without its details.
pub(in crate::store) fn summary(record: StoredRecord<Details>) -> RecordSummary {
    RecordSummary {
        receipt: record.receipt,
        organization: record.organization,
        work_stream: record.work_stream,
        entity_logical_name: record.entity_logical_name,
        record_id: record.record_id,
        route: record.route,
        catalog_generation: record.catalog_generation,
        accepted_at: record.accepted_at,
        trace: record.trace,
    }
}

/// The lane in a row of `lanes`, whose columns start with organization, work stream, queue; `None` if it is none.
pub(in crate::store) fn lane_of(organization: &[u8], work_stream: &[u8], queue: &str) -> Option<Lane> {
    Some(Lane {
        organization: Guid::from_bytes(organization.try_into().ok()?).into(),
        work_stream: Guid::from_bytes(work_stream.try_into().ok()?).into(),
        queue: QueueName::parse(queue).ok()?,
    })
}
