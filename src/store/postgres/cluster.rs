//! A database that is spread over several servers: Citus, with the tables of records distributed by organization
//! ([`distribute.sql`](../../../../deploy/citus/distribute.sql)). Statements are the same as on one server. What differs is
//! what one may conclude from them.
//!
//! A commit that spans workers is prepared on each of them, then decided by the coordinator's own commit, and then made
//! visible on one worker after the other. So a statement can see a part of a commit. And where a worker is lost in between,
//! its part stays prepared, invisible and safe, until the coordinator has told it how it was decided: within a minute of its
//! return.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::OpenError;
use super::error::Fault;
use super::guid::PgGuid;

/// A part of a commit that is invisible for so many seconds is one whose worker was lost, not one under way.
const LEFT_BEHIND_SECONDS: f64 = 30.0;

/// Numbers by the organization that they belong to, both in order: what locks several rows does so in this order.
pub(super) fn by_organization<T>(places: impl IntoIterator<Item = (PgGuid, T)>) -> BTreeMap<PgGuid, Vec<T>> {
    let mut grouped: BTreeMap<PgGuid, Vec<T>> = BTreeMap::new();
    for (organization, place) in places {
        grouped.entry(organization).or_default().push(place);
    }
    grouped
}

/// Whether records are distributed over the servers of a cluster.
pub(super) async fn is_distributed(client: &Client) -> Result<bool, tokio_postgres::Error> {
    if !is_there(client).await? {
        return Ok(false);
    }
    let look = "select exists (select 1 from pg_dist_partition where logicalrelid = to_regclass('records'))";
    client.query_one(look, &[]).await?.try_get(0)
}

/// Whether the extension is in the database.
async fn is_there(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let look = "select exists (select 1 from pg_extension where extname = 'citus')";
    client.query_one(look, &[]).await?.try_get(0)
}

/// Refuses workers that do not keep what they commit, as the server that is asked was refused before.
pub(super) async fn check_workers(client: &Client) -> Result<(), OpenError> {
    if !is_there(client).await? {
        return Ok(());
    }
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let ask = "select nodename, nodeport, success, result from run_command_on_workers($1)";
        for row in client.query(ask, &[&format!("select current_setting('{setting}')")]).await? {
            let (host, port, answered): (String, i32, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let value: String = row.try_get::<_, Option<String>>(3)?.unwrap_or_default();
            if !answered {
                return Err(OpenError::Database(format!("the worker {host}:{port} does not answer: {value}")));
            }
            if value == "off" {
                return Err(OpenError::NotDurable {
                    setting,
                    value: format!("off (worker {host}:{port})"),
                    wanted: "on",
                });
            }
        }
    }
    Ok(())
}

/// Whether a worker holds a part of a commit that it has not been told the outcome of; with `left_behind`, for longer than
/// one that is under way takes.
pub(super) async fn is_in_doubt(client: &Client, left_behind: bool) -> Result<bool, Fault> {
    let least = if left_behind { LEFT_BEHIND_SECONDS } else { 0.0 };
    let count = format!(
        "select count(*) from pg_prepared_xacts where database = current_database() \
         and extract(epoch from clock_timestamp() - prepared) >= {least}"
    );
    let ask = "select success, result from run_command_on_workers($1)";
    for row in client.query(ask, &[&count]).await? {
        let (answered, result): (bool, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        // One that does not answer may hold some.
        if !answered || result.as_deref() != Some("0") {
            return Ok(true);
        }
    }
    Ok(false)
}
