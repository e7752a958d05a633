//! Records of format 2, a row each, become records in blocks. Their checksums are over the same content, so they are
//! carried over and not made anew: a record that was damaged stays damaged.

use rusqlite::Row;
use rusqlite::types::{FromSqlResult, ValueRef};

use crate::store::LaneId;
use crate::store::record_format::{Body, Content, Head, LaneContent, UNREADABLE};

/// What a format 2 row is selected by.
pub(in crate::store::sqlite) const SELECT: &str = "select seq, lane, receipt, duplicate_key, entity_logical_name, \
     entity_set_name, record_id, relationship_name, route, catalog_generation, accepted_at, traceparent, \
     client_tracking_id, crc, details from records order by seq";

/// The number, head and body of a row of [`SELECT`].
pub(in crate::store::sqlite) fn record_in(row: &Row<'_>) -> rusqlite::Result<(i64, Head, Vec<u8>)> {
    let seq = row.get(0)?;
    let (head, body) = convert(row).unwrap_or_else(|_| {
        let head = Head { lane: LaneId(0), crc: 0, body_bytes: 0, accepted_at: 0, random: [0; 16], key: [0; 16] };
        (head, UNREADABLE.to_vec())
    });
    Ok((seq, head, body))
}

fn convert(row: &Row<'_>) -> FromSqlResult<(Head, Vec<u8>)> {
    let column = |at: usize| row.get_ref(at).unwrap_or(ValueRef::Null);
    let sixteen = |at: usize| {
        let blob = column(at).as_blob()?;
        let wrong = rusqlite::types::FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: blob.len() };
        blob.try_into().map_err(|_| wrong)
    };
    let content = Content {
        // Not part of the body.
        lane: LaneContent { organization: [0; 16], work_stream: [0; 16], queue: "" },
        random: sixteen(2)?,
        key: sixteen(3)?,
        names: [column(4).as_str()?, column(5).as_str()?, column(7).as_str()?],
        record_id: sixteen(6)?,
        route: column(8).as_str()?,
        generation: column(9).as_i64()?,
        accepted_at: column(10).as_i64()?,
        trace: [column(11).as_str_or_null()?, column(12).as_str_or_null()?],
        details: Body::in_column(column(14))?,
    };
    let head = Head {
        lane: LaneId(column(1).as_i64()?),
        // One that was not a checksum fits nothing.
        crc: u32::try_from(column(13).as_i64()?).unwrap_or(0),
        body_bytes: 0,
        accepted_at: content.accepted_at,
        random: content.random,
        key: content.key,
    };
    Ok((head, content.to_body()))
}
