//! Whether the database can be reached, and keeps what it commits: asked every second, so that nobody waits for an answer
//! that will not come, and that a gateway takes records again as soon as it can, without a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Shared;
use super::error::Fault;
use crate::store::Refusing;

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
            Ok(Ok(None)) => (None, String::new()),
            Ok(Ok(Some(setting))) => (Some(Refusing::NotDurable), format!("the server has {setting} = off now")),
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

/// A setting that breaks the promise, if there is one: it may have been changed since the start.
async fn ask(shared: &Shared) -> Result<Option<&'static str>, Fault> {
    let client = shared.database.pool().get().await?;
    let settings = "select current_setting('fsync') = 'off', current_setting('synchronous_commit') = 'off'";
    let row = client.query_one(settings, &[]).await?;
    Ok([("fsync", 0), ("synchronous_commit", 1)].into_iter().find_map(|(setting, at)| {
        // What cannot be read was not asked for.
        row.try_get::<_, bool>(at).unwrap_or(false).then_some(setting)
    }))
}
