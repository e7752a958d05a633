//! Whether the database can be reached, and keeps what it commits: asked every second, so that nobody waits for an answer
//! that will not come, and that a gateway takes records again as soon as it can, without a restart.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Client;
use tokio::sync::watch;

use super::Shared;
use super::error::Fault;
use super::guid::PgGuid;
use crate::store::Refusing;

/// What is tried with after the disk was full: more than is free in the table's last page.
const PROBE_BYTES: usize = 256 << 10;
/// How often it is asked.
const TICK: Duration = Duration::from_secs(1);
/// The longest that an answer may take: other gateways' load balancers have noticed by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks until the store closes.
pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _closed = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let (refusing, why) = match tokio::time::timeout(PATIENCE, ask(&shared)).await {
            Ok(Ok(Asked::Keeps)) => (None, String::new()),
            Ok(Ok(Asked::Loses(setting))) => {
                (Some(Refusing::NotDurable), format!("the server has {setting} = off now"))
            }
            Ok(Ok(Asked::NoRoom(fault))) => (Some(Refusing::Full), fault.to_string()),
            // Others have every connection, and get answers on them or give up: nothing is known that was not before.
            Ok(Err(_)) | Err(_) if is_busy(&shared) => continue,
            Ok(Err(fault)) => (Some(Refusing::Unreachable), fault.to_string()),
            Err(_) => (Some(Refusing::Unreachable), format!("it did not answer within {PATIENCE:?}")),
        };
        if shared.board.set_refusing(refusing) == refusing {
            continue;
        }
        match refusing {
            Some(_) => tracing::error!(why, "the database takes no records; callers get 503 until it does"),
            None => tracing::info!("the database takes records again"),
        }
    }
}

/// Whether there is no connection to ask over because others have them all.
fn is_busy(shared: &Shared) -> bool {
    let status = shared.database.pool().status();
    status.available == 0 && status.size >= status.max_size
}

/// What the database says of itself.
enum Asked {
    /// It keeps what it commits.
    Keeps,
    /// A setting breaks the promise: it may have been changed since the start.
    Loses(&'static str),
    /// Its disk is still full.
    NoRoom(Fault),
}

async fn ask(shared: &Shared) -> Result<Asked, Fault> {
    let mut client = shared.database.pool().get().await?;
    let settings = "select current_setting('fsync') = 'off', current_setting('synchronous_commit') = 'off'";
    let row = client.query_one(settings, &[]).await?;
    let off = [("fsync", 0), ("synchronous_commit", 1)].into_iter().find(|(_, at)| {
        // What cannot be read was not asked for.
        row.try_get::<_, bool>(*at).unwrap_or(false)
    });
    if let Some((setting, _)) = off {
        return Ok(Asked::Loses(setting));
    }
    if shared.is_distributed {
        // It stands on every worker: no record is taken while one is away.
        client.query_one("select count(*) from lanes", &[]).await?;
    }
    if shared.board.refusing() != Some(Refusing::Full) {
        return Ok(Asked::Keeps);
    }
    match try_for_room(&mut client).await {
        Err(fault) if fault.is_of_no_room() => Ok(Asked::NoRoom(fault)),
        tried => tried.map(|()| Asked::Keeps),
    }
}

/// Writes as much as needs room that is not in the table yet, and takes it back.
async fn try_for_room(client: &mut Client) -> Result<(), Fault> {
    let mut body = vec![0; PROBE_BYTES];
    // What compresses needs no room.
    getrandom::fill(&mut body).map_err(Fault::Random)?;
    let transaction = client.transaction().await?;
    let insert = "insert into records (organization_id, seq, lane, accepted_at, random, key, crc, body) \
         values ($1, -1, 0, 0, '', '', 0, $2)";
    transaction.execute(insert, &[&PgGuid([0; 16]), &body]).await?;
    Ok(transaction.rollback().await?)
}
