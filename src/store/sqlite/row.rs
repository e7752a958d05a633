//! A record as a row: written once, with a checksum over everything that makes it up, verified on every read.
//!
//! The checksum also covers what stands in the row's lane (organization, work stream, queue) and the sequence number,
//! so a record can neither change nor turn up as another tenant's or at another place without being noticed. A reader
//! gets the whole record or a [`Damage`] that names it.
//!
//! The one change that a row may see is that its details are trimmed: a blob becomes a text, the SHA-256 of the blob in
//! hex, with a checksum of its own over everything that is left.

use std::sync::LazyLock;

use crc32fast::Hasher;
use rusqlite::types::{FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use sha2::{Digest, Sha256};

use super::details::{self, Body};
use crate::domain::admission::Admitted;
use crate::domain::ids::{Guid, LogicalName, QueueName};
use crate::domain::routing::Route;
use crate::domain::time::Timestamp;
use crate::store::receipt_id::ReceiptMask;
use crate::store::{Details, Entry, Lane, LaneId, RecordSummary, StoreError, StoredRecord, TraceContext};

/// The start of SHA-256 over organization, work stream, logical name and record ID: the idempotency key (contract §4).
pub(super) type DuplicateKey = [u8; 16];

/// What a reader selects: `r` is `records`, `l` is its lane, joined so that a missing one is noticed.
pub(super) const COLUMNS: &str = "r.seq, r.lane, r.receipt, r.duplicate_key, r.entity_logical_name, \
     r.entity_set_name, r.record_id, r.relationship_name, r.route, r.catalog_generation, r.accepted_at, \
     r.traceparent, r.client_tracking_id, r.crc, r.details, l.organization, l.work_stream, l.queue";

/// How many columns [`COLUMNS`] are; what a query selects besides starts here.
pub(super) const COLUMN_COUNT: usize = 18;

/// Everything about a record that its checksum covers, besides the sequence number.
struct Content<'a> {
    organization: [u8; 16],
    work_stream: [u8; 16],
    queue: &'a str,
    random: &'a [u8],
    key: &'a [u8],
    names: [&'a str; 3],
    record_id: [u8; 16],
    route: &'a str,
    generation: i64,
    accepted_at: i64,
    trace: [Option<&'a str>; 2],
    details: Body<'a>,
}

impl Content<'_> {
    /// Each part goes in with its length, so that no two contents read the same.
    fn checksum(&self) -> Hasher {
        let mut hasher = Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for bytes in [&self.organization, &self.work_stream, self.queue.as_bytes(), self.random, self.key] {
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
fn at_place(mut content: Hasher, seq: i64) -> i64 {
    content.update(&seq.to_le_bytes());
    i64::from(content.finalize())
}

/// A record on its way to the writer, with everything computed that does not need the writer.
pub(super) struct NewRecord {
    admitted: Box<Admitted>,
    pub(super) accepted_at: Timestamp,
    trace: TraceContext,
    pub(super) lane: Lane,
    pub(super) random: [u8; 16],
    pub(super) key: DuplicateKey,
    route: String,
    checksum: Hasher,
}

impl NewRecord {
    /// Prepares an entry: random bits, key, checksum.
    pub(super) fn prepare(entry: Entry) -> Result<Self, StoreError> {
        let Entry { admitted, accepted_at, trace } = entry;
        let random = random_bytes().map_err(|error| StoreError::Engine(Box::new(error)))?;
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
        let mut new = Self { admitted, accepted_at, trace, lane, random, key, route, checksum: Hasher::new() };
        new.checksum = new.content().checksum();
        Ok(new)
    }

    /// The created row.
    pub(super) fn details(&self) -> &[u8] {
        self.admitted.details().as_bytes()
    }

    fn content(&self) -> Content<'_> {
        let event = self.admitted.event();
        Content {
            organization: *self.lane.organization.guid().as_bytes(),
            work_stream: *self.lane.work_stream.guid().as_bytes(),
            queue: self.lane.queue.as_str(),
            random: &self.random,
            key: &self.key,
            names: [
                event.entity_logical_name.as_str(),
                event.entity_set_name.as_str(),
                event.relationship_name.as_str(),
            ],
            record_id: *event.record_id.guid().as_bytes(),
            route: &self.route,
            generation: self.admitted.catalog_generation().cast_signed(),
            accepted_at: self.accepted_at.millis(),
            trace: [self.trace.traceparent.as_deref(), self.trace.client_tracking_id.as_deref()],
            details: Body::Kept(self.details()),
        }
    }

    /// Writes the row at this place.
    pub(super) fn insert(&self, conn: &Connection, seq: i64, lane: LaneId) -> rusqlite::Result<()> {
        let content = self.content();
        let [logical_name, set_name, relationship] = content.names;
        let [traceparent, client_tracking_id] = content.trace;
        conn.prepare_cached(
            "insert into records (seq, lane, receipt, duplicate_key, entity_logical_name, entity_set_name, record_id, \
             relationship_name, route, catalog_generation, accepted_at, traceparent, client_tracking_id, crc, details) \
             values (:seq, :lane, :receipt, :key, :logical_name, :set_name, :record_id, :relationship, :route, \
             :generation, :accepted_at, :traceparent, :client_tracking_id, :crc, :details)",
        )?
        .execute(named_params! {
            ":seq": seq,
            ":lane": lane.0,
            ":receipt": content.random,
            ":key": content.key,
            ":logical_name": logical_name,
            ":set_name": set_name,
            ":record_id": content.record_id,
            ":relationship": relationship,
            ":route": content.route,
            ":generation": content.generation,
            ":accepted_at": content.accepted_at,
            ":traceparent": traceparent,
            ":client_tracking_id": client_tracking_id,
            ":crc": at_place(self.checksum.clone(), seq),
            ":details": self.details(),
        })?;
        Ok(())
    }
}

/// Sixteen random bytes from the operating system.
pub(super) fn random_bytes() -> Result<[u8; 16], getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// A record that is not what was written, and what gave it away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {what}")]
pub(super) struct Damage {
    /// Where it stands.
    pub(super) seq: i64,
    /// What is wrong.
    pub(super) what: &'static str,
}

impl Damage {
    /// The row is not there, and was not deleted either.
    pub(super) const fn missing(seq: i64) -> Self {
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
pub(super) struct ReadRecord {
    pub(super) seq: i64,
    pub(super) lane: LaneId,
    pub(super) random: [u8; 16],
    pub(super) key: DuplicateKey,
    pub(super) record: StoredRecord<Details>,
}

static SELECT_ONE: LazyLock<String> =
    LazyLock::new(|| format!("select {COLUMNS} from records r left join lanes l on l.id = r.lane where r.seq = ?1"));

/// Reads the record at this place. `Ok(Err(_))` is a record that is damaged or missing.
pub(super) fn read(conn: &Connection, mask: &ReceiptMask, seq: i64) -> rusqlite::Result<Result<ReadRecord, Damage>> {
    let found = conn.prepare_cached(&SELECT_ONE)?.query_row([seq], |row| Ok(decode(row, mask, seq))).optional()?;
    Ok(found.unwrap_or(Err(Damage::missing(seq))))
}

/// The record in a row that starts with [`COLUMNS`] and was found at `seq`.
pub(super) fn decode(row: &Row<'_>, mask: &ReceiptMask, seq: i64) -> Result<ReadRecord, Damage> {
    let fields = Fields::verified(row, seq)?;
    // What passes the checksum was written by this engine, so the parsers only fail on another version's rows.
    fields.into_record(mask, seq).ok_or(Damage { seq, what: "a value in it has no meaning" })
}

/// What a row's details become when they are trimmed.
#[derive(Debug)]
pub(super) struct Trimmed {
    pub(super) seq: i64,
    /// How many bytes go.
    pub(super) bytes: u64,
    pub(super) sha256_hex: String,
    /// The route without what the rules saw, which was part of the details.
    pub(super) route: String,
    pub(super) crc: i64,
}

/// Reads what the row at this place becomes when it is trimmed; `None` where it has been already.
pub(super) fn trimmed(conn: &Connection, seq: i64) -> rusqlite::Result<Result<Option<Trimmed>, Damage>> {
    let found = conn.prepare_cached(&SELECT_ONE)?.query_row([seq], |row| {
        Ok(Fields::verified(row, seq).map(|Fields { content, .. }| {
            let Body::Kept(kept) = content.details else { return None };
            let sha256 = Sha256::digest(kept).into();
            let route = Route::from_stored(content.route).map(|route| route.without_values().to_stored());
            let route = route.unwrap_or_else(|| content.route.to_owned());
            let content = Content { details: Body::Trimmed(sha256), route: &route, ..content };
            let crc = at_place(content.checksum(), seq);
            Some(Trimmed { seq, bytes: kept.len() as u64, sha256_hex: details::hex(&sha256), crc, route })
        }))
    });
    Ok(found.optional()?.unwrap_or_else(|| Err(Damage::missing(seq))))
}

/// A blob of sixteen bytes.
fn sixteen(value: ValueRef<'_>) -> FromSqlResult<[u8; 16]> {
    let blob = value.as_blob()?;
    blob.try_into().map_err(|_| FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: blob.len() })
}

struct Fields<'a> {
    lane: LaneId,
    crc: i64,
    content: Content<'a>,
}

impl<'a> Fields<'a> {
    /// The fields of the row that was found at `seq`, if they are what was written.
    fn verified(row: &'a Row<'_>, seq: i64) -> Result<Self, Damage> {
        let fields = Self::of(row).map_err(|_| Damage { seq, what: "a value in it cannot be read" })?;
        if at_place(fields.content.checksum(), seq) != fields.crc {
            return Err(Damage { seq, what: "its checksum does not match its content" });
        }
        Ok(fields)
    }

    fn of(row: &'a Row<'_>) -> FromSqlResult<Self> {
        let column = |at: usize| row.get_ref(at).unwrap_or(ValueRef::Null);
        Ok(Self {
            lane: LaneId(column(1).as_i64()?),
            crc: column(13).as_i64()?,
            content: Content {
                random: column(2).as_blob()?,
                key: column(3).as_blob()?,
                names: [column(4).as_str()?, column(5).as_str()?, column(7).as_str()?],
                record_id: sixteen(column(6))?,
                route: column(8).as_str()?,
                generation: column(9).as_i64()?,
                accepted_at: column(10).as_i64()?,
                trace: [column(11).as_str_or_null()?, column(12).as_str_or_null()?],
                details: Body::in_column(column(14))?,
                organization: sixteen(column(15))?,
                work_stream: sixteen(column(16))?,
                queue: column(17).as_str()?,
            },
        })
    }

    fn into_record(self, mask: &ReceiptMask, seq: i64) -> Option<ReadRecord> {
        let content = self.content;
        let [logical_name, set_name, relationship] = content.names;
        let [traceparent, client_tracking_id] = content.trace.map(|text| text.map(str::to_owned));
        let random = content.random.try_into().ok()?;
        let record = StoredRecord {
            receipt: mask.id_of(seq.cast_unsigned(), random),
            organization: Guid::from_bytes(content.organization).into(),
            work_stream: Guid::from_bytes(content.work_stream).into(),
            entity_logical_name: LogicalName::parse(logical_name).ok()?,
            entity_set_name: LogicalName::parse(set_name).ok()?,
            record_id: Guid::from_bytes(content.record_id).into(),
            relationship_name: LogicalName::parse_relationship(relationship).ok()?,
            details: content.details.to_owned(),
            route: Route::from_stored(content.route)?,
            catalog_generation: content.generation.cast_unsigned(),
            accepted_at: Timestamp::from_millis(content.accepted_at),
            trace: TraceContext { traceparent, client_tracking_id },
        };
        Some(ReadRecord { seq, lane: self.lane, random, key: content.key.try_into().ok()?, record })
    }
}

/// The record without its details.
pub(super) fn summary(record: StoredRecord<Details>) -> RecordSummary {
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
pub(super) fn lane_of(organization: &[u8], work_stream: &[u8], queue: &str) -> Option<Lane> {
    Some(Lane {
        organization: Guid::from_bytes(organization.try_into().ok()?).into(),
        work_stream: Guid::from_bytes(work_stream.try_into().ok()?).into(),
        queue: QueueName::parse(queue).ok()?,
    })
}
