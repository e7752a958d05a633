//! The files beside the records: what is configured, the audit trail, who is subscribed and what they are still to be told.

use std::collections::HashMap;

use rusqlite::{Connection, Row as FileRow};
use sha2::{Digest as _, Sha256};

use super::super::side_file::{self, is_empty, verified, version};
use super::super::survey::unchanged::Unchanged;
use super::super::{catalog, subscriptions};
use super::{Source, exact};
use crate::store::copying::CopyError;
use crate::store::copying::rows::{Row, Rows, Table, Value};
use subscriptions::rows::Document;

fn number(row: &FileRow<'_>, at: usize) -> rusqlite::Result<Value> {
    Ok(row.get::<_, Option<i64>>(at)?.map_or(Value::Null, Value::Number))
}

/// Takes some rows.
type Take<'a> = &'a mut dyn FnMut(Vec<Row>) -> Result<(), CopyError>;

impl Source {
    /// Organizations and API keys. Answers the generation.
    pub(super) fn catalog(&self, rows: &mut Rows) -> Result<i64, CopyError> {
        let Some(file) = self.side(&catalog::KIND)? else { return Ok(0) };
        let (conn, failed) = (file.conn(), self.failed(catalog::CATALOG));
        let organizations = each(conn, "select id, document, crc from organizations order by id", |row| {
            let (document, crc): (String, i64) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, [u8; 16]>(0)?, document, crc))
        });
        for (id, document, crc) in organizations.map_err(&failed)? {
            let document = exact(document, || "the document of an organization".to_owned())?;
            rows.entry(Table::Organizations).or_default().push(vec![Value::Guid(id), document, Value::Number(crc)]);
        }
        let api_keys = each(conn, "select name, document, crc from api_keys order by name", |row| {
            let (name, document, crc): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok((name, document, crc))
        });
        for (name, document, crc) in api_keys.map_err(&failed)? {
            let what = || "the name or the document of an API key".to_owned();
            let (name, document) = (exact(name, what)?, exact(document, what)?);
            rows.entry(Table::ApiKeys).or_default().push(vec![name, document, Value::Number(crc)]);
        }
        conn.query_row("select generation from meta where id = 1", [], |row| row.get(0)).map_err(failed)
    }

    /// Who is subscribed. Answers up to which record notices were put down.
    pub(super) fn subscriptions(&self, rows: &mut Rows) -> Result<i64, CopyError> {
        let Some(file) = self.side(&subscriptions::KIND)? else { return Ok(0) };
        let (conn, failed) = (file.conn(), self.failed(subscriptions::SUBSCRIPTIONS));
        let sql = "select id, number, document, crc, after, ended_at, ended_because, delivered, last_delivered_at \
             from subscriptions order by number";
        let found = each(conn, sql, |row| {
            let (key, document): ([u8; 24], String) = (row.get(0)?, row.get(2)?);
            let because = row.get::<_, Option<String>>(6)?.map_or(Value::Null, |because| self.text(&because));
            let organization = organization_of(&key, &document, row.get(3)?);
            let numbers = [number(row, 3)?, number(row, 4)?, number(row, 5)?];
            let behind = [because, number(row, 7)?, number(row, 8)?];
            Ok((organization, [Value::Bytes(key.to_vec()), number(row, 1)?], document, numbers, behind))
        });
        for (organization, before, document, numbers, behind) in found.map_err(&failed)? {
            let wrong = || CopyError::Damaged("a subscription is not as it was written".to_owned());
            let organization = Value::Guid(organization.ok_or_else(wrong)?);
            let document = exact(document, || "the document of a subscription".to_owned())?;
            let row = [organization].into_iter().chain(before).chain([document]).chain(numbers).chain(behind);
            rows.entry(Table::Subscriptions).or_default().push(row.collect());
        }
        conn.query_row("select position from meta where id = 1", [], |row| row.get(0)).map_err(failed)
    }

    /// Goes through the audit trail in order, so many entries at once.
    pub(in crate::store) fn each_audit(&self, most: usize, take: Take<'_>) -> Result<(), CopyError> {
        let Some(file) = self.side(&catalog::KIND)? else { return Ok(()) };
        let sql = "select seq, at, organization, resource, entry, crc from audit order by seq";
        let failed = self.failed(catalog::CATALOG);
        in_pieces((file.conn(), sql), failed, most, take, |row| self.audit_row(row))
    }

    /// Goes through the notices, those of one subscription after those of another, so many at once.
    pub(in crate::store) fn each_notice(&self, most: usize, take: Take<'_>) -> Result<(), CopyError> {
        let Some(file) = self.side(&subscriptions::KIND)? else { return Ok(()) };
        let failed = self.failed(subscriptions::SUBSCRIPTIONS);
        let whose = each(file.conn(), "select number, id, document, crc from subscriptions", |row| {
            let (key, document): ([u8; 24], String) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, organization_of(&key, &document, row.get(3)?).map(|organization| (key, organization))))
        });
        let whose: HashMap<i64, _> = whose.map_err(&failed)?.into_iter().collect();
        let sql = "select subscription, number, receipt, at, due_at, attempts, last_error, dead_at from notices \
             order by subscription, number";
        in_pieces((file.conn(), sql), failed, most, take, |row| {
            let Some((key, organization)) = whose.get(&row.get(0)?).copied().flatten() else {
                return Ok(Err(CopyError::Damaged("a notice is of no subscription".to_owned())));
            };
            let error = row.get::<_, Option<String>>(6)?.map_or(Value::Null, |error| self.text(&error));
            let before = [Value::Guid(organization), Value::Bytes(key.to_vec()), number(row, 1)?];
            let receipt = Value::Bytes(row.get(2)?);
            let behind = [receipt, number(row, 3)?, number(row, 4)?, number(row, 5)?, error, number(row, 7)?];
            Ok(Ok(before.into_iter().chain(behind).collect()))
        })
    }

    fn audit_row(&self, row: &FileRow<'_>) -> rusqlite::Result<Result<Row, CopyError>> {
        let (seq, resource, entry): (i64, String, String) = (row.get(0)?, row.get(3)?, row.get(4)?);
        let organization = row.get::<_, Option<[u8; 16]>>(2)?.map_or(Value::Null, Value::Guid);
        // Stands for the change, which nobody asks after any more, and is another one for each.
        let change = Sha256::new()
            .chain_update(b"streamgate copied entry ")
            .chain_update(self.secret.0)
            .chain_update(seq.to_le_bytes())
            .finalize();
        let change = change.iter().take(16).copied().collect();
        let what = || format!("entry {seq} of the audit trail");
        let (at, crc) = (number(row, 1)?, number(row, 5)?);
        Ok(exact(resource, what).and_then(|resource| {
            Ok(vec![Value::Number(seq), Value::Bytes(change), at, organization, resource, exact(entry, what)?, crc])
        }))
    }

    /// Opens one of the files; `None` where there is none, or nothing in it.
    fn side(&self, kind: &side_file::Kind) -> Result<Option<Unchanged>, CopyError> {
        let path = self.directory.join(kind.file);
        if !std::fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            return match self.directory.join(kind.mark).exists() {
                true => Err(CopyError::Damaged(format!("{} is missing or empty", kind.file))),
                false => Ok(None),
            };
        }
        let file = Unchanged::open(&path)?;
        match version(file.conn()).map_err(self.failed(kind.file))? {
            found if found == (kind.application_id, kind.version) => Ok(Some(file)),
            (0, 0) if is_empty(file.conn()).map_err(self.failed(kind.file))? => Ok(None),
            _ => Err(CopyError::Damaged(format!("{} is not the file that it should be", kind.file))),
        }
    }
}

fn organization_of(key: &[u8; 24], document: &str, crc: i64) -> Option<[u8; 16]> {
    let document: Document = verified(key, document, crc)?;
    Some(*document.organization().guid().as_bytes())
}

/// Reads rows, and hands so many at once on.
fn in_pieces(
    (conn, sql): (&Connection, &str),
    failed: impl Fn(rusqlite::Error) -> CopyError,
    most: usize,
    take: Take<'_>,
    mut read: impl FnMut(&FileRow<'_>) -> rusqlite::Result<Result<Row, CopyError>>,
) -> Result<(), CopyError> {
    let mut select = conn.prepare(sql).map_err(&failed)?;
    let mut found = select.query([]).map_err(&failed)?;
    let mut piece = Vec::new();
    while let Some(row) = found.next().map_err(&failed)? {
        piece.push(read(row).map_err(&failed)??);
        if piece.len() >= most {
            take(std::mem::take(&mut piece))?;
        }
    }
    if piece.is_empty() { Ok(()) } else { take(piece) }
}

fn each<T>(
    conn: &Connection,
    sql: &str,
    read: impl FnMut(&FileRow<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    conn.prepare(sql)?.query_map([], read)?.collect()
}
