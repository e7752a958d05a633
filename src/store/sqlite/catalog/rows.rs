//! The rows of `catalog.db`: JSON texts, each with a checksum over its key and itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;

use super::{Summed, read_error, verified};
use crate::config::stored::{Document, Stored, StoredApiKey};
use crate::domain::ids::{Guid, OrganizationId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::{AuditEntry, AuditPage, AuditQuery};
use crate::store::kept_audit::{self, KeptEntry};

/// The most entries that one page of the trail is picked from.
const MAX_LOOKED_AT: usize = 50_000;

fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("catalog.db: {what} is not as it was written; restore the file from a backup"))
}

/// Everything that is configured.
pub(super) fn load(conn: &Connection) -> Result<Stored, StoreError> {
    Ok(Stored { organizations: organizations(conn)?, api_keys: api_keys(conn)?, generation: generation(conn)? })
}

/// The stored generation.
pub(super) fn generation(conn: &Connection) -> Result<u64, StoreError> {
    let generation: Option<i64> = conn
        .query_row("select generation from meta where id = 1", [], |row| row.get(0))
        .optional()
        .map_err(read_error)?;
    generation.map(i64::cast_unsigned).ok_or_else(|| damaged("its generation"))
}

fn organizations(conn: &Connection) -> Result<BTreeMap<OrganizationId, Arc<Document>>, StoreError> {
    let mut select = conn.prepare("select id, document, crc from organizations").map_err(read_error)?;
    let rows = select
        .query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)))
        .map_err(read_error)?;
    let mut organizations = BTreeMap::new();
    for row in rows {
        let (key, text, crc) = row.map_err(read_error)?;
        let id = key.as_slice().try_into().ok().map(|bytes| OrganizationId::from(Guid::from_bytes(bytes)));
        let id = id.ok_or_else(|| damaged("an organization's ID"))?;
        let document: Document = verified(&key, &text, crc).ok_or_else(|| damaged(format!("organization {id}")))?;
        organizations.insert(id, Arc::new(document));
    }
    Ok(organizations)
}

fn api_keys(conn: &Connection) -> Result<BTreeMap<Arc<str>, StoredApiKey>, StoreError> {
    let mut select = conn.prepare("select name, document, crc from api_keys").map_err(read_error)?;
    let rows = select
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)))
        .map_err(read_error)?;
    let mut api_keys = BTreeMap::new();
    for row in rows {
        let (name, text, crc) = row.map_err(read_error)?;
        let api_key = verified::<Value>(name.as_bytes(), &text, crc)
            .and_then(|value| StoredApiKey::from_json(&name, &value))
            .ok_or_else(|| damaged(format!("API key `{name}`")))?;
        api_keys.insert(name.into(), api_key);
    }
    Ok(api_keys)
}

/// Names every row that is not as it was written.
pub(in crate::store::sqlite) fn damaged_rows(conn: &Connection, note: &mut dyn FnMut(String)) {
    let generation = conn.query_row("select generation from meta where id = 1", [], |row| row.get::<_, i64>(0));
    if let Err(fault) = generation {
        note(format!("its generation cannot be read: {fault}"));
    }
    let text = |row: &Row<'_>| -> rusqlite::Result<(String, i64)> { Ok((row.get(1)?, row.get(2)?)) };
    each_row(conn, "organizations", "select id, document, crc from organizations", note, |row| {
        let key: Vec<u8> = row.get(0)?;
        let (document, crc) = text(row)?;
        let sound = key.len() == 16 && verified::<Document>(&key, &document, crc).is_some();
        let id = || key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Ok((!sound).then(|| format!("organization {}", id())))
    });
    each_row(conn, "api_keys", "select name, document, crc from api_keys", note, |row| {
        let name: String = row.get(0)?;
        let (document, crc) = text(row)?;
        let key = verified::<Value>(name.as_bytes(), &document, crc);
        let sound = key.and_then(|value| StoredApiKey::from_json(&name, &value)).is_some();
        Ok((!sound).then(|| format!("API key `{name}`")))
    });
    each_row(conn, "audit", "select seq, at, organization, resource, entry, crc from audit", note, |row| {
        let row = AuditRow::of(row)?;
        let seq = row.seq;
        Ok(row.into_entry().is_err().then(|| format!("entry {seq} of the audit trail")))
    });
}

