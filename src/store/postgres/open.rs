//! Opening: connections, the schema, and what this gateway has to know.
//!
//! Migrations are numbered files, applied in order under a lock of the database, so that several gateways may start at
//! once. A database that a newer gateway has brought up to date is refused with nothing changed. Settings that break the
//! promise are refused too: with `fsync = off` or `synchronous_commit = off` a commit that was acknowledged can be gone.

use std::collections::HashMap;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::{Client, GenericClient};

use super::Database;
use super::board::Figures;
use super::cluster;
use super::error::{Fault, said};
use super::guid::PgGuid;
use super::reach;
use crate::config::settings::DatabaseSettings;
use crate::store::LaneId;
use crate::store::receipt_id::{ReceiptMask, SECRET_BYTES};
use crate::store::record_format::lane_of;

/// The oldest server that is supported.
const OLDEST_SERVER: i32 = 150_000;
/// The encoding that a database must have, as `server_encoding` says it.
const UNICODE: &str = "UTF8";
/// The number of the lock that migrations are made under ("SGMIGRAT").
pub(super) const LOCK: i64 = 0x5347_4d49_4752_4154;

/// Every migration, in order.
pub(super) const MIGRATIONS: [&str; 1] = [concat!(
    include_str!("schema_1.sql"),
    include_str!("schema_catalog_1.sql"),
    include_str!("schema_subscriptions_1.sql"),
    include_str!("schema_copying_1.sql")
)];

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be reached, or said no.
    #[error("the database cannot be used: {0}")]
    Database(String),
    /// It is too old.
    #[error("the database server has version {found}, and 15 is the oldest that is supported")]
    ServerTooOld {
        /// What `server_version` says.
        found: String,
    },
    /// Texts in other scripts than its own cannot be stored in it.
    #[error(
        "the database has the encoding {found}, in which not every text can be stored: take one that was made with \
         `create database … encoding 'UTF8' template template0`"
    )]
    NotUnicode {
        /// What `server_encoding` says.
        found: String,
    },
    /// It does not keep what it acknowledges.
    #[error(
        "the database server has `{setting} = {value}`: a record that was answered with 202 could be lost; set it to `{wanted}`"
    )]
    NotDurable {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// A newer gateway was here.
    #[error("the database has the store's format {found}, and this gateway knows {known}: use a newer gateway")]
    UnknownFormat {
        /// What the database says.
        found: i32,
        /// What is known.
        known: usize,
    },
    /// A store is being copied to it, or was and not to its end.
    #[error(
        "the database holds a copy of the store in {from} that is not finished: finish it with `streamgate migrate-store \
         --from sqlite:{from} --to postgres`, or take an empty database"
    )]
    HalfCopied {
        /// The data directory of that store, where it was copied.
        from: String,
    },
    /// Its tables are not up to date, and this is not the time to change that.
    #[error(
        "the database has the store's format {found}, and this version knows {known}: run `streamgate migrate` first"
    )]
    OlderFormat {
        /// What the database says; 0 where no gateway was ever there.
        found: i32,
        /// What is known.
        known: usize,
    },
    /// What is in it does not fit together.
    #[error("the store in the database is not complete: {0}")]
    Inconsistent(String),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Database(fault.to_string())
    }
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(said(&error))
    }
}

/// What a gateway has to know.
pub(super) struct Opened {
    pub(super) mask: ReceiptMask,
    pub(super) secret_crc: i64,
    /// Whether this machine's clock and the database's are too far apart.
    pub(super) clock_apart: bool,
    pub(super) figures: Figures,
    pub(super) is_distributed: bool,
}

/// Reads what the gateway has to know.
pub(super) async fn open(pool: Pool) -> Result<Opened, OpenError> {
    // A connection that nobody else gets: a large backlog takes its time to be counted.
    let client = Object::take(pool.get().await.map_err(Fault::from)?);
    client.batch_execute("set statement_timeout = 0").await?;
    let is_distributed = cluster::is_distributed(&client).await?;
    let mask = mask(&*client).await?;
    let secret_crc = client.query_one("select receipt_secret_crc from meta", &[]).await?.try_get(0)?;
    let clock_apart = reach::clocks_apart(&client).await? > reach::CLOCKS_APART;
    let figures = figures(&client, is_distributed).await?;
    Ok(Opened { mask, secret_crc, clock_apart, figures, is_distributed })
}

/// Checks the server, brings the schema up to date, and refuses half a copy of another store.
pub(super) async fn prepare(pool: Pool) -> Result<(), OpenError> {
    bring_up_to_date(pool.clone()).await?;
    check_complete(&*pool.get().await.map_err(Fault::from)?).await
}

/// Refuses half a copy of another store.
async fn check_complete(client: &Client) -> Result<(), OpenError> {
    match client.query_opt("select directory from copying", &[]).await? {
        Some(row) => Err(OpenError::HalfCopied { from: row.try_get(0)? }),
        None => Ok(()),
    }
}

