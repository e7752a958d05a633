//! The gateways that are there: a row each, kept warm by a heartbeat, judged by the database's clock.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;

use super::{CHANNEL, Fault, PgGuid, PostgresCatalog};
use crate::store::StoreError;
use crate::store::gateways::{GONE_AFTER, GatewayId, Gateways, LiveGateway, Presence};

/// Rows of gateways that crashed are swept out when they have said nothing for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

const BEAT: &str = "insert into gateways (id, name, version, generation, files, behind) values ($1, $2, $3, $4, $5, $6) \
     on conflict (id) do update set heard_at = clock_timestamp(), generation = excluded.generation, \
     files = excluded.files, behind = excluded.behind";
const SWEEP: &str = "delete from gateways where heard_at < clock_timestamp() - make_interval(secs => $1)";
const LIVE: &str = "select id, name, version, generation, files, behind, \
     extract(epoch from clock_timestamp() - heard_at)::double precision, \
     extract(epoch from clock_timestamp() - started_at)::double precision from gateways \
     where heard_at > clock_timestamp() - make_interval(secs => $1) order by name, id";

impl Gateways for PostgresCatalog {
    fn beat(&self, own: &Presence) -> Result<u64, StoreError> {
        let (database, own) = (Arc::clone(&self.database), own.clone());
        self.database.run(async move {
            let client = database.pool().get().await?;
            let Presence { id, name, version, generation, files, behind } = own;
            let (id, generation) = (PgGuid::from(id), generation.cast_signed());
            client.execute(BEAT, &[&id, &name, &version, &generation, &files, &behind]).await?;
            client.execute(SWEEP, &[&FORGOTTEN_AFTER.as_secs_f64()]).await?;
            super::rows::generation(&**client).await
        })
    }

    fn live(&self) -> Result<Vec<LiveGateway>, StoreError> {
        let database = Arc::clone(&self.database);
        self.database.run(async move {
            let client = database.pool().get().await?;
            let rows = client.query(LIVE, &[&GONE_AFTER.as_secs_f64()]).await?;
            rows.iter().map(gateway).collect()
        })
    }

    fn leave(&self, id: GatewayId) -> Result<(), StoreError> {
        let database = Arc::clone(&self.database);
        self.database.run(async move {
            let client = database.pool().get().await?;
            client.execute("delete from gateways where id = $1", &[&PgGuid::from(id)]).await?;
            Ok(())
        })
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.database.listen(CHANNEL, wake);
    }
}

fn gateway(row: &Row) -> Result<LiveGateway, Fault> {
    let (id, generation): (PgGuid, i64) = (row.try_get(0)?, row.try_get(3)?);
    // A moment that is not finite, or lies ahead of the clock that it came from, is now.
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Ok(LiveGateway {
        presence: Presence {
            id: GatewayId(id.0),
            name: row.try_get(1)?,
            version: row.try_get(2)?,
            generation: generation.cast_unsigned(),
            files: row.try_get(4)?,
            behind: row.try_get(5)?,
        },
        heard: seconds(row.try_get(6)?),
        up: seconds(row.try_get(7)?),
    })
}