/// Looks at the rows of a table, as far as they can be read.
fn each_row(
    conn: &Connection,
    table: &str,
    sql: &str,
    note: &mut dyn FnMut(String),
    look: impl Fn(&Row<'_>) -> rusqlite::Result<Option<String>>,
) {
    let mut count = 0_u64;
    let read = (|| {
        let mut select = conn.prepare(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            count += 1;
            match look(row) {
                Ok(None) => {}
                Ok(Some(what)) => note(format!("{what} is not as it was written")),
                Err(fault) => note(format!("row {count} of the table {table} is not as it was written: {fault}")),
            }
        }
        Ok::<_, rusqlite::Error>(())
    })();
    if let Err(fault) = read {
        note(format!("the table {table} cannot be read to its end: {fault}"));
    }
}

/// About how large a page of the trail is at most.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Adds an entry to the trail.
pub(super) fn insert_audit(conn: &Connection, entry: &AuditEntry) -> rusqlite::Result<()> {
    let at = entry.at.millis();
    let organization = entry.organization.map(|id| id.guid().as_bytes().to_vec());
    let key = kept_audit::key(at, organization.as_deref(), &entry.resource);
    let Summed { text, crc } = Summed::new(&key, &KeptEntry::of(entry))?;
    conn.prepare_cached("insert into audit (at, organization, resource, entry, crc) values (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![at, organization, entry.resource, text, crc])?;
    Ok(())
}

/// A row of the trail, unread.
struct AuditRow {
    seq: i64,
    at: i64,
    organization: Option<Vec<u8>>,
    resource: String,
    text: String,
    crc: i64,
}

impl AuditRow {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            at: row.get(1)?,
            organization: row.get(2)?,
            resource: row.get(3)?,
            text: row.get(4)?,
            crc: row.get(5)?,
        })
    }

    fn passes(&self, query: &AuditQuery) -> bool {
        let of_them = query.organizations.as_ref().is_none_or(|wanted| {
            let own = self.organization.as_deref();
            own.is_some_and(|own| wanted.iter().any(|id| id.guid().as_bytes().as_slice() == own))
        });
        of_them && query.resource.as_ref().is_none_or(|part| self.resource.contains(part.as_str()))
    }

    fn into_entry(self) -> Result<AuditEntry, StoreError> {
        let key = kept_audit::key(self.at, self.organization.as_deref(), &self.resource);
        let kept: KeptEntry = verified(&key, &self.text, self.crc)
            .ok_or_else(|| damaged(format!("entry {} of the audit trail", self.seq)))?;
        let organization = match self.organization.map(|bytes| bytes.as_slice().try_into().map(Guid::from_bytes)) {
            None => None,
            Some(Ok(guid)) => Some(guid.into()),
            Some(Err(_)) => return Err(damaged(format!("entry {} of the audit trail", self.seq))),
        };
        Ok(kept.into_entry(Timestamp::from_millis(self.at), organization, self.resource))
    }
}

/// A page of the trail, newest first.
pub(super) fn audit(conn: &Connection, query: &AuditQuery, limit: usize) -> Result<AuditPage, StoreError> {
    let mut page = AuditPage::default();
    if limit == 0 {
        return Ok(page);
    }
    let mut select = conn
        .prepare_cached(
            "select seq, at, organization, resource, entry, crc from audit where seq < ?1 order by seq desc",
        )
        .map_err(read_error)?;
    let rows = select.query_map([query.before.unwrap_or(i64::MAX)], AuditRow::of).map_err(read_error)?;
    let mut bytes = 0;
    for (looked_at, row) in rows.enumerate() {
        let row = row.map_err(read_error)?;
        let seq = row.seq;
        if row.passes(query) {
            bytes += row.text.len();
            page.entries.push((seq, row.into_entry()?));
        }
        if page.entries.len() == limit || bytes > MAX_PAGE_BYTES || looked_at + 1 == MAX_LOOKED_AT {
            page.next = Some(seq);
            break;
        }
    }
    Ok(page)
}
