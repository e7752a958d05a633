//! A store that lies, to prove that the tests would notice.
//!
//! A test that kills the gateway and finds every acknowledged record has shown something only if it also fails for a
//! gateway that acknowledges too early. This module is that gateway's store. It exists in debug builds only (the
//! module is compiled with `debug_assertions`; a release build has neither the code nor the name of the variable), and
//! does something only if `STREAMGATE_FAULT` named one of these when the store was opened:
//!
//! | name | what it does | what must notice |
//! |---|---|---|
//! | `acknowledge-before-commit` | answers appends 300 ms before they are committed | kill -9, the order of system calls |
//! | `never-sync` | commits without asking the disk to sync | a power cut; kill -9 alone must not |
//! | `panic-in-writer` | the thread that writes panics at its fiftieth batch | whoever waits for a 500 or for ever |

use std::time::Duration;

use rusqlite::Connection;

use super::command::Command;
use super::writer;

/// How long what was acknowledged stays uncommitted.
const EXPOSED: Duration = Duration::from_millis(300);
/// The batch that is too much.
const PANIC_AT_BATCH: u32 = 50;

/// What is wrong with this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultPoint {
    /// Appends are answered before they are committed.
    AcknowledgeBeforeCommit,
    /// Nothing is synced.
    NeverSync,
    /// The writer panics after so many batches.
    PanicInWriter {
        /// Batches until then.
        left: u32,
    },
}

impl FaultPoint {
    /// What the environment asks for.
    pub(super) fn wanted() -> Option<Self> {
        let named = std::env::var("STREAMGATE_FAULT").ok()?;
        let fault = match named.as_str() {
            "acknowledge-before-commit" => Self::AcknowledgeBeforeCommit,
            "never-sync" => Self::NeverSync,
            "panic-in-writer" => Self::PanicInWriter { left: PANIC_AT_BATCH },
            _ => {
                tracing::error!(
                    fault = named,
                    "STREAMGATE_FAULT names no fault point; nothing is wrong with this store"
                );
                return None;
            }
        };
        tracing::error!(fault = named, "STREAMGATE_FAULT is set: this store is not to be trusted");
        Some(fault)
    }

    /// The moment before a commit.
    #[expect(clippy::panic, reason = "this is the panic that the rest of the store has to live with")]
    pub(super) fn before_commit(fault: Option<Self>, commands: &mut Vec<Command>) {
        match fault {
            Some(Self::AcknowledgeBeforeCommit) => acknowledge(commands),
            Some(Self::PanicInWriter { left: 0 }) => panic!("STREAMGATE_FAULT asked for this"),
            Some(Self::PanicInWriter { .. } | Self::NeverSync) | None => {}
        }
    }

    /// A batch is through.
    pub(super) const fn count_batch(&mut self) {
        if let Self::PanicInWriter { left } = self {
            *left = left.saturating_sub(1);
        }
    }
}

/// Takes the syncs away from a connection, if that is what the environment asks for.
pub(super) fn weaken(conn: &Connection) -> rusqlite::Result<()> {
    let never_sync = FaultPoint::wanted() == Some(FaultPoint::NeverSync);
    if never_sync { conn.pragma_update(None, "synchronous", "off") } else { Ok(()) }
}

/// Answers the appends, and leaves them uncommitted for a while.
fn acknowledge(commands: &mut Vec<Command>) {
    let (appends, others): (Vec<_>, Vec<_>) = commands.drain(..).partition(Command::is_append);
    commands.extend(others);
    if !appends.is_empty() {
        writer::answer(appends, None);
        std::thread::sleep(EXPOSED);
    }
}
