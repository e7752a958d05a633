//! A store that lies, to prove that the tests would notice.
//!
//! A test that kills the gateway and finds every acknowledged record has shown something only if it also fails for a
//! gateway that acknowledges too early. This module is that gateway's store. It exists in debug builds only (the
//! module is compiled with `debug_assertions`; a release build has neither the code nor the name of the variable), and
//! does something only if `STREAMGATE_FAULT=acknowledge-before-commit` was set when the store was opened.

use std::time::Duration;

use super::command::Command;
use super::writer;

/// How long what was acknowledged stays uncommitted.
const EXPOSED: Duration = Duration::from_millis(300);

/// Whether the environment asks for it.
pub(super) fn wanted() -> bool {
    let wanted = std::env::var_os("STREAMGATE_FAULT").is_some_and(|fault| fault == "acknowledge-before-commit");
    if wanted {
        tracing::error!("STREAMGATE_FAULT is set: records are acknowledged before they are on disk");
    }
    wanted
}

/// Answers the appends, and leaves them uncommitted for a while.
pub(super) fn acknowledge(commands: &mut Vec<Command>) {
    let (appends, others): (Vec<_>, Vec<_>) = commands.drain(..).partition(Command::is_append);
    commands.extend(others);
    if !appends.is_empty() {
        writer::answer(appends, None);
        std::thread::sleep(EXPOSED);
    }
}
