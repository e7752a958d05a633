//! What a database says of itself, for whoever asks before a gateway relies on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Fault;
use super::open::{self, MIGRATIONS};
use super::{Database, OpenError};
use crate::config::settings::DatabaseSettings;
use crate::domain::time::Timestamp;

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `server_version`.
    pub version: String,
    /// `server_version_num`.
    pub version_number: i32,
    /// How long a connection and the first answer took.
    pub took: Duration,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Whether the role may do everything.
    pub is_superuser: bool,
    /// `server_encoding`.
    pub encoding: String,
    /// `fsync`.
    pub fsync: String,
    /// `full_page_writes`.
    pub full_page_writes: String,
    /// `synchronous_commit`, for this role and database.
    pub synchronous_commit: String,
    /// `synchronous_standby_names`.
    pub synchronous_standby_names: String,
    /// How many connections the server has room for, without those that it keeps for superusers; or this role or database,
    /// where that is fewer.
    pub max_connections: i64,
    /// How many there are.
    pub connections: i64,
    /// Gateways that have been heard of in the last seconds.
    pub gateways: i64,
    /// The format of the tables; 0 where there are none.
    pub format: i32,
    /// Whether the role may read and write them.
    pub may_write: bool,
    /// The format that this version knows.
    pub known_format: usize,
    /// What a start says of half a copy of another store, where there is one.
    pub half_copied: Option<String>,
    /// By how many milliseconds the server's clock is ahead of this machine's.
    pub clock_ahead_millis: i64,
}

/// Asks, and changes nothing. Blocks while it does.
///
/// # Errors
/// [`OpenError`]: the database cannot be reached.
pub fn look_at(settings: &DatabaseSettings) -> Result<Facts, OpenError> {
    let database = Arc::new(Database::reach(settings)?);
    let of_work = Arc::clone(&database);
    database.opening(move |_| async move {
        let began = Instant::now();
        let client = of_work.pool().get().await.map_err(Fault::from)?;
        let row = client.query_one(ABOUT_ITSELF, &[]).await?;
        let took = began.elapsed();
        let server_clock: i64 = row.try_get(10)?;
        let format = open::format(&client).await?;
        let may_write = format == 0 || client.query_one(MAY_WRITE, &[]).await?.try_get(0)?;
        let gateways = match format {
            0 => 0,
            _ if !may_write => 0,
            _ => client.query_one(GATEWAYS, &[]).await?.try_get(0)?,
        };
        let half_copied = match open::check_format(&client).await {
            _ if !may_write => None,
            Err(half @ OpenError::HalfCopied { .. }) => Some(half.to_string()),
            Err(OpenError::UnknownFormat { .. } | OpenError::OlderFormat { .. }) | Ok(()) => None,
            Err(fault) => return Err(fault),
        };
        Ok(Facts {
            version: row.try_get(0)?,
            version_number: row.try_get(1)?,
            took,
            is_encrypted: row.try_get(2)?,
            is_superuser: row.try_get(3)?,
            encoding: row.try_get(11)?,
            fsync: row.try_get(4)?,
            full_page_writes: row.try_get(5)?,
            synchronous_commit: row.try_get(6)?,
            synchronous_standby_names: row.try_get(7)?,
            max_connections: row.try_get(8)?,
            connections: row.try_get(9)?,
            gateways,
            format,
            may_write,
            known_format: MIGRATIONS.len(),
            half_copied,
            clock_ahead_millis: server_clock - Timestamp::now().millis(),
        })
    })
}

const ABOUT_ITSELF: &str = "select current_setting('server_version'), current_setting('server_version_num')::integer, \
     coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false), \
     current_setting('is_superuser') = 'on', current_setting('fsync'), current_setting('full_page_writes'), \
     current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), \
     least(current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint, \
     (select rolconnlimit from pg_roles where rolname = current_user and rolconnlimit >= 0), \
     (select datconnlimit from pg_database where datname = current_database() and datconnlimit >= 0)), \
     (select coalesce(sum(numbackends), 0)::bigint from pg_stat_database), \
     (extract(epoch from clock_timestamp()) * 1000)::bigint, current_setting('server_encoding')";
const MAY_WRITE: &str = "select coalesce(bool_and(has_table_privilege(t.oid, p)), false) from pg_class t \
     cross join unnest(array['select', 'insert', 'update', 'delete']) as p \
     where t.relkind in ('r', 'p') and t.relnamespace = (select relnamespace from pg_class where oid = to_regclass('format'))";
const GATEWAYS: &str = "select count(*) from gateways where heard_at > clock_timestamp() - interval '5 seconds'";
