//! The rows of the catalog: JSON texts, each with a checksum over its key and itself, as in the engine on files.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Row, Transaction};

use super::{Fault, PgGuid};
use crate::config::stored::{Document, Stored, StoredApiKey};
use crate::domain::ids::{Guid, OrganizationId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::catalog::{Advance, AuditPage, AuditQuery, CatalogChange};
use crate::store::kept_audit::{self, KeptEntry};
use crate::store::sqlite::side_file::{Summed, verified};

/// The most entries of the trail on one page.
const MAX_PAGE: usize = 1_000;
/// About how large a page of the trail is at most.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Tells one change from every other.
pub(super) type ChangeId = [u8; 16];

fn damaged(what: impl Display) -> Fault {
    Fault::Inconsistent(format!(
        "the catalog in the database: {what} is not as it was written; restore it from a backup"
    ))
}

/// A change as it is kept: made before a connection is had.
pub(super) struct KeptChange {
    pub(super) id: ChangeId,
    pub(super) advance: Option<Advance>,
    organizations: Vec<(PgGuid, Option<Summed>)>,
    api_keys: Vec<(Arc<str>, Option<Summed>)>,
    at: i64,
    organization: Option<PgGuid>,
    resource: String,
    entry: Summed,
}

impl KeptChange {
    pub(super) fn of(change: &CatalogChange) -> Result<Self, StoreError> {
        let mut id = ChangeId::default();
        getrandom::fill(&mut id).map_err(|fault| StoreError::Engine(Box::new(fault)))?;
        let organizations = change.organizations.iter().map(|(organization, document)| {
            let key = organization.guid();
            let document = document.as_ref().map(|document| summed(key.as_bytes(), &**document)).transpose()?;
            Ok((key.into(), document))
        });
        let api_keys = change.api_keys.iter().map(|(name, key)| {
            let key = key.as_ref().map(|key| summed(name.as_bytes(), &key.to_json())).transpose()?;
            Ok((Arc::clone(name), key))
        });
        let audit = &change.audit;
        let at = audit.at.millis();
        let organization = audit.organization.map(|id| PgGuid::from(id.guid()));
        let key = kept_audit::key(at, organization.as_ref().map(|guid| guid.0.as_slice()), &audit.resource);
        Ok(Self {
            id,
            advance: change.advance,
            organizations: organizations.collect::<Result<_, StoreError>>()?,
            api_keys: api_keys.collect::<Result<_, StoreError>>()?,
            at,
            organization,
            resource: audit.resource.clone(),
            entry: summed(&key, &KeptEntry::of(audit))?,
        })
    }

    /// Writes all of it.
    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        for (id, document) in &self.organizations {
            match document {
                None => {
                    transaction.execute("delete from catalog_organizations where organization_id = $1", &[id]).await?
                }
                Some(Summed { text, crc }) => {
                    let put = "insert into catalog_organizations values ($1, $2, $3) on conflict (organization_id) \
                               do update set document = excluded.document, crc = excluded.crc";
                    transaction.execute(put, &[id, text, crc]).await?
                }
            };
        }
        for (name, key) in &self.api_keys {
            let name: &str = name;
            match key {
                None => transaction.execute("delete from catalog_api_keys where name = $1", &[&name]).await?,
                Some(Summed { text, crc }) => {
                    let put = "insert into catalog_api_keys values ($1, $2, $3) on conflict (name) \
                               do update set document = excluded.document, crc = excluded.crc";
                    transaction.execute(put, &[&name, text, crc]).await?
                }
            };
        }
        let put =
            "insert into audit (change_id, at, organization_id, resource, entry, crc) values ($1, $2, $3, $4, $5, $6)";
        let Self { id, at, organization, resource, entry: Summed { text, crc }, .. } = self;
        transaction.execute(put, &[&id.as_slice(), at, organization, resource, text, crc]).await?;
        Ok(())
    }
}

fn summed(key: &[u8], value: &impl Serialize) -> Result<Summed, StoreError> {
    Summed::new(key, value).map_err(|fault| StoreError::Engine(Box::new(fault)))
}

