//! Whether the database can be reached, and keeps what it commits: asked every second, so that nobody waits for an answer
//! that will not come, and that a gateway takes records again as soon as it can, without a restart.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Client;
use tokio::sync::watch;

use super::Shared;
use super::error::Fault;
use super::guid::PgGuid;
use crate::domain::time::Timestamp;
use crate::store::Refusing;

/// Clocks that are further apart than this are wrong: leases, retention and the age at which a delivery is given up go by the
/// gateways' own, and one of them acts on the records of all.
pub(super) const CLOCKS_APART: Duration = Duration::from_secs(60);
/// From here on it is said in the log: leases are handed out again so much too early, or too late.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);
/// What is tried with after the disk was full: more than is free in the table's last page.
const PROBE_BYTES: usize = 256 << 10;
/// How often it is asked.
const TICK: Duration = Duration::from_secs(1);
/// The longest that an answer may take: other gateways' load balancers have noticed by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks until the store closes.
pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let mut did_differ = false;
    loop {
        let (refusing, why) = match tokio::time::timeout(PATIENCE, ask(&shared)).await {
            Ok(Ok(Asked { refusing, apart })) => {
                shared.board.set_clock_apart(apart > CLOCKS_APART);
                let differ = apart > CLOCKS_DIFFER;
                if differ && !did_differ {
                    let seconds = apart.as_secs();
                    tracing::warn!(
                        seconds,
                        "this machine's clock and the database's differ; set both by a time server"
                    );
                }
                did_differ = differ;
                refusing.map_or((None, String::new()), |(refusing, why)| (Some(refusing), why))
            }
            // Others have every connection, and get answers on them or give up: nothing is known that was not before.
            Ok(Err(_)) | Err(_) if is_busy(&shared) => (shared.board.refusing(), String::new()),
            Ok(Err(fault)) => (Some(Refusing::Unreachable), fault.to_string()),
            Err(_) => (Some(Refusing::Unreachable), format!("it did not answer within {PATIENCE:?}")),
        };
        shared.board.set_refusing(refusing, &why);
        tokio::select! {
            _closed = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Whether there is no connection to ask over because others have them all.
fn is_busy(shared: &Shared) -> bool {
    let status = shared.database.pool().status();
    status.available == 0 && status.size >= status.max_size
}

/// Which setting of a connection breaks the promise; null where none does.
pub(super) const NOT_KEPT: &str = "case 'off' when current_setting('fsync') then 'fsync' \
     when current_setting('synchronous_commit') then 'synchronous_commit' end";

/// The setting that the database named.
pub(super) fn not_kept(named: Option<&str>) -> Option<&'static str> {
    ["fsync", "synchronous_commit"].into_iter().find(|setting| Some(*setting) == named)
}

/// How far this machine's clock and the database's are apart, at least.
pub(super) async fn clocks_apart(client: &tokio_postgres::Client) -> Result<Duration, tokio_postgres::Error> {
    let before = Timestamp::now().millis();
    let ask = "select (extract(epoch from clock_timestamp()) * 1000)::bigint";
    let there: i64 = client.query_one(ask, &[]).await?.try_get(0)?;
    let after = Timestamp::now().millis();
    let millis = before.saturating_sub(there).max(there.saturating_sub(after)).max(0);
    Ok(Duration::from_millis(millis.cast_unsigned()))
}

/// What the database says of itself.
struct Asked {
    /// Why it takes nothing.
    refusing: Option<(Refusing, String)>,
    /// How far the clocks are apart.
    apart: Duration,
}

async fn ask(shared: &Shared) -> Result<Asked, Fault> {
    let before = shared.board.refusing();
    if before == Some(Refusing::NotDurable) {
        // Neither a good one nor a bad one says anything of the others.
        shared.database.renew_connections();
    }
    let mut client = shared.database.pool().get().await?;
    let apart = clocks_apart(&client).await?;
    let row = client.query_one(&format!("select {NOT_KEPT}, (select receipt_secret_crc from meta)"), &[]).await?;
    if shared.is_distributed {
        // It stands on every worker: no record is taken while one is away.
        client.query_one("select count(*) from lanes", &[]).await?;
    }
    let fault = if let Some(setting) = not_kept(row.try_get(0)?) {
        Some((Refusing::NotDurable, Fault::NotKept(setting)))
    } else if row.try_get::<_, Option<i64>>(1)? != Some(shared.secret_crc) {
        Some((Refusing::Broken, Fault::AnotherStore))
    } else if apart > CLOCKS_APART {
        Some((Refusing::ClockApart, Fault::ClockApart))
    } else if matches!(before, Some(Refusing::Full | Refusing::Failing)) {
        try_to_write(&mut client).await.err().map(|fault| {
            let refusing = if fault.is_of_no_room() { Refusing::Full } else { Refusing::Failing };
            (refusing, fault)
        })
    } else {
        None
    };
    Ok(Asked { refusing: fault.map(|(refusing, fault)| (refusing, fault.to_string())), apart })
}

/// Writes what a record needs, and so much that there has to be room that is not in the tables yet, and takes it back.
async fn try_to_write(client: &mut Client) -> Result<(), Fault> {
    let mut body = vec![0; PROBE_BYTES];
    // What compresses needs no room.
    getrandom::fill(&mut body).map_err(Fault::Random)?;
    let transaction = client.transaction().await?;
    let nobody = PgGuid([0; 16]);
    let record = "insert into records (organization_id, seq, lane, accepted_at, random, key, crc, body) \
         values ($1, -1, 0, 0, '', '', 0, $2)";
    transaction.execute(record, &[&nobody, &body]).await?;
    let pending = "insert into pending (organization_id, lane, seq, due_at, attempts) values ($1, 0, -1, 0, 0)";
    transaction.execute(pending, &[&nobody]).await?;
    let key = "insert into keys (organization_id, key, seq, accepted_at) values ($1, '', -1, 0)";
    transaction.execute(key, &[&nobody]).await?;
    transaction.execute("update counter set high_water = high_water", &[]).await?;
    Ok(transaction.rollback().await?)
}