/// Checks the server, and brings the schema up to date.
pub(super) async fn bring_up_to_date(pool: Pool) -> Result<(), OpenError> {
    let mut client = pool.get().await.map_err(Fault::from)?;
    check_server(&client).await?;
    if usize::try_from(format(&client).await?) == Ok(MIGRATIONS.len()) {
        // A role that may make no tables is enough then.
        return Ok(());
    }
    let transaction = client.transaction().await?;
    // Whoever else is at it may take long, and so may this.
    transaction.batch_execute("set local statement_timeout = 0").await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction.batch_execute("create table if not exists format (version integer not null)").await?;
    let found: Option<i32> = transaction.query_one("select max(version) from format", &[]).await?.try_get(0)?;
    let found = found.unwrap_or(0);
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    let to_do = MIGRATIONS.get(done..).ok_or(OpenError::UnknownFormat { found, known: MIGRATIONS.len() })?;
    for (at, migration) in to_do.iter().enumerate() {
        transaction.batch_execute(migration).await?;
        let version = i32::try_from(done + at + 1).unwrap_or(i32::MAX);
        transaction.execute("insert into format values ($1)", &[&version]).await?;
    }
    if found == 0 {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(Fault::Random)?;
        let crc = i64::from(crc32fast::hash(&secret));
        let insert = "insert into meta (receipt_secret, receipt_secret_crc) values ($1, $2)";
        transaction.execute(insert, &[&secret.as_slice(), &crc]).await?;
        transaction.execute("insert into counter (high_water) values (0)", &[]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Brings the tables of a database up to date. Answers from which format to which. Blocks while it does.
///
/// # Errors
/// [`OpenError`].
pub fn migrate(settings: &DatabaseSettings) -> Result<(i32, i32), OpenError> {
    let database = Database::reach(settings)?;
    let format_now = |pool: Pool| async move { format(&*pool.get().await.map_err(Fault::from)?).await };
    let from = database.opening(format_now)?;
    database.opening(prepare)?;
    Ok((from, database.opening(format_now)?))
}

/// What is counted, over all gateways.
pub(super) async fn figures(client: &Client, is_distributed: bool) -> Result<Figures, OpenError> {
    let mut figures = Figures::default();
    let pending: HashMap<i64, i64> = client
        .query("select lane, count(*) from pending group by lane", &[])
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, tokio_postgres::Error>>()?;
    for row in client.query("select id, organization_id, work_stream_id, queue from lanes", &[]).await? {
        let id: i64 = row.try_get(0)?;
        let (organization, work_stream): (PgGuid, PgGuid) = (row.try_get(1)?, row.try_get(2)?);
        let lane = lane_of(&organization.0, &work_stream.0, row.try_get(3)?)
            .ok_or_else(|| OpenError::Inconsistent(format!("the lane {id} has no meaning")))?;
        figures.ids.insert(lane.clone(), LaneId(id));
        figures.lanes.insert(LaneId(id), (lane, pending.get(&id).copied().unwrap_or(0)));
    }
    let counts = "select (select high_water from counter), (select count(*) from waiting), \
         (select count(*) from dead_letters), \
         (select greatest((select max(seq) from records), (select max(last) from lost), 0))";
    let row = client.query_one(counts, &[]).await?;
    figures.high_water = row.try_get(0)?;
    figures.waiting = row.try_get(1)?;
    figures.dead_lettered = row.try_get(2)?;
    let newest: i64 = row.try_get(3)?;
    // Where several servers answer, they do not so as of one moment.
    if newest != figures.high_water && !is_distributed {
        let detail =
            format!("the newest record is {newest}, and {} was the last that was given out", figures.high_water);
        return Err(OpenError::Inconsistent(detail));
    }
    Ok(figures)
}

async fn check_server(client: &Client) -> Result<(), OpenError> {
    let row = client
        .query_one(
            "select current_setting('server_version_num')::integer, current_setting('server_version'), \
             current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'), \
             current_setting('server_encoding')",
            &[],
        )
        .await?;
    if row.try_get::<_, i32>(0)? < OLDEST_SERVER {
        return Err(OpenError::ServerTooOld { found: row.try_get(1)? });
    }
    let encoding: String = row.try_get(5)?;
    if encoding != UNICODE {
        return Err(OpenError::NotUnicode { found: encoding });
    }
    for (setting, at) in [("fsync", 2), ("synchronous_commit", 3), ("full_page_writes", 4)] {
        let value: String = row.try_get(at)?;
        if value == "off" {
            return Err(OpenError::NotDurable { setting, value, wanted: "on" });
        }
    }
    cluster::check_workers(client).await
}

/// Whether a gateway of this version was there, and no copy is half done. Changes nothing.
pub(super) async fn check_format(client: &Client) -> Result<(), OpenError> {
    let found = format(client).await?;
    let known = MIGRATIONS.len();
    match usize::try_from(found) {
        Ok(found) if found == known => check_complete(client).await,
        Ok(found_format) if found_format > known => Err(OpenError::UnknownFormat { found, known }),
        Ok(_) | Err(_) => Err(OpenError::OlderFormat { found, known }),
    }
}

/// The format of the tables; 0 where there are none.
pub(super) async fn format(client: &Client) -> Result<i32, OpenError> {
    let is_there = client.query_one("select to_regclass('format') is not null", &[]).await?;
    if !is_there.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let found: Option<i32> = client.query_one("select max(version) from format", &[]).await?.try_get(0)?;
    Ok(found.unwrap_or(0))
}

pub(super) async fn mask(client: &impl GenericClient) -> Result<ReceiptMask, OpenError> {
    let row = client.query_one("select receipt_secret, receipt_secret_crc from meta", &[]).await?;
    let wrong =
        || OpenError::Inconsistent("the secret that makes receipt IDs is not the one that was written".to_owned());
    let secret: [u8; SECRET_BYTES] = row.try_get::<_, &[u8]>(0)?.try_into().map_err(|_| wrong())?;
    if i64::from(crc32fast::hash(&secret)) != row.try_get::<_, i64>(1)? {
        return Err(wrong());
    }
    Ok(ReceiptMask::new(&secret))
}
