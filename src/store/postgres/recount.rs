//! Counting again: what the other gateways did is learnt from the tables, every few seconds.
//!
//! A count takes a pass over the pending rows, so a large backlog is counted less often. What this gateway commits while
//! it counts may be missed or counted twice until the next time; nothing depends on the figures but what is shown, and
//! where to look next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Shared;
use super::error::Fault;
use super::open;

/// The shortest time between two counts.
const SHORTEST: Duration = Duration::from_secs(2);
/// The part of the time that is spent counting, at most one in so many.
const SHARE: u32 = 20;

/// Counts by the clock until the store closes.
pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let mut pause = SHORTEST;
    loop {
        tokio::select! {
            _closed = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let began = Instant::now();
        if let Err(fault) = recount(&shared).await {
            tracing::warn!(error = %fault, "the database could not be asked what the other gateways did");
        }
        pause = SHORTEST.max(began.elapsed() * SHARE);
    }
}

/// Counts once.
pub(super) async fn recount(shared: &Shared) -> Result<(), Fault> {
    let client = shared.database.pool().get().await?;
    let counted =
        open::figures(&client, shared.is_distributed).await.map_err(|error| Fault::Inconsistent(error.to_string()))?;
    *shared.board.figures() = counted;
    Ok(())
}