/// The stored generation.
pub(super) async fn generation(client: &impl GenericClient) -> Result<u64, Fault> {
    let row = client.query_opt("select generation from catalog", &[]).await?;
    let row = row.ok_or_else(|| damaged("its generation"))?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// Everything that is configured, as of one moment.
pub(super) async fn load(client: &mut Client) -> Result<Stored, Fault> {
    let moment = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = moment.start().await?;
    let mut stored = Stored { generation: generation(&transaction).await?, ..Stored::default() };
    stored.organizations = organizations(&transaction).await?;
    stored.api_keys = api_keys(&transaction).await?;
    Ok(stored)
}

async fn organizations(of: &Transaction<'_>) -> Result<BTreeMap<OrganizationId, Arc<Document>>, Fault> {
    let rows = of.query("select organization_id, document, crc from catalog_organizations", &[]).await?;
    let organization = |row: Row| {
        let key: PgGuid = row.try_get(0)?;
        let id = OrganizationId::from(Guid::from_bytes(key.0));
        let document = verified(&key.0, row.try_get(1)?, row.try_get(2)?);
        Ok((id, Arc::new(document.ok_or_else(|| damaged(format!("organization {id}")))?)))
    };
    rows.into_iter().map(organization).collect()
}

async fn api_keys(of: &Transaction<'_>) -> Result<BTreeMap<Arc<str>, StoredApiKey>, Fault> {
    let rows = of.query("select name, document, crc from catalog_api_keys", &[]).await?;
    let api_key = |row: Row| {
        let name: &str = row.try_get(0)?;
        let kept = verified::<Value>(name.as_bytes(), row.try_get(1)?, row.try_get(2)?);
        let key = kept.and_then(|value| StoredApiKey::from_json(name, &value));
        Ok((name.into(), key.ok_or_else(|| damaged(format!("API key `{name}`")))?))
    };
    rows.into_iter().map(api_key).collect()
}

/// What is not as it was written.
pub(super) async fn verify(of: &Transaction<'_>) -> Result<Vec<String>, Fault> {
    let mut wrong = Vec::new();
    let mut note = |read: Result<(), Fault>| match read {
        Err(Fault::Inconsistent(what)) => {
            wrong.push(what);
            Ok(())
        }
        read => read,
    };
    note(generation(of).await.map(drop))?;
    note(organizations(of).await.map(drop))?;
    note(api_keys(of).await.map(drop))?;
    let select = of
        .prepare(
            "select seq, at, organization_id, resource, entry, crc from audit where seq > $1 order by seq limit 1000",
        )
        .await?;
    let mut last = i64::MIN;
    loop {
        let rows = of.query(&select, &[&last]).await?;
        let Some(newest) = rows.last() else { return Ok(wrong) };
        last = newest.try_get(0)?;
        for row in &rows {
            note(entry(row, row.try_get(0)?).map(drop))?;
        }
    }
}

/// A page of the trail, newest first.
pub(super) async fn audit(client: &impl GenericClient, query: &AuditQuery) -> Result<AuditPage, Fault> {
    let limit = query.limit.min(MAX_PAGE);
    let mut page = AuditPage::default();
    // What PostgreSQL cannot hold in a text is in no resource.
    let part = query.resource.as_deref().unwrap_or_default();
    if limit == 0 || part.contains('\0') {
        return Ok(page);
    }
    let ids: Option<Vec<PgGuid>> =
        query.organizations.as_ref().map(|ids| ids.iter().map(|id| PgGuid::from(id.guid())).collect());
    let select = "select seq, at, organization_id, resource, entry, crc from audit \
         where seq < $1 and ($2::uuid[] is null or organization_id = any($2)) and position($3 in resource) > 0 \
         order by seq desc limit $4";
    let before = query.before.unwrap_or(i64::MAX);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(select, &[&before, &ids, &part, &most]).await?;
    let mut bytes = 0;
    for row in rows {
        let seq: i64 = row.try_get(0)?;
        bytes += row.try_get::<_, &str>(4)?.len();
        page.entries.push((seq, entry(&row, seq)?));
        if page.entries.len() == limit || bytes > MAX_PAGE_BYTES {
            page.next = Some(seq);
            break;
        }
    }
    Ok(page)
}

fn entry(row: &Row, seq: i64) -> Result<crate::store::catalog::AuditEntry, Fault> {
    let (at, organization): (i64, Option<PgGuid>) = (row.try_get(1)?, row.try_get(2)?);
    let resource: String = row.try_get(3)?;
    let key = kept_audit::key(at, organization.as_ref().map(|guid| guid.0.as_slice()), &resource);
    let kept: Option<KeptEntry> = verified(&key, row.try_get(4)?, row.try_get(5)?);
    let kept = kept.ok_or_else(|| damaged(format!("entry {seq} of the audit trail")))?;
    let organization = organization.map(|guid| Guid::from_bytes(guid.0).into());
    Ok(kept.into_entry(Timestamp::from_millis(at), organization, resource))
}
